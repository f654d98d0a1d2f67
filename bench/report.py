"""Formats rows of figures as lines for a terminal, as JSON, and as the measured sections of documents."""

import json
from collections.abc import Iterable
from pathlib import Path

from bench.harness import number
from bench.machine import words
from conf.errors import TinyTagsError

BEGIN, END = "<!-- {}: begin, written by the bench -->", "<!-- {}: end -->"


def line(row: dict) -> str:
    """Return one row for a terminal: the figure with its spread, the target, and both rates."""
    rates = f"{rate(row, 'ours')} against {rate(row, 'theirs')}" if row["ours"] else ""
    return f"{row['name']:24} {figure(row):34} {goal(row):28} {rates}".rstrip()


def figure(row: dict) -> str:
    """Return the figure and its spread: ``p50 2.40 ms (2.31-2.62)``."""
    name = f"{row['figure']} " if row["figure"] else ""
    spread = f" ({number(row['least'])}-{number(row['most'])})" if len(row["values"]) > 1 else ""
    return f"{name}{number(row['value'], row['unit'])}{spread}"


def goal(row: dict) -> str:
    """Return target and verdict: ``at least 0.55x: reached``."""
    if row["target"] is None:
        return ""
    sign, space = "at most" if row["at_most"] else "at least", "" if row["unit"] == "x" else " "
    return f"{sign} {row['target']:,g}{space}{row['unit']}: {'reached' if row['reached'] else 'short'}"


def rate(row: dict, side: str) -> str:
    """Return how fast a way is, or how long one unit takes where few go into a second: ``2,810,000 images/s``, ``3.42 ms``."""
    if not row[side]:
        return ""
    if row[side]["work"] == 1:
        return f"{1000 * row[side]['seconds']:,.2f} ms"
    return f"{number(row[side]['rate'])} {row['work']}/s"


def write_json(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def section(results: dict, plots: Iterable[str] = ()) -> str:
    """Return the measured section of a document, which begins with the plots of these names."""
    rows = results["rows"]
    images = "varied CIFAR-10 images" if results["real_images"] else "varied digits of scikit-learn"
    columns = ("step", "against", "ours", "theirs", "figure (least-most of the rounds)", "to reach")
    cells = [(r["step"], r["against"], rate(r, "ours"), rate(r, "theirs"), figure(r), goal(r)) for r in rows]
    titles: dict[str, list[str]] = {}
    for r in rows:
        titles.setdefault(r["note"], []).append(
            r["step"] + (f", against {r['against']}" if r["against"] else "")
        )
    notes = [f"- *{names[0]}*{more_rows(names)}: {note}." for note, names in titles.items() if note]
    return "\n\n".join(
        [
            f"Measured in one run of {results['seconds'] / 60:.0f} minutes on {words(results['machine'])}; {images}.",
            *(f"![{name.capitalize()}](plots/{name}.svg)" for name in plots),
            markdown(columns, cells),
            "\n".join(notes),
        ]
    )


def more_rows(names: list[str]) -> str:
    """Return how many more rows a note is of: ``, and 7 rows like it``."""
    more = len(set(names)) - 1
    return f", and {more} row{'s' if more > 1 else ''} like it" if more else ""


def markdown(columns, rows) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in rows]
    return "\n".join(lines)


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the text between the two markers ``name`` of a document; raises `TinyTagsError` where it lacks them."""
    begin, end = BEGIN.format(name), END.format(name)
    document = path.read_text()
    if document.count(begin) != 1 or document.count(end) != 1:
        raise TinyTagsError(f"{path}: has no one section between {begin!r} and {end!r}; restore the markers")
    before, rest = document.split(begin)
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}")
