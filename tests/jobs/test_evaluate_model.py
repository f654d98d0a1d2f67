"""Tests of `jobs.evaluate_model`: what it measures on workers is what the votes of all images say."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_world import (
    CLASSES,
    MASTER,
    PROCESSES,
    contents,
    error_line,
    make_corpus,
    make_images,
    run,
    run_json,
    write_tiny_images,
)

from ingest.corpus import open_corpus
from storage import layout
from storage.store import open_store
from tagging.forest.scikit_learn import train
from tagging.models import save_model
from tagging.quality import measure

# Other classes first, and one that the model knows but the corpus hasn't.
REORDERED = [CLASSES[5], *CLASSES[:5], *CLASSES[6:]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store with a forest and labelled corpora, and the forest."""
    folder = tmp_path_factory.mktemp("evaluate")
    store = open_store(str(folder / "store"))
    dump = write_tiny_images(folder / "tiny_images.bin", 1500)
    labels = folder / "labels.bin"
    known = np.frombuffer(labels.read_bytes(), np.uint8).copy()
    known[::10] = 255  # nobody said
    labels.write_bytes(known.tobytes())
    make_corpus(store, "tiny", dump, 400, labels=str(labels))
    numbers = np.array([REORDERED.index(name) for name in CLASSES] + [255] * 246, np.uint8)
    (folder / "reordered.bin").write_bytes(numbers[known].tobytes())
    make_corpus(store, "reordered", dump, 400, labels=str(folder / "reordered.bin"), classes=REORDERED)
    make_corpus(store, "foreign", dump, 1000, labels=str(labels), classes=[*CLASSES[:9], "lorry"])
    make_corpus(store, "unlabelled", dump, 1000)
    forest, parameters = train(*make_images(2000, seed=1), CLASSES, trees=5, depth=6)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})
    return store, forest, known


@pytest.mark.parametrize("master", [PROCESSES, "spark"])
def test_the_quality_is_that_of_all_labelled_images_whatever_the_order_of_classes(world, master, request):
    if master == "spark":
        request.getfixturevalue("spark")
        master = MASTER
    store, forest, known = world
    before = contents(Path(store.url()))
    result = run_json(
        "evaluate", "--model", "forest", "--corpus", "reordered", "--store", store.url(), "--master", master
    )
    labels = np.where(known == 255, -1, known.astype(int))
    expected = measure(forest.votes(make_images(1500)[0]), labels, CLASSES, 5)
    assert result["quality"] == expected
    assert (result["images"], result["model_hash"]) == (int((labels >= 0).sum()), forest.hash)
    assert contents(Path(store.url())) == before, "it changes nothing"


def test_on_what_it_was_trained_on_a_note_says_that_it_looks_better_than_it_is(world):
    store, forest, _ = world
    trained_on = {"corpus": "tiny", "corpus_hash": open_corpus(store, "tiny").hash, "images": 1200}
    save_model(store, "learnt", forest, {"engine": "scikit-learn", "trained_on": trained_on})
    words = ("evaluate", "--model", "learnt", "--store", store.url(), "--corpus")
    said = "model 'learnt' was trained on 1,200 images of 'tiny': the result is too good"
    assert said in run(*words, "tiny")[1]
    assert "trained on" not in run(*words, "reordered")[1]


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("unlabelled", "corpus 'unlabelled' has no labels to measure by"),
        ("foreign", "corpus 'foreign' has labels lorry, model 'forest' has only airplane, "),
        ("nowhere", "no corpus 'nowhere' in "),
    ],
)
def test_a_corpus_that_cannot_be_measured_by_is_refused_before_spark_starts(world, corpus, words):
    _, err = run("evaluate", "--model", "forest", "--corpus", corpus, "--store", world[0].url(), code=1)
    assert error_line(err).startswith(f"tinytags: {words}")
    assert len(err.splitlines()) == 1


def test_a_partition_that_cannot_be_read_is_named_and_nothing_is_claimed(world, tmp_path):
    shutil.copytree(world[0].url(), tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    store.remove(layout.corpus_images("tiny", 2))
    out, err = run("evaluate", "--model", "forest", "--corpus", "tiny", "--store", store.url(), code=1)
    assert out == ""
    assert error_line(err).startswith("tinytags: 1 of 4 partitions not read: 2; the first: ")
    assert "is missing" in err
