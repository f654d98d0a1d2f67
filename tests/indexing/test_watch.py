"""Tests of `indexing.status` and its scans: the state of every step, in both stores, at the cost of what has changed."""

import json
import os
import shlex
import time
from collections import Counter

import pytest
from small_runs import ALIAS, make_run, write_tags
from small_world import make_corpus, run, write_tiny_images

from conf.errors import TinyTagsError
from indexing import folder_cache, watch_store
from indexing.index import index_run
from indexing.publishing import retire
from indexing.solr import Solr
from indexing.solr_errors import SolrError
from indexing.states import seconds_a_partition
from indexing.status import read_status, run_statuses
from indexing.watch_solr import SolrWatch
from indexing.watch_store import StoreWatch
from storage import layout, runs
from storage.finished import record_finished
from storage.lease import lease
from storage.local import LocalStore
from storage.store import StoreUnavailableError, open_store

NOBODY = Solr("http://127.0.0.1:1/solr", patience=0)


@pytest.fixture
def any_store(store_address):
    return open_store(*store_address)


@pytest.fixture
def requests(monkeypatch):
    """Counts the requests of a local store."""
    counter = Counter()

    def counting(name, original):
        def method(self, path, *args):
            counter[name, path] += 1
            return original(self, path, *args)

        return method

    for name in ("times", "list", "exists", "read_bytes"):
        monkeypatch.setattr(LocalStore, name, counting(name, getattr(LocalStore, name)))
    return counter


def fail(store, name, partition, error, **more):
    store.write_json(layout.run_failed(name, partition), {"partition": partition, "error": error, **more})


def only(statuses):
    (status,) = statuses
    return status


# The store


def test_a_scan_has_every_step_and_the_next_one_what_has_changed_since(any_store, tmp_path):
    corpus = make_corpus(any_store, "tiny", write_tiny_images(tmp_path / "tiny.bin", 100), 20)
    made = make_run(any_store, corpus_hash=corpus.hash, partitions=5, images=20)
    any_store.remove(layout.run_statistics(made.name, 3))
    any_store.remove(layout.run_statistics(made.name, 4))
    fail(any_store, made.name, 4, "is corrupt")
    watch = StoreWatch(any_store)
    stored = watch.scan()
    assert only(stored.corpora)["ingest"] == {"pending": 0, "done": 5, "failed": 0}
    status = only(stored.runs)
    assert status["tag"] == {"pending": 1, "done": 3, "failed": 1}
    assert status["problems"] == [{"step": "tag", "partition": 4, "error": "is corrupt"}]
    assert sorted(stored.expected[made.name].statistics) == [0, 1, 2]

    write_tags(any_store, made, 4, 20)
    again = watch.scan()
    status = only(again.runs)
    assert (status["tag"], status["problems"], status["redo"]) == (
        {"pending": 1, "done": 4, "failed": 0},
        [],
        [],
    )
    expected = again.expected[made.name]
    assert expected.count(4) == runs.read_statistics(any_store, made, 4)["tagged"]

    any_store.remove(layout.run_statistics(made.name, 0))
    assert only(watch.scan().runs)["tag"] == {"pending": 2, "done": 3, "failed": 0}
    any_store.remove_tree(layout.run_folder(made.name))
    assert watch.scan().runs == []


def test_what_is_at_rest_costs_one_request_a_scan_and_no_statistics_are_read_twice(
    store, tmp_path, requests, monkeypatch
):
    monkeypatch.setattr(folder_cache, "STABLE_SECONDS", 0.0)
    corpus = make_corpus(store, "tiny", write_tiny_images(tmp_path / "tiny.bin", 100), 20)
    made = make_run(store, corpus_hash=corpus.hash, partitions=5, images=20)
    watch = StoreWatch(store)
    watch.scan()
    requests.clear()
    watch.scan()
    at_rest = {
        ("times", path): 1
        for path in ("corpora", "runs", "annotations", "models", "corpora/tiny", f"runs/{made.name}")
    }
    assert requests == at_rest
    requests.clear()
    path = layout.run_statistics(made.name, 2)
    store.write_json(path, store.read_json(path) | {"tagged": 7})
    requests.clear()
    assert watch.scan().expected[made.name].count(2) == 7, "done again, it is read again"
    assert requests == at_rest | {("times", f"runs/{made.name}/statistics"): 1, ("read_bytes", path): 1}


def test_a_file_that_comes_within_one_tick_of_the_clock_is_seen_all_the_same(store, tmp_path):
    made = make_run(store, partitions=3)
    folder = tmp_path / "store" / "runs" / made.name / "statistics"
    missing = (folder / "00002.json").read_bytes()
    (folder / "00002.json").unlink()
    written = folder.stat().st_mtime_ns
    watch = StoreWatch(store)
    assert only(watch.scan().runs)["tag"]["done"] == 2
    (folder / "00002.json").write_bytes(missing)
    os.utime(folder, ns=(written, written))
    assert only(watch.scan().runs)["tag"]["done"] == 3


def test_another_corpus_under_the_same_name_is_seen_as_another_one(store, tmp_path):
    make_corpus(store, "tiny", write_tiny_images(tmp_path / "a.bin", 100), 20)
    watch = StoreWatch(store)
    first = only(watch.scan().corpora)
    store.remove_tree("corpora/tiny")
    make_corpus(store, "tiny", write_tiny_images(tmp_path / "b.bin", 60, seed=1), 20)
    second = only(watch.scan().corpora)
    assert (first["images"], second["images"]) == (100, 60)
    assert first["hash"] != second["hash"]
    assert second["ingest"] == {"pending": 0, "done": 3, "failed": 0}


def test_reading_that_runs_out_of_time_goes_on_at_the_next_call(store, monkeypatch):
    made = make_run(store, partitions=40, images=4)
    monkeypatch.setattr(watch_store, "THREADS", 1)  # eight files, then it checks the time
    watch = StoreWatch(store)
    stored = watch.scan(seconds=0)
    assert only(stored.runs)["tag"]["done"] == 40, "that is known from the names of files alone"
    assert (stored.expected[made.name], stored.read[made.name]) == (None, 0)
    assert only(run_statuses(stored, None))["index"] is None
    stored = watch.scan()
    assert stored.read[made.name] == 40
    assert len(stored.expected[made.name].statistics) == 40


def test_the_first_failures_are_named_with_their_reason_and_the_rest_counted(any_store):
    made = make_run(any_store, partitions=6, images=4)
    for p in range(1, 6):
        any_store.remove(layout.run_statistics(made.name, p))
        fail(any_store, made.name, p, f"reason {p}")
    any_store.write_bytes(layout.run_failed(made.name, 3), b"?")
    status = only(StoreWatch(any_store).scan().runs)
    assert status["tag"]["failed"] == 5
    assert [(problem["partition"], problem["error"]) for problem in status["problems"]] == [
        (1, "reason 1"), (2, "reason 2"), (3, watch_store.NO_REASON),
    ]  # fmt: skip
    assert status["redo"] == ["tinytags tag --corpus tiny --model forest-10 --min-confidence 0.4"]


def test_the_command_that_is_named_repairs_a_corpus(tmp_path):
    """A dump with labels and classes of its own: run as it stands, the command finds the very same corpus."""
    store = open_store(str(tmp_path / "store"))
    dump = write_tiny_images(tmp_path / "a folder" / "tiny images.bin", 100)
    classes = ["cat, tabby", "it's", "c", "d", "e", "f", "g", "h", "i", "j"]
    labels = str(dump.with_name("labels.bin"))
    make_corpus(store, "tiny", dump, 20, labels=labels, classes=classes)
    statistics = store.read_json(layout.corpus_statistics("tiny", 4))
    store.remove(layout.corpus_statistics("tiny", 4))
    store.write_json(layout.corpus_failed("tiny", 4), {"partition": 4, "error": "is truncated"})
    command = only(only(StoreWatch(store).scan().corpora)["redo"])
    store.write_json(
        layout.corpus_statistics("tiny", 4), statistics
    )  # so that there is nothing to start Spark for
    words = shlex.split(command)
    assert words[:2] == ["tinytags", "ingest"]
    out, _ = run(*words[1:], "--json", TINYTAGS_STORE=str(tmp_path / "store"))
    assert json.loads(out)["already_done"] == 5


def test_a_damaged_partition_of_the_corpus_is_ingested_again_before_the_run_is_tagged_again(store, tmp_path):
    corpus = make_corpus(store, "tiny", write_tiny_images(tmp_path / "tiny.bin", 60), 20)
    made = make_run(store, corpus_hash=corpus.hash, partitions=3, images=20)
    store.remove(layout.run_statistics(made.name, 1))
    fail(store, made.name, 1, "x.parquet: is corrupt", remedy="ingest")
    first, second = only(StoreWatch(store).scan().runs)["redo"]
    dump = store.read_json("corpora/tiny/manifest.json")["dump"]
    assert (
        first
        == f"tinytags ingest {dump} --corpus tiny --format tiny-images --partition-images 20 --partition 1"
    )
    assert second == "tinytags tag --corpus tiny --model forest-10 --min-confidence 0.4"


@pytest.mark.slow
def test_who_writes_how_fast_and_for_how_long_still_is_reported_while_it_lasts(any_store, tmp_path):
    corpus = make_corpus(any_store, "tiny", write_tiny_images(tmp_path / "tiny.bin", 100), 20)
    made = make_run(any_store, corpus_hash=corpus.hash, partitions=5, images=20)
    for p in range(5):
        any_store.remove(layout.run_statistics(made.name, p))
    watch = StoreWatch(any_store)
    assert only(watch.scan().runs)["working"] == []
    began = time.time()
    with lease(any_store, layout.run_lease(made.name), "x"):
        job = only(only(watch.scan().runs)["working"])
        assert (job["step"], job["unit"], job["pid"]) == ("tag", "images", os.getpid())
        assert (job["per_second"], job["seconds_left"]) == (None, None)
        written = []
        for p in range(3):
            time.sleep(0.7)
            write_tags(any_store, made, p, 20)
            written.append(time.time())
        least = time.time() - written[0]
        status = only(watch.scan().runs)
        job = only(status["working"])
        most = time.time() - began
        assert 0.5 * 60 / (most + 1.5) < job["per_second"] < 1.1 * 60 / least
        assert job["seconds_left"] == pytest.approx(2 * 20 / job["per_second"], rel=0.05)
    assert only(watch.scan().runs)["working"] == []
    with lease(any_store, layout.corpus_lease("tiny"), "x"):
        assert only(only(watch.scan().corpora)["working"])["step"] == "ingest"


def test_a_training_is_a_job_while_it_holds_the_lease_and_its_time_is_known_afterwards(any_store):
    watch = StoreWatch(any_store)
    with lease(any_store, layout.model_lease("forest"), "x"):
        for _ in range(2):
            status = only(watch.scan().models)
            assert [(job["step"], job["pid"]) for job in status["working"]] == [("train", os.getpid())]
            assert status["writer"]["pid"] == os.getpid() and status["finished"] == []
    assert watch.scan().models == [], "a killed training has left it"
    card = {"name": "forest", "created": "2026-11-26T18:40:00+00:00"}
    any_store.write_json(layout.model_card("forest"), card)
    assert only(watch.scan().models)["finished"] == []
    trained = {"trained_on": {"images": 400}, "seconds": {"fit": 2.0, "all": 3.5}}
    any_store.write_json(layout.model_card("forest"), card | trained)
    status = only(watch.scan().models)
    assert (status["writer"], status["working"]) == (None, [])
    assert status["finished"] == [
        {"step": "train", "ended": card["created"], "count": 400, "unit": "images", "seconds": 3.5, "per_second": 200.0}
    ]  # fmt: skip


def test_the_last_job_that_did_something_is_kept(store):
    made = make_run(store, partitions=1)
    watch = StoreWatch(store)
    assert only(watch.scan().runs)["finished"] == [], "an earlier version did it"
    folder = layout.run_folder(made.name)
    record_finished(store, folder, "index", 50, "documents", 2.0)
    record_finished(store, folder, "tag", 400, "images", 2.5, 200.04)
    record_finished(store, folder, "tag", 0, "images", 0.1)
    jobs = only(watch.scan().runs)["finished"]
    assert [(job["step"], job["count"], job["seconds"], job["per_second"]) for job in jobs] == [
        ("tag", 400, 2.5, 200.0),
        ("index", 50, 2.0, None),
    ]
    store.write_bytes(layout.finished(folder, "tag"), b"{")
    assert [job["step"] for job in only(watch.scan().runs)["finished"]] == ["index"]


def test_how_long_a_partition_takes_is_what_it_took_of_late():
    assert seconds_a_partition([], 0, 100) is None
    assert seconds_a_partition([5, 6, 7], 50, 100) is None, "an earlier job did those"
    assert seconds_a_partition([110], 100, 112) == 12
    steady = [100 + 2 * step for step in range(200)]
    assert seconds_a_partition(steady, 90, 498) == pytest.approx(2)
    assert seconds_a_partition(steady, 90, 499) == pytest.approx(2)
    slow_then_quick = [*range(0, 1000, 100), *range(1000, 1060)]
    assert seconds_a_partition(slow_then_quick, 0, 1060) == pytest.approx(1, rel=0.1)
    bursts = [10 * step + worker / 10 for step in range(1, 7) for worker in range(4)]
    assert seconds_a_partition(bursts, 0, 60.3) == pytest.approx(2.5, rel=0.15)
    first_burst = [110.0, 110.1, 110.1, 110.2]
    assert seconds_a_partition(first_burst, 100, 110.3) == pytest.approx(2.6, rel=0.1), "not 30 a second"
    halted = [seconds_a_partition(steady, 90, now) for now in (500, 560, 700, 2000)]
    assert halted == sorted(halted) and halted[-1] > 4


def test_a_store_that_is_unavailable_is_an_error_at_once_not_once_for_each_run(store, monkeypatch):
    for model in ("a", "b", "c"):
        make_run(store, model=model)
    watch = StoreWatch(store)
    watch.scan()

    def times(self, path):
        if path.startswith("runs/"):
            raise StoreUnavailableError("away")
        return original(self, path)

    original = LocalStore.times
    monkeypatch.setattr(LocalStore, "times", times)
    with pytest.raises(StoreUnavailableError):
        watch.scan()


def test_a_broken_statistics_file_is_reported_under_its_run_and_hides_no_other(store):
    broken, whole = make_run(store, model="a"), make_run(store, model="b")
    store.write_bytes(layout.run_statistics(broken.name, 1), b"{}")
    first, second = StoreWatch(store).scan().runs
    assert first["run"] == broken.name and "is not the statistics of partition 1" in first["error"]
    assert second["tag"]["done"] == whole.partitions and "error" not in second


# Solr


@pytest.fixture
def counted(monkeypatch):
    """Counts how often collections are counted."""
    counter, original = Counter(), Solr.counts

    def counts(self, collection, *args):
        counter[collection] += 1
        return original(self, collection, *args)

    monkeypatch.setattr(Solr, "counts", counts)
    return counter


@pytest.mark.services
@pytest.mark.parametrize("shards", [1, 2])
def test_what_solr_holds_is_reported_and_counted_again_only_when_it_has_changed(
    store, client, shards, counted
):
    made = make_run(store, partitions=4)
    watch, stored = SolrWatch(client, ALIAS), StoreWatch(store).scan()

    def status():
        return only(run_statuses(stored, watch.scan(stored.expected)))

    assert status()["index"] == {"pending": 4, "done": 0, "failed": 0, "documents": 0, "rejected": 0}
    index_run(store, made.name, client, ALIAS, shards=shards)
    total = sum(map(stored.expected[made.name].count, range(4)))
    counted.clear()
    whole = {"pending": 0, "done": 4, "failed": 0, "documents": total, "rejected": 0}
    for _ in range(3):
        assert (status()["index"], status()["published"]) == (whole, True)
    assert counted[made.name] == 1
    client.delete_partitions(made.name, [2])
    client.commit(made.name)
    gone = stored.expected[made.name].count(2)
    assert status()["index"] == whole | {"pending": 1, "done": 3, "documents": total - gone}
    retire(store, made.name, client, ALIAS, force=True)
    assert (status()["index"]["documents"], status()["published"]) == (0, False)
    index_run(store, made.name, client, f"{ALIAS}-other", shards=shards)
    assert (status()["index"], status()["published"]) == (whole, False)


@pytest.mark.services
def test_what_is_posted_but_not_committed_is_reported_while_somebody_indexes(store, client):
    made = make_run(store, partitions=4)
    watch, stored = SolrWatch(client, ALIAS), StoreWatch(store)
    client.create(made.name)
    with lease(store, layout.run_index_lease(made.name), "x"):
        seen = stored.scan()
        job = only(only(run_statuses(seen, watch.scan(seen.expected)))["working"])
        assert (job["step"], job["unit"], job["waiting"]) == ("index", "documents", 0)
        lines = store.read_bytes(layout.run_tags(made.name, 0)).splitlines()
        client.update(made.name, b"[" + b",".join(lines) + b"]")
        status = only(run_statuses(seen, watch.scan(seen.expected)))
        assert (only(status["working"])["waiting"], status["index"]["documents"]) == (len(lines), 0)
        client.commit(made.name)
        status = only(run_statuses(seen, watch.scan(seen.expected)))
        assert (only(status["working"])["waiting"], status["index"]["documents"]) == (0, len(lines))
        assert status["index"]["done"] == 1
        # Solr works its rates out every five seconds.
        until = time.monotonic() + 60
        while not job["per_second"]:
            assert time.monotonic() < until
            client.update(made.name, b"[" + b",".join(lines) + b"]")
            job = only(only(run_statuses(seen, watch.scan(seen.expected)))["working"])
        assert job["seconds_left"] >= 0


@pytest.mark.services
def test_rejected_documents_are_counted_with_solrs_reason_and_the_command(store, client):
    def spoil(partition, documents):
        if partition == 1:
            documents[3]["votes"] = "many"

    made = make_run(store, spoil=spoil)
    index_run(store, made.name, client, ALIAS)
    status = only(read_status(store, client, ALIAS)["runs"])
    assert (status["index"]["rejected"], status["index"]["done"]) == (1, 3)
    problem = only(status["problems"])
    assert (problem["step"], problem["partition"]) == ("index", 1)
    assert problem["error"].startswith("Solr rejected 1; the first: ") and "many" in problem["error"]
    assert status["redo"] == [status["redo_index"]] == [f"tinytags index {made.name} --partition 1"]


def test_a_solr_that_is_down_leaves_the_index_unknown_and_the_rest_known(store):
    make_run(store)
    read = read_status(store, NOBODY, ALIAS)
    assert "does not answer" in read["solr_error"]
    status = only(read["runs"])
    assert (status["index"], status["published"], status["tag"]["done"]) == (None, False, 3)
    with pytest.raises(SolrError):
        SolrWatch(NOBODY, ALIAS).scan([])


@pytest.mark.services
def test_a_run_that_was_not_requested_from_solr_is_not_reported_as_missing(store, client):
    make_run(store)
    stored = StoreWatch(store).scan()
    assert only(run_statuses(stored, SolrWatch(client, ALIAS).scan([])))["index"] is None


def test_a_store_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TinyTagsError, match="Not a directory"):
        read_status(open_store(str(tmp_path / "file")), NOBODY, ALIAS)
