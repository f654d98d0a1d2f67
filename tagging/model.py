"""The interface of a model, and the registry of the kinds of model."""

import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from tagging.features import Features
from tagging.types import Codes, Images, Votes

if TYPE_CHECKING:
    from storage.store import Store

# The class of each kind, by the kind's name on cards: "module:class", imported where a model of the kind is used.
KINDS = {
    "forest": "tagging.forest:PackedForest",
    "network": "tagging.network:Network",
    "linear": "tagging.linear:Linear",
    "featured": "tagging.featured:Featured",
    "tflite": "tagging.network.tflite:TfliteNetwork",
}


class UnknownKindError(TinyTagsError):
    """No kind of model has this name; ``kind`` is the name, as it is on the card."""

    def __init__(self, message: str, kind: object) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.kind)


class Model(Protocol):
    """A loaded model. A kind of model is a class with these members and a line in `KINDS`.

    A class that can also say which pixels decide its votes is an `Explained` one. Workers import the class by its
    module's name, so it has to be at the top level of a module.
    """

    kind: ClassVar[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns of `votes`."""
        ...

    @property
    def voters(self) -> int | None:
        """The number of whole votes that each image gets, as from the trees of a forest; None for probabilities."""
        ...

    @property
    def hash(self) -> str:
        """The sha256 of everything that decides the votes, as 64 hexadecimal digits; the same on every machine."""
        ...

    def votes(self, images: Images) -> Votes:
        """Return (n, classes) for ``images`` (n, 3072) uint8: uint16 that add up to `voters`, or float probabilities 0.0-1.0.

        Called from several threads at once. An image's votes do not depend on the images beside it.
        """
        ...

    def files(self) -> dict[str, bytes]:
        """Return the contents of the model's files by their names; equal models have equal files."""
        ...

    @classmethod
    def load(cls, store: "Store", folder: str) -> Self:
        """Read the model whose `files` are in ``folder``. Raises `TinyTagsError` for files that are no such model."""
        ...


class Explained(Protocol):
    """A model that can say how much each pixel counts; optional for a kind."""

    importance_note: ClassVar[str]  # one sentence on how the importance is computed, for the page

    def pixel_importance(self) -> npt.NDArray[np.float64]:
        """Return (3072,) float64, the importance of each byte of an image: 0 or more, with sum 1, or all 0."""
        ...


@runtime_checkable
class OnFeatures(Protocol):
    """A model that votes on features of an image, which the store may have; optional for a kind."""

    features: Features

    def votes_of(self, codes: Codes) -> Votes:
        """Return the votes on the images with these ``codes`` (n, length) uint8, as `Model.votes` does on the images."""
        ...


@runtime_checkable
class AsOnnx(Protocol):
    """A model that is an ONNX network, which other programs run; optional for a kind."""

    graph: bytes


def kind_class(kind: object) -> type[Model]:
    """Import the class of a kind of model. Raises `UnknownKindError` where this version has no such kind."""
    place = KINDS.get(kind) if isinstance(kind, str) else None
    if place is None:
        raise UnknownKindError(f"kind {kind!r} of model is unknown; known are {', '.join(KINDS)}", kind)
    module, _, name = place.partition(":")
    model: type[Model] = getattr(importlib.import_module(module), name)
    return model


def explained_kind(kind: object) -> type[Explained] | None:
    """Return the class of a kind of model where it is an `Explained` one; None for other and for unknown kinds."""
    try:
        model: Any = kind_class(kind)
    except UnknownKindError:
        return None
    return model if hasattr(model, "pixel_importance") else None
