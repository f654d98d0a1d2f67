"""Tests of `records.majority`."""

import pytest

from records.corrections import open_corrections
from records.majority import PeoplesLabel, majority, peoples_labels


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        ([], None),
        (["frog"], "frog"),
        (["frog", "cat"], None),
        (["frog", "cat", "frog"], "frog"),
        (["frog", "cat", "dog", "cat"], "cat"),
        (["frog", "cat", "dog", "cat", "frog"], None),
    ],
)
def test_the_most_frequent_label_counts_and_a_tie_is_open(labels, label):
    assert majority(labels) == label


def test_of_each_person_the_newest_label_counts(sqlite_url, here):
    corrections = open_corrections(sqlite_url)
    for label, by in (("frog", "Ada"), ("cat", "Bob"), ("frog", "Eve"), ("cat", "Ada")):
        corrections.add(here, 1, 2, label, by)
    corrections.add(here, 0, 0, "ship", "Ada")
    ship = PeoplesLabel("here", here.hash, 0, 0, "ship", 1)
    assert peoples_labels(corrections.newest()) == [ship, PeoplesLabel("here", here.hash, 1, 2, "cat", 3)]
    corrections.undo_many(corrections.of_image(here, 1, 2)[:1])
    assert [one.label for one in peoples_labels(corrections.newest())] == ["ship", "frog"]
    corrections.undo_all("Eve")
    assert [one.label for one in peoples_labels(corrections.newest())] == ["ship", None]
