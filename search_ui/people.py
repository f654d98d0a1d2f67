"""The labels that people gave, as searches need them: read in the background, and only when they have changed."""

import logging
from collections.abc import Hashable

from indexing.query.people import PeoplesLabels, Place
from records.corrections import Corrections
from records.majority import peoples_labels
from search_ui.cached import Cached
from search_ui.library import Library

# A search doesn't wait longer for the database: it has the labels as they were, and the next one those that are there by then. The
# first one also waits for SQLAlchemy to be imported.
WAIT_SECONDS, FIRST_SECONDS = 2, 5
_log = logging.getLogger(__name__)


class DatabasePeople:
    """People's labels in the database of corrections. Thread-safe."""

    def __init__(self, corrections: Corrections, library: Library) -> None:
        self._corrections, self._library = corrections, library
        self._cached = Cached("the database", self._read, 0)
        self._last: tuple[Hashable, PeoplesLabels] = (None, {})
        self._error: str | None = None

    def labels(self) -> PeoplesLabels:
        """Return the label that most people give to each image, as the same object where none has changed."""
        error = self._cached.get(WAIT_SECONDS if self._last[0] else FIRST_SECONDS).error
        if error and error != self._error:
            _log.warning("people's labels are those of before: %s", error)
        self._error = error
        return self._last[1]

    def corpus_hash(self, run: str) -> str | None:
        """Return the hash of the corpus of a run; None where the store has no such run. Raises `StoreUnavailableError`."""
        found = self._library.run(run)
        return found.corpus_hash if found is not None else None

    def _read(self) -> None:
        version = self._corrections.version()
        if version == self._last[0]:
            return
        labels: dict[str, dict[Place, str | None]] = {}
        for one in peoples_labels(self._corrections.newest()):
            labels.setdefault(one.corpus_hash, {})[one.partition, one.row] = one.label
        self._last = version, labels
