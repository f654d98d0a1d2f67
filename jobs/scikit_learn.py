"""Trains models with scikit-learn, in this process: the engine for local work without a JVM."""

import time

from conf.wording import counted
from jobs.engines import Fitted, Training


def fit_forest(training: Training) -> Fitted:
    """Fit a forest and pack it."""
    from tagging.forest.scikit_learn import train

    began = time.monotonic()
    parameters = training.parameters
    inputs, labels = training.examples
    training.note(
        f"{counted(training.images, 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, scikit-learn"
    )
    prepared = time.monotonic()
    forest, more = train(
        inputs, labels, training.classes, parameters["trees"], parameters["depth"], parameters["seed"]
    )
    parameters |= more
    return Fitted(forest, training.images, _seconds(began, prepared))


def fit_linear(training: Training) -> Fitted:
    """Fit a softmax regression."""
    from tagging.linear import train

    began = time.monotonic()
    inputs, labels = training.examples
    training.note(
        f"{counted(training.images, 'image')}, {counted(inputs.shape[1], 'number')} an image, linear model"
    )
    prepared = time.monotonic()
    model, more = train(inputs, labels, training.classes, seed=training.parameters["seed"])
    training.parameters.update(more)
    return Fitted(model, training.images, _seconds(began, prepared))


def _seconds(began: float, prepared: float) -> dict[str, float]:
    return {"prepare": round(prepared - began, 1), "fit": round(time.monotonic() - prepared, 1)}
