"""Tests of `tagging.quality`: the numbers are those of counting by hand."""

import json
import tracemalloc

import numpy as np
import pytest

from tagging.quality import MATRIX_CLASSES, describe, measure, quality
from tagging.tags import minimum_votes, winners
from tagging.tallies import tally, total

CLASSES = ["cat", "dog", "frog"]
# Five trees, three classes; label, votes, and so: tag, right?
VOTES = np.array(
    [
        [5, 0, 0],  # cat: cat, right
        [3, 2, 0],  # cat: cat, right
        [1, 3, 1],  # cat: dog, wrong
        [2, 2, 1],  # dog: cat (tie), wrong
        [0, 4, 1],  # dog: dog, right
        [0, 5, 0],  # frog: dog, wrong
        [4, 0, 1],  # no label
    ],
    np.uint16,
)
LABELS = np.array([0, 0, 0, 1, 1, 2, -1])


def test_a_small_example_is_measured_as_by_hand():
    result = measure(VOTES, LABELS, CLASSES, 5)
    assert (result["images"], result["accuracy"]) == (6, 0.5)
    assert result["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert result["classes"] == {
        "cat": {"images": 3, "tagged": 3, "precision": 0.666667, "recall": 0.666667},
        "dog": {"images": 2, "tagged": 3, "precision": 0.333333, "recall": 0.5},
        "frog": {"images": 1, "tagged": 0, "precision": None, "recall": 0.0},
    }
    rows = [
        (row["votes"], row["images"], row["right"], row["kept"], row["precision"])
        for row in result["thresholds"]
    ]
    assert rows == [
        (1, 6, 3, 1.0, 0.5),
        (2, 6, 3, 1.0, 0.5),
        (3, 5, 3, 0.833333, 0.6),
        (4, 3, 2, 0.5, 0.666667),
        (5, 2, 1, 0.333333, 0.5),
    ]
    assert [row["confidence"] for row in result["thresholds"]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert json.loads(json.dumps(result)) == result


def test_tallies_of_parts_add_up_to_the_whole():
    parts = [tally(VOTES[a:b], LABELS[a:b], 5) for a, b in ((0, 3), (3, 3), (3, 7))]
    assert quality(total(parts), CLASSES) == measure(VOTES, LABELS, CLASSES, 5)


def test_no_labelled_images_give_no_shares():
    result = measure(VOTES[-1:], LABELS[-1:], CLASSES, 5)
    assert (result["images"], result["accuracy"]) == (0, None)
    assert all(row["precision"] is None for row in result["thresholds"])
    assert "-" in describe(result)


def test_the_table_reads_as_text():
    assert describe(measure(VOTES, LABELS, CLASSES, 5)).splitlines() == [
        "50.0 % (18.8 to 81.2 %) of 6 images get the right tag",
        "confidence     kept    right",
        "   >=  20%  100.0 %   50.0 % (18.8 to 81.2 %)",
        "   >=  40%  100.0 %   50.0 % (18.8 to 81.2 %)",
        "   >=  60%   83.3 %   60.0 % (23.1 to 88.2 %)",
        "   >=  80%   50.0 %   66.7 % (20.8 to 93.9 %)",
        "   >= 100%   33.3 %   50.0 % (9.5 to 90.5 %)",
    ]


@pytest.mark.parametrize(("trees", "lines"), [(1, 1), (7, 7), (10, 10), (11, 10), (37, 10), (500, 10)])
def test_the_table_of_any_forest_is_short_and_ends_with_all_trees(trees, lines):
    votes = np.random.default_rng(1).multinomial(trees, [0.5, 0.3, 0.2], 100).astype(np.uint16)
    text = describe(measure(votes, np.zeros(100, int), CLASSES, trees)).splitlines()
    assert len(text) == 2 + lines and text[-1].startswith("   >= 100%")


def test_probabilities_have_a_threshold_for_each_percent():
    votes = np.array([[0.405, 0.595], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]], np.float32)
    result = measure(votes, np.array([1, 0, 0, 0, -1]), ["cat", "dog"], None)
    assert (result["images"], result["accuracy"]) == (4, 0.75)
    assert [row["confidence"] for row in result["thresholds"]] == [percent / 100 for percent in range(1, 101)]
    assert not any("votes" in row for row in result["thresholds"])
    rows = {round(100 * row["confidence"]): (row["images"], row["right"]) for row in result["thresholds"]}
    assert (rows[1], rows[59], rows[60], rows[61], rows[80], rows[81], rows[90], rows[91]) == (
        (4, 3), (4, 3), (3, 2), (2, 1), (2, 1), (1, 1), (1, 1), (0, 0)
    )  # fmt: skip
    assert describe(result).splitlines()[5:8] == [
        "   >=  40%  100.0 %   75.0 % (30.1 to 95.4 %)",
        "   >=  50%  100.0 %   75.0 % (30.1 to 95.4 %)",
        "   >=  60%   75.0 %   66.7 % (20.8 to 93.9 %)",
    ]
    assert json.loads(json.dumps(result)) == result


def test_a_percent_threshold_keeps_the_tags_that_tagging_keeps_at_that_confidence():
    random = np.random.default_rng(0)
    votes = random.dirichlet([0.7] * 4, 3_000).astype(np.float32)
    votes[::3] = np.round(votes[::3], 2)
    thresholds = measure(votes, np.zeros(len(votes), int), list("abcd"), None)["thresholds"]
    best = winners(votes).votes
    for row in thresholds:
        assert row["images"] == (best >= minimum_votes(row["confidence"], None)).sum()


@pytest.mark.slow
def test_ten_thousand_classes_are_measured_without_a_matrix_and_with_a_small_card():
    classes = [f"class {number}" for number in range(10_000)]
    random = np.random.default_rng(1)
    tracemalloc.start()
    parts = []
    for _ in range(4):
        votes = np.zeros((300, 10_000), np.uint16)
        labels, wrong = random.integers(0, 10_000, 300), random.random(300) < 0.3
        votes[np.arange(300), np.where(wrong, random.integers(0, 10_000, 300), labels)] = 7
        parts.append(tally(votes, labels, 10))
    extra = tally(np.eye(10_000, dtype=np.uint16)[[4, 4, 4]], np.array([9_999] * 3), 10)
    result = quality(total([*parts, extra]), classes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6, "blocks of votes, but no array of all pairs of classes"
    assert result["confusion"] is None and len(result["classes"]) == 10_000
    assert result["mistakes"][0] == {"label": "class 9999", "tag": "class 4", "images": 3}
    assert result["images"] == 1_203 and 0.6 < result["accuracy"] < 0.8
    assert len(json.dumps(result)) < 2e6


def test_the_matrix_ends_where_the_limit_states_and_the_mistakes_begin():
    for count in (MATRIX_CLASSES, MATRIX_CLASSES + 1):
        result = measure(np.eye(count, dtype=np.uint16), np.arange(count), map(str, range(count)), 1)
        assert (result["confusion"] is None) == ("mistakes" in result) == (count > MATRIX_CLASSES)
