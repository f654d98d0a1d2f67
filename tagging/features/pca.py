"""The principal components of the pixels: the directions in which images differ most."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.image import IMAGE_BYTES
from tagging.features import EXTRA, Features, MissingExtraError, arrays, number_in
from tagging.types import Codes, Images

if TYPE_CHECKING:
    from storage.store import Store

FILE = "pca.npz"
COMPONENTS = 100
# The codes 0 and 255 stand for these percentiles of a component and what is beyond.
LOW, HIGH = 0.1, 99.9


class Pca(Features):
    """As many components as the name says, ``pca-50``; 100 by default."""

    fitted = True
    number = COMPONENTS

    def __init__(
        self,
        name: str,
        weights: npt.NDArray[np.int64],
        bias: npt.NDArray[np.int64],
        power: int,
        explained: float,
    ) -> None:
        super().__init__(name)
        # Whole numbers: a code is (pixels @ weights + bias) / 2**power, rounded, which is the same on every machine.
        self._weights, self._bias, self._power, self._explained = weights, bias, power, explained
        self._floats = weights.astype(np.float64), bias.astype(np.float64)
        self._hash = arrays.digest(name, self.version, weights, bias, power)

    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return len(self._bias)

    @property
    def hash(self) -> str:
        """As in `tagging.features.Features`."""
        return self._hash

    @property
    def facts(self) -> dict[str, Any]:
        """The share of the pixels' variance that the components have."""
        return {"variance_explained": self._explained}

    def codes(self, images: Images) -> Codes:
        """As in `tagging.features.Features`."""
        weights, bias = self._floats
        values = np.ldexp(images.astype(np.float64) @ weights + bias, -self._power)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def files(self) -> dict[str, bytes]:
        """As in `tagging.features.Features`."""
        about = {
            "format": "tinytags-pca",
            "name": self.name,
            "power": self._power,
            "explained": self._explained,
        }
        return {FILE: arrays.save(about, {"weights": self._weights, "bias": self._bias})}

    @classmethod
    def fit(cls, name: str, images: Callable[[], Images], seed: int) -> Self:
        """As in `tagging.features.Features`. Raises `TinyTagsError` for fewer images than components."""
        try:
            from sklearn.decomposition import PCA
        except ImportError:
            raise MissingExtraError(f"features {name!r} need scikit-learn: {EXTRA}", "scikit-learn") from None

        components = number_in(name, COMPONENTS, 1, IMAGE_BYTES)
        pixels = images()
        if len(pixels) <= components:
            raise TinyTagsError(
                f"features {name!r} need more than {components:,} images to be fitted to, and there are {len(pixels):,}; "
                "name fewer components, like pca-20"
            )
        pca = PCA(components, svd_solver="randomized", random_state=seed)
        values = pca.fit_transform(pixels.astype(np.float32))
        low, high = np.percentile(values, [LOW, HIGH], axis=0).astype(np.float64)
        scale = 255 / np.maximum(high - low, 1e-9)
        exact = pca.components_.T.astype(np.float64) * scale
        bias = -(pca.mean_.astype(np.float64) @ exact + low * scale)
        weights, power = arrays.whole(np.vstack([exact, bias / 255]), IMAGE_BYTES + 1)
        weights = weights[:-1]
        explained = math.floor(1e6 * float(pca.explained_variance_ratio_.sum())) / 1e6
        return cls(name, weights, np.rint(np.ldexp(bias, power)).astype(np.int64), power, explained)

    @classmethod
    def load(cls, name: str, store: "Store", folder: str) -> Self:
        """As in `tagging.features.Features`."""
        path = f"{folder}/{FILE}"
        about, kept = arrays.load(store, path, "tinytags-pca", {"weights": "i8", "bias": "i8"})
        try:
            weights, bias = kept["weights"], kept["bias"]
            if bias.ndim != 1 or weights.shape != (IMAGE_BYTES, len(bias)):
                raise ValueError("its arrays don't fit together")
            return cls(name, weights, bias, int(about["power"]), float(about["explained"]))
        except (KeyError, TypeError, ValueError) as error:
            raise arrays.damaged(store, path, error) from error
