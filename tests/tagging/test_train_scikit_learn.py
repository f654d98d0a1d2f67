"""Tests of `tagging.forest.scikit_learn`: a forest votes as scikit-learn's own trees do."""

import numpy as np
import pytest
from forests import NAMES

from conf.errors import TinyTagsError
from tagging.forest.scikit_learn import train


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(3)


def pictures(random, n):
    """Return n noisy images and their labels: each class has its own brighter band of rows."""
    labels = random.integers(0, 10, n)
    images = random.integers(0, 200, (n, 3, 32, 32))
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 4] += 55
    return images.reshape(n, 3072).astype(np.uint8), labels


@pytest.fixture(scope="module")
def training(random):
    return pictures(random, 2_000)


def test_every_vote_is_that_of_scikit_learns_own_tree(random, training, monkeypatch):
    import sklearn.ensemble

    fitted = []

    class Kept(sklearn.ensemble.RandomForestClassifier):
        def fit(self, images, labels):
            fitted.append(self)
            return super().fit(images, labels)

    monkeypatch.setattr(sklearn.ensemble, "RandomForestClassifier", Kept)
    forest, parameters = train(*training, NAMES, trees=11, depth=10, seed=5)
    assert (parameters["trees"], parameters["depth"], parameters["seed"]) == (11, 10, 5)

    images = np.concatenate(
        [pictures(random, 1_000)[0], random.integers(0, 256, (1_000, 3072), dtype=np.uint8)]
    )
    expected = np.zeros((len(images), 10), int)
    for tree in fitted[0].estimators_:
        expected[np.arange(len(images)), tree.predict(images).astype(int)] += 1
    np.testing.assert_array_equal(forest.votes(images), expected)
    assert len(np.unique(expected, axis=0)) > 500, "the images take many different paths"


def test_a_seed_gives_the_same_forest_on_any_number_of_cores(training):
    one, two = (train(*training, NAMES, trees=3, depth=4, seed=8, jobs=jobs)[0] for jobs in (1, 2))
    other = train(*training, NAMES, trees=3, depth=4, seed=9)[0]
    assert one.hash == two.hash != other.hash


def test_the_forest_learns_and_images_without_a_label_are_left_out(random, training):
    images, labels = training
    hidden = np.where(np.arange(len(labels)) % 4 == 0, -1, labels)
    forest, _ = train(images, hidden, NAMES, depth=6)
    known = hidden >= 0
    assert forest.hash == train(images[known], labels[known], NAMES, depth=6)[0].hash
    fresh, truth = pictures(random, 500)
    assert (forest.votes(fresh).argmax(axis=1) == truth).mean() > 0.5


def test_a_class_without_examples_keeps_its_place(training):
    images, labels = training
    few = np.isin(labels, [2, 7])
    forest, _ = train(images[few], labels[few], NAMES, trees=5, depth=3)
    assert set(np.flatnonzero(forest.votes(images).sum(axis=0))) == {2, 7}


def test_training_without_labels_is_refused(training):
    with pytest.raises(TinyTagsError, match="none of the images has a label"):
        train(training[0][:10], np.full(10, -1), NAMES)
