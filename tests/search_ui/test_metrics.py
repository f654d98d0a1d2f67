"""Tests of `search_ui.metrics`: what the page counts of itself, and what counting costs."""

import threading
import time
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from searchable import make_corpus

from conf.settings import Settings
from indexing.query import search as search_module
from search_ui import create_app
from storage import layout


def counted(client) -> dict[tuple, float]:
    """Return every sample of /metrics by its name and the values of its labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@pytest.mark.services
def test_requests_are_counted_by_route_and_status_never_by_url(page):
    for path in ("/", "/?tag=frog", "/?page=x", "/api/search?tag=ship", "/nowhere", "/else/where"):
        page.get(path)
    for row in range(3):
        page.get(f"/images/small/0/{row}.png")
    page.get("/images/small/0/9999.png")
    counts = counted(page)
    png = "/images/<corpus>/<int:partition>/<int:row>.png"
    wanted = {("/", "200"): 2, ("/", "400"): 1, ("/api/search", "200"): 1, ("none", "404"): 2,
              (png, "200"): 3, (png, "404"): 1}  # fmt: skip
    requests = {key[1:]: n for key, n in counts.items() if key[0] == "tinytags_requests_total"}
    assert requests == wanted
    assert counts["tinytags_request_seconds_count", "/"] == 3
    assert 0 < counts["tinytags_request_seconds_sum", "/"] < 10
    assert counted(page)["tinytags_requests_total", "/metrics", "200"] == 1


def test_two_applications_count_apart(library):
    first, second = (create_app(Settings(store=library.store.root)).test_client() for _ in range(2))
    first.get("/healthz")
    assert ("tinytags_requests_total", "/healthz", "200") in counted(first)
    assert ("tinytags_requests_total", "/healthz", "200") not in counted(second)


@pytest.mark.services
def test_thumbnails_that_can_not_be_read_are_counted(page, library, tmp_path):
    make_corpus(library.store, tmp_path, "unreadable")
    try:
        library.store.write_bytes(layout.corpus_images("unreadable", 1), b"no Parquet")
        for path in ("1/5", "1/6", "0/5", "9/9"):
            page.get(f"/images/unreadable/{path}.png")
    finally:
        library.store.remove_tree("corpora/unreadable")
    assert counted(page)["tinytags_unreadable_thumbnails_total",] == 2


def test_failures_of_solr_are_counted_and_wrong_searches_are_not(library):
    client = create_app(Settings(store=library.store.root, solr="http://127.0.0.1:1/solr")).test_client()
    for path in ("/", "/api/search", "/readyz", "/export.jsonl", "/?page=x", "/healthz", "/nowhere"):
        client.get(path)
    assert counted(client)["tinytags_solr_failures_total",] == 4


@pytest.mark.services
def test_exports_count_while_they_run(page):
    other = {"REMOTE_ADDR": "192.0.2.1"}
    with page.get("/export.jsonl"), page.get("/export.jsonl", environ_overrides=other):
        assert counted(page)["tinytags_exports_running",] == 2
        assert page.get("/export.jsonl").status_code == 429
        assert counted(page)["tinytags_exports_running",] == 2
    counts = counted(page)
    assert counts["tinytags_exports_running",] == 0
    assert counts["tinytags_solr_failures_total",] == 0, "too many at once is no failure of Solr"


@pytest.mark.services
def test_an_export_that_solr_cuts_short_is_a_failure(page, monkeypatch):
    monkeypatch.setattr(search_module, "EXPORT_ROWS", 50)
    solr = page.application.extensions["tinytags"].solr
    with closing(page.get("/export.jsonl", buffered=False)) as answer:
        parts = iter(answer.response)
        next(parts)
        monkeypatch.setattr(solr, "url", "http://127.0.0.1:1/solr")
        with pytest.raises(search_module.SolrError, match="does not answer"):
            list(parts)
    counts = counted(page)
    assert counts["tinytags_solr_failures_total",] == 1
    assert counts["tinytags_exports_running",] == 0


@pytest.mark.slow
def test_counting_costs_a_page_less_than_a_tenth_of_a_millisecond(library, monkeypatch):
    """The same requests through an application that counts, and through one that does not."""
    settings = Settings(store=library.store.root)
    counting = create_app(settings)
    with monkeypatch.context() as without:
        without.setattr("search_ui.metrics.register", lambda app, metrics: None)
        silent = create_app(settings)

    def seconds(client) -> float:
        began = time.thread_time()  # of this thread alone, whatever else the machine does
        for _ in range(20):
            client.get("/healthz")
        return (time.thread_time() - began) / 20

    clients = counting.test_client(), silent.test_client()
    measured = [[seconds(client) for client in clients] for _ in range(30)]
    fastest = [min(column) for column in zip(*measured, strict=True)]
    assert fastest[0] - fastest[1] < 100e-6  # it is some 25


def test_threads_lose_no_count(library):
    app = create_app(Settings(store=library.store.root))
    threads = [
        threading.Thread(target=lambda: [app.test_client().get("/healthz") for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(app.test_client())["tinytags_requests_total", "/healthz", "200"] == 400
