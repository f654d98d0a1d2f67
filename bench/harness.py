"""Measures two ways of doing the same work in alternating rounds, and compares them."""

import contextlib
import functools
import gc
import math
import time
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

# A shorter run is repeated within its round: a shorter time measures the clock.
LEAST_SECONDS = 0.05
# A bench fails only where a figure misses this share of its target (or exceeds its target divided by it): a step has lost
# its design. Machines that run tests are busy with other things, and small work is mostly start-up.
GENEROUS = 0.1


class UnequalError(Exception):
    """Two ways of doing the same work have different results."""


@dataclass(frozen=True)
class Latencies:
    """The seconds of each request of a run, and the result to compare."""

    seconds: list[float]
    result: Any = None


@dataclass(frozen=True)
class Way:
    """One way of doing some work.

    ``run()`` does it and returns the result to compare, or `Latencies` where it times its own requests; ``before()`` runs
    before each run and is not timed. ``work`` is the number of units of one run, or of one request.
    """

    run: Callable[[], Any]
    work: float = 1
    before: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Side:
    """The seconds of one way in one round."""

    seconds: list[float]
    work: float

    @property
    def rate(self) -> float:
        """Units of work a second."""
        return self.work * len(self.seconds) / sum(self.seconds)


def speed(ours: Side, theirs: Side) -> float:
    """Return how many times as fast as the other way we are."""
    return ours.rate / theirs.rate


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest of ``values`` that at least ``percent`` % of them do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def latencies(items: Iterable[Any], request: Callable[[Any], Any]) -> Latencies:
    """Send a request for each item, one after the other, and time each; making the items is not timed."""
    seconds = []
    for item in items:
        began = time.perf_counter()
        request(item)
        seconds.append(time.perf_counter() - began)
    return Latencies(seconds)


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing the same work.

    ``name`` is that of its row in rows.toml, where ``about`` has the values in braces. ``same(ours, theirs)`` gets the
    results of the two ways and returns whether they are equal. ``figures`` are other numbers of
    a round than `speed`, each by the name of its row. A JVM needs more than one of ``warm_ups``.
    """

    name: str
    ours: Way
    theirs: Way
    same: Callable[[Any, Any], bool] = lambda ours, theirs: ours == theirs
    figures: dict[str, Callable[[Side, Side], float]] = field(default_factory=dict)
    rounds: int | None = None
    warm_ups: int = 1
    about: dict = field(default_factory=dict)


def compare(comparison: Comparison, rounds: int = 5) -> list[dict]:
    """Run both ways in turn, first to warm up and then round by round; return a row, fit for JSON, for each figure.

    ``rounds`` are for a comparison that has no number of its own.
    Raises `UnequalError` where the two ways' results differ, after a warm-up or at the end.
    """
    ways, pairs = (comparison.ours, comparison.theirs), []
    last = comparison.warm_ups + (comparison.rounds or rounds) - 1
    for n in range(last + 1):
        runs = [_run(way) for way in ways]
        pairs.append([Side(seconds, way.work) for (seconds, _), way in zip(runs, ways, strict=True)])
        checked = n < comparison.warm_ups or n == last
        if checked and not comparison.same(*(result for _, result in runs)):
            raise UnequalError(f"{comparison.name}: the results of the two ways differ")
    pairs = pairs[comparison.warm_ups :]
    ours, theirs = map(medians, zip(*pairs, strict=True))
    figures = comparison.figures or {comparison.name: speed}
    return [
        row(name, [figure(*pair) for pair in pairs], comparison.about, ours, theirs)
        for name, figure in figures.items()
    ]


def medians(sides: Sequence[Side]) -> dict:
    """Return work, seconds and rate of one way over its rounds."""
    seconds = median(second for side in sides for second in side.seconds)
    return {"work": sides[0].work, "seconds": seconds, "rate": median(side.rate for side in sides)}


@functools.cache
def _rows() -> dict:
    return tomllib.loads((Path(__file__).parent / "rows.toml").read_text())


def row(name: str, values: list[float], about: dict, ours: dict | None, theirs: dict | None) -> dict:
    """Return a row of rows.toml, fit for JSON, with the values of its rounds.

    ``about`` are the values in its braces; ``ours`` and ``theirs`` are work, seconds and rate of the two ways.
    """
    group, _, of_group = name.partition("/")
    entry = _rows() | _rows()[group] | _rows()[group][of_group]
    words = {key: entry[key].format(**about) for key in ("step", "against", "figure", "unit", "work", "note")}
    at_most, value = "at_most" in entry, median(values)
    target = entry.get("at_most", entry.get("at_least"))
    return {
        "name": name, **words, "about": about, "value": value, "least": min(values), "most": max(values), "values": values,
        "target": target, "at_most": at_most, "reached": reaches(value, target, at_most),
        "failed": not reaches(value, target, at_most, GENEROUS), "ours": ours, "theirs": theirs,
    }  # fmt: skip


def single(name: str, value: float, **about) -> dict:
    """Return a row like those of `compare` for one number."""
    return row(name, [value], about, None, None)


def reaches(value: float, target: float | None, at_most: bool, share: float = 1.0) -> bool:
    """Return whether ``value`` reaches ``share`` of a target: always without one."""
    if target is None:
        return True
    return value <= target / share if at_most else value >= target * share


def _run(way: Way) -> tuple[list[float], Any]:
    """Return the seconds of one run, or of each of its requests, and its result."""
    if way.before:
        way.before()
    gc.collect()
    runs, total = 0, 0.0
    while True:
        began = time.perf_counter()
        result = way.run()
        total += time.perf_counter() - began
        runs += 1
        if isinstance(result, Latencies):
            return result.seconds, result.result
        if way.before or total >= LEAST_SECONDS:
            return [total / runs], result


def number(value: float, unit: str = "") -> str:
    """Return a number for people, three digits where it has more: ``0.0014x``, ``0.61x``, ``12.4x``, ``1,230x``, ``2.40 ms``."""
    size = abs(value)
    text = f"{value:.2g}" if 0 < size < 0.1 else f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return f"{text}{unit}" if unit == "x" else f"{text} {unit}".rstrip()


@contextlib.contextmanager
def problems_of(what: str, results: dict) -> Iterator[None]:
    """Add an exception of the block to the problems of ``results``, so that the next part still runs."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UnequalError):
            traceback.print_exc()
        results["problems"].append(f"{what}: {type(error).__name__}: {error}")
