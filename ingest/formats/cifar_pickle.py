"""Reads the pickles of CIFAR, which Python 2 wrote, without running any code that they name."""

import io
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError


def load_safely(data: bytes, where: str) -> object:
    """Return what a pickle that Python 2 wrote holds: plain values and numpy arrays as `PickledArray`.

    Only the three names that the official files need are allowed, and each stands for an object of this module that only
    stores its arguments: no code that a pickle names is ever called. Raises `TinyTagsError` with any other name.
    """

    def reconstruct(kind: object, shape: object, code: object) -> PickledArray:
        return PickledArray()

    def dtype(code: object, align: object = 0, copy: object = 1) -> _PickledDtype:
        return _PickledDtype(code)

    known = {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): object(),
        ("numpy", "dtype"): dtype,
    }

    # The Python implementation: the C one allocates memory for whatever memo index a pickle of a few bytes names.
    class Unpickler(pickle._Unpickler):
        # Without BYTEARRAY8, which Python 2 could not write, and which allocates as much memory as it names.
        dispatch: ClassVar = {
            code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
        }

        def find_class(self, module: str, name: str) -> object:
            if (module, name) in known:
                return known[module, name]
            hint = ""
            if (module, name) == ("_codecs", "encode"):
                hint = " (a copy that Python 3 wrote; take the official files, or the binary form)"
            raise TinyTagsError(
                f"{where}: the pickle names {module}.{name}, which CIFAR's don't{hint}; refused"
            )

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

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_numpy(self, where: str) -> NDArray[np.uint8]:
        """Return the (read-only) array; raises `TinyTagsError` for anything but whole uint8 data."""
        match getattr(self, "state", None):
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
