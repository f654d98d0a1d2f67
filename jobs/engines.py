"""The registry of what trains models: engines, the kinds of head that each fits, and their parameters."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conf.command import note
from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus
from jobs.corrected import Corrected
from storage.store import Store
from tagging.features import Features
from tagging.model import Model
from tagging.training import Part, coded, labelled_blocks, mirrored
from tagging.types import LabelledBlock


@dataclass(frozen=True)
class Training:
    """What a trainer gets: the images to learn from, and its parameters."""

    settings: Settings
    store: Store
    corpus: Corpus
    model: str  # the model's name
    classes: list[str]  # labels are places in it
    parameters: dict[str, Any]  # with "seed"; a trainer adds what else decides the model, for the card
    part: Part  # the rows of each partition to train on
    corrected: Corrected  # images to train on beside these
    features: Features | None = None  # what to learn from instead of the pixels
    quiet: bool = False  # no notes on the progress

    def note(self, line: str) -> None:
        """Print what is being done, for people."""
        if not self.quiet:
            note(f"train: {line}")

    @property
    def mirrored(self) -> bool:
        """Whether each image is to be learnt from a second time, mirrored."""
        return self.features is not None and self.features.mirrored

    def blocks(self, partition: int) -> Iterator[LabelledBlock]:
        """Yield images (n, 3072) uint8 and labels (n,) int32 of a partition; not the ``corrected`` ones."""
        return labelled_blocks(self.store, self.corpus, partition, self.part)

    @cached_property
    def examples(self) -> LabelledBlock:
        """All that is learnt from, in memory: inputs (n, k) uint8, which are pixels or features, and labels (n,) int32.

        Raises `TinyTagsError` where there is none.
        """
        threads = len(os.sched_getaffinity(0))
        features = None if self.mirrored else self.features
        blocks: list[LabelledBlock] = [
            block
            for partition in range(self.corpus.partitions)
            for block in labelled_blocks(self.store, self.corpus, partition, self.part, features, threads)
        ]
        corrected: LabelledBlock = (self.corrected.images, self.corrected.labels)
        blocks += coded([corrected], features) if features else [corrected]
        inputs, labels = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        if not len(labels):
            raise self.no_images()
        if self.mirrored and self.features:
            both = self.features.codes(inputs), self.features.codes(mirrored(inputs))
            inputs, labels = np.concatenate(both), np.tile(labels, 2)
        return inputs, labels

    @property
    def images(self) -> int:
        """The number of `examples`, each image once."""
        return len(self.examples[1]) // (2 if self.mirrored else 1)

    def only(self, rows: npt.NDArray[np.bool_]) -> "Training":
        """Return a training from these of the `examples` alone."""
        part = dataclasses.replace(self, parameters=dict(self.parameters), quiet=True)
        part.__dict__["examples"] = tuple(array[rows] for array in self.examples)
        return part

    def no_images(self) -> TinyTagsError:
        """Return the error for a corpus of which nothing is left to train on."""
        return TinyTagsError(f"corpus {self.corpus.name!r} has no labelled image to train on")


class Fitted(NamedTuple):
    """What a trainer returns."""

    model: Model  # of pixels, or of the features
    images: int  # trained on, corrected ones too
    seconds: dict[str, float]  # "prepare" and "fit"


@dataclass(frozen=True)
class Trainer:
    """A function that fits one kind of model, and its parameters: those of `tinytags train`'s options that it takes."""

    function: str  # "module:function", imported on use: (Training) -> Fitted
    parameters: Mapping[str, Any] = field(default_factory=dict)  # each with its default value
    ignored: tuple[str, ...] = ()  # options that it takes and doesn't need
    needs_spark: bool = False
    features: bool = True  # it can learn from features
    feature_per_class: bool = False  # it needs as many features as there are classes
    in_memory: bool = False  # it learns from `Training.examples` alone, so that cross-validation costs little

    def load(self) -> Callable[[Training], Fitted]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        function: Callable[[Training], Fitted] = getattr(importlib.import_module(module), name)
        return function

    def complete(self, given: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Return the ``given`` parameters with the defaults of others. Raises `TinyTagsError` for one that it doesn't take."""
        wrong = [name for name in given if name not in {*self.parameters, *self.ignored}]
        if wrong:
            options = [f"--{name.replace('_', '-')}" for name in self.parameters]
            raise TinyTagsError(
                f"--{wrong[0].replace('_', '-')} is not an option of {what}; its options are {', '.join(options)}"
            )
        return {name: given.get(name, default) for name, default in self.parameters.items()}


# By the engine's name and what it fits; an engine's first is its default.
ENGINES: dict[str, dict[str, Trainer]] = {
    "mllib": {
        "forest": Trainer(
            "jobs.mllib:fit", {"trees": 10, "depth": 10, "bins": 50}, needs_spark=True, feature_per_class=True
        ),
    },
    "scikit-learn": {
        "forest": Trainer(
            "jobs.scikit_learn:fit_forest",
            {"trees": 10, "depth": 10},
            ignored=("bins",),
            feature_per_class=True,
            in_memory=True,
        ),
        "linear": Trainer("jobs.scikit_learn:fit_linear", in_memory=True),
    },
    "keras": {
        "network": Trainer(
            "jobs.network:fit", {"recipe": "medium", "epochs": None, "flip": None}, features=False
        ),
    },
}


def default_engine(head: str | None, on_features: bool) -> str:
    """Return the first engine that fits such a head; for features the first that fits it in memory, where there is one."""
    fitting = [engine for engine, heads in ENGINES.items() if not head or head in heads]
    in_memory = [engine for engine in fitting if head and ENGINES[engine][head].in_memory]
    return next(iter((on_features and in_memory) or fitting or ENGINES))


def choose_trainer(engine: str, head: str | None = None) -> tuple[str, Trainer]:
    """Return the head and its trainer. Raises `TinyTagsError` for an engine that isn't there or can't fit such a head."""
    if engine not in ENGINES:
        raise TinyTagsError(f"engine {engine!r} is unknown; known are {', '.join(ENGINES)}")
    heads = ENGINES[engine]
    head = head or next(iter(heads))
    if head not in heads:
        raise TinyTagsError(f"engine {engine} fits no {head!r}; it fits {', '.join(heads)}")
    return head, heads[head]
