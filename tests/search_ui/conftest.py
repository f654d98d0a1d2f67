"""One Solr with two small runs for all tests of the page, and the page before them."""

from types import SimpleNamespace

import pytest
from searchable import ALIAS, make_corpus, make_run, read_documents

from conf.settings import Settings
from indexing.index import index_run
from indexing.solr import Solr
from ingest.store import open_store
from search_ui import create_app


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A store with a corpus and two runs of it, of 10 and of 7 trees; needs no server."""
    folder = tmp_path_factory.mktemp("search-ui")
    store = open_store(str(folder / "store"))
    corpus = make_corpus(store, folder)
    first, second = make_run(store, corpus, "ten", 10, seed=1), make_run(store, corpus, "seven", 7, seed=4)
    found = {run.name: read_documents(store, run) for run in (first, second)}
    return SimpleNamespace(store=store, corpus=corpus, first=first, second=second, documents=found)


@pytest.fixture(scope="session")
def searchable(solr, library):
    """The same, with both runs in Solr; the alias shows the first."""
    client = Solr(solr.url, patience=60)
    for run in (library.first, library.second):
        index_run(library.store, run.name, client, ALIAS, publish="no")
    client.set_alias(ALIAS, [library.first.name])
    yield SimpleNamespace(**vars(library), solr=client)
    client.delete_alias(ALIAS)
    for run in (library.first, library.second):
        client.delete(run.name)


@pytest.fixture(scope="session")
def settings(searchable):
    return Settings(store=searchable.store.root, solr=searchable.solr.url, alias=ALIAS)


@pytest.fixture
def page(settings):
    """The application's client; it looks at every request whether the alias has moved."""
    return create_app(settings, {"CHECK_SECONDS": 0}).test_client()


@pytest.fixture
def show(searchable):
    """Points the alias to some runs for one test."""
    yield lambda *runs: searchable.solr.set_alias(ALIAS, [run.name for run in runs])
    searchable.solr.set_alias(ALIAS, [searchable.first.name])
