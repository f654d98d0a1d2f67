"""Files of named arrays, for features and models that are fitted, and sums that are the same on every machine."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import first_line

if TYPE_CHECKING:
    from storage.store import Store

# Sums of whole numbers below this are exact in float64, in any order.
EXACT = 2**53


def save(about: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return an .npz file without pickles; equal contents give equal bytes."""
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    named: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    np.savez(file, about=text, **named)
    return file.getvalue()


def load(
    store: "Store", path: str, format: str, types: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what `save` wrote, ``about`` and arrays of these ``types``. Raises `TinyTagsError` for any other file.

    No pickle is loaded.
    """
    data = store.read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                raise ValueError("its arrays are compressed")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in types}
        if about["format"] != format:
            raise ValueError(f"it is {about['format']!r}, not {format!r}")
        for name, kind in types.items():
            array = arrays[name]
            if array.dtype != np.dtype(kind) or not np.isfinite(array).all():
                raise ValueError(f"{name!r} is not all finite numbers of type {kind}")
        return about, arrays
    except Exception as error:  # a zip of arrays can be broken in more ways than its readers document
        raise damaged(store, path, error) from error


def damaged(store: "Store", path: str, error: Exception) -> TinyTagsError:
    """Return the error for a file of a model that isn't as it was written."""
    reason = first_line(error)
    return TinyTagsError(f"{store.url(path)}: {reason}; train or copy the model again")


def digest(*parts: Any) -> str:
    """Return the sha256 of arrays and of values that JSON has."""
    result = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            result.update(json.dumps([part.dtype.str, part.shape]).encode())
            result.update(np.ascontiguousarray(part).tobytes())
        else:
            result.update(json.dumps(part, sort_keys=True).encode())
    return result.hexdigest()


def whole(weights: npt.NDArray[np.float64], inputs: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return ``weights`` (k, m) as whole numbers and the power of two that they were multiplied by.

    As large as they may be so that sums of their products with up to ``inputs`` uint8 each are exact in float64.
    """
    most = float(np.abs(weights).max()) or 1.0
    power = int(np.floor(np.log2(EXACT / 4 / 255 / inputs / most)))
    return np.rint(np.ldexp(weights, power)).astype(np.int64), power
