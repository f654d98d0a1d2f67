"""Trains models with scikit-learn, in this process: the engine for local work without a JVM."""

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from conf.command import note
from conf.wording import counted
from jobs.engines import Fitted, Training


class Examples(NamedTuple):
    """All that a model is fitted to."""

    inputs: npt.NDArray[np.uint8]  # (n, k)
    labels: npt.NDArray[np.int32]  # (n,)


def read_examples(training: Training) -> Examples:
    """Read all images to train on. Raises `TinyTagsError` where there is none."""
    blocks = [block for p in range(training.corpus.partitions) for block in training.blocks(p)]
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*blocks, training.corrected, strict=True))
    if not len(inputs):
        raise training.no_images()
    return Examples(inputs, labels)


def fit_forest(training: Training) -> Fitted:
    """Fit a forest and pack it."""
    from tagging.forest.scikit_learn import train

    began = time.monotonic()
    parameters = training.parameters
    inputs, labels = read_examples(training)
    note(
        f"train: {counted(len(inputs), 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, scikit-learn"
    )
    prepared = time.monotonic()
    forest, more = train(
        inputs, labels, training.classes, parameters["trees"], parameters["depth"], parameters["seed"]
    )
    parameters |= more
    seconds = {"prepare": round(prepared - began, 1), "fit": round(time.monotonic() - prepared, 1)}
    return Fitted(forest, len(inputs), seconds)
