"""The bench's command line: ``python -m bench [--quick] [--only NAME] [--list] [--out DIR]``."""

import importlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import machine, plots, report
from bench.harness import Comparison, Table, compare, problems_of
from bench.place import ROOT, Place
from bench.sizes import FULL, QUICK
from conf.command import note, run
from conf.wording import duration

# In this order: first the groups that need Spark, then those that need Solr, at last those that need all memory.
GROUPS = (
    "kernel", "tag", "ingest", "hdfs", "index", "search", "page", "thumbnails", "startup", "growth", "whole", "train",
)  # fmt: skip
QUICK_GROUPS = ("kernel", "tag", "ingest", "index", "search", "page", "thumbnails", "startup")
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
# Dump and corpora of the full bench, with the files of Spark, HDFS and Solr.
NEEDED_BYTES = 16_000_000_000
BUSY = 0.5
out_option = click.option(
    "--out", default=RESULTS, type=click.Path(path_type=Path), help="Folder of the results, as JSON."
)


@click.command("bench")
@click.option("--quick", is_flag=True, help="In under 3 minutes: less of everything, and only what fits.")
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="Only this group; repeatable.")
@click.option("--list", "listed", is_flag=True, help="List the groups.")
@out_option
def main(quick, only, listed, out):
    """Measure every step side by side with its alternatives, and with the physical floor.

    Prints ratios as they come. In full, without --only, also writes the measured section of docs/performance.md and its
    plots. Exit code 1 where two ways have different results, or a figure is less than a tenth of its target.

    Works in a temporary folder, or in one below TINYTAGS_BENCH_DIR. TINYTAGS_SHARED_DATA may name a folder with
    cifar10-jpeg.tar.xz; without it, images are synthetic.
    """
    if listed:
        for name in GROUPS:
            click.echo(f"{name:12}{_module(name).__doc__.strip()}")
        return
    sizes = QUICK if quick else FULL
    groups = [name for name in GROUPS if name in (only or (QUICK_GROUPS if quick else GROUPS))]
    with Place(sizes, note=timed_note()) as place:
        if sizes is FULL:
            place.check_disk(NEEDED_BYTES)
        results = measure(place, groups)
    path = out / f"{'-'.join([sizes.name, *only])}.json"
    report.write_json(path, results)
    note(f"bench: {duration(results['seconds'])}; figures in {path}")
    if not quick and not only:
        plots.draw(results, DOCUMENT.parent / "plots")
        report.write_section(DOCUMENT, "bench", report.section(results))
        note(f"bench: tables and plots in {DOCUMENT}")
    raise click.exceptions.Exit(print_results(results))


def timed_note() -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since now."""
    began = time.monotonic()
    return lambda line: note(f"{time.monotonic() - began:6.0f} s  {line}")


def measure(place: Place, groups: list[str]) -> dict:
    """Measure groups and return everything, fit for JSON; errors are in ``problems``, and the other groups still run."""
    began, note = time.monotonic(), place.note
    results = {
        "version": 1, "mode": place.sizes.name, "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(), "rows": [], "tables": [], "problems": [], "seconds_by_group": {},
        "real_images": place.real,
    }  # fmt: skip
    note(machine.words(results["machine"]))
    if results["machine"]["load"] > BUSY * results["machine"]["cores"]:
        note(f"this machine is busy (load {results['machine']['load']}), which changes the figures")
    for name in groups:
        started = time.monotonic()
        with problems_of(name, results, note):
            for thing in _module(name).measured(place):
                _add(thing, results, note)
        results["seconds_by_group"][name] = round(time.monotonic() - started, 1)
    if "tag" in groups:
        results["parquet_bytes"] = place.parquet_bytes
    results["seconds"] = round(time.monotonic() - began, 1)
    return results


def _add(thing: Comparison | Table | dict, results: dict, note: Callable[[str], None]) -> None:
    if isinstance(thing, Table):
        results["tables"].append(vars(thing))
        return
    with problems_of(thing.name if isinstance(thing, Comparison) else thing["name"], results, note):
        rows = compare(thing, note) if isinstance(thing, Comparison) else [thing]
        results["rows"] += rows
        for row in rows:
            note(report.line(row))


def print_results(results: dict) -> int:
    """Print all rows once more, and the problems; return the exit code."""
    for row in results["rows"]:
        click.echo(report.line(row))
    for row in results["rows"]:
        if not row["reached"] and not row["failed"]:
            click.echo(f"short of its target: {row['name']}")
    failed = [f"far from its target: {row['name']}" for row in results["rows"] if row["failed"]]
    for problem in [*failed, *results["problems"]]:
        click.echo(problem)
    return 1 if failed or results["problems"] else 0


def _module(name: str):
    return importlib.import_module(f"bench.rows.{name}")


if __name__ == "__main__":
    run(main)
