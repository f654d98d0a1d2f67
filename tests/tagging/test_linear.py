"""Tests of `tagging.linear`: the same probabilities as scikit-learn's, on every batch, and what is refused."""

import dataclasses

import numpy as np
import pytest

from conf.errors import TinyTagsError
from storage.store import open_store
from tagging.linear import C, Linear, train

CLASSES = ["cat", "dog", "eel", "fox"]


def examples(count: int = 300, inputs: int = 40, classes: int = 4, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count).astype(np.int32)
    centres = np.random.default_rng(99).integers(60, 200, (4, inputs))
    codes = np.clip(centres[labels] + random.normal(0, 50, (count, inputs)), 0, 255).astype(np.uint8)
    codes[:, 3] = 17  # says nothing
    return codes, labels


@pytest.mark.parametrize("classes", [2, 4])
def test_votes_are_the_probabilities_of_scikit_learn_and_depend_on_no_other_image(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, labels = examples(classes=classes)
    model, parameters = train(codes, labels, CLASSES[:classes])
    regression = LogisticRegression(C=C, max_iter=500, tol=1e-3)
    theirs = make_pipeline(StandardScaler(), regression).fit(codes.astype(float), labels)
    unseen, _ = examples(200, classes=classes, seed=1)
    votes = model.votes(unseen)
    probabilities = theirs.predict_proba(unseen.astype(float)) ** (1 / parameters["temperature"])
    expected = probabilities / probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(votes, expected, atol=1e-3)
    assert votes.dtype == np.float32
    assert model.voters is None
    for count in (1, 7):
        np.testing.assert_array_equal(model.votes(unseen[50 : 50 + count]), votes[50 : 50 + count])


def test_probabilities_are_as_large_as_they_should_be_with_few_labels():
    codes, labels = examples(40, inputs=400)
    model, parameters = train(codes, labels, CLASSES)
    unseen, answers = examples(500, inputs=400, seed=1)
    votes = model.votes(unseen)
    right = (votes.argmax(axis=1) == answers).mean()
    assert parameters["temperature"] < 0.5, "regularization makes them small"
    assert abs(votes.max(axis=1).mean() - right) < 0.1


def test_a_class_without_examples_keeps_its_place_and_gets_no_votes():
    codes, labels = examples()
    kept = labels != 2
    votes = train(codes[kept], labels[kept], CLASSES)[0].votes(codes)
    assert votes.shape == (300, 4)
    assert votes[:, 2].max() == 0
    assert (votes.argmax(axis=1) == labels)[kept].mean() > 0.9


def test_one_class_alone_is_an_error_that_names_it():
    codes, labels = examples()
    with pytest.raises(TinyTagsError, match=r"of one class \('eel'\)"):
        train(codes[labels == 2], labels[labels == 2], CLASSES)


def test_it_comes_back_from_the_store_and_a_damaged_file_is_refused(tmp_path):
    store = open_store(str(tmp_path))
    codes, labels = examples()
    model, _ = train(codes, labels, CLASSES)
    ((name, data),) = model.files().items()
    store.write_bytes(f"m/{name}", data)
    same = Linear.load(store, "m")
    assert (same.hash, same.classes) == (model.hash, tuple(CLASSES))
    np.testing.assert_array_equal(same.votes(codes), model.votes(codes))
    for damaged in (
        data[:-300],
        b"",
        data.replace(b"tinytags-linear-1", b"tinytags-linear-9"),
        b"PK" + data[2:500],
    ):
        store.write_bytes(f"m/{name}", damaged)
        with pytest.raises(TinyTagsError, match="train or copy the model again"):
            Linear.load(store, "m")


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("cat", "cat", "eel", "fox")},
        {"classes": ("cat",)},
        {"bias": np.zeros(3, np.int64)},
        {"weights": np.full((40, 4), 2**50)},
    ],
)
def test_arrays_that_are_no_model_are_refused(changes):
    model, _ = train(*examples(), CLASSES)
    with pytest.raises(TinyTagsError):
        dataclasses.replace(model, **changes)


def test_inputs_of_another_form_are_refused():
    model, _ = train(*examples(), CLASSES)
    for inputs in (np.zeros((2, 41), np.uint8), np.zeros((2, 40)), np.zeros(40, np.uint8)):
        with pytest.raises(TinyTagsError):
            model.votes(inputs)
