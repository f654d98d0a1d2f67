"""Tests of `operations.status`: the state of each step, also of damaged parts, without any change."""

import os
from pathlib import Path

import pytest
from small_world import CLASSES, contents, make_corpus, write_tiny_images

from conf.settings import Settings
from operations.status import describe, read_status
from storage import layout, runs
from storage.lease import lease
from storage.store import open_store

NO_SOLR = "http://127.0.0.1:1/solr"


@pytest.fixture
def place(store_address):
    """A store of either kind, and the settings that lead to it; Solr does not answer."""
    url, webhdfs = store_address
    settings = Settings(store=url, webhdfs=webhdfs, solr=NO_SOLR)
    return open_store(settings.store, settings.webhdfs), settings


@pytest.fixture
def store(place):
    return place[0]


@pytest.fixture
def settings(place):
    return place[1]


def make_run(store, done: list[int], failed: list[int]) -> runs.Run:
    made = runs.Run("tiny", "c" * 64, "forest", "f" * 64, 0.4, CLASSES, images=100, partitions=5, trees=10)
    runs.create_run(store, made)
    for p in done:
        statistics = {
            "partition": p,
            "images": 20,
            "tagged": 12,
            "dropped": 8,
            "bad": 0,
            "bytes": 0,
            "sha256": "0",
        }
        store.write_json(layout.run_statistics(made.name, p), statistics)
    for p in failed:
        store.write_json(layout.run_failed(made.name, p), {"partition": p, "error": "is corrupt"})
    return made


def test_an_empty_store_shows_the_first_command(store, settings):
    status = read_status(settings)
    assert (status["corpora"], status["models"], status["runs"]) == ([], [], [])
    lines = describe(status).splitlines()
    assert lines[0] == f"store {store.url()}"
    assert "`tinytags ingest DUMP --corpus NAME` makes the first corpus" in lines[1]
    assert lines[2].startswith(f"solr {NO_SOLR}: Solr at {NO_SOLR} does not answer")


def test_partitions_are_counted_by_step_and_state(store, settings, tmp_path):
    make_corpus(store, "tiny", write_tiny_images(tmp_path / "t.bin", 100), 20)
    store.remove(layout.corpus_statistics("tiny", 3))
    store.remove(layout.corpus_statistics("tiny", 4))
    store.write_json(layout.corpus_failed("tiny", 4), {"partition": 4, "error": "is corrupt"})
    store.write_json(layout.corpus_failed("tiny", 0), {"partition": 0, "error": "an old one"})
    made = make_run(store, done=[0, 1], failed=[1, 2])
    status = read_status(settings)
    assert status["corpora"][0]["ingest"] == {"pending": 1, "done": 3, "failed": 1}
    assert status["runs"][0]["tag"] == {"pending": 2, "done": 2, "failed": 1}
    assert status["runs"][0]["index"] is None
    lines = describe(status).splitlines()
    assert lines[1] == "  corpus tiny: 100 images, ingest 3 of 5 partitions done, 1 failed"
    assert lines[2] == f"  run {made.name}: tag 2 of 5 partitions done, 1 failed; index unknown"


def test_a_writer_is_named(store, settings, tmp_path):
    make_corpus(store, "tiny", write_tiny_images(tmp_path / "t.bin", 100), 20)
    made = make_run(store, done=[], failed=[])
    with lease(store, layout.corpus_lease("tiny"), "x"), lease(store, layout.run_index_lease(made.name), "x"):
        status = read_status(settings)
        assert status["corpora"][0]["writer"]["pid"] == os.getpid()
        assert status["runs"][0]["writer"]["pid"] == os.getpid()
        assert describe(status).count(f", process {os.getpid()}, since 20") == 2
    assert read_status(settings)["corpora"][0]["writer"] is None


def test_damaged_parts_are_named_beside_the_rest(store, settings, tmp_path):
    dump = write_tiny_images(tmp_path / "t.bin", 100)
    for name in ("edited", "garbage", "held", "whole"):
        make_corpus(store, name, dump, 50)
    store.write_json(
        "corpora/edited/manifest.json", store.read_json("corpora/edited/manifest.json") | {"images": 7}
    )
    store.write_bytes("corpora/garbage/manifest.json", b"{")
    store.write_bytes(layout.corpus_lease("held"), b"nobody")
    store.write_bytes("models/bad/model.json", b"[]")
    store.write_json("models/unmeasured/model.json", {"kind": "network", "engine": "import", "hash": "0"})
    store.write_json("models/worse/model.json", {})
    made = make_run(store, done=[0], failed=[])
    store.write_json(f"runs/{made.name}/manifest.json", {"hash": "0"})
    status = read_status(settings)
    errors = {corpus["corpus"]: corpus.get("error") for corpus in status["corpora"]}
    assert "is not as it was written" in errors["edited"]
    assert "is not JSON" in errors["garbage"]
    assert errors["held"] is errors["whole"] is None
    assert [bool(model.get("error")) for model in status["models"]] == [True, False, True]
    assert "is not as it was written" in status["runs"][0]["error"]
    text = describe(status)
    assert (
        f"model worse: {store.url('models/worse/model.json')}: is not a model's card; train it again" in text
    )
    assert "model unmeasured: network, import, accuracy unknown" in text
    assert "corpus whole: 100 images, ingest 2 of 2 partitions done" in text


def test_reading_the_status_writes_nothing(tmp_path):
    settings = Settings(store=str(tmp_path / "store"), solr=NO_SOLR)
    read_status(settings)
    assert not (tmp_path / "store").exists()
    store = open_store(settings.store)
    make_corpus(store, "tiny", write_tiny_images(tmp_path / "t.bin", 100), 20)
    make_run(store, done=[0], failed=[1])
    before = contents(Path(settings.store), volatile=())
    read_status(settings)
    assert contents(Path(settings.store), volatile=()) == before
