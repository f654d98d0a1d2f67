"""Features: numbers computed from an image, from which a model learns instead of from the pixels.

Every feature is a whole number 0-255, as a pixel is. So what takes pixels also takes features: the packed forest and its kernel, MLlib, the linear
model; a feature costs one byte in the store, and is the same on every machine.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from conf.errors import TinyTagsError
from tagging.types import Codes, Images

if TYPE_CHECKING:
    from storage.store import Store

# The class of each kind of features, by name: "module:class", imported where such features are used.
FEATURES = {
    "pixels": "tagging.features.pixels:Pixels",
    "flips": "tagging.features.pixels:Flips",
    "sobel": "tagging.features.edges:Sobel",
    "roberts": "tagging.features.edges:Roberts",
    "harris": "tagging.features.edges:Harris",
    "pca": "tagging.features.pca:Pca",
    "hog": "tagging.features.hog:Hog",
    "kmeans": "tagging.features.kmeans:KMeans",
    "pretrained": "tagging.features.pretrained:Pretrained",
}
EXTRA = "pip install 'tinytags[features]'"
_NAME = re.compile(r"([a-z]+)(?:-([1-9][0-9]{0,5}))?")


class UnknownFeaturesError(TinyTagsError):
    """No features have this name; ``features`` is the name."""

    def __init__(self, message: str, features: object) -> None:
        super().__init__(message)
        self.features = features

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.features)


class MissingExtraError(TinyTagsError):
    """A library that the features need is not installed; ``library`` is its name."""

    def __init__(self, message: str, library: str) -> None:
        super().__init__(message)
        self.library = library

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.library)


class Features:
    """Features that need nothing but their name; others override what they need.

    Two features with one `hash` give the same codes. Workers import a class by its module's name, so it has to be at the
    top level of a module, and can be pickled.
    """

    version: ClassVar[int] = 1  # of the formula: another formula needs another one
    fitted: ClassVar[bool] = False  # `fit` needs images
    mirrored: ClassVar[bool] = False  # a model trains on the mirrored images, too
    head: ClassVar[str] = "forest"  # the kind of model that suits them, by default
    number: ClassVar[int | None] = (
        None  # what NAME-NUMBER sets, by default; None for features without a number
    )

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def length(self) -> int:
        """The number of codes of an image."""
        raise NotImplementedError

    @property
    def hash(self) -> str:
        """The sha256 of everything that decides the codes, as 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.name, self.version]).encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """What the card of a model says of them beside name, version, length and hash."""
        return {}

    def codes(self, images: Images) -> Codes:
        """Return the codes (n, length) uint8 of ``images`` (n, 3072) uint8.

        Called from several threads at once. An image's codes do not depend on the images beside it.
        """
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """Return the contents of their files by name; equal features have equal files."""
        return {}

    @classmethod
    def fit(cls, name: str, images: Callable[[], Images], seed: int) -> Self:
        """Return the features of this name; those that are ``fitted`` are fitted to ``images()``."""
        return cls(name)

    @classmethod
    def load(cls, name: str, store: "Store", folder: str) -> Self:
        """Read the features whose `files` are in ``folder``. Raises `TinyTagsError` for files that are no such features."""
        return cls(name)


def features_class(name: object) -> type[Features]:
    """Import the class of the features called ``name``, as NAME or NAME-NUMBER. Raises `UnknownFeaturesError`."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    place = FEATURES.get(match[1]) if match else None
    if match is None or place is None:
        raise UnknownFeaturesError(f"features {name!r} are unknown; known are {', '.join(FEATURES)}", name)
    module, _, attribute = place.partition(":")
    features: type[Features] = getattr(importlib.import_module(module), attribute)
    if match[2] and features.number is None:
        raise UnknownFeaturesError(f"features {name!r} are unknown: {match[1]} has no number", name)
    return features


def describe_features(features: Features) -> dict[str, Any]:
    """Return what the card of a model says of its features."""
    return {
        "name": features.name, "version": features.version, "length": features.length, "hash": features.hash, **features.facts,
    }  # fmt: skip


def number_in(name: str, default: int, least: int, most: int) -> int:
    """Return the number in a name like ``pca-50``, or the default. Raises `UnknownFeaturesError` for one out of range."""
    number = int(name.partition("-")[2] or default)
    if not least <= number <= most:
        raise UnknownFeaturesError(
            f"features {name!r} are unknown: the number is {least:,} to {most:,}, by default {default:,}",
            name,
        )
    return number
