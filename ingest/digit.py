"""A picture of one written digit as MNIST has it: its ink 20 pixels long, white on black, centred by mass.

Source: the data set's page. "The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20
pixel box while preserving their aspect ratio. [...] the images were centered in a 28x28 image by computing the center of
mass of the pixels, and translating the image so as to position this point at the center of the 28x28 field."
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ingest.formats.mnist import CLASSES, MNIST_SIDE
from ingest.image import SIDE, PictureError, Pixels, from_rgb, on_white, to_8_bits, upright

BOX = 20
# Larger pictures are made smaller first, to this many pixels a side.
DETAIL = 512
# The least difference from the background, of 255, that is ink: below it is noise of the camera or of JPEG.
LEAST_CONTRAST = 24
# Ink of less than this share of the strongest is a blurred edge or a shadow.
EDGE = 0.35
# The stroke is measured and redrawn at this multiple of the final size.
ZOOM = 8
# The width of strokes in MNIST's training images, of the 20 pixels: 96 % of them are between the two. Others are redrawn
# with the nearer of the two: a thin pen on a large canvas would all but vanish, and a thick one fill its loops.
THINNEST, THICKEST = 1.4, 4.0

Ink = NDArray[np.float32]  # (height, width), 0.0 (background) to 1.0


def is_digits(classes: tuple[str, ...] | list[str]) -> bool:
    """Return whether the classes of a model are the ten digits."""
    return sorted(classes) == CLASSES


def from_digit(picture: Image.Image) -> Pixels:
    """Return the digit in any Pillow picture, in ink of any colour on another colour, as a canonical image, (3072,) uint8.

    The image is what `ingest.formats.mnist` makes of one of MNIST's. Raises `PictureError` where there is no ink.
    """
    return from_ink(find_ink(picture))


def from_ink(ink: Ink) -> Pixels:
    """Return ink, (height, width) float32, as a canonical image, (3072,) uint8."""
    ink = _cut_out(ink)
    large = _resized(ink, BOX * ZOOM)
    width = stroke_width(large) / ZOOM
    if not THINNEST <= width <= THICKEST:
        ink = _cut_out(_redrawn(large, width * ZOOM, float(np.clip(width, THINNEST, THICKEST)) * ZOOM))
    grey = np.rint(_centred(_resized(ink, BOX)) * 255).astype(np.uint8)
    return from_rgb(np.repeat(grey[:, :, None], 3, axis=2))


def find_ink(picture: Image.Image) -> Ink:
    """Return how much each pixel differs from the background, which is the colour of most of the margin.

    Raises `PictureError` where none does.
    """
    picture = upright(picture)
    picture = to_8_bits(picture)
    if max(picture.size) > DETAIL:
        picture = ImageOps.contain(picture, (DETAIL, DETAIL), Image.Resampling.BOX)
    ink = _differences(np.asarray(on_white(picture).convert("RGB"), np.float32))
    if ink is None and picture.mode == "RGBA":  # white on transparent
        ink = _differences(np.asarray(picture.getchannel("A"), np.float32)[:, :, None])
    if ink is None:
        raise PictureError(
            "has nothing written in it: a digit is written in a colour that differs from its background"
        )
    return ink


def stroke_width(ink: Ink) -> float:
    """Return the mean width of strokes in pixels: twice their area by the length of their outlines (coarea formula)."""
    rows, columns = np.gradient(np.pad(ink, 1))
    return float(2 * ink.sum() / max(np.hypot(rows, columns).sum(), 1e-6))


def _differences(pixels: NDArray[np.float32]) -> Ink | None:
    """Return the differences of (height, width, channels) pixels from the background, 0.0-1.0; None where all are alike."""
    height, width = pixels.shape[:2]
    ring = max(1, min(height, width) // 32)
    margin = np.ones((height, width), bool)
    margin[ring:-ring, ring:-ring] = False
    differences = np.abs(pixels - np.median(pixels[margin], axis=0)).max(axis=2)
    noise = 2 * float(np.median(differences[margin]))
    # A pixel may be the glint of a lamp.
    peak = float(np.sort(differences, axis=None)[-max(1, differences.size // 2000)])
    if peak - noise < LEAST_CONTRAST:
        return None
    ink: Ink = ((differences - noise) / (peak - noise)).clip(0, 1).astype(np.float32)
    return ink


def _cut_out(ink: Ink) -> Ink:
    """Return the smallest rectangle that has all ink but blurred edges."""
    rows, columns = (np.flatnonzero((ink > EDGE).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return ink
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resized(ink: Ink, longest: int) -> Ink:
    """Return the ink with its longer side of ``longest`` pixels: averaged over areas, or enlarged smoothly."""
    height, width = ink.shape
    scale = longest / max(height, width)
    if scale == 1:
        return ink
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized: Ink = np.asarray(Image.fromarray(ink).resize(size, way)).clip(0, 1)
    return resized


def _redrawn(ink: Ink, width: float, wanted: float) -> Ink:
    """Return strokes of ``width`` pixels redrawn ``wanted`` pixels wide: blurred, then cut at the height of the new edge."""
    margin = int(2 * wanted) + 1
    deviation = max(width, wanted) / 2
    blurred = _blurred(np.pad(ink, margin), deviation)
    edge = _below((wanted + width) / 2 / deviation) - _below((wanted - width) / 2 / deviation)
    # A soft edge, as wide as a pixel of the final size.
    slope = (
        max(_below(width / 2 / deviation) - _below(-width / 2 / deviation) - edge, 0.05) / (wanted / 2) * ZOOM
    )
    redrawn: Ink = ((blurred - edge) / slope + 0.5).clip(0, 1).astype(np.float32)
    return redrawn


def _below(deviations: float) -> float:
    """Return the share of a normal distribution below so many standard deviations."""
    from math import erf, sqrt

    return (1 + erf(deviations / sqrt(2))) / 2


def _blurred(ink: Ink, deviation: float) -> Ink:
    reach = int(3 * deviation) + 1
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        ink = np.apply_along_axis(np.convolve, axis, ink, weights, mode="same")
    return ink.astype(np.float32)


def _centred(ink: Ink) -> Ink:
    """Return ink of at most 20 x 20 pixels in 32 x 32 ones, its centre of mass in the middle of MNIST's 28 x 28."""
    height, width = ink.shape
    mass = max(float(ink.sum()), 1e-6)
    places = [
        # In MNIST's files it is at pixel 14, counted from 0.
        MNIST_SIDE / 2 - float((ink.sum(axis=1 - axis) * np.arange(size)).sum()) / mass
        for axis, size in enumerate((height, width))
    ]
    # Never outside of the 28 x 28 pixels, as none of MNIST's is.
    top, left = (
        min(max(round(place), 0), MNIST_SIDE - size) + (SIDE - MNIST_SIDE) // 2
        for place, size in zip(places, (height, width), strict=True)
    )
    field = np.zeros((SIDE, SIDE), np.float32)
    field[top : top + height, left : left + width] = ink
    return field
