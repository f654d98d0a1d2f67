"""CIFAR-10 as its authors publish it: six batches of 10,000 images in 10 classes."""

from dataclasses import dataclass
from typing import ClassVar

from ingest.formats.cifar import CifarDump, is_member, labels_fit, may_be_a_pickle, open_cifar
from ingest.formats.cifar_content import Layout
from ingest.formats.format import Format, Match, Source

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LAYOUT = Layout(
    title="CIFAR-10",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    binary_folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    label_limits=(10,),
    label=0,
    labels_key=b"labels",
    binary_meta="batches.meta.txt",
    python_meta="batches.meta",
    names_key=b"label_names",
    classes=tuple(CLASSES),
)


@dataclass(frozen=True, kw_only=True)
class Cifar10(CifarDump):
    """CIFAR-10, or as many of its batches as there are."""

    format: ClassVar[str] = "cifar-10"

    @property
    def layout(self) -> Layout:
        return LAYOUT


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    if source.is_dir:
        names = {name + ending for name in LAYOUT.batches for ending in ("", ".bin")}
        return Match.CONTENT if names & source.names else Match.NO
    if source.first_member is not None:
        other = is_member(source.first_member, "cifar-100-", ("train", "test.", "fine_", "coarse_", "meta"))
        return Match.NO if other else Match.CERTAIN
    if source.name in LAYOUT.batches or labels_fit(LAYOUT, source) or may_be_a_pickle(source):
        return Match.CONTENT
    if source.size % LAYOUT.record_bytes == 0 or source.name.startswith(("data_batch", "test_batch")):
        return Match.NAME
    return Match.NO


def open_cifar_10(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Cifar10:
    """Open a folder of batches, one batch, or the official archive; `open_cifar` has the details and errors."""
    return open_cifar(Cifar10, LAYOUT, path, None, classes, webhdfs)


FORMAT = Format(
    name="cifar-10",
    example="cifar-10-batches-bin/",
    content="binary or Python batches: a folder, one file or the .tar.gz, .tar.bz2 or .tar.xz",
    recognise=recognise,
    open=open_cifar_10,
    has_own=lambda classes, labels: classes == CLASSES,
    archive_folders=(LAYOUT.binary_folder, LAYOUT.python_folder),
)
