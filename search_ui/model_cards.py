"""The cards of a store's models, read again where they have changed, and the models' pixel importance."""

import time
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from conf.cached import Answer, Cached
from conf.errors import TinyTagsError
from conf.recent import Recent
from ingest.image import IMAGE_BYTES
from search_ui.board import REFRESH_SECONDS, WAIT_SECONDS
from storage import layout
from storage.store import Store, StoreUnavailableError
from tagging.model import Explained
from tagging.models import load_exact_model, read_card

Card = dict[str, Any]
Importance = npt.NDArray[np.float64]

# Models whose pixel importance is cached: 24 kB each.
MOST_CACHED = 32


class Models:
    """The cards of a store's models, read again where they have changed, and the models' pixel importance; for many threads."""

    def __init__(self, store: Store, seconds: float = REFRESH_SECONDS) -> None:
        self.store = store
        self._read: dict[str, tuple[float, Card]] = {}
        self._cards: Cached[dict[str, Card]] = Cached("the store", self._scan, seconds)
        self._importance: Recent[tuple[str, str], Cached[Importance]] = Recent(MOST_CACHED)

    def cards(self, until: float | None = None) -> dict[str, Card]:
        """Return the cards of all models by name, {"error": ...} for a card that can't be read.

        Waits for `WAIT_SECONDS`, or until ``until`` of `time.monotonic`. Raises `StoreUnavailableError` where the store
        does not answer in time and no earlier answer is cached.
        """
        answer = self._cards.get(until - time.monotonic() if until else WAIT_SECONDS)
        if answer.value is None:
            raise StoreUnavailableError(answer.error or "the store does not answer")
        return answer.value

    def importance(self, name: str, model_hash: str, until: float) -> Answer[Importance]:
        """Return the pixel importance (3072,) of a model, computed once."""
        cached = self._importance.get(
            (name, model_hash),
            lambda: Cached("the model", lambda: _importance(self.store, name, model_hash), 60),
        )
        return cached.get(until - time.monotonic(), forever=True)

    def _scan(self) -> dict[str, Card]:
        cards = {}
        for name in self.store.times(layout.MODELS):
            written = self.store.times(layout.model_folder(name)).get(layout.CARD)
            if written is not None:
                before = self._read.get(name)
                cards[name] = before if before and before[0] == written else (written, self._card(name))
        self._read = cards
        return {name: card for name, (_, card) in cards.items()}

    def _card(self, name: str) -> Card:
        try:
            card = read_card(self.store, name)
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"error": str(error)}
        if not isinstance(card.get("hash"), str) or not isinstance(card.get("classes"), list):
            return {
                "error": f"{self.store.url(layout.model_card(name))}: is not the card of a model; train it again"
            }
        return card | {"name": name}


def _importance(store: Store, name: str, model_hash: str) -> Importance:
    model = load_exact_model(store, name, model_hash)
    importance = cast(Explained, model).pixel_importance()
    if len(importance) != IMAGE_BYTES:
        raise TinyTagsError(
            f"model {name!r} is for images of {len(importance):,} bytes, not of {IMAGE_BYTES:,}"
        )
    return importance
