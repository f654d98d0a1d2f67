"""The contract of `storage.store.Store`: every test runs over every backend, and over a toy one that is registered here."""

import io
import pickle
import threading
import time

import pyarrow
import pyarrow.parquet
import pytest

from storage import checked_json, layout
from storage.lease import holder, lease
from storage.store import (
    DamagedFileError,
    FileMissingError,
    FileUnavailableError,
    StoreError,
    StoreUnavailableError,
    open_store,
    temporary_path,
)


@pytest.fixture
def temporary(backend, store):
    """A function that returns the temporary files in a folder."""
    return lambda folder: [name for name in backend.names(store, folder) if name.startswith(".")]


def test_files_are_read_whole_and_in_parts(store, temporary):
    data = bytes(range(256)) * 5000
    store.write_bytes("a/b/c.bin", data)
    assert store.read_bytes("a/b/c.bin") == data
    assert store.read_bytes("a/b/c.bin", 1000) == data[1000:]
    assert store.read_bytes("a/b/c.bin", 1000, 7) == data[1000:1007]
    assert store.read_bytes("a/b/c.bin", len(data) - 3, 10) == data[-3:]
    assert store.size("a/b/c.bin") == len(data)
    assert store.exists("a/b/c.bin") and store.exists("a/b") and not store.exists("a/c")
    assert temporary("a/b") == []


def test_names_may_hold_characters_that_urls_give_a_meaning(store):
    store.write_bytes("a/partition=00001/100 % #1?.bin", b"x")
    assert store.read_bytes("a/partition=00001/100 % #1?.bin") == b"x"
    assert store.list("a/partition=00001") == ["100 % #1?.bin"]


def test_a_second_write_replaces_the_file(store):
    store.write_bytes("x.bin", b"first, and longer")
    store.write_bytes("x.bin", b"second")
    assert store.read_bytes("x.bin") == b"second"


def test_views_of_memory_are_written_as_bytes_are(store):
    store.write_bytes("x.bin", memoryview(b"0123456789")[2:5])
    assert store.read_bytes("x.bin") == b"234"


def test_an_empty_file_is_a_file(store):
    store.write_bytes("empty", b"")
    assert store.exists("empty") and store.size("empty") == 0 and store.read_bytes("empty") == b""
    with store.open_arrow("empty") as file:
        assert file.read() == b""


def test_arrow_reads_whole_files_and_ranges(store):
    data = bytes(range(256)) * 1000
    store.write_bytes("x.bin", data)
    for opened in (store.open_arrow("x.bin"), store.open_ranged("x.bin")):
        with opened as file:
            assert file.size() == len(data)
            file.seek(100_000)
            assert file.read(300) == data[100_000:100_300]
            file.seek(len(data) - 5)
            assert file.read(100) == data[-5:]


def test_a_writer_that_fails_changes_nothing(store, temporary):
    store.write_bytes("folder/x.bin", b"as it was")
    with pytest.raises(ZeroDivisionError), store.writer("folder/x.bin") as file:
        file.write(b"half of it")
        raise ZeroDivisionError
    assert store.read_bytes("folder/x.bin") == b"as it was"
    assert temporary("folder") == []


def test_a_writer_shows_nothing_until_it_ends(store):
    with store.writer("folder/x.bin") as file:
        file.write(b"all ")
        assert not store.exists("folder/x.bin") and store.list("folder") == []
        file.write(b"of it")
    assert store.read_bytes("folder/x.bin") == b"all of it"


def test_a_file_written_in_steps_appears_whole_or_not_at_all(store, temporary):
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
    assert temporary("folder") == []


def test_parquet_is_written_in_steps_and_read_back(store):
    table = pyarrow.table({"row": list(range(1000)), "image": [b"x" * 3072] * 1000})

    def write(file):
        with pyarrow.parquet.ParquetWriter(file, table.schema) as writer:
            for start in range(0, 1000, 256):
                writer.write_table(table.slice(start, 256))
                yield

    assert store.write_in_steps("images.parquet", write) == store.size("images.parquet")
    with store.open_ranged("images.parquet") as file:
        assert pyarrow.parquet.read_table(file) == table


def test_lists_are_sorted_and_leave_temporary_files_out(store):
    assert store.list("folder") == []
    for name in ("b.json", "a.json", "sub/c.json", ".d.json.0123456789ab.tmp"):
        store.write_bytes(f"folder/{name}", b"x")
    assert store.list("folder") == ["a.json", "b.json", "sub"]


def test_times_are_those_of_writing_files_and_changing_folders(store):
    assert store.times("folder") == {}
    before = time.time()
    for name in ("b.json", "sub/a.json", ".c.json.tmp"):
        store.write_bytes(f"folder/{name}", b"")
    first = store.times("folder")
    assert list(first) == ["b.json", "sub"] == store.list("folder")
    assert all(before - 1 < at < time.time() + 1 for at in first.values())
    time.sleep(0.02)
    store.write_bytes("folder/sub/b.json", b"")
    store.write_bytes("folder/b.json", b"")
    second = store.times("folder")
    assert all(second[name] > first[name] for name in first)
    time.sleep(0.02)
    store.remove("folder/sub/b.json")
    third = store.times("folder")
    assert (third["b.json"], third["sub"] > second["sub"]) == (second["b.json"], True)
    assert store.times("folder") == third, "listing changes nothing"


def test_leftovers_of_killed_writers_are_removed_but_no_attempt_at_a_lease(store, temporary):
    attempt, leftover = (
        temporary_path(path).partition("/")[2] for path in ("r/index-lease.json", "r/a.json")
    )
    for name in ("a.json", leftover, ".images.parquet.0123456789ab.tmp", attempt):
        store.write_bytes(f"folder/{name}", b"x")
    assert sorted(store.temporary("folder")) == sorted(temporary("folder"))
    store.remove_temporary("folder")
    store.remove_temporary("no such folder")
    assert temporary("folder") == [attempt]
    assert store.temporary("folder")[attempt] == pytest.approx(time.time(), abs=60)
    assert store.list("folder") == ["a.json"]


def test_leftovers_in_the_folders_below_are_removed(store, temporary):
    for p in range(3):
        store.write_bytes(f"images/{p}/x.parquet", b"x")
    store.remove_temporary_below("images")
    store.write_bytes("images/1/.x.parquet.0123456789ab.tmp", b"x")
    store.remove_temporary_below("images")
    store.remove_temporary_below("no such folder")
    assert [temporary(f"images/{p}") for p in range(3)] == [[], [], []]
    assert [store.list(f"images/{p}") for p in range(3)] == [["x.parquet"]] * 3


def test_removing_what_does_not_exist_does_nothing(store):
    store.write_bytes("folder/sub/x.bin", b"x")
    store.remove("folder/sub/x.bin")
    store.remove("folder/sub/x.bin")
    assert not store.exists("folder/sub/x.bin")
    store.write_bytes("folder/sub/y.bin", b"x")
    store.remove_tree("folder")
    store.remove_tree("folder")
    assert not store.exists("folder") and not store.exists("folder/sub/y.bin")


def test_of_many_that_create_a_file_at_once_exactly_one_succeeds(store, temporary):
    barrier = threading.Barrier(8)
    winners = []

    def create(i):
        barrier.wait()
        if store.create_exclusive("lease.json", b"%d" % i):
            winners.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert store.read_bytes("lease.json") == b"%d" % winners[0]
    assert temporary("") == []


def test_a_lease_has_one_holder(store):
    with lease(store, layout.run_lease("r"), "run 'r'"):
        held = holder(store, layout.run_lease("r"))
        assert held and not store.create_exclusive(layout.run_lease("r"), held.to_json())
    assert holder(store, layout.run_lease("r")) is None


def test_json_is_read_as_it_was_written_and_the_same_value_gives_the_same_bytes(store):
    value = {"name": "Käse", "n": 1, "rows": [0, 9]}
    for name in "ab":
        store.write_json(name, value)
        assert store.read_json(name) == value
    assert store.read_bytes("a") == store.read_bytes("b") == checked_json.encode(value)


@pytest.mark.parametrize("content", [b"[1]", b'{"checksum": "sha256:0"}'])
def test_a_damaged_json_file_is_named(store, content):
    store.write_bytes("b.json", content)
    with pytest.raises(DamagedFileError) as error:
        store.read_json("b.json")
    assert error.value.path == "b.json"
    assert str(error.value).startswith(store.url("b.json") + ": ")


@pytest.mark.parametrize("method", ["read_bytes", "size", "open_arrow", "open_ranged", "read_json"])
def test_a_missing_file_is_an_error_of_its_own(store, method):
    with pytest.raises(FileMissingError) as error:
        getattr(store, method)("no/such.file")
    assert error.value.path == "no/such.file"
    assert str(error.value).startswith(store.url("no/such.file") + ": ")
    assert "\n" not in str(error.value)


def test_a_file_in_the_place_of_a_folder_is_an_error_of_the_path(store):
    store.write_bytes("corpora", b"x")
    with pytest.raises(StoreError) as error:
        store.write_bytes("corpora/tiny/manifest.json", b"x")
    assert not isinstance(error.value, FileUnavailableError | StoreUnavailableError)
    assert error.value.path == "corpora/tiny/manifest.json"
    assert "\n" not in str(error.value) and store.url("corpora/tiny/manifest.json") in str(error.value)


def test_a_store_can_be_sent_to_a_worker_and_opened_twice(backend, store):
    store.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"
    again = open_store(backend.url + "/", backend.address)
    assert again == store and hash(again) == hash(store) and again.read_bytes("x") == b"1"


def test_files_of_pyarrow_are_seekable(store):
    store.write_bytes("x.bin", b"0123456789")
    with store.open_ranged("x.bin") as file:
        assert file.seekable() and file.seek(-3, io.SEEK_END) == 7
        assert file.read() == b"789"
