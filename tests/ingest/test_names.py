"""The index of a corpus' pictures by their names."""

import numpy as np
import pytest
from PIL import Image

from conf.settings import Settings
from ingest.corpus import open_corpus
from ingest.names import ENTRY, find_records, hash_of, read_index, records_of, stem, write_names
from jobs.split_dump import split_dump
from storage import layout
from storage.store import open_store


def test_a_name_is_that_of_the_file_without_folders_and_ending():
    assert [stem(name) for name in ("0a.jpg", "train/x/0a.JPEG", "0a", "a.b.png", ".hidden")] == [
        "0a",
        "0a",
        "0a",
        "a.b",
        ".hidden",
    ]


def test_ingest_writes_an_index_of_names_and_a_repeated_one_that_of_an_earlier_corpus(tmp_path):
    names = ["a/one.png", "a/two.png", "b/one.png", "b/three.png", "b/äpfel.png"]
    for number, name in enumerate(names):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "pictures" / name)
    settings = Settings(store=str(tmp_path / "store"), master="processes[1]")

    def ingest():
        split_dump(settings, str(tmp_path / "pictures"), "named", partition_images=2)

    ingest()
    store = open_store(settings.store)
    wanted = {"one": [0, 2], "two": [1], "three": [3], "äpfel": [4], "four": [], "one.png": []}
    assert {name: find_records(store, "named", name) for name in wanted} == wanted
    path = layout.corpus_names("named")
    data = store.read_bytes(path)
    store.remove(path)
    assert find_records(store, "named", "one") == []
    ingest()
    assert store.read_bytes(path) == data
    assert write_names(store, open_corpus(store, "named")) == 5


@pytest.mark.parametrize("reach", ["spread", "gathered"])
def test_every_entry_of_a_large_index_is_found_and_nothing_else(tmp_path, reach):
    store = open_store(str(tmp_path))
    names = [f"{number:016x}" for number in range(20_000)]
    hashes = np.array([hash_of(name) for name in names], np.uint64)
    if reach == "gathered":  # many others within a small range, so that nothing stands where its hash says
        hashes[100:] = hashes[0] + np.arange(1, 19_901, dtype=np.uint64)
    entries = np.array(list(zip(hashes, range(20_000), strict=True)), ENTRY)
    entries = np.concatenate([entries, entries[50:51]])
    entries["record"][-1] = 77
    store.write_bytes(layout.corpus_names("c"), np.sort(entries, order=("hash", "record")).tobytes())
    for number in [*range(100), *range(100, 20_000, 199)] if reach == "spread" else range(100):
        wanted = [50, 77] if number == 50 else [number]
        assert find_records(store, "c", names[number]) == wanted
        assert records_of(read_index(store, "c"), names[number]) == wanted
    assert find_records(store, "c", "missing") == [] == records_of(read_index(store, "c"), "missing")
