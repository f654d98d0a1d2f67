"""Scanning the models of a store: which are being trained now and when the others were, at the cost of what has changed."""

from typing import Any, TypedDict, final

from conf.errors import TinyTagsError
from indexing.folder_cache import FolderCache
from indexing.states import Working, Writer, set_rates, start_working, writer_of
from storage import layout
from storage.finished import Finished
from storage.lease import holder
from storage.manifests import read_manifest
from storage.store import Store, StoreUnavailableError


@final
class ModelStatus(TypedDict):
    """A model, as the API and `tinytags status --json` have it: complete, or being trained now."""

    model: str
    writer: Writer | None
    working: list[Working]
    finished: list[Finished]


@final
class BrokenModel(TypedDict):
    """A model whose card can't be read."""

    model: str
    error: str


class ModelsWatch:
    """Scans the models of a store; for one thread at a time. A folder is listed again only where its time has changed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # Of each model that is complete: its folder's time, and what was read of its card.
        self._complete: dict[str, tuple[float, ModelStatus]] = {}

    def scan(self) -> list[ModelStatus | BrokenModel]:
        """Return all models that are complete or are being trained. Raises `StoreUnavailableError`."""
        times = self.store.times(layout.MODELS)
        self._complete = {name: known for name, known in self._complete.items() if name in times}
        statuses = (self._scan(name, written) for name, written in times.items())
        return [status for status in statuses if status is not None]

    def _scan(self, name: str, written: float) -> ModelStatus | BrokenModel | None:
        known = self._complete.get(name)
        if known and known[0] == written:
            return known[1]
        try:
            folder = FolderCache(self.store, layout.model_folder(name))
            folder.refresh()
            if folder.has(layout.CARD):
                card = read_manifest(self.store, "model", name)
                self._complete[name] = written, _complete(name, card)
                return self._complete[name][1]
            # A lease beside a card is of a command that adds a figure to it.
            writer = (
                writer_of(holder(self.store, layout.model_lease(name))) if folder.has("lease.json") else None
            )
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"model": name, "error": str(error)}
        if writer is None:
            return None  # left by a training that was killed
        entry = start_working("train", writer, "images")
        set_rates(entry, None, None)
        return {"model": name, "writer": writer, "working": [entry], "finished": []}


def _complete(name: str, card: dict[str, Any]) -> ModelStatus:
    """Return the state of a model by its card; one that was imported has no time that training took."""
    try:
        count, seconds = int(card["trained_on"]["images"]), card["seconds"]
        fit = float(seconds["fit"])
        finished: list[Finished] = [
            {
                "step": "train", "ended": str(card["created"]), "count": count, "unit": "images",
                "seconds": float(seconds["all"]), "per_second": round(count / fit, 1) if fit else None,
            }
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError):
        finished = []
    return {"model": name, "writer": None, "working": [], "finished": finished}
