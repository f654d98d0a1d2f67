"""Tests of the page of runs: with all services up, with one of them down, and in a browser while a job works."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from relay import Relay
from searchable import ALIAS, CLASSES
from small_world import finish, make_corpus, start, wait_until, write_tiny_images
from werkzeug.serving import make_server

from conf.settings import Settings
from indexing.index import index_run
from indexing.watch_solr import SolrWatch
from indexing.watch_store import StoreWatch
from ingest.corpus import open_corpus
from jobs.partitions import record_failed
from jobs.tag_images import tag_partition
from operations.status import describe, read_status
from search_ui import board, create_app
from storage import layout, runs
from storage.finished import record_finished
from storage.lease import lease
from storage.store import StoreError, open_store
from tagging.models import load_model

pytestmark = pytest.mark.services

NO_SOLR = "http://127.0.0.1:1/solr"


@pytest.fixture
def world(library, solr, tmp_path):
    """A copy of the library to write into, and what leads to it; its runs are not in Solr."""
    shutil.copytree(library.store.root, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    settings = Settings(store=store.root, solr=solr.url, alias="test-runs-page", details="yes")
    return SimpleNamespace(store=store, settings=settings, corpus=open_corpus(store, "small"))


def client(settings, **config):
    return create_app(settings, {"CHECK_SECONDS": 0, "REFRESH_SECONDS": 0} | config).test_client()


def text(answer) -> str:
    """Return what a page says, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)).split())


def new_run(world, model="trained", min_precision: float | None = None) -> runs.Run:
    """Begin a run of the small corpus by a model that was really trained."""
    tagger = load_model(world.store, model)
    made = runs.Run(
        world.corpus.name, world.corpus.hash, model, tagger.hash, 0.4, list(tagger.classes), world.corpus.images,
        world.corpus.partitions, trees=tagger.voters, min_precision=min_precision,
    )  # fmt: skip
    runs.create_run(world.store, made)
    return made


def tag(world, run, *partitions):
    """Tag partitions as the job's tasks do."""
    for p in partitions:
        tag_partition(world.store, world.corpus, run, p)


def one(status: dict, run) -> dict:
    (state,) = [state for state in status["runs"] if state["run"] == run.name]
    return state


# What it says


def test_the_api_states_what_tinytags_status_states(page, settings):
    answer, status = page.get("/api/runs").json, read_status(settings)
    for key in ("store", "solr", "solr_error", "alias", "published", "corpora", "runs"):
        assert answer[key] == status[key], key
    assert answer["store_error"] is None and answer["working"] is False


def test_every_corpus_and_run_stands_on_the_page_with_each_step(page, searchable):
    answer = page.get("/runs")
    assert answer.status_code == 200
    words = text(answer)
    assert "No job is running." in words
    assert "Corpus small 700 images, tiny-images, labels of 4 classes" in words
    documents = len(searchable.documents[searchable.first.name])
    assert re.search(
        rf"Run {searchable.first.name} published model ten , minimum confidence 40 % tag 3 0 0 index 3 0 0 {documents} documents, none rejected",
        words,
    )
    assert answer.text.count('class="chip"') == 1
    html = answer.get_data(as_text=True)
    assert f'href="/?run={searchable.first.name}"' in html
    assert 'href="/models/seven"' in html
    assert "<b>deer</b>" not in html


def test_an_image_and_the_about_page_lead_to_run_and_model(page, searchable):
    name = searchable.first.name
    hit = searchable.documents[name][0]
    image, about = page.get(f"/images/small/{hit['partition']}/{hit['row']}").text, page.get("/about").text
    for html in (image, about):
        assert 'href="/models/ten"' in html
    for html in (image, about, page.get("/runs").text, page.get("/").text):
        assert f'href="/runs/{name}"' in html


def test_a_step_that_failed_is_named_with_its_reason_and_the_command(world):
    made = new_run(world, min_precision=0.85)
    tag(world, made, 0)
    record_failed(
        world.store, lambda p: layout.run_failed(made.name, p), {2: StoreError("<i>corrupt</i>")}, {0}
    )
    world.store.remove(layout.corpus_statistics("small", 1))
    world.store.write_json(layout.corpus_failed("small", 1), {"partition": 1, "error": "is truncated"})
    answer = client(world.settings).get("/runs")
    words = text(answer)
    assert "ingest 2 0 1 Partition 1: is truncated To redo it: tinytags ingest" in words
    assert "tag 1 1 1 Partition 2: &lt;i&gt;corrupt&lt;/i&gt; To redo it:" in words
    assert "tinytags tag --corpus small --model trained --min-confidence 0.4" in words
    assert "minimum confidence 40 % (for a precision of 85 %)" in words
    assert f"No documents yet; tinytags index {made.name} indexes the run" in words


def test_documents_that_solr_rejected_are_reported(world, searchable):
    made = new_run(world)
    tag(world, made, 0, 1, 2)
    path = layout.run_tags(made.name, 1)
    lines = world.store.read_bytes(path).replace(b'"votes":', b'"votes":"x","was":', 1)
    world.store.write_bytes(path, lines)
    statistics = runs.read_statistics(world.store, made, 1)
    statistics |= {"sha256": hashlib.sha256(lines).hexdigest(), "bytes": len(lines)}
    world.store.write_json(layout.run_statistics(made.name, 1), statistics)
    try:
        index_run(world.store, made.name, searchable.solr, world.settings.alias, publication="no")
        words = text(client(world.settings).get("/runs"))
        assert re.search(rf"[\d,]+ documents, 1 rejected .*tinytags index {made.name} --partition 1", words)
    finally:
        searchable.solr.delete(made.name)


def test_a_training_and_the_last_job_of_each_step_are_shown(world):
    made, page = new_run(world), client(world.settings)
    record_finished(world.store, layout.run_folder(made.name), "tag", 700, "images", 3.2, 350.5)
    with lease(world.store, layout.model_lease("new"), "x"):
        words, answer = text(page.get("/runs")), page.get("/api/runs").json
        assert re.search(r"train of new : since \d\d:\d\d:\d\d UTC", words)
        assert f"process {os.getpid()}" in words and answer["working"]
        status = read_status(world.settings)
        assert (
            f"model new: in training (being written by {status['models'][-1]['writer']['user']}"
            in describe(status)
        )
    words = text(page.get("/runs"))
    assert "train of new" not in words
    assert re.search(r"tag 0 3 0 done \d{4}-\d\d-\d\d \d\d:\d\d UTC : 700 images in 3 s, 350 images/s", words)


def test_an_empty_store_states_how_to_begin(solr, tmp_path):
    words = text(client(Settings(store=str(tmp_path / "new"), solr=solr.url)).get("/runs"))
    assert "The store is empty" in words and "tinytags demo" in words
    assert not (tmp_path / "new").exists()


def test_a_broken_manifest_is_reported_in_its_place(world):
    made = new_run(world)
    world.store.write_json(layout.run_manifest(made.name), {"hash": "0"})
    world.store.write_bytes("corpora/bad/manifest.json", b"{")
    world.store.remove_tree("models")
    answer = client(world.settings).get("/runs")
    assert answer.status_code == 200
    words = text(answer)
    assert "Runs without a corpus in the store" in words and "is not as it was written" in words
    assert "Corpus bad" in words and "is not JSON" in words


# Something is down


def halve(monkeypatch):
    """Let pages wait half as long, so that a busy machine has the other half for the rest."""
    assert board.WAIT_SECONDS < 3
    monkeypatch.setattr(board, "WAIT_SECONDS", board.WAIT_SECONDS / 2)


def quickly(client, path="/runs"):
    began = time.monotonic()
    answer = client.get(path)
    assert time.monotonic() - began < 3
    assert answer.status_code == 200
    return answer


def test_without_solr_the_page_reports_it_and_what_the_store_knows(world, limits):
    words = text(quickly(client(Settings(store=world.store.root, solr=NO_SOLR, details="yes"))))
    assert "Solr is unavailable: Solr at http://127.0.0.1:1/solr does not answer" in words
    assert "tag 3 0 0 index unknown Solr is unavailable" in words
    answer = quickly(client(Settings(store=world.store.root, solr=NO_SOLR, details="yes")), "/api/runs").json
    assert [state["index"] for state in answer["runs"]] == [None, None, None]


def test_a_solr_that_hangs_or_is_down_leaves_the_last_state_and_recovers(searchable, limits, monkeypatch):
    relay = Relay(int(searchable.solr.url.rsplit(":", 1)[1].split("/")[0]))
    try:
        settings = Settings(
            store=searchable.store.root,
            solr=f"http://127.0.0.1:{relay.port}/solr",
            alias=ALIAS,
            details="yes",
        )
        page = client(settings)
        before = page.get("/api/runs").json
        assert before["solr_error"] is None
        halve(monkeypatch)
        for mode, error in (("silent", "does not answer"), ("refuse", "does not answer")):
            relay.become(mode)
            answer = quickly(page, "/api/runs").json
            while not answer["solr_error"]:
                answer = quickly(page, "/api/runs").json
            assert error in answer["solr_error"]
            assert answer["runs"] == before["runs"] and answer["solr_seen"]
            words = text(quickly(page))
            assert "This page shows the index at" in words and "published" in words
        relay.become("pass")
        wait_until(lambda: not page.get("/api/runs").json["solr_error"])
    finally:
        relay.close()


def test_a_store_that_hangs_is_reported_in_time_and_browsers_do_not_queue_up_for_it(
    solr, limits, monkeypatch
):
    # A busy machine has more time for Solr's answer, and the page still answers in time.
    monkeypatch.setattr(board, "SOLR_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        webhdfs = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(store="hdfs://127.0.0.1:8020/x", webhdfs=webhdfs, solr=solr.url, details="yes")
        page = client(settings)
        words = text(quickly(page))
        assert "The store is unavailable: the store does not answer" in words
        assert "Solr is unavailable" not in words
        began = time.monotonic()
        for _ in range(5):
            assert quickly(page, "/api/runs").json["store_error"] == "the store does not answer"
        assert time.monotonic() - began < 3
        answer = page.get("/models")
        assert (answer.status_code, "does not answer" in text(answer)) == (503, True)


def test_a_store_that_is_a_file_is_reported(solr, tmp_path, limits):
    (tmp_path / "file").write_bytes(b"")
    words = text(quickly(client(Settings(store=str(tmp_path / "file"), solr=solr.url, details="yes"))))
    assert "The store is unavailable:" in words and "Not a directory" in words
    assert "The store is empty" not in words


def test_many_browsers_share_one_scan(world, monkeypatch):
    scans = []
    for watch in (StoreWatch, SolrWatch):
        original = watch.scan

        def scan(self, *args, original=original, **options):
            scans.append(type(self).__name__)
            return original(self, *args, **options)

        monkeypatch.setattr(watch, "scan", scan)
    app = create_app(world.settings, {"REFRESH_SECONDS": 60})
    answers = []

    def ask():
        answers.append(app.test_client().get("/api/runs").json)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16 and len({json.dumps(answer) for answer in answers}) == 1
    assert sorted(scans) == ["SolrWatch", "StoreWatch"]


def test_the_version_changes_with_what_is_shown_and_with_nothing_else(world):
    page, made = client(world.settings), new_run(world)
    first = page.get("/api/runs").json
    time.sleep(1.1)
    second = page.get("/api/runs").json
    assert first["store_seen"] != second["store_seen"]
    assert first["version"] == second["version"]
    assert f'data-version="{first["version"]}"' in page.get("/runs").get_data(as_text=True)
    tag(world, made, 0)
    assert page.get("/api/runs").json["version"] != first["version"]


def test_browsers_poll_often_while_something_is_written_and_rarely_otherwise(world):
    page, made = client(world.settings), new_run(world)
    assert page.get("/api/runs").json["ask_again_seconds"] == 3
    with lease(world.store, layout.run_lease(made.name), "x"):
        answer = page.get("/api/runs").json
        assert (answer["working"], answer["ask_again_seconds"]) == (True, 2)


# In the browser


@pytest.fixture
def watched(world, chromium):
    """Opens a page of the world above; every request scans the store and Solr."""
    contexts, complaints = [], []
    app = create_app(world.settings, {"REFRESH_SECONDS": 0})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def open_page(path="/runs", **options):
        context = chromium.new_context(
            base_url=f"http://127.0.0.1:{server.server_port}",
            viewport={"width": 1280, "height": 900},
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield SimpleNamespace(open=open_page, server=server, app=app)
    for context in contexts:
        context.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert complaints == []


@pytest.fixture
def often(monkeypatch):
    """Lets browsers ask every 0.3 seconds."""
    monkeypatch.setattr("search_ui.board.POLL_BUSY", 0.3)
    monkeypatch.setattr("search_ui.board.POLL_IDLE", 0.3)


def row(page, run, step: str) -> list[str]:
    """Return done, pending, failed of one step of a run, as the page shows them."""
    matching = page.locator(f"[id='run-{run.name}'] tr.step").filter(has=page.get_by_text(step, exact=True))
    return matching.locator("td.number").all_inner_texts()


def wait_for_row(page, run, step: str, *numbers: int) -> None:
    until = time.monotonic() + 60
    wanted = [str(n) for n in numbers]
    while row(page, run, step) != wanted:
        assert time.monotonic() < until, (row(page, run, step), wanted)
        page.wait_for_timeout(50)


def test_an_open_page_follows_a_run_that_is_tagged_and_indexed(watched, world, often, searchable):
    page = watched.open()
    page.evaluate("window.stayed = true")
    assert "No job is running" in page.locator("#board").inner_text()
    with lease(world.store, layout.run_lease(new_name := new_run(world).name), "x"):
        run = runs.open_run(world.store, new_name)
        page.locator(f"[id='run-{run.name}']").wait_for()
        page.locator(".working strong", has_text="tag").wait_for()
        wait_for_row(page, run, "tag", 0, 3, 0)
        for p in range(3):
            time.sleep(0.4)
            tag(world, run, p)
            wait_for_row(page, run, "tag", p + 1, 2 - p, 0)
        busy = page.locator(".working").inner_text()
        assert re.search(r"tag of small-trained-\w+: \d[\d,]* images/s, nearly done", busy), busy
        share = page.locator(f"[id='run-{run.name}'] .progress .done").first.get_attribute("width")
        assert share == "100.0%"
    page.locator(".working", has_text="No job is running").wait_for()
    wait_for_row(page, run, "index", 0, 3, 0)
    try:
        index_run(world.store, run.name, searchable.solr, world.settings.alias)
        wait_for_row(page, run, "index", 3, 0, 0)
        page.locator("a.chip").wait_for()
    finally:
        searchable.solr.delete_alias(world.settings.alias)
        searchable.solr.delete(run.name)
    assert page.evaluate("window.stayed"), "it was never loaded anew"


def test_a_real_job_is_watched_from_its_start_to_its_end(watched, world, often):
    dump = write_tiny_images(Path(world.store.root).with_name("tiny.bin"), 240)
    make_corpus(world.store, "tiny", dump, 20)
    tagger = load_model(world.store, "trained")
    corpus = open_corpus(world.store, "tiny")
    run = runs.Run("tiny", corpus.hash, "trained", tagger.hash, 0.4, list(tagger.classes), 240, 12, trees=10)
    page = watched.open()
    page.get_by_text("tinytags tag --corpus tiny --model NAME").wait_for()
    job = start("tag", "--corpus", "tiny", "--model", "trained", TINYTAGS_STORE=world.store.root)
    try:
        # It works for less time than a page may take to ask twice, so it is stopped while it works.
        while not world.store.exists(layout.run_manifest(run.name)):  # written under the lease
            assert job.poll() is None, "it ended before it worked"
            time.sleep(0.001)
        os.kill(job.pid, signal.SIGSTOP)
        working = page.get_by_text(f"process {job.pid}, since")
        working.wait_for()
        assert row(page, run, "tag") != ["12", "0", "0"]
    finally:
        os.kill(job.pid, signal.SIGCONT)
        finish(job)
    wait_for_row(page, run, "tag", 12, 0, 0)
    working.wait_for(state="detached")


def test_a_failure_appears_with_its_command_and_goes_when_it_is_mended(watched, world, often):
    run = new_run(world)
    tag(world, run, 0, 1)
    page = watched.open()
    wait_for_row(page, run, "tag", 2, 1, 0)
    record_failed(world.store, lambda p: layout.run_failed(run.name, p), {2: StoreError("is corrupt")}, set())
    page.get_by_text("Partition 2: is corrupt").wait_for()
    assert page.locator(".aside pre").inner_text().startswith("tinytags tag --corpus small --model trained")
    tag(world, run, 2)
    page.get_by_text("Partition 2: is corrupt").wait_for(state="detached")
    wait_for_row(page, run, "tag", 3, 0, 0)


def test_focus_and_selection_stay_while_numbers_change(watched, world, often):
    run = new_run(world)
    page = watched.open()
    link = page.locator(f"[id='run-{run.name}']").get_by_role("link", name="trained", exact=True)
    link.focus()
    tag(world, run, 0)
    wait_for_row(page, run, "tag", 1, 2, 0)
    assert link.evaluate("link => link === document.activeElement")


def test_the_page_shows_when_it_was_updated_and_when_the_server_does_not_answer(
    watched, world, often, monkeypatch
):
    page = watched.open()
    assert re.fullmatch(
        r"Updated (just now|\d s ago)\. The page updates itself\.", page.locator("#updated").inner_text()
    )
    page.route("**/api/runs", lambda route: route.abort())
    trouble = page.get_by_role("status")
    trouble.filter(has_text="does not answer").wait_for()
    page.wait_for_timeout(1500)
    assert int(re.search(r"Updated (\d+) s ago", page.locator("#updated").inner_text())[1]) >= 1
    page.unroute("**/api/runs")
    trouble.wait_for(state="hidden")
    page.locator("#updated", has_text="just now").wait_for()


def test_without_javascript_a_reload_shows_what_has_happened(watched, world):
    run = new_run(world)
    page = watched.open(java_script_enabled=False)
    assert row(page, run, "tag") == ["0", "3", "0"]
    assert re.fullmatch(
        r"As of \d\d:\d\d:\d\d UTC\. Reload the page to update it\.", page.locator("#updated").inner_text()
    )
    tag(world, run, 0, 1, 2)
    page.reload()
    assert row(page, run, "tag") == ["3", "0", "0"]


def test_names_with_markup_stay_text(watched, world):
    assert "<b>deer</b>" in CLASSES
    run = new_run(world)
    record_failed(
        world.store,
        lambda p: layout.run_failed(run.name, p),
        {1: StoreError("<img src=x onerror=alert(1)>")},
        set(),
    )
    page = watched.open()
    assert page.get_by_text("<img src=x onerror=alert(1)>").count() == 1
    assert page.locator("#board img").count() == 0
