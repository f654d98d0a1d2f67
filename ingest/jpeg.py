"""Whether a decoder of a JPEG keeps all its coefficients in memory, which it does where the picture comes in several scans.

Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.
"""

from typing import BinaryIO

_FRAMES = {0xC0 + kind for kind in range(16)} - {0xC4, 0xC8, 0xCC}  # these are tables and an extension
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN, _PADDING = 0xDA, 0xFF
_COMPONENTS = 5  # where a frame has their number, after precision, height and width


def has_several_scans(file: BinaryIO) -> bool:
    """Return whether ``file`` is a JPEG of several scans, progressive or not, from its headers; its position is then 0."""
    file.seek(0)
    several, components = False, 0
    if file.read(2) == b"\xff\xd8":
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
