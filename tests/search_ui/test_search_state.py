"""Tests of `indexing.query.search_state`: the URL is the search."""

import itertools
from urllib.parse import parse_qsl, urlsplit

import pytest
from werkzeug.datastructures import MultiDict

from indexing.query.search_state import After, BadSearchError, SearchState, parse_form, parse_position


def parse(query: str) -> SearchState:
    return SearchState.parse(MultiDict(parse_qsl(query, keep_blank_values=True)))


def test_every_search_comes_back_from_its_url():
    states = [
        SearchState({"tag": tags}, confidence, answer, sort, per_page, page, after)
        for tags, confidence, answer, sort, per_page, (page, after) in itertools.product(
            [(), ("frog",), ("<b>", "a&b=c", "cat, tabby", "é ü")],
            [None, (0, 0), (60, 100)],
            [None, "wrong"],
            ["confidence", "confidence-low", "corpus"],
            [30, 120],
            [
                (1, None),
                (7, None),
                (2000, After(0.33333334, "0123abcd:12:4711")),
                (5, After(1.0, "0123abcd:0:0")),
            ],
        )
    ]
    states += [
        SearchState(
            {"runner_up": words, "label": words, "corpus": words, "model": words[:1], "run": words},
            sort=sort,
            seed=seed,
            size=size,
        )
        for words, (sort, seed), size in itertools.product(
            [(), ("a b", "é&x=1")], [("random", 0), ("random", 42), ("corpus", 0)], "sml"
        )
        if words or size != "m" or sort == "random"
    ]
    for state in states:
        url = urlsplit(state.url())
        assert parse(url.query) == state, state.url()
    assert len({state.url() for state in states}) == len(states)


def test_the_plain_search_has_a_plain_url():
    assert SearchState().url() == "/"
    assert parse("") == parse("tag=&confidence=&page=&sort=&per_page=") == SearchState()


def test_one_search_has_one_url_whatever_the_order_of_its_parameters():
    parameters_given = ["tag=ship", "tag=frog", "tag=ship", "confidence=60-100", "page=2"]
    for parameters in itertools.permutations(parameters_given):
        assert parse("&".join(parameters)).url() == "/?tag=frog&tag=ship&confidence=60-100&page=2"


def test_a_change_of_the_search_goes_back_to_its_first_page():
    state = parse("tag=frog&confidence=60-100&page=3&after=0.6,0123abcd:1:2")
    changes = [
        state.toggle("tag", "ship"), state.toggle("tag", "frog"), state.with_values("tag", ["cat"]), state.with_confidence(40, 50),
        state.toggle("runner_up", "cat"), state.toggle("run", "x"), state.with_values("corpus", []), state.with_sort("random", 7),
        state.without_confidence(), state.with_answer("right"), state.with_sort("corpus"), state.with_per_page(60),
        state.without_filters(),
    ]  # fmt: skip
    assert {(changed.page, changed.after) for changed in changes} == {(1, None)}
    assert state.toggle("tag", "ship").values("tag") == ("frog", "ship")
    assert state.toggle("tag", "frog").values("tag") == ()
    assert state.toggle("model", "m").values("model") == ("m",)
    assert state.with_size("l").url() == "/?tag=frog&confidence=60-100&size=l&page=3&after=0.6,0123abcd:1:2"
    assert state.with_page(4).url() == "/?tag=frog&confidence=60-100&page=4"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("confidence=nan-inf", "confidence is 'nan-inf'"),
        ("confidence=100-40", "confidence is '100-40'"),
        ("confidence=0-101", "confidence is '0-101'"),
        ("confidence=0.5-1", "confidence is '0.5-1'"),
        ("confidence=60", "a range of whole percents like 60-100"),
        ("confidence=٦٠-100", "confidence is"),
        ("confidence=-1-50", "confidence is '-1-50'"),
        ("page=0", "page is '0'"),
        ("page=-1", "page is '-1'"),
        ("page=1e9", "page is '1e9'"),
        ("page=" + "9" * 5000, "page is '999"),
        ("page=1001", "numbered pages end at 1,000"),
        ("page=251&per_page=120", "numbered pages end at 250"),
        ("per_page=31", "it can be 30, 60 or 120"),
        ("sort=id desc", "it can be confidence, confidence-low, corpus or random"),
        ("answer=maybe", "it can be right or wrong"),
        ("after=2,0123abcd:1:2", "after is"),
        ("after=0.5,*", "it has to come from a link"),
        ("tag=a%0Ab", "printable characters"),
        ("tag=a%1Fb", "printable characters"),
        ("tag=" + "x" * 221, "up to 220 printable characters"),
        ("&".join(f"tag={n}" for n in range(201)), "tag is given 201 times; the limit is 200"),
        ("runner_up=a%0Ab", "runner_up is 'a\\nb'"),
        ("sort=random&seed=-1", "seed is '-1'"),
        ("sort=random&seed=1000000000", "0 to 999,999,999"),
        ("seed=5", "only sort=random has one"),
        ("sort=random&after=0.5,0123abcd:1:2", "sort=random, which has numbered pages only"),
        ("size=xl", "it can be s, m or l"),
        ("page=1&page=2", "page is given 2 times"),
        ("fq=*:*", "unknown parameter 'fq'"),
        ("shards=evil", "unknown parameter 'shards'"),
    ],
)
def test_an_invalid_search_is_described_in_one_line(query, words):
    with pytest.raises(BadSearchError) as error:
        parse(query)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_the_form_of_the_range_takes_what_people_type():
    def form(query):
        return parse_form(MultiDict(parse_qsl(query, keep_blank_values=True))).url()

    assert form("min=60&max=90&tag=frog") == "/?tag=frog&confidence=60-90"
    assert form("min=90&max=60") == "/?confidence=60-90"
    assert form("min=&max=90") == "/?confidence=0-90"
    assert form("min= 70 &confidence=1-2") == "/?confidence=70-100"
    for wrong in ("min=101", "max=nan", "min=-1", "min=²", "min=" + 5_000 * "0"):
        with pytest.raises(BadSearchError, match="a confidence is a whole number of percent"):
            form(wrong)


def test_a_place_among_the_hits_is_a_small_number():
    assert (parse_position(None), parse_position("0"), parse_position("29999")) == (None, 0, 29_999)
    for wrong in ("-1", "30000", "1e3", "", "00"):
        with pytest.raises(BadSearchError, match="a position among the hits is 0 to 29,999"):
            parse_position(wrong)
