"""Models in the store: each a folder with a card, which describes the model, beside the model's own files."""

import functools
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from conf.errors import TinyTagsError
from storage import layout
from storage.manifests import list_names, read_manifest
from storage.store import Store, check_name
from tagging.model import Model, UnknownKindError, kind_class
from tagging.trained import Hashes, write_trained


class ModelChangedError(TinyTagsError):
    """The model of this name has another hash than the one that is required."""


def model_exists(store: Store, name: str) -> bool:
    """Return whether model ``name`` is complete."""
    return store.exists(layout.model_card(name))


def list_models(store: Store) -> list[str]:
    """Return the sorted names of the models that are complete."""
    return list_names(store, "model")


def save_model(
    store: Store, name: str, model: Model, card: dict[str, Any], trained: Hashes | None = None
) -> dict[str, Any]:
    """Write ``model`` under ``name`` and return its card, which is written last: a model is complete when it has a card.

    ``card`` has what only the trainer knows: ``engine``, ``parameters``, ``trained_on``, ``measured_on``, ``quality``.
    ``trained`` are the hashes of the images that it was trained on, by `tagging.trained.hash_blocks`.
    Raises `TinyTagsError` where another model has this name: its runs and their tags refer to it.
    """
    check_name("model", name)
    if store.exists(layout.model_card(name)):
        existing = store.read_json(layout.model_card(name)).get("hash")
        if existing != model.hash:
            raise TinyTagsError(
                f"model {name!r} exists already with hash {existing} in {store.url(layout.model_card(name))}; the new one has "
                f"{model.hash}: choose another name, or remove that folder first"
            )
    card = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "tinytags": _version("tinytags"),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        **card,
        "kind": model.kind,
        "name": name,
        "classes": list(model.classes),
        # In files the voters are called trees, whatever they are; models without whole votes have none.
        **({} if model.voters is None else {"trees": model.voters}),
        "hash": model.hash,
    }
    if trained is not None:
        card["trained_images"] = write_trained(store, name, trained)
    for file, data in model.files().items():
        store.write_bytes(layout.model_file(name, file), data)
    store.write_json(layout.model_card(name), card)
    return card


def load_model(store: Store, name: str, kind: type[Model] | None = None) -> Model:
    """Load model ``name``; its card names its kind, unless ``kind`` is given.

    Raises `TinyTagsError` where there is no such model or its files do not match its card.
    """
    card = read_card(store, name)
    if kind is None:
        try:
            kind = kind_class(card.get("kind"))
        except UnknownKindError as error:
            raise UnknownKindError(f"{store.url(layout.model_card(name))}: {error}", error.kind) from None
    model = kind.load(store, layout.model_folder(name))
    if model.hash != card.get("hash"):
        raise TinyTagsError(
            f"{store.url(layout.model_folder(name))}: the model has hash {model.hash}, but its card has {card.get('hash')}; "
            "train or copy the model again"
        )
    return model


def load_exact_model(store: Store, name: str, model_hash: str, kind: type[Model] | None = None) -> Model:
    """Return model ``name``, loaded once a process. Raises `ModelChangedError` where its hash is not ``model_hash``."""
    return _load_once(store, name, model_hash, kind)


@functools.lru_cache(maxsize=4)
def _load_once(store: Store, name: str, model_hash: str, kind: type[Model] | None) -> Model:
    model = load_model(store, name, kind)
    if model.hash != model_hash:
        raise ModelChangedError(
            f"model {name!r} has changed: its hash is {model.hash}, the run was made with {model_hash}"
        )
    return model


def read_card(store: Store, name: str) -> dict[str, Any]:
    """Return the card of model ``name`` without loading the model. Raises `TinyTagsError` where there is none."""
    return read_manifest(store, "model", name)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run out of a folder or a zip
        return None
