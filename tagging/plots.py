"""Computes the plots of one model or two for a template: the places of points, lines, bars and ticks, in units of an SVG."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tagging.calibration import ENOUGH_IMAGES
from tagging.cards import Quality, few

WIDTH, LEFT, RIGHT, TOP, PLOT = 360, 40, 352, 10, 200
# Below the plot of shares: the numbers of tags.
GAP, COUNTS = 14, 46
BAR = 12
APART = 3  # between the points of two models at one place


@dataclass(frozen=True)
class Point:
    """A point of a plot; coordinates are in the plot's units."""

    x: float
    y: float
    least: float  # the ends of its interval, in y
    most: float
    title: str
    few: bool = False  # of too few tags to say much


@dataclass(frozen=True)
class Bar:
    """A bar of a plot; coordinates are in the plot's units."""

    x: float
    y: float
    width: float
    height: float
    title: str
    few: bool = False


@dataclass(frozen=True)
class Series:
    """The points and bars of one model."""

    name: str
    points: list[Point]
    bars: list[Bar] = field(default_factory=list)

    @property
    def line(self) -> str:
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True)
class Plot:
    """A plot of shares over shares, both 0 to 100 %; ticks are (place, text)."""

    height: int
    bottom: int  # of the shares, in y
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    series: list[Series]
    most: int = 0  # the largest count, where counts are shown


def calibration(sides: list[tuple[str, Quality]]) -> Plot:
    """Return the share of correct tags at each confidence, with the numbers of tags below."""
    most = max((bin.images for _, quality in sides for bin in quality.bins), default=0)
    base = TOP + PLOT + GAP + COUNTS
    series = []
    for place, (name, quality) in enumerate(sides):
        aside = (2 * place - len(sides) + 1) * APART
        points, bars = [], []
        for bin in quality.bins:
            x = _x(bin.confidence)
            text = f"{_range(bin.low, bin.high)}: {bin.right:,} of {bin.images:,} correct, {100 * bin.share:.1f} %"
            few_tags = bin.images < ENOUGH_IMAGES
            ends = _y(bin.share), _y(bin.least), _y(bin.most)
            points.append(Point(_round(x + aside), *ends, f"{name}, {text}", few_tags))
            width, height = BAR / len(sides), COUNTS * bin.images / (most or 1)
            left = x - BAR / 2 + place * width
            box = _round(left), _round(base - height), _round(width), _round(height)
            bars.append(Bar(*box, f"{name}, {text}", few_tags))
        series.append(Series(name, points, bars))
    return Plot(base + 34, TOP + PLOT, _ticks(_x), _ticks(_y), series, most)


def coverage(sides: list[tuple[str, Quality]]) -> Plot:
    """Return for each threshold the share of images that keep a tag, and the share of these tags that are correct."""
    series = []
    for name, quality in sides:
        points = []
        for row in few([row for row in quality.thresholds if row.precision is not None]):
            precision = row.precision or 0.0
            text = f"{row.percent} % or more: {100 * precision:.1f} % correct, covers {100 * row.kept:.1f} % of images"
            y = _y(precision)
            points.append(Point(_x(row.kept), y, y, y, f"{name}, {text}"))
        series.append(Series(name, points))
    return Plot(TOP + PLOT + 34, TOP + PLOT, _ticks(_x), _ticks(_y), series)


def _range(low: int, high: int) -> str:
    return f"{low} %" if low == high else f"{low} to {high} %"


def _ticks(place: Callable[[float], float]) -> list[tuple[float, str]]:
    return [(place(percent / 100), f"{percent}") for percent in range(0, 101, 20)]


def _x(share: float) -> float:
    return _round(LEFT + share * (RIGHT - LEFT))


def _y(share: float) -> float:
    return _round(TOP + (1 - share) * PLOT)


def _round(value: float) -> float:
    return round(value, 2)


def importance_image(
    importance: npt.NDArray[np.float64], channel: int | None = None
) -> npt.NDArray[np.uint8]:
    """Return pixel importance (3072,) as an image (3072,) uint8: black where it is 0, brighter where it is higher.

    With a ``channel`` (0 red, 1 green, 2 blue) that one in grey; all channels have one scale. As the few bytes at the
    roots of a forest would leave the rest black, the highest hundredth is white, and below it brightness is the square
    root of the importance.
    """
    bright = np.sqrt(np.minimum(importance / (np.quantile(importance, 0.99) or importance.max() or 1), 1))
    if channel is not None:
        bright = np.tile(bright.reshape(3, -1)[channel], 3)
    return np.round(255 * bright).astype(np.uint8)
