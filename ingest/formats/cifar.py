"""What CIFAR-10 and CIFAR-100 have in common: batches in the binary or the Python form, in a folder, alone or in a tar archive.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. Pixels are R, G, B planes, row-major: the canonical layout.
"""

import codecs
import functools
import io
import tarfile
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.cifar_archive import is_archive, open_archive, open_unpacked
from ingest.formats.cifar_pickle import PickledArray, load_safely
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows, overlaps
from ingest.formats.format import Source
from ingest.image import IMAGE_BYTES

ARCHIVE_MEMBERS = 1000
PICKLE_BYTES = 256 << 20
META_BYTES = 1 << 16
_BLOCK = 256
# How many records' labels are checked when a batch is opened; those of the others are when they are read.
_SAMPLE = 1000


@dataclass(frozen=True)
class Layout:
    """How the files of one of the data sets are named and built.

    ``label_limits`` has a number of classes for each label byte of a binary record, and ``label`` is the place of
    the one that is read.
    """

    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    binary_folder: str
    python_folder: str
    label_limits: tuple[int, ...]
    label: int
    labels_key: bytes
    binary_meta: str
    python_meta: str
    names_key: bytes
    classes: tuple[str, ...]

    @property
    def batches(self) -> tuple[str, ...]:
        return self.train + self.test

    @property
    def record_bytes(self) -> int:
        return len(self.label_limits) + IMAGE_BYTES


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
                    _read_records(layout, file, batch.path, first, images[part], labels[part])
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


def looks_like_a_pickle(source: Source) -> bool:
    """Return whether a file begins and ends as pickles of protocols 2 to 5 do."""
    head = source.head[:2]
    return head[:1] == b"\x80" and b"\x02" <= head[1:] <= b"\x05" and source.read(source.size - 1, 1) == b"."


def labels_fit(layout: Layout, source: Source) -> bool:
    """Return whether a file is nothing but binary records, the first of which have labels that the data set has."""
    if source.size % layout.record_bytes:
        return False
    try:
        _check_first_labels(layout, source.path, source.size, source.webhdfs)
    except TinyTagsError:
        return False
    return True


def _check_first_labels(layout: Layout, path: str, size: int, webhdfs: str | None = None) -> None:
    """Raise `TinyTagsError` where the first records of a binary batch of ``size`` bytes don't begin with labels."""
    head = files.read_range(path, 0, min(size, _SAMPLE * layout.record_bytes), webhdfs)
    _check_record_labels(layout, np.frombuffer(head, np.uint8).reshape(-1, layout.record_bytes), path, 0)


def _check_record_labels(layout: Layout, records: NDArray[np.uint8], where: str, first: int) -> None:
    for column, limit in enumerate(layout.label_limits):
        check_labels(records[:, column], limit, where, first)


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
            names = _read_meta(layout, bytes(files.read_range(at, 0, size, webhdfs)), binary, at)
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
    images = _count_records(layout, entry.size, path)
    _check_first_labels(layout, path, entry.size, webhdfs)
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
                names[binary] = _read_meta(layout, file.read(META_BYTES + 1), binary, where)
                continue
            if expected[name][0]:
                images = _count_records(layout, size, where)
                for _ in _record_blocks(layout, file, where, 0, images):
                    pass
            else:
                images = len(_unpickle(layout, file, size, where).images)
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


def _read_records(
    layout: Layout,
    file: io.BufferedIOBase,
    where: str,
    first: int,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
) -> None:
    """Fill (n, 3072) ``images`` and (n,) ``labels`` from the records at the position of ``file``, number ``first`` of the batch."""
    done = 0
    for block in _record_blocks(layout, file, where, first, len(images)):
        labels[done : done + _BLOCK] = block[:, layout.label]
        images[done : done + _BLOCK] = block[:, len(layout.label_limits) :]
        done += _BLOCK


def _record_blocks(
    layout: Layout, file: io.BufferedIOBase, where: str, first: int, count: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``count`` records as (n, record bytes) uint8, each time in the same memory, with labels checked."""
    memory = np.empty((_BLOCK, layout.record_bytes), np.uint8)
    for done in range(0, count, _BLOCK):
        block = memory[: count - done]
        files.read_into(file, block, where)
        _check_record_labels(layout, block, where, first + done)
        yield block


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
        return _unpickle(layout, file, size, where)
    count = _count_records(layout, size, where)
    batch = Batch(np.empty((count, IMAGE_BYTES), np.uint8), np.empty(count, np.int32))
    _read_records(layout, file, where, 0, batch.images, batch.labels)
    return batch


def _count_records(layout: Layout, size: int, where: str) -> int:
    images, rest = divmod(size, layout.record_bytes)
    if not rest and size:
        return images
    raise TinyTagsError(
        f"{where}: {size:,} bytes is not a whole number of {layout.record_bytes:,}-byte records; the last one starts at"
        f" byte {size - rest:,} (truncated copy?)"
    )


def _unpickle(layout: Layout, file: io.BufferedIOBase, size: int, where: str) -> Batch:
    """Return the Python batch of ``size`` bytes in ``file`` after checking all that is in it."""
    title, key = layout.title, layout.labels_key
    content = _bytes_keys(load_safely(_read_limited(file, size, where), where))
    if not isinstance(content, dict):
        raise TinyTagsError(f"{where}: is a pickle, but not of a dict as {title}'s are")
    data, labels, names = content.get(b"data"), content.get(key), content.get(b"filenames")
    images = data.to_numpy(where) if isinstance(data, PickledArray) else None
    if images is None or images.shape[1] != IMAGE_BYTES:
        present = "nothing" if images is None else f"shape {images.shape}"
        raise TinyTagsError(
            f"{where}: has {present} under b'data', where {title} has (n, {IMAGE_BYTES}) uint8"
        )
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise TinyTagsError(f"{where}: has no list of whole numbers under {key!r}; is it {title}?")
    if len(labels) != len(images):
        raise TinyTagsError(f"{where}: {len(labels):,} labels for {len(images):,} images")
    limit = layout.label_limits[layout.label]
    for record, label in enumerate(labels):
        if not 0 <= label < limit:
            # Python refuses to print very large numbers.
            text = label if abs(label) < 1 << 64 else "far too large"
            raise TinyTagsError(
                f"{where}: record {record:,} has label {text}; {title}'s are 0 to {limit - 1}"
            )
    if names is not None:
        if (
            not isinstance(names, list)
            or len(names) != len(images)
            or not all(type(name) in (bytes, str) for name in names)
        ):
            raise TinyTagsError(f"{where}: b'filenames' isn't a list of {len(images):,} names")
        names = [_text(name) for name in names]
    images.flags.writeable = False
    return Batch(images, np.array(labels, np.int32), names)


def _bytes_keys(content: object) -> object:
    """Return a dict with its keys as Python 2 had them; a copy by Python 3 may have them as str."""
    if not isinstance(content, dict):
        return content
    return {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")


def _read_meta(layout: Layout, data: bytes, binary: bool, where: str) -> list[str]:
    """Return the names of the classes from the content of the binary or the Python meta file."""
    count = len(layout.classes)
    if len(data) > META_BYTES:
        raise TinyTagsError(f"{where}: holds more than {META_BYTES:,} bytes for {count} names")
    if binary:
        lines = data.removeprefix(codecs.BOM_UTF8).splitlines()
        names: Any = [line.strip() for line in lines if line.strip()]
    else:
        content = _bytes_keys(load_safely(data, where))
        names = content.get(layout.names_key) if isinstance(content, dict) else []
        if not isinstance(names, list) or not names or not all(type(name) in (bytes, str) for name in names):
            raise TinyTagsError(f"{where}: has no list of names under {layout.names_key!r}")
    if len(names) != count:
        raise TinyTagsError(f"{where}: holds {len(names)} class names; {layout.title} has {count}")
    try:
        return check_classes([name if isinstance(name, str) else name.decode() for name in names]) or []
    except (UnicodeDecodeError, TinyTagsError) as error:
        raise TinyTagsError(f"{where}: {error}") from None


def _read_limited(file: io.BufferedIOBase, size: int, where: str) -> bytes:
    if size > PICKLE_BYTES:
        raise TinyTagsError(
            f"{where}: has {size:,} bytes; the largest Python batch of CIFAR holds 155 million"
        )
    data = bytearray(size)
    files.read_into(file, data, where)
    return bytes(data)
