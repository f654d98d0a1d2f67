"""CIFAR-100 as its authors publish it: a train and a test batch, each image with one of 100 fine and of 20 coarse labels."""

from dataclasses import dataclass, replace
from typing import ClassVar

from conf.errors import TinyTagsError
from ingest.formats.cifar import CifarDump, is_member, labels_fit, may_be_a_pickle, open_cifar
from ingest.formats.cifar_content import Layout
from ingest.formats.format import Format, Match, Source

FINE_CLASSES = (  # noqa: SIM905 - as a list it takes a line a name
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle"
    " caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish"
    " forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle"
    " mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine"
    " possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar"
    " sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale"
    " willow_tree wolf woman worm"
).split()
COARSE_CLASSES = (  # noqa: SIM905
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture"
    " insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores"
    " medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2"
).split()
FINE = Layout(
    title="CIFAR-100",
    train=("train",),
    test=("test",),
    binary_folder="cifar-100-binary",
    python_folder="cifar-100-python",
    label_limits=(20, 100),
    label=1,
    labels_key=b"fine_labels",
    binary_meta="fine_label_names.txt",
    python_meta="meta",
    names_key=b"fine_label_names",
    classes=tuple(FINE_CLASSES),
)
COARSE = replace(
    FINE,
    label=0,
    labels_key=b"coarse_labels",
    binary_meta="coarse_label_names.txt",
    names_key=b"coarse_label_names",
    classes=tuple(COARSE_CLASSES),
)
LAYOUTS = {None: FINE, "fine": FINE, "coarse": COARSE}
# A pickle's labels and file names take less than 3 MB, and stand before or after its pixels.
_ENDS = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Cifar100(CifarDump):
    """CIFAR-100, or one of its batches; ``labels`` selects the fine or the coarse labels."""

    format: ClassVar[str] = "cifar-100"

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.labels]


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    if source.is_dir:
        binary = {f"{name}.bin" for name in FINE.batches} & source.names
        python = {*FINE.batches, FINE.python_meta} <= source.names
        return Match.CONTENT if binary or python else Match.NO
    if source.first_member is not None:
        other = is_member(source.first_member, "cifar-10-", ("data_batch", "test_batch", "batches."))
        return Match.NO if other else Match.CERTAIN
    if may_be_a_pickle(source):
        ends = source.read(0, _ENDS), source.read(max(source.size - _ENDS, 0), _ENDS)
        # As good as a header: CIFAR-10's pickles differ in nothing else.
        return Match.CERTAIN if any(FINE.labels_key in end for end in ends) else Match.NO
    if labels_fit(FINE, source):
        return Match.CONTENT
    return Match.NAME if source.name in ("train.bin", "test.bin") else Match.NO


def open_cifar_100(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Cifar100:
    """Open the folder of the two batches, one of these, or the official archive; `open_cifar` has the details and errors.

    ``labels`` is "fine" (the default, 100 classes) or "coarse" (20).
    """
    if labels not in LAYOUTS:
        raise TinyTagsError(f"--labels {labels!r}: the labels of CIFAR-100 are fine (the default) or coarse")
    return open_cifar(Cifar100, LAYOUTS[labels], path, labels, classes, webhdfs)


FORMAT = Format(
    name="cifar-100",
    example="cifar-100-binary/",
    content="binary or Python batches: a folder, one file or the .tar.gz, .tar.bz2 or .tar.xz",
    recognise=recognise,
    open=open_cifar_100,
    labels="fine (the default) or coarse",
    has_own=lambda classes, labels: classes == list(LAYOUTS[labels].classes),
    archive_folders=(FINE.binary_folder, FINE.python_folder),
)
