"""Tests of `storage.store`: URLs, names and errors; what every store does is in `test_contract`."""

import pickle

import pytest

from conf.errors import TinyTagsError
from storage import store as stores
from storage.hdfs import HdfsStore
from storage.local import LocalStore
from storage.store import (
    BACKENDS,
    FileMissingError,
    StoreUnavailableError,
    check_name,
    is_leftover,
    open_store,
    temporary_path,
)


def test_stores_are_opened_by_their_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("data") == LocalStore(str(tmp_path / "data"))
    assert open_store("file:///srv/data") == LocalStore("/srv/data")
    store = open_store("hdfs://namenode:8020/tinytags/")
    assert isinstance(store, HdfsStore)
    assert store.url("corpora/c") == "hdfs://namenode:8020/tinytags/corpora/c"
    assert store.webhdfs == "http://namenode:9870"
    assert open_store("hdfs://namenode:8020", "http://gateway:1")._full("") == "/"


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "hdfs://", "hdfs:///path", "hdfs://[::1/x", "hdfs://host:many/x", "://x"]
)
def test_a_url_that_no_store_has_is_quoted(url):
    with pytest.raises(TinyTagsError) as error:
        open_store(url)
    assert repr(url) in str(error.value)


def test_an_unknown_scheme_is_answered_with_the_known_ones():
    with pytest.raises(TinyTagsError) as error:
        open_store("ftp://host/x")
    assert all(f"{scheme}://" in str(error.value) for scheme in BACKENDS)


def test_a_backend_is_imported_when_a_store_of_it_is_opened(monkeypatch):
    names = []
    monkeypatch.setattr(
        stores.pkgutil,
        "resolve_name",
        lambda name: names.append(name) or (lambda url, address: (url, address)),
    )
    assert open_store("hdfs://h/x", "http://h:1") == ("hdfs://h/x", "http://h:1")
    assert names == [BACKENDS["hdfs"]]


def test_errors_keep_their_path_on_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(FileMissingError("data/x: no such file", "x")))
    assert (type(error), str(error), error.path) == (FileMissingError, "data/x: no such file", "x")
    assert StoreUnavailableError("no NameNode").path is None


def test_temporary_names_are_in_the_folder_of_the_file_and_are_leftovers():
    first, second = (temporary_path("folder/images.parquet") for _ in range(2))
    assert first != second and first.startswith("folder/.images.parquet.") and first.endswith(".tmp")
    assert is_leftover(first.rpartition("/")[2])
    assert not is_leftover("images.parquet") and not is_leftover(".hidden")
    assert not is_leftover(temporary_path("lease.json")) and not is_leftover(
        temporary_path("index-lease.json")
    )


@pytest.mark.parametrize("name", ["tiny", "CIFAR-10", "a", "2024.tiny_images-v2", "x" * 100])
def test_names_that_may_be_folders_and_collections(name):
    assert check_name("corpus", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "-x", "_x", "ä", "a b", "a\n", "x" * 101, "a\0"]
)
def test_names_that_may_not(name):
    with pytest.raises(TinyTagsError, match="corpus name") as error:
        check_name("corpus", name)
    assert repr(name) in str(error.value)
