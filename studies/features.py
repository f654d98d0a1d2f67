"""Measures what each kind of features gains or loses against pixels, and how few labels are enough: ``python -m studies.features --corpus cifar-10``.

Writes the measured section of docs/models.md.
"""

import functools
import hashlib
import json
import time
from typing import Any

import click
import numpy as np

from bench import machine, report
from bench.place import ROOT
from conf.command import note, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus, open_corpus
from storage.store import Store, store_of
from tagging import linear
from tagging.comparison import figures
from tagging.features import FEATURES
from tagging.forest import scikit_learn
from tagging.training import (
    HOLDOUT,
    choose,
    labelled_part,
    make_features,
    mirrored,
    some_of_each,
)

DOCUMENT = ROOT / "docs" / "models.md"
RESULTS = ROOT / "studies" / "results"
# Another way to measure needs another number.
VERSION = 1
BASELINE = "pixels"
FEW = ("pretrained", "pretrained-64", "pretrained-128")
LABELS = (5, 10, 50, 100, 500)
SEEDS = (0, 1, 2)


@click.command("features")
@click.option(
    "--corpus", required=True, metavar="LABELLED", help="The labelled corpus to train and measure on."
)
@click.option("--per-class", default=500, show_default=True, help="Training images of each class.")
@click.option("--trees", default=100, show_default=True, help="Trees of the forests, of any depth up to 30.")
@click.option("--only", multiple=True, metavar="NAME", help="Only these features; repeatable.")
@click.option("--few/--no-few", default=True, help="Also measure how few labels are enough.")
@click.option("--dry-run", is_flag=True, help="Print the section and write nothing.")
@settings_options("store", "webhdfs", "master")
def main(corpus, per_class, trees, only, few, dry_run, settings):
    """Train a forest and a linear model on each kind of features, and measure them on the same images.

    What is measured is kept in studies/results, so that the same command continues.
    """
    text = section(measure(settings, corpus, per_class, trees, list(only) or list(FEATURES), few))
    if dry_run:
        click.echo(text)
        return
    report.write_section(DOCUMENT, "features", text)
    note(f"features: tables in {DOCUMENT}")


def measure(
    settings: Settings, corpus: str, per_class: int, trees: int, names: list[str], few: bool
) -> dict[str, Any]:
    """Return the figures of each kind of features, and the accuracies with few labels; fit for JSON."""
    store = store_of(settings)
    source = open_corpus(store, corpus)
    if not source.classes:
        raise TinyTagsError(f"corpus {corpus!r} has no labels")
    rows = [
        _kept(
            functools.partial(measure_features, store, source, name, per_class, trees),
            source,
            name,
            per_class,
            trees,
        )
        for name in names
    ]
    labels = [
        _kept(functools.partial(measure_few, store, source, name), source, "few", name) for name in FEW if few
    ]
    return {
        "corpus": corpus, "per_class": per_class, "trees": trees, "rows": rows, "few": labels,
        "images": rows[0]["forest"]["images"], "machine": machine.describe(),
    }  # fmt: skip


def _kept(measure, source: Corpus, *facts: Any) -> dict[str, Any]:
    """Return the result of ``measure`` that is kept under these facts, else a new one."""
    key = hashlib.sha256(json.dumps([VERSION, source.hash, *facts]).encode()).hexdigest()[:16]
    path = RESULTS / f"features-{facts[0]}-{key}.json"
    if not path.exists():
        note(f"features: {' '.join(map(str, facts))}")
        report.write_json(path, measure())
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def measure_features(store: Store, source: Corpus, name: str, per_class: int, trees: int) -> dict[str, Any]:
    """Return the figures of a forest and a linear model on features: on ``per_class`` training images, drawn by seed 0."""
    every = functools.partial(choose, source, 0, HOLDOUT, train=True)
    features = make_features(store, source, name, every, 0, HOLDOUT)
    images, labels = labelled_part(store, source, some_of_each(store, source, every, per_class, 0))
    test, test_labels = labelled_part(
        store, source, functools.partial(choose, source, 0, HOLDOUT, train=False)
    )
    began = time.process_time()
    inputs = features.codes(test)
    rate = len(test) / max(time.process_time() - began, 1e-9)
    examples = features.codes(images)
    if features.mirrored:
        examples, labels = np.concatenate([examples, features.codes(mirrored(images))]), np.tile(labels, 2)
    classes = source.classes or []
    began = time.process_time()
    forest, _ = scikit_learn.train(examples, labels, classes, trees, 30, 0)
    ready = time.process_time()
    regression, _ = linear.train(examples, labels, classes)
    done = time.process_time()
    return {
        "name": name, "length": features.length, "rate": None if name == BASELINE or features.mirrored else rate, **features.facts,
        "forest": figures(forest.votes(inputs), test_labels, trees) | {"seconds": ready - began},
        "linear": figures(regression.votes(inputs), test_labels, None) | {"seconds": done - ready},
    }  # fmt: skip


def measure_few(store: Store, source: Corpus, name: str) -> dict[str, Any]:
    """Return the accuracies of linear models on `LABELS` images a class, each drawn by `SEEDS`."""
    every = functools.partial(choose, source, 0, HOLDOUT, train=True)
    features = make_features(store, source, name, every, 0, HOLDOUT)
    test = functools.partial(choose, source, 0, HOLDOUT, train=False)
    inputs, known = labelled_part(store, source, test, features)
    accuracies: dict[str, list[float]] = {str(count): [] for count in LABELS}
    for seed in SEEDS:
        pool, labels = labelled_part(
            store, source, some_of_each(store, source, every, max(LABELS), seed), features
        )
        chance = np.random.default_rng(seed)
        order = [chance.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        for count in LABELS:
            rows = np.concatenate([rows[:count] for rows in order])
            model, _ = linear.train(pool[rows], labels[rows], source.classes or [])
            accuracies[str(count)].append(float((model.votes(inputs).argmax(axis=1) == known).mean()))
    return {"name": name, "accuracies": accuracies}


def section(result: dict[str, Any]) -> str:
    """Return the measured section of the document."""
    classes = f"{result['per_class']:,} training images of each class"
    parts = [
        f"Trained on {classes} of {result['corpus']}, drawn by seed 0; measured on {result['images']:,} images held out; on "
        f"{machine.words(result['machine'])}. Nothing was chosen on the images held out. Forests have {result['trees']} trees of up to 30 steps. "
        "*Gain* is in points of accuracy against pixels. *At 40 %*: the share of right tags among those with that confidence or more, and the share of the images "
        "that have one. Rates are images in a second of one core's time."
    ]
    base = next((row for row in result["rows"] if row["name"] == BASELINE), None)
    lines = ["| features | images/s | forest | gain | at 40 % | linear | gain | at 40 % |", "|---" * 8 + "|"]
    for row in result["rows"]:
        cells = [f"`{row['name']}`", f"{row['rate']:,.0f}" if row["rate"] else ""]
        for head in ("forest", "linear"):
            gain = (
                100 * (row[head]["accuracy"] - base[head]["accuracy"]) if base and row is not base else None
            )
            kept = row[head]["at_confidence"]["0.4"]
            precision = (
                "-"
                if kept["precision"] is None
                else f"{100 * kept['precision']:.0f} % of {100 * kept['kept']:.0f} %"
            )
            cells += [
                f"{100 * row[head]['accuracy']:.1f} %",
                "" if gain is None else f"{gain:+.1f}",
                precision,
            ]
        lines.append(f"| {' | '.join(cells)} |")
    parts.append("\n".join(lines))
    explained = next(
        (row["variance_explained"] for row in result["rows"] if "variance_explained" in row), None
    )
    if explained:
        parts.append(f"The 100 components explain {100 * explained:.1f} % of the variance of the pixels.")
    if result["few"]:
        parts.append(
            "Linear models on few labels: the mean accuracy of seeds 0, 1 and 2, and the lowest and highest of the three."
        )
        lines = [f"| labels a class | {' | '.join(map(str, LABELS))} |", "|---" * (len(LABELS) + 1) + "|"]
        for row in result["few"]:
            cells = [
                f"{100 * np.mean(accuracies):.1f} % ({100 * min(accuracies):.1f}-{100 * max(accuracies):.1f})"
                for accuracies in row["accuracies"].values()
            ]
            lines.append(f"| `{row['name']}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    run(main)
