"""Reads the pixels of a partition as its Parquet file has them: checked, but not copied.

`ingest.partition.write_partition` always writes the same form of Parquet, in which the header of each page of pixels is known
but for its checksum. pyarrow takes 24 ms to read 20,000 images, longer than a forest takes to tag them,
and 17 of these for checksums; this takes 5. Pages of another form and damaged ones are left to pyarrow, which reads them or
reports what is wrong.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.image import IMAGE_BYTES

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_LENGTH = np.frombuffer(struct.pack("<I", IMAGE_BYTES), np.uint8)
_LONGEST_HEADER = 64
_STRIDE = len(_LENGTH) + IMAGE_BYTES


def read_pixels(
    source: "pyarrow.NativeFile", column: "pyarrow.parquet.ColumnChunkMetaData", images: int
) -> NDArray[np.uint8] | None:
    """Return the pixels of a row group of ``images``, (images, 3072) uint8, read-only, rows 3,076 bytes apart.

    ``source`` is the pyarrow file, ``column`` the footer's metadata of the group's pixels. None for any form but this one:
    PLAIN and not compressed, in one page with a correct checksum, none missing, each of 3,072 bytes.
    Source: https://parquet.apache.org/docs/file-format/ and parquet.thrift there; headers are in Thrift's compact protocol.
    """
    from isal import isal_zlib

    # Whether an image is there: a run of as many ones.
    run = _varint(images << 1) + b"\x01"
    present = struct.pack("<I", len(run)) + run
    size = len(present) + images * _STRIDE
    if not size < column.total_compressed_size < size + _LONGEST_HEADER:
        return None
    source.seek(column.data_page_offset)
    chunk = memoryview(source.read_buffer(column.total_compressed_size)).cast("B")
    page = chunk[len(chunk) - size :]
    if chunk[: len(chunk) - size] != _header(images, size, isal_zlib.crc32(page)):
        return None
    rows = np.frombuffer(page, np.uint8, offset=len(present)).reshape(images, _STRIDE)
    if page[: len(present)] != present or (rows[:, : len(_LENGTH)] != _LENGTH).any():
        return None
    return rows[:, len(_LENGTH) :]


def _header(images: int, size: int, checksum: int) -> bytes:
    """Return the PageHeader of a data page: type, size, compressed size, checksum, and the values' number, encodings and no statistics."""
    checksum -= (checksum >> 31) << 32  # a signed number
    plain, rle = 0, 3
    values = b"".join(map(_i32, (images, plain, rle, rle)))
    struct_follows, end = b"\x1c", b"\x00"
    page = b"".join(map(_i32, (0, size, size, checksum)))
    return page + struct_follows + values + struct_follows + end + end + end


def _i32(number: int) -> bytes:
    """Return the next field of a struct, a whole number: one on (1), of type i32 (5), zigzag."""
    return b"\x15" + _varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
