"""Tests of `tagging.classics`: each classifier learns, chooses its parameters without test images, and gives probabilities."""

import numpy as np
import pytest
from small_world import CLASSES, make_images

from conf.errors import TinyTagsError
from tagging.classics import CLASSICS, Classic, choose_parameters, classic_named, classic_row, probabilities

# Columns enough for principal components.
COLUMNS = slice(0, 3072, 16)


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = make_images(count, seed)
    return np.ascontiguousarray(images[:, COLUMNS]), labels.astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICS)
def test_every_classifier_learns_what_can_be_learnt(name):
    row = classic_row(name, sample(240, 1), sample(200, 2), CLASSES, seed=0)
    assert row["accuracy"] > 0.3  # by chance it is 0.1
    assert row["interval"][0] < row["accuracy"] < row["interval"][1]
    assert row["trained_images"] == 240
    assert row["images_per_processor_second"] > 0 and row["bytes"] > 0
    assert row["parameters"].items() >= {"seed": 0}.items()
    assert (row["at_confidence"] is None) == (name == "linear-svm")


def test_the_parameters_are_those_with_the_best_validation_accuracy():
    class Constant:
        """Answers one class."""

        def __init__(self, answer):
            self.answer = answer

        def fit(self, codes, labels):
            self.rows = len(codes)

        def predict(self, codes):
            assert self.rows == 80 and len(codes) == 20
            return np.full(len(codes), self.answer)

    classic = Classic(
        "constant", "", ({"answer": 0}, {"answer": 1}), lambda parameters, *_: Constant(**parameters)
    )
    labels = np.r_[np.zeros(20, np.int32), np.ones(80, np.int32)]
    chosen, tried = choose_parameters(classic, np.zeros((100, 4), np.uint8), labels, 0)
    assert chosen == {"answer": 1}
    assert [row["answer"] for row in tried] == [0, 1]
    with pytest.raises(TinyTagsError):
        choose_parameters(classic, np.zeros((100, 4), np.uint8), np.zeros(100, np.int32), 0)


def test_classes_that_were_not_trained_on_get_no_probability():
    from sklearn.svm import LinearSVC

    codes, labels = sample(100, 3)
    two = labels < 2
    machine = LinearSVC(dual=False).fit(codes[two] / 255.0, labels[two])
    votes = probabilities(machine, codes / 255.0, 10)
    assert votes.shape == (100, 10) and not votes[:, 2:].any()
    np.testing.assert_allclose(votes.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(votes.argmax(axis=1), machine.predict(codes / 255.0))


def test_an_unknown_classifier_is_refused():
    with pytest.raises(TinyTagsError):
        classic_named("perceptron")
