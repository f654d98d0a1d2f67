"""Searches the parameters of a forest by cross-validation: each fold of each combination is a task."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus, open_corpus
from jobs.kept_results import kept_results, result_path
from jobs.samples import IMAGES, labelled_corpus, training_codes, training_sample
from storage.store import Store, store_of
from tagging.classics import versions
from tagging.features import features_class
from tagging.grid import Cell, cells, measure_fold, summarise
from tagging.training import SEED

FOLDS = 3


def grid_search(
    settings: Settings, corpus: str, images: int = IMAGES, trees: int = 500, depths: Sequence[int] = (5, 10, 20, 30),
    leaves: Sequence[int] = (1, 5), splits: Sequence[int] = (2, 20), folds: int = FOLDS, seed: int = SEED,
    features: str = "pixels",
) -> dict[str, Any]:  # fmt: skip
    """Measure forests of all combinations of parameters by cross-validation within ``images`` training images.

    Each fold of each combination is a task, and its result is kept in the store. The result has ``rows`` as
    `tagging.grid.summarise` returns them. Raises `TinyTagsError` where the corpus has too few labelled images.
    """
    store = store_of(settings)
    source = labelled_corpus(open_corpus(store, corpus))
    if features_class(features).mirrored:
        raise TinyTagsError(
            f"features {features!r} can't be searched by cross-validation: an image and its mirror image would be in two folds"
        )
    _, labels = training_sample(store, source, images, seed)
    if np.unique(labels, return_counts=True)[1].min() < folds:
        raise TinyTagsError(
            f"{len(labels):,} training images of corpus {corpus!r} have a class with fewer than {folds} images, one for each "
            "fold; give more --images or fewer --folds"
        )
    facts = [
        {"corpus": source.hash, "images": images, "seed": seed, "features": features,
         "features_version": features_class(features).version, "trees": trees, "folds": folds,
         "fold": fold, "cell": [cell.depth, cell.leaf, cell.split], **versions()}
        for cell in cells(depths, leaves, splits) for fold in range(folds)
    ]  # fmt: skip
    task = functools.partial(fit_fold, store, source, facts)
    results = kept_results(settings, store, corpus, "folds", facts, task)
    return {"corpus": corpus, "corpus_hash": source.hash, "images": len(labels), "folds": folds, "seed": seed,
            "rows": summarise(results)}  # fmt: skip


def fit_fold(store: Store, corpus: Corpus, facts: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """Fit and measure one fold of one cell of the grid; keep its result."""
    fact = facts[number]
    (codes, labels), _ = training_codes(store, corpus, fact)
    result = measure_fold(
        codes, labels, corpus.classes or [], Cell(*fact["cell"]), fact["trees"], fact["folds"], fact["fold"], fact["seed"]
    )  # fmt: skip
    store.write_json(result_path(corpus.name, fact), {"facts": fact, "result": result})
    return {"partition": number, "folds": 1}
