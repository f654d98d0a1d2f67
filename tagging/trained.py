"""The images that a model was trained on, as hashes beside its card: what it must not be measured on."""

import functools
import hashlib
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from storage import layout
from storage.store import DamagedFileError, FileMissingError, Store
from tagging.types import Images

Hashes = npt.NDArray[np.uint64]


def hash_images(images: Images) -> Hashes:
    """Return (n,), the first 8 bytes of the sha256 of each of ``images`` (n, 3072) uint8.

    Of a million images two different ones share a hash with a probability of 3 in 100 million.
    """
    data = b"".join(hashlib.sha256(image).digest()[:8] for image in np.ascontiguousarray(images))
    return np.frombuffer(data, "<u8").astype(np.uint64)


def hash_blocks(blocks: Iterable[Images]) -> Hashes:
    """Return the distinct hashes of all images in ``blocks``, ascending: 8 bytes an image."""
    return np.unique(np.concatenate([np.empty(0, np.uint64), *map(hash_images, blocks)]))


def are_among(images: Images, trained: Hashes) -> npt.NDArray[np.bool_]:
    """Return (n,) bool, which of ``images`` (n, 3072) have a hash in ``trained``, ascending."""
    return are_hashes_among(hash_images(images), trained) if len(trained) else np.zeros(len(images), bool)


def are_hashes_among(hashes: Hashes, trained: Hashes) -> npt.NDArray[np.bool_]:
    """Return (n,) bool, which of ``hashes`` (n,) of `hash_images` are in ``trained``, ascending."""
    if not len(trained):
        return np.zeros(len(hashes), bool)
    places = np.minimum(np.searchsorted(trained, hashes), len(trained) - 1)
    return np.asarray(trained[places] == hashes)


def write_trained(store: Store, name: str, trained: Hashes) -> dict[str, Any]:
    """Write the hashes of a model's training images; return what its card has of them."""
    file = io.BytesIO()
    np.save(file, trained.astype("<u8"))
    store.write_bytes(layout.model_trained(name), file.getvalue())
    return {"images": len(trained), "sha256": hashlib.sha256(file.getvalue()).hexdigest()}


def read_trained(store: Store, card: dict[str, Any]) -> Hashes | None:
    """Return the hashes of the images that a card's model was trained on, ascending; None for a card without them.

    Raises `DamagedFileError` where the file is missing or not that of the card.
    """
    about = card.get("trained_images")
    return _read_once(store, str(card["name"]), about["sha256"]) if isinstance(about, dict) else None


@functools.lru_cache(maxsize=2)  # once a worker
def _read_once(store: Store, name: str, digest: str) -> Hashes:
    path = layout.model_trained(name)
    try:
        data = store.read_bytes(path)
    except FileMissingError:
        data = b""
    if hashlib.sha256(data).hexdigest() != digest:
        problem = "is not as it was written" if data else "is missing"
        raise DamagedFileError(
            f"{store.url(path)}: {problem}: it says what the model was trained on; copy it again with the card, or train the "
            "model again",
            path,
        )
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.uint64)
