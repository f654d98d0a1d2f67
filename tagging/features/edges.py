"""Edges and corners of images: the gradients of Sobel and of Roberts, and the corners of Harris.

The formulas are those of scikit-image (``skimage.filters.sobel``, ``roberts``, ``skimage.feature.corner_harris``), which takes one image at a time;
here many are taken at once, which is several times as fast. Tests compare the two.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.image import IMAGE_BYTES, SIDE
from tagging.features import EXTRA, Features, MissingExtraError
from tagging.types import Codes, Images

BLOCK = 64
# Harris: the weight of the trace, and the width of the window in pixels.
K, SIGMA = 0.05, 1.0
# The fourth root of the response is 0 to 90 for pixels 0-255: noise gives 10, a strong corner 60.
HARRIS_STEPS = 2.0


class _Planes(Features):
    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return IMAGE_BYTES

    def codes(self, images: Images) -> Codes:
        """As in `tagging.features.Features`."""
        codes = np.empty((len(images), self.length), np.uint8)
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK]
            planes = block.reshape(len(block), 3, SIDE, SIDE)
            codes[start : start + BLOCK] = self._of(planes).reshape(len(block), -1)
        return codes

    def _of(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the codes of planes (n, 3, 32, 32)."""
        raise NotImplementedError


class Sobel(_Planes):
    """The length of Sobel's gradient in each plane, 0 to 255."""

    def _of(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)), "symmetric").astype(np.int32)
        across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        down = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
        right = across[..., 2:] - across[..., :-2]
        below = down[:, :, 2:] - down[:, :, :-2]
        # scikit-image divides both by 4 and their length by the root of 2: at most 255.
        codes: npt.NDArray[Any] = np.rint(np.sqrt((right * right + below * below) / 32))
        return codes


class Roberts(_Planes):
    """The length of Roberts' cross gradient in each plane, 0 to 255."""

    def _of(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        padded = np.pad(planes, ((0, 0), (0, 0), (0, 1), (0, 1)), "symmetric").astype(np.int32)
        falling = padded[:, :, 1:, 1:] - padded[:, :, :-1, :-1]
        rising = padded[:, :, :-1, 1:] - padded[:, :, 1:, :-1]
        codes: npt.NDArray[Any] = np.rint(np.sqrt((falling * falling + rising * rising) / 2))
        return codes


class Harris(_Planes):
    """How much of a corner (128 to 255) or an edge (0 to 128) each pixel is, in the grey image."""

    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return SIDE * SIDE

    def _of(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        response = harris(planes.mean(axis=1))
        signed = np.copysign(np.abs(response) ** 0.25, response)
        codes: npt.NDArray[Any] = np.clip(128 + np.rint(HARRIS_STEPS * signed), 0, 255)
        return codes


def harris(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the response (n, 32, 32) of Harris' detector for grey images (n, 32, 32), 0 to 255.

    Source: Harris and Stephens (1988): det(A) - k trace(A)**2, A the products of the derivatives, averaged over a window.
    """
    try:
        from scipy import ndimage
    except ImportError:
        raise MissingExtraError(f"features 'harris' need SciPy: {EXTRA}", "scipy") from None

    down, right = (_sobel(grey, axis) for axis in (1, 2))
    averaged = [
        ndimage.gaussian_filter(product, (0, SIGMA, SIGMA), mode="constant")
        for product in (down * down, down * right, right * right)
    ]
    determinant = averaged[0] * averaged[2] - averaged[1] ** 2
    result: npt.NDArray[np.float64] = determinant - K * (averaged[0] + averaged[2]) ** 2
    return result


def _sobel(grey: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    from scipy import ndimage

    smooth = ndimage.correlate1d(grey, [0.25, 0.5, 0.25], 3 - axis, mode="constant")
    result: npt.NDArray[np.float64] = ndimage.correlate1d(smooth, [-0.5, 0, 0.5], axis, mode="constant")
    return result
