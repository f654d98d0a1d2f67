"""The results of a campaign: a line an attack, a table, and the section of docs/reliability.md."""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from campaign.attack import Attack, Outcome
from campaign.registry import ATTACKS
from conf.errors import TinyTagsError
from conf.wording import duration

BEGIN, END = "<!-- campaign: begin, written by `make campaign WRITE=1` -->", "<!-- campaign: end -->"

HEAD = ("| one try | tried | lost | rate below (95 %) | notes | measured |", "|---|---|---|---|---|---|")

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
    """Write the rows of these attacks into the table of a document, between its two markers; those of others stay.

    Raises `TinyTagsError` where it lacks the markers.
    """
    document = path.read_text()
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise TinyTagsError(f"{path}: has no one section between {BEGIN!r} and {END!r}; restore the markers")
    before, rest = document.split(BEGIN)
    old, after = rest.split(END)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in old.splitlines()}
    rows |= {attack.figure: _row(n, seed, attack, outcome) for attack, outcome in results}
    lines = [*HEAD, *(rows[attack.figure] for attack in ATTACKS if attack.figure in rows)]
    path.write_text(f"{before}{BEGIN}\n\n{chr(10).join(lines)}\n\n{END}{after}")


def _cells(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.not_run:
        return "not run", "", ""
    bound = f"{outcome.bound:.2%}" if outcome.bound is not None and outcome.bound < 1 else ""
    return f"{outcome.tried:,}", f"{len(outcome.losses):,}", bound


def _row(n: float, seed: int, attack: Attack, outcome: Outcome) -> str:
    tried, lost, bound = _cells(outcome)
    kinds = Counter(loss.split(":")[0] for loss in outcome.losses).most_common(3)
    notes = outcome.not_run or "; ".join([f"{count} {kind}" for kind, count in kinds] or outcome.notes[:2])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    measured = f"{datetime.now(UTC):%Y-%m-%d}, N={n:g}, seed {seed}, {cores} cores"
    return f"| {attack.figure} | {tried} | {lost} | {bound} | {notes.replace('|', ' ')} | {measured} |"
