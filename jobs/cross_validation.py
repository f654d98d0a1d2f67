"""Measures a model by cross-validation: for corpora with too few labels to keep some for measuring alone."""

from typing import Any

import numpy as np

from conf.errors import TinyTagsError
from jobs.engines import Trainer, Training
from tagging.quality import quality
from tagging.tallies import tally, total
from tagging.training import fold_numbers

FOLDS = 5


def cross_validate(training: Training, trainer: Trainer, folds: int = FOLDS) -> dict[str, Any]:
    """Return the `tagging.quality.quality` of models that are each trained on all but one of the ``folds``, and measured on that one.

    So each image is measured on once, by a model that was not trained on it. Raises `TinyTagsError` where there are no two
    classes with two images each.
    """
    inputs, labels = training.examples
    once = training.images  # mirrored images, which follow, are trained on and not measured on
    if (np.bincount(labels[:once]) > 1).sum() < 2:
        raise TinyTagsError(
            f"{once:,} labelled images of corpus {training.corpus.name!r} are too few to train on and to measure on; label two "
            "or more of each of two classes"
        )
    fold = fold_numbers(labels[:once], folds, training.parameters["seed"])
    everywhere = np.resize(fold, len(labels))
    fit = trainer.load()
    tallies = []
    for number in range(folds):
        measured = np.flatnonzero(fold == number)
        if len(measured):
            model = fit(training.only(everywhere != number)).model
            tallies.append(tally(model.votes(inputs[measured]), labels[measured], model.voters))
    return quality(total(tallies), training.classes)
