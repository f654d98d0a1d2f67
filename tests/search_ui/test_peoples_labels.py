"""Tests that people's labels are in hits, counts, facets and exports at once, and what they survive."""

import csv
import io
import os
import re
import time
from collections import Counter
from dataclasses import replace

import pytest
from searchable import ALIAS, CLASSES, exported, shares, with_agreement

from indexing.index import index_run
from indexing.verify import verify_run
from records.corrections import Label, open_corrections
from search_ui import create_app

STATES = ("corrected", "agreed", "disputed")
LABELLED = 40


@pytest.fixture
def settings(settings, tmp_path):
    """The page's settings, with a database of the test's own."""
    return replace(settings, database=f"sqlite:///{tmp_path}/corrections.db", correction_rate="none")


@pytest.fixture
def corrections(settings):
    return open_corrections(settings.database)


@pytest.fixture
def given(searchable, corrections):
    """Labels by several people, of tagged images and one without a tag; what they come to, by partition and row."""
    documents = searchable.documents[searchable.first.name]
    tags = {(d["partition"], d["row"]): d["tag"] for d in documents}
    untagged = next((0, row) for row in range(300) if (0, row) not in tags)
    labels, by_name = {}, {"Ada": [], "Bob": [], "Eve": []}
    for n, (place, tag) in enumerate([(untagged, "frog"), *sorted(tags.items())[: 2 * LABELLED - 2 : 2]]):
        other = CLASSES[CLASSES.index(tag) - 1]
        names = [[tag], [other], [tag, other], [tag, other, other]][n % 4]
        labels[place] = [tag, other, None, other][n % 4]
        for by, name in zip(by_name, names, strict=False):
            by_name[by].append(Label(searchable.corpus, *place, name))
    for by, theirs in by_name.items():
        corrections.add_many(theirs, by)
    return labels


def expected(searchable, given, run):
    """Return the documents of a run, with what people give them, the slow way."""
    of_people = []
    for document in searchable.documents[run.name]:
        place = document["partition"], document["row"]
        if place in given:
            label = given[place]
            state = "disputed" if label is None else "agreed" if label == document["tag"] else "corrected"
            document = document | {"correction": state} | ({"people_label": label} if label else {})
        of_people.append(document)
    return of_people


def right(document):
    label = document.get("people_label") if "correction" in document else document.get("label")
    return None if label is None else label == document["tag"]


SEARCHES = [
    {},
    {"correction": "corrected"},
    {"correction": ["agreed", "disputed"]},
    {"answer": "right"},
    {"answer": "wrong", "sort": "corpus"},
    {"answer": "wrong", "correction": "corrected", "tag": CLASSES[0]},
    {"answer": "right", "correction": "disputed"},
    {"answer": "wrong", "confidence": "50-80", "sort": "confidence-low"},
    {"correction": "agreed", "sort": "random", "seed": 3},
    {"tag": CLASSES[2:], "label": CLASSES[2]},
    {"agreement": "disagree", "correction": "corrected"},
    {"agreement": "agree", "answer": "right", "tag": CLASSES[2]},
]


def test_a_search_finds_and_counts_what_people_label(page, searchable, given, show):
    runs = searchable.first, searchable.network
    show(*runs)
    documents = with_agreement([d for run in runs for d in expected(searchable, given, run)])
    for query in SEARCHES:
        hits = {d["id"]: d for d in matching(documents, query)}
        answer = page.get("/api/search", query_string=query | {"per_page": 120}).json
        assert (answer["total"], len(answer["hits"])) == (len(hits), min(len(hits), 120)), query
        assert answer["images"] == len({(d["partition"], d["row"]) for d in hits.values()}), query
        assert query or answer["images"] < answer["total"]
        for hit in answer["hits"]:
            assert hit.items() >= hits.pop(hit["id"]).items() - {("confidence", hit["confidence"])}, query
            assert "correction" in hit or "people_label" not in hit
        states = Counter(d.get("correction") for d in matching(documents, query, "correction"))
        assert {v["value"]: v["count"] for v in answer["corrections"]} == {s: states[s] for s in STATES}
        answers = Counter(map(right, matching(documents, query, "answer")))
        assert (answer["labelled"]["right"], answer["labelled"]["wrong"]) == (answers[True], answers[False])


def matching(documents, query, without=""):
    """Yield the documents that a search finds, one of its filters left out."""
    low, high = map(int, query.get("confidence", "0-100").split("-"))
    filters = {
        name: query[name]
        for name in ("tag", "label", "correction", "agreement")
        if name in query and name != without
    }
    for document in documents:
        answer = {True: "right", False: "wrong", None: None}[right(document)]
        if (
            low <= shares(document) <= high
            and all(document.get(name) in ([v] if isinstance(v, str) else v) for name, v in filters.items())
            and (without == "answer" or query.get("answer") in (None, answer))
        ):
            yield document


def test_a_correction_is_found_at_once_and_no_longer_when_it_is_undone(page, settings, searchable):
    other = create_app(settings).test_client()  # another server process: it checks once a second
    document = next(d for d in searchable.documents[searchable.first.name] if d["tag"] == "frog")
    path = f"/images/small/{document['partition']}/{document['row']}"

    def counts(client):
        answer = client.get("/api/search?correction=corrected").json
        return answer["total"], [v["count"] for v in answer["corrections"]]

    assert counts(page) == counts(other) == (0, [0])
    right_before = page.get("/api/search").json["labelled"]
    page.post(f"{path}/corrections", data={"label": "ship", "by": "Ada"})
    assert counts(page) == (1, [1])
    until = time.monotonic() + 60
    while counts(other) != (1, [1]):
        assert time.monotonic() < until
    html = page.get("/?correction=corrected").text
    assert re.search(r'class="mark wrong people"[^>]*>.*people&#39;s label is</span>\s*ship', html)
    assert "People&#39;s label" in html and 'data-keep="correction:corrected"' in html
    tag = page.get(f"/api{path}").json["tags"][0]
    assert (tag["correction"], tag["people_label"]) == ("corrected", "ship")
    page.post(f"{path}/corrections", data={"label": "frog", "by": "Bob"})
    assert counts(page)[0] == 0 and 'class="mark open people"' in page.get("/?correction=disputed").text
    assert "Disputed: " in page.get(path).text and "2 people disagree" in page.get(path).text
    page.post(f"{path}/corrections", data={"label": "frog", "by": "Eve"})
    assert 'class="mark right people"' in page.get("/?correction=agreed").text
    assert "Most of 3 people say <strong>frog</strong>" in page.get(path).text
    for by in ("Ada", "Bob", "Eve"):
        page.post("/corrections/undo", data={"by": by, "undone_by": "Ada"})
    answer = page.get("/api/search").json
    assert (answer["corrections"], answer["labelled"]) == ([], right_before)


def test_exports_have_what_people_label(page, searchable, given):
    wanted = {d["id"]: d for d in expected(searchable, given, searchable.first) if "correction" in d}
    query = "?correction=corrected&correction=agreed&correction=disputed"
    with page.get(f"/export.jsonl{query}") as answer:
        assert {d["id"]: d for d in exported(answer.text)} == wanted
    with page.get("/export.csv") as answer:
        rows = {row["id"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert len(rows) == len(searchable.documents[searchable.first.name])
    for id, row in rows.items():
        document = wanted.get(id, {})
        assert (row["people_label"], row["correction"]) == (
            document.get("people_label", ""),
            document.get("correction", ""),
        )


def test_a_run_that_is_indexed_again_has_its_corrections_and_verifies(page, searchable, given):
    query = "/api/search?correction=corrected&correction=agreed&correction=disputed&per_page=120"
    before = page.get(query).json["hits"]
    assert len(before) == LABELLED - 1, "one has no tag"
    index_run(
        searchable.store, searchable.first.name, searchable.solr, ALIAS, partitions=[0], publication="no"
    )
    assert page.get(query).json["hits"] == before
    assert verify_run(searchable.store, searchable.first.name, searchable.solr)["ok"]


def test_a_correction_made_while_solr_is_down_is_found_when_it_is_back(settings, searchable):
    down = create_app(replace(settings, solr="http://127.0.0.1:1/solr")).test_client()
    document = searchable.documents[searchable.first.name][0]
    path = f"/images/small/{document['partition']}/{document['row']}/corrections"
    assert down.post(path, data={"label": document["tag"], "by": "Ada"}).status_code == 303
    assert down.get("/api/search").status_code == 503
    back = create_app(settings).test_client()
    assert [hit["id"] for hit in back.get("/api/search?correction=agreed").json["hits"]] == [document["id"]]


def test_a_database_that_is_unavailable_leaves_the_labels_as_they_were(page, settings, given, tmp_path):
    before = page.get("/api/search").json
    assert len(before["corrections"]) == 3
    published = page.application.extensions["tinytags"].published
    assert published.now() is published.now()
    path = tmp_path / "corrections.db"
    for name in ("corrections.db-wal", "corrections.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    os.rename(path, tmp_path / "kept.db")
    path.write_bytes(b"no database" * 1000)
    assert page.get("/api/search").json["corrections"] == before["corrections"]
    assert create_app(settings).test_client().get("/api/search").json["corrections"] == []
    turned_off = create_app(replace(settings, database="none"), {"CHECK_SECONDS": 0})
    assert turned_off.test_client().get("/api/search").json["corrections"] == []
    published = turned_off.extensions["tinytags"].published
    assert published.now() is published.now(), "what hasn't changed is not counted again"
