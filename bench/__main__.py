"""The bench's command line: ``python -m bench [--quick] [--only NAME] [--list] [--out DIR]``."""

import importlib
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import machine, plots, report
from bench.harness import compare, problems_of
from bench.place import ROOT, Place
from bench.sizes import FULL, QUICK
from conf.command import note, run
from conf.wording import duration

# In this order: first the groups that need Spark, then those that need Solr, at last those that need all memory.
QUICK_GROUPS = ("kernel", "tag", "ingest", "index", "search", "page", "users", "thumbnails", "startup")
GROUPS = (
    *QUICK_GROUPS[:2],
    "zipped",
    "network",
    "ingest",
    "hdfs",
    *QUICK_GROUPS[3:],
    "similar",
    "growth",
    "whole",
    "train",
)
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
# Dump and corpora of the full bench, with the files of Spark, HDFS and Solr.
NEEDED_BYTES = 16_000_000_000
BUSY = 0.5
out_option = click.option(
    "--out", default=RESULTS, type=click.Path(path_type=Path), help="Folder of the results, as JSON."
)


@click.command("bench")
@click.option(
    "--quick", is_flag=True, help="In 3 to 6 minutes: less of everything, and only the quick groups."
)
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="Only this group; repeatable.")
@click.option("--list", "listed", is_flag=True, help="List the groups.")
@out_option
def main(quick, only, listed, out):
    """Measure every step side by side with its alternatives, and with the physical floor.

    Prints ratios as they come. In full, without --only, also writes the measured section of docs/performance.md and its
    plots. Exit code 1 where two ways have different results, or a figure is less than a tenth of its target.

    Works in a temporary folder, or in one below TINYTAGS_BENCH_DIR. TINYTAGS_SHARED_DATA may name a folder with
    cifar10-jpeg.tar.xz; without it, images are scikit-learn's digits.
    """
    if listed:
        for name in GROUPS:
            click.echo(f"{name:12}{_module(name).__doc__.strip()}")
        return
    sizes, groups = (QUICK, QUICK_GROUPS) if quick else (FULL, GROUPS)
    with Place(sizes, needed=0 if quick else NEEDED_BYTES) as place:
        results = measure(place, [name for name in GROUPS if name in (only or groups)])
    report.write_json(out / f"{'-'.join([sizes.name, *only])}.json", results)
    if not quick and not only:
        plots.draw(results, DOCUMENT.parent / "plots")
        report.write_section(DOCUMENT, "bench", report.section(results, plots.NAMES))
        note(f"bench: tables and plots in {DOCUMENT}")
    finish(results)


def measure(place: Place, groups: list[str]) -> dict:
    """Measure groups and return everything, fit for JSON; errors are in ``problems``, and the other groups still run."""
    began, seconds = time.monotonic(), {}
    results = {
        "version": 2, "mode": place.sizes.name, "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(), "real_images": place.real, "seconds_by_group": seconds, "rows": [], "problems": [],
    }  # fmt: skip
    place.note(machine.words(results["machine"]))
    if results["machine"]["load"] > BUSY * place.cores:
        place.note(f"this machine is busy (load {results['machine']['load']}), which changes the figures")
    for name in groups:
        started = time.monotonic()
        with problems_of(name, results):
            for measured in _module(name).measured(place):
                rows = [measured] if isinstance(measured, dict) else []
                if not rows:
                    with problems_of(measured.name, results):
                        rows = compare(measured, place.sizes.rounds)
                results["rows"] += rows
                for row in rows:
                    place.note(report.line(row))
        seconds[name] = round(time.monotonic() - started, 1)
    results["seconds"] = round(time.monotonic() - began, 1)
    return results


def finish(results: dict) -> None:
    """Print all rows once more, and the problems; exit with code 1 where there are some, else 0."""
    for row in results["rows"]:
        click.echo(report.line(row))
    failed = [f"far from its target: {row['name']}" for row in results["rows"] if row["failed"]]
    for problem in (problems := failed + results["problems"]):
        click.echo(problem)
    note(f"bench: {duration(results['seconds'])}")
    raise click.exceptions.Exit(1 if problems else 0)


def _module(name: str):
    return importlib.import_module(f"bench.rows.{name}")


if __name__ == "__main__":
    run(main)
