"""Patterns of relations with and without an escape character, and the links to values that have a %."""

import pytest
from werkzeug.datastructures import MultiDict

from indexing.query.relations import split_pattern
from indexing.query.search_state import BadSearchError
from search_ui.annotations import RelationSearch


@pytest.mark.parametrize(
    ("pattern", "escape", "texts"),
    [
        ("%", None, ["", ""]),
        ("a%b", None, ["a", "b"]),
        ("50\\% off", None, ["50\\", " off"]),
        ("50\\% off", "\\", ["50% off"]),
        ("\\\\%", "\\", ["\\", ""]),
        ("a!_!!%!", "!", ["a_!", "!"]),
        ("", "!", [""]),
    ],
)
def test_a_pattern_is_the_texts_between_which_anything_may_stand(pattern, escape, texts):
    assert split_pattern(pattern, escape) == texts


def search(**args):
    return RelationSearch.parse(MultiDict(args))


@pytest.mark.parametrize("value", ["a%b", "%", "C:\\x", "!?", "plain", "50% \\off"])
@pytest.mark.parametrize(
    "given", [{}, {"class2": "\\%x"}, {"class2": "!!%x", "escape": "!"}, {"class1": "b", "sort": "class2"}]
)
def test_a_link_to_a_value_finds_it_alone_and_leaves_the_other_patterns_as_they_were(value, given):
    before = search(**given)
    parameters = {name: text for name, text in before.parameters(class1=value).items() if text}
    after = search(**parameters)
    assert after.is_value("class1", value) and after.sort == before.sort
    assert split_pattern(after.patterns["class1"], after.escape) == [value]
    others = [split_pattern(one.patterns.get("class2", "%"), one.escape) for one in (before, after)]
    assert others[0] == others[1]
    assert "class1" not in search(**{k: v for k, v in after.parameters(class1=None).items() if v}).patterns


@pytest.mark.parametrize("args", [{"escape": "%"}, {"escape": "ab"}, {"sort": "confidence"}])
def test_an_escape_or_an_order_that_there_is_not_is_refused(args):
    with pytest.raises(BadSearchError):
        search(**args)
