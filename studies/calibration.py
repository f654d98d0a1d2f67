"""Measures what the tables of calibration gain: ``python -m studies.calibration --corpus cifar-10 --model forest-10``.

Writes the measured table of docs/measuring.md. The tables are made from one half of the test images, and the errors are those on
the other half.
"""

import functools
from dataclasses import fields
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from bench import report
from bench.place import ROOT
from conf.command import note, run, settings_options
from conf.settings import Settings
from ingest.corpus import open_corpus
from storage.runs import PROBABILITY_STEPS
from storage.store import store_of
from tagging.calibration import BINS, calibration, expected_precision
from tagging.models import load_model
from tagging.tags import Winners, winners
from tagging.tallies import count_winners
from tagging.training import HOLDOUT, choose, labelled_part

DOCUMENT = ROOT / "docs" / "measuring.md"
SPLITS = 20

Floats = npt.NDArray[np.float64]
WAYS = ("raw", "by the table of all tags", "by the tables of the classes")


@click.command("calibration")
@click.option(
    "--corpus", required=True, metavar="LABELLED", help="The labelled corpus whose test images are measured."
)
@click.option("--model", "models", required=True, multiple=True, metavar="NAME", help="A model; repeatable.")
@click.option("--dry-run", is_flag=True, help="Print the table and write nothing.")
@settings_options("store", "webhdfs")
def main(corpus, models, dry_run, settings):
    """Measure how far confidences are from the share of right tags, before and after calibration."""
    images, results = measure(settings, corpus, models)
    text = section(corpus, images, results)
    if dry_run:
        click.echo(text)
        return
    report.write_section(DOCUMENT, "calibration", text)
    note(f"calibration: table in {DOCUMENT}")


def measure(
    settings: Settings, corpus: str, models: list[str]
) -> tuple[int, dict[str, list[tuple[float, float]]]]:
    """Return the number of test images, and for each model its errors in the order of `WAYS`: overall, and within classes."""
    store = store_of(settings)
    source = open_corpus(store, corpus)
    images, labels = labelled_part(store, source, functools.partial(choose, source, 0, HOLDOUT, train=False))
    results = {}
    for name in models:
        model = load_model(store, name)
        order = [model.classes.index(known) for known in source.classes or []]
        votes = model.votes(images)
        results[name] = gains(winners(votes), np.array(order)[labels], model.classes, model.voters)
    return len(images), results


def gains(
    best: Winners, labels: npt.NDArray[Any], classes: tuple[str, ...], voters: int | None
) -> list[tuple[float, float]]:
    """Return the errors of the confidences in the order of `WAYS`, the mean of `SPLITS` splits: overall, and within classes."""
    raw = best.votes / (PROBABILITY_STEPS if voters is None else voters)
    right = best.tag == labels
    errors_of_seeds = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(labels))
        fitted, measured = order[: len(order) // 2], order[len(order) // 2 :]
        half = Winners(*(getattr(best, column.name)[fitted] for column in fields(best)))
        table = calibration(count_winners(half, labels[fitted], len(classes), voters), classes)
        overall = {value: expected_precision(table, value) for value in np.unique(raw).tolist()}
        tags, values = best.tag[measured], raw[measured]
        expected = [
            values,
            np.array([overall[value] for value in values.tolist()]),
            np.array(
                [
                    expected_precision(table, value, classes[tag])
                    for value, tag in zip(values.tolist(), tags, strict=True)
                ]
            ),
        ]
        errors_of_seeds.append(
            [(_error(one, right[measured]), _within(one, right[measured], tags)) for one in expected]
        )
    return [tuple(errors) for errors in np.mean(errors_of_seeds, axis=0).tolist()]


def _error(confidences: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Guo et al. 2017) in `BINS` bins of equal width."""
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, confidences - right)).sum() / len(right))


def _within(confidences: Floats, right: npt.NDArray[np.bool_], tags: npt.NDArray[Any]) -> float:
    """Return by how much a class' mean confidence differs from its share of right tags, the mean of the classes with tags."""
    return float(
        np.mean([abs(np.mean(confidences[tags == tag] - right[tags == tag])) for tag in np.unique(tags)])
    )


def section(corpus: str, images: int, results: dict[str, list[tuple[float, float]]]) -> str:
    """Return the measured table of the document."""
    lines = [
        f"On {images:,} test images of {corpus}, in {SPLITS} splits of two halves:", "",
        "| model | confidence | expected calibration error | error within classes |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, errors in results.items():
        for way, (overall, within) in zip(WAYS, errors, strict=True):
            first = f"`{name}`" if way == WAYS[0] else ""
            lines.append(f"| {first} | {way} | {100 * overall:.1f} % | {100 * within:.1f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
