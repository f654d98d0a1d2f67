"""Tests of `storage.local`: what only a store in a folder has; the rest is in `test_contract`."""

import errno
import os
import stat

import pytest

from storage import local
from storage.lease import lease
from storage.store import StoreError, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_large_files_are_read_without_being_mapped(store, monkeypatch):
    monkeypatch.setattr(local, "MAPPED_BYTES", 10)
    for size in (10, 11):
        store.write_bytes("x.bin", b"x" * size)
        with store.open_arrow("x.bin") as file:
            assert type(file).__name__ == ("MemoryMappedFile" if size == 10 else "OSFile")
            assert file.read() == b"x" * size


@pytest.mark.parametrize("has_sync_file_range", [True, False])
def test_write_back_starts_while_a_large_file_is_written(store, monkeypatch, has_sync_file_range):
    starts = []
    monkeypatch.setattr(local, "PIECE_BYTES", 1000)
    monkeypatch.setattr(
        local, "_SYNC_FILE_RANGE", (lambda _, start, length, __: starts.append((start.value, length.value)))
        if has_sync_file_range
        else None,
    )  # fmt: skip
    data = b"x" * 100_000
    with store.writer("a.bin") as file:
        for _ in range(3):
            file.write(data)
    assert store.size("a.bin") == 300_000

    def write(file):
        for _ in range(3):
            file.write(data)
            yield

    assert store.write_in_steps("b.bin", write) == 300_000
    if has_sync_file_range:
        assert starts == [(0, 100_000), (100_000, 100_000), (200_000, 100_000)] * 2
    else:
        assert starts == []


@pytest.fixture
def calls(monkeypatch):
    """What is synced, linked, renamed and created, in order: the names of the files."""
    calls = []
    monkeypatch.setattr(local, "_unsynced", set())

    def record(name, describe):
        original = getattr(os, name)

        def call(*arguments, **options):
            result = original(*arguments, **options)
            calls.append((name, describe(*arguments)))
            return result

        monkeypatch.setattr(os, name, call)

    def label(path):
        name = os.path.basename(path)
        return "temporary" if name.startswith(".") else name

    record("fsync", lambda descriptor: label(os.readlink(f"/proc/self/fd/{descriptor}")))
    for name in ("mkdir", "unlink"):
        record(name, label)
    for name in ("link", "replace"):
        record(name, lambda source, target: f"{label(source)} to {label(target)}")
    return calls


def test_a_marker_does_not_survive_a_power_cut_without_its_data(store, calls):
    store.write_in_steps("r/tags/1", lambda file: iter([file.write(b"x")]))
    store.write_json("r/statistics/1.json", {})
    renames = [at for at, call in enumerate(calls) if call[0] == "replace"]
    synced = {name for call, name in calls[renames[0] : renames[1]] if call == "fsync"}
    assert synced == {"tags", "r", "store", "temporary", os.path.basename(os.path.dirname(store.url()))}
    assert calls[renames[0] - 1] == ("fsync", "temporary")
    del calls[:]
    store.write_json("r/statistics/2.json", {})
    before = calls.index(("replace", "temporary to 2.json"))
    assert calls[0] == ("fsync", "temporary") and ("fsync", "statistics") in calls[:before]


def test_what_a_finished_command_reported_and_a_lease_survive_a_power_cut(store, calls):
    store.write_json("r/statistics/1.json", {})
    store.sync("r")
    assert calls[-2:] == [("fsync", "r"), ("fsync", "statistics")]
    del calls[:]
    assert store.create_exclusive("r/lease.json", b"x")
    assert calls[:3] == [("fsync", "temporary"), ("link", "temporary to lease.json"), ("fsync", "r")]
    del calls[:]
    with lease(store, "r/index-lease.json", "run 'r'"):
        del calls[:]
    released = calls.index(("unlink", "index-lease.json"))
    assert {("fsync", "r"), ("fsync", "statistics")} <= set(calls[:released])
    assert ("fsync", "r") in calls[released:]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_can_not_sync_folders_is_used_without(store, monkeypatch, number):
    fsync = os.fsync

    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    if number == errno.EINVAL:
        store.create_exclusive("a/b", b"x")
        assert store.read_bytes("a/b") == b"x"
    else:
        with pytest.raises(StoreError):
            store.create_exclusive("a/b", b"x")


def test_errors_of_the_system_are_one_line_with_the_path(store, tmp_path):
    (tmp_path / "store").write_bytes(b"a file where the store should be")
    actions = [
        lambda: store.list("corpora"),
        lambda: store.times("corpora"),
        lambda: store.read_bytes("corpora"),
        lambda: store.create_exclusive("corpora", b""),
    ]
    for action in actions:
        with pytest.raises(StoreError, match=r"Not a directory|File exists") as error:
            action()
        assert error.value.path == "corpora" and "\n" not in str(error.value)
