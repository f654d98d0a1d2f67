"""Tests that images on which models agree or disagree are found, counted and exported, and that an image is shown once."""

import re
import threading
from collections import Counter

import pytest
from searchable import ORDERS, exported, matches, with_agreement

from indexing.query import agreement, published
from indexing.solr_errors import SolrError


def test_tags_are_compared_image_by_image():
    runs = [
        {(0, 1): "frog", (0, 2): "frog", (1, 0): "ship", (1, 1): "cat"},
        {(0, 1): "frog", (0, 2): "ship", (1, 0): "ship"},
        {(0, 1): "frog", (0, 2): "frog", (1, 0): "deer", (2, 2): "deer"},
    ]
    compared = {(0, 1): "agree", (0, 2): "disagree", (1, 0): "disagree"}
    assert agreement.compare_tags(runs) == compared
    assert agreement.compare_tags(runs[:1]) == {}


@pytest.fixture
def runs(searchable, show):
    """Two runs of one corpus, published together; their documents."""
    both = searchable.first, searchable.second
    show(*both)
    return with_agreement([d for run in both for d in searchable.documents[run.name]])


def number_of_images(documents):
    return len({(d["partition"], d["row"]) for d in documents})


@pytest.mark.services
@pytest.mark.parametrize("sort", ["confidence", "confidence-low", "corpus"])
def test_where_models_disagree_is_a_filter_a_facet_and_a_column(page, runs, sort, monkeypatch):
    value = {"confidence": "disagree", "confidence-low": "agree", "corpus": "disagree"}[sort]
    chosen = [d for d in runs if matches(d, ("frog", "ship"), (50, 100))]
    wanted = sorted((d for d in chosen if d.get("agreement") == value), key=ORDERS[sort])
    query = f"tag=frog&tag=ship&confidence=50-100&agreement={value}&sort={sort}"
    answer = page.get(f"/api/search?{query}").json
    assert answer["total"] == len(wanted) > 30
    assert answer["images"] == number_of_images(wanted)
    counts = Counter(d.get("agreement") for d in chosen)
    assert {v["value"]: (v["count"], v["selected"]) for v in answer["agreements"]} == {
        name: (counts[name], name == value) for name in ("agree", "disagree")
    }
    assert [hit["id"] for hit in answer["hits"]] == [d["id"] for d in wanted[:30]]
    assert [hit["agreement"] for hit in answer["hits"]] == [value] * 30
    monkeypatch.setattr("indexing.query.search.EXPORT_ROWS", 37)
    with page.get(f"/export.jsonl?{query}") as export:
        assert [line["id"] for line in exported(export.text)] == [d["id"] for d in wanted]
    html = page.get(f"/?{query}").text
    assert f'data-keep="agreement:{value}" aria-current="true"' in html and f"models {value}" in html


@pytest.mark.services
def test_one_run_or_too_many_documents_are_not_compared_and_cost_nothing(
    page, runs, show, searchable, monkeypatch
):
    assert page.get(f"/api/search?run={searchable.first.name}&agreement=disagree").json["total"] == sum(
        d.get("agreement") == "disagree" and d["model"] == "ten" for d in runs
    ), "one of the runs alone can be searched for where the other disagrees"
    show(searchable.first)
    requests = []
    solr = page.application.extensions["tinytags"].solr
    select = solr.select
    monkeypatch.setattr(
        solr, "select", lambda *args, **more: requests.append(args[1]) or select(*args, **more)
    )
    answer = page.get("/api/search").json
    assert answer["agreements"] == [] and "agreement" not in answer["hits"][0]
    assert answer["images"] == answer["total"]
    assert len(requests) == 1 and "others" not in requests[0]
    for limit, too_small in {
        "MOST_DOCUMENTS": 100,
        "MOST_PARTITIONS": searchable.corpus.partitions - 1,
    }.items():
        with monkeypatch.context() as limited:
            limited.setattr(agreement, limit, too_small)
            show(searchable.first, searchable.second)
            answer = page.get("/api/search").json
            assert (answer["agreements"], answer["images"]) == ([], None)
        show(searchable.first)
        page.get("/")


@pytest.mark.services
def test_searches_do_not_wait_for_the_comparison_nor_fail_with_it(page, runs, monkeypatch):
    monkeypatch.setattr(published, "COMPARISON_SECONDS", 0)
    monkeypatch.setattr(published, "RETRY_SECONDS", 0)
    go, failing = threading.Event(), ["no answer"]
    solr = page.application.extensions["tinytags"].solr
    select = solr.select

    def slow(collection, parameters, **more):
        if "cursorMark" in parameters:
            assert go.wait(20)
            if failing:
                raise SolrError(failing[0])
        return select(collection, parameters, **more)

    monkeypatch.setattr(solr, "select", slow)
    answer = page.get("/api/search").json
    assert (answer["total"], answer["agreements"]) == (len(runs), [])
    go.set()
    late = page.get("/api/search?agreement=disagree")
    assert late.status_code == 503
    assert "not compared yet" in late.json["error"], "not that Solr is unavailable"
    failing.clear()
    assert page.get("/api/search").json["total"] == len(runs)
    wanted = sum(d.get("agreement") == "disagree" for d in runs)
    assert page.get("/api/search?agreement=disagree").json["total"] == wanted, "compared again"
    assert {v["value"] for v in page.get("/api/search").json["agreements"]} == {"agree", "disagree"}


@pytest.mark.services
@pytest.mark.parametrize("query", ["sort=corpus", "tag=frog&agreement=disagree&per_page=60"])
def test_an_image_with_tags_by_two_models_is_shown_once_with_both(page, runs, query):
    hits = page.get(f"/api/search?{query}").json["hits"]
    images = list(dict.fromkeys((hit["partition"], hit["row"]) for hit in hits))
    html = page.get(f"/?{query}").text
    entries = re.findall(
        r'<li><a id="image-(\d+)" href="/images/small/(\d+)/(\d+)\?(.*?)</li>', html, re.DOTALL
    )
    assert [(int(p), int(row)) for _, p, row, _ in entries] == images
    if "corpus" in query:
        assert len(images) < len(hits), "both of its tags are on the page"
    for at, p, row, inner in entries:
        of_image = {d["model"]: d["tag"] for d in runs if (d["partition"], d["row"]) == (int(p), int(row))}
        models = re.findall(r'class="model note">(\w+)<', inner)
        tags = re.findall(r'<span class="tag">(\w+|cat, tabby|&lt;b&gt;deer&lt;/b&gt;)<', inner)
        named = dict(
            zip(models, (tag.replace("&lt;", "<").replace("&gt;", ">") for tag in tags), strict=True)
        )
        assert named == of_image
        assert models[0] == hits[int(at)]["model"], "the first is the hit that led to it"


@pytest.mark.services
def test_next_leads_to_another_image_and_the_way_back_to_the_thumbnail_that_has_the_tag(page, runs):
    hits = page.get("/api/search?sort=corpus").json["hits"]
    urls = [hit["url"] for hit in hits]
    at = next(n for n, url in enumerate(urls) if url == urls[n + 1])
    following = next(n for n, url in enumerate(urls) if n > at and url != urls[at])
    for place in (at, at + 1):
        html = page.get(f"{urls[place]}?sort=corpus&at={place}").text
        assert f'href="{urls[following]}?sort=corpus&amp;at={following}" rel="next"' in html
        assert f'href="/?sort=corpus#image-{place}"' in html
        assert page.get("/?sort=corpus").text.count(f' id="image-{place}"') == 1
    html = page.get(f"{urls[following]}?sort=corpus&at={following}").text
    assert f'href="{urls[at]}?sort=corpus&amp;at={at + 1}" rel="prev"' in html
