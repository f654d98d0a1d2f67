"""Trains a network with Keras, in this process."""

import dataclasses
import hashlib
import json
import time
from typing import Any

from conf.command import note
from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted
from jobs.engines import Fitted, Training
from storage import layout
from storage.store import Store, StoreUnavailableError


def fit(training: Training) -> Fitted:
    """Fit a network by a recipe, and write it as network.keras beside the ONNX graph.

    Killed, the same command continues after the last whole epoch. Raises `TinyTagsError` where Keras is not installed.
    """
    from tagging.network import Network
    from tagging.network.export import KERAS_FILE, to_keras, to_onnx
    from tagging.network.recipes import RECIPES
    from tagging.network.training import load_keras, train

    load_keras()
    began, parameters = time.monotonic(), training.parameters
    images, labels = training.examples
    recipe = RECIPES[parameters["recipe"]]
    if parameters["epochs"]:
        recipe = dataclasses.replace(recipe, epochs=parameters["epochs"])
    training.note(
        f"{counted(len(images), 'image')}, recipe {parameters['recipe']}, {counted(recipe.epochs, 'epoch')}, Keras"
    )
    key = [dataclasses.astuple(recipe), parameters["flip"], parameters["seed"], list(training.classes),
           hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()]  # fmt: skip
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    checkpoints = StoredCheckpoints(training.store, training.model, digest)
    prepared = time.monotonic()
    with Progress("train", len(images) * recipe.epochs, "images") as progress:
        trained = train(
            images, labels, len(training.classes), recipe, parameters["seed"], parameters["flip"], progress.add, checkpoints
        )  # fmt: skip
    fitted = time.monotonic()
    parameters |= {
        "epochs": len(trained.accuracies), "flip": trained.flips, "weights": trained.model.count_params(),
        "validation_accuracy": trained.accuracies[-1],
    }  # fmt: skip
    network = Network(tuple(training.classes), to_onnx(trained.model))
    training.store.write_bytes(layout.model_file(training.model, KERAS_FILE), to_keras(trained.model))
    checkpoints.remove()
    seconds = {
        "prepare": round(prepared - began, 1),
        "fit": round(fitted - prepared, 1),
        "processor": round(checkpoints.processor(), 1),
    }
    return Fitted(network, len(images), seconds)


class StoredCheckpoints:
    """The state of a training in the model's folder: weights, then a small JSON file that names them.

    ``key`` is the hash of what decides the result: the state of another training is not continued but replaced.
    """

    ABOUT = "checkpoint.json"

    def __init__(self, store: Store, model: str, key: str) -> None:
        self._store, self._model, self._key = store, model, key
        self._processor, self._began = 0.0, time.process_time()
        self._files: list[str] = [
            name for name in store.list(layout.model_folder(model)) if name.startswith("checkpoint")
        ]

    def load(self) -> tuple[list[float], bytes] | None:
        """As in `tagging.network.training.Checkpoints`."""
        if self.ABOUT not in self._files:
            return None
        try:
            about = self._store.read_json(self._path(self.ABOUT))
            weights = self._store.read_bytes(self._path(about["weights"]))
        except StoreUnavailableError:
            raise
        except (TinyTagsError, KeyError):
            return None
        if about.get("key") != self._key or hashlib.sha256(weights).hexdigest() != about.get("sha256"):
            note("train: what an earlier attempt left is of another training, or damaged; begins anew")
            return None
        accuracies = [float(value) for value in about["accuracies"]]
        self._processor = float(about.get("processor", 0))
        note(f"train: continues after epoch {len(accuracies)}")
        return accuracies, weights

    def save(self, accuracies: list[float], weights: bytes) -> None:
        """As in `tagging.network.training.Checkpoints`."""
        name = f"checkpoint-{len(accuracies)}.weights.h5"
        self._store.write_bytes(self._path(name), weights)
        about: dict[str, Any] = {
            "key": self._key, "accuracies": accuracies, "weights": name, "sha256": hashlib.sha256(weights).hexdigest(),
            "processor": self.processor(),
        }  # fmt: skip
        self._store.write_json(self._path(self.ABOUT), about)
        for old in set(self._files) - {name, self.ABOUT}:
            self._store.remove(self._path(old))
        self._files = [self.ABOUT, name]

    def processor(self) -> float:
        """Return the processor seconds of this attempt and of those that it continues."""
        return self._processor + time.process_time() - self._began

    def remove(self) -> None:
        """Remove the files: the training is done."""
        for name in self._files:
            self._store.remove(self._path(name))
        self._files = []

    def _path(self, name: str) -> str:
        return layout.model_file(self._model, name)
