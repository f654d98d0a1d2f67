"""MNIST and what shares its form (IDX): grey 28x28 pictures, put in the middle of 32x32 and the same in R, G and B.

Source: the data set's page. Big-endian: a magic number (2051 for images, 2049 for labels), the number of records, for
images rows and columns, then a byte a pixel or label. Often gzipped.
"""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, ClassVar

import numpy as np

from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.dump import Batch, ReadInBatches, check_classes, check_labels, check_rows
from ingest.image import IMAGE_BYTES, SIDE

CLASSES = [str(digit) for digit in range(10)]
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
MNIST_SIDE = 28
PIXELS = MNIST_SIDE * MNIST_SIDE
IMAGES_HEADER, LABELS_HEADER = 16, 8
# Deflate packs at most 1,032 to 1, so a header can be disbelieved at once; and unpacking to look is kept to a few seconds.
PACKED_RATIO = 1032
GZIP_BYTES = 1 << 30
_BLOCK = 1024
_MARGIN = (SIDE - MNIST_SIDE) // 2


@dataclass(frozen=True)
class Part:
    """An images file, whether it is gzipped, and the labels that belong to it (None where nobody said)."""

    path: str
    images: int
    labels: str | None
    gzipped: bool


@dataclass(frozen=True)
class Mnist(ReadInBatches):
    """MNIST: one images file, or a folder's training images followed by its test images."""

    path: str
    images: int
    classes: list[str] | None
    parts: tuple[Part, ...]
    webhdfs: str | None = None
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    format: ClassVar[str] = "mnist"

    @cached_property
    def identity(self) -> dict:
        return files.identity(self._paths(), self.webhdfs)

    def status(self) -> list[files.Entry | None]:
        return [files.status(path, self.webhdfs) for path in self._paths()]

    def read(self, start: int, stop: int) -> Batch:
        check_rows(self, start, stop)
        # The margin is MNIST's background, 0.
        images = np.zeros((stop - start, IMAGE_BYTES), np.uint8)
        labels = np.full(stop - start, -1, np.int32)
        done = 0
        for part, first, last in self._overlaps(start, stop):
            rows = slice(done, done + last - first)
            self._read_images(part, first, images[rows])
            if part.labels:
                labels[rows] = self._read_labels(part, first, last)
            done = rows.stop
        return Batch(images, labels)

    def describe_record(self, row: int) -> dict:
        part, record, _ = next(self._overlaps(row, row + 1))
        offset = None if part.gzipped else IMAGES_HEADER + record * PIXELS
        return {"file": files.base_name(part.path), "record": record, "offset": offset}

    def _paths(self) -> list[str]:
        return [path for part in self.parts for path in (part.path, part.labels) if path]

    def _overlaps(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        """Yield the files that hold the rows from ``start`` to ``stop``, each with the range of its own records."""
        for part in self.parts:
            if start < part.images and stop > 0:
                yield part, max(start, 0), min(stop, part.images)
            start, stop = start - part.images, stop - part.images

    def _read_images(self, part: Part, first: int, images: np.ndarray) -> None:
        block = np.empty((_BLOCK, MNIST_SIDE, MNIST_SIDE), np.uint8)
        inner = images.reshape(-1, 3, SIDE, SIDE)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        with _open_idx(part.path, self.webhdfs, IMAGES_HEADER + first * PIXELS, len(images) * PIXELS) as file:
            for done in range(0, len(images), _BLOCK):
                grey = block[: len(images) - done]
                files.read_into(file, grey, part.path)
                inner[done : done + _BLOCK] = grey[:, None]

    def _read_labels(self, part: Part, first: int, last: int) -> np.ndarray:
        labels = np.empty(last - first, np.uint8)
        with _open_idx(part.labels, self.webhdfs, LABELS_HEADER + first, len(labels)) as file:
            files.read_into(file, labels, part.labels)
        check_labels(labels, len(self.classes), part.labels, first)
        return labels


def open_mnist(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Mnist:
    """Open a folder of the four official files (or two of them), or one images file; each may be gzipped.

    Labels beside a single images file are found by its official name, or given as ``labels``. ``classes`` are the
    labels' names, by default the ten digits. Raises `TinyTagsError` for what isn't IDX, a size that differs from what
    the header says, a truncated or damaged gzip stream, and labels that don't fit the images.
    """
    found = files.status(path, webhdfs)
    if found and found.is_dir:
        if labels:
            raise TinyTagsError(f"{path}: a folder of MNIST brings its own labels; leave {labels!r} out")
        pairs = _find_pairs(path, webhdfs)
    else:
        pairs = [(path, labels or _labels_beside(path, webhdfs))]
    names = check_classes(classes) or CLASSES
    parts = [Part(at, _check_images(at, webhdfs), beside, _is_gzip(at, webhdfs)) for at, beside in pairs]
    for part in parts:
        if part.labels:
            _check_labels(part, len(names), webhdfs)
    images = sum(part.images for part in parts)
    splits = {}
    if len(parts) == 2:
        splits = {"train": (0, parts[0].images), "test": (parts[0].images, images)}
    labelled = any(part.labels for part in parts)
    if classes and not labelled:
        raise TinyTagsError(f"{path}: classes are given, but there are no labels beside the images")
    return Mnist(path, images, names if labelled else None, tuple(parts), webhdfs, splits)


def file_names(split: str, kind: str) -> list[str]:
    """Return the names that the ``kind`` ("images", "labels") of a ``split`` ("train", "t10k") goes by, the preferred first."""
    idx = {"images": "idx3", "labels": "idx1"}[kind]
    plain = [f"{split}-{kind}-{idx}-ubyte", f"{split}-{kind}.{idx}-ubyte"]
    return plain + [name + ".gz" for name in plain]


def _find_pairs(path: str, webhdfs: str | None) -> list[tuple[str, str | None]]:
    """Return the images file and labels file of each split that the folder has, the training images first."""
    there = {entry.name for entry in files.list_dir(path, webhdfs) if not entry.is_dir}
    pairs = []
    for split in ("train", "t10k"):
        images = next((name for name in file_names(split, "images") if name in there), None)
        labels = next((name for name in file_names(split, "labels") if name in there), None)
        if labels and not images:
            raise TinyTagsError(f"{path}: has {labels}, but no {split}-images-idx3-ubyte[.gz] to go with it")
        if images:
            pairs.append((files.join(path, images), files.join(path, labels) if labels else None))
    if not pairs:
        raise TinyTagsError(
            f"{path}: holds neither train-images-idx3-ubyte[.gz] nor t10k-images-idx3-ubyte[.gz]"
        )
    return pairs


def _labels_beside(path: str, webhdfs: str | None) -> str | None:
    folder, slash, name = path.rpartition("/")
    for split in ("train", "t10k"):
        if name in file_names(split, "images"):
            for candidate in file_names(split, "labels"):
                if files.exists(folder + slash + candidate, webhdfs):
                    return folder + slash + candidate
    return None


def _check_images(path: str, webhdfs: str | None) -> int:
    """Return how many images the file ``path`` holds, after comparing its header with its size."""
    magic, count, rows, columns = _read_header(path, webhdfs, ">4I", "images")
    if magic == LABELS_MAGIC:
        raise TinyTagsError(f"{path}: holds MNIST labels; give the images file")
    if magic != IMAGES_MAGIC:
        raise TinyTagsError(f"{path}: begins with {magic}, not with {IMAGES_MAGIC} as MNIST images do")
    if (rows, columns) != (MNIST_SIDE, MNIST_SIDE):
        raise TinyTagsError(
            f"{path}: holds pictures of {rows} x {columns}; MNIST's are {MNIST_SIDE} x {MNIST_SIDE}"
        )
    if not count:
        raise TinyTagsError(f"{path}: holds 0 images")
    _check_size(path, IMAGES_HEADER + count * PIXELS, f"{count:,} images", webhdfs)
    return count


def _check_labels(part: Part, classes: int, webhdfs: str | None) -> None:
    magic, count = _read_header(part.labels, webhdfs, ">2I", "labels")
    if magic != LABELS_MAGIC:
        raise TinyTagsError(f"{part.labels}: begins with {magic}, not with {LABELS_MAGIC} as MNIST labels do")
    if count != part.images:
        raise TinyTagsError(f"{part.labels}: {count:,} labels for the {part.images:,} images of {part.path}")
    _check_size(part.labels, LABELS_HEADER + count, f"{count:,} labels", webhdfs)
    with _open_idx(part.labels, webhdfs, LABELS_HEADER, count) as file:
        for first in range(0, count, 1 << 20):
            labels = np.empty(min(1 << 20, count - first), np.uint8)
            files.read_into(file, labels, part.labels)
            check_labels(labels, classes, part.labels, first)


def _read_header(path: str, webhdfs: str | None, form: str, kind: str) -> tuple[int, ...]:
    wanted = struct.calcsize(form)
    size = files.size(path, webhdfs)
    with _open_idx(path, webhdfs, 0, min(wanted, size)) as file:
        header = file.read(wanted)
    if len(header) < wanted:
        raise TinyTagsError(f"{path}: {len(header)} bytes are too few for MNIST {kind}; fetch it again")
    return struct.unpack(form, header)


def _check_size(path: str, wanted: int, what: str, webhdfs: str | None) -> None:
    """Raise `TinyTagsError` unless ``path`` holds, unpacked, the ``wanted`` bytes that its header speaks of."""
    size = files.size(path, webhdfs)
    if not _is_gzip(path, webhdfs):
        if size != wanted:
            raise TinyTagsError(
                f"{path}: {size:,} bytes, but its header says {what}, which take {wanted:,}; fetch it again"
            )
        return
    if wanted > size * PACKED_RATIO:
        raise TinyTagsError(
            f"{path}: its header says {what}, {wanted:,} bytes, which {size:,} can't hold; fetch it again"
        )
    if wanted > GZIP_BYTES:
        raise TinyTagsError(
            f"{path}: unpacks to more than {GZIP_BYTES >> 20:,} MiB; unpack it first (gunzip)"
        )
    with files.open_gzip(path, webhdfs) as file:
        found = files.skip(file, wanted + 1)
    if found != wanted:
        more = "more than " if found > wanted else ""
        found = min(found, wanted)
        raise TinyTagsError(
            f"{path}: unpacks to {more}{found:,} bytes, but its header says {what}, which take {wanted:,}; fetch it again"
        )


def _is_gzip(path: str, webhdfs: str | None) -> bool:
    return bytes(files.read_range(path, 0, min(files.size(path, webhdfs), 2), webhdfs)) == b"\x1f\x8b"


@contextlib.contextmanager
def _open_idx(path: str, webhdfs: str | None, offset: int, length: int) -> Iterator[BinaryIO]:
    """Open ``path`` for reading ``length`` (unpacked) bytes from byte ``offset`` on; a gzip stream is read up to there."""
    if _is_gzip(path, webhdfs):
        with files.open_gzip(path, webhdfs) as file:
            files.skip(file, offset)
            yield file
    else:
        with files.open_file(path, webhdfs, offset, length) as file:
            yield file
