"""Tests of training on features, from the command to the tags: forests and linear models, few labels, corrections alone."""

import functools

import numpy as np
import pytest
from small_world import (
    CLASSES,
    MASTER,
    PROCESSES,
    error_line,
    make_corpus,
    make_images,
    make_labelled_and_unlabelled,
    run,
    run_json,
    write_cifar,
)

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import open_corpus
from jobs.corrected import Corrected
from jobs.engines import default_engine
from jobs.mllib import labelled_vectors
from jobs.train_forest import train_forest
from records.corrections import open_corrections
from storage.store import open_store
from tagging import models
from tagging.features import MissingExtraError, features_class
from tagging.models import load_model
from tagging.trained import hash_blocks, read_trained
from tagging.training import choose, fold_numbers, held_out_blocks, labelled_blocks, mirrored, some_of_each

TRAIN, TEST = 400, 100


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a corpus that has a test part, one of few labels without, and one without labels."""
    folder = tmp_path_factory.mktemp("features")
    store = open_store(str(folder / "store"))
    make_corpus(store, "cifar", write_cifar(folder / "cifar", TRAIN, TEST), 200)
    make_labelled_and_unlabelled(store, folder, "few", 150, 60)
    return store


def train(store, model: str, *words, corpus: str = "cifar") -> dict:
    """Run `tinytags train` and return the card it prints."""
    return run_json("train", "--corpus", corpus, "--model", model, *words, "--store", store.url())


@pytest.fixture(scope="module")
def pretrained(store):
    """The card of a linear model on pretrained features."""
    return train(store, "pretrained", "--features", "pretrained-32")


@pytest.mark.slow
def test_a_linear_model_of_pretrained_features_is_trained_measured_and_described(store, pretrained):
    corpus = open_corpus(store, "cifar")
    model = load_model(store, "pretrained")
    assert (pretrained["kind"], pretrained["engine"], pretrained["hash"]) == (
        "featured",
        "scikit-learn",
        model.hash,
    )
    assert "trees" not in pretrained
    assert (
        pretrained["parameters"].items() >= {"features": "pretrained-32", "head": "linear", "seed": 0}.items()
    )
    assert pretrained["features"] == {
        "name": "pretrained-32", "version": 1, "length": 1280, "hash": model.features.hash,
    }  # fmt: skip
    assert (pretrained["trained_on"]["images"], pretrained["measured_on"]["part"]) == (TRAIN, "test")
    images, labels = (np.concatenate(arrays) for arrays in zip(*held_out_blocks(store, corpus), strict=True))
    assert pretrained["quality"]["accuracy"] == pytest.approx(
        (model.votes(images).argmax(axis=1) == labels).mean()
    )
    assert pretrained["quality"]["accuracy"] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "kind", "head"),
    [
        (["--features", "hog", "--trees", 5, "--depth", 5], "featured", "forest"),
        (["--head", "linear"], "linear", None),
        (["--features", "pca-20", "--head", "linear"], "featured", "linear"),
    ],
)
def test_heads_and_features_combine(store, words, kind, head):
    name = "-".join(map(str, words)).strip("-")
    card = train(store, name, *words)
    assert (card["kind"], card["parameters"].get("head")) == (kind, head)
    assert card["quality"]["accuracy"] > 0.4
    if "pca-20" in words:
        assert 0.2 < card["features"]["variance_explained"] < 1
    assert load_model(store, name).hash == card["hash"]


def test_flips_are_trained_on_both_ways_and_counted_once(store):
    card = train(store, "flips", "--features", "flips", "--trees", 5, "--depth", 5)
    assert card["trained_on"]["images"] == TRAIN
    assert card["hash"] != train(store, "plain", "--features", "pixels", "--trees", 5, "--depth", 5)["hash"]
    image = np.arange(3072, dtype=np.int64).astype(np.uint8).reshape(1, -1)
    np.testing.assert_array_equal(mirrored(image)[0, :3], [31, 30, 29])


def test_mllib_trains_a_forest_on_features_in_its_tasks(store, spark):
    words = [
        "--features",
        "hog",
        "--engine",
        "mllib",
        "--trees",
        3,
        "--depth",
        3,
        "--bins",
        4,
        "--master",
        MASTER,
    ]
    card = train(store, "mllib", *words)
    assert (card["kind"], card["engine"], card["trained_on"]["images"]) == ("featured", "mllib", TRAIN)
    model = load_model(store, "mllib")
    assert (model.head.trees, model.head.features) == (3, model.features.length)
    assert card["quality"]["accuracy"] > 0.15
    corpus = open_corpus(store, "cifar")
    part = functools.partial(choose, corpus, 0, 0.2, train=True)
    corrected = Corrected(make_images(5)[0], np.zeros(5, np.int32))
    twice = labelled_vectors(
        spark, store, corpus, part, 2, corrected, features=features_class("flips")("flips")
    )
    assert twice.count() == 2 * (TRAIN + 5)


def test_processes_and_spark_tag_with_a_model_of_features_as_it_votes(store, pretrained, spark):
    lines = []
    for master in (PROCESSES, MASTER):
        words = ["--corpus", "few", "--model", "pretrained", "--min-confidence", "0.3", "--master", master]
        made = run_json("tag", *words, "--partition", "0-2", "--store", store.url())
        lines.append([store.read_bytes(f"runs/{made['run']}/tags/0000{p}.jsonl") for p in range(3)])
    assert lines[0] == lines[1]
    votes = load_model(store, "pretrained").votes(make_images(150)[0])
    assert made["tagged"] == (np.rint(votes.max(axis=1) * 10_000) >= 3000).sum() >= 20
    assert (
        made["right"]
        == (
            (votes.argmax(axis=1) == make_images(150)[1]) & (np.rint(votes.max(axis=1) * 10_000) >= 3000)
        ).sum()
    )
    assert (
        run_json("evaluate", "--corpus", "few", "--model", "pretrained", "--store", store.url())["images"]
        == 150
    )


@pytest.mark.slow
def test_few_labels_without_a_test_part_are_all_trained_on_and_measured_by_cross_validation(store):
    card = train(store, "crossed", "--features", "hog", "--head", "linear", corpus="few")
    assert card["trained_on"]["images"] == card["measured_on"]["images"] == card["quality"]["images"] == 150
    assert card["measured_on"]["part"] == "cross-validation in 5 parts"
    low, high = card["quality"]["interval"]
    assert low < card["quality"]["accuracy"] < high < low + 0.2
    assert "holdout" not in card["parameters"]
    # A forest on the pixels is still measured on images held out.
    plain = train(store, "held-out", "--engine", "scikit-learn", "--trees", 3, "--depth", 3, corpus="few")
    assert plain["measured_on"]["part"] == "held out, 20%"


@pytest.fixture
def database(store, tmp_path):
    """A database with five labels for each of three classes, and one for a fourth, all of the corpus without labels."""
    corpus = open_corpus(store, "unlabelled")
    labels = make_images(150)[1]
    corrections = open_corrections(f"sqlite:///{tmp_path}/tinytags.db")
    for label, count in ((8, 5), (2, 5), (6, 5), (4, 1)):
        for row in np.flatnonzero(labels == label)[:count].tolist():
            corrections.add(corpus, *divmod(row, 60), CLASSES[label], "Ada")
    return corrections


@pytest.mark.slow
def test_a_corpus_without_labels_is_learnt_from_corrections_alone(store, database):
    words = ["--features", "pretrained-32", "--corrections", "--database", database.url]
    card = train(store, "clicked", *words, corpus="unlabelled")
    assert card["classes"] == ["bird", "deer", "frog", "ship"]
    assert (card["trained_on"]["images"], card["trained_on"]["corrections"]) == (0, 16)
    assert (card["measured_on"]["images"], card["measured_on"]["cross_validation"]) == (16, 5)
    assert card["quality"]["accuracy"] > 0.4
    out, _ = run("train", "--corpus", "unlabelled", "--model", "text", *words, "--store", store.url())
    assert out.startswith("model text: 0 images and 16 corrections, fitted in ")
    assert "cross-validation in 5 parts: " in out
    labels = make_images(150)[1]
    votes = load_model(store, "clicked").votes(make_images(150)[0])
    chosen = np.isin(labels, [2, 6, 8])
    assert (np.array([2, 4, 6, 8])[votes.argmax(axis=1)] == labels)[chosen].mean() > 0.5


def test_labels_of_one_class_or_of_one_image_each_are_an_error(store, tmp_path):
    corpus = open_corpus(store, "unlabelled")
    corrections = open_corrections(f"sqlite:///{tmp_path}/tinytags.db")
    words = [
        "train", "--corpus", "unlabelled", "--model", "m", "--features", "hog", "--head", "linear", "--corrections",
        "--database", corrections.url, "--store", store.url(),
    ]  # fmt: skip
    _, err = run(*words, code=1)
    assert "has no correction to learn from" in error_line(err)
    corrections.add(corpus, 0, 0, "cat", "Ada")
    corrections.add(corpus, 0, 1, "cat", "Ada")
    _, err = run(*words, code=1)
    assert "all 2 labelled images are of one class ('cat')" in error_line(err)
    corrections.add(corpus, 0, 2, "dog", "Ada")
    _, err = run(*words, code=1)
    assert error_line(err).endswith("label two or more of each of two classes")
    assert not store.exists("models/m/model.json")


def test_so_many_images_of_each_class_are_drawn_by_the_seed(store):
    corpus = open_corpus(store, "cifar")
    part = functools.partial(choose, corpus, 0, 0.2, train=True)
    rows = [some_of_each(store, corpus, part, 3, seed) for seed in (0, 0, 1)]
    chosen = [np.concatenate([some(p) for p in range(corpus.partitions)]) for some in rows]
    assert np.array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])
    assert not chosen[0][TRAIN:].any()
    labels = np.concatenate(
        [block[1] for p in range(3) for block in labelled_blocks(store, corpus, p, rows[0])]
    )
    assert np.bincount(labels).tolist() == [3] * 10
    card = train(store, "some", "--features", "hog", "--head", "linear", "--per-class", 3)
    assert (card["trained_on"]["images"], card["measured_on"]["images"]) == (30, TEST)


def test_images_that_features_are_fitted_to_count_as_trained_on(store):
    card = train(store, "fitted", "--features", "pca-12", "--head", "linear", "--per-class", 3)
    assert card["trained_on"]["images"] == 30
    images = make_images(TRAIN + TEST, seed=1)[0][:TRAIN]
    assert np.array_equal(read_trained(store, card), hash_blocks([images]))


def test_folds_are_even_within_each_class():
    labels = np.repeat([0, 1, 2, 5], [10, 7, 5, 1]).astype(np.int32)
    fold = fold_numbers(labels, 5, seed=3)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert [np.bincount(fold[labels == label], minlength=5).max() for label in (0, 1, 2, 5)] == [2, 2, 1, 1]
    assert not np.array_equal(fold, fold_numbers(labels, 5, seed=4))


@pytest.mark.parametrize(
    ("head", "on_features", "engine"),
    [
        (None, False, "mllib"), ("forest", False, "mllib"), ("forest", True, "scikit-learn"), ("linear", False, "scikit-learn"),
        ("linear", True, "scikit-learn"), ("network", False, "keras"),
    ],
)  # fmt: skip
def test_a_head_has_an_engine_that_fits_it(head, on_features, engine):
    assert default_engine(head, on_features) == engine


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": "sift"}, "features 'sift' are unknown; known are pixels,"),
        ({"head": "linear", "engine": "mllib"}, "engine mllib fits no 'linear'; it fits forest"),
        ({"head": "linear", "trees": 3}, "--trees is not an option of engine scikit-learn for a linear"),
        ({"head": "network", "features": "hog"}, "a network of engine keras learns from the pixels"),
        ({"corpus": "unlabelled"}, "corpus 'unlabelled' has no labels to learn from"),
        ({"features": "pca-5"}, "a forest of 10 classes needs as many features or more, and 'pca-5' has 5;"),
    ],
)
def test_what_does_not_fit_together_is_refused(store, options, words):
    settings = Settings(store=store.url(), master=PROCESSES)
    with pytest.raises(TinyTagsError) as raised:
        train_forest(settings, **{"corpus": "cifar", "model": "m"} | options)
    assert str(raised.value).startswith(words)
    assert not store.exists("models/m/model.json")


@pytest.mark.slow
def test_a_worker_without_onnxruntime_fails_in_one_line(store, pretrained, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    models._load_once.cache_clear()  # an earlier test's model has onnxruntime already
    words = ["--corpus", "few", "--model", "pretrained", "--min-confidence", "0.9", "--store", store.url()]
    _, err = run("tag", *words, code=1)
    assert "pip install 'tinytags[features]'" in error_line(err)
    with pytest.raises(MissingExtraError):
        load_model(store, "pretrained").votes(make_images(1)[0])
