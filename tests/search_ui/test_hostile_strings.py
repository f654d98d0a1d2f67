"""Tests without a server that no string becomes part of a query: all hostile strings, in every parameter of a search."""

from collections import Counter

import hostile
import pytest
from hostile import ODD, PLAIN, STRINGS, TAGS
from searchable import count_cells
from werkzeug.datastructures import MultiDict

from indexing.fields import FACETS
from indexing.query.cells import IN_SOLR
from indexing.query.counts import Counts
from indexing.query.published import Snapshot
from indexing.query.search import hits
from indexing.query.search_state import PARAMETERS, BadSearchError, SearchState, parse_form, parse_position

RUN, SECOND = "hostile", "hostile-names"
# Names of a corpus and a model that no check has seen.
CORPUS, MODEL = '"><img src=x onerror=fired()>', "{!func}sum(1,1)"
WRITTEN = {PLAIN, *STRINGS}


class Recorder:
    """Stands for Solr: records its requests, and answers without hits."""

    def __init__(self):
        self.requests = []

    def select(self, collection, params, timeout=None):
        self.requests.append({"of": collection, **params})
        return {"response": {"numFound": 0, "docs": []}}


@pytest.fixture(scope="module")
def snapshot():
    """What is published: two runs whose values are hostile strings."""
    stored = [PLAIN, *TAGS, *ODD]
    documents = hostile.documents(RUN, stored) + hostile.documents(RUN, stored, label="wrong")
    documents += hostile.documents(SECOND, [PLAIN, "frog"], CORPUS, MODEL)
    return Snapshot((RUN, SECOND), Counts.of(count_cells(documents)))


def shape(snapshot, parameters):
    """Return the requests of a search, with a mark where a value is one of the strings; None where it is refused."""
    try:
        state = SearchState.parse(MultiDict(parameters))
    except BadSearchError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return None
    recorder = Recorder()
    hits(recorder, snapshot.of(state), state, state.start, state.per_page)
    return [
        sorted(
            (name, ["§" if part in WRITTEN else part for part in str(value).split("\x1f")])
            for name, value in request.items()
        )
        for request in recorder.requests
    ]


def test_there_are_hundreds_of_strings():
    assert len(STRINGS) >= 500
    assert len(TAGS) >= 300
    assert len(ODD) > 30
    assert set(hostile.REPRESENTATIVES) <= set(STRINGS) and len(hostile.REPRESENTATIVES) > 90


@pytest.mark.parametrize(
    "more", [{}, {"answer": "right"}, {"answer": "wrong", "sort": "corpus"}, {"confidence": "50-70"}]
)
@pytest.mark.parametrize("name", IN_SOLR)
def test_a_stored_value_makes_the_request_of_a_plain_value(snapshot, name, more):
    more = {**more, "run": RUN}
    wanted = shape(snapshot, {name: PLAIN, **more})
    if (name, more.get("answer")) == ("label", "wrong"):
        assert wanted == [], "all tags with this label are right"
    else:
        assert len(wanted) == 1 and "§" in str(wanted)
    # Right and wrong of any tag is a clause for each tag.
    for word in TAGS if name == "tag" or "answer" not in more else TAGS[::20]:
        assert shape(snapshot, {name: word, **more}) == wanted, word


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_of_any_value_makes_a_known_request_or_none(snapshot, name):
    # For a stored value, an unknown one, none at all, and the only value that is also a name of a run.
    allowed = [shape(snapshot, {name: word}) for word in (PLAIN, "unicorn", "")]
    allowed += [shape(snapshot, {"run": SECOND}), []]
    refused = Counter()
    for word in STRINGS:
        requests = shape(snapshot, {name: word})
        refused[requests is None] += 1
        assert requests is None or requests in allowed, word
    assert refused[True] > 20
    assert (refused[False] > 300) == (name in FACETS)


def test_no_string_is_a_parameter():
    for word in STRINGS:
        with pytest.raises(BadSearchError, match="unknown parameter"):
            SearchState.parse(MultiDict({word: "1"}))


def test_no_string_is_a_position_or_an_end_of_the_range():
    for word in STRINGS:
        with pytest.raises(BadSearchError, match="position among the hits"):
            parse_position(word)
        if word.strip():  # as good as an empty box
            with pytest.raises(BadSearchError, match="a whole number of percent"):
                parse_form(MultiDict({"min": word}))
