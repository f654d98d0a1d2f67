"""JSON with a checksum of itself: a changed byte is an error where the file is read, not a wrong result."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# The last line of a file is the sha256 of the bytes before it. A damaged byte can't hide both marks of that line.
_MARKS = (b'"checksum"', b'"sha256:')
_START, _END = b'\n "checksum": "sha256:', b'"\n}\n'
_LINE_BYTES = len(_START) + 64 + len(_END)
# The same of a file of JSON lines, on a line of its own.
_LAST_START, _LAST_END = b'{"checksum":"sha256:', b'"}\n'
_LAST_BYTES = len(_LAST_START) + 64 + len(_LAST_END)


class DamagedError(ValueError):
    """JSON that isn't as it was written, or no JSON object at all."""


def encode(value: Mapping[str, Any]) -> bytes:
    """Return ``value`` as a JSON object with its checksum: UTF-8, one line a key, a newline at the end."""
    contents = json.dumps(value, indent=1, ensure_ascii=False).encode().removesuffix(b"}").removesuffix(b"\n")
    if value:
        contents += b","
    return b"".join((contents, _START, hashlib.sha256(contents).hexdigest().encode(), _END))


def decode(data: bytes) -> tuple[dict[str, Any], bool]:
    """Return the object in ``data``, without its checksum, and whether it has one: version 0.1 wrote none.

    Raises `DamagedError` where the checksum differs, and for anything but a JSON object.
    """
    checked = has_checksum(data)
    if checked:
        contents, last = data[:-_LINE_BYTES], data[-_LINE_BYTES:]
        if last != b"".join((_START, hashlib.sha256(contents).hexdigest().encode(), _END)):
            raise DamagedError("is not as it was written (its checksum differs)")
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DamagedError(f"is not JSON ({error}); was it edited by hand?") from None
    if not isinstance(value, dict):
        raise DamagedError("holds JSON, but not an object; was it edited by hand?")
    if checked:
        del value["checksum"]
    return value, checked


def encode_lines(lines: bytes) -> bytes:
    """Return JSON lines with their checksum on a last line."""
    return b"".join((lines, _LAST_START, hashlib.sha256(lines).hexdigest().encode(), _LAST_END))


def decode_lines(data: bytes) -> tuple[list[bytes], bool]:
    """Return the lines that `encode_lines` was given, without their ends, and whether there is a checksum: earlier versions wrote none.

    Raises `DamagedError` where the checksum differs, or the last line is cut off.
    """
    lines, last = data[:-_LAST_BYTES], data[-_LAST_BYTES:]
    if not any(mark in last for mark in _MARKS):
        if data and not data.endswith(b"\n"):
            raise DamagedError("is cut off")
        return data.splitlines(), False
    if data != encode_lines(lines):
        raise DamagedError("is not as it was written (its checksum differs)")
    return lines.splitlines(), True


def has_checksum(data: bytes) -> bool:
    """Return whether ``data`` was written with a checksum, be it right or wrong."""
    last = data[-_LINE_BYTES:]
    return any(mark in last for mark in _MARKS)
