"""Compare models on the same labelled images, also with scikit-learn's classifiers; or search the parameters of a forest.

spark-submit --py-files dist/tinytags.zip jobs/compare_models.py forest-10 network --corpus cifar-10
"""

import functools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, listed
from jobs.environment import check_master
from jobs.grid_search import FOLDS, grid_search
from jobs.kept_results import kept_results, result_path
from jobs.samples import IMAGES, labelled_corpus, measured_images, training_codes
from tagging.features import features_class
from tagging.training import HOLDOUT, SEED

if TYPE_CHECKING:
    from ingest.corpus import Corpus
    from storage.store import Store


@click.command("compare")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--corpus", required=True, metavar="LABELLED", help="The labelled corpus to measure on.")
@click.option("--classics", is_flag=True, help="Also fit and measure scikit-learn's classifiers.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Of scikit-learn's classifiers only this one; repeatable."
)
@click.option(
    "--features",
    multiple=True,
    metavar="NAME",
    help="What these classifiers, or the grid, learn from; repeatable.  [default: pixels]",
)
@click.option(
    "--grid",
    is_flag=True,
    help="Instead of comparing, search the parameters of a forest by cross-validation.",
)
@click.option(
    "--images",
    type=click.IntRange(10),
    default=IMAGES,
    show_default=True,
    help="Training images that classifiers and grid use, drawn by chance; all where there are fewer.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=SEED, show_default=True, help="Decides what chance decides."
)  # fmt: skip
@click.option(
    "--trees", type=click.IntRange(1, 5_000), default=500, show_default=True, help="Most trees of the grid."
)
@click.option(
    "--depth", multiple=True, type=click.IntRange(1, 100), default=(5, 10, 20, 30), show_default=True,
    help="Deepest a tree of the grid may grow; repeatable.",
)  # fmt: skip
@click.option(
    "--leaf", multiple=True, type=click.IntRange(1), default=(1, 5), show_default=True,
    help="Fewest images in a leaf; repeatable.",
)  # fmt: skip
@click.option(
    "--split", multiple=True, type=click.IntRange(2), default=(2, 20), show_default=True,
    help="Fewest images in a node that is split; repeatable.",
)  # fmt: skip
@click.option(
    "--folds", type=click.IntRange(2, 20), default=FOLDS, show_default=True, help="Folds of the grid's cross-validation."
)  # fmt: skip
@settings_options("store", "webhdfs", "master")
@json_option
def main(
    models,
    corpus,
    classics,
    only,
    features,
    grid,
    images,
    seed,
    trees,
    depth,
    leaf,
    split,
    folds,
    settings,
    as_json,
):
    """Compare models of the store on the same labelled images.

    Measured on images that no model of the corpus was trained on: those that the corpus has for testing, else the share that
    `tinytags train` holds out. With --classics, the classifiers of scikit-learn are fitted on --images training images, each
    with a set-up that suits it; parameters are chosen within the training images. With --grid, forests of all
    combinations of --depth, --leaf and --split are measured by cross-validation within the training images.

    What is fitted is kept in the store, so that the same command continues where it was stopped.
    """
    from tagging.comparison import describe
    from tagging.grid import describe as describe_grid

    if grid:
        if len(features) > 1:
            raise TinyTagsError(
                f"a grid is of one kind of features, not of {', '.join(features)}; search each by itself"
            )
        result = grid_search(settings, corpus, images, trees, depth, leaf, split, folds, seed, *features)
        head = f"{counted(result['images'], 'training image')} of {corpus}, {folds} folds\n"
        report(result, head + describe_grid(result["rows"]), as_json)
        return
    names = only if only or not classics else None
    result = compare_models(settings, corpus, models, names, images, seed, features or ("pixels",))
    head = f"{counted(result['images'], 'image')} of {corpus}, {result['part']}\n"
    report(result, head + describe(result["rows"]), as_json)


def compare_models(
    settings: Settings, corpus: str, models: Sequence[str] = (), classics: Sequence[str] | None = (),
    images: int = IMAGES, seed: int = SEED, features: Sequence[str] = ("pixels",),
) -> dict[str, Any]:  # fmt: skip
    """Return a row of figures for each of ``models``, and for each of scikit-learn's ``classics``, of which None means all.

    The classifiers are fitted on each of ``features`` of ``images`` training images; those that are kept in the store from
    before are not fitted again.
    Raises `TinyTagsError` for a corpus without labels, a model with other classes or trained on images that are measured on.
    """
    from ingest.corpus import open_corpus
    from storage.store import store_of
    from tagging.classics import CLASSICS, classic_named, versions
    from tagging.comparison import model_row
    from tagging.models import load_model, read_card
    from tagging.tags import renumbering

    store = store_of(settings)
    source = labelled_corpus(open_corpus(store, corpus))
    names = list(CLASSICS) if classics is None else list(dict.fromkeys(classics))
    for name in names:
        classic_named(name)
    kinds = {name: features_class(name) for name in features}
    if not models and not names:
        raise TinyTagsError(
            "there is nothing to compare; name models of the store, or give --classics or --grid"
        )
    cards = {name: read_card(store, name) for name in dict.fromkeys(models)}
    for name, card in cards.items():
        check_comparable(name, card, source)
    if names:  # whose fitting comes after the measuring of models
        check_master(settings.master)
    test_images, test_labels = measured_images(store, source)
    if (trained_on := seen_images(store, cards, test_images, corpus)).any():
        note(f"compare: {counted(int(trained_on.sum()), 'image')} that a model was trained on left out")
        test_images, test_labels = test_images[~trained_on], test_labels[~trained_on]
    rows = []
    for name, card in cards.items():
        model = load_model(store, name)
        numbers = renumbering(source.classes or [], model.classes)
        rows.append(model_row(model, card, test_images, numbers[test_labels]))
    if names:
        facts = [
            {"corpus": source.hash, "classifier": name, "images": images, "seed": seed, "features": feature,
             "features_version": kind.version, **versions()}
            for feature, kind in kinds.items() for name in names
        ]  # fmt: skip
        task = functools.partial(fit_classic, store, source, facts)
        rows += kept_results(settings, store, corpus, "classifiers", facts, task)
    part = "its test part" if source.splits else f"a share of {HOLDOUT:.0%} held out"
    return {"corpus": corpus, "corpus_hash": source.hash, "images": len(test_labels), "part": part, "rows": rows}  # fmt: skip


def fit_classic(store: "Store", corpus: "Corpus", facts: list[dict], number: int) -> dict[str, Any]:
    """Fit and measure one classifier of scikit-learn; keep its row."""
    from tagging.classics import classic_row

    fact = facts[number]
    train, features = training_codes(store, corpus, fact)
    row = classic_row(
        fact["classifier"], train, measured_images(store, corpus), corpus.classes or [], fact["seed"], features
    )  # fmt: skip
    store.write_json(result_path(corpus.name, fact), {"facts": fact, "result": row})
    return {"partition": number, "classifiers": 1}


def check_comparable(name: str, card: dict[str, Any], corpus: "Corpus") -> None:
    """Raise `TinyTagsError` for a model without some of the classes, or trained on images that it would be measured on."""
    unknown = [label for label in corpus.classes or [] if label not in card["classes"]]
    if unknown:
        raise TinyTagsError(
            f"corpus {corpus.name!r} has labels {listed(unknown, 5)}, model {name!r} has only {listed(card['classes'], 10)}; "
            "compare models of the same classes"
        )
    parameters = card.get("parameters") or {}
    held_out = (parameters.get("seed", SEED), parameters.get("holdout", HOLDOUT))
    trained_here = (card.get("trained_on") or {}).get("corpus_hash") == corpus.hash
    if trained_here and not corpus.splits and held_out != (SEED, HOLDOUT):
        raise TinyTagsError(
            f"model {name!r} was trained with seed {held_out[0]} and holdout {held_out[1]:g}, so on images of corpus "
            f"{corpus.name!r} that others are measured on; train it with seed {SEED} and holdout {HOLDOUT:g}"
        )


def seen_images(store: "Store", cards: dict[str, Any], images: np.ndarray, corpus: str) -> np.ndarray:
    """Return (n,) bool, which of ``images`` any of the models was trained on. Raises `TrainingDataError` for more than a few."""
    from jobs.evaluate_model import LEFT_OUT, TrainingDataError
    from tagging.trained import are_among, read_trained

    seen = np.zeros(len(images), bool)
    for name, card in cards.items():
        trained = read_trained(store, card)
        if trained is None:
            continue
        among = are_among(images, trained)
        if among.sum() > LEFT_OUT * len(images):
            raise TrainingDataError(
                f"model {name!r} was trained on {among.sum():,} of the {len(images):,} images of {corpus!r} that models are compared "
                "on; compare it on another corpus",
                int(among.sum()),
                len(images),
            )
        seen |= among
    return seen


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.compare_models import main

    run(main)
