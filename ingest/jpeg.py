"""What the markers of a JPEG say: whether it comes in several scans, and whether one that is cut off still has all its pixels.

Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B; of scans that refine others, annex G.
"""

from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\xff\xd8"
_FRAMES = {0xC0 + kind for kind in range(16)} - {0xC4, 0xC8, 0xCC}  # these are tables and an extension
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN, _PADDING = 0xDA, 0xFF
_COMPONENTS = 5  # where a frame has their number, after precision, height and width
_END = b"\xff\xd9"
_RESTARTS = range(0xD0, 0xD8)
_COEFFICIENTS = 64
# Any bits that are no marker; a decoder that still needs some makes other pixels of them than of none.
_NOISE = bytes(range(0x93, 0xF3, 5)) * 20


def has_several_scans(file: BinaryIO) -> bool:
    """Return whether ``file`` is a JPEG of several scans, progressive or not, from its headers; its position is then 0.

    The decoder of such a one keeps all its coefficients in memory.
    """
    file.seek(0)
    several, components = False, 0
    if file.read(2) == SIGNATURE:
        while (marker := file.read(2)) and marker[0] == _PADDING and len(marker) == 2:
            kind = marker[1]
            if kind == _PADDING:
                file.seek(-1, 1)
                continue
            length = int.from_bytes(file.read(2))
            if kind == _SCAN:
                several = several or file.read(1) < bytes([components])
                break
            data = file.read(max(length - 2, 0)) if kind in _FRAMES else b""
            if kind in _FRAMES:
                several = several or kind in _PROGRESSIVE
                components = data[_COMPONENTS] if len(data) > _COMPONENTS else 0
            else:
                file.seek(max(length - 2, 0), 1)
    file.seek(0)
    return several


def completions(data: bytes) -> tuple[bytes, bytes] | None:
    """Return a JPEG without its end marker with two different ends; None for another file, and where scans are missing.

    Where both are decoded to the same pixels, all of these are in the file: the decoder needed nothing of what follows.
    The second end has noise, and each restart marker before noise, so that whatever part is missing is decoded from it.
    """
    if data[:2] != SIGNATURE or data.endswith(_END) or not _has_all_scans(data):
        return None
    filled = data.rstrip(b"\0")  # some programs fill up what they could not fetch
    if filled.endswith(b"\xff") and len(filled) < len(data):
        data = filled + b"\0"  # a byte of pixels: 255 is written as these two
    else:
        data = filled.rstrip(b"\xff")  # the first half of a marker
    noise = _NOISE + b"".join(bytes([_PADDING, restart]) + _NOISE for restart in _RESTARTS)
    return data + _END, data + noise + _END


def _has_all_scans(data: bytes) -> bool:
    """Return whether the scans of a JPEG have all bits of each coefficient of each component."""
    left: set[tuple[int, int]] = set()
    seen = False
    for kind, content in _segments(data):
        if kind in _FRAMES and len(content) > _COMPONENTS:
            components = content[_COMPONENTS + 1 :: 3][: content[_COMPONENTS]]
            left = {(component, place) for component in components for place in range(_COEFFICIENTS)}
            seen = True
        elif kind == _SCAN and len(content) >= 4:
            count = content[0]
            first, last, bits = content[-3:]
            if not bits & 0x0F:  # the lowest bit that the scan has
                left -= {
                    (component, place)
                    for component in content[1 : 1 + 2 * count : 2]
                    for place in range(first, last + 1)
                }
    return seen and not left


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker of a JPEG with the data after it, up to the first that is cut off."""
    at = len(SIGNATURE)
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        kind = data[at + 1]
        if kind == _PADDING:
            at += 1
            continue
        at += 2
        if not kind or kind in _RESTARTS:  # a byte of pixels, or a marker without data among these
            continue
        length = int.from_bytes(data[at : at + 2])
        if at + length > len(data) or length < 2:
            return
        yield kind, data[at + 2 : at + length]
        at += length
