"""Train a random forest on a labelled corpus, measure it on images held out, and save it as a packed forest.

spark-submit --driver-memory 8g --py-files dist/tinytags.zip jobs/train_forest.py --corpus cifar-10 --model forest-10
"""

import functools
import importlib
import os
import sys
import time
from typing import Any

import click
import numpy as np

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, duration
from jobs.corrected import Corrected, with_corrections
from storage import layout
from tagging.training import HOLDOUT, SEED, Part, choose, held_out_blocks, labelled_blocks, measure_model


@click.command("train")
@click.option("--corpus", required=True, metavar="NAME", help="The labelled corpus to learn from.")
@click.option("--model", required=True, metavar="NAME", help="What to call the model.")
@click.option(
    "--trees", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Each has one vote."
)
@click.option(
    "--depth", type=click.IntRange(0, 30), default=10, show_default=True, help="Deepest a tree may grow."
)
@click.option(
    "--bins",
    type=click.IntRange(2, 256),
    default=50,
    show_default=True,
    help="Thresholds tried a feature (MLlib only).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=SEED,
    show_default=True,
    help="Decides what chance decides: the same seed and tasks (in the card) give the same forest.",
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=HOLDOUT,
    show_default=True,
    help="Share of the images kept to measure on, where the corpus doesn't come with a test part.",
)
@click.option(
    "--engine",
    type=click.Choice(["mllib", "scikit-learn"]),
    default="mllib",
    show_default=True,
    help="scikit-learn gives the same kind of model for local work, without a JVM.",
)
@click.option(
    "--corrections",
    is_flag=True,
    help="Also train on the corrections made on the page, on the latest one of each image.",
)
@settings_options("store", "webhdfs", "master", "database")
@json_option
def main(corpus, model, trees, depth, bins, seed, holdout, engine, corrections, settings, as_json):
    """Train a random forest on a labelled corpus.

    A corpus that says which images are for testing (CIFAR-10 and MNIST do) is trained on the others and measured on
    these; of any other, a seeded share is held out. The model's card has the accuracy, the confusion matrix and, for each
    number of votes, how many tags are kept and how many of these are right.
    """  # fmt: skip
    card = train_forest(settings, corpus, model, trees, depth, bins, seed, holdout, engine, corrections)
    from tagging.quality import describe

    trained_on = counted(card["trained_on"]["images"], "image") + (
        f" and {counted(card['trained_on']['corrections'], 'correction')}" if corrections else ""
    )
    summary = f"model {model}: {trained_on}, {counted(trees, 'tree')}, fitted in {duration(card['seconds']['fit'])}\n"
    report(card, summary + describe(card["quality"]), as_json)


def train_forest(
    settings: Settings, corpus: str, model: str, trees: int = 10, depth: int = 10, bins: int = 50, seed: int = SEED,
    holdout: float = HOLDOUT, engine: str = "mllib", corrections: bool = False,
) -> dict:  # fmt: skip
    """Train, measure and save a forest; return its card. With ``corrections`` it is also trained on those in the database.

    Raises `TinyTagsError` for a corpus without labels, for the name of another model, and where there are no corrections.
    """
    from ingest.corpus import open_corpus
    from jobs.runner import runner_module
    from storage.lease import lease
    from storage.store import check_name, open_store
    from tagging.models import model_exists, save_model

    check_name("model", model)
    store = open_store(settings.store, settings.webhdfs or None)
    source = open_corpus(store, corpus)
    if not source.classes:
        raise TinyTagsError(
            f"corpus {corpus!r} has no labels to learn from; ingest one that has, like CIFAR-10"
        )
    if engine == "mllib" and runner_module(settings.master) != "jobs.spark":
        raise TinyTagsError(
            f"MLlib needs Spark, and the master is {settings.master!r}: train with `--engine scikit-learn`, or on a Spark master "
            "like --master 'local[*]'"
        )
    part: Part = functools.partial(choose, source, seed, holdout, train=True)
    corrected, correction_facts = Corrected.nothing(), {}
    if corrections:
        held_out = held_out_blocks(store, source, seed, holdout)
        part, corrected, digest = with_corrections(settings, store, source, part, held_out)
        correction_facts = {"corrections": len(corrected.labels), "corrections_hash": digest}
    parameters: dict[str, Any] = {"trees": trees, "depth": depth, "bins": bins, "seed": seed}
    if not source.splits:
        parameters["holdout"] = holdout
    with lease(store, layout.model_lease(model), f"model {model!r}"):
        if model_exists(store, model):
            raise TinyTagsError(
                f"model {model!r} is there already; give this one another name, or remove {store.url(f'models/{model}')}"
            )
        # Without a card, all there is was left by a killed attempt.
        store.remove_temporary(layout.model_folder(model))
        store.remove_tree(layout.model_spark(model))
        fit = importlib.import_module("jobs.mllib").fit if engine == "mllib" else fit_scikit_learn
        began = time.monotonic()
        forest, images, seconds = fit(settings, store, source, model, parameters, part, corrected)
        measured = time.monotonic()
        quality = measure_model(forest, held_out_blocks(store, source, seed, holdout))
        seconds |= {
            "measure": round(time.monotonic() - measured, 1),
            "all": round(time.monotonic() - began, 1),
        }
        card = {
            "engine": engine, "parameters": parameters,
            "trained_on": {"corpus": corpus, "corpus_hash": source.hash, "images": images - len(corrected.labels),
                           **correction_facts},
            "measured_on": {"corpus": corpus, "corpus_hash": source.hash, "images": quality["images"],
                            "part": "test" if source.splits else f"held out, {holdout:.0%}"},
            "quality": quality, "seconds": seconds,
        }  # fmt: skip
        return save_model(store, model, forest, card)


def fit_scikit_learn(
    settings: Settings, store, corpus, model: str, parameters: dict, part, corrected: Corrected
):
    """Fit in this process; return the packed forest, the number of images and the seconds taken."""
    from tagging.forest.scikit_learn import train

    began = time.monotonic()
    blocks = [block for p in range(corpus.partitions) for block in labelled_blocks(store, corpus, p, part)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*blocks, corrected, strict=True))
    if not len(images):
        raise TinyTagsError(f"corpus {corpus.name!r} has no labelled image to train on")
    note(
        f"train: {counted(len(images), 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, scikit-learn"
    )
    prepared = time.monotonic()
    parameters.pop("bins")  # scikit-learn tries every threshold
    forest, more = train(
        images, labels, corpus.classes, parameters["trees"], parameters["depth"], parameters["seed"]
    )
    parameters |= more
    seconds = {"prepare": round(prepared - began, 1), "fit": round(time.monotonic() - prepared, 1)}
    return forest, len(images), seconds


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.train_forest import main

    run(main)
