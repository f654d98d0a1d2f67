"""Tests of `jobs.compare_models`: the same images for all, what is kept, and that a stopped command continues."""

import signal
from pathlib import Path

import numpy as np
import pytest
from small_world import (
    CLASSES,
    error_line,
    finish,
    make_corpus,
    make_images,
    make_labelled_and_unlabelled,
    run,
    run_json,
    start,
    stop_group,
    times,
    wait_until,
    write_cifar,
)

from conf.settings import Settings
from ingest.corpus import open_corpus
from jobs.compare_models import compare_models
from jobs.evaluate_model import TrainingDataError
from storage import layout
from storage.store import open_store
from tagging import comparison
from tagging.forest.scikit_learn import train
from tagging.models import load_model, save_model
from tagging.trained import hash_blocks

TRAIN, TEST = 400, 200
REORDERED = [*CLASSES[5:], *CLASSES[:5]]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a corpus that has a test part, one that has none, and forests."""
    folder = tmp_path_factory.mktemp("compare")
    store = open_store(str(folder / "store"))
    make_corpus(store, "cifar", write_cifar(folder / "cifar", TRAIN, TEST), 150)
    make_labelled_and_unlabelled(store, folder, "tiny", 300, 100)
    images, labels = make_images(500, seed=5)
    places = np.array([REORDERED.index(name) for name in CLASSES])
    for name, classes, numbers, more in (
        ("small", CLASSES, labels, {}),
        ("reordered", REORDERED, places[labels], {}),
        ("few", CLASSES[:9], labels % 9, {}),
        ("other-part", CLASSES, labels, {"seed": 7}),
    ):
        forest, parameters = train(images, numbers, classes, trees=5, depth=4)
        trained_on = {"corpus": "tiny", "corpus_hash": open_corpus(store, "tiny").hash, "images": 240}
        card = {"engine": "scikit-learn", "parameters": parameters | more, "trained_on": trained_on}
        save_model(store, name, forest, card)
    return store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.01)


def test_models_are_measured_on_the_test_part_whatever_the_order_of_classes(store):
    result = run_json("compare", "small", "reordered", "--corpus", "cifar", "--store", store.url())
    images, labels = make_images(TRAIN + TEST, seed=1)
    small, reordered = result["rows"]
    assert result["images"] == TEST
    for row, places in ((small, CLASSES), (reordered, REORDERED)):
        tags = load_model(store, row["name"]).votes(images[TRAIN:]).argmax(axis=1)
        expected = np.mean(
            [places[tag] == CLASSES[label] for tag, label in zip(tags, labels[TRAIN:], strict=True)]
        )
        assert row["accuracy"] == pytest.approx(expected)


def test_images_that_a_model_was_trained_on_are_left_out_and_many_are_refused(store):
    images, labels = make_images(TRAIN + TEST, seed=1)
    for name, seen in (("few-seen", slice(TRAIN - 50, TRAIN + 2)), ("many-seen", slice(TRAIN, TRAIN + 50))):
        forest, parameters = train(images[seen], labels[seen], CLASSES, trees=2, depth=2)
        card = {"engine": "scikit-learn", "parameters": parameters}
        save_model(store, name, forest, card, hash_blocks([images[seen]]))
    result = run_json("compare", "small", "few-seen", "--corpus", "cifar", "--store", store.url())
    assert result["images"] == TEST - 2
    assert {row["images"] for row in result["rows"]} == {TEST - 2}
    with pytest.raises(TrainingDataError) as refused:
        compare_models(Settings(store=store.url(), master="processes[1]"), "cifar", ["many-seen"])
    assert (refused.value.trained, refused.value.images) == (50, TEST)


@pytest.mark.slow
def test_classifiers_are_kept_and_only_fitted_once(store):
    words = ("compare", "--corpus", "cifar", "--classics", "--only", "forest", "--only", "neighbours",
             "--images", 100, "--store", store.url())  # fmt: skip
    first = run_json(*words)
    assert [row["name"] for row in first["rows"]] == ["forest", "neighbours"]
    assert all(row["trained_images"] == 100 and row["images"] == TEST for row in first["rows"])
    written = times(Path(store.url(layout.comparisons("cifar"))))
    out, err = run(*words)
    assert "2 of 2 results kept from before" in err
    assert "forest" in out and "neighbours" in out
    assert times(Path(store.url(layout.comparisons("cifar")))) == written
    assert run_json(*words)["rows"] == first["rows"]


@pytest.mark.slow
def test_classifiers_learn_from_features(store):
    words = ("compare", "--corpus", "cifar", "--only", "forest", "--images", 60, "--store", store.url())
    result = run_json(*words, "--features", "harris", "--features", "flips")
    assert [(row["features"], row["trained_images"]) for row in result["rows"]] == [
        ("harris", 60),
        ("flips", 60),
    ]
    assert all(row["accuracy"] > 0.2 for row in result["rows"])


@pytest.mark.slow
def test_an_interrupted_grid_continues_and_ends_as_an_uninterrupted_one(store, tmp_path):
    words = ("compare", "--corpus", "cifar", "--grid", "--images", 200, "--trees", 30, "--depth", 3, "--depth", 9,
             "--leaf", 1, "--split", 2, "--folds", 2)  # fmt: skip
    make_corpus(
        other := open_store(str(tmp_path / "store")), "cifar", Path(open_corpus(store, "cifar").dump), 150
    )
    folder = Path(other.url(layout.comparisons("cifar")))
    process = start(*words, "--store", other.url())
    wait_until(lambda: times(folder), process)
    stop_group(process, signal.SIGINT)
    finish(process, 130)
    before = times(folder)
    assert not other.temporary(layout.comparisons("cifar"))
    result = run_json(*words, "--store", other.url())
    assert {name: time for name, time in times(folder).items() if name in before} == before
    expected = run_json(*words, "--store", store.url())
    volatile = ("fit_processor_seconds",)
    for row, same in zip(result["rows"], expected["rows"], strict=True):
        assert {key: row[key] for key in row if key not in volatile} == {
            key: same[key] for key in same if key not in volatile
        }
    assert {(row["depth"], row["trees"]) for row in result["rows"]} == {
        (depth, trees) for depth in (3, 9) for trees in (1, 2, 5, 10, 20, 30)
    }
    assert result["images"] == 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus", "unlabelled", "small"], "corpus 'unlabelled' has no labels to compare by"),
        (["--corpus", "cifar"], "there is nothing to compare"),
        (["--corpus", "cifar", "few"], "corpus 'cifar' has labels truck, model 'few' has only"),
        (["--corpus", "cifar", "--only", "perceptron"], "classifier 'perceptron' is unknown"),
        (["--corpus", "tiny", "other-part"], "model 'other-part' was trained with seed 7"),
        (["--corpus", "cifar", "--grid", "--images", "12", "--folds", "5"], "12 training images of corpus"),
        (["--corpus", "cifar", "--classics", "--features", "smell"], "features 'smell' are unknown"),
        (["--corpus", "cifar", "--grid", "--features", "flips"], "features 'flips' can't be searched"),
        (
            ["--corpus", "cifar", "--grid", "--features", "hog", "--features", "pca"],
            "a grid is of one kind of features",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(store, words, message):
    _, err = run("compare", *words, "--store", store.url(), code=1)
    assert error_line(err).startswith(f"tinytags: {message}")
