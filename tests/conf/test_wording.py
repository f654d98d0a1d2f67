"""Tests of `conf.wording`."""

import pytest

from conf.wording import counted, duration, listed


def test_counts_other_than_one_have_a_plural():
    assert [counted(n, "partition") for n in (0, 1, 2, 4_000)] == [
        "0 partitions",
        "1 partition",
        "2 partitions",
        "4,000 partitions",
    ]


def test_long_lists_are_cut_with_an_ellipsis():
    assert listed([12, 13, 14], 3) == "12, 13, 14"
    assert listed([12, 13, 14, 15], 3) == "12, 13, 14, ..."
    assert listed([], 3) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (0.5, "0.5 s"),
        (1, "1 s"),
        (119, "119 s"),
        (121, "2 min"),
        (3600, "60 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_durations_are_rounded_to_the_unit_that_people_use(seconds, words):
    assert duration(seconds) == words
