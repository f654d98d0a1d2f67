"""Tests of `operations.repair`: each step repairs what it can, whatever another step could not."""

from pathlib import Path

import pytest
from small_world import (
    CLASSES,
    contents,
    error_line,
    make_corpus,
    make_images,
    run,
    run_json,
    write_cifar,
    write_tiny_images,
)

from conf.settings import Settings
from indexing.index import index_run
from indexing.solr import Solr
from jobs.tag_images import tag_partition, write_readme
from operations import repair
from storage import layout, runs
from storage.local import LocalStore
from storage.store import open_store
from tagging import descriptor
from tagging.forest.scikit_learn import train
from tagging.models import save_model


@pytest.fixture
def world(tmp_path, solr, request):
    """A run with its corpus, model, dump and collection, made without Spark; its store, itself, and the settings.

    Without descriptors, unless the test is parametrized with some.
    """
    store = open_store(str(tmp_path / "store"))
    corpus = make_corpus(store, "tiny", write_tiny_images(tmp_path / "tiny_images.bin", 1000), 300)
    forest, parameters = train(*make_images(1000, seed=1), CLASSES, trees=5, depth=5)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})
    made = runs.Run(
        "tiny", corpus.hash, "forest", forest.hash, 0.4, CLASSES, corpus.images, corpus.partitions, 5,
        descriptor=getattr(request, "param", None),
    )  # fmt: skip
    runs.create_run(store, made)
    write_readme(store, made)
    for partition in range(4):
        tag_partition(store, corpus, made, partition)
    client = Solr(solr.url, patience=60)
    index_run(store, made.name, client, "repair", publication="no")
    yield store, made, ["--store", store.url(), "--solr", solr.url, "--master", "processes"]
    client.delete(made.name)


def flip_a_byte(store: LocalStore, partition: int) -> None:
    path = Path(store.url(layout.corpus_images("tiny", partition)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.services
@pytest.mark.parametrize("world", [None, descriptor.NAME], indirect=True)
def test_without_the_dump_images_stay_broken_and_tags_are_repaired(world, tmp_path):
    store, made, settings = world
    before = contents(Path(store.url("runs")))
    (tmp_path / "tiny_images.bin").rename(tmp_path / "moved.bin")
    flip_a_byte(store, 1)
    store.write_bytes(layout.run_tags(made.name, 2), b"{}\n")
    result = run_json("verify", made.name, "--repair", *settings, code=1)
    assert [(problem["kind"], problem["partition"], problem["mended"]) for problem in result["problems"]] == [
        ("images", 1, False), ("tags", 2, True)
    ]  # fmt: skip
    assert contents(Path(store.url("runs"))) == before
    _, err = run("verify", made.name, "--repair", *settings, code=1)
    assert f"verify: {tmp_path / 'tiny_images.bin'}: no such file or folder" in err
    assert (
        error_line(err) == f"tinytags: run {made.name} differs in 1 place; they can't be repaired from here"
    )
    (tmp_path / "moved.bin").rename(tmp_path / "tiny_images.bin")
    assert run_json("verify", made.name, "--repair", *settings)["problems"][0]["mended"] is True


@pytest.mark.spark
def test_a_corpus_with_given_classes_is_split_again_with_them(tmp_path):
    store = open_store(str(tmp_path / "store"))
    folder = write_cifar(tmp_path / "cifar", 100, 50)
    corpus = make_corpus(store, "mine", folder, 60, classes=[f"kind {i}" for i in range(10)])
    made = runs.Run("mine", corpus.hash, "forest", "0" * 64, 0.4, CLASSES, 150, corpus.partitions, 5)
    runs.create_run(store, made)
    before = contents(Path(store.url("corpora/mine/images")))
    store.remove(layout.corpus_statistics("mine", 1))
    store.remove(layout.corpus_images("mine", 1))
    settings = Settings(store=store.url(), master="processes")
    repair._ingest_again(settings, store, None, made.name, {"needs_ingest": [1]})
    assert contents(Path(store.url("corpora/mine/images"))) == before
    assert store.exists(layout.corpus_statistics("mine", 1))


@pytest.mark.services
def test_without_the_model_tags_stay_broken_and_are_reported(world):
    store, made, settings = world
    store.remove_tree("models/forest")
    store.remove(layout.run_tags(made.name, 2))
    _, err = run("verify", made.name, "--repair", *settings, code=1)
    assert "verify: no model 'forest' in " in err
    assert "they can't be repaired from here" in error_line(err)


@pytest.mark.services
def test_another_model_of_the_same_name_adds_no_tags(world):
    store, made, settings = world
    store.remove_tree("models/forest")
    forest, _ = train(*make_images(1000, seed=2), CLASSES, trees=5, depth=5)
    save_model(store, "forest", forest, {"engine": "scikit-learn"})
    store.remove(layout.run_tags(made.name, 2))
    others = [store.read_bytes(layout.run_tags(made.name, p)) for p in (0, 1, 3)]
    _, err = run("verify", made.name, "--repair", *settings, code=1)
    assert "verify: corpus 'tiny' or model 'forest' is not the one of run " in err
    assert [store.read_bytes(layout.run_tags(made.name, p)) for p in (0, 1, 3)] == others
    assert not store.exists(layout.run_tags(made.name, 2))
    assert runs.list_runs(store) == [made.name], "and there is no other run"


@pytest.mark.services
@pytest.mark.parametrize("world", ["colours-edges-0"], indirect=True)
def test_a_run_with_descriptors_of_another_version_is_not_changed(world):
    store, made, settings = world
    store.remove(layout.run_tags(made.name, 2))
    _, err = run("verify", made.name, "--repair", *settings, code=1)
    assert (
        f"verify: run {made.name} has descriptors 'colours-edges-0', this version computes {descriptor.NAME!r}"
        in err
    )
    assert runs.list_runs(store) == [made.name]
