"""Searches of one run that isn't published: what a search link with its name finds before it is."""

import contextlib
import threading
from collections import OrderedDict

from indexing.query.people import People
from indexing.query.published import PublishedIndex
from indexing.query.search_state import SearchState
from indexing.solr import Solr
from search_ui.library import Library
from storage.store import StoreUnavailableError

# Runs whose counts are cached.
MOST_CACHED = 8


class Previews:
    """The indexes of runs that were searched by name without being published; for many threads."""

    def __init__(self, solr: Solr, library: Library, check_seconds: float, people: People | None) -> None:
        self.solr, self.library, self.check_seconds, self.people = solr, library, check_seconds, people
        self._lock = threading.Lock()
        self._indexes: OrderedDict[str, PublishedIndex] = OrderedDict()

    def name(self, published: PublishedIndex, state: SearchState) -> str | None:
        """Return the run that a search is a preview of: the only one it names, which the store has and isn't published."""
        names = state.values("run")
        if len(names) != 1 or names[0] in published.now().collections:
            return None
        with contextlib.suppress(StoreUnavailableError):  # then it finds nothing
            return names[0] if self.library.run(names[0]) is not None else None
        return None

    def index(self, published: PublishedIndex, state: SearchState) -> PublishedIndex:
        """Return what a search is a search of: what is published, or the index of the run that it is a preview of."""
        name = self.name(published, state)
        if name is None:
            return published
        with self._lock:
            if name not in self._indexes:
                self._indexes[name] = PublishedIndex(self.solr, name, self.check_seconds, self.people)
            self._indexes.move_to_end(name)
            while len(self._indexes) > MOST_CACHED:
                self._indexes.popitem(last=False)
            return self._indexes[name]
