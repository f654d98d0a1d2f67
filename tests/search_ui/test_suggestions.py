"""Tests of what is suggested to label next, from the store alone."""

import numpy as np
import pytest
from small_world import make_corpus, make_images, write_tiny_images
from werkzeug.datastructures import MultiDict

from indexing.query.search_state import BadSearchError
from ingest.corpus import open_corpus
from ingest.partition import read_rows
from search_ui import suggestions
from search_ui.label_state import LabelState
from search_ui.suggestions import Unlabelled, farthest_first
from storage.store import open_store
from tagging.features.hog import Hog
from tagging.features.kept import Fit, keep_features, read_any_codes, write_codes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggestions")
    store = open_store(str(folder / "store"))
    make_corpus(store, "plain", write_tiny_images(folder / "plain.bin", 700), 300)
    return store


@pytest.fixture
def images(store):
    """All images of the corpus but the first 50, which are labelled."""
    return Unlabelled(open_corpus(store, "plain"), frozenset(range(50)))


def records(suggested):
    return [300 * item.partition + item.row for item in suggested.items]


def test_random_images_are_unlabelled_and_each_draw_is_another(images):
    first = suggestions.random_images(images, LabelState.parse(MultiDict()))
    second = suggestions.random_images(images, first.following)
    for suggested in first, second:
        assert len(set(records(suggested))) == 30 and min(records(suggested)) >= 50
    assert records(first) != records(second)
    nearly_all = Unlabelled(images.corpus, frozenset(range(3, 700)))
    assert sorted(records(suggestions.random_images(nearly_all, first.following))) == [0, 1, 2]


def test_images_in_order_come_each_once(images):
    state, seen = LabelState.parse(MultiDict({"per_page": "120"})), []
    while state:
        suggested = suggestions.images_in_order(images, state)
        seen += records(suggested)
        state = suggested.following
    assert seen == list(range(50, 700))


def test_images_kept_for_measuring_are_not_suggested(images):
    from dataclasses import replace

    corpus = replace(images.corpus, splits={"train": (0, 600), "test": (600, 700)})
    suggested = suggestions.images_in_order(
        Unlabelled(corpus, frozenset()), LabelState.parse(MultiDict({"start": "590"}))
    )
    assert records(suggested) == list(range(590, 600)) and suggested.following is None


def test_the_farthest_first_are_one_of_each_group_and_none_like_what_is_known():
    chance = np.random.default_rng(3)
    middles = chance.normal(size=(5, 8)) * 50
    vectors = np.concatenate([middle + chance.normal(size=(20, 8)) for middle in middles]).astype(np.float32)
    everything = np.ones(100, bool)
    assert sorted(place // 20 for place in farthest_first(vectors, everything, np.empty(0, int), 5)) == [
        0,
        1,
        2,
        3,
        4,
    ]
    known = np.array([3, 25])
    assert sorted(place // 20 for place in farthest_first(vectors, everything, known, 3)) == [2, 3, 4]
    free = np.arange(100) >= 98
    assert sorted(farthest_first(vectors, free, known, 5)) == [98, 99]
    assert farthest_first(vectors, ~everything, known, 5) == []


def test_diverse_images_are_of_more_classes_than_random_ones_by_descriptors_and_by_kept_features(
    store, images
):
    state = LabelState.parse(MultiDict())
    assert read_any_codes(store, images.corpus, 0) is None
    by_descriptor = suggestions.diverse_images(store, images, state)
    features = Hog("hog")
    keep_features(store, images.corpus, features, Fit(0, None))
    for partition in range(3):
        write_codes(store, images.corpus, features, partition)
    rows = np.array([5, 290])
    codes = read_any_codes(store, images.corpus, 0)
    assert (codes[rows] == features.codes(read_rows(store, images.corpus, 0, rows))).all()
    by_features = suggestions.diverse_images(store, images, state)
    for suggested in by_descriptor, by_features:
        assert len(set(records(suggested))) == 30 and min(records(suggested)) >= 50
        assert len({record // 300 for record in records(suggested)}) == 1, "of one partition"
    assert records(by_descriptor) != records(by_features)


def test_rows_are_read_as_they_were_written(store, images):
    rows = np.array([0, 3, 255, 256, 299])
    assert (read_rows(store, images.corpus, 1, rows) == make_images(700)[0][300 + rows]).all()


@pytest.mark.parametrize(
    "query",
    [
        {"show": "best"},
        {"start": "-1"},
        {"draw": "9999999999"},
        {"class": "a\nb\x00"},
        {"nothing": "1"},
        {"start": "٣"},
    ],
)
def test_what_is_no_state_is_refused(query):
    with pytest.raises(BadSearchError):
        LabelState.parse(MultiDict(query))


def test_a_state_is_its_url():
    query = "corpus=a&tag=cat&confidence=40-50&page=3&show=search&start=7&draw=2&class=b%20c&class=d"
    pairs = MultiDict(pair.replace("%20", " ").split("=") for pair in query.split("&"))
    state = LabelState.parse(pairs)
    assert LabelState.parse(MultiDict(state.parameters())) == state
    assert state.classes == ("b c", "d") and state.corpus == "a"
    assert state.first().url() == "/label?tag=cat&corpus=a&confidence=40-50&show=search&class=b%20c&class=d"
