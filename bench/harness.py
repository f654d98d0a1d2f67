"""Measures two ways of doing the same work in alternating rounds, and says how the one stands to the other."""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# A way that is over sooner is repeated within its round: shorter times say more of the clock than of the way.
LEAST_SECONDS = 0.05
# A bench fails only where a figure misses this share of its target (or exceeds its target divided by it): that is a step
# that has lost its design. Machines that run tests are busy with other things, and small work is mostly start-up.
GENEROUS = 0.1


class UnequalError(Exception):
    """Two ways of doing the same work came to different results."""


@dataclass(frozen=True)
class Way:
    """One way of doing some work.

    ``run()`` does it and returns what is compared, or `Latencies` where it times its own requests; ``before()``, where
    given, is done before each run and not timed. ``work`` is how many units one run, or one request, does.
    """

    name: str
    run: Callable[[], Any]
    work: float
    before: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Latencies:
    """The seconds that each request of a run took, and what is compared."""

    seconds: list[float]
    result: Any = None


@dataclass(frozen=True)
class Figure:
    """One number that a comparison comes to in each round, from the seconds of our requests and of theirs.

    ``target`` is the least that it should be, the most where ``at_most``; None where it is only told. ``generous`` is the
    share of it that still is no failure.
    """

    name: str
    of: Callable[["Side", "Side"], float]
    target: float | None = None
    at_most: bool = False
    unit: str = "x"
    generous: float = GENEROUS


@dataclass(frozen=True)
class Side:
    """What one way took in one round."""

    seconds: list[float]
    work: float

    @property
    def rate(self) -> float:
        """Units of work a second."""
        return self.work * len(self.seconds) / sum(self.seconds)


def speed(target: float | None = None) -> Figure:
    """How many times as fast we are as the other way."""
    return Figure("ratio", lambda ours, theirs: ours.rate / theirs.rate, target)


def median_speed(target: float | None = None) -> Figure:
    """How many times as fast our median request is as theirs."""
    return Figure("ratio", lambda ours, theirs: median(theirs.seconds) / median(ours.seconds), target)


def extra_milliseconds(percent: int, target: float, generous: float = GENEROUS) -> Figure:
    """How much later than theirs our request is answered, at a percentile of the requests of a round."""
    return Figure(
        f"p{percent}",
        lambda ours, theirs: 1000 * (percentile(ours.seconds, percent) - percentile(theirs.seconds, percent)),
        target,
        at_most=True,
        unit="ms",
        generous=generous,
    )


def percentile(values: list[float], percent: float) -> float:
    """The smallest of ``values`` that at least ``percent`` % of them do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing the same work, and what is to be said of them.

    ``same(ours, theirs)`` gets what the two ways return and raises `UnequalError`, or returns False, unless they are
    equal. A JVM wants more than one ``warm_ups``. ``about`` are parameters that tell like comparisons apart; ``note`` says what a reader has to know.
    """

    name: str
    step: str
    ours: Way
    theirs: Way
    unit: str
    same: Callable[[Any, Any], bool | None] = lambda ours, theirs: ours == theirs
    figures: tuple[Figure, ...] = field(default_factory=lambda: (speed(),))
    rounds: int = 5
    warm_ups: int = 1
    note: str = ""
    about: dict = field(default_factory=dict)


def compare(comparison: Comparison, note: Callable[[str], None] = lambda line: None) -> list[dict]:
    """Run both ways in turn, first to warm up and then round by round; return a row, fit for JSON, for each figure.

    Raises `UnequalError` where the two ways' results differ, after the warm-up or at the end.
    """
    ours, theirs = comparison.ours, comparison.theirs
    for _ in range(comparison.warm_ups):
        _assert_same(comparison, *(_once(way)[1] for way in (ours, theirs)))
    rounds = []
    for number in range(comparison.rounds):
        timed = [_once(way) for way in (ours, theirs)]
        rounds.append(
            tuple(Side(seconds, way.work) for (seconds, _), way in zip(timed, (ours, theirs), strict=True))
        )
        if number == comparison.rounds - 1:
            _assert_same(comparison, *(result for _, result in timed))
        note(f"  {comparison.name}, round {number + 1}: " + ", ".join(_figures_of(comparison, *rounds[-1])))
        del timed
    return [_row(comparison, figure, rounds) for figure in comparison.figures]


def _once(way: Way) -> tuple[list[float], Any]:
    """Return the seconds of one run, or of each of its requests, and what it came to."""
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


def _assert_same(comparison: Comparison, ours: Any, theirs: Any) -> None:
    same = comparison.same(ours, theirs)
    if same is not None and not same:
        raise UnequalError(f"{comparison.name}: {comparison.ours.name} and {comparison.theirs.name} differ")


def _figures_of(comparison: Comparison, ours: Side, theirs: Side) -> list[str]:
    return [number(figure.of(ours, theirs), figure.unit) for figure in comparison.figures]


@dataclass(frozen=True)
class Table:
    """Figures that a module filled in by itself: column names, and rows of as many values; numbers keep their digits."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[list]
    note: str = ""


def told(
    name: str, step: str, against: str, value: float, unit: str = "x", target: float | None = None,
    at_most: bool = False, note: str = "", generous: float = GENEROUS,
) -> dict:  # fmt: skip
    """Return a row like those of `compare` for one number that was found in another way."""
    return {
        "name": name, "step": step, "against": against, "figure": "", "unit": unit,
        "value": value, "least": value, "most": value, "values": [value], "target": target, "at_most": at_most,
        "reached": reaches(value, target, at_most), "failed": not reaches(value, target, at_most, generous),
        "equal": True, "work_unit": "", "ours": None, "theirs": None, "rounds": 1, "note": note, "about": {},
    }  # fmt: skip


def _row(comparison: Comparison, figure: Figure, rounds: list[tuple[Side, Side]]) -> dict:
    values = [figure.of(ours, theirs) for ours, theirs in rounds]
    middle = median(values)
    return {
        "name": comparison.name,
        "step": comparison.step,
        "against": comparison.theirs.name,
        "figure": figure.name,
        "unit": figure.unit,
        "value": middle,
        "least": min(values),
        "most": max(values),
        "values": values,
        "target": figure.target,
        "at_most": figure.at_most,
        "reached": reaches(middle, figure.target, figure.at_most),
        "failed": not reaches(middle, figure.target, figure.at_most, figure.generous),
        "equal": True,
        "work_unit": comparison.unit,
        "ours": _side(comparison.ours, [ours for ours, _ in rounds]),
        "theirs": _side(comparison.theirs, [theirs for _, theirs in rounds]),
        "rounds": len(rounds),
        "note": comparison.note,
        "about": comparison.about,
    }


def _side(way: Way, sides: list[Side]) -> dict:
    seconds = [second for side in sides for second in side.seconds]
    return {
        "name": way.name,
        "work": way.work,
        "runs": len(seconds),
        "seconds": median(seconds),
        "p99_seconds": percentile(seconds, 99),
        "rate": median([side.rate for side in sides]),
    }


def reaches(value: float, target: float | None, at_most: bool, share: float = 1.0) -> bool:
    """Whether ``value`` reaches ``share`` of a target: always where there is none."""
    if target is None:
        return True
    return value <= target / share if at_most else value >= target * share


def number(value: float, unit: str = "") -> str:
    """A number as people read it, three digits where it has more: ``0.61x``, ``12.4x``, ``1,230x``, ``2.40 ms``."""
    size = abs(value)
    digits = 2 if size < 10 else 1 if size < 100 else 0
    text = f"{value:,.{digits}f}"
    return f"{text}{unit}" if unit == "x" else f"{text} {unit}".rstrip()
