"""Train a model on a labelled corpus, measure it on images held out, and save it.

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
from conf.processor import processor_seconds
from conf.settings import Settings
from conf.wording import counted, duration
from jobs.corrected import Corrected, corrected_classes, with_corrections
from jobs.engines import ENGINES, Training, choose_trainer, default_engine
from storage import layout
from tagging.features import FEATURES, describe_features, features_class
from tagging.network.recipes import RECIPES, recipes_help
from tagging.training import (
    HOLDOUT,
    SEED,
    Part,
    choose,
    every_row,
    few_held_out,
    held_out_blocks,
    make_features,
    measure_model,
    sample_images,
    some_of_each,
    training_hashes,
)


def trainer_option(name: str, kind: click.ParamType, help: str, default: object):
    """Return the decorator that adds a parameter of some trainers; ``default`` is for --help, `jobs.engines` has the value."""
    return click.option(name, type=kind, help=f"{help}  [default: {default}]")


@click.command("train")
@click.option("--corpus", required=True, metavar="NAME", help="The labelled corpus to learn from.")
@click.option("--model", required=True, metavar="NAME", help="What to call the model.")
@trainer_option("--trees", click.IntRange(1, 10_000), "Each has one vote.", 10)
@trainer_option("--depth", click.IntRange(0, 30), "Deepest a tree may grow.", 10)
@trainer_option("--bins", click.IntRange(2, 256), "Thresholds tried a feature (MLlib only).", 50)
@trainer_option(
    "--recipe", click.Choice(list(RECIPES)), f"The network of engine keras: {recipes_help()}.", "medium"
)
@trainer_option(
    "--epochs",
    click.IntRange(1, 10_000),
    "How many times a network is trained on each image.",
    "the recipe's",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Whether a network also learns from mirrored images.  [default: unless all are grey]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=SEED,
    show_default=True,
    help="Decides what chance decides: the same seed, and for MLlib the same tasks (in the card), give the same forest or linear model.",
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
    help="scikit-learn gives the same kinds of model for local work, without a JVM; keras trains a network.  [default: mllib for a forest on pixels, keras for a network, else scikit-learn]",
)
@click.option(
    "--features",
    metavar="NAME",
    help=f"Learn from features of the images instead of the pixels: {', '.join(FEATURES)}.",
)
@click.option(
    "--head",
    type=click.Choice(list(dict.fromkeys(head for heads in ENGINES.values() for head in heads))),
    help="The kind of model that learns.  [default: linear on pretrained features, else forest]",
)
@click.option(
    "--per-class",
    type=click.IntRange(1),
    help="Train on so many images of each class at most, drawn by chance: to see how many labels it takes.",
)
@click.option(
    "--corrections",
    is_flag=True,
    help="Also train on the corrections made on the page: on the label that most people give to an image. New classes that people gave images of the corpus are learnt, too.",
)
@settings_options("store", "webhdfs", "master", "database")
@json_option
def main(
    corpus,
    model,
    seed,
    holdout,
    engine,
    features,
    head,
    per_class,
    corrections,
    settings,
    as_json,
    **parameters,
):
    """Train a model on a labelled corpus.

    The model is a random forest on the pixels, unless --features or --head name another. A corpus that says which images are for testing (CIFAR-10 and MNIST do) is trained on the others and measured on
    these; of any other, a seeded share is held out. The model's card has the accuracy, the confusion matrix and, for each
    number of votes, how many tags are kept and how many of these are right.

    Where labels are few, --features pretrained needs the fewest. Of a corpus without a test part and with fewer than 1,000
    labels, a model of features is trained on all and measured by cross-validation.
    """  # fmt: skip
    given = {name: value for name, value in parameters.items() if value is not None}
    card = train_forest(
        settings, corpus, model, engine, seed, holdout, corrections, features, head, per_class, **given
    )
    from tagging.quality import describe

    trained_on = counted(card["trained_on"]["images"], "image") + (
        f" and {counted(card['trained_on']['corrections'], 'correction')}" if corrections else ""
    )
    voters = f", {counted(card['trees'], 'tree')}" if "trees" in card else ""
    summary = f"model {model}: {trained_on}{voters}, fitted in {duration(card['seconds']['fit'])}\n"
    measured = f"{card['measured_on']['part']}: " if "cross_validation" in card["measured_on"] else ""
    report(card, summary + measured + describe(card["quality"]), as_json)


def train_forest(
    settings: Settings, corpus: str, model: str, engine: str | None = None, seed: int = SEED, holdout: float = HOLDOUT,
    corrections: bool = False, features: str | None = None, head: str | None = None, per_class: int | None = None,
    **given: Any,
) -> dict:  # fmt: skip
    """Train, measure and save a model; return its card. With ``corrections`` it is also trained on those in the database.

    ``given`` are parameters of the trainer, in `jobs.engines`. Raises `TinyTagsError` for a corpus without labels, for the
    name of another model, where there are no corrections, and for a parameter that the trainer doesn't have.
    """
    from ingest.corpus import open_corpus
    from jobs.cross_validation import FOLDS, cross_validate
    from jobs.environment import check_start
    from jobs.runner import is_local, runner_kind
    from storage.lease import lease
    from storage.store import check_name, store_of
    from tagging.featured import Featured
    from tagging.models import model_exists, save_model

    check_name("model", model)
    if features:
        head = head or features_class(features).head
    engine = engine or default_engine(head, bool(features))
    head, trainer = choose_trainer(engine, head)
    if features and not trainer.features:
        raise TinyTagsError(f"a {head} of engine {engine} learns from the pixels; leave --features out")
    store = store_of(settings)
    source = open_corpus(store, corpus)
    if not source.classes and not (corrections and trainer.in_memory):
        raise TinyTagsError(
            f"corpus {corpus!r} has no labels to learn from; ingest one that has, like CIFAR-10, or label images on their pages "
            "and train with --features pretrained --corrections"
        )
    if trainer.needs_spark and not runner_kind(settings.master).spark:
        raise TinyTagsError(
            f"MLlib needs Spark, and the master is {settings.master!r}: train with `--engine scikit-learn`, or on a Spark master "
            "like --master 'local[*]'"
        )
    parameters = trainer.complete(given, f"engine {engine} for a {head}") | {"seed": seed}
    if features:
        parameters |= {"features": features, "head": head}
    training_part: Part = functools.partial(choose, source, seed, holdout, train=True)
    part = training_part
    crossed = trainer.in_memory and (
        not source.classes or (features is not None and few_held_out(store, source, holdout))
    )
    if per_class:
        crossed, part = False, some_of_each(store, source, part, per_class, seed)
        parameters["per_class"] = per_class
    if crossed and not source.splits:
        part = functools.partial(every_row, source)
    elif not source.splits:
        parameters["holdout"] = holdout
    classes = corrected_classes(settings, source) if corrections else list(source.classes or [])
    corrected, of_corrections = Corrected.nothing(), dict[str, Any]()
    if corrections:
        held_out = () if crossed else held_out_blocks(store, source, seed, holdout)
        part, corrected, of_corrections = with_corrections(settings, store, source, part, held_out, classes)
    if trainer.needs_spark and not model_exists(store, model):
        check_start(settings.master, "train")
    with lease(store, layout.model_lease(model), f"model {model!r}"):
        if model_exists(store, model):
            raise TinyTagsError(
                f"model {model!r} is there already; give this one another name, or remove {store.url(layout.model_folder(model))}"
            )
        # Without a card, all there is was left by a killed attempt.
        store.remove_temporary(layout.model_folder(model))
        store.remove_tree(layout.model_spark(model))
        began = time.monotonic()
        chosen = make_features(store, source, features, training_part, seed, holdout) if features else None
        if chosen and trainer.feature_per_class and chosen.length < len(classes):
            raise TinyTagsError(
                f"a {head} of {len(classes):,} classes needs as many features or more, and {features!r} has {chosen.length:,}; "
                "name more, as in pca-100, or train with --head linear"
            )
        ready = time.monotonic()
        training = Training(settings, store, source, model, classes, parameters, part, corrected, chosen)
        used = processor_seconds()
        fitted = trainer.load()(training)
        # On a cluster most of the work is done elsewhere; a trainer that goes on where it was killed counts for itself.
        if is_local(settings.master):
            fitted.seconds.setdefault("processor", round(processor_seconds() - used, 3))
        measured = time.monotonic()
        if crossed:
            quality = cross_validate(training, trainer)
            how = {"part": f"cross-validation in {FOLDS} parts", "cross_validation": FOLDS}
        else:
            threads = len(os.sched_getaffinity(0))
            blocks = held_out_blocks(store, source, seed, holdout, chosen, threads)
            quality = measure_model(fitted.model, blocks)
            how = {"part": "test" if source.splits else f"held out, {holdout:.0%}"}
        # Features may be fitted to more images than the model: to unlabelled ones, and to those that --per-class leaves out.
        fitted_to = [sample_images(store, source, training_part, seed)] if chosen and chosen.fitted else []
        trained = training_hashes(store, source, part, corrected.images, *fitted_to)
        seconds = {
            **({"features": round(ready - began, 1)} if chosen else {}),
            **fitted.seconds,
            "measure": round(time.monotonic() - measured, 1),
            "all": round(time.monotonic() - began, 1),
        }
        card = {
            "engine": engine, "parameters": parameters,
            "trained_on": {"corpus": corpus, "corpus_hash": source.hash, "images": fitted.images - len(corrected.labels),
                           **of_corrections},
            "measured_on": {"corpus": corpus, "corpus_hash": source.hash, "images": quality["images"], **how},
            "quality": quality, "seconds": seconds,
        }  # fmt: skip
        if chosen:
            card["features"] = describe_features(chosen)
        return save_model(
            store, model, Featured(chosen, fitted.model) if chosen else fitted.model, card, trained
        )


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.train_forest import main

    run(main)
