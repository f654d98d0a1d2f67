"""Tests of `tagging.quality` and `tagging.calibration` against scikit-learn's own metrics."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from tagging.calibration import ENOUGH_IMAGES, expected_precision, isotonic
from tagging.quality import measure, quality, wilson
from tagging.tags import BadVotesError, winners
from tagging.tallies import tally, total

CLASSES = list("abcde")


def made(voters: int | None, images: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    """Return votes (n, 5) and labels of a model that is often right and too sure of itself; no probability is exactly 5 %."""
    random = np.random.default_rng(5)
    labels = random.integers(0, 5, images)
    shares = random.dirichlet(np.full(5, 0.3), images)
    swap = random.random(images) < 0.5
    best = shares.argmax(axis=1)
    rows = np.flatnonzero(swap)
    shares[rows, best[rows]], shares[rows, labels[rows]] = (
        shares[rows, labels[rows]],
        shares[rows, best[rows]],
    )
    if voters is None:
        return (shares * 0.99991 + 0.000017).astype(np.float32), labels
    return np.array([random.multinomial(voters, row / row.sum()) for row in shares], np.uint16), labels


@pytest.mark.parametrize("voters", [None, 10, 300])
def test_accuracy_precision_recall_confusion_and_top_2_are_those_of_scikit_learn(voters):
    votes, labels = made(voters)
    if voters:  # scikit-learn breaks ties in another way
        ordered = np.sort(votes, axis=1)
        clear = (ordered[:, -1] > ordered[:, -2]) & (ordered[:, -2] > ordered[:, -3])
        votes, labels = votes[clear], labels[clear]
    result = measure(votes, labels, CLASSES, voters)
    tags = votes.argmax(axis=1)
    assert result["confusion"] == confusion_matrix(labels, tags).tolist()
    precision, recall, _, images = precision_recall_fscore_support(labels, tags)
    for place, name in enumerate(CLASSES):
        row = result["classes"][name]
        assert row["images"] == images[place]
        assert row["precision"] == pytest.approx(precision[place], abs=1e-6)
        assert row["recall"] == pytest.approx(recall[place], abs=1e-6)
    assert result["accuracy"] == pytest.approx((tags == labels).mean(), abs=1e-6)
    scores = votes / votes.sum(axis=1, keepdims=True)
    assert result["top_2"] == pytest.approx(top_k_accuracy_score(labels, scores, k=2), abs=1e-6)
    low, high = wilson(int((tags == labels).sum()), len(labels))
    assert result["interval"] == pytest.approx([low, high], abs=1e-6)
    for row in result["thresholds"]:
        if row["images"]:
            low, high = row["precision_interval"]
            assert low <= row["precision"] <= high and (low, high) == pytest.approx(
                wilson(row["right"], row["images"]), abs=1e-6
            )


@pytest.mark.parametrize(("voters", "bins"), [(None, 20), (10, 10), (300, 20)])
def test_the_calibration_error_follows_from_scikit_learns_calibration_curve(voters, bins):
    votes, labels = made(voters)
    confidence = np.round(votes.max(axis=1) / (voters or 1), 4).astype(float)
    right = votes.argmax(axis=1) == labels
    # scikit-learn's bins include their upper ends; ours their lower ones.
    nudged = np.minimum(confidence + 1e-9, 1)
    share, mean = calibration_curve(right, nudged, n_bins=bins)
    counts = np.histogram(nudged, np.linspace(0, 1, bins + 1))[0]
    error = (np.abs(share - mean) * counts[counts > 0]).sum() / len(labels)
    assert measure(votes, labels, CLASSES, voters)["calibration"]["error"] == pytest.approx(error, abs=2e-6)
    assert error > 0.02


@pytest.mark.parametrize("voters", [None, 10])
def test_expected_precision_is_scikit_learns_isotonic_regression(voters):
    votes, labels = made(voters)
    best, tags = votes.max(axis=1), votes.argmax(axis=1)
    result = measure(votes, labels, CLASSES, voters)["calibration"]
    level = best if voters else np.floor(np.rint(best * 10_000) / 100)
    for tag, table in {None: result["all"], **result["classes"]}.items():
        chosen = np.ones(len(tags), bool) if tag is None else tags == CLASSES.index(tag)
        levels, right = level[chosen], (tags == labels)[chosen]
        assert table["level"] == np.unique(levels).tolist()
        assert table["images"] == np.unique(levels, return_counts=True)[1].tolist()
        wanted = IsotonicRegression(y_min=0, y_max=1).fit(levels, right).predict(table["level"])
        assert table["expected"] == pytest.approx(wanted.tolist(), abs=1e-5)
        for place, row in enumerate(table["level"]):
            assert expected_precision(result, row / result["top"], tag) == table["expected"][place]
    assert json.loads(json.dumps(result)) == result


def test_the_interval_is_wilsons():
    # Worked out with statsmodels' proportion_confint(..., method="wilson").
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-4)
    assert wilson(450, 1000) == pytest.approx((0.41940, 0.48098), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def test_pools_are_those_of_a_small_example_by_hand():
    images, right = np.array([4, 2, 2, 10]), np.array([1, 2, 0, 9])
    assert isotonic(images, right) == pytest.approx([0.25, 0.5, 0.5, 0.9])
    assert isotonic(np.array([1, 1, 1]), np.array([1, 1, 0])) == pytest.approx([2 / 3] * 3)
    assert isotonic(images[:0], right[:0]).tolist() == []


def test_a_class_with_few_tags_gets_the_calibration_of_all():
    votes, labels = made(10)
    few = np.flatnonzero(votes.argmax(axis=1) == 4)[ENOUGH_IMAGES - 1 :]
    votes, labels = np.delete(votes, few, axis=0), np.delete(labels, few)
    result = measure(votes, labels, CLASSES, 10)["calibration"]
    assert expected_precision(result, 0.7, "e") == expected_precision(result, 0.7)
    assert expected_precision(result, 0.7, "a") != expected_precision(result, 0.7)
    assert expected_precision(result, 0.7, "no such class") == expected_precision(result, 0.7)
    empty = measure(votes[:0], labels[:0], CLASSES, 10)["calibration"]
    assert (empty["error"], expected_precision(empty, 0.7)) == (None, None)


def test_thousands_of_classes_have_small_tables_for_those_with_enough_images():
    random = np.random.default_rng(1)
    parts = []
    for tag in (3, 9_998):
        votes = np.zeros((80 if tag == 3 else 20, 10_000), np.float32)
        votes[np.arange(len(votes)), tag] = random.uniform(0, 1, len(votes))
        parts.append(tally(votes, np.full(len(votes), 3), None))
    result = quality(total(parts), [f"class {n}" for n in range(10_000)])["calibration"]
    assert list(result["classes"]) == ["class 3"]
    table = result["classes"]["class 3"]
    assert table["level"] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90] and sum(table["images"]) == 80


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 1.01])
def test_a_probability_that_is_no_number_from_0_to_1_is_an_error(value):
    votes = np.full((5, 3), 0.3, np.float32)
    votes[2] = value if value < 0 else [0.1, value, 0.2]
    with pytest.raises(BadVotesError) as caught:
        winners(votes)
    assert caught.value.value == pytest.approx(value, nan_ok=True)
    with pytest.raises(BadVotesError):
        measure(votes, np.zeros(5, int), list("abc"), None)


def test_probabilities_a_little_above_1_are_1():
    best = winners(np.array([[1.00005, 0.0]], np.float32))
    assert best.votes.tolist() == [10_000]
