"""Model directories in the store: a card that says what a model is, beside the model itself."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

import numpy as np

from conf.errors import TinyTagsError
from storage import layout
from storage.store import check_name
from tagging.forest import PackedForest, load


@dataclass(frozen=True, eq=False)
class ForestModel:
    """A forest out of the store, with its card."""

    card: dict
    forest: PackedForest

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def hash(self) -> str:
        return self.forest.hash

    @property
    def classes(self) -> list[str]:
        return list(self.forest.classes)

    @property
    def trees(self) -> int:
        return self.forest.trees

    def votes(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) uint16, how many trees vote for each class, for ``images`` (n, 3072) uint8."""
        return self.forest.votes(images)


def model_exists(store, name: str) -> bool:
    """Return whether model ``name`` is complete."""
    return store.exists(layout.model_card(name))


def list_models(store) -> list[str]:
    """Return the sorted names of the models that are complete."""
    return [name for name in store.list(layout.MODELS) if store.exists(layout.model_card(name))]


def save_model(store, name: str, forest: PackedForest, card: dict) -> dict:
    """Write ``forest`` as model ``name`` and return its card, which is written last: a model is there when its card is.

    ``card`` says what only the trainer knows: ``engine``, ``parameters``, ``trained_on``, ``measured_on``, ``quality``.
    Raises TinyTagsError where another model has this name already: its runs and their tags point to it.
    """
    check_name("model", name)
    if store.exists(layout.model_card(name)):
        there = store.read_json(layout.model_card(name)).get("hash")
        if there != forest.hash:
            raise TinyTagsError(
                f"model {name!r} is another one already: {there} in {store.url(layout.model_card(name))}, {forest.hash} here; "
                "choose another name, or remove that folder first"
            )
    card = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "tinytags": _version("tinytags"),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        **card,
        "kind": "forest",
        "name": name,
        "classes": list(forest.classes),
        "trees": forest.trees,
        "hash": forest.hash,
    }
    store.write_bytes(layout.model_forest(name), forest.save())
    store.write_json(layout.model_card(name), card)
    return card


def load_model(store, name: str) -> ForestModel:
    """Return model ``name``: what it is called, its card, hash, classes and trees, and its ``votes(images)``.

    Raises TinyTagsError where there is no such model, or its files don't belong together.
    """
    card = read_card(store, name)
    kind = card.get("kind")
    if kind != "forest":
        raise TinyTagsError(
            f"{store.url(layout.model_card(name))}: is a model of kind {kind!r}; this release knows 'forest'"
        )
    forest = load(store.read_bytes(layout.model_forest(name)), store.url(layout.model_forest(name)))
    if forest.hash != card.get("hash"):
        raise TinyTagsError(
            f"{store.url(layout.model_forest(name))}: has hash {forest.hash}, but its card says {card.get('hash')}; "
            "train or copy the model again"
        )
    return ForestModel(card={**card, "name": name}, forest=forest)


def read_card(store, name: str) -> dict:
    """Return the card of model ``name`` without loading the model; raises TinyTagsError where there is none."""
    check_name("model", name)
    if not store.exists(layout.model_card(name)):
        models = list_models(store)
        there = (
            f"there are: {', '.join(models)}" if models else "there is none yet; `tinytags train` makes one"
        )
        raise TinyTagsError(f"no model {name!r} in {store.url()}; {there}")
    return store.read_json(layout.model_card(name))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run out of a folder or a zip
        return None
