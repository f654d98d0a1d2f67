"""CIFAR-10 as its authors publish it: batches of records in the binary or the Python form, in a folder, alone or in their .tar.gz.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. Pixels are R, G, B planes, row-major: the canonical layout.
"""

import contextlib
import functools
import io
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO, ClassVar

import numpy as np

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.dump import Batch, ReadInBatches, check_classes, check_labels, check_rows
from ingest.image import IMAGE_BYTES

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
BATCHES = [*TRAIN_BATCHES, "test_batch"]
BINARY_FOLDER, PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"

RECORD_BYTES = 1 + IMAGE_BYTES
# The official archives hold 185 MB, their Python batches 31 MB each; what claims far more was made to do harm.
ARCHIVE_BYTES = 256 << 20
ARCHIVE_MEMBERS = 1000
PICKLE_BYTES = 256 << 20
META_BYTES = 1 << 16
_BLOCK = 256
# How many records' labels are looked at when a batch is opened; the others' are when they are read.
_SAMPLE = 1000


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


# The batches, whether they are in the binary form, and the class names that came with them.
Opened = tuple[list[BatchFile], bool, list[str] | None]


@dataclass(frozen=True)
class Cifar10(ReadInBatches):
    """CIFAR-10, or as many batches of it as there are; rows are in the batches' order, the test batch last."""

    path: str
    images: int
    classes: list[str]
    batches: tuple[BatchFile, ...]
    binary: bool
    webhdfs: str | None = None
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    format: ClassVar[str] = "cifar-10"

    @cached_property
    def identity(self) -> dict:
        return files.identity(self._paths(), self.webhdfs)

    def status(self) -> list[files.Entry | None]:
        return [files.status(path, self.webhdfs) for path in self._paths()]

    def read(self, start: int, stop: int) -> Batch:
        check_rows(self, start, stop)
        images = np.empty((stop - start, IMAGE_BYTES), np.uint8)
        labels = np.empty(stop - start, np.int32)
        names = []
        done = 0
        for batch, first, last in self._parts(start, stop):
            part = slice(done, done + last - first)
            if self.binary and not batch.member:
                with files.open_file(
                    batch.path, self.webhdfs, first * RECORD_BYTES, (last - first) * RECORD_BYTES
                ) as file:
                    _read_records(file, batch.path, first, images[part], labels[part])
            else:
                found = _load_batch(batch, self.binary, self.webhdfs)
                images[part], labels[part] = found.images[first:last], found.labels[first:last]
                names += (found.names or [""] * len(found.labels))[first:last]
            check_labels(labels[part], len(self.classes), batch.where, first)
            done = part.stop
        return Batch(images, labels, names if any(names) else None)

    def describe_record(self, row: int) -> dict:
        batch, record, _ = next(self._parts(row, row + 1))
        return {
            "file": batch.name,
            "record": record,
            "offset": record * RECORD_BYTES if self.binary else None,
        }

    def _paths(self) -> list[str]:
        return list(dict.fromkeys(batch.path for batch in self.batches))

    def _parts(self, start: int, stop: int) -> Iterator[tuple[BatchFile, int, int]]:
        """Yield the batches that hold the rows from ``start`` to ``stop``, each with the range of its own records."""
        for batch in self.batches:
            if start < batch.images and stop > 0:
                yield batch, max(start, 0), min(stop, batch.images)
            start, stop = start - batch.images, stop - batch.images


def open_cifar(path: str, classes: list[str] | None = None, webhdfs: str | None = None) -> Cifar10:
    """Open CIFAR-10: a folder of batches, one batch, or the official .tar.gz (unpacked or not, in either form).

    In a folder the batches that are there are taken, at least one; an archive has to hold all six. Class names are
    ``classes``, else those of ``batches.meta``, else the official ten. Raises `TinyTagsError` for what isn't CIFAR-10,
    CIFAR-100 by its name, and for pickles that hold anything but what the official ones do.
    """
    classes = check_classes(classes)
    found = files.status(path, webhdfs)
    if found and found.is_dir:
        batches, binary, names = _open_folder(path, webhdfs)
    elif is_archive(path, webhdfs):
        batches, binary, names = _open_archive(path, webhdfs)
    else:
        batches, binary, names = _open_single(path, webhdfs)
    images = sum(batch.images for batch in batches)
    train = sum(batch.images for batch in batches if "test_batch" not in batch.name)
    splits = {"train": (0, train), "test": (train, images)} if 0 < train < images else {}
    return Cifar10(path, images, classes or names or CLASSES, tuple(batches), binary, webhdfs, splits)


def is_archive(path: str, webhdfs: str | None = None) -> bool:
    """Return whether ``path`` begins as a gzipped or plain tar archive does."""
    with files.open_file(path, webhdfs, length=min(files.size(path, webhdfs), 512)) as file:
        head = file.read(512)
    if head[:2] != b"\x1f\x8b":
        return head[257:262] == b"ustar"
    with files.open_gzip(path, webhdfs) as unpacked:
        return unpacked.read(512)[257:262] == b"ustar"


def check_first_labels(path: str, size: int, webhdfs: str | None = None) -> None:
    """Raise `TinyTagsError` where the first records of a binary batch of ``size`` bytes don't begin with a label."""
    head = files.read_range(path, 0, min(size, _SAMPLE * RECORD_BYTES), webhdfs)
    labels = np.frombuffer(head, np.uint8).reshape(-1, RECORD_BYTES)[:, 0]
    check_labels(labels, len(CLASSES), path)


def _open_folder(path: str, webhdfs: str | None) -> Opened:
    there = {entry.name: entry for entry in files.list_dir(path, webhdfs) if not entry.is_dir}
    for binary, ending in ((True, ".bin"), (False, "")):
        found = [there[name + ending] for name in BATCHES if name + ending in there]
        if not found:
            continue
        batches = [_open_file(files.join(path, entry.name), binary, webhdfs) for entry in found]
        if missing := [name for name in BATCHES if name + ending not in there]:
            note(f"{path}: there is no {', '.join(missing)}; going on without")
        names = None
        meta = "batches.meta.txt" if binary else "batches.meta"
        if meta in there:
            at = files.join(path, meta)
            size = min(files.size(at, webhdfs), META_BYTES + 1)
            names = _read_meta(bytes(files.read_range(at, 0, size, webhdfs)), binary, at)
        return batches, binary, names
    if is_cifar_100(set(there)):
        raise _cifar_100(path)
    raise TinyTagsError(
        f"{path}: holds no batch of CIFAR-10 (data_batch_1 to data_batch_5, test_batch; or with .bin)"
    )


def _open_single(path: str, webhdfs: str | None) -> Opened:
    size = files.size(path, webhdfs)
    head = bytes(files.read_range(path, 0, 1, webhdfs))
    # Binary records begin with a label, 0 to 9; a pickle with its protocol's mark, or one of the oldest with a letter.
    binary = (
        head[0] < len(CLASSES)
        or path.endswith(".bin")
        or (size % RECORD_BYTES == 0 and head[0] not in b"\x80(}]c")
    )
    return [_open_file(path, binary, webhdfs)], binary, None


def _open_file(path: str, binary: bool, webhdfs: str | None) -> BatchFile:
    found = files.file_status(path, webhdfs)
    if not binary:
        batch = BatchFile(path, 0, found.modified, size=found.size)
        return replace(batch, images=len(_load_batch(batch, False, webhdfs).labels))
    images = _count_records(found.size, path)
    check_first_labels(path, found.size, webhdfs)
    return BatchFile(path, images, found.modified, size=found.size)


def _open_archive(path: str, webhdfs: str | None) -> Opened:
    """Stream through the archive once: only members of the exact expected names are looked into, nothing is unpacked to disk."""
    modified = files.file_status(path, webhdfs).modified
    expected = {f"{BINARY_FOLDER}/{name}.bin": (True, name) for name in BATCHES}
    expected |= {f"{PYTHON_FOLDER}/{name}": (False, name) for name in BATCHES}
    metas = {f"{BINARY_FOLDER}/batches.meta.txt": True, f"{PYTHON_FOLDER}/batches.meta": False}
    batches, names, seen = {}, {}, set()
    with _open_tar(path, webhdfs) as archive:
        for number, member in enumerate(archive):
            if number >= ARCHIVE_MEMBERS:
                raise TinyTagsError(f"{path}: holds more than {ARCHIVE_MEMBERS:,} files; this isn't CIFAR-10")
            if (
                member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
                or member.issparse()
                or member.name in seen
            ):
                continue
            seen.add(member.name)
            where, size = f"{path}: {member.name}", member.size
            if member.name in metas:
                binary = metas[member.name]
                names[binary] = _read_meta(archive.extractfile(member).read(META_BYTES + 1), binary, where)
            elif member.name in expected:
                file, binary = archive.extractfile(member), expected[member.name][0]
                if binary:
                    images = _count_records(size, where)
                    for _ in _record_blocks(file, where, 0, images):
                        pass
                else:
                    images = len(_unpickle(file, size, where).images)
                batches[expected[member.name]] = BatchFile(
                    path, images, modified, member.name, member.offset_data, size
                )
    if is_cifar_100(seen):
        raise _cifar_100(path)
    for binary in (True, False):
        if any(key[0] == binary for key in batches):
            missing = [name for name, key in expected.items() if key[0] == binary and key not in batches]
            if missing:
                raise TinyTagsError(f"{path}: {', '.join(missing)} missing from the archive; fetch it again")
            return [batches[binary, name] for name in BATCHES], binary, names.get(binary)
    raise TinyTagsError(
        f"{path}: holds no {BINARY_FOLDER}/data_batch_1.bin and no {PYTHON_FOLDER}/data_batch_1"
    )


@contextlib.contextmanager
def _open_tar(path: str, webhdfs: str | None) -> Iterator[tarfile.TarFile]:
    """Open the archive as a stream of members, each to be read before the next is asked for; bounded in what it unpacks."""
    with _open_stream(path, webhdfs) as stream:
        try:
            limited = _Limited(stream, ARCHIVE_BYTES, path)
            with tarfile.open(fileobj=limited, mode="r|") as archive:
                yield archive
            # tarfile stops where the archive says it ends; the checksum over all of it comes after that.
            while limited.read(1 << 20):
                pass
        except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
            raise TinyTagsError(
                " ".join(f"{path}: is a damaged tar archive ({error}); fetch it again".split())
            ) from None


@contextlib.contextmanager
def _open_stream(path: str, webhdfs: str | None) -> Iterator[BinaryIO]:
    with files.open_file(path, webhdfs, length=min(files.size(path, webhdfs), 2)) as file:
        packed = file.read(2) == b"\x1f\x8b"
    with files.open_gzip(path, webhdfs) if packed else files.open_file(path, webhdfs) as stream:
        yield stream


class _Limited:
    """A stream that refuses to give more than ``limit`` bytes."""

    def __init__(self, stream: BinaryIO, limit: int, path: str) -> None:
        self._stream, self._left, self._limit, self._path = stream, limit, limit, path

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TinyTagsError(
                f"{self._path}: unpacks to more than {self._limit >> 20} MiB; this isn't CIFAR-10"
            )
        return data


def _read_records(file: BinaryIO, where: str, first: int, images: np.ndarray, labels: np.ndarray) -> None:
    """Fill (n, 3072) ``images`` and (n,) ``labels`` from the records that ``file`` stands at, number ``first`` of the batch."""
    done = 0
    for block in _record_blocks(file, where, first, len(images)):
        labels[done : done + _BLOCK] = block[:, 0]
        images[done : done + _BLOCK] = block[:, 1:]
        done += _BLOCK


def _record_blocks(file: BinaryIO, where: str, first: int, count: int) -> Iterator[np.ndarray]:
    """Yield ``count`` records as (n, 3073) uint8, each time in the same memory, after looking at their labels."""
    memory = np.empty((_BLOCK, RECORD_BYTES), np.uint8)
    for done in range(0, count, _BLOCK):
        block = memory[: count - done]
        files.read_into(file, block, where)
        check_labels(block[:, 0], len(CLASSES), where, first + done)
        yield block


def _load_batch(batch: BatchFile, binary: bool, webhdfs: str | None) -> Batch:
    return _load_whole(batch.path, batch.member, batch.offset, batch.size, batch.modified, binary, webhdfs)


# Tasks on one worker mostly go on where the last one stopped. Size and time of change are in the key: a file that was
# replaced is read again.
@functools.lru_cache(maxsize=1)
def _load_whole(
    path: str, member: str | None, offset: int, size: int, modified: float, binary: bool, webhdfs: str | None
) -> Batch:
    where = BatchFile(path, 0, modified, member).where
    if not member:
        with files.open_file(path, webhdfs) as file:
            return _parse(file, size, binary, where)
    with _open_stream(path, webhdfs) as stream:
        files.skip(stream, offset)
        return _parse(stream, size, binary, where)


def _parse(file: BinaryIO, size: int, binary: bool, where: str) -> Batch:
    """Return the whole batch of ``size`` bytes that ``file`` stands at, read-only."""
    if not binary:
        return _unpickle(file, size, where)
    count = _count_records(size, where)
    batch = Batch(np.empty((count, IMAGE_BYTES), np.uint8), np.empty(count, np.int32))
    _read_records(file, where, 0, batch.images, batch.labels)
    return batch


def _count_records(size: int, where: str) -> int:
    images, rest = divmod(size, RECORD_BYTES)
    if not rest and size:
        return images
    if size and size % (RECORD_BYTES + 1) == 0:
        raise _cifar_100(where)
    raise TinyTagsError(
        f"{where}: {size:,} bytes is not a whole number of {RECORD_BYTES:,}-byte records; the last one starts at byte"
        f" {size - rest:,} (truncated copy?)"
    )


def _unpickle(file: BinaryIO, size: int, where: str) -> Batch:
    """Return the Python batch of ``size`` bytes in ``file`` after checking all that is in it."""
    content = _load_safely(_read_limited(file, size, where), where)
    if not isinstance(content, dict):
        raise TinyTagsError(f"{where}: is a pickle, but not of a dict as CIFAR-10's are")
    if b"fine_labels" in content or b"coarse_labels" in content:
        raise _cifar_100(where)
    data, labels, names = content.get(b"data"), content.get(b"labels"), content.get(b"filenames")
    images = data.to_numpy(where) if isinstance(data, _PickledArray) else None
    if images is None or images.shape[1] != IMAGE_BYTES:
        found = "nothing" if images is None else f"shape {images.shape}"
        raise TinyTagsError(
            f"{where}: has {found} under b'data', where CIFAR-10 has (n, {IMAGE_BYTES}) uint8"
        )
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise TinyTagsError(f"{where}: has no list of whole numbers under b'labels'")
    if len(labels) != len(images):
        raise TinyTagsError(f"{where}: {len(labels):,} labels for {len(images):,} images")
    for record, label in enumerate(labels):
        if not 0 <= label < len(CLASSES):
            shown = (
                label if abs(label) < 1 << 64 else "far too large"
            )  # Python won't print very large numbers
            raise TinyTagsError(f"{where}: record {record:,} has label {shown}; CIFAR-10's are 0 to 9")
    if names is not None:
        if (
            not isinstance(names, list)
            or len(names) != len(images)
            or not all(type(name) is bytes for name in names)
        ):
            raise TinyTagsError(f"{where}: b'filenames' isn't a list of {len(images):,} byte strings")
        names = [name.decode("utf-8", "replace") for name in names]
    images.flags.writeable = False
    return Batch(images, np.array(labels, np.int32), names)


def _read_meta(data: bytes, binary: bool, where: str) -> list[str]:
    """Return the names of the ten classes from the content of ``batches.meta.txt`` or ``batches.meta``."""
    if len(data) > META_BYTES:
        raise TinyTagsError(f"{where}: holds more than {META_BYTES:,} bytes; CIFAR-10's holds ten names")
    if binary:
        names = [line.strip() for line in data.splitlines() if line.strip()]
    else:
        content = _load_safely(data, where)
        names = content.get(b"label_names") if isinstance(content, dict) else None
        if not isinstance(names, list) or not all(type(name) is bytes for name in names):
            raise TinyTagsError(f"{where}: has no list of names under b'label_names'")
    if len(names) != len(CLASSES):
        raise TinyTagsError(f"{where}: holds {len(names)} class names; CIFAR-10 has {len(CLASSES)}")
    try:
        return check_classes([name.decode() for name in names])
    except (UnicodeDecodeError, TinyTagsError) as error:
        raise TinyTagsError(f"{where}: {error}") from None


def _read_limited(file: BinaryIO, size: int, where: str) -> bytes:
    if size > PICKLE_BYTES:
        raise TinyTagsError(f"{where}: holds {size:,} bytes; a Python batch of CIFAR-10 holds 31 million")
    data = bytearray(size)
    files.read_into(file, data, where)
    return bytes(data)


class _PickledArray:
    """What a pickle says of a numpy array, before any of it is believed."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_numpy(self, where: str) -> np.ndarray:
        """Return the (read-only) array; raises `TinyTagsError` for anything but whole uint8 data."""
        match getattr(self, "state", None):
            case (
                int(),
                (int() as rows, int() as columns),
                _PickledDtype(code=b"u1" | "u1"),
                fortran,
                bytes(data),
            ):
                if rows > 0 and columns > 0 and rows * columns == len(data):
                    order = "F" if fortran else "C"
                    return np.ascontiguousarray(
                        np.frombuffer(data, np.uint8).reshape(rows, columns, order=order)
                    )
        raise TinyTagsError(f"{where}: the array under b'data' isn't two-dimensional uint8, as CIFAR-10's is")


@dataclass
class _PickledDtype:
    code: object

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which mean nothing for bytes."""


class _CountedBytes(io.BytesIO):
    """Bytes of a pickle that can be read only so often: one of nothing but opening brackets would fill the memory.

    A batch takes about ten reads for the 3,072 bytes of an image; three times as many may be made.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = 10_000 + len(data) // 100

    def read(self, size: int | None = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ValueError("more values than a batch has")
        return super().read(size)


def _load_safely(data: bytes, where: str) -> object:
    """Return what a pickle that Python 2 wrote holds: plain values and numpy arrays as `_PickledArray`.

    Only the three names that the official files need are known, and each stands for something of ours that does nothing
    but keep what it is given: no code that a pickle names is ever called. Raises `TinyTagsError` naming any other.
    """

    def reconstruct(kind: object, shape: object, code: object) -> _PickledArray:
        return _PickledArray()

    def dtype(code: object, align: object = 0, copy: object = 1) -> _PickledDtype:
        return _PickledDtype(code)

    known = {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): object(),
        ("numpy", "dtype"): dtype,
    }

    # The one written in Python: the one in C reserves memory for whatever memo index a pickle of a few bytes names.
    class Unpickler(pickle._Unpickler):
        # Without what Python 2 could not write, and reserves as much memory as it names.
        dispatch: ClassVar = {
            code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
        }

        def find_class(self, module: str, name: str) -> object:
            if (module, name) in known:
                return known[module, name]
            hint = ""
            if (module, name) == ("_codecs", "encode"):
                hint = " (a copy that Python 3 wrote; take the official files, or the binary form)"
            raise TinyTagsError(
                f"{where}: the pickle names {module}.{name}, which CIFAR-10's don't{hint}; refused"
            )

    try:
        return Unpickler(_CountedBytes(data), encoding="bytes").load()
    except TinyTagsError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise TinyTagsError(
            " ".join(f"{where}: is no pickle that can be read ({reason}); fetch it again".split())
        ) from None


def is_cifar_100(names: set[str]) -> bool:
    """Return whether files of these names are CIFAR-100's, in either form or as members of its archive."""
    mine = {"train.bin", "test.bin", "fine_label_names.txt"} & names or {"train", "test", "meta"} <= names
    return bool(mine) or any(name.startswith("cifar-100-") for name in names)


def _cifar_100(path: str) -> TinyTagsError:
    return TinyTagsError(
        f"{path}: is CIFAR-100, which isn't read; CIFAR-10 is (another download of the same page)"
    )
