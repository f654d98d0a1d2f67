"""What the files of CIFAR-10 and CIFAR-100 hold: the records of a batch, binary or Python, or the names of the classes."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.cifar_pickle import PickledArray, load_safely
from ingest.formats.dump import Batch, check_classes, check_labels
from ingest.image import IMAGE_BYTES

META_BYTES = 1 << 16
_PICKLE_BYTES = 256 << 20
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


def check_first_labels(layout: Layout, path: str, size: int, webhdfs: str | None = None) -> None:
    """Raise `TinyTagsError` where the first records of a binary batch of ``size`` bytes don't begin with labels."""
    head = files.read_range(path, 0, min(size, _SAMPLE * layout.record_bytes), webhdfs)
    _check_record_labels(layout, np.frombuffer(head, np.uint8).reshape(-1, layout.record_bytes), path, 0)


def _check_record_labels(layout: Layout, records: NDArray[np.uint8], where: str, first: int) -> None:
    for column, limit in enumerate(layout.label_limits):
        check_labels(records[:, column], limit, where, first)


def count_records(layout: Layout, size: int, where: str) -> int:
    """Return the number of records in a binary batch of ``size`` bytes. Raises `TinyTagsError` for a part of one."""
    images, rest = divmod(size, layout.record_bytes)
    if not rest and size:
        return images
    raise TinyTagsError(
        f"{where}: {size:,} bytes is not a whole number of {layout.record_bytes:,}-byte records; the last one starts at"
        f" byte {size - rest:,} (truncated copy?)"
    )


def read_records(
    layout: Layout,
    file: io.BufferedIOBase,
    where: str,
    first: int,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
) -> None:
    """Fill (n, 3072) ``images`` and (n,) ``labels`` from the records at the position of ``file``, number ``first`` of the batch."""
    done = 0
    for block in record_blocks(layout, file, where, first, len(images)):
        labels[done : done + _BLOCK] = block[:, layout.label]
        images[done : done + _BLOCK] = block[:, len(layout.label_limits) :]
        done += _BLOCK


def record_blocks(
    layout: Layout, file: io.BufferedIOBase, where: str, first: int, count: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``count`` records as (n, record bytes) uint8, each time in the same memory, with labels checked."""
    memory = np.empty((_BLOCK, layout.record_bytes), np.uint8)
    for done in range(0, count, _BLOCK):
        block = memory[: count - done]
        files.read_into(file, block, where)
        _check_record_labels(layout, block, where, first + done)
        yield block


def unpickle(layout: Layout, file: io.BufferedIOBase, size: int, where: str) -> Batch:
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


def read_meta(layout: Layout, data: bytes, binary: bool, where: str) -> list[str]:
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
    if size > _PICKLE_BYTES:
        raise TinyTagsError(
            f"{where}: has {size:,} bytes; the largest Python batch of CIFAR holds 155 million"
        )
    data = bytearray(size)
    files.read_into(file, data, where)
    return bytes(data)
