"""Searches of one run that isn't published: what a search link with its name finds before it is."""

import contextlib

from conf.recent import Recent
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
        self._indexes: Recent[str, PublishedIndex] = Recent(MOST_CACHED)

    def index(self, published: PublishedIndex, state: SearchState) -> PublishedIndex:
        """Return what a search is of: what is published, or the one run that it names where that is only indexed."""
        names = state.values("run")
        if len(names) != 1 or names[0] in published.now().collections or not self._is_there(names[0]):
            return published
        index = self._indexes.get(
            names[0], lambda: PublishedIndex(self.solr, names[0], self.check_seconds, self.people)
        )
        return index if index.now().collections else published

    def _is_there(self, name: str) -> bool:
        with contextlib.suppress(StoreUnavailableError):  # then it finds nothing
            return self.library.run(name) is not None
        return False
