"""Tests of `storage.local`: what only a store in a folder has; the rest is in `test_contract`."""

import pytest

from storage import local
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
