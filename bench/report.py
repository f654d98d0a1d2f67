"""Turns rows of figures into lines for whoever waits, JSON, and the measured section of docs/performance.md."""

import json
from pathlib import Path

from bench.harness import number
from bench.machine import words
from conf.errors import TinyTagsError

BEGIN, END = "<!-- {}: begin, written by the bench -->", "<!-- {}: end -->"


# Lines while it goes


def line(row: dict) -> str:
    """One row for a terminal: what, against what, the figure with its spread, and the target."""
    return f"{row['name']:24} {figure(row):34} {goal(row):18} {verdict(row):8} {rates(row)}".rstrip()


def figure(row: dict) -> str:
    """The figure and its spread: ``p50 2.40 ms (2.31-2.62)``."""
    name = f"{row['figure']} " if row["figure"] not in ("", "ratio", "seconds") else ""
    spread = f" ({number(row['least'])}-{number(row['most'])})" if row["rounds"] > 1 else ""
    return f"{name}{number(row['value'], row['unit'])}{spread}"


def goal(row: dict) -> str:
    if row["target"] is None:
        return ""
    sign = "at most" if row["at_most"] else "at least"
    return f"{sign} {row['target']:,g}{'' if row['unit'] == 'x' else ' '}{row['unit']}"


def verdict(row: dict) -> str:
    if row["target"] is None:
        return ""
    return "reached" if row["reached"] else "SHORT"


def rates(row: dict) -> str:
    if not row["ours"]:
        return ""
    return f"{rate(row['ours'], row['work_unit'])} against {rate(row['theirs'], row['work_unit'])}"


def rate(side: dict, unit: str) -> str:
    """How fast a way is, or how long one takes where few go into a second: ``2.81 M images/s``, ``3.42 ms``."""
    if side["work"] == 1:
        return f"{1000 * side['seconds']:,.2f} ms"
    return f"{short(side['rate'])} {unit}/s"


def short(value: float) -> str:
    """A large number with three digits: ``2.81 M``, ``62.1 k``, ``31.0``."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


# JSON


def write_json(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


# Markdown


def section(results: dict) -> str:
    """Return the measured section of docs/performance.md."""
    rows = results["rows"]
    curve = [row for row in rows if row["name"].startswith("kernel/curve")]
    main = [row for row in rows if row not in curve]
    images = "varied CIFAR-10 images" if results["real_images"] else "made images, no real ones"
    parts = [
        f"Measured in one run of {results['seconds'] / 60:.0f} minutes on {words(results['machine'])}; {images}.",
        "![Ratios](plots/ratios.svg)",
        markdown(
            ("step", "against", "ours", "theirs", "figure (least-most of the rounds)", "to reach"),
            [
                (
                    row["step"],
                    row["against"],
                    *(
                        (rate(row[side], row["work_unit"]) if row[side] else "")
                        for side in ("ours", "theirs")
                    ),
                    figure(row),
                    f"{goal(row)}{': ' if row['target'] is not None else ''}{verdict(row).lower()}",
                )
                for row in main
            ],
        ),
        "\n".join(f"- *{row['step']}, against {row['against']}*: {row['note']}." for row in _noted(main)),
    ]
    if curve:
        parts += [
            "### More trees, deeper trees",
            "![The kernel over trees and depth](plots/kernel.svg)",
            markdown(
                ("trees", "depth", "nodes", "images/s", "of reading every byte once"),
                [
                    (
                        row["about"]["trees"],
                        row["about"]["depth"],
                        f"{row['about']['nodes']:,}",
                        short(row["ours"]["rate"]),
                        figure(row),
                    )
                    for row in curve
                ],
            ),
            f"{curve[0]['note'].capitalize()}.",
        ]
    for table in results["tables"]:
        parts += [
            f"### {table['title']}",
            f"![{table['title']}](plots/{table['name']}.svg)",
            markdown(table["columns"], [[cell(value) for value in row] for row in table["rows"]]),
        ]
        parts += [table["note"][:1].upper() + table["note"][1:] + "."] if table["note"] else []
    return "\n\n".join(parts)


def _noted(rows: list[dict]) -> list[dict]:
    """The rows that have a note, each comparison once."""
    return list({row["name"]: row for row in rows if row["note"]}.values())


def cell(value) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return str(value)


def markdown(columns, rows) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in rows]
    return "\n".join(lines)


def write_section(path: Path, name: str, text: str) -> None:
    """Replace what stands between the two markers ``name`` of a document. Raises `TinyTagsError` where it has none."""
    begin, end = BEGIN.format(name), END.format(name)
    document = path.read_text()
    if document.count(begin) != 1 or document.count(end) != 1:
        raise TinyTagsError(f"{path}: has no one section between {begin!r} and {end!r}; put the markers back")
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
