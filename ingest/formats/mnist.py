"""MNIST and what shares its form (IDX): grey 28x28 pictures, centred in 32x32 and the same in R, G and B.

Source: the data set's page. Big-endian: a magic number (2051 for images, 2049 for labels), the number of records, for
images rows and columns, then a byte a pixel or label. Often gzipped.
"""

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows, overlaps
from ingest.formats.format import Format, Match, Source
from ingest.image import IMAGE_BYTES, SIDE

CLASSES = [str(digit) for digit in range(10)]
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
MNIST_SIDE = 28
PIXELS = MNIST_SIDE * MNIST_SIDE
IMAGES_HEADER, LABELS_HEADER = 16, 8
# Deflate packs at most 1,032 to 1, so that a wrong header is detected at once; unpacking to check takes a few seconds.
PACKED_RATIO = 1032
GZIP_BYTES = 1 << 30
_BLOCK = 1024
_MARGIN = (SIDE - MNIST_SIDE) // 2


@dataclass(frozen=True)
class Part:
    """An images file and its labels file, if any."""

    path: str
    images: int
    labels: str | None


@dataclass(frozen=True, kw_only=True)
class Mnist(FileDump):
    """MNIST: one images file, or a folder's training images followed by its test images."""

    parts: tuple[Part, ...]
    format: ClassVar[str] = "mnist"

    def paths(self) -> list[str]:
        return [path for part in self.parts for path in (part.path, part.labels) if path]

    def read(self, start: int, stop: int) -> Batch:
        check_rows(self, start, stop)
        # The margin is MNIST's background, 0.
        images = np.zeros((stop - start, IMAGE_BYTES), np.uint8)
        labels = np.full(stop - start, -1, np.int32)
        done = 0
        for part, first, last in overlaps(self.parts, start, stop):
            rows = slice(done, done + last - first)
            self._read_images(part, first, images[rows])
            if part.labels:
                labels[rows] = self._read_labels(part.labels, first, last)
            done = rows.stop
        return Batch(images, labels)

    def _read_images(self, part: Part, first: int, images: NDArray[np.uint8]) -> None:
        block = np.empty((_BLOCK, MNIST_SIDE, MNIST_SIDE), np.uint8)
        inner = images.reshape(-1, 3, SIDE, SIDE)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        with _open_idx(part.path, self.webhdfs, IMAGES_HEADER + first * PIXELS, len(images) * PIXELS) as file:
            for done in range(0, len(images), _BLOCK):
                grey = block[: len(images) - done]
                files.read_into(file, grey, part.path)
                inner[done : done + _BLOCK] = grey[:, None]

    def _read_labels(self, path: str, first: int, last: int) -> NDArray[np.uint8]:
        labels = np.empty(last - first, np.uint8)
        with _open_idx(path, self.webhdfs, LABELS_HEADER + first, len(labels)) as file:
            files.read_into(file, labels, path)
        check_labels(labels, len(self.classes or CLASSES), path, first)
        return labels


def open_mnist(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Mnist:
    """Open a folder of the four official files (or two of them), or one images file; each may be gzipped.

    Labels beside a single images file have the official name, or are given as ``labels``. ``classes`` are the
    labels' names, by default the ten digits. Raises `TinyTagsError` for what isn't IDX, a size that differs from the
    header's, a truncated or damaged gzip stream, and labels that don't fit the images.
    """
    entry = files.status(path, webhdfs)
    if entry and entry.is_dir:
        if labels:
            raise TinyTagsError(
                f"{path}: a folder of MNIST has its own labels; leave --labels {labels!r} out"
            )
        pairs = _find_pairs(path, webhdfs)
    else:
        labels = labels and files.absolute(labels)
        pairs = [(path, labels or _labels_beside(path, webhdfs))]
    names = check_classes(classes) or CLASSES
    parts = [Part(at, _check_images(at, webhdfs), beside) for at, beside in pairs]
    for part in parts:
        if part.labels:
            _check_labels(part, part.labels, len(names), webhdfs)
    images = sum(part.images for part in parts)
    splits = {}
    if len(parts) == 2:
        splits = {"train": (0, parts[0].images), "test": (parts[0].images, images)}
    labelled = any(part.labels for part in parts)
    if classes and not labelled:
        raise TinyTagsError(f"{path}: classes are given, but there are no labels beside the images")
    return Mnist(
        path=path,
        images=images,
        classes=names if labelled else None,
        labels=labels,
        splits=splits,
        webhdfs=webhdfs,
        parts=tuple(parts),
    )


def recognise(source: Source) -> Match:
    if source.is_dir:
        names = {name for split in ("train", "t10k") for name in file_names(split, "images")}
        return Match.CONTENT if names & source.names else Match.NO
    magics = IMAGES_MAGIC.to_bytes(4), LABELS_MAGIC.to_bytes(4)
    return Match.CERTAIN if source.unpacked[:4] in magics else Match.NO


def file_names(split: str, kind: str) -> list[str]:
    """Return the file names of the ``kind`` ("images", "labels") of a ``split`` ("train", "t10k"), the preferred first."""
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
            raise TinyTagsError(f"{path}: has {labels}, but no {split}-images-idx3-ubyte[.gz]")
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


def _check_labels(part: Part, path: str, classes: int, webhdfs: str | None) -> None:
    magic, count = _read_header(path, webhdfs, ">2I", "labels")
    if magic != LABELS_MAGIC:
        raise TinyTagsError(f"{path}: begins with {magic}, not with {LABELS_MAGIC} as MNIST labels do")
    if count != part.images:
        raise TinyTagsError(f"{path}: {count:,} labels for the {part.images:,} images of {part.path}")
    _check_size(path, LABELS_HEADER + count, f"{count:,} labels", webhdfs)
    with _open_idx(path, webhdfs, LABELS_HEADER, count) as file:
        for first in range(0, count, 1 << 20):
            labels = np.empty(min(1 << 20, count - first), np.uint8)
            files.read_into(file, labels, path)
            check_labels(labels, classes, path, first)


def _read_header(path: str, webhdfs: str | None, form: str, kind: str) -> tuple[int, ...]:
    wanted = struct.calcsize(form)
    size = files.size(path, webhdfs)
    with _open_idx(path, webhdfs, 0, min(wanted, size)) as file:
        header = file.read(wanted)
    if len(header) < wanted:
        raise TinyTagsError(f"{path}: {len(header)} bytes are too few for MNIST {kind}; fetch it again")
    return struct.unpack(form, header)


def _check_size(path: str, wanted: int, what: str, webhdfs: str | None) -> None:
    """Raise `TinyTagsError` unless ``path`` holds, unpacked, the ``wanted`` bytes that its header implies."""
    size = files.size(path, webhdfs)
    if not files.is_gzip(path, webhdfs):
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
        size = files.skip(file, wanted + 1)
    if size != wanted:
        more = "more than " if size > wanted else ""
        raise TinyTagsError(
            f"{path}: unpacks to {more}{min(size, wanted):,} bytes, but its header says {what}, which take {wanted:,}; fetch it again"
        )


@contextlib.contextmanager
def _open_idx(path: str, webhdfs: str | None, offset: int, length: int) -> Iterator[io.BufferedIOBase]:
    """Open ``path`` for reading ``length`` (unpacked) bytes from byte ``offset`` on; a gzip stream is read up to there."""
    if files.is_gzip(path, webhdfs):
        with files.open_gzip(path, webhdfs) as file:
            files.skip(file, offset)
            yield file
    else:
        with files.open_file(path, webhdfs, offset, length) as file:
            yield file


FORMAT = Format(
    name="mnist",
    example="mnist/",
    content="IDX files, also gzipped: their folder, or one file of images",
    recognise=recognise,
    open=open_mnist,
    labels="the file of labels of one file of images",
    has_own=lambda classes, labels: classes == CLASSES,
    usual_names=("mnist", "MNIST"),
)
