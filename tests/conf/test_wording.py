"""How counts, lists and durations are worded."""

import pytest

from conf.wording import counted, duration, listed


def test_what_is_counted_has_its_plural_where_it_is_not_one():
    assert [counted(n, "partition") for n in (0, 1, 2, 4_000)] == [
        "0 partitions",
        "1 partition",
        "2 partitions",
        "4,000 partitions",
    ]


def test_long_lists_are_cut_and_say_so():
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
def test_durations_are_told_as_people_tell_them(seconds, words):
    assert duration(seconds) == words
