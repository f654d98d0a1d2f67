"""Measures two ways of doing the same work in alternating rounds, and compares them."""

import contextlib
import gc
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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

    name: str
    run: Callable[[], Any]
    work: float
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


@dataclass(frozen=True)
class Figure:
    """One number of each round, from the seconds of our requests and of theirs.

    ``target`` is its least value, the most with ``at_most``; None where there is no target.
    """

    name: str
    of: Callable[[Side, Side], float]
    target: float | None = None
    at_most: bool = False
    unit: str = "x"


def speed(target: float | None = None) -> Figure:
    """Return how many times as fast as the other way we are."""
    return Figure("ratio", lambda ours, theirs: ours.rate / theirs.rate, target)


def median_speed(target: float | None = None) -> Figure:
    """Return how many times as fast as theirs our median request is."""
    return Figure("ratio", lambda ours, theirs: median(theirs.seconds) / median(ours.seconds), target)


def extra_milliseconds(percent: int, target: float) -> Figure:
    """Return how much later than theirs our request is answered, at a percentile of the requests of a round."""

    def extra(ours: Side, theirs: Side) -> float:
        return 1000 * (percentile(ours.seconds, percent) - percentile(theirs.seconds, percent))

    return Figure(f"p{percent}", extra, target, at_most=True, unit="ms")


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
    """Two ways of doing the same work, and the figures of both.

    ``same(ours, theirs)`` gets the results of the two ways and raises `UnequalError`, or returns False, where they differ.
    ``target`` is the one of the usual figure, `speed`. A JVM needs more than one ``warm_ups``. ``note`` is for readers;
    ``about`` are parameters that tell similar comparisons apart.
    """

    name: str
    step: str
    ours: Way
    theirs: Way
    unit: str = "images"
    target: float | None = None
    same: Callable[[Any, Any], bool | None] = lambda ours, theirs: ours == theirs
    figures: tuple[Figure, ...] = ()
    rounds: int = 5
    warm_ups: int = 1
    note: str = ""
    about: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Figures without a comparison: column names, and rows of as many values; numbers keep their digits."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[list]
    note: str = ""


def compare(comparison: Comparison, note: Callable[[str], None] = lambda line: None) -> list[dict]:
    """Run both ways in turn, first to warm up and then round by round; return a row, fit for JSON, for each figure.

    Raises `UnequalError` where the two ways' results differ, after a warm-up or at the end.
    """
    both = comparison.ours, comparison.theirs
    figures = comparison.figures or (speed(comparison.target),)
    for _ in range(comparison.warm_ups):
        _check_same(comparison, *(_run(way)[1] for way in both))
    rounds = []
    for n in range(comparison.rounds):
        runs = [_run(way) for way in both]
        rounds.append([Side(seconds, way.work) for (seconds, _), way in zip(runs, both, strict=True)])
        if n == comparison.rounds - 1:
            _check_same(comparison, *(result for _, result in runs))
        values = ", ".join(number(figure.of(*rounds[-1]), figure.unit) for figure in figures)
        note(f"  {comparison.name}, round {n + 1}: {values}")
        del runs
    sides = [
        _side(way, list(way_rounds)) for way, way_rounds in zip(both, zip(*rounds, strict=True), strict=True)
    ]
    return [
        _row(
            comparison.name, comparison.step, comparison.theirs.name, [figure.of(*pair) for pair in rounds], figure,
            comparison.note, work_unit=comparison.unit, ours=sides[0], theirs=sides[1], about=comparison.about,
        )
        for figure in figures
    ]  # fmt: skip


def single(
    name: str, step: str, against: str, value: float, unit: str = "x", target: float | None = None,
    at_most: bool = False, note: str = "",
) -> dict:  # fmt: skip
    """Return a row like those of `compare` for one number."""
    return _row(name, step, against, [value], Figure("", speed().of, target, at_most, unit), note)


def _row(
    name: str, step: str, against: str, values: list[float], figure: Figure, note: str,
    work_unit: str = "", ours: dict | None = None, theirs: dict | None = None, about: dict | None = None,
) -> dict:  # fmt: skip
    value, target, at_most = median(values), figure.target, figure.at_most
    return {
        "name": name, "step": step, "against": against, "figure": figure.name, "unit": figure.unit,
        "value": value, "least": min(values), "most": max(values), "values": values, "target": target, "at_most": at_most,
        "reached": reaches(value, target, at_most), "failed": not reaches(value, target, at_most, GENEROUS),
        "equal": True, "work_unit": work_unit, "ours": ours, "theirs": theirs, "rounds": len(values), "note": note,
        "about": about or {},
    }  # fmt: skip


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


def _check_same(comparison: Comparison, ours: Any, theirs: Any) -> None:
    same = comparison.same(ours, theirs)
    if same is not None and not same:
        raise UnequalError(f"{comparison.name}: {comparison.ours.name} and {comparison.theirs.name} differ")


def _side(way: Way, sides: list[Side]) -> dict:
    seconds = [second for side in sides for second in side.seconds]
    return {
        "name": way.name, "work": way.work, "runs": len(seconds), "seconds": median(seconds),
        "p99_seconds": percentile(seconds, 99), "rate": median([side.rate for side in sides]),
    }  # fmt: skip


def reaches(value: float, target: float | None, at_most: bool, share: float = 1.0) -> bool:
    """Return whether ``value`` reaches ``share`` of a target: always without one."""
    if target is None:
        return True
    return value <= target / share if at_most else value >= target * share


def number(value: float, unit: str = "") -> str:
    """Return a number for people, three digits where it has more: ``0.61x``, ``12.4x``, ``1,230x``, ``2.40 ms``."""
    size = abs(value)
    text = f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return f"{text}{unit}" if unit == "x" else f"{text} {unit}".rstrip()


@contextlib.contextmanager
def problems_of(what: str, results: dict, note: Callable[[str], None]) -> Iterator[None]:
    """Add an exception of the block to the problems of ``results``, so that the next part still runs."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UnequalError):
            traceback.print_exc()
        results["problems"].append(f"{what}: {type(error).__name__}: {error}")
        note(f"PROBLEM {results['problems'][-1]}")
