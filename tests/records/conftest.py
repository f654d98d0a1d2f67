"""What tests of databases share: two corpora that exist nowhere, and long time limits."""

import pytest

from ingest.corpus import Corpus
from records import cassandra, sql


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Wait for every answer, as the disk may be busy: several writers of an SQLite file wait for each other."""
    for module in (sql, cassandra):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 30)


@pytest.fixture
def here():
    return Corpus("here", "x", "x", {"sha256": "a"}, images=100, partition_images=30)


@pytest.fixture
def there():
    return Corpus("there", "x", "x", {"sha256": "b"}, images=100, partition_images=30)


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/some/where/tinytags.db"
