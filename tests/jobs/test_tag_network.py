"""Tests of networks in the jobs: tagged on Spark and on processes, measured, and shown on the page, with the same probabilities."""

from types import SimpleNamespace

import pytest
from networks import pattern_network
from small_world import CLASSES, MASTER, PROCESSES, make_corpus, make_images, write_tiny_images

from conf.settings import Settings
from jobs.evaluate_model import evaluate_model
from jobs.processes import Processes
from jobs.tag_images import tag_images
from search_ui.library import Library
from storage import layout, runs
from storage.store import open_store
from tagging.models import save_model
from tagging.network import Network, threads
from tagging.quality import measure
from tagging.tags import winners


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A labelled corpus, a network that knows its patterns, and what that says of all images."""
    folder = tmp_path_factory.mktemp("tag-network")
    store = open_store(str(folder / "store"))
    dump = write_tiny_images(folder / "tiny_images.bin", 500)
    make_corpus(store, "tiny", dump, 220, labels=str(folder / "labels.bin"))
    network = Network(tuple(CLASSES), pattern_network(sharpness=100))
    save_model(store, "net", network, {})
    images, labels = make_images(500)
    return SimpleNamespace(
        store=store, settings=Settings(store=store.url(), master=PROCESSES), network=network,
        images=images, labels=labels, votes=network.votes(images),
    )  # fmt: skip


def test_spark_and_processes_write_the_same_bytes(world, spark):
    tagged = tag_images(world.settings, "tiny", "net", 0.5)
    files = [world.store.read_bytes(layout.run_tags(tagged["run"], p)) for p in range(3)]
    best = winners(world.votes)
    assert tagged["tagged"] == int((best.votes >= 5_000).sum()) and 50 < tagged["tagged"] < 450
    assert tagged["right"] == int((best.tag == world.labels)[best.votes >= 5_000].sum())
    world.store.remove_tree(layout.run_folder(tagged["run"]))
    again = tag_images(Settings(store=world.settings.store, master=MASTER), "tiny", "net", 0.5)
    assert again["run"] == tagged["run"]
    assert [world.store.read_bytes(layout.run_tags(again["run"], p)) for p in range(3)] == files


def test_a_task_has_one_thread(world, spark, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert spark.sparkContext.parallelize([0], 1).map(lambda _: threads()).collect() == [1]
    runner = Processes(2)
    try:
        results, _, _ = runner.run("threads", [0, 1], count_threads)
    finally:
        runner.close()
    assert [result["threads"] for result in results] == [1, 1]


def count_threads(_partition):
    return {"threads": threads()}


@pytest.mark.slow
def test_evaluate_measures_it_at_each_percent(world):
    result = evaluate_model(world.settings, "net", "tiny")
    assert (
        result["quality"]["accuracy"] == measure(world.votes, world.labels, CLASSES, None)["accuracy"] > 0.9
    )


@pytest.mark.slow
def test_the_page_shows_the_probabilities_that_the_job_used(world):
    from ingest.corpus import open_corpus
    from ingest.partition import read_image

    tagged = tag_images(world.settings, "tiny", "net", 0.5)
    run = runs.open_run(world.store, tagged["run"])
    library = Library(world.store)
    block = read_image(world.store, open_corpus(world.store, "tiny"), 1, 17)
    probabilities = library.votes(run, block)
    assert probabilities == dict(zip(CLASSES, world.votes[220 + 17].tolist(), strict=True))
