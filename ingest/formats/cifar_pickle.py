"""Reads the pickles of CIFAR, which Python 2 wrote, and copies by Python 3, without running any code that they name."""

import io
import pickle
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError


def load_safely(data: bytes, where: str) -> object:
    """Return what a pickle holds: plain values and numpy arrays as `PickledArray`.

    Only the names that the official files and copies by Python 3 (protocols 2 to 5, any numpy) need are allowed, and each
    stands for an object of this module that only stores its arguments: no code that a pickle names is ever called. Raises
    `TinyTagsError` with any other name.
    """

    def reconstruct(kind: object, shape: object, code: object) -> PickledArray:
        return PickledArray()

    def dtype(code: object, align: object = 0, copy: object = 1) -> _PickledDtype:
        return _PickledDtype(code)

    def from_buffer(data: object, code: object, shape: object, order: object) -> PickledArray:
        array = PickledArray()
        array.state = (1, shape, code, order == "F", data)
        return array

    def latin_1(text: object, encoding: object) -> bytes:
        """What protocol 2 has for bytes, as Python 3 writes them."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError(f"bytes encoded as {encoding!r}")
        return text.encode("latin-1")

    known: dict[tuple[str, str], object] = {
        ("numpy", "ndarray"): object(),
        ("numpy", "dtype"): dtype,
        ("_codecs", "encode"): latin_1,
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = reconstruct
        known[f"{core}.numeric", "_frombuffer"] = from_buffer

    # The Python implementation: the C one allocates memory for whatever memo index a pickle of a few bytes names.
    class Unpickler(pickle._Unpickler):
        dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

        def load_bytearray8(self: Any) -> None:
            """As the original, which allocates as much memory as the pickle names before it reads."""
            (length,) = struct.unpack("<Q", self.read(8))
            if length > len(data):
                raise ValueError(f"a byte array of {length:,} bytes")
            self.append(bytes(self.read(length)))

        dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

        def load_frame(self: Any) -> None:
            """Leave frames alone, which only prefetch: what is in them would not be counted."""
            self.read(8)

        dispatch[pickle.FRAME[0]] = load_frame

        def find_class(self, module: str, name: str) -> object:
            if (module, name) in known:
                return known[module, name]
            raise TinyTagsError(f"{where}: the pickle names {module}.{name}, which CIFAR's don't; refused")

    try:
        return Unpickler(_CountedBytes(data), encoding="bytes").load()
    except TinyTagsError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise TinyTagsError(
            " ".join(f"{where}: is no pickle that can be read ({reason}); fetch it again".split())
        ) from None


class PickledArray:
    """What a pickle contains for a numpy array, unchecked."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_numpy(self, where: str) -> NDArray[np.uint8]:
        """Return the (read-only) array; raises `TinyTagsError` for anything but whole uint8 data."""
        match self.state:
            case (
                int(),
                (int() as rows, int() as columns),
                _PickledDtype(code=b"u1" | "u1"),
                fortran,
                bytes(data),
            ):
                if rows > 0 and columns > 0 and rows * columns == len(data):
                    pixels = np.frombuffer(data, np.uint8)
                    if fortran:
                        return np.ascontiguousarray(pixels.reshape(columns, rows).T)
                    return pixels.reshape(rows, columns)
        raise TinyTagsError(f"{where}: the array under b'data' isn't two-dimensional uint8, as CIFAR's is")


@dataclass
class _PickledDtype:
    code: object

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which mean nothing for bytes."""


class _CountedBytes(io.BytesIO):
    """Bytes of a pickle with a limited number of reads: a pickle of nothing but opening brackets would fill the memory.

    A batch takes 10 to 15 reads for the 3,072 bytes of an image; 30 are allowed.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = 10_000 + len(data) // 100

    def read(self, size: int | None = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ValueError("more values than a batch has")
        return super().read(size)
