"""Quality is what counting by hand gives."""

import json

import numpy as np
import pytest

from tagging.quality import describe, measure, quality, tally

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
        [4, 0, 1],  # nobody said
    ],
    np.uint16,
)
LABELS = np.array([0, 0, 0, 1, 1, 2, -1])


def test_a_small_example_is_measured_as_by_hand():
    found = measure(VOTES, LABELS, CLASSES, 5)
    assert (found["images"], found["accuracy"]) == (6, 0.5)
    assert found["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert found["classes"] == {
        "cat": {"images": 3, "tagged": 3, "precision": 0.666667, "recall": 0.666667},
        "dog": {"images": 2, "tagged": 3, "precision": 0.333333, "recall": 0.5},
        "frog": {"images": 1, "tagged": 0, "precision": None, "recall": 0.0},
    }
    rows = [
        (row["votes"], row["images"], row["right"], row["kept"], row["precision"])
        for row in found["thresholds"]
    ]
    assert rows == [
        (1, 6, 3, 1.0, 0.5),
        (2, 6, 3, 1.0, 0.5),
        (3, 5, 3, 0.833333, 0.6),
        (4, 3, 2, 0.5, 0.666667),
        (5, 2, 1, 0.333333, 0.5),
    ]
    assert [row["confidence"] for row in found["thresholds"]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert json.loads(json.dumps(found)) == found


def test_tallies_of_parts_add_up_to_the_whole():
    parts = tally(VOTES[:3], LABELS[:3], 5) + tally(VOTES[3:], LABELS[3:], 5)
    assert quality(parts, CLASSES) == measure(VOTES, LABELS, CLASSES, 5)


def test_no_labelled_images_give_no_shares():
    found = measure(VOTES[-1:], LABELS[-1:], CLASSES, 5)
    assert (found["images"], found["accuracy"]) == (0, None)
    assert all(row["precision"] is None for row in found["thresholds"])
    assert "-" in describe(found)


def test_the_table_reads_as_text():
    assert describe(measure(VOTES, LABELS, CLASSES, 5)).splitlines() == [
        "50.0 % of 6 images get the right tag",
        "confidence     kept    right",
        "   >=  20%  100.0 %   50.0 %",
        "   >=  40%  100.0 %   50.0 %",
        "   >=  60%   83.3 %   60.0 %",
        "   >=  80%   50.0 %   66.7 %",
        "   >= 100%   33.3 %   50.0 %",
    ]


@pytest.mark.parametrize(("trees", "shown"), [(1, 1), (7, 7), (10, 10), (11, 10), (37, 10), (500, 10)])
def test_the_table_of_any_forest_is_short_and_ends_with_all_trees(trees, shown):
    votes = np.random.default_rng(1).multinomial(trees, [0.5, 0.3, 0.2], 100).astype(np.uint16)
    text = describe(measure(votes, np.zeros(100, int), CLASSES, trees)).splitlines()
    assert len(text) == 2 + shown and text[-1].startswith("   >= 100%")
