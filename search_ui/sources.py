"""What the pages are made from: settings, Solr, the store, the database and the counters of one application."""

from dataclasses import dataclass

from flask import current_app

from conf.settings import Settings
from indexing.query.published import PublishedIndex
from indexing.query.search_state import SearchState
from indexing.solr import Solr
from ingest.picture import Decoder
from records.corrections import Corrections
from search_ui.access import Access
from search_ui.board import Board
from search_ui.history import History
from search_ui.library import Library
from search_ui.metrics import Metrics
from search_ui.people import CurrentLabels
from search_ui.previews import Previews
from search_ui.rates import Rates
from search_ui.training import Trainings


@dataclass(frozen=True)
class Sources:
    """Each is made once by `search_ui.create_app`; none of them connects to anything before it is used."""

    settings: Settings
    solr: Solr
    published: PublishedIndex
    previews: Previews
    library: Library
    board: Board
    corrections: Corrections
    labels: CurrentLabels
    rates: Rates  # of corrections
    history: History
    classify_rates: Rates
    decoder: Decoder
    metrics: Metrics
    access: Access
    trainings: Trainings

    def index(self, state: SearchState) -> PublishedIndex:
        """Return what a search is of: what is published, or the one run that it names. Raises `SolrError`."""
        return self.previews.index(self.published, state)


def sources() -> Sources:
    """Return the sources of the application that handles this request."""
    open_sources: Sources = current_app.extensions["tinytags"]
    return open_sources
