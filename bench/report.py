"""Formats rows of figures as lines for a terminal, as JSON, and as the measured section of docs/performance.md."""

import json
from pathlib import Path

from bench.harness import number
from bench.machine import words
from conf.errors import TinyTagsError

BEGIN, END = "<!-- {}: begin, written by the bench -->", "<!-- {}: end -->"


def line(row: dict) -> str:
    """Return one row for a terminal: the figure with its spread, the target, and both rates."""
    return f"{row['name']:24} {figure(row):34} {goal(row):18} {verdict(row):8} {rates(row)}".rstrip()


def figure(row: dict) -> str:
    """Return the figure and its spread: ``p50 2.40 ms (2.31-2.62)``."""
    name = f"{row['figure']} " if row["figure"] not in ("", "ratio", "seconds") else ""
    spread = f" ({number(row['least'])}-{number(row['most'])})" if row["rounds"] > 1 else ""
    return f"{name}{number(row['value'], row['unit'])}{spread}"


def goal(row: dict) -> str:
    if row["target"] is None:
        return ""
    sign = "at most" if row["at_most"] else "at least"
    return f"{sign} {row['target']:,g}{'' if row['unit'] == 'x' else ' '}{row['unit']}"


def verdict(row: dict) -> str:
    return "" if row["target"] is None else "reached" if row["reached"] else "SHORT"


def outcome(row: dict) -> str:
    """Return target and verdict: ``at least 0.55x: reached``."""
    return "" if row["target"] is None else f"{goal(row)}: {verdict(row).lower()}"


def rates(row: dict) -> str:
    return f"{rate(row, 'ours')} against {rate(row, 'theirs')}" if row["ours"] else ""


def rate(row: dict, side: str) -> str:
    """Return how fast a way is, or how long one unit takes where few go into a second: ``2.81 M images/s``, ``3.42 ms``."""
    if not row[side]:
        return ""
    if row[side]["work"] == 1:
        return f"{1000 * row[side]['seconds']:,.2f} ms"
    return f"{short(row[side]['rate'])} {row['work_unit']}/s"


def short(value: float) -> str:
    """Return a large number with three digits: ``2.81 M``, ``62.1 k``, ``31.0``."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def write_json(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def section(results: dict) -> str:
    """Return the measured section of docs/performance.md."""
    curve = [row for row in results["rows"] if row["name"].startswith("kernel/curve")]
    main = [row for row in results["rows"] if row not in curve]
    noted = {row["name"]: row for row in main if row["note"]}.values()
    parts = [
        measured_on(results, f"one run of {results['seconds'] / 60:.0f} minutes"),
        "![Ratios](plots/ratios.svg)",
        markdown(
            ("step", "against", "ours", "theirs", "figure (least-most of the rounds)", "to reach"),
            [
                (
                    row["step"],
                    row["against"],
                    rate(row, "ours"),
                    rate(row, "theirs"),
                    figure(row),
                    outcome(row),
                )
                for row in main
            ],
        ),
        "\n".join(f"- *{row['step']}, against {row['against']}*: {row['note']}." for row in noted),
    ]
    if curve:
        parts += [
            "### More trees, deeper trees",
            "![The kernel over trees and depth](plots/kernel.svg)",
            markdown(
                ("trees", "depth", "nodes", "images/s", "of reading every byte once"),
                [
                    (*(f"{row['about'][name]:,}" for name in ("trees", "depth", "nodes")), short(row["ours"]["rate"]), figure(row))
                    for row in curve
                ],
            ),
            f"{curve[0]['note'].capitalize()}.",
        ]  # fmt: skip
    for table in results["tables"]:
        parts += [
            f"### {table['title']}",
            f"![{table['title']}](plots/{table['name']}.svg)",
            markdown(table["columns"], [map(_cell, row) for row in table["rows"]]),
        ]
        parts += [table["note"][:1].upper() + table["note"][1:] + "."] if table["note"] else []
    return "\n\n".join(parts)


def measured_on(results: dict, how: str = "one run") -> str:
    """Return the sentence about the machine and the images of a measurement."""
    images = "varied CIFAR-10 images" if results["real_images"] else "synthetic images"
    return f"Measured in {how} on {words(results['machine'])}; {images}."


def _cell(value) -> str:
    if isinstance(value, float):
        return number(value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


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
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
