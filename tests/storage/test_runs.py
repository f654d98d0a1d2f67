"""Tests of `storage.runs`: the same inputs give the same run, and no other inputs give its name."""

import json
from dataclasses import replace

import pytest

from conf.errors import TinyTagsError
from storage import layout, runs
from storage.documents import rejected_partitions
from storage.runs import Run, create_run, list_runs, open_run, read_statistics
from storage.store import DamagedFileError, StoreError, open_store

RUN = Run(
    corpus="tiny", corpus_hash="c" * 64, model="forest-10", model_hash="f" * 64, min_confidence=0.4,
    classes=["cat", "dog"], images=1000, partitions=3, trees=10,
)  # fmt: skip
STATISTICS = {
    "partition": 1, "images": 400, "tagged": 300, "dropped": 100, "bad": 0, "bytes": 3, "sha256": "0", "seconds": 0.1
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_the_name_follows_from_all_inputs_that_decide_the_tags():
    assert RUN.name == f"tiny-forest-10-{RUN.prefix}"
    assert RUN.prefix == RUN.hash[:8]
    assert replace(RUN).name == RUN.name
    changes = [
        {"corpus": "other"}, {"corpus_hash": "d" * 64}, {"model": "other"}, {"model_hash": "e" * 64}, {"min_confidence": 0.5},
        {"version": 2}, {"descriptor": "colours-1"}, {"descriptor": "colours-2"},
    ]  # fmt: skip
    assert len({RUN.hash} | {replace(RUN, **change).hash for change in changes}) == 1 + len(changes)


def test_hashes_are_those_of_earlier_versions_whose_manifests_are_read(store):
    assert RUN.hash == "da524b72d9ba99cdee3444a71fed7dc7d1afd5e6033a8d05f31d1d00427e780a"
    manifest = """{{
 "corpus": "tiny",
 "corpus_hash": "{}",
 "model": "forest-10",
 "model_hash": "{}",
 "min_confidence": 0.4,
 "classes": [
  "cat",
  "dog"
 ],
 "images": 1000,
 "partitions": 3,
 "trees": 10,
 "version": 1,
 "run": "tiny-forest-10-da524b72",
 "hash": "da524b72d9ba99cdee3444a71fed7dc7d1afd5e6033a8d05f31d1d00427e780a"
}}
""".format("c" * 64, "f" * 64)
    path = f"runs/{RUN.name}/manifest.json"
    store.write_bytes(path, manifest.encode())
    assert open_run(store, RUN.name) == RUN and create_run(store, RUN) is False
    store.write_bytes(path, manifest.replace("dog", "Dog").encode())
    with pytest.raises(DamagedFileError, match="different: classes"):
        create_run(store, RUN)
    store.remove(path)
    assert create_run(store, RUN) is True
    assert list(store.read_json(path)) == list(json.loads(manifest))
    described = replace(RUN, descriptor="colours-1")
    create_run(store, described)
    assert open_run(store, described.name) == described
    assert store.read_json(f"runs/{described.name}/manifest.json")["descriptor"] == "colours-1"


def test_a_run_is_created_once_and_read_again(store):
    assert create_run(store, RUN) is True
    assert create_run(store, RUN) is False
    assert open_run(store, RUN.name) == RUN
    store.write_bytes("runs/unfinished/tags/00000.jsonl", b"")
    assert list_runs(store) == [RUN.name]


@pytest.mark.parametrize(
    "change",
    [
        {"min_confidence": 0.1},
        {"hash": "x"},
        {"model_hash": "0"},
        {"corpus": "x"},
        {"descriptor": "colours-1"},
    ],
)
def test_an_edited_manifest_is_an_error(store, change):
    create_run(store, RUN)
    path = f"runs/{RUN.name}/manifest.json"
    store.write_json(path, store.read_json(path) | change)
    for action in (lambda: open_run(store, RUN.name), lambda: create_run(store, RUN)):
        with pytest.raises(TinyTagsError, match="is not as it was written") as error:
            action()
        assert str(error.value).startswith(store.url(path))


def test_a_copy_of_a_run_under_another_name_is_an_error(store):
    create_run(store, RUN)
    store.write_bytes("runs/copy/manifest.json", store.read_bytes(f"runs/{RUN.name}/manifest.json"))
    with pytest.raises(TinyTagsError, match="is not as it was written"):
        open_run(store, "copy")


def test_an_incomplete_manifest_is_an_error(store):
    store.write_json(f"runs/{RUN.name}/manifest.json", {"corpus": "tiny"})
    with pytest.raises(TinyTagsError, match="is not as it was written"):
        open_run(store, RUN.name)


def test_the_error_of_a_missing_run_lists_the_existing_ones(store):
    with pytest.raises(
        TinyTagsError, match=r"no run 'x' in .*; there is none yet: make one with `tinytags tag`"
    ):
        open_run(store, "x")
    create_run(store, RUN)
    with pytest.raises(TinyTagsError, match=rf"no run 'x' in .*; there are {RUN.name}$"):
        open_run(store, "x")
    with pytest.raises(TinyTagsError, match=r"run name '\.\./x' is not valid"):
        open_run(store, "../x")


def test_partitions_are_done_by_their_statistics_and_rejected_by_solr(store):
    create_run(store, RUN)
    for path in (
        layout.run_statistics(RUN.name, 1),
        layout.run_failed(RUN.name, 1),
    ):
        store.write_json(path, {})
    store.write_bytes(layout.run_rejected(RUN.name, 1), b"")
    store.write_bytes(f"runs/{RUN.name}/statistics/.00002.json.0123.tmp", b"")
    store.write_bytes(f"runs/{RUN.name}/statistics/notes.json", b"")
    store.write_bytes(layout.run_tags(RUN.name, 0), b"")
    assert runs.done_partitions(store, RUN) == [1]
    assert rejected_partitions(store, RUN) == [1]


def test_statistics_are_complete_and_of_their_partition(store):
    store.write_json(layout.run_statistics(RUN.name, 1), STATISTICS)
    assert read_statistics(store, RUN, 1) == STATISTICS
    store.write_json(layout.run_statistics(RUN.name, 2), STATISTICS)
    store.write_json(layout.run_statistics(RUN.name, 0), {"partition": 0})
    for partition in (0, 2):
        with pytest.raises(StoreError, match=f"is not the statistics of partition {partition}; remove it"):
            read_statistics(store, RUN, partition)
