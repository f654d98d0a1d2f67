"""Two corpora that exist nowhere, for corrections of their images."""

import pytest

from ingest.corpus import Corpus


@pytest.fixture
def here():
    return Corpus("here", "x", "x", {"sha256": "a"}, images=100, partition_images=30)


@pytest.fixture
def there():
    return Corpus("there", "x", "x", {"sha256": "b"}, images=100, partition_images=30)


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/some/where/tinytags.db"
