"""The chunks of a PNG that decide its pixels: their checksums decide whether a file is sound, not those of its metadata.

Source: https://www.w3.org/TR/png-3/. Pillow checks the chunks before the pixels, so that a bad colour profile or a bad text
makes it refuse a picture, but not those of the pixels themselves.
"""

import io
import struct
import zlib
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_LENGTH = struct.Struct(">I4s")
_TRANSPARENCY, _ORIENTATION = b"tRNS", b"eXIf"


class DamagedPngError(ValueError):
    """A chunk that decides pixels has a wrong checksum or is cut off; the message ends a sentence about the file."""


def is_png(file: BinaryIO) -> bool:
    """Return whether ``file`` begins as a PNG does; its position is then 0."""
    head = file.read(len(SIGNATURE))
    file.seek(0)
    return head == SIGNATURE


def read_pixel_chunks(file: BinaryIO, most_bytes: int) -> io.BytesIO:
    """Return a PNG without its metadata but for the orientation; of an animated one the first frame.

    Raises `DamagedPngError` where a chunk of pixels, colours or transparency has a wrong checksum or is cut off, and where
    these are more than ``most_bytes``.
    """
    file.seek(len(SIGNATURE))
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    while len(header := file.read(_LENGTH.size)) == _LENGTH.size:
        length, kind = _LENGTH.unpack(header)
        critical = not kind[0] & 0x20  # a capital letter: needed for the pixels
        if not critical and kind not in (_TRANSPARENCY, _ORIENTATION):
            file.seek(length + 4, io.SEEK_CUR)
            continue
        if kept.tell() + length > most_bytes:
            raise DamagedPngError(f"its pixels have more than {most_bytes:,} bytes")
        data = file.read(length + 4)
        if len(data) < length + 4 or zlib.crc32(kind + data[:-4]) != int.from_bytes(data[-4:]):
            if kind == _ORIENTATION:
                continue
            problem = "is cut off" if len(data) < length + 4 else "has a wrong checksum"
            raise DamagedPngError(f"chunk {kind.decode('latin-1')!r} {problem}")
        kept.write(header + data)
        if kind == b"IEND":
            break
    else:
        kept.write(_END)
    kept.seek(0)
    return kept
