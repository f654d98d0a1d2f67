"""What CIFAR-10 and CIFAR-100 have in common: batches in the binary or the Python form, in a folder, alone or in a tar archive.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. Pixels are R, G, B planes, row-major: the canonical layout.
"""

import functools
import io
import tarfile
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.cifar_archive import is_archive, open_archive, open_unpacked
from ingest.formats.cifar_content import (
    META_BYTES,
    Layout,
    check_first_labels,
    count_records,
    read_meta,
    read_records,
    record_blocks,
    unpickle,
)
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows, overlaps
from ingest.formats.format import Source
from ingest.image import IMAGE_BYTES

ARCHIVE_MEMBERS = 1000


@dataclass(frozen=True)
class BatchFile:
    """One batch: the file it is in, and in an archive the member and where its bytes begin in the unpacked stream."""

    path: str
    images: int
    modified: float
    member: str | None = None
    offset: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        return self.member or files.base_name(self.path)

    @property
    def where(self) -> str:
        return f"{self.path}: {self.member}" if self.member else self.path


@dataclass(frozen=True)
class Opened:
    """The batches of a dump, whether they are in the binary form, and the class names that came with them."""

    batches: list[BatchFile]
    binary: bool
    classes: list[str] | None = None

    @property
    def images(self) -> int:
        return sum(batch.images for batch in self.batches)

    def splits(self, layout: Layout) -> dict[str, tuple[int, int]]:
        tests = [name + ending for name in layout.test for ending in ("", ".bin")]
        train = sum(batch.images for batch in self.batches if files.base_name(batch.name) not in tests)
        return {"train": (0, train), "test": (train, self.images)} if 0 < train < self.images else {}


@dataclass(frozen=True, kw_only=True)
class CifarDump(FileDump):
    """The batches of a data set that are there; rows are in the batches' order, the test batch last."""

    classes: list[str]
    batches: tuple[BatchFile, ...]
    binary: bool

    @property
    @abstractmethod
    def layout(self) -> Layout: ...

    def paths(self) -> list[str]:
        return list(dict.fromkeys(batch.path for batch in self.batches))

    def read(self, start: int, stop: int) -> Batch:
        check_rows(self, start, stop)
        layout = self.layout
        images = np.empty((stop - start, IMAGE_BYTES), np.uint8)
        labels = np.empty(stop - start, np.int32)
        names: list[str] = []
        done = 0
        for batch, first, last in overlaps(self.batches, start, stop):
            part = slice(done, done + last - first)
            if self.binary and not batch.member:
                offset, length = first * layout.record_bytes, (last - first) * layout.record_bytes
                with files.open_file(batch.path, self.webhdfs, offset, length) as file:
                    read_records(layout, file, batch.path, first, images[part], labels[part])
            else:
                whole = _load_batch(layout, batch, self.binary, self.webhdfs)
                images[part], labels[part] = whole.images[first:last], whole.labels[first:last]
                names += (whole.names or [""] * len(whole.labels))[first:last]
            check_labels(labels[part], len(self.classes), batch.where, first)
            done = part.stop
        return Batch(images, labels, names if any(names) else None)


C = TypeVar("C", bound=CifarDump)


def open_cifar(
    kind: type[C],
    layout: Layout,
    path: str,
    labels: str | None,
    classes: list[str] | None,
    webhdfs: str | None,
) -> C:
    """Open a folder of batches, one batch, or the official .tar.gz (compressed or not, in either form), as a ``kind``.

    In a folder the batches that are there are taken, at least one; an archive must hold all of them. Class names are
    ``classes``, else those of the meta file, else the official ones. Raises `TinyTagsError` for anything else, and for
    pickles that hold anything but what the official ones do.
    """
    classes = check_classes(classes)
    opened = _open_batches(layout, path, webhdfs)
    return kind(
        path=path,
        images=opened.images,
        classes=classes or opened.classes or list(layout.classes),
        labels=labels,
        batches=tuple(opened.batches),
        binary=opened.binary,
        webhdfs=webhdfs,
        splits=opened.splits(layout),
    )


def _open_batches(layout: Layout, path: str, webhdfs: str | None) -> Opened:
    entry = files.status(path, webhdfs)
    if entry and entry.is_dir:
        return _open_folder(layout, path, webhdfs)
    if is_archive(path, webhdfs):
        return _open_archive(layout, path, webhdfs)
    return _open_single(layout, path, webhdfs)


def is_member(name: str | None, folder: str, files_alone: tuple[str, ...]) -> bool:
    """Return whether ``name``, of an archive's first member, begins with ``folder``, or is a file whose name begins with one alone."""
    plain = (name or "").removeprefix("./")
    return plain.startswith(folder) or ("/" not in plain and plain.startswith(files_alone))


def may_be_a_pickle(source: Source) -> bool:
    """Return whether a file begins and ends as pickles of protocols 2 to 5 do."""
    head = source.head[:2]
    return head[:1] == b"\x80" and b"\x02" <= head[1:] <= b"\x05" and source.read(source.size - 1, 1) == b"."


def labels_fit(layout: Layout, source: Source) -> bool:
    """Return whether a file is nothing but binary records, the first of which have labels that the data set has."""
    if source.size % layout.record_bytes:
        return False
    try:
        check_first_labels(layout, source.path, source.size, source.webhdfs)
    except TinyTagsError:
        return False
    return True


def _open_folder(layout: Layout, path: str, webhdfs: str | None) -> Opened:
    there = {entry.name: entry for entry in files.list_dir(path, webhdfs) if not entry.is_dir}
    for binary, ending in ((True, ".bin"), (False, "")):
        present = [there[name + ending] for name in layout.batches if name + ending in there]
        if not present:
            continue
        batches = [_open_file(layout, files.join(path, entry.name), binary, webhdfs) for entry in present]
        if missing := [name for name in layout.batches if name + ending not in there]:
            note(f"{path}: there is no {', '.join(missing)}; continuing without")
        names = None
        meta = layout.binary_meta if binary else layout.python_meta
        if meta in there:
            at = files.join(path, meta)
            size = min(files.size(at, webhdfs), META_BYTES + 1)
            names = read_meta(layout, bytes(files.read_range(at, 0, size, webhdfs)), binary, at)
        return Opened(batches, binary, names)
    raise TinyTagsError(
        f"{path}: holds no batch of {layout.title} ({', '.join(layout.batches)}; or with .bin)"
    )


def _open_single(layout: Layout, path: str, webhdfs: str | None) -> Opened:
    size = files.size(path, webhdfs)
    head = bytes(files.read_range(path, 0, 1, webhdfs))
    # Binary records begin with a label; a pickle with its protocol's mark, or one of the oldest with a letter.
    binary = (
        head[0] < layout.label_limits[0]
        or path.endswith(".bin")
        or (size % layout.record_bytes == 0 and head[0] not in b"\x80(}]c")
    )
    return Opened([_open_file(layout, path, binary, webhdfs)], binary)


def _open_file(layout: Layout, path: str, binary: bool, webhdfs: str | None) -> BatchFile:
    entry = files.file_status(path, webhdfs)
    if not binary:
        batch = BatchFile(path, 0, entry.modified, size=entry.size)
        return replace(batch, images=len(_load_batch(layout, batch, False, webhdfs).labels))
    images = count_records(layout, entry.size, path)
    check_first_labels(layout, path, entry.size, webhdfs)
    return BatchFile(path, images, entry.modified, size=entry.size)


def _open_archive(layout: Layout, path: str, webhdfs: str | None) -> Opened:
    """Stream through the archive once: only members of the exact expected names are read, nothing is unpacked to disk."""
    modified = files.file_status(path, webhdfs).modified
    expected = {f"{layout.binary_folder}/{name}.bin": (True, name) for name in layout.batches}
    expected |= {f"{layout.python_folder}/{name}": (False, name) for name in layout.batches}
    metas = {
        f"{layout.binary_folder}/{layout.binary_meta}": True,
        f"{layout.python_folder}/{layout.python_meta}": False,
    }
    # Archives that people make inside the folder have the names alone.
    alone = {files.base_name(name): name for name in (*expected, *metas)}
    batches: dict[tuple[bool, str], BatchFile] = {}
    names: dict[bool, list[str]] = {}
    seen: set[str] = set()
    with open_archive(path, webhdfs) as archive:
        for number, member in enumerate(archive):
            if number >= ARCHIVE_MEMBERS:
                raise TinyTagsError(
                    f"{path}: holds more than {ARCHIVE_MEMBERS:,} files; this isn't {layout.title}"
                )
            name = member.name.removeprefix("./")
            name = alone.get(name, name)
            if (
                member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
                or member.issparse()
                or name in seen
                or (name not in metas and name not in expected)
            ):
                continue
            seen.add(name)
            where, size = f"{path}: {member.name}", member.size
            file = cast(io.BufferedReader, archive.extractfile(member))
            if name in metas:
                binary = metas[name]
                names[binary] = read_meta(layout, file.read(META_BYTES + 1), binary, where)
                continue
            if expected[name][0]:
                images = count_records(layout, size, where)
                for _ in record_blocks(layout, file, where, 0, images):
                    pass
            else:
                images = len(unpickle(layout, file, size, where).images)
            batches[expected[name]] = BatchFile(path, images, modified, member.name, member.offset_data, size)
    for binary in (True, False):
        if any(key[0] == binary for key in batches):
            missing = [name for name, key in expected.items() if key[0] == binary and key not in batches]
            if missing:
                raise TinyTagsError(f"{path}: {', '.join(missing)} missing from the archive; fetch it again")
            return Opened([batches[binary, name] for name in layout.batches], binary, names.get(binary))
    first = layout.batches[0]
    raise TinyTagsError(
        f"{path}: holds no {layout.binary_folder}/{first}.bin and no {layout.python_folder}/{first}"
    )


def _load_batch(layout: Layout, batch: BatchFile, binary: bool, webhdfs: str | None) -> Batch:
    """Return a whole batch, read-only."""
    # The number of images is unknown when a batch is opened, and is no part of the key.
    return _load_whole(layout, replace(batch, images=0), binary, webhdfs)


# Tasks on one worker mostly continue where the last one stopped. Size and time of change are in the key: a file that was
# replaced is read again.
@functools.lru_cache(maxsize=1)
def _load_whole(layout: Layout, batch: BatchFile, binary: bool, webhdfs: str | None) -> Batch:
    if not batch.member:
        with files.open_file(batch.path, webhdfs) as file:
            return _parse(layout, file, batch.size, binary, batch.where)
    with open_unpacked(batch.path, webhdfs) as stream:
        files.skip(stream, batch.offset)
        return _parse(layout, stream, batch.size, binary, batch.where)


def _parse(layout: Layout, file: io.BufferedIOBase, size: int, binary: bool, where: str) -> Batch:
    if not binary:
        return unpickle(layout, file, size, where)
    count = count_records(layout, size, where)
    batch = Batch(np.empty((count, IMAGE_BYTES), np.uint8), np.empty(count, np.int32))
    read_records(layout, file, where, 0, batch.images, batch.labels)
    return batch
