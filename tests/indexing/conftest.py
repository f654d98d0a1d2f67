"""A store, and a client of the real Solr that cleans up after each test."""

import pytest

from indexing.solr import Solr
from storage.store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def client(solr):
    """A client of the real Solr; what the test makes there is dropped."""
    client = Solr(solr.url, patience=60)

    def aliases():
        return set(client.read("admin/collections", {"action": "LISTALIASES"})["aliases"])

    before, aliases_before = set(client.collections()), aliases()
    yield client
    for name in aliases() - aliases_before:
        client.delete_alias(name)
    for name in set(client.collections()) - before:
        client.delete(name)
