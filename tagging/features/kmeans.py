"""Features of patches, learnt without labels: how near the patches of each quarter of an image are to 400 typical ones.

Source: Coates, Ng and Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS 2011): patches of 6x6 pixels,
normalized and whitened, the triangle activation, and sums over four quarters.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.image import SIDE
from tagging.features import EXTRA, Features, MissingExtraError, arrays, number_in
from tagging.types import Codes, Images

if TYPE_CHECKING:
    from storage.store import Store

Floats = npt.NDArray[np.float32]

FILE = "kmeans.npz"
CENTRES = 400
PATCH = 6
PLACES = SIDE - PATCH + 1  # of a patch, each way
VALUES = 3 * PATCH * PATCH
# Added to the variance of a patch, and to those of the components in whitening; as in the paper.
CONTRAST, WHITENING = 10.0, 0.1
PATCHES_EACH = 20  # patches of an image that centres are fitted to: of 10,000 images 200,000
# The code 255 stands for this percentile of a feature over the images that it is fitted to, and what is above.
HIGH = 99.9
SCALE_IMAGES = 1_000


class KMeans(Features):
    """Four times as many numbers as the name says, ``kmeans-200``; 4 x 400 by default."""

    fitted = True
    number = CENTRES

    def __init__(self, name: str, mean: Floats, whitening: Floats, centres: Floats, scale: Floats) -> None:
        super().__init__(name)
        self._arrays = {"mean": mean, "whitening": whitening, "centres": centres, "scale": scale}
        self._squares = (centres * centres).sum(axis=1)
        self._hash = arrays.digest(name, self.version, mean, whitening, centres, scale)

    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return len(self._arrays["scale"])

    @property
    def hash(self) -> str:
        """As in `tagging.features.Features`."""
        return self._hash

    def codes(self, images: Images) -> Codes:
        """As in `tagging.features.Features`."""
        values = self._values(images) * self._arrays["scale"]
        codes: Codes = np.minimum(np.rint(values), 255).astype(np.uint8)
        return codes

    def _values(self, images: Images) -> Floats:
        """Return the features (n, 4 * centres) before they are rounded.

        An image at a time: so its numbers don't depend on others, and its patches stay in the processor's cache.
        """
        mean, whitening, centres, _ = self._arrays.values()
        values = np.empty((len(images), 4 * len(centres)), np.float32)
        half = PLACES // 2
        for image, row in zip(images, values, strict=True):
            patches = (_normalized(_patches(image)) - mean) @ whitening
            # In place: each of these arrays is 729 x 400 numbers.
            near = patches @ centres.T
            near *= -2
            near += (patches * patches).sum(axis=1, keepdims=True)
            near += self._squares
            np.sqrt(np.maximum(near, 0, out=near), out=near)
            np.subtract(near.mean(axis=1, keepdims=True), near, out=near)
            near = np.maximum(near, 0, out=near).reshape(PLACES, PLACES, -1)
            halves = near[:half].sum(axis=0), near[half:].sum(axis=0)
            row[:] = np.concatenate([part.sum(axis=0) for h in halves for part in (h[:half], h[half:])])
        return values

    def files(self) -> dict[str, bytes]:
        """As in `tagging.features.Features`."""
        return {FILE: arrays.save({"format": "tinytags-kmeans", "name": self.name}, self._arrays)}

    @classmethod
    def fit(cls, name: str, images: Callable[[], Images], seed: int) -> Self:
        """As in `tagging.features.Features`. Raises `TinyTagsError` for fewer images than centres."""
        try:
            from sklearn.cluster import MiniBatchKMeans
        except ImportError:
            raise MissingExtraError(f"features {name!r} need scikit-learn: {EXTRA}", "scikit-learn") from None

        count = number_in(name, CENTRES, 2, 4_000)
        pixels = images()
        if len(pixels) < count:
            raise TinyTagsError(
                f"features {name!r} need {count:,} images or more to be fitted to, and there are {len(pixels):,}; name fewer "
                "centres, like kmeans-50"
            )
        chance = np.random.default_rng(seed)
        drawn = [chance.choice(PLACES * PLACES, PATCHES_EACH, replace=False) for _ in pixels]
        chosen = [_patches(image)[places] for image, places in zip(pixels, drawn, strict=True)]
        patches = _normalized(np.concatenate(chosen))
        mean = patches.mean(axis=0)
        variances, directions = np.linalg.eigh(np.cov(patches - mean, rowvar=False).astype(np.float64))
        whitening = (directions / np.sqrt(variances + WHITENING)) @ directions.T
        patches = (patches - mean) @ whitening.astype(np.float32)
        fitted = MiniBatchKMeans(count, batch_size=10_000, n_init=1, max_iter=20, random_state=seed).fit(
            patches
        )
        mean, whitening, centres = (
            array.astype(np.float32) for array in (mean, whitening, fitted.cluster_centers_)
        )
        raw = cls(name, mean, whitening, centres, np.ones(4 * count, np.float32))
        high = np.percentile(raw._values(pixels[:SCALE_IMAGES]), HIGH, axis=0)
        return cls(name, mean, whitening, centres, (255 / np.maximum(high, 1e-6)).astype(np.float32))

    @classmethod
    def load(cls, name: str, store: "Store", folder: str) -> Self:
        """As in `tagging.features.Features`."""
        path = f"{folder}/{FILE}"
        kinds = dict.fromkeys(("mean", "whitening", "centres", "scale"), "f4")
        _, kept = arrays.load(store, path, "tinytags-kmeans", kinds)
        count = len(kept["centres"])
        shapes: dict[str, Any] = {name: array.shape for name, array in kept.items()}
        if shapes != {
            "mean": (VALUES,),
            "whitening": (VALUES, VALUES),
            "centres": (count, VALUES),
            "scale": (4 * count,),
        }:
            raise arrays.damaged(store, path, ValueError("its arrays don't fit together"))
        return cls(name, **kept)


def _patches(image: npt.NDArray[np.uint8]) -> Floats:
    """Return all patches (729, 108) of an image (3072,)."""
    planes = image.reshape(3, SIDE, SIDE)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (PATCH, PATCH), axis=(1, 2))
    return windows.transpose(1, 2, 0, 3, 4).reshape(PLACES * PLACES, VALUES).astype(np.float32)


def _normalized(patches: Floats) -> Floats:
    result: Floats = (patches - patches.mean(axis=1, keepdims=True)) / np.sqrt(
        patches.var(axis=1, keepdims=True) + np.float32(CONTRAST)
    )
    return result
