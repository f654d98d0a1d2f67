"""Train a random forest on a labelled corpus, measure it on images held out, and save it as a packed forest.

spark-submit --driver-memory 8g --py-files dist/tinytags.zip jobs/train_forest.py --corpus cifar-10 --model forest-10
"""

import functools
import os
import sys
import time
from typing import Any

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, duration
from jobs.corrected import Corrected, with_corrections
from jobs.engines import ENGINES, Training, choose_trainer
from storage import layout
from tagging.training import HOLDOUT, SEED, Part, choose, held_out_blocks, measure_model, training_hashes

ENGINE = "mllib"


def trainer_option(name: str, kind: click.ParamType, help: str, default: object):
    """Return the decorator that adds a parameter of some trainers; ``default`` is for --help, `jobs.engines` has the value."""
    return click.option(name, type=kind, help=f"{help}  [default: {default}]")


@click.command("train")
@click.option("--corpus", required=True, metavar="NAME", help="The labelled corpus to learn from.")
@click.option("--model", required=True, metavar="NAME", help="What to call the model.")
@trainer_option("--trees", click.IntRange(1, 10_000), "Each has one vote.", 10)
@trainer_option("--depth", click.IntRange(0, 30), "Deepest a tree may grow.", 10)
@trainer_option("--bins", click.IntRange(2, 256), "Thresholds tried a feature (MLlib only).", 50)
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
    type=click.Choice(list(ENGINES)),
    default=ENGINE,
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
def main(corpus, model, seed, holdout, engine, corrections, settings, as_json, **parameters):
    """Train a random forest on a labelled corpus.

    A corpus that says which images are for testing (CIFAR-10 and MNIST do) is trained on the others and measured on
    these; of any other, a seeded share is held out. The model's card has the accuracy, the confusion matrix and, for each
    number of votes, how many tags are kept and how many of these are right.
    """  # fmt: skip
    given = {name: value for name, value in parameters.items() if value is not None}
    card = train_forest(settings, corpus, model, engine, seed, holdout, corrections, **given)
    from tagging.quality import describe

    trained_on = counted(card["trained_on"]["images"], "image") + (
        f" and {counted(card['trained_on']['corrections'], 'correction')}" if corrections else ""
    )
    voters = f", {counted(card['trees'], 'tree')}" if "trees" in card else ""
    summary = f"model {model}: {trained_on}{voters}, fitted in {duration(card['seconds']['fit'])}\n"
    report(card, summary + describe(card["quality"]), as_json)


def train_forest(
    settings: Settings, corpus: str, model: str, engine: str = ENGINE, seed: int = SEED, holdout: float = HOLDOUT,
    corrections: bool = False, **given: Any,
) -> dict:  # fmt: skip
    """Train, measure and save a model; return its card. With ``corrections`` it is also trained on those in the database.

    ``given`` are parameters of the trainer, in `jobs.engines`. Raises `TinyTagsError` for a corpus without labels, for the
    name of another model, where there are no corrections, and for a parameter that the trainer doesn't have.
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
    _, trainer = choose_trainer(engine)
    if trainer.needs_spark and runner_module(settings.master) != "jobs.spark":
        raise TinyTagsError(
            f"MLlib needs Spark, and the master is {settings.master!r}: train with `--engine scikit-learn`, or on a Spark master "
            "like --master 'local[*]'"
        )
    parameters = trainer.complete(given, f"engine {engine}") | {"seed": seed}
    part: Part = functools.partial(choose, source, seed, holdout, train=True)
    corrected, correction_facts = Corrected.nothing(), {}
    if corrections:
        held_out = held_out_blocks(store, source, seed, holdout)
        part, corrected, digest = with_corrections(settings, store, source, part, held_out)
        correction_facts = {"corrections": len(corrected.labels), "corrections_hash": digest}
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
        began = time.monotonic()
        fitted = trainer.load()(
            Training(settings, store, source, model, source.classes, parameters, part, corrected)
        )
        measured = time.monotonic()
        quality = measure_model(fitted.model, held_out_blocks(store, source, seed, holdout))
        trained = training_hashes(store, source, part, corrected.images)
        seconds = fitted.seconds | {
            "measure": round(time.monotonic() - measured, 1),
            "all": round(time.monotonic() - began, 1),
        }
        card = {
            "engine": engine, "parameters": parameters,
            "trained_on": {"corpus": corpus, "corpus_hash": source.hash, "images": fitted.images - len(corrected.labels),
                           **correction_facts},
            "measured_on": {"corpus": corpus, "corpus_hash": source.hash, "images": quality["images"],
                            "part": "test" if source.splits else f"held out, {holdout:.0%}"},
            "quality": quality, "seconds": seconds,
        }  # fmt: skip
        return save_model(store, model, fitted.model, card, trained)


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.train_forest import main

    run(main)
