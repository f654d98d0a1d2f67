"""The JSON file that describes a corpus, model or run: a manifest, or the card of a model."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from conf.errors import TinyTagsError
from storage import layout
from storage.store import FileMissingError, Store, check_name

Kind = Literal["corpus", "model", "run", "annotations"]

# The folder of each kind, the path of the file by name, and the verb that writes it.
_KINDS: dict[Kind, tuple[str, Callable[[str], str], str]] = {
    "corpus": (layout.CORPORA, layout.corpus_manifest, "ingest"),
    "model": (layout.MODELS, layout.model_card, "train"),
    "run": (layout.RUNS, layout.run_manifest, "tag"),
    "annotations": (layout.ANNOTATIONS, layout.annotations_manifest, "annotations"),
}


class Hashed(Protocol):
    """What a manifest describes: its name, and the hash of what decides its contents."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...


T = TypeVar("T", bound=Hashed)


def list_names(store: Store, kind: Kind) -> list[str]:
    """Return the sorted names of the corpora, models or runs in a store; folders without the file are left out."""
    folder, path, _ = _KINDS[kind]
    return [name for name in store.list(folder) if store.exists(path(name))]


def read_manifest(store: Store, kind: Kind, name: str) -> dict[str, Any]:
    """Return the content of the file. Raises `TinyTagsError`, with the names there are, where the store has no such one."""
    check_name(kind, name)
    _, path, verb = _KINDS[kind]
    try:
        return store.read_json(path(name))
    except FileMissingError:
        names = list_names(store, kind)
        known = (
            f"there are {', '.join(names)}"
            if names
            else f"there is none yet: make one with `tinytags {verb}`"
        )
        raise TinyTagsError(f"no {kind} {name!r} in {store.url()}; {known}") from None


def open_manifest(store: Store, kind: Kind, name: str, parse: Callable[[dict[str, Any]], T]) -> T:
    """Return ``parse`` of a manifest. Raises `TinyTagsError` where there is none, or where it was changed.

    ``parse`` may raise `KeyError`, `TypeError` or `AttributeError` for a manifest that is not complete.
    """
    manifest = read_manifest(store, kind, name)
    try:
        value = parse(manifest)
        unchanged = bool((value.name, value.hash) == (name, manifest["hash"]))
    except (KeyError, TypeError, AttributeError):
        unchanged = False
    if not unchanged:
        _, path, verb = _KINDS[kind]
        raise TinyTagsError(
            f"{store.url(path(name))}: is not as it was written (its name or hash differs); remove it and run "
            f"`tinytags {verb}` again"
        )
    return value
