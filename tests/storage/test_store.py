"""Tests of `storage.store`: the local one and the one in a real HDFS do the same."""

import os
import pickle
import threading
import time

import pytest

from conf.errors import TinyTagsError
from operations.services import free_port
from storage import hdfs_client
from storage.store import (
    FileUnavailableError,
    HdfsStore,
    LocalStore,
    StoreError,
    StoreUnavailableError,
    check_name,
    open_store,
)

everywhere = pytest.mark.parametrize(
    "store", ["local", pytest.param("hdfs", marks=pytest.mark.services)], indirect=True
)


@pytest.fixture
def store(request, tmp_path):
    """An empty store of the kind that the test is parametrized with."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    hdfs = request.getfixturevalue("hdfs")
    return open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)


def temporary(store, folder: str) -> list[str]:
    """Return the temporary files in a folder of either store."""
    if isinstance(store, LocalStore):
        names = os.listdir(store.url(folder))
    else:
        names = store._client.list(store._full(folder))
    return [name for name in names if name.startswith(".")]


@everywhere
def test_what_is_written_is_read_whole_or_in_parts(store):
    data = bytes(range(256)) * 5000
    store.write_bytes("a/b/c.bin", data)
    assert store.read_bytes("a/b/c.bin") == data
    assert store.read_bytes("a/b/c.bin", 1000) == data[1000:]
    assert store.read_bytes("a/b/c.bin", 1000, 7) == data[1000:1007]
    assert store.size("a/b/c.bin") == len(data)
    assert store.exists("a/b/c.bin") and store.exists("a/b") and not store.exists("a/c")
    assert temporary(store, "a/b") == []


@everywhere
def test_writing_again_replaces(store):
    store.write_bytes("x.bin", b"first, and longer")
    store.write_bytes("x.bin", b"second")
    assert store.read_bytes("x.bin") == b"second"


@everywhere
def test_an_empty_file_is_a_file(store):
    store.write_bytes("empty", b"")
    assert store.exists("empty") and store.size("empty") == 0 and store.read_bytes("empty") == b""
    with store.open_arrow("empty") as file:
        assert file.read() == b""


@everywhere
def test_arrow_reads_whole_and_in_ranges(store):
    data = bytes(range(256)) * 1000
    store.write_bytes("x.bin", data)
    for opened in (store.open_arrow("x.bin"), store.open_ranged("x.bin")):
        with opened as file:
            assert file.size() == len(data)
            file.seek(100_000)
            assert file.read(300) == data[100_000:100_300]
            file.seek(len(data) - 5)
            assert file.read(100) == data[-5:]


@everywhere
def test_a_writer_that_fails_leaves_nothing(store):
    store.write_bytes("folder/x.bin", b"as it was")
    with pytest.raises(ZeroDivisionError), store.writer("folder/x.bin") as file:
        file.write(b"half of it")
        raise ZeroDivisionError
    assert store.read_bytes("folder/x.bin") == b"as it was"
    assert temporary(store, "folder") == []


@everywhere
def test_a_file_that_is_written_in_steps_is_there_whole_or_not_at_all(store):
    parts = [bytes([number]) * length for number, length in enumerate((10, 3, 1 << 20, 700_000, 0, 5))]

    def write(file, fails=False):
        for part in parts:
            file.write(part)
            yield
        file.write(b"end")
        assert file.tell() == sum(map(len, parts)) + 3
        if fails:
            raise ZeroDivisionError

    assert store.write_in_steps("folder/x.bin", write) == sum(map(len, parts)) + 3
    assert store.read_bytes("folder/x.bin") == b"".join(parts) + b"end"
    with pytest.raises(ZeroDivisionError):
        store.write_in_steps("folder/x.bin", lambda file: write(file, fails=True))
    assert store.size("folder/x.bin") == sum(map(len, parts)) + 3
    assert temporary(store, "folder") == []


@pytest.mark.services
@pytest.mark.parametrize("store", ["hdfs"], indirect=True)
def test_an_upload_that_breaks_off_in_the_middle_begins_again(store, monkeypatch):
    """A connection that breaks at a certain byte can't be had otherwise."""
    attempts = []

    def write(file):
        attempts.append(0)
        for _ in range(5):
            file.write(b"x" * 1_000_000)
            attempts[-1] += 1
            if attempts == [3]:
                raise ConnectionResetError("broke off")
            yield

    monkeypatch.setattr(hdfs_client.time, "sleep", lambda seconds: None)
    assert store.write_in_steps("folder/x.bin", write) == 5_000_000
    assert attempts == [3, 5]
    assert store.read_bytes("folder/x.bin") == b"x" * 5_000_000
    assert temporary(store, "folder") == []


@everywhere
def test_names_are_listed_sorted_without_temporary_files(store):
    assert store.list("folder") == []
    for name in ("b.json", "a.json", "sub/c.json", ".d.json.0123456789ab.tmp"):
        store.write_bytes(f"folder/{name}", b"x")
    assert store.list("folder") == ["a.json", "b.json", "sub"]


@everywhere
def test_times_tell_when_files_were_written_and_folders_changed(store):
    assert store.times("folder") == {}
    before = time.time()
    for name in ("b.json", "sub/a.json", ".c.json.tmp"):
        store.write_bytes(f"folder/{name}", b"")
    first = store.times("folder")
    assert list(first) == ["b.json", "sub"] == store.list("folder")
    assert all(before - 1 < at < time.time() + 1 for at in first.values())
    time.sleep(0.05)
    store.write_bytes("folder/sub/b.json", b"")
    store.write_bytes("folder/b.json", b"")
    second = store.times("folder")
    assert all(second[name] > first[name] for name in first)
    time.sleep(0.05)
    store.remove("folder/sub/b.json")
    third = store.times("folder")
    assert (third["b.json"], third["sub"] > second["sub"]) == (second["b.json"], True)
    assert store.times("folder") == third, "looking changes nothing"


@everywhere
def test_what_killed_writers_left_is_removed_but_nobodys_attempt_at_a_lease(store):
    lease = ".index-lease.json.0123456789ab.tmp"
    for name in ("a.json", ".a.json.0123456789ab.tmp", ".images.parquet.0123456789ab.tmp", lease):
        store.write_bytes(f"folder/{name}", b"x")
    store.remove_temporary("folder")
    store.remove_temporary("no such folder")
    assert temporary(store, "folder") == [lease]
    assert store.list("folder") == ["a.json"]


@everywhere
def test_removing_is_fine_with_what_is_not_there(store):
    store.write_bytes("folder/sub/x.bin", b"x")
    store.remove("folder/sub/x.bin")
    store.remove("folder/sub/x.bin")
    assert not store.exists("folder/sub/x.bin")
    store.remove_tree("folder")
    store.remove_tree("folder")
    assert not store.exists("folder")


@everywhere
def test_of_many_who_create_a_file_at_once_exactly_one_does(store):
    barrier = threading.Barrier(8)
    won = []

    def create(i):
        barrier.wait()
        if store.create_exclusive("lease.json", b"%d" % i):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read_bytes("lease.json") == b"%d" % won[0]
    assert temporary(store, "") == []


@everywhere
def test_json_comes_back_as_it_went_and_anything_else_is_refused_by_name(store):
    store.write_json("a.json", {"name": "Käse", "n": 1})
    assert store.read_json("a.json") == {"name": "Käse", "n": 1}
    for content, words in ((b"{", "is not JSON"), (b"\xff", "is not JSON"), (b"[1]", "but not an object")):
        store.write_bytes("b.json", content)
        with pytest.raises(StoreError, match=words) as told:
            store.read_json("b.json")
        assert str(told.value).startswith(store.url("b.json") + ": ")


@everywhere
def test_a_file_that_is_not_there_is_named(store):
    for action in (store.read_bytes, store.size, store.open_arrow, store.open_ranged, store.read_json):
        with pytest.raises(StoreError) as told:
            action("no/such.file")
        assert str(told.value).startswith(store.url("no/such.file") + ": ")
        assert "\n" not in str(told.value)
        assert not isinstance(told.value, StoreUnavailableError), "it is this file alone"


@everywhere
def test_a_store_can_be_sent_to_a_worker(store):
    store.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"


@everywhere
def test_a_file_in_the_place_of_a_folder_is_told_in_one_line(store):
    store.write_bytes("corpora", b"x")
    with pytest.raises(StoreError) as told:
        store.write_bytes("corpora/tiny/manifest.json", b"x")
    assert "\n" not in str(told.value)
    assert store.url("corpora/tiny/manifest.json") in str(told.value)


def test_an_hdfs_that_is_not_there_is_told_soon_and_as_a_whole():
    store = open_store("hdfs://127.0.0.1:8020/x", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"are the NameNode and a DataNode up\?") as told:
        store.read_bytes("a.json")
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 30


@pytest.mark.services
def test_a_damaged_block_is_a_matter_of_its_file_alone(hdfs, tmp_path):
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    data = os.urandom(3 << 20)
    store.write_bytes("damaged.bin", data)
    store.write_bytes("whole.bin", b"whole")
    blocks = [
        path for path in hdfs.directory.glob("datanode-0/blocks/**/blk_*") if path.stat().st_size == len(data)
    ]
    (block,) = [path for path in blocks if path.read_bytes() == data]
    block.write_bytes(data[: 2 << 20] + b"XXXX" + data[(2 << 20) + 4 :])
    with pytest.raises(FileUnavailableError) as told:
        store.read_bytes("damaged.bin")
    assert store.url("damaged.bin") in str(told.value) and "\n" not in str(told.value)
    assert store.read_bytes("whole.bin") == b"whole"


def test_a_webhdfs_that_is_something_else_is_told_in_one_line(solr):
    store = open_store("hdfs://127.0.0.1:8020/x", solr.url)
    with pytest.raises(StoreError) as told:
        store.read_bytes("a.json")
    assert "\n" not in str(told.value)


def test_stores_are_opened_by_their_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("data") == LocalStore(str(tmp_path / "data"))
    assert open_store("file:///srv/data") == LocalStore("/srv/data")
    store = open_store("hdfs://namenode:8020/tinytags/")
    assert isinstance(store, HdfsStore)
    assert (store.url("corpora/c"), store.webhdfs) == (
        "hdfs://namenode:8020/tinytags/corpora/c",
        "http://namenode:9870",
    )
    assert open_store("hdfs://namenode:8020", "http://gateway:1")._full("") == "/"


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "hdfs://", "hdfs:///path", "hdfs://[::1/x", "hdfs://host:many/x"]
)
def test_an_address_that_is_no_store_is_quoted(url):
    with pytest.raises(TinyTagsError) as told:
        open_store(url)
    assert repr(url) in str(told.value)


@pytest.mark.parametrize("name", ["tiny", "CIFAR-10", "a", "2024.tiny_images-v2", "x" * 100])
def test_names_that_may_be_folders_and_collections(name):
    assert check_name("corpus", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "-x", "_x", "ä", "a b", "a\n", "x" * 101, "a\0"]
)
def test_names_that_may_not(name):
    with pytest.raises(TinyTagsError, match="corpus name") as told:
        check_name("corpus", name)
    assert repr(name) in str(told.value)
