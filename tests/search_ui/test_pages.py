"""Tests of the page's routes: what is shown, which headers, and what happens when something is wrong or missing."""

import csv
import io
import json
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from searchable import (
    CLASSES,
    ORDERS,
    UPRIGHT,
    exported,
    make_corpus,
    matches,
    shares,
    upright_picture,
    with_agreement,
)
from served import started
from small_world import wait_until

from conf import spreadsheets
from conf.errors import TinyTagsError
from conf.settings import Settings
from indexing.query import search as search_module
from indexing.query.published import ANSWER_SECONDS
from ingest.corpus import open_corpus
from ingest.partition import read_image
from search_ui import create_app, serve
from search_ui.server import make_server
from search_ui.views import export
from storage import layout
from storage.store import StoreUnavailableError, open_store
from tagging.trained import hash_images, write_trained

PNG = divmod(UPRIGHT, 300)


class Shape(HTMLParser):
    """Collects what a page links to, and complains of elements that aren't closed as they were opened."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src", "action"):
                self.links.append(value)
            assert name != "style" and not name.startswith("on"), (
                f"{name} is refused by the page's own policy"
            )
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def offline(library):
    """The page's client with a store, but a Solr that isn't there."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    return create_app(
        Settings(store=library.store.root, solr=f"http://127.0.0.1:{port}/solr", details="yes")
    ).test_client()


@pytest.mark.services
def test_the_page_shows_tags_with_counts_and_thirty_thumbnails(page, searchable):
    answer = page.get("/?tag=frog&tag=ship&confidence=50-100")
    documents = searchable.documents[searchable.first.name]
    wanted = [d for d in documents if matches(d, ("frog", "ship"), (50, 100))]
    shape = Shape(answer.text)
    text = " ".join(shape.text.split())
    assert f"{len(wanted):,} images" in text
    for tag in ("frog", "ship", "cat, tabby", "<b>deer</b>"):
        assert re.search(
            rf"{re.escape(tag)}\W.*?\b{sum(matches(d, (tag,), (50, 100)) for d in documents)}\b", text
        )
    assert sum(".png?v=" in link for link in shape.links) == 30
    known = [d for d in wanted if "label" in d]
    right = sum(d["tag"] == d["label"] for d in known)
    assert f"{100 * right / len(known):.0f} % of {len(known)} labelled tags are right" in text
    assert "<b>deer</b>" not in answer.text, "a tag is text, whatever it holds"


@pytest.mark.services
def test_every_link_of_the_page_leads_somewhere(page):
    links, seen = {"/", "/?tag=frog&confidence=50-80&answer=wrong", "/?tag=unicorn&confidence=90-100"}, set()
    while links - seen and len(seen) < 150:
        link = sorted(links - seen)[len(seen) % len(links - seen)]
        seen.add(link)
        with page.get(link) as answer:
            assert answer.status_code == 200, link
            if answer.mimetype == "text/html":
                links |= {address for address in Shape(answer.text).links if address.startswith("/")}
    assert len(seen) == 150


@pytest.mark.services
def test_the_form_leads_to_the_search_that_it_means(page):
    answer = page.get("/?tag=ship&tag=frog&sort=corpus&min=80&max=50")
    assert (answer.status_code, answer.location) == (302, "/?tag=frog&tag=ship&confidence=50-80&sort=corpus")


@pytest.mark.services
def test_an_empty_search_names_the_wider_ones(page, searchable):
    html = page.get("/?tag=frog&confidence=99-99").text
    text = " ".join(Shape(html).text.split())
    offered = re.findall('data-keep="((?:tag|label|runner_up|answer):[^"]*)"', html)
    assert offered == ["tag:frog"], "the others would find nothing either"
    frogs = sum(d["tag"] == "frog" for d in searchable.documents[searchable.first.name])
    assert "No image matches all of these filters: frog, 99 %." in text
    assert f"any confidence: {frogs} images" in text
    assert "every tag" not in text, "that would be empty too"
    assert "Page 900 doesn't exist: the last one is 24" in page.get("/?page=900").text.replace(
        '<a href="/?page=24">', ""
    )


@pytest.mark.services
def test_a_hostile_url_is_a_search_or_a_400_and_nothing_else(page):
    texts = [
        "{!func}sum(1,1)", "{!terms f=id}1", "*:*", "tag:frog OR 1", "_query_:x", "nan-inf", "-1", "1e9", "' OR ''='",
        "<script>alert(1)</script>", "../../etc/passwd", "%00", "\x00", "\ud7ff", "A" * 5000, "0-100&fq=*", "[* TO *]",
        "${jndi:ldap://x}", "{{7*7}}", "１-２", "60-100\n", "",
    ]  # fmt: skip
    names = "tag confidence answer sort per_page page after min max at q fq shards"
    for name in names.split():
        for path in ("/", "/api/search", "/images/small/0/0"):
            for text in texts:
                answer = page.get(path, query_string={name: text})
                assert answer.status_code in (200, 302, 400), (path, name, text)
                assert answer.mimetype == "application/json" or "<script>alert" not in answer.text
                assert "Traceback" not in answer.text
    assert page.get("/?" + "&".join(f"tag={'x' * 100}{n}" for n in range(500))).status_code == 400
    assert page.get("/?tag=%FF%FE&page=%C3").status_code == 400
    assert page.get("/images/%FF/0/0").status_code == 404
    assert page.post("/").status_code == 405
    assert page.get("/nowhere").status_code == 404


@pytest.mark.services
def test_an_invalid_search_is_explained_on_the_page_and_in_json(page):
    answer = page.get("/?confidence=nan-inf")
    assert answer.status_code == 400
    assert (
        "confidence is &#39;nan-inf&#39;; it has to be a range of whole percents like 60-100" in answer.text
    )
    answer = page.get("/api/search?page=-1")
    assert (answer.status_code, answer.json["error"]) == (
        400,
        "page is '-1'; it has to be a whole number from 1",
    )


@pytest.mark.services
def test_the_api_states_what_the_page_shows(page, searchable):
    documents = searchable.documents[searchable.first.name]
    wanted = sorted(
        (d for d in documents if matches(d, ("ship",), (50, 70))), key=lambda d: (-d["votes"], d["id"])
    )
    answer = page.get("/api/search?tag=ship&confidence=50-70").json
    assert answer["total"] == len(wanted)
    assert answer["collections"] == [searchable.first.name]
    assert [{k: v for k, v in hit.items() if k not in ("url", "png")} for hit in answer["hits"]] == wanted[
        :30
    ]
    assert answer["tags"][-1] == {
        "tag": "ship",
        "count": len(wanted),
        "selected": True,
        "toggle": "/api/search?confidence=50-70",
    }
    assert [bar["percent"] for bar in answer["confidence"] if bar["selected"]] == [50, 60, 70]
    assert answer["labelled"]["known"] == sum("label" in d for d in wanted)
    following = page.get(answer["next"]).json
    assert [hit["id"] for hit in following["hits"]] == [d["id"] for d in wanted[30:60]]


@pytest.mark.services
def test_a_model_that_was_trained_on_images_of_the_search_is_named_beside_the_share_of_right_tags(
    page, searchable
):
    model, store = searchable.first.model, searchable.store
    library, path = page.application.extensions["tinytags"].library, layout.model_card(model)
    reported = f'<a href="/models/{model}">{model}</a> was trained on some of these images'
    assert page.get("/api/search").json["labelled"]["trained"] == []
    assert reported not in page.get("/").text
    card = store.read_json(path)
    of_this = searchable.first.corpus_hash
    try:
        for trained_on in ({"corpus_hash": of_this}, {"corpus_hash": "other", "corrections_of": [of_this]}):
            store.write_json(path, card | {"trained_on": trained_on})
            library._cache.clear()
            assert page.get("/api/search").json["labelled"]["trained"] == [model]
            assert reported in page.get("/").text
    finally:
        store.write_json(path, card)
        library._cache.clear()


@pytest.mark.services
def test_an_image_that_the_model_was_trained_on_is_shown_as_such(page, searchable):
    model, store = searchable.first.model, searchable.store
    path, (first, second) = layout.model_card(model), page.get("/api/search").json["hits"][:2]
    card = store.read_json(path)
    corpus = open_corpus(store, first["corpus"])
    image = read_image(store, corpus, first["partition"], first["row"]).images

    def trained(hit):
        return page.get(f"/api{hit['url']}").json["tags"][0]["trained"]

    assert trained(first) is None, "the card doesn't say"
    store.write_json(path, card | {"trained_images": write_trained(store, model, hash_images(image))})
    library = page.application.extensions["tinytags"].library
    library._cache.clear()
    try:
        assert (trained(first), trained(second)) == (True, False)
        assert "The model was trained on this image" in page.get(first["url"]).text
        assert "The model was trained on this image" not in page.get(second["url"]).text
    finally:
        store.write_json(path, card)
        store.remove(layout.model_trained(model))
        library._cache.clear()


@pytest.mark.services
@pytest.mark.parametrize("sort", ["confidence", "confidence-low", "corpus"])
def test_an_export_is_all_that_is_found_in_the_order_of_the_page(page, searchable, monkeypatch, sort):
    monkeypatch.setattr(search_module, "EXPORT_ROWS", 37)
    documents = searchable.documents[searchable.first.name]
    wanted = [d for d in documents if matches(d, ("frog", "ship"), (50, 100))]
    with page.get(f"/export.jsonl?tag=frog&tag=ship&confidence=50-100&sort={sort}&page=2") as answer:
        lines = exported(answer.text)
    assert answer.mimetype == "application/x-ndjson"
    assert len(lines) == len(wanted) == int(answer.headers["X-Total-Count"])
    assert {line["id"]: line for line in lines} == {d["id"]: d for d in wanted}
    hits = page.get(f"/api/search?tag=frog&tag=ship&confidence=50-100&sort={sort}").json["hits"]
    assert [line["id"] for line in lines[:30]] == [hit["id"] for hit in hits]
    with page.get("/export.jsonl?tag=unicorn") as answer:
        assert answer.text == ""
    assert page.get("/export.jsonl?colour=red").status_code == 400


@pytest.mark.services
def test_an_export_as_csv_is_the_same_and_nothing_in_it_is_a_formula(page, searchable, show, monkeypatch):
    monkeypatch.setattr(search_module, "EXPORT_ROWS", 37)
    monkeypatch.setattr(spreadsheets, "FORMULAS", (*spreadsheets.FORMULAS, "<"))  # as a tag here begins
    show(searchable.first, searchable.second)
    runs = searchable.first, searchable.second
    documents = with_agreement([d for run in runs for d in searchable.documents[run.name]])
    wanted = {d["id"]: d for d in documents if matches(d, runners_up=("frog", "<b>deer</b>"))}
    with page.get("/export.csv?runner_up=frog&runner_up=<b>deer</b>&sort=random&seed=3") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert answer.mimetype == "text/csv"
    assert len(rows) == len(wanted) == int(answer.headers["X-Total-Count"])
    confidences = [float(row["confidence"]) for row in rows]
    assert confidences == sorted(confidences, reverse=True), "what is shuffled comes by confidence"
    for row in rows:
        expected = {key: f"'{value}" if str(value).startswith("<") else str(value)
                for key, value in wanted.pop(row["id"]).items()}  # fmt: skip
        assert float(row["confidence"]) == pytest.approx(float(expected.pop("confidence")), abs=1e-6)
        beside = ("confidence", "record", "offset")
        assert {key: value for key, value in row.items() if value and key not in beside} == expected
    assert wanted == {}


@pytest.mark.services
def test_a_client_that_disconnects_stops_an_export(settings, monkeypatch):
    queries = []
    hits = search_module.hits

    def slowly(*args):
        queries.append(args)
        time.sleep(0.02)
        return hits(*args)

    monkeypatch.setattr(search_module, "EXPORT_ROWS", 1)
    monkeypatch.setattr(search_module, "hits", slowly)
    server = make_server(create_app(settings), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with socket.create_connection(server.effective_listen[0]) as client:
            client.sendall(b"GET /export.jsonl HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in client.recv(200)
        wait_until(lambda: queries and not export._running, seconds=60)
        assert len(queries) < 200, "hundreds more were left"
    finally:
        server.close()
        thread.join(5)


@pytest.mark.services
def test_several_runs_are_filtered_by_corpus_model_and_run(page, searchable, show):
    html = page.get("/").text
    assert "run-heading" not in html and "model-heading" not in html, "one alone is no choice"
    show(searchable.first, searchable.second)
    answer = page.get("/api/search?model=seven&tag=frog").json
    documents = searchable.documents
    seven = [d for d in documents[searchable.second.name] if d["tag"] == "frog"]
    ten = [d for d in documents[searchable.first.name] if d["tag"] == "frog"]
    assert answer["total"] == len(seven) and {hit["model"] for hit in answer["hits"]} == {"seven"}
    assert [(value["value"], value["count"], value["selected"]) for value in answer["models"]] == [
        ("seven", len(seven), True),
        ("ten", len(ten), False),
    ]
    assert {bar["percent"] for bar in answer["confidence"]} <= {43, 57, 71, 86, 100}, "sevenths"
    assert "corpora" not in answer
    both = page.get("/").text
    images = len({(d["partition"], d["row"]) for run in documents.values() for d in run})
    assert (
        f"</strong> tags of <strong>{images:,}</strong> images</h1>" in both
        and both.count('class="model note"') >= 30
    )
    assert "</strong> images</h1>" in page.get("/?model=seven").text
    assert page.get(answer["models"][1]["toggle"]).json["total"] == len(seven) + len(ten)
    empty = page.get(f"/?model=seven&run={searchable.first.name}").text
    assert "every model" in empty and "every run" in empty
    assert page.get("/api/search?corpus=elsewhere").json["total"] == 0
    assert "every corpus" in page.get("/?corpus=elsewhere").text


@pytest.mark.services
def test_the_label_is_a_filter_a_facet_and_a_column(page, searchable):
    documents = searchable.documents[searchable.first.name]
    wanted = [d for d in documents if matches(d, ("frog", "ship"), labels=("frog", "<b>deer</b>"))]
    query = "tag=frog&tag=ship&label=frog&label=%3Cb%3Edeer%3C/b%3E"
    answer = page.get(f"/api/search?{query}").json
    assert answer["total"] == len(wanted) > 0
    assert answer["labelled"]["right"] == sum(d["tag"] == d["label"] for d in wanted)
    counted = {value["value"]: (value["count"], value["selected"]) for value in answer["labels"]}
    assert counted == {
        name: (
            sum(matches(d, ("frog", "ship"), labels=(name,)) for d in documents),
            name in ("frog", "<b>deer</b>"),
        )
        for name in CLASSES
    }
    with page.get(f"/export.csv?{query}") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sorted(row["id"] for row in rows) == sorted(d["id"] for d in wanted)
    assert {row["label"] for row in rows} == {"frog", "<b>deer</b>"}
    html = page.get("/?label=frog").text
    assert '<details class="more" id="label-facet" open>' in html
    assert "label frog" in html, "among the selected filters"
    assert 'id="label-facet">' in page.get("/").text


@pytest.mark.services
def test_a_network_that_does_not_vote_is_searched_by_percent(page, searchable, show, monkeypatch):
    show(searchable.network)
    documents = searchable.documents[searchable.network.name]
    answer = page.get("/api/search?confidence=60-100").json
    wanted = [d for d in documents if matches(d, confidence=(60, 100))]
    assert answer["total"] == len(wanted)
    assert any(0.595 <= d["confidence"] < 0.6 for d in wanted), "59.5 % are 60 %"
    bars = {bar["percent"]: bar["count"] for bar in answer["confidence"]}
    assert list(bars) == list(range(40, 101)) and sum(bars.values()) == len(documents)
    html = page.get("/?sort=confidence-low&confidence=60-100").text
    assert f'<span class="percent">{shares(min(wanted, key=ORDERS["confidence-low"]))} %</span>' in html
    assert "trees" not in html

    document = next(d for d in documents if d.get("runner_up"))
    url = f"/images/small/{document['partition']}/{document['row']}"
    words = f"{100 * document['confidence']:.2f} %"
    assert words in " ".join(Shape(page.get(url).text).text.split()), "the model itself is not in the store"
    assert page.get(f"/api{url}").json["tags"][0]["class_votes"] is None

    class Network:
        def votes(self, images):
            return np.array([[0.5, 0.125, 0.25, 0.125]], np.float32)

    monkeypatch.setattr("search_ui.library.load_exact_model", lambda *args: Network())
    assert page.get(f"/api{url}").json["tags"][0]["class_votes"]["cat, tabby"] == 0.5
    assert '<td class="number">12.50</td>' in page.get(url).text
    with page.get("/export.csv") as answer:
        assert len(answer.text.splitlines()) == len(documents) + 1


@pytest.mark.services
def test_the_precision_and_coverage_of_a_range_are_beside_it(page, searchable, monkeypatch):
    def threshold(votes):
        images = 1000 - 100 * (votes - 1)
        right = images - images**2 // 2000
        shares = {"kept": images / 1000, "precision": right / images}
        return {"votes": votes, "confidence": votes / 10, "images": images, "right": right} | shares

    card = {
        "name": "ten",
        "hash": searchable.first.model_hash,
        "classes": ["a"],
        "trees": 10,
        "quality": {
            "images": 1000,
            "accuracy": 0.5,
            "classes": {"a": {"images": 1000, "tagged": 1000, "precision": 0.5, "recall": 0.5}},
            "confusion": [[1000]],
            "thresholds": [threshold(votes) for votes in range(1, 11)],
        },
    }
    monkeypatch.setattr("search_ui.library.read_card", lambda store, name: card)

    def expected(query):
        return page.get(f"/api/search{query}").json["expected"]

    assert expected("") == [
        {
            "model": "ten",
            "tags": [],
            "low": 40,
            "high": 100,
            "images": 700,
            "precision": 455 / 700,
            "kept": 0.7,
            "interval": pytest.approx([0.6140, 0.6844], abs=1e-4),
        }
    ]
    assert expected("?confidence=60-80&tag=frog") == [
        {
            "model": "ten",
            "tags": [],
            "low": 60,
            "high": 80,
            "images": 300,
            "precision": 195 / 300,
            "kept": 0.3,
            "interval": pytest.approx([0.5944, 0.7018], abs=1e-4),
        }
    ], "the card has no calibration of classes"
    assert expected("?confidence=41-49") == [], "no tag has such a confidence"
    words = " ".join(page.get("/?confidence=60-100").text.split())
    assert "At 60 % or more: about <strong>75 %</strong> (71–79 %) correct; covers 50 % of images" in words
    table = {
        "level": [4, 6, 8, 9],
        "images": [50, 40, 30, 7],
        "right": [5, 10, 20, 7],
        "expected": [0.1, 0.25, 0.67, 1.0],
    }
    card["quality"]["calibration"] = {"error": 0.1, "top": 10, "all": table, "classes": {"frog": table}}
    page.application.extensions["tinytags"].library._cache.clear()
    (estimate,) = expected("?confidence=60-80&tag=frog")
    assert (estimate["tags"], estimate["images"], estimate["kept"]) == (["frog"], 70, 0.07)
    assert estimate["precision"] == pytest.approx(30 / 70)
    words = " ".join(page.get("/?confidence=60-80&tag=frog").text.split())
    assert "At 60–80 %, frog: about <strong>43 %</strong> (32–55 %) correct; covers 7 % of images" in words
    hit = page.get("/api/search?tag=frog").json["hits"][0]
    share = {4: 0.1, 5: 0.1, 6: 0.25, 7: 0.25, 8: 0.67, 9: 1.0, 10: 1.0}[hit["votes"]]
    assert page.get(f"/api{hit['url']}").json["tags"][0]["expected_precision"] == share
    assert (
        f"about <strong>{100 * share:.0f} %</strong> of such tags were correct" in page.get(hit["url"]).text
    )
    assert expected("?confidence=90-100&tag=frog")[0]["tags"] == [], "too few of that class were measured"
    assert expected("?tag=frog&tag=ship")[0]["images"] == 127, "nothing was tagged ship where it was measured"
    card["hash"] = "another"
    page.application.extensions["tinytags"].library._cache.clear()
    assert expected("") == [], "the card is of another model"
    card |= {"hash": searchable.first.model_hash, "quality": {"images": 1000, "thresholds": [{"votes": 4}]}}
    page.application.extensions["tinytags"].library._cache.clear()
    assert expected("") == [], "the card is not one of ours"


@pytest.mark.services
def test_each_client_has_one_export_at_a_time_and_places_are_limited(page, monkeypatch):
    def begin(address):
        return page.get("/export.jsonl", environ_overrides={"REMOTE_ADDR": address})

    for _ in range(2):  # each gives its place back
        with begin("2001:db8::1"):
            same = begin("2001:db8::2")
            assert same.status_code == 429, "it is in the same network"
            assert int(same.headers["Retry-After"]) > 0 and same.json["status"] == 429
            with begin("192.0.2.1") as other:
                assert other.status_code == 200
                monkeypatch.setattr(export, "EXPORTS", 2)
                assert begin("192.0.2.2").status_code == 429
    with begin("192.0.2.2") as answer:
        assert answer.status_code == 200


@pytest.mark.services
def test_an_unavailable_store_leaves_the_search_and_is_reported_on_the_image(page, monkeypatch):
    hit = page.get("/api/search").json["hits"][0]
    queries = []

    def unavailable(store, name):
        queries.append(name)
        raise StoreUnavailableError("hdfs://namenode: does not answer")

    monkeypatch.setattr("search_ui.library.open_corpus", unavailable)
    monkeypatch.setattr("search_ui.library.open_run", unavailable)
    monkeypatch.setattr("search_ui.library.MANIFEST_SECONDS", 600)
    page.application.extensions["tinytags"].library._cache.clear()
    seen = []
    for _ in range(2):
        assert page.get("/").status_code == 200
        assert page.get("/api/search").json["total"] > 0
        assert page.get("/about").status_code == 200
        with page.get("/export.jsonl") as answer:
            lines = [json.loads(line) for line in answer.text.splitlines()]
        assert len(lines) == int(answer.headers["X-Total-Count"]) > 0
        assert {(line["record"], line["offset"]) for line in lines} == {(None, None)}
        answer = page.get(hit["url"])
        assert answer.status_code == 503 and "does not answer" in answer.text
        seen.append(len(queries))
    assert seen[0] == seen[1] > 0, "it is not read again for every page"


@pytest.mark.services
def test_an_image_has_a_page_with_its_votes_and_its_source(page, searchable):
    document = next(
        d for d in searchable.documents[searchable.first.name] if "label" in d and d["votes"] < 10
    )
    url = f"/images/small/{document['partition']}/{document['row']}"
    record = document["partition"] * 300 + document["row"]
    facts = page.get(f"/api{url}").json
    (tag,) = facts["tags"]
    assert {key: tag[key] for key in document} == document
    assert sum(tag["class_votes"].values()) == 10
    assert tag["class_votes"][document["tag"]] == document["votes"]
    assert facts["source"]["record"] == record
    assert facts["source"]["offset"] == record * 3072
    assert facts["label"] == document["label"]
    assert "the JSON has all" not in page.get(url).text
    text = " ".join(Shape(page.get(url).text).text.split())
    for words in (
        f"{10 * document['votes']} %",
        "of 10 votes of ten",
        "small.bin",
        f"{record * 3072:,}",
        searchable.first.name,
    ):
        assert words in text


@pytest.mark.services
def test_an_images_page_has_a_limited_number_of_classes(page, searchable, monkeypatch):
    monkeypatch.setattr("search_ui.views.image.TABLE_CLASSES", 3)
    document = next(d for d in searchable.documents[searchable.first.name] if d["votes"] < 10)
    url = f"/images/small/{document['partition']}/{document['row']}"
    text = page.get(url).text
    assert text.count('<th scope="row">') == 3 and '<tr class="winner">' in text
    assert "The 3 classes with the most votes, of 4; the JSON has all." in text
    assert len(page.get(f"/api{url}").json["tags"][0]["class_votes"]) == 4


@pytest.mark.services
def test_an_image_that_no_run_tagged_has_a_page_too(page, searchable):
    tagged = {(d["partition"], d["row"]) for d in searchable.documents[searchable.first.name]}
    partition, row = next(divmod(n, 300) for n in range(700) if divmod(n, 300) not in tagged)
    answer = page.get(f"/images/small/{partition}/{row}")
    assert answer.status_code == 200
    assert "No tag" in answer.text


@pytest.mark.services
def test_an_image_has_the_tags_of_both_published_runs(page, searchable, show):
    show(searchable.first, searchable.second)
    facts = page.get("/api/images/small/0/0").json
    assert {tag["run"] for tag in facts["tags"]} == {
        run.name
        for run in (searchable.first, searchable.second)
        if any(d["id"].endswith(":0:0") for d in searchable.documents[run.name])
    }


@pytest.mark.services
@pytest.mark.parametrize("sort", ["confidence", "confidence-low", "corpus"])
def test_an_image_leads_to_the_next_one_of_its_search_and_back(page, sort):
    hits = page.get(f"/api/search?tag=frog&sort={sort}&per_page=60").json["hits"]
    sort = "" if sort == "confidence" else f"&sort={sort}"
    for at in (0, 1, 31):
        url = f"{hits[at]['url']}?tag=frog{sort}&at={at}"
        links = re.findall(r'<a href="([^"]*)" (?:data-key="u"|rel="(?:prev|next)")', page.get(url).text)
        wanted = [f"/?tag=frog{sort}" + ("&page=2" if at > 29 else "") + f"#image-{at}"]
        wanted += [f"{hits[n]['url']}?tag=frog{sort}&at={n}" for n in (at - 1, at + 1) if n >= 0]
        assert [link.replace("&amp;", "&") for link in links] == wanted
    # Where the search has moved on, the neighbours are those of the corpus.
    text = page.get(f"{hits[0]['url']}?tag=ship&at=3").text
    assert "at=" not in "".join(re.findall(r'href="([^"]*)" rel="next"', text))


def test_pixels_are_upright_and_may_be_kept_for_good(offline, library):
    version = library.corpus.hash[:8]
    url = f"/images/small/{PNG[0]}/{PNG[1]}.png"
    answer = offline.get(f"{url}?v={version}")
    assert answer.mimetype == "image/png"
    assert "immutable" in answer.headers["Cache-Control"]
    assert (np.asarray(Image.open(io.BytesIO(answer.data))) == upright_picture()).all()
    large = np.asarray(Image.open(io.BytesIO(offline.get(f"{url}?scale=3").data)))
    assert (large == upright_picture().repeat(3, axis=0).repeat(3, axis=1)).all()
    assert offline.get(url, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    for unsure in (url, f"{url}?v=00000000"):
        assert offline.get(unsure).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/images/small/0/300.png", 404),
        ("/images/small/2/100.png", 404),
        ("/images/small/3/0.png", 404),
        ("/images/small/-1/0.png", 404),
        ("/images/none/0/0.png", 404),
        ("/images/..%2Fruns/0/0.png", 404),
        ("/images/small/0/0.png?scale=0", 400),
        ("/images/small/0/0.png?scale=17", 400),
        ("/images/small/0/0.png?scale=0017", 400),
        ("/images/small/99999999999999999999999/0.png", 404),
        ("/api/images/small/0/300", 404),
    ],
)
def test_pixels_that_are_unknown_are_a_plain_404(offline, path, status):
    assert offline.get(path).status_code == status


@pytest.mark.services
def test_a_partition_that_can_not_be_read_gives_a_placeholder(page, library, tmp_path):
    make_corpus(library.store, tmp_path, "broken")
    library.store.write_bytes(layout.corpus_images("broken", 1), b"no Parquet")
    answer = page.get("/images/broken/1/5.png")
    assert (answer.status_code, answer.mimetype, answer.headers["Cache-Control"]) == (
        503,
        "image/png",
        "no-store",
    )
    assert Image.open(io.BytesIO(answer.data)).size == (32, 32)
    answer = page.get("/images/broken/1/5")
    assert answer.status_code == 200
    assert "is corrupt" in answer.text
    assert page.get("/images/broken/0/5.png").status_code == 200
    library.store.remove_tree("corpora/broken")


def test_without_solr_pages_are_503_and_the_process_is_well(offline):
    for path in ("/", "/?tag=frog", "/images/small/0/0"):
        answer = offline.get(path)
        assert answer.status_code == 503
        assert "does not answer" in Shape(answer.text).text
    assert offline.get("/api/search").json["status"] == 503
    assert offline.get("/about").status_code == 200
    assert offline.get("/healthz").json == {"status": "alive"}
    assert offline.get("/readyz").status_code == 503
    assert "does not answer" in offline.get("/readyz").json["reason"]
    assert offline.get("/images/small/0/0.png").status_code == 200


@pytest.mark.slow
def test_a_solr_that_hangs_is_reported_to_all_clients_at_once(library, limits):
    def ask(solr):
        app = create_app(Settings(store=library.store.root, solr=solr, details="yes"))
        began = time.monotonic()
        answers = list(people.map(lambda _: app.test_client().get("/"), range(6)))
        assert [answer.status_code for answer in answers] == [503] * 6
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as hanging, ThreadPoolExecutor(6) as people:
        usual = ask("http://127.0.0.1:1/solr")  # what it takes of a busy machine to say so
        # Not one after the other; 3 seconds where nothing else runs.
        assert ask(f"http://127.0.0.1:{hanging.getsockname()[1]}/solr") < 2 * ANSWER_SECONDS + usual


@pytest.mark.services
def test_ready_lists_the_published_collections(page, searchable):
    assert page.get("/readyz").json == {"status": "ready", "collections": [searchable.first.name]}
    assert searchable.first.name in page.get("/about").text
    assert "29 June 2020" in page.get("/about").text


@pytest.mark.services
def test_before_anything_is_published_the_page_states_how_to(settings):
    app = create_app(Settings(store=settings.store, solr=settings.solr, alias="no-such-alias", details="yes"))
    answer = app.test_client().get("/?tag=frog")
    assert answer.status_code == 200
    assert "Nothing is published yet" in answer.text


@pytest.mark.services
def test_every_answer_has_the_headers_that_keep_others_out(page):
    for path in (
        "/",
        "/about",
        "/nowhere",
        "/?page=x",
        "/api/search",
        "/images/small/0/0.png",
        "/static/style.css",
    ):
        headers = page.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.services
def test_a_page_of_results_weighs_little_and_its_files_are_kept(page):
    answer = page.get("/?tag=frog&tag=ship&per_page=120")
    links = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text))
    assert {re.sub(r"\?v=[0-9a-f]{8}$", "", link) for link in links} == {
        "/static/icon.svg",
        "/static/page.js",
        "/static/search.js",
        "/static/style.css",
    }
    files = [page.get(link) for link in links]
    assert all("max-age=31536000" in file.headers["Cache-Control"] for file in files)
    assert len(page.get("/?tag=frog&tag=ship").data) + sum(len(file.data) for file in files) < 65_000


@pytest.mark.slow
def test_the_server_states_where_it_is_and_stops_on_ctrl_c(library):
    with started(Settings(store=library.store.root), stderr=subprocess.STDOUT) as (process, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 200")
        with pytest.raises(
            TinyTagsError, match=f"can't listen on 127.0.0.1:{port}: Address already in use.*--port"
        ):
            serve(Settings(store=library.store.root), port=port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 10000000\r\n\r\n")
            assert b" 413 " in client.recv(100)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "stopped\n"
        assert process.returncode == 0


@pytest.mark.services
def test_pixels_come_out_of_hdfs_as_well(hdfs, tmp_path):
    url = f"{hdfs.url}/search-ui-{tmp_path.name}"
    store = open_store(url, hdfs.webhdfs)
    make_corpus(store, tmp_path)
    client = create_app(
        Settings(store=url, webhdfs=hdfs.webhdfs, solr="http://127.0.0.1:1/solr", details="yes")
    ).test_client()
    answer = client.get(f"/images/small/{PNG[0]}/{PNG[1]}.png")
    assert (np.asarray(Image.open(io.BytesIO(answer.data))) == upright_picture()).all()
