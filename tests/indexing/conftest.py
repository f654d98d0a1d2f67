"""A store, and a client of the real Solr; after each test, what it created there is dropped."""

import pytest
from small_runs import ALIAS

from indexing.solr import Solr
from storage.runs import list_runs
from storage.store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def client(solr, store, monkeypatch):
    """A client of the real Solr; the collections and aliases of this test, and no others, are dropped after it."""
    names, aliases = set(), {ALIAS}
    create, set_alias = Solr.create, Solr.set_alias

    def record_create(self, collection, *args, **options):
        names.add(collection)
        create(self, collection, *args, **options)

    def record_alias(self, alias, collections):
        aliases.add(alias)
        set_alias(self, alias, collections)

    monkeypatch.setattr(Solr, "create", record_create)
    monkeypatch.setattr(Solr, "set_alias", record_alias)
    client = Solr(solr.url, patience=60)
    yield client
    monkeypatch.undo()
    for alias in aliases:
        if client.alias(alias):
            client.delete_alias(alias)
    # Processes of their own create collections of the store's runs too.
    for name in {*names, *list_runs(store)} & set(client.collections()):
        client.delete(name)
