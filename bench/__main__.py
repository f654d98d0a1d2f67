"""The bench's command line: ``python -m bench [--quick] [--only NAME] [--list] [--out DIR]``."""

import importlib
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import machine, plots, report
from bench.harness import Comparison, Table, UnequalError, compare
from bench.place import ROOT, Place
from bench.sizes import FULL, QUICK, Sizes
from conf.command import note, run
from conf.wording import duration

# What there is to measure, in this order: what needs Spark first, then what needs Solr, and last what wants all memory.
GROUPS = (
    "kernel",
    "tag",
    "ingest",
    "hdfs",
    "index",
    "search",
    "page",
    "thumbnails",
    "startup",
    "growth",
    "whole",
    "train",
)
QUICK_GROUPS = ("kernel", "tag", "ingest", "index", "search", "page", "thumbnails", "startup")
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
# Dump and corpora of the full bench, with what Spark, HDFS and Solr keep.
NEEDED_BYTES = 16_000_000_000
BUSY = 0.5


@click.command("bench")
@click.option("--quick", is_flag=True, help="In a few minutes: less of everything, and what fits.")
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="Only this group; repeatable.")
@click.option("--list", "listed", is_flag=True, help="Say what there is to measure.")
@click.option(
    "--out", default=RESULTS, type=click.Path(path_type=Path), help="Folder of the results, as JSON."
)
def main(quick, only, listed, out):
    """Measure every step side by side with what a user would do instead, and with the physical floor.

    Prints ratios as they come. In full, without --only, also writes the measured section of docs/performance.md and its
    plots. Exit code 1 where two ways differ in their results, or a figure is not a tenth of what it should be.

    Works in a temporary folder, or in one below TINYTAGS_BENCH_DIR. TINYTAGS_SHARED_DATA may name a folder with
    cifar10-jpeg.tar.xz; without it, images are made.
    """
    if listed:
        for name in GROUPS:
            click.echo(f"{name:12}{_module(name).__doc__.strip()}")
        return
    sizes = QUICK if quick else FULL
    chosen = [name for name in GROUPS if name in (only or (QUICK_GROUPS if quick else GROUPS))]
    results = measure(sizes, chosen)
    path = out / f"{'-'.join([sizes.name, *only])}.json"
    report.write_json(path, results)
    note(f"bench: {duration(results['seconds'])}; figures in {path}")
    if not quick and not only:
        plots.draw(results, DOCUMENT.parent / "plots")
        report.write_section(DOCUMENT, "bench", report.section(results))
        note(f"bench: tables and plots in {DOCUMENT}")
    raise click.exceptions.Exit(tell(results))


def measure(sizes: Sizes, groups: list[str], folder: str | None = None) -> dict:
    """Measure groups and return everything, fit for JSON; what fails is told under ``problems``, and the rest goes on."""
    began = time.monotonic()

    def told(line: str) -> None:
        note(f"{time.monotonic() - began:6.0f} s  {line}")

    results = {
        "version": 1,
        "mode": sizes.name,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "rows": [],
        "tables": [],
        "problems": [],
        "seconds_by_group": {},
    }
    told(machine.words(results["machine"]))
    if results["machine"]["load"] > BUSY * results["machine"]["cores"]:
        told(f"this machine is busy (load {results['machine']['load']}): figures will be too")
    with Place(sizes, folder, told) as place:
        if sizes is FULL:
            place.check_disk(NEEDED_BYTES)
        results["real_images"] = place.real
        for name in groups:
            started = time.monotonic()
            _measure_group(place, name, results, told)
            results["seconds_by_group"][name] = round(time.monotonic() - started, 1)
        if "tag" in groups:
            results["parquet_bytes"] = place.parquet_bytes
    results["seconds"] = round(time.monotonic() - began, 1)
    return results


def _measure_group(place: Place, name: str, results: dict, told) -> None:
    def problem(what: str, error: Exception) -> None:
        if not isinstance(error, UnequalError):
            traceback.print_exc()
        results["problems"].append(f"{what}: {type(error).__name__}: {error}")
        told(f"PROBLEM {results['problems'][-1]}")

    try:
        for thing in _module(name).measured(place):
            if isinstance(thing, Table):
                results["tables"].append(vars(thing))
                continue
            try:
                rows = compare(thing, told) if isinstance(thing, Comparison) else [thing]
            except Exception as error:
                problem(thing.name, error)
                continue
            results["rows"] += rows
            for row in rows:
                told(report.line(row))
    except Exception as error:
        problem(name, error)


def tell(results: dict) -> int:
    """Print all rows once more, and what is wrong; return the exit code."""
    for row in results["rows"]:
        click.echo(report.line(row))
    for name in (row["name"] for row in results["rows"] if not row["reached"] and not row["failed"]):
        click.echo(f"short of its target: {name}")
    failed = [f"far from its target: {row['name']}" for row in results["rows"] if row["failed"]]
    for problem in [*failed, *results["problems"]]:
        click.echo(problem)
    return 1 if failed or results["problems"] else 0


def _module(name: str):
    return importlib.import_module(f"bench.rows.{name}")


if __name__ == "__main__":
    run(main)
