"""The 80 Million Tiny Images binary: no header, records of 3,072 bytes, planes R, G, B, each column-major (MATLAB's order).

Source of the format: the data set's own ``loadTinyImages.m``. The data set was withdrawn by its authors in 2020; the
format lives on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.cifar_10 import CLASSES
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows
from ingest.formats.format import Format, Match, Source
from ingest.image import IMAGE_BYTES, SIDE, from_column_major

UNKNOWN_LABEL = 255
# Records transposed at a time: these fit in the processor's first caches, and a batch fits in its last.
_BLOCK = 64
_BATCH_IMAGES = 2_048
_SAMPLE_RECORDS = 64
# The bytes of text in ASCII.
_TEXT = np.isin(np.arange(256), [*b"\t\n\r", *range(32, 127)])
_LEAST_CORRELATION = 0.05
_MOST_NOTED = 5


@dataclass(frozen=True, kw_only=True)
class TinyImages(FileDump):
    """A dump in this format, with its labels file where there is one."""

    format: ClassVar[str] = "tiny-images"

    def paths(self) -> list[str]:
        return [path for path in (self.path, self.labels) if path]

    @cached_property
    def identity(self) -> dict[str, Any]:
        identity = files.identity([self.path], self.webhdfs)
        if self.labels:
            identity["labels"] = files.identity([self.labels], self.webhdfs)
        return identity

    def read(self, start: int, stop: int) -> Batch:
        batches = list(self.read_batches(start, stop))
        images = [batch.images for batch in batches] or [np.empty((0, IMAGE_BYTES), np.uint8)]
        labels = [batch.labels for batch in batches] or [np.empty(0, np.int32)]
        return Batch(np.concatenate(images), np.concatenate(labels))

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the records from ``start`` to ``stop``, in HDFS by one request for all of them."""
        check_rows(self, start, stop)
        labels = self._read_labels(start, stop)
        block = np.empty((_BLOCK, IMAGE_BYTES), np.uint8)
        with files.open_file(
            self.path, self.webhdfs, start * IMAGE_BYTES, (stop - start) * IMAGE_BYTES
        ) as file:
            for first in range(0, stop - start, _BATCH_IMAGES):
                images = np.empty((min(_BATCH_IMAGES, stop - start - first), IMAGE_BYTES), np.uint8)
                for done in range(0, len(images), _BLOCK):
                    out = images[done : done + _BLOCK]
                    files.read_into(file, block[: len(out)], self.path)
                    from_column_major(block[: len(out)], out)
                yield Batch(images, labels[first : first + len(images)])

    def _read_labels(self, start: int, stop: int) -> NDArray[np.int32]:
        if not self.labels:
            return np.full(stop - start, -1, np.int32)
        known = np.frombuffer(files.read_range(self.labels, start, stop - start, self.webhdfs), np.uint8)
        labels = np.where(known == UNKNOWN_LABEL, -1, known.astype(np.int32))
        check_labels(labels, len(self.classes or CLASSES), self.labels, start)
        return labels


def open_tiny_images(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> TinyImages:
    """Open the dump ``path``, and ``labels``, a file of one byte a record (255: no label).

    ``classes`` are the labels' names, by default CIFAR-10's. Raises `TinyTagsError` for a size
    that is no whole number of records, and for labels that are not one a record or out of range.
    """
    size = files.file_status(path, webhdfs).size
    images, rest = divmod(size, IMAGE_BYTES)
    if rest:
        raise TinyTagsError(
            f"{path}: {size:,} bytes is not a whole number of {IMAGE_BYTES:,}-byte records; the last one starts at"
            f" byte {size - rest:,} (truncated copy?)"
        )
    if not labels:
        if classes:
            raise TinyTagsError(f"{path}: classes are given, but no labels; give the file of labels too")
        _note_labels(path, images)
        return TinyImages(path=path, images=images, webhdfs=webhdfs)
    labels = files.absolute(labels)
    classes = check_classes(classes) or CLASSES
    count = files.file_status(labels, webhdfs).size
    if count != images:
        raise TinyTagsError(
            f"{labels}: {count:,} bytes for the {images:,} records of {path}; labels are one byte a record"
        )
    dump = TinyImages(path=path, images=images, classes=classes, labels=labels, webhdfs=webhdfs)
    for start in range(0, images, 1 << 22):
        dump._read_labels(start, min(start + (1 << 22), images))
    return dump


def _note_labels(path: str, images: int) -> None:
    """Note the files beside a local dump that may be its labels: those with "label" in their name."""
    if not files.is_local(path):
        return
    folder = path.rpartition("/")[0] or "/"
    beside = [entry for entry in files.list_dir(folder) if "label" in entry.name.lower() and not entry.is_dir]
    for entry in beside[:_MOST_NOTED]:
        at = files.join(folder, entry.name)
        how = (
            f"--labels {at} takes it"
            if entry.size == images
            else "--labels takes a file of one byte a record"
        )
        note(f"{path}: {entry.name} may hold labels and is not used: {how}")


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    named = "tiny" in source.name
    if source.is_dir or not source.size or source.size % IMAGE_BYTES:
        return Match.NAME if named and not source.is_dir else Match.NO
    if not named:
        return Match.SIZE if _may_be_pictures(_sample(source), natural=True) else Match.NO
    try:
        pictures = _may_be_pictures(_sample(source), natural=False)
    except TinyTagsError:  # of a server that gives no parts of a file
        pictures = True
    return Match.CONTENT if pictures else Match.NAME


def _sample(source: Source) -> NDArray[np.uint8]:
    """Return some records (n, 3072) uint8, evenly spread."""
    last = source.size // IMAGE_BYTES - 1
    records = sorted({last * step // (_SAMPLE_RECORDS - 1) for step in range(_SAMPLE_RECORDS)})
    data = b"".join(source.read(record * IMAGE_BYTES, IMAGE_BYTES) for record in records)
    return np.frombuffer(data, np.uint8).reshape(len(records), IMAGE_BYTES)


def _may_be_pictures(records: NDArray[np.uint8], natural: bool) -> bool:
    """Return whether records may be pictures: most are not all black or white, and not all of them are text.

    Where they have to look ``natural``, pixels are also like those above them: measured on 64 records, of CIFAR-10's images the
    correlation is 0.93, of random bytes 0.0003.
    """
    filled = (records.max(axis=1) == 0) | (records.min(axis=1) == 255)
    if 2 * np.count_nonzero(filled) > len(records) or _TEXT[records].all():
        return False
    if not natural:
        return True
    columns = records.reshape(-1, 3, SIDE, SIDE).astype(np.float64)
    above, below = columns[..., :-1].ravel(), columns[..., 1:].ravel()
    above, below = above - above.mean(), below - below.mean()
    scale = float(np.sqrt((above**2).sum() * (below**2).sum()))
    return scale > 0 and float((above * below).sum()) / scale > _LEAST_CORRELATION


FORMAT = Format(
    name="tiny-images",
    example="tiny_images.bin",
    content="3,072-byte records: R, G, B planes of 32x32, each column-major",
    recognise=recognise,
    open=open_tiny_images,
    labels="a file of one byte a record, 255 for no label",
    has_own=lambda classes, labels: False,
    usual_names=("tiny_images.bin",),
    record_bytes=IMAGE_BYTES,
)
