"""One empty store of every backend; a new backend adds a fixture ``NAME_backend`` here and passes `test_contract`."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from storage.store import BACKENDS, Store, open_store

NEEDS_SERVICES = BACKENDS.keys() - {"file"}


@dataclass(frozen=True)
class Backend:
    """How tests open an empty store, and list a folder of it with its temporary files."""

    url: str
    address: str | None
    names: Callable[[Store, str], list[str]]


@pytest.fixture
def file_backend(tmp_path):
    return Backend(str(tmp_path / "store"), None, lambda store, folder: os.listdir(store.url(folder)))


@pytest.fixture
def hdfs_backend(hdfs, tmp_path):
    return Backend(
        f"{hdfs.url}/{tmp_path.name}",
        hdfs.webhdfs,
        lambda store, folder: store._client.list(store._full(folder)),
    )


@pytest.fixture
def memory_backend(tmp_path, monkeypatch):
    """The toy backend, registered by one line like any other."""
    monkeypatch.setitem(BACKENDS, "memory", "memory_store:open_memory")
    return Backend(f"memory://{tmp_path}", None, lambda store, folder: sorted(store.names(folder)))


@pytest.fixture(
    params=[
        pytest.param(scheme, marks=[pytest.mark.services] if scheme in NEEDS_SERVICES else [])
        for scheme in [*BACKENDS, "memory"]
    ]
)
def backend(request):
    """A `Backend` of each kind in turn."""
    return request.getfixturevalue(f"{request.param}_backend")


@pytest.fixture
def store(backend):
    """An empty store of each backend in turn."""
    return open_store(backend.url, backend.address)
