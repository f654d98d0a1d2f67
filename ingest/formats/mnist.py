"""MNIST and what shares its form (IDX): grey 28x28 pictures, centred in 32x32 and the same in R, G and B.

Source: the data set's page. Big-endian: a magic number (2051 for images, 2049 for labels), the number of records, for
images rows and columns, then a byte a pixel or label. Often compressed. The labels of QMNIST are numbers of 4 bytes (3073),
or rows of 8 of these (3074), of which the first is the class.
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows, overlaps
from ingest.formats.format import Format, Match, Source
from ingest.image import IMAGE_BYTES, SIDE

CLASSES = [str(digit) for digit in range(10)]
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
# Bytes of a label, and whether each record is a row of several, by the magic number.
LABEL_FORMS = {LABELS_MAGIC: (1, False), 3073: (4, False), 3074: (4, True)}
MNIST_SIDE = 28
PIXELS = MNIST_SIDE * MNIST_SIDE
IMAGES_HEADER, LABELS_HEADER = 16, 8
# Gzip packs at most 1,032 to 1, so that a wrong header is detected at once; unpacking to check takes a few seconds.
PACKED_RATIO = 1032
PACKED_BYTES = 1 << 30
_MOST_COLUMNS = 1_000
_BLOCK = 1024
_PACKED_ENDING = f"({'|'.join(map(re.escape, files.PACKED_ENDINGS))})?"
# The split is between what the data set is called, if it is, and what the file holds.
_IMAGES_NAME = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)-images[-.]idx3-ubyte" + _PACKED_ENDING)
_LABELS_NAME = r"{set}{split}-labels[-.]idx[0-9]-(ubyte|int)" + _PACKED_ENDING
_MARGIN = (SIDE - MNIST_SIDE) // 2


@dataclass(frozen=True)
class Part:
    """An images file and its labels file, if any: where its records begin, the bytes of a label and the labels of a record."""

    path: str
    images: int
    labels: str | None
    label_header: int = 8
    label_bytes: int = 1
    label_columns: int = 1


@dataclass(frozen=True, kw_only=True)
class Mnist(FileDump):
    """MNIST: one images file, or a folder's training images followed by its test images.

    ``first_label`` is the label of the first class.
    """

    parts: tuple[Part, ...]
    first_label: int = 0
    format: ClassVar[str] = "mnist"
    transposed: ClassVar[bool] = False  # whether files have the pictures column by column

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
                labels[rows] = (
                    _read_labels(part, first, last, self.webhdfs).astype(np.int32) - self.first_label
                )
                check_labels(labels[rows], len(self.classes or CLASSES), part.labels, first)
            done = rows.stop
        return Batch(images, labels)

    def _read_images(self, part: Part, first: int, images: NDArray[np.uint8]) -> None:
        block = np.empty((_BLOCK, MNIST_SIDE, MNIST_SIDE), np.uint8)
        inner = images.reshape(-1, 3, SIDE, SIDE)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        with _open_idx(part.path, self.webhdfs, IMAGES_HEADER + first * PIXELS, len(images) * PIXELS) as file:
            for done in range(0, len(images), _BLOCK):
                grey = block[: len(images) - done]
                files.read_into(file, grey, part.path)
                upright = grey.transpose(0, 2, 1) if self.transposed else grey
                inner[done : done + _BLOCK] = upright[:, None]


def _read_labels(
    part: Part, first: int, last: int, webhdfs: str | None
) -> NDArray[np.signedinteger | np.uint8]:
    """Return the labels of the records ``first`` to ``last`` as the file has them."""
    assert part.labels
    record = part.label_bytes * part.label_columns
    data = np.empty((last - first) * record, np.uint8)
    with _open_idx(part.labels, webhdfs, part.label_header + first * record, len(data)) as file:
        files.read_into(file, data, part.labels)
    if part.label_bytes == 1:
        return data
    return data.view(">i4").reshape(-1, part.label_columns)[:, 0].astype(np.int32)


D = TypeVar("D", bound=Mnist)


def open_mnist(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Mnist:
    """Open MNIST or what has its form; `open_idx` has the details and errors."""
    return open_idx(Mnist, path, labels, classes, webhdfs, CLASSES)


def open_idx(
    kind: type[D],
    path: str,
    labels: str | None,
    classes: list[str] | None,
    webhdfs: str | None,
    known: list[str],
) -> D:
    """Open a folder of the four official files (or two of them), or one images file; each may be compressed by gzip, bzip2 or xz.

    Labels beside a single images file have the official name, or are given as ``labels``. ``classes`` are the
    labels' names, by default those ``known``; labels that begin at 1 are taken as such where they reach the number of
    classes. Raises `TinyTagsError` for what isn't IDX, a size that differs from the header's, a truncated or damaged compressed
    stream, and labels that don't fit the images.
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
    names = check_classes(classes) or known
    parts = [_labels_of(Part(at, _check_images(at, webhdfs), beside), webhdfs) for at, beside in pairs]
    ranges = {part: _label_range(part, webhdfs) for part in parts if part.labels}
    lowest = min((low for low, _ in ranges.values()), default=0)
    highest = max((high for _, high in ranges.values()), default=0)
    # Ten digits without given names begin at 0: a 10 among them is an error.
    first_label = int(lowest == 1 and highest == len(names) and names != CLASSES)
    for part in parts:
        if not part.labels:
            _note_labels(part.path, webhdfs)
        elif ranges[part][1] - first_label >= len(names):
            _check_labels(part, len(names), first_label, webhdfs)
    if first_label:
        note(f"{path}: labels 1 to {len(names)} are the classes {names[0]} to {names[-1]}")
    images = sum(part.images for part in parts)
    splits = {}
    if len(parts) == 2:
        splits = {"train": (0, parts[0].images), "test": (parts[0].images, images)}
    labelled = any(part.labels for part in parts)
    if classes and not labelled:
        raise TinyTagsError(f"{path}: classes are given, but there are no labels beside the images")
    return kind(
        path=path,
        images=images,
        classes=names if labelled else None,
        labels=labels,
        splits=splits,
        webhdfs=webhdfs,
        parts=tuple(parts),
        first_label=first_label,
    )


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    return match_idx(source, transposed=False)


def match_idx(source: Source, transposed: bool) -> Match:
    """Return how well a source fits IDX files of pictures that are ``transposed``, as EMNIST's are, or not: only names show that."""
    if source.is_dir:
        names = [name for name in source.names if _IMAGES_NAME.fullmatch(name)]
        match = Match.CONTENT
    else:
        magics = [magic.to_bytes(4) for magic in (IMAGES_MAGIC, *LABEL_FORMS)]
        names = [source.name] if source.unpacked[:4] in magics else []
        match = Match.CERTAIN
    if not any(is_transposed(name) == transposed for name in names):
        match = Match.NAME
    return match if names else Match.NO


def is_transposed(name: str) -> bool:
    """Return whether a file, by its name, is of EMNIST, which has its pictures column by column."""
    return name.lower().startswith("emnist")


def _preferred(names: Iterable[str]) -> str | None:
    """Return one of several files that differ in their form alone: not compressed, and with a hyphen, if there is one."""

    def key(name: str) -> tuple[bool, bool, str]:
        plain = re.sub(f"{_PACKED_ENDING}$", "", name)
        return plain != name, "." in plain, name

    return min(names, key=key, default=None)


def _labels_named(there: Iterable[str], images: re.Match[str]) -> str | None:
    """Return the file of labels among the names ``there`` that belongs to an images file."""
    pattern = re.compile(_LABELS_NAME.format(set=re.escape(images["set"]), split=images["split"]))
    return _preferred(name for name in there if pattern.fullmatch(name))


def _find_pairs(path: str, webhdfs: str | None) -> list[tuple[str, str | None]]:
    """Return the images file and labels file of each split that the folder has, the training images first."""
    there = {entry.name for entry in files.list_dir(path, webhdfs) if not entry.is_dir}
    matches = {name: match for name in there if (match := _IMAGES_NAME.fullmatch(name))}
    if len(sets := sorted({match["set"] for match in matches.values()})) > 1:
        raise TinyTagsError(
            f"{path}: holds several data sets ({', '.join(sets)}); give the images file of one of them"
        )
    pairs = []
    for split in ("train", "t10k", "test"):
        images = _preferred(name for name, match in matches.items() if match["split"] == split)
        if images:
            labels = _labels_named(there, matches[images])
            pairs.append((files.join(path, images), files.join(path, labels) if labels else None))
        elif labels := next((name for name in sorted(there) if name.startswith(f"{split}-labels")), None):
            raise TinyTagsError(f"{path}: has {labels}, but no {split}-images-idx3-ubyte[.gz]")
    if not pairs:
        raise TinyTagsError(
            f"{path}: holds neither train-images-idx3-ubyte[.gz] nor t10k-images-idx3-ubyte[.gz]"
        )
    return pairs


def _beside(path: str, webhdfs: str | None) -> list[str]:
    """Return the names of the files in the folder of the file ``path``; none where it can't be listed."""
    try:
        entries = files.list_dir(path.rpartition("/")[0] or "/", webhdfs)
    except TinyTagsError:  # an address of one file alone
        return []
    return [entry.name for entry in entries if not entry.is_dir]


def _labels_beside(path: str, webhdfs: str | None) -> str | None:
    own, folder = files.base_name(path), path.rpartition("/")[0]
    match = _IMAGES_NAME.fullmatch(own)
    if not match:
        return None
    there = _beside(path, webhdfs)
    if not there:  # a server that lists nothing may have the official name all the same
        official = own.replace("images", "labels").replace("idx3", "idx1")
        there = [official] if files.exists(files.join(folder, official), webhdfs) else []
    labels = _labels_named(there, match)
    return files.join(folder, labels) if labels else None


def _note_labels(path: str, webhdfs: str | None) -> None:
    """Note the files beside images without labels that may hold them."""
    if likely := [name for name in _beside(path, webhdfs) if "label" in name.lower()]:
        note(
            f"{path}: no labels; {', '.join(likely[:3])} may hold them: give the images file, and it with --labels"
        )


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


def _labels_of(part: Part, webhdfs: str | None) -> Part:
    """Return a part with the form of its labels, after comparing the header of these with their number and size."""
    path = part.labels
    if path is None:
        return part
    magic, count = _read_header(path, webhdfs, ">2I", "labels")
    if magic not in LABEL_FORMS:
        raise TinyTagsError(f"{path}: begins with {magic}, not with {LABELS_MAGIC} as MNIST labels do")
    if count != part.images:
        raise TinyTagsError(f"{path}: {count:,} labels for the {part.images:,} images of {part.path}")
    size, in_rows = LABEL_FORMS[magic]
    columns = _read_header(path, webhdfs, ">3I", "labels")[2] if in_rows else 1
    if not 1 <= columns <= _MOST_COLUMNS:
        raise TinyTagsError(f"{path}: its header says {columns:,} numbers a label; fetch it again")
    begin = LABELS_HEADER + 4 * in_rows
    _check_size(path, begin + count * size * columns, f"{count:,} labels", webhdfs)
    return replace(part, label_header=begin, label_bytes=size, label_columns=columns)


def _label_range(part: Part, webhdfs: str | None) -> tuple[int, int]:
    """Return the lowest and the highest label. Raises `TinyTagsError` for one below 0."""
    low, high = 1 << 30, -1
    for first in range(0, part.images, 1 << 20):
        labels = _read_labels(part, first, min(first + (1 << 20), part.images), webhdfs)
        low, high = min(low, int(labels.min())), max(high, int(labels.max()))
    if low < 0:
        raise TinyTagsError(f"{part.labels}: label {low} is below 0")
    return low, high


def _check_labels(part: Part, classes: int, first_label: int, webhdfs: str | None) -> None:
    """Raise `TinyTagsError` that names the first label which no class has."""
    assert part.labels
    for first in range(0, part.images, 1 << 20):
        labels = _read_labels(part, first, min(first + (1 << 20), part.images), webhdfs)
        check_labels(labels.astype(np.int32) - first_label, classes, part.labels, first)


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
    packing = files.packing(path, webhdfs)
    if not packing:
        if size != wanted:
            raise TinyTagsError(
                f"{path}: {size:,} bytes, but its header says {what}, which take {wanted:,}; fetch it again"
            )
        return
    if packing == "gzip" and wanted > size * PACKED_RATIO:
        raise TinyTagsError(
            f"{path}: its header says {what}, {wanted:,} bytes, which {size:,} can't hold; fetch it again"
        )
    if wanted > PACKED_BYTES:
        raise TinyTagsError(f"{path}: unpacks to more than {PACKED_BYTES >> 20:,} MiB; unpack it first")
    with files.open_packed(path, webhdfs) as file:
        size = files.skip(file, wanted + 1)
    if size != wanted:
        more = "more than " if size > wanted else ""
        raise TinyTagsError(
            f"{path}: unpacks to {more}{min(size, wanted):,} bytes, but its header says {what}, which take {wanted:,}; fetch it again"
        )


@contextlib.contextmanager
def _open_idx(path: str, webhdfs: str | None, offset: int, length: int) -> Iterator[io.BufferedIOBase]:
    """Open ``path`` for reading ``length`` (unpacked) bytes from byte ``offset`` on; a compressed stream is read up to there."""
    if files.packing(path, webhdfs):
        with files.open_packed(path, webhdfs) as file:
            files.skip(file, offset)
            yield file
    else:
        with files.open_file(path, webhdfs, offset, length) as file:
            yield file


FORMAT = Format(
    name="mnist",
    example="mnist/",
    content="IDX files, also compressed (gzip, bzip2, xz): their folder, or one file of images",
    recognise=recognise,
    open=open_mnist,
    labels="the file of labels of one file of images",
    has_own=lambda classes, labels: classes == CLASSES,
    archive_folders=("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "raw"),  # as torchvision makes them
    usual_names=("mnist", "MNIST"),
)
