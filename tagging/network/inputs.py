"""What networks from elsewhere take as input, and how a canonical image becomes that."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.wording import listed
from ingest.image import SIDE
from tagging.network import NetworkError

# What a pixel 0-255 of R, G and B becomes: (pixel - minus) / by. Those of Keras' applications and of torchvision.
SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0-255": ((0, 0, 0), (1, 1, 1)),
    "0-1": ((0, 0, 0), (255, 255, 255)),
    "-1-1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "imagenet-mean": ((123.68, 116.779, 103.939), (1, 1, 1)),
}
LAYOUTS = ("nhwc", "nchw")
ORDERS = ("rgb", "bgr")
# ITU-R BT.601, as Pillow and OpenCV make grey pictures.
GREY = np.array([0.299, 0.587, 0.114], np.float32)
LARGEST_SIZE = 1024


@dataclass(frozen=True)
class NetworkInput:
    """How a network takes images: ``size`` x ``size`` pixels in ``channels`` (3, or 1 for grey)."""

    size: int
    channels: int
    layout: str  # one of LAYOUTS
    scale: str  # one of SCALES
    order: str  # one of ORDERS
    flat: bool  # (n, size * size * channels) instead of four dimensions

    def affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return two (3,) arrays, factor and offset: what is taken is pixel * factor + offset, for R, G and B."""
        minus, by = (np.array(numbers, np.float64) for numbers in SCALES[self.scale])
        return (1 / by).astype(np.float32), (-minus / by).astype(np.float32)

    def mixing(self) -> npt.NDArray[np.float32]:
        """Return (channels, 3), what each channel takes of R, G and B."""
        if self.channels == 1:
            grey: npt.NDArray[np.float32] = GREY[None]
            return grey
        identity: npt.NDArray[np.float32] = np.eye(3, dtype=np.float32)
        reverse: npt.NDArray[np.float32] = identity[::-1]
        return reverse if self.order == "bgr" else identity

    def resizing(self) -> npt.NDArray[np.float32]:
        """Return (size, 32), the share of each row of an image in each row of the input: linear interpolation.

        The centres of pixels are half a pixel from the border, as in OpenCV's and TensorFlow's `resize`.
        """
        places = np.clip((np.arange(self.size) + 0.5) * SIDE / self.size - 0.5, 0, SIDE - 1)
        shares = 1 - np.abs(places[:, None] - np.arange(SIDE)[None])
        resizing: npt.NDArray[np.float32] = np.clip(shares, 0, 1).astype(np.float32)
        return resizing

    def prepare(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return canonical ``images`` (n, 3072) uint8 as the network takes them, float32."""
        factor, offset = self.affine()
        planes = images.reshape(-1, 3, SIDE * SIDE) * factor[:, None] + offset[:, None]
        pictures = (self.mixing() @ planes).reshape(-1, self.channels, SIDE, SIDE)
        if self.size != SIDE:
            resizing = self.resizing()
            pictures = resizing @ pictures @ resizing.T
        if self.layout == "nhwc":
            pictures = pictures.transpose(0, 2, 3, 1)
        result: npt.NDArray[np.float32] = np.ascontiguousarray(pictures, np.float32)
        return result.reshape(len(images), -1) if self.flat else result


def possible_inputs(
    shape: Sequence[object], size: int | None = None, scale: str | None = None, order: str | None = None, layout: str | None = None
) -> list[NetworkInput]:  # fmt: skip
    """Return the inputs that a network of an input ``shape`` may take, most likely first; dimensions not known are no numbers.

    ``size``, ``scale``, ``order`` and ``layout`` are known where they are given.
    Raises `NetworkError` for a shape that is none of images, or of another size or layout than given.
    """
    inputs = [
        (side, channels, flat, where)
        for side, channels, flat, where in _shapes(
            [d if isinstance(d, int) and d > 0 else None for d in shape], size
        )
        if layout in (None, where)
    ]
    if not inputs:
        given = "".join(f", {name} {value}" for name, value in (("size", size), ("layout", layout)) if value)
        raise NetworkError(
            f"the network's input has the shape {list(shape)}{given}: no images of 32x32 pixels can be turned into that; "
            "it has to be square pictures in 3 channels or 1, or one row of their pixels",
            "input",
        )
    return [
        NetworkInput(side, channels, where, one_scale, one_order, flat)
        for side, channels, flat, where in inputs
        for one_scale, one_order in itertools.product(
            [scale] if scale else list(SCALES), [order] if order else ORDERS if channels == 3 else ORDERS[:1]
        )
    ]


def unknown_options(inputs: Sequence[NetworkInput]) -> list[str]:
    """Return the options that would decide between ``inputs``."""
    names = {"scale": "--scale", "order": "--channel-order", "layout": "--layout", "size": "--size"}
    return [option for name, option in names.items() if len({getattr(one, name) for one in inputs}) > 1]


def described(one: NetworkInput) -> str:
    """Return an input in words, for messages."""
    colour = one.order.upper() if one.channels == 3 else "grey"
    return f"{one.size}x{one.size}, scale {one.scale}, {colour}, {one.layout.upper()}"


def _shapes(shape: list[int | None], size: int | None) -> list[tuple[int, int, bool, str]]:
    """Return the sizes, channels and layouts that fit a shape: (size, channels, flat, layout)."""
    if len(shape) == 4:
        shapes = []
        for layout, (channels, height, width) in (("nhwc", (3, 1, 2)), ("nchw", (1, 2, 3))):
            side = shape[height] or shape[width] or size or SIDE
            if (
                shape[channels] in (1, 3, None)
                and shape[height] in (side, None)
                and shape[width] in (side, None)
                and side <= LARGEST_SIZE
                and size in (side, None)
            ):
                shapes.append((side, shape[channels] or 3, False, layout))
        return shapes
    if len(shape) == 2 and shape[1]:
        for channels in (3, 1):
            side = round((shape[1] / channels) ** 0.5)
            if side * side * channels == shape[1] and size in (side, None):
                return [
                    (side, channels, True, layout) for layout in (LAYOUTS if channels == 3 else LAYOUTS[:1])
                ]
    return []


def as_json(one: NetworkInput) -> dict[str, Any]:
    """Return an input fit for JSON."""
    return dict(vars(one))


def from_json(value: Any) -> NetworkInput:
    """Return the input that `as_json` turned into ``value``. Raises `NetworkError` for anything else."""
    try:
        one = NetworkInput(**value)
        fits = (
            one.layout in LAYOUTS and one.scale in SCALES and one.order in ORDERS and one.channels in (1, 3)
        )
        if not fits or not 1 <= one.size <= LARGEST_SIZE:
            raise TypeError
    except TypeError:
        raise NetworkError(f"{listed([value], 1)} is not how a network takes images", "damaged") from None
    return one
