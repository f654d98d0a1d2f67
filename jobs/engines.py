"""The registry of what trains models: engines, the kinds of head that each fits, and their parameters."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus
from jobs.corrected import Corrected
from storage.store import Store
from tagging.model import Model
from tagging.training import LabelledBlock, Part, labelled_blocks


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

    def blocks(self, partition: int) -> Iterator[LabelledBlock]:
        """Yield what to learn from of a partition: inputs (n, k) uint8 and labels (n,) int32; not the ``corrected`` images."""
        return labelled_blocks(self.store, self.corpus, partition, self.part)

    def no_images(self) -> TinyTagsError:
        """Return the error for a corpus of which nothing is left to train on."""
        return TinyTagsError(f"corpus {self.corpus.name!r} has no labelled image to train on")


class Fitted(NamedTuple):
    """What a trainer returns."""

    model: Model
    images: int  # trained on, corrected ones too
    seconds: dict[str, float]  # "prepare" and "fit"


@dataclass(frozen=True)
class Trainer:
    """A function that fits one kind of model, and its parameters: those of `tinytags train`'s options that it takes."""

    function: str  # "module:function", imported on use: (Training) -> Fitted
    parameters: Mapping[str, Any] = field(default_factory=dict)  # each with its default value
    ignored: tuple[str, ...] = ()  # options that it takes and doesn't need
    needs_spark: bool = False

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
        "forest": Trainer("jobs.mllib:fit", {"trees": 10, "depth": 10, "bins": 50}, needs_spark=True),
    },
    "scikit-learn": {
        "forest": Trainer("jobs.scikit_learn:fit_forest", {"trees": 10, "depth": 10}, ignored=("bins",)),
    },
}


def choose_trainer(engine: str, head: str | None = None) -> tuple[str, Trainer]:
    """Return the head and its trainer. Raises `TinyTagsError` for an engine that isn't there or can't fit such a head."""
    if engine not in ENGINES:
        raise TinyTagsError(f"engine {engine!r} is unknown; known are {', '.join(ENGINES)}")
    heads = ENGINES[engine]
    head = head or next(iter(heads))
    if head not in heads:
        raise TinyTagsError(f"engine {engine} fits no {head!r}; it fits {', '.join(heads)}")
    return head, heads[head]
