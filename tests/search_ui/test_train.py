"""Tests of training from the page: labels, *Train on these*, what changes, and publishing, without a terminal."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import expect
from served import served
from small_world import PATIENCE, make_corpus, make_images

from conf.settings import Settings
from indexing.solr import Solr
from ingest.image import from_column_major
from records.corrections import Label, open_corrections
from search_ui import create_app
from search_ui.changes import compare_runs
from search_ui.suggestions import read_tags
from search_ui.training import TrainingRunsError, Trainings
from storage.runs import open_run
from storage.store import open_store

NAMES = ("heron", "owl", "robin")


@pytest.fixture
def world(tmp_path):
    """A corpus of three classes without labels, their numbers, and a database."""
    images, labels = make_images(800)
    few = labels < len(NAMES)
    dump = tmp_path / "birds.bin"
    dump.write_bytes(from_column_major(images[few]).tobytes())
    store = open_store(str(tmp_path / "store"))
    corpus = make_corpus(store, "birds", dump, 60)
    database = f"sqlite:///{tmp_path}/labels.db"
    return SimpleNamespace(store=store, corpus=corpus, labels=labels[few], database=database)


def settings_of(world, **more):
    return Settings(store=world.store.root, database=world.database, alias="birds", **more)


@pytest.mark.services
@pytest.mark.slow
def test_labels_become_a_published_run_in_the_browser_alone(solr, chromium, world):
    app = create_app(settings_of(world, solr=solr.url), {"CHECK_SECONDS": 0})
    client = Solr(solr.url, patience=60)
    with served(app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto("/label?corpus=birds&per_page=60")
        page.get_by_label("Classes, one a line").fill("\n".join(NAMES))
        page.get_by_role("button", name="Start").click()
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Your name").blur()
        places = page.locator("#to-label > li").evaluate_all(
            "all => all.map(one => 60 * Number(one.dataset.partition) + Number(one.dataset.row))"
        )
        for record in places:
            page.keyboard.press(str(world.labels[record] + 1))
        page.get_by_role("button", name="Train on these").click()
        page.wait_for_url("**/runs#training")
        expect(page.locator("#training")).to_contain_text("started by Ada")
        training = wait_for_end(app)
        assert training.result, list(training.lines)
        page.get_by_role("link", name="See what changes").click()
        assert f"no run of {world.corpus.name}" in page.locator("main").inner_text()
        page.get_by_role("button", name="Publish").click()
        page.wait_for_url("**/")
        assert page.locator("#total strong").inner_text() == str(world.corpus.images)
        page.goto("/label")
        listed = page.locator("#to-label > li").evaluate_all(
            "all => all.map(one => 60 * Number(one.dataset.partition) + Number(one.dataset.row))"
        )
        assert 0 < len(listed) <= 30 and not set(listed) & set(places), "the least certain without a label"
    run = open_run(world.store, training.result["run"])
    tags = {
        60 * d["partition"] + d["row"]: d["tag"]
        for p in range(run.partitions)
        for d in read_tags(world.store, run, p)
    }
    others = [record for record in tags if record not in places]
    right = np.mean([tags[record] == NAMES[world.labels[record]] for record in others])
    assert len(tags) == world.corpus.images and right > 0.55, "chance would be a third"
    assert training.result["corrections"] == 60 and client.alias("birds") == [run.name]
    client.delete_alias("birds")
    client.delete(run.name)


def wait_for_end(app):
    """Wait for the training of an application, and return it."""
    training = app.extensions["tinytags"].trainings.last()
    assert training.ended.wait(PATIENCE)
    return training


@pytest.mark.slow
def test_one_training_runs_at_a_time_and_can_be_stopped(world):
    trainings = Trainings(settings_of(world))
    training = trainings.start("birds", "Ada")
    with pytest.raises(TrainingRunsError):
        trainings.start("birds", "Bob")
    trainings.stop()
    training.ended.wait(PATIENCE)
    assert training.stopped and training.process.returncode == 130 and training.result is None


@pytest.mark.slow
def test_a_training_ends_with_a_server_that_is_killed(world):
    code = (
        "import sys, time; from conf.settings import Settings; from search_ui.training import Trainings\n"
        "training = Trainings(Settings(store=sys.argv[1], database=sys.argv[2])).start('birds', 'Ada')\n"
        "print(training.process.pid, flush=True); time.sleep(1000)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, world.store.root, world.database], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    child = int(server.stdout.readline())
    server.send_signal(signal.SIGKILL)
    server.communicate()
    until = time.monotonic() + PATIENCE
    while is_running(child):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_failed_training_shows_why(world):
    class Failed:
        pid, stdin = 0, None

    app = create_app(settings_of(world, solr="http://127.0.0.1:1/solr"))
    page = app.test_client()
    assert page.get("/api/runs").json["training"] is None
    from search_ui.training import Training

    training = Training("birds", "Ada", Failed())
    training.lines.append("tinytags: too few labels in /home/ada/labels.db")
    training.seconds = 1.0
    training.ended.set()
    app.extensions["tinytags"].trainings._last = training
    html = page.get("/runs").text
    assert "<strong>Failed</strong>" in html and "too few labels" in html and "/home/ada" not in html
    state = page.get("/api/runs").json["training"]
    assert (state["running"], state["run"], state["by"]) == (False, None, "Ada")


@pytest.mark.parametrize(
    ("allowed", "address", "status"),
    [("no", "10.1.2.3", 403), ("no", "127.0.0.1", 404), ("yes", "10.1.2.3", 404)],
)
def test_strangers_start_no_jobs(world, allowed, address, status):
    app = create_app(settings_of(world, solr="http://127.0.0.1:1/solr", page_jobs=allowed))
    page, here = app.test_client(), {"environ_overrides": {"REMOTE_ADDR": address}}
    for path, form in (("/train", {"corpus": "none"}), ("/publish", {"run": "none"})):
        assert page.post(path, data=form, **here).status_code == status
    assert (
        page.post("/train", data={"corpus": "birds"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )
    assert ("Train on these" in page.get("/label?class=owl&corpus=birds", **here).text) == (status == 404)
    assert app.extensions["tinytags"].trainings.last() is None


def test_nothing_is_compared_trained_or_published_while_solr_can_not_state_what_is_shown(library, tmp_path):
    settings = Settings(
        store=library.store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{tmp_path}/labels.db"
    )
    app = create_app(settings)
    page, run = app.test_client(), library.second.name
    assert page.get(f"/changes?run={run}").status_code == 503, "not: no run is shown"
    assert page.post("/publish", data={"run": run}).status_code == 503, (
        "the run shown now would stay beside it"
    )
    assert page.post("/train", data={"corpus": "small"}).status_code == 503
    assert app.extensions["tinytags"].trainings.last() is None
    assert page.get("/label?corpus=small").status_code == 200


def test_what_changes_is_counted_image_by_image(library):
    tags = [
        {(d["partition"], d["row"]): d["tag"] for d in library.documents[run.name]}
        for run in (library.first, library.second)
    ]
    labels = dict.fromkeys(range(0, 700, 7), "frog")
    comparison = compare_runs(library.store, library.corpus, library.first, library.second, labels)
    every = tags[0].keys() | tags[1].keys()
    assert comparison.images == 700
    assert comparison.changed == sum(tags[0].get(place) != tags[1].get(place) for place in every) > 0
    before, after = (Counter(of_run.values()) for of_run in tags)
    assert {name: (old, new) for name, old, new in comparison.counts} == {
        name: (before[name], after[name]) for name in before | after
    }
    assert sum(count for *_, count in comparison.moves) <= comparison.changed
    for agreement, of_run in zip((comparison.before, comparison.after), tags, strict=True):
        right = sum(of_run.get(divmod(record, 300)) == "frog" for record in labels)
        assert (agreement.right, agreement.images) == (right, 100)
    assert all(
        tags[0].get((one.partition, one.row)) == one.before != one.after for one in comparison.examples
    )
    alone = compare_runs(library.store, library.corpus, None, library.second, {})
    assert (alone.changed, alone.before, alone.moves) == (0, None, [])


@pytest.mark.services
def test_a_run_is_compared_with_the_one_that_is_shown_and_takes_its_place(page, show, searchable, settings):
    labelled = Label(searchable.corpus, 0, 1, "frog")
    corrections = open_corrections(settings.database)
    added = corrections.add_many([labelled], "Ada")
    html = page.get(f"/changes?run={searchable.second.name}").text
    assert (
        searchable.first.name in html and "Most frequent changes" in html and "Agreement with labels" in html
    )
    corrections.undo_many(added)
    show(searchable.first)
    assert page.post("/publish", data={"run": searchable.second.name}).status_code == 303
    assert searchable.solr.alias("search-ui") == [searchable.second.name]
    assert page.get(f"/changes?run={searchable.network.name}").status_code == 200, (
        "its model is not in the store"
    )
    assert page.get("/changes?run=none").status_code == 404
    assert page.get("/changes?run=a&run=b").status_code == 400
