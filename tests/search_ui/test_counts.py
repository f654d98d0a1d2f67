"""Tests of `indexing.query.counts` that need no server: sums over cells against sums over documents."""

import functools
import itertools

import numpy as np
import pytest
from searchable import CLASSES, count_cells, make_cells, matches, shares

from conf.wording import percent
from indexing.query.cells import COUNTED, PER_RUN, IndexedRun
from indexing.query.counts import Counts
from indexing.query.search_state import SearchState


def cell(votes, trees, documents, tag="frog"):
    """Return a cell of one tag, without any other values, in a collection of its own."""
    values = (tag if name == "tag" else None for name in COUNTED)
    return make_cells([(*values, votes)], [documents], trees, IndexedRun(("",) * len(PER_RUN)))


def test_percents_are_rounded_halves_up_in_whole_numbers():
    assert [percent(votes, 3) for votes in range(4)] == [0, 33, 67, 100]
    assert percent(1, 200) == 1
    assert [percent(votes, 10) for votes in range(11)] == list(range(0, 101, 10))


@pytest.mark.slow
def test_sums_of_cells_are_sums_of_documents_for_every_search(library):
    first, second, network = library.first, library.second, library.network

    @functools.cache
    def taken(run, name, value):
        """Say of each of a run's documents whether one filter takes it."""
        return np.array([matches(d, **{name: value}) for d in library.documents[run]], bool)

    searches = list(
        itertools.product(
            [(), ("frog",), ("cat, tabby", "ship"), ("unicorn",), ("frog", "unicorn")],
            [None, (50, 70), (57, 57), (1, 2)],
            [None, "right", "wrong"],
            [((), ()), (("ship",), ()), (("frog", "unicorn"), ("ship",)), ((), ("cat, tabby", "ship")), ((), ("unicorn",))],
            [(), ("seven",), ("ten", "seven"), ("eleven",)],
        )
    )  # fmt: skip
    for number, runs in enumerate(([first], [second], [network], [first, second], [first, network])):
        documents = [document for run in runs for document in library.documents[run.name]]
        counts = Counts.of(count_cells(documents))
        # Every 11th of 1,200: that has no common factor with the numbers of values, so every pair of values occurs.
        for tags, confidence, answer, (runners_up, labels), models in searches[number::11]:
            state = SearchState(
                {"tag": tags, "runner_up": runners_up, "label": labels, "model": models}, confidence, answer
            )
            filters = {
                "tags": tags,
                "confidence": confidence or (0, 100),
                "answer": answer,
                "runners_up": runners_up,
                "models": models,
                "labels": labels,
            }

            def hits(runs=runs, filters=filters, **others):
                wanted = {**filters, **others}.items()
                return sum(
                    np.logical_and.reduce([taken(run.name, *filter) for filter in wanted]).sum()
                    for run in runs
                )

            assert counts.total(state) == counts.of_sources(state).total(state) == hits()
            assert counts.by_value(state, "tag") == {tag: hits(tags=(tag,)) for tag in sorted(CLASSES)}
            assert counts.by_value(state, "runner_up") == {
                name: hits(runners_up=(name,)) for name in counts.values("runner_up")
            }
            assert counts.by_value(state, "label") == {name: hits(labels=(name,)) for name in sorted(CLASSES)}
            assert counts.by_value(state, "model") == {run.model: hits(models=(run.model,)) for run in runs}
            assert counts.by_value(state, "run") == {run.name: hits([run]) for run in runs}
            by_percent = counts.by_percent(state)
            assert sum(by_percent.values()) == hits(confidence=(0, 100))
            for bar, n in by_percent.items():
                assert n == hits(confidence=(bar, bar))
            assert counts.by_answer(state) == {which: hits(answer=which) for which in ("right", "wrong")}
            # Of a network a level is a percent, of forests a number of votes.
            exact = network not in runs
            assert [level.percent for level in counts.levels_of(state)] == [
                share
                for _, share in sorted(
                    {
                        (d["confidence"] if exact else 0, shares(d))
                        for d in documents
                        if matches(d, *filters.values())
                    }
                )
            ]


def test_a_histogram_has_a_bar_for_every_vote_from_the_lowest_that_there_is():
    counts = Counts.of([cell(4, 10, 5), cell(9, 10, 1)])
    assert counts.by_percent(SearchState()) == {40: 5, 50: 0, 60: 0, 70: 0, 80: 0, 90: 1, 100: 0}
    thirds = Counts.of([cell(2, 3, 5)])
    assert thirds.by_percent(SearchState()) == {67: 5, 100: 0}


def test_a_histogram_of_a_large_forest_has_at_most_a_bar_for_every_percent():
    random = np.random.default_rng(0)
    cells = [cell(votes, 500, int(random.integers(1, 9))) for votes in range(200, 501)]
    bars = Counts.of(cells).by_percent(SearchState())
    assert list(bars) == list(range(40, 101))
    assert sum(bars.values()) == sum(int(cell.documents.sum()) for cell in cells)


def test_a_networks_histogram_has_a_bar_for_every_percent_from_the_lowest_that_there_is():
    counts = Counts.of([cell(97, None, 5), cell(99, None, 1)])
    assert counts.by_percent(SearchState()) == {97: 5, 98: 0, 99: 1, 100: 0}
    beside = Counts.of([cell(97, None, 5), cell(97, 100, 2)])
    assert beside.by_percent(SearchState()) == {97: 7, 98: 0, 99: 0, 100: 0}
    assert beside.trees is None


def test_nothing_has_no_tags_and_no_hits():
    counts = Counts.of([])
    assert (counts.total(SearchState()), counts.by_value(SearchState(), "tag"), counts.percents) == (
        0,
        {},
        [],
    )
    assert counts.by_answer(SearchState()) == {"right": 0, "wrong": 0}
    assert counts.levels_of(SearchState({"tag": ("frog",)}, (40, 100), "right")) == []
