"""Classifies a picture that a client sends by a model of the store; the result is a prediction that can be stored."""

import hashlib
import time
from dataclasses import dataclass

import numpy as np

from conf.errors import TinyTagsError
from ingest.digit import is_digits
from ingest.image import Pixels
from ingest.picture import Decoder
from records.predictions import NewPrediction
from storage.runs import PROBABILITY_STEPS
from storage.store import Store, StoreError
from tagging.model import Model
from tagging.models import load_exact_model
from tagging.tags import winners
from tagging.types import Votes

UNNAMED = "picture"


class ModelUnusableError(TinyTagsError):
    """The model is in the store, but can't be run here."""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model and its name."""

    name: str
    model: Model


@dataclass(frozen=True)
class UploadedFile:
    """A file that a client sends; its name is only shown."""

    name: str
    data: bytes


def load(store: Store, name: str, model_hash: str) -> LoadedModel:
    """Return a model of the store, loaded once a process. Raises `StoreError`, or `ModelUnusableError`."""
    try:
        return LoadedModel(name, load_exact_model(store, name, model_hash))
    except StoreError:
        raise
    except (TinyTagsError, ImportError) as error:
        raise ModelUnusableError(f"model {name!r} can't be used here: {error}") from error


def classify(chosen: LoadedModel, given: UploadedFile, decoder: Decoder) -> NewPrediction:
    """Return the prediction of a file. Raises `ingest.image.PictureError` for one that is no picture, or too large,
    and `ModelUnusableError`.

    The image is the one that ``tinytags ingest`` makes of the same file in a folder, so its votes are those of
    ``tinytags tag``. Only where the classes are the ten digits it is the written one, as MNIST has it.
    """
    began = time.perf_counter()
    image = decoder.read(given.data, is_digits(chosen.model.classes))
    try:
        classes = shares(chosen.model, image)
    except TinyTagsError as error:
        raise ModelUnusableError(f"model {chosen.name!r} can't be used here: {error}") from error
    seconds = time.perf_counter() - began
    return NewPrediction(
        name=given.name or UNNAMED,
        size=len(given.data),
        sha256=hashlib.sha256(given.data).hexdigest(),
        image=image.tobytes(),
        model=chosen.name,
        model_hash=chosen.model.hash,
        milliseconds=round(1000 * seconds, 1),
        answer=classes[0][0],
        confidence=classes[0][1],
        classes=classes,
    )


def shares(model: Model, image: Pixels) -> tuple[tuple[str, float], ...]:
    """Return every class with its confidence as documents have it, the most confident first; the lowest class of equals.

    Raises `tagging.tags.BadVotesError` for probabilities that are none.
    """
    votes: Votes = model.votes(image.reshape(1, -1))
    winners(votes)  # checks them
    if model.voters is None:
        steps = np.rint(votes[0] * PROBABILITY_STEPS).clip(0, PROBABILITY_STEPS)
        numbers = steps.astype(np.float64) / PROBABILITY_STEPS
    else:
        numbers = votes[0] / model.voters
    # By the votes, which decide between probabilities that are rounded to the same.
    order = np.argsort(-votes[0].astype(np.float64), kind="stable")
    return tuple((model.classes[place], float(numbers[place])) for place in order)
