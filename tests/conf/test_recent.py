"""Tests of `conf.recent`: values are made once, and those that were used longest ago go first."""

from conf.recent import Recent


def test_a_value_is_made_again_only_after_others_were_used():
    recent, made = Recent(2), []

    def get(key):
        return recent.get(key, lambda: made.append(key) or len(made))

    assert [get(key) for key in "abaca"] == [1, 2, 1, 3, 1]
    assert made == ["a", "b", "c"]
    assert get("b") == 4, "the one that was used longest ago was gone"
    assert get("a") == 1 and get("c") == 5
