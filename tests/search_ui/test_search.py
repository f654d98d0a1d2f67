"""Tests of searches against a real Solr: hits, counts and orders, compared with the documents themselves."""

import itertools
import json
import random
import threading

import pytest
from searchable import ALIAS, CLASSES, ORDERS, matches, shares
from small_world import wait_until

from indexing.query import search as search_module
from indexing.query import search_state
from indexing.query.cells import query_cells
from indexing.query.published import PublishedIndex
from indexing.query.search import cursor_mark, search
from indexing.query.search_state import After, SearchState
from indexing.solr import Solr
from indexing.solr_errors import NotNowError, SolrError


@pytest.fixture
def published(searchable):
    """What the alias points to at the first search."""
    return PublishedIndex(Solr(searchable.solr.url, patience=0), ALIAS, check_seconds=3600)


def ids(result):
    return [hit["id"] for hit in result.hits]


SEARCHES = list(
    itertools.product(
        [(), ("frog",), ("<b>deer</b>", "cat, tabby"), ("frog", "unicorn"), ("unicorn",)],
        [None, (60, 100), (43, 71), (57, 57), (100, 100)],
        [None, "right", "wrong"],
        ["confidence", "confidence-low", "corpus"],
        [((), (), ())],
    )
) + list(
    itertools.product(
        [(), ("frog", "ship")],
        [None, (60, 100)],
        [None, "wrong"],
        ["confidence", "confidence-low", "corpus"],
        itertools.product(
            [(), ("ship", "unicorn"), ("unicorn",)], [(), ("seven",), ("seven", "ten"), ("x",)], [()]
        ),
    )
) + list(
    itertools.product(
        [(), ("frog",), ("unicorn",)],
        [None, (43, 71)],
        [None, "right", "wrong"],
        ["confidence", "corpus"],
        [((), (), ("frog",)), (("ship",), ("seven", "ten"), ("<b>deer</b>", "cat, tabby")), ((), (), ("unicorn",))],
    )
)  # fmt: skip
random.Random(0).shuffle(SEARCHES)


@pytest.mark.services
@pytest.mark.parametrize(
    ("half", "runs"),
    [
        (0, ["first"]),
        (1, ["second"]),
        (0, ["network"]),
        (1, ["first", "second"]),
        (0, ["second", "network"]),
    ],
)
def test_every_search_finds_counts_and_orders_as_the_documents_do(searchable, published, show, half, runs):
    """Each search on one run, and on one beside another."""
    runs = [getattr(searchable, name) for name in runs]
    show(*runs)
    documents = [document for run in runs for document in searchable.documents[run.name]]
    for tags, confidence, answer, sort, (runners_up, models, labels) in SEARCHES[half::2]:
        filters = {"tag": tags, "runner_up": runners_up, "model": models, "label": labels}
        state = SearchState(filters, confidence, answer, sort)
        wanted = tags, confidence or (0, 100), answer, runners_up, models, labels
        hits = [d for d in documents if matches(d, *wanted)]
        hits.sort(key=ORDERS[sort])
        result = search(published.solr, published, state)
        assert result.total == len(hits), state
        assert ids(result) == [d["id"] for d in hits[:30]], state
        last = state.with_page(max(1, -(-len(hits) // 30)))
        assert ids(search(published.solr, published, last)) == [d["id"] for d in hits][last.start :], state
        assert ids(search(published.solr, published, last.with_page(last.page + 1))) == []


@pytest.mark.services
def test_a_hit_is_the_document_that_was_indexed(searchable, published):
    documents = {document["id"]: document for document in searchable.documents[searchable.first.name]}
    result = search(published.solr, published, SearchState(per_page=120))
    assert len(result.hits) == 120
    for hit in search_module.documents(result.hits):
        assert hit == documents[hit["id"]]


@pytest.mark.services
@pytest.mark.parametrize("sort", [sort for sort in search_state.SORTS if sort != "random"])
@pytest.mark.parametrize(
    "runs", [["first"], ["network"], ["first", "second"], ["first", "network"]], ids=" beside ".join
)
def test_pages_that_go_on_from_a_document_show_everything_once(
    searchable, published, show, monkeypatch, sort, runs
):
    monkeypatch.setattr(search_module, "CURSOR_FROM", 60)
    runs = [getattr(searchable, name) for name in runs]
    show(*runs)
    wanted = [d for run in runs for d in searchable.documents[run.name] if matches(d, confidence=(50, 100))]
    wanted.sort(key=ORDERS[sort])
    state, listed = SearchState(confidence=(50, 100), sort=sort), []
    while True:
        result = search(published.solr, published, state)
        listed += ids(result)
        if len(result.hits) < state.per_page:
            break
        state = state.with_page(state.page + 1, result.after)
    assert state.after is not None
    assert listed == [d["id"] for d in wanted]


@pytest.mark.services
@pytest.mark.parametrize("runs", [["first"], ["first", "second"]], ids=" beside ".join)
def test_a_shuffled_search_shows_everything_once_in_an_order_that_its_seed_decides(
    searchable, published, show, runs
):
    runs = [getattr(searchable, name) for name in runs]
    show(*runs)
    wanted = [d["id"] for run in runs for d in searchable.documents[run.name] if matches(d, ("frog", "ship"))]
    orders = []
    for seed in (0, 1, 1, 999_999_999):
        state, listed = SearchState({"tag": ("frog", "ship")}, sort="random", seed=seed), []
        for page in range(1, -(-len(wanted) // 30) + 1):
            result = search(published.solr, published, state.with_page(page))
            assert result.after is None
            listed += ids(result)
        assert sorted(listed) == sorted(wanted)
        orders.append(listed)
    assert orders[1] == orders[2]
    assert len({tuple(order) for order in [*orders, wanted]}) == 4


@pytest.mark.services
def test_of_very_many_hits_those_of_some_rows_are_shuffled(searchable, published, monkeypatch):
    requests = []
    select = published.solr.select
    monkeypatch.setattr(
        published.solr, "select", lambda *args, **more: requests.append(args[1]) or select(*args, **more)
    )
    monkeypatch.setattr(search_module, "SHUFFLED_HITS", 120)
    seen = set()
    for seed in range(1, 40):
        state = SearchState(confidence=(50, 100), sort="random", seed=seed)
        listed = [
            id for page in (1, 2) for id in ids(search(published.solr, published, state.with_page(page)))
        ]
        assert len(set(listed)) == 60
        seen |= set(listed)
        for parameters in requests[-2:]:
            if "some" in parameters:
                first, last = map(int, parameters["upwards"][5:-1].split(" TO "))
                rows = {int(id.split(":")[2]) for id in listed}
                assert all(first <= row <= last or row <= last - 300 for row in rows)
    assert sum("some" in parameters for parameters in requests) > 70, "hardly ever are they too few"
    wanted = {
        d["id"] for d in searchable.documents[searchable.first.name] if matches(d, confidence=(50, 100))
    }
    assert len(seen) > 0.9 * len(wanted), "every image has its chance"
    assert seen <= wanted


@pytest.mark.services
def test_the_cursor_we_make_is_the_one_that_solr_gives(searchable):
    for start in range(0, 200, 7):
        answer = searchable.solr.select(
            searchable.first.name,
            {
                "q": "*:*",
                "rows": start + 1,
                "sort": "confidence desc,id asc",
                "fl": "id,confidence",
                "cursorMark": "*",
            },
        )
        last = answer["response"]["docs"][-1]
        assert cursor_mark(After(last["confidence"], last["id"])) == answer["nextCursorMark"]


@pytest.mark.services
def test_what_a_user_writes_is_never_part_of_the_request(searchable, published, monkeypatch):
    requests = []
    select = published.solr.select
    monkeypatch.setattr(
        published.solr, "select", lambda *args, **more: requests.append(args) or select(*args, **more)
    )
    hostile = [
        "{!func}sum(1,1)",
        "*:* OR tag:*",
        '_query_:"{!lucene}x"',
        "frog') OR ('1",
        "$words",
        "frog\x7f",
        "[* TO *]",
    ]
    for text in hostile:
        state = SearchState({"tag": (text, "frog")}, (0, 100))
        assert search(published.solr, published, state).total > 0
        assert search(published.solr, published, SearchState({"tag": (text,)})).total == 0
    questions = requests[2:]  # after those that count
    assert len({str(args) for args in questions}) == 1, "one question, whatever was written beside frog"
    assert not any(text in str(questions) for text in hostile if text != "$words")


@pytest.mark.services
def test_nothing_published_is_no_error(searchable):
    published = PublishedIndex(Solr(searchable.solr.url, patience=0), "no-such-alias")
    result = search(published.solr, published, SearchState())
    assert (result.searched.collections, result.total, result.hits) == ((), 0, [])


def test_what_expires_during_a_check_is_checked_again(monkeypatch):
    published, checks = PublishedIndex(Solr("http://127.0.0.1:1/solr"), ALIAS, check_seconds=3600), []

    def check():
        checks.append(len(checks))
        if len(checks) == 1:  # as by another thread, which has just stored a correction
            published.expire()

    monkeypatch.setattr(published, "_check", check)
    for _ in range(3):
        published.now()
    assert checks == [0, 1]


@pytest.mark.services
def test_cells_are_queried_once_for_each_version_of_an_index(searchable, show, monkeypatch):
    requests = []
    solr = Solr(searchable.solr.url, patience=0)
    select = solr.select
    monkeypatch.setattr(solr, "select", lambda *args, **more: requests.append(args) or select(*args, **more))
    published = PublishedIndex(solr, ALIAS, check_seconds=0)

    def total():
        return published.now().counts.total(SearchState())

    first, second = (len(searchable.documents[run.name]) for run in (searchable.first, searchable.second))
    assert [total(), total(), total()] == [first] * 3
    assert len(requests) == 2, "once for what there is, once for the cells"
    show(searchable.first, searchable.second)
    assert [total(), total()] == [first + second] * 2
    cells = [name for name, parameters in requests if "json.facet" in parameters]
    assert cells[::2] == [searchable.first.name, searchable.second.name]
    assert len(requests) == 6, "and once for the tags of each, to compare them"
    # An index that changes is counted again, even to as many documents as before.
    lost, changed = searchable.documents[searchable.second.name][:2]
    try:
        searchable.solr.update(searchable.second.name, b'{"delete":{"id":"%s"}}' % lost["id"].encode())
        assert total() == first + second, "what isn't committed is not visible"
        searchable.solr.commit(searchable.second.name)
        assert total() == first + second - 1
    finally:
        restore(searchable, searchable.second, [lost])
    assert total() == first + second
    try:
        restore(searchable, searchable.second, [changed | {"tag": "newt"}])
        assert published.now().counts.by_value(SearchState(), "tag")["newt"] == 1
        assert total() == first + second
    finally:
        restore(searchable, searchable.second, [changed])
    assert "newt" not in published.now().counts.values("tag")


def restore(searchable, run, documents):
    import json

    searchable.solr.update(run.name, json.dumps(documents).encode())
    searchable.solr.commit(run.name)


@pytest.mark.services
def test_a_search_while_the_alias_moves_finds_one_run_or_the_other(searchable, settings, show):
    from search_ui import create_app

    app = create_app(settings, {"CHECK_SECONDS": 0})
    totals = {
        run.name: sum(matches(d, ("frog", "ship")) for d in searchable.documents[run.name])
        for run in (searchable.first, searchable.second)
    }
    assert len(set(totals.values())) == 2
    seen, wrong, stop = set(), [], threading.Event()

    def search_on():
        client = app.test_client()
        while not stop.is_set():
            answer = client.get("/api/search?tag=frog&tag=ship&page=2")
            if answer.status_code != 200:
                wrong.append(answer.json)
                continue
            runs = {hit["run"] for hit in answer.json["hits"]}
            seen.update(runs)
            if runs != set(answer.json["collections"]) or [answer.json["total"]] != [
                totals[run] for run in runs
            ]:
                wrong.append(answer.json)

    threads = [threading.Thread(target=search_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for run in [searchable.second, searchable.first] * 10:
        show(run)
        if run.name not in seen:
            wait_until(lambda run=run: wrong or run.name in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen == set(totals)


@pytest.mark.services
def test_a_collection_that_goes_away_between_two_requests_is_no_error(searchable, show):
    client = searchable.solr
    published = PublishedIndex(Solr(client.url, patience=0), ALIAS, check_seconds=3600)
    client.create("search-ui-passing")
    client.set_alias(ALIAS, ["search-ui-passing"])
    document = searchable.documents[searchable.first.name][0]
    try:
        client.update("search-ui-passing", b"[%s]" % json.dumps(document).encode())
        client.commit("search-ui-passing")
        assert search(published.solr, published, SearchState()).total == 1
        show(searchable.first)
    finally:
        client.delete("search-ui-passing")
    result = search(published.solr, published, SearchState())
    assert result.searched.collections == (searchable.first.name,)
    assert len(result.hits) == 30


def test_levels_of_every_forest_are_further_apart_than_the_ends_of_a_range():
    for trees in (3, 7, 10, 100, 500):
        confidences = [votes / trees for votes in range(trees + 1)]
        assert min(b - a for a, b in itertools.pairwise(confidences)) > 1e-3
    assert [shares({"votes": 5, "trees": 7}), len(CLASSES)] == [71, 4]


@pytest.mark.services
@pytest.mark.parametrize(("other", "words"), [("second", "7 and 10 trees"), ("network", "10 and no trees")])
def test_a_collection_with_documents_of_two_models_is_named(searchable, other, words):
    name = "search-ui-mixed"
    searchable.solr.create(name)
    try:
        for run in (searchable.first, getattr(searchable, other)):
            some = [json.dumps(d) for d in searchable.documents[run.name][:9]]
            searchable.solr.update(name, f"[{','.join(some)}]".encode())
        searchable.solr.commit(name)
        with pytest.raises(SolrError, match=f"{name}.* of models of {words}; it has to be one run"):
            query_cells(searchable.solr, name)
    finally:
        searchable.solr.delete(name)


@pytest.mark.services
def test_only_so_many_pages_far_back_are_read_at_once(searchable, published, monkeypatch):
    monkeypatch.setattr(search_module, "CURSOR_FROM", 30)
    monkeypatch.setattr(search_module, "FAR_BACK_SECONDS", 0.2)
    monkeypatch.setattr(search_module, "_FAR_BACK", threading.BoundedSemaphore(1))
    client = Solr(searchable.solr.url, patience=0)
    with search_module._FAR_BACK, pytest.raises(NotNowError):
        search(client, published, SearchState(page=2))
    monkeypatch.setattr(search_module, "FAR_BACK_SECONDS", 10)
    for _ in range(2):
        assert len(search(client, published, SearchState(page=2)).hits) == 30
    with search_module._FAR_BACK:
        assert len(search(client, published, SearchState()).hits) == 30, "others don't wait"
