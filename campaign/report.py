"""The results of a campaign: a line an attack, a table, and the section of docs/reliability.md."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from campaign.attack import Attack, Outcome
from conf.errors import TinyTagsError
from conf.wording import duration

BEGIN, END = "<!-- campaign: begin, written by `make campaign WRITE=1` -->", "<!-- campaign: end -->"

Results = Sequence[tuple[Attack, Outcome]]


def line(attack: Attack, outcome: Outcome) -> str:
    """Return one attack on one line."""
    if outcome.not_run:
        return f"{attack.name:18}not run: {outcome.not_run}"
    notes = f"; {'; '.join(outcome.notes[:3])}" if outcome.notes else ""
    return f"{attack.name:18}{outcome.tried:7,} tried, {len(outcome.losses):,} lost, {duration(outcome.seconds)}{notes}"


def table(results: Results) -> str:
    """Return figure, tried, lost and bound of each attack."""
    rows = [("attack", "tried", "lost", "rate below", "one try")]
    rows += [(attack.name, *_cells(outcome), attack.figure) for attack, outcome in results]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*(row[c].ljust(widths[c]) for c in range(4)), row[4]]) for row in rows)


def write_section(path: Path, n: float, seed: int, results: Results) -> None:
    """Write the table into a document, between its two markers. Raises `TinyTagsError` where it lacks them."""
    document = path.read_text()
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise TinyTagsError(f"{path}: has no one section between {BEGIN!r} and {END!r}; restore the markers")
    before, rest = document.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{_markdown(n, seed, results)}\n\n{END}{rest.split(END)[1]}")


def _cells(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.not_run:
        return "not run", "", ""
    bound = f"{outcome.bound:.2%}" if outcome.bound is not None and outcome.bound < 1 else ""
    return f"{outcome.tried:,}", f"{len(outcome.losses):,}", bound


def _markdown(n: float, seed: int, results: Results) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [
        f"Measured on {date} with `make campaign N={n:g}` (seed {seed}), on {cores} cores, Python {platform.python_version()}.",
        "",
        "| one try | tried | lost | rate below (95 %) | notes |",
        "|---|---|---|---|---|",
    ]
    for attack, outcome in results:
        tried, lost, bound = _cells(outcome)
        kinds = Counter(loss.split(":")[0] for loss in outcome.losses).most_common(3)
        notes = (
            [outcome.not_run]
            if outcome.not_run
            else [f"{count} {kind}" for kind, count in kinds] or outcome.notes[:2]
        )
        lines.append(
            f"| {attack.figure} | {tried} | {lost} | {bound} | {'; '.join(notes).replace('|', ' ')} |"
        )
    return "\n".join(lines)
