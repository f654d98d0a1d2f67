"""How messages and pages word counts, shares, lists, durations and errors of libraries."""

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 partition``, ``4,000 partitions``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Sequence[object], most: int) -> str:
    """Return the first ``most`` names, and whether there are more: ``12, 13, 14, ...``."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; the name of its type where it has none."""
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__)


def percent(votes: int, trees: int) -> int:
    """Return a share of votes in whole percent, halves up, in whole numbers: 2 of 3 are 67."""
    return (200 * votes + trees) // (2 * trees)


def duration(seconds: float) -> str:
    """Return seconds in words: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
