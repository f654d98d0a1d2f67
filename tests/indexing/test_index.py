"""Tests of `indexing.index` on a real Solr: what is in the index at the end, whatever happens on the way."""

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import ALIAS, documents, indexed, make_corpus, make_run, write_tags
from small_world import wait_until

from conf.errors import LeaseHeldError, TinyTagsError
from indexing import posting, publishing, solr
from indexing.expected import read_expected
from indexing.index import index_run
from indexing.publishing import publish, retire
from indexing.solr import Solr
from indexing.solr_errors import BodyTooLargeError, RefusedError, SolrError
from indexing.verify import verify_run
from storage import layout
from storage.documents import rejected_partitions
from storage.lease import lease
from storage.local import LocalStore
from storage.store import StoreError, open_store, temporary_path

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_bodies(monkeypatch):
    """Make bodies and groups so small that a run of some thousand documents has many of both."""
    monkeypatch.setattr(posting, "BODY_BYTES", 30_000)
    monkeypatch.setattr(posting, "GROUP_DOCUMENTS", 600)


def files(store, run):
    """Return all files of a run but those that say when a job finished."""
    root = Path(store.url(f"runs/{run.name}"))
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.endswith("-finished.json")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def change(client, run, *commands):
    """Post a document or a command to a run's collection, and let it be seen."""
    for command in commands:
        client.update(run.name, json.dumps(command).encode())
    client.commit(run.name)


# The plain way


def test_a_run_ends_in_the_index_as_it_was_tagged_and_the_alias_shows_it(store, client, small_bodies):
    run = make_run(store, partitions=5)
    lines = documents(store, run)
    summary = index_run(store, run.name, client, ALIAS)
    assert indexed(client, run) == lines
    assert client.alias(ALIAS) == [run.name]
    assert summary.pop("seconds") > 0
    assert summary == {
        "run": run.name, "partitions": 5, "posted": [0, 1, 2, 3, 4], "done": 5, "untagged": [], "failed": [],
        "documents": len(lines), "rejected": 0, "complete": True, "left": [], "alias": ALIAS, "previous": [],
        "published": True,
    }  # fmt: skip
    again = index_run(store, run.name, client, ALIAS)
    assert (again["posted"], again["documents"], again["previous"]) == ([], len(lines), [run.name])
    assert not store.exists(layout.run_index_lease(run.name))


def test_documents_come_through_byte_for_byte_whatever_is_in_their_text(store, client):
    tags = ['a "quoted" tag', "back\\slash", "line\nbreak", "é漢字😀", "comma,[{}]", "\u2028"]

    def spoil(partition, lines):
        for tag, document in zip(tags, lines, strict=False):
            document["tag"] = tag

    run = make_run(store, partitions=1, spoil=spoil)
    index_run(store, run.name, client, ALIAS)
    assert indexed(client, run) == documents(store, run)
    assert {d["tag"] for d in indexed(client, run).values()} >= set(tags)


def test_two_shards_end_the_same(store, client, small_bodies):
    def spoil(partition, lines):
        if partition == 2:
            lines[7]["votes"] = "x"

    run = make_run(store, partitions=4, spoil=spoil)
    summary = index_run(store, run.name, client, ALIAS, shards=2)
    assert (summary["rejected"], summary["complete"]) == (1, True)
    wanted = {key: d for key, d in documents(store, run).items() if d["votes"] != "x"}
    assert indexed(client, run) == wanted
    assert index_run(store, run.name, client, ALIAS)["posted"] == [], "the shards there are will do"
    with pytest.raises(
        TinyTagsError, match=rf"on 2 shards, not 3; drop it with `tinytags retire {run.name}`"
    ):
        index_run(store, run.name, client, ALIAS, shards=3)


def test_a_partition_without_a_tagged_image_is_done(store, client):
    run = make_run(store, partitions=2, spoil=lambda p, lines: lines.clear() if p == 0 else None)
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["complete"], summary["posted"]) == (True, [1])


def test_a_dry_run_prints_and_writes_nothing(store, client):
    run = make_run(store)
    before = files(store, run)
    plan = index_run(store, run.name, client, ALIAS, dry_run=True)
    assert (plan["post"], plan["documents"], plan["publish"]) == ([0, 1, 2], len(documents(store, run)), True)
    assert not client.exists(run.name)
    assert client.alias(ALIAS) == []

    index_run(store, run.name, client, ALIAS, publication="no")
    change(client, run, {"delete": {"query": "partition:1 AND tag:dog"}}, [stranger(run, 2)])
    held = indexed(client, run)
    plan = index_run(store, run.name, client, ALIAS, dry_run=True)
    assert (plan["done"], plan["post"], plan["delete"]) == (1, [1, 2], [2])
    plan = index_run(store, run.name, client, ALIAS, dry_run=True, partitions=[0])
    assert (plan["post"], plan["delete"]) == ([0], [])
    assert indexed(client, run) == held
    assert client.alias(ALIAS) == []
    assert files(store, run) == before


def stranger(run, partition):
    """Return a document that no run has."""
    return {"id": f"ffffffff:{partition}:1", "partition": partition, "row": 1, "tag": "frog", "run": run.name}


# Refused documents


def test_a_document_that_solr_rejects_is_kept_with_its_reason_and_the_others_are_indexed(
    store, client, small_bodies
):
    def spoil(partition, lines):
        if partition == 1:
            lines[7]["votes"] = "x"
            lines[100]["colour"] = "green"
            lines[-1]["tag"] = "x" * 40_000

    run = make_run(store, spoil=spoil)
    lines = documents(store, run)
    refused = [d for d in lines.values() if d["votes"] == "x" or "colour" in d or len(d["tag"]) > 1000]
    assert len(refused) == 3
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["rejected"], summary["complete"], summary["published"]) == (3, True, True)
    assert indexed(client, run) == {d["id"]: d for d in lines.values() if d not in refused}
    rejected = list(map(json.loads, store.read_lines(layout.run_rejected(run.name, 1))))
    key = {d["id"]: d for d in refused}
    assert {r["document"]["id"]: r["document"] for r in rejected} == key
    assert all(r["document"]["id"] in r["reason"] for r in rejected)
    assert rejected_partitions(store, run) == [1]

    leftover = temporary_path(layout.run_rejected(run.name, 1))
    store.write_bytes(leftover, b"of a killed writer")
    assert index_run(store, run.name, client, ALIAS)["posted"] == [], "what was refused is not tried for ever"
    assert not store.exists(leftover)
    again = index_run(store, run.name, client, ALIAS, partitions=[1])
    assert (again["posted"], again["rejected"], again["complete"]) == ([1], 3, True)


def test_a_body_that_is_too_large_for_a_proxy_is_halved_and_the_size_that_worked_is_kept(
    store, client, monkeypatch
):
    monkeypatch.setattr(posting, "BODY_BYTES", 60_000)
    sizes = []

    def limit(self, collection, body):
        """As a proxy does that takes 20,000 bytes."""
        sizes.append(len(body))
        if len(body) > 20_000:
            raise BodyTooLargeError("413 Request Entity Too Large", "too large")
        real(self, collection, body)

    real = Solr.update
    run = make_run(store, partitions=4)
    monkeypatch.setattr(Solr, "update", limit)
    summary = index_run(store, run.name, client, ALIAS, threads=1)
    assert (summary["rejected"], summary["complete"]) == (0, True)
    assert indexed(client, run) == documents(store, run)
    assert sum(size > 20_000 for size in sizes) <= 9 < len(sizes), "only the first bodies are too large"
    assert max(sizes[-10:]) <= 20_000


def test_a_collection_made_anew_has_refused_nothing_yet(store, client):
    def spoil(partition, lines):
        if partition == 0:
            lines[:] = [lines[0] | {"votes": "x"}]

    run = make_run(store, spoil=spoil)
    index_run(store, run.name, client, ALIAS, publication="no")
    retire(store, run.name, client, ALIAS)
    write_tags(store, run, 0, 500)  # as if the cause had been fixed
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["rejected"], summary["complete"]) == (0, True)
    assert indexed(client, run) == documents(store, run)


def test_when_nearly_everything_is_refused_it_is_not_the_documents(store, client, monkeypatch):
    monkeypatch.setattr(posting, "MOST_REJECTED", 20)
    run = make_run(store, partitions=1, spoil=lambda p, lines: [d.update(colour="green") for d in lines])
    with pytest.raises(
        SolrError, match=r"rejects nearly every document .*unknown field 'colour'.*tinytags retire"
    ):
        index_run(store, run.name, client, ALIAS)
    assert rejected_partitions(store, run) == []
    assert client.alias(ALIAS) == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('<field name="label" type="string" indexed="true"/>', "", "is missing"),
        ('name="row" type="int"', 'name="row" type="float"', "is defined otherwise"),
    ],
)
def test_a_collection_with_other_fields_is_refused_before_the_first_document(
    store, client, tmp_path, monkeypatch, old, new, what
):
    run = make_run(store, partitions=1)
    configset = tmp_path / "configset"
    configset.mkdir()
    with monkeypatch.context() as before:
        for file in solr.CONFIGSET.iterdir():
            text = file.read_text()
            assert file.name != "schema.xml" or old in text
            (configset / file.name).write_text(text.replace(old, new))
        before.setattr(solr, "CONFIGSET", configset)
        solr.configset_name.cache_clear()
        client.create(run.name)
    solr.configset_name.cache_clear()
    with pytest.raises(
        TinyTagsError, match=f"another version of TinyTags.* {what}; .*tinytags retire {run.name}"
    ):
        index_run(store, run.name, client, ALIAS, publication="live")
    client.commit(run.name)
    assert client.counts(run.name) == {}
    assert client.alias(ALIAS) == []


def test_a_run_of_which_everything_is_refused_does_not_take_the_place_of_another(store, client):
    published = make_run(store)
    index_run(store, published.name, client, ALIAS)

    def spoil(partition, lines):
        for document in lines:
            document["votes"] = "x"

    run = make_run(store, model="refused", partitions=2, images=100, spoil=spoil)
    for _ in range(2):  # nor when it is repeated, and everything is known to be rejected
        with pytest.raises(SolrError, match=r"rejects all .* documents of"):
            index_run(store, run.name, client, ALIAS)
        assert client.alias(ALIAS) == [published.name]


def test_a_tags_file_that_has_changed_is_named_and_left_out(store, client):
    run = make_run(store)
    lines = documents(store, run)
    for p, end in ((0, b'{"id":"new"}\n'), (2, b"")):
        data = store.read_bytes(layout.run_tags(run.name, p))
        store.write_bytes(layout.run_tags(run.name, p), data.replace(b"frog", b"frug") + end)
    summary = index_run(store, run.name, client, ALIAS)
    assert [failed["partition"] for failed in summary["failed"]] == [0, 2]
    assert all(
        f"{failed['partition']:05d}.jsonl: has changed since it was tagged" in failed["error"]
        and f"tinytags verify {run.name} --repair" in failed["error"]
        for failed in summary["failed"]
    )
    assert (summary["complete"], summary["published"]) == (False, False)
    assert indexed(client, run) == {key: d for key, d in lines.items() if d["partition"] == 1}
    store.remove(layout.run_tags(run.name, 2))
    assert "00002.jsonl: is missing" in index_run(store, run.name, client, ALIAS)["failed"][1]["error"]


def test_a_redone_partition_whose_tags_file_has_changed_keeps_its_documents(store, client):
    run = make_run(store)
    index_run(store, run.name, client, ALIAS)
    held = indexed(client, run)
    store.write_bytes(layout.run_tags(run.name, 1), b"")
    summary = index_run(store, run.name, client, ALIAS, partitions=[1])
    assert [failed["partition"] for failed in summary["failed"]] == [1]
    assert (summary["posted"], summary["complete"]) == ([], False)
    assert indexed(client, run) == held


# Killed, and repeated

CHILD = """
import os, signal, sys, threading
from indexing import index, posting, solr
from storage.local import LocalStore
from storage.store import open_store

root, run, url, alias, owner, method, count, when, *redo = sys.argv[1:]
posting.BODY_BYTES, posting.GROUP_DOCUMENTS = 30_000, 600
owner = {"Solr": solr.Solr, "Store": LocalStore}[owner]
original, left, lock = getattr(owner, method), [int(count)], threading.Lock()

def killing(*args, **options):
    with lock:
        left[0] -= 1
        mine = left[0] == 0  # others may call it before this one ends
    if mine and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        return original(*args, **options)
    finally:  # it may be refused
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, method, killing)
index.index_run(open_store(root), run, solr.Solr(url), alias, partitions=[int(p) for p in redo] or None)
"""


def settled_counts(client, run):
    """Return the counts when they no longer change: a request outlives who sent it, and Solr goes on with it."""
    counts = None
    for _ in range(20):
        client.commit(run.name)
        before, counts = counts, client.counts(run.name)
        if counts == before:
            return counts
        time.sleep(0.5)
    raise AssertionError(f"the counts of {run.name} still change: {counts}")


def index_until_killed(store, run, client, *arguments):
    """Index in a process that kills itself: arguments are owner, method, count and when, then partitions to redo."""
    arguments = [store.root, run.name, client.url, ALIAS, *arguments]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    assert child.returncode == -9, child.stderr.decode()


@pytest.mark.parametrize(
    ("owner", "method", "count", "when"),
    [
        ("Solr", "create", 1, "before"),
        ("Solr", "create", 1, "after"),
        ("Solr", "update", 1, "before"),
        ("Solr", "update", 4, "after"),
        ("Solr", "update", 25, "before"),
        ("Solr", "commit", 2, "before"),  # the first one comes before all documents
        ("Solr", "commit", 3, "after"),
        ("Store", "write_bytes", 1, "before"),  # the documents that were refused
        ("Store", "write_bytes", 1, "after"),
        ("Solr", "set_alias", 1, "before"),
        ("Solr", "set_alias", 1, "after"),
    ],
)
def test_killed_at_any_moment_and_repeated_it_ends_the_same(
    store, client, small_bodies, owner, method, count, when
):
    def spoil(partition, lines):
        if partition == 3:
            lines[5]["votes"] = "x"

    run = make_run(store, partitions=12, images=200, spoil=spoil)
    lines = documents(store, run)
    index_until_killed(store, run, client, owner, method, str(count), when)

    left = list(range(12))
    if client.exists(run.name):
        left = read_expected(store, run).pending(settled_counts(client, run))
    summary = index_run(store, run.name, client, ALIAS)
    assert summary["posted"] == left, "only what was not finished is done again"
    if method == "commit" and count == 3:
        assert len(left) < 12
    if method == "set_alias":
        assert left == []
    assert (summary["complete"], summary["published"], summary["rejected"]) == (True, True, 1)
    assert indexed(client, run) == {key: d for key, d in lines.items() if d["votes"] != "x"}
    rejected = list(map(json.loads, store.read_lines(layout.run_rejected(run.name, 3))))
    assert [r["document"] for r in rejected] == [d for d in lines.values() if d["votes"] == "x"]
    assert client.alias(ALIAS) == [run.name]


@pytest.fixture
def published(store, client, small_bodies):
    """A published run with surplus documents, and an older version of one that Solr rejects; and what it should hold."""

    def spoil(partition, lines):
        if partition == 2:
            lines[5]["votes"] = "x"

    run = make_run(store, partitions=4, images=200, spoil=spoil)
    index_run(store, run.name, client, ALIAS)
    wanted = indexed(client, run)
    rejected = next(d for d in documents(store, run).values() if d["votes"] == "x")
    surplus = [stranger(run, 1), stranger(run, 2), stranger(run, 17), {"id": "lost", "run": run.name}]
    change(client, run, [*surplus, rejected | {"votes": 5}])
    return run, wanted


@pytest.mark.parametrize(
    ("method", "count", "when"), [("update", 3, "after"), ("delete_versions", 1, "after")]
)
def test_a_published_run_whose_redo_is_killed_holds_all_its_documents(
    store, client, published, method, count, when
):
    run, wanted = published
    index_until_killed(store, run, client, "Solr", method, str(count), when, "1", "2", "3")
    settled_counts(client, run)
    assert wanted.items() <= indexed(client, run).items()
    assert index_run(store, run.name, client, ALIAS)["complete"]
    assert indexed(client, run) == wanted


def test_a_redo_holds_all_documents_after_each_request_and_repeated_requests_change_nothing(
    store, client, published, monkeypatch
):
    run, wanted = published
    bodies, lock, original = [], threading.Lock(), Solr.update

    def update(self, collection, body):
        with lock:
            bodies.append(body)
            try:
                original(self, collection, body)
            finally:  # here it may be killed, and the next who comes commits
                client.commit(run.name)
                assert wanted.items() <= indexed(client, run).items()

    with monkeypatch.context() as during:
        during.setattr(Solr, "update", update)
        index_run(store, run.name, client, ALIAS, partitions=[1, 2, 3])
        assert index_run(store, run.name, client, ALIAS)["complete"]
    assert indexed(client, run) == wanted
    deletes = [body for body in bodies if body.startswith(b'{"delete"')]
    assert len(deletes) == 4  # of partitions 1, 2 and 17, and those without one
    for body in [*bodies, *reversed(bodies)]:  # as a client that has timed out sends them again
        with contextlib.suppress(RefusedError):
            original(client, run.name, body)
    client.commit(run.name)
    assert indexed(client, run) == wanted


@pytest.mark.parametrize(
    ("owner", "method", "count"),
    [
        (posting, "_post_body", 1),
        (posting, "_bisect_rejected", 1),  # documents were rejected: their list comes next
        (Solr, "counts", 2),  # surplus is deleted next
        (Solr, "counts", 4),  # the alias is moved next
    ],
)
def test_a_writer_that_stalls_and_comes_back_writes_nothing_beside_its_successor(
    store, client, published, monkeypatch, owner, method, count
):
    run, wanted = published
    client.set_alias(ALIAS, [client.create(f"{ALIAS}-other") or f"{ALIAS}-other"])
    left, written, original = [count], [], getattr(owner, method)

    def stalling(*args):
        result = original(*args)
        left[0] -= 1
        if left[0] == 0:
            path = layout.run_index_lease(run.name)
            store.write_json(path, store.read_json(path) | {"token": "the successor's"})
        return result

    def recording(name, write):
        def record(self, first, *args):
            if left[0] <= 0:
                written.append((name, first))
            return write(self, first, *args)

        return record

    monkeypatch.setattr(owner, method, stalling)
    for kind, name in (
        (Solr, "update"),
        (Solr, "set_alias"),
        (LocalStore, "write_bytes"),
        (LocalStore, "remove"),
    ):
        monkeypatch.setattr(kind, name, recording(name, getattr(kind, name)))
    with pytest.raises(LeaseHeldError):
        index_run(store, run.name, client, ALIAS, threads=1)
    kinds = ("update", "set_alias")
    assert [name for name, first in written if name in kinds or "/rejected/" in first] == []
    assert client.alias(ALIAS) == [f"{ALIAS}-other"]
    assert wanted.items() <= indexed(client, run).items()

    monkeypatch.undo()
    store.remove(layout.run_index_lease(run.name))
    assert index_run(store, run.name, client, ALIAS)["complete"]
    assert indexed(client, run) == wanted


def test_part_of_a_partition_is_never_counted_as_all_of_it_because_of_an_old_list_of_rejected_documents(
    store, client, small_bodies, monkeypatch
):
    """Killed while a partition is posted again, with exactly as many documents missing as were once rejected."""

    def spoil(partition, lines):
        if partition == 0:
            for document in lines[-10:]:
                document["votes"] = "x"

    run = make_run(store, partitions=1, spoil=spoil)
    assert index_run(store, run.name, client, ALIAS)["rejected"] == 10
    write_tags(store, run, 0, 500)
    lines = documents(store, run)

    class KilledError(BaseException):
        pass

    def killed(solr, collection, body, size, check_lease):
        part = b"".join(piece for _, piece in body).splitlines()[:-10]
        solr.update(collection, b"[" + b",".join(part) + b"]")
        raise KilledError

    with monkeypatch.context() as during:
        during.setattr(posting, "BODY_BYTES", 10_000_000)
        during.setattr(posting, "_post_body", killed)
        with pytest.raises(KilledError):
            index_run(store, run.name, client, ALIAS, partitions=[0])
    client.commit(run.name)
    assert len(indexed(client, run)) == len(lines) - 10
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["posted"], summary["rejected"]) == ([0], 0)
    assert indexed(client, run) == lines


@pytest.fixture
def own_solr(tmp_path_factory):
    """A Solr that a test may stop and kill."""
    from operations.services import Solr as Service
    from operations.services import free_port

    service = Service(tmp_path_factory.mktemp("own-solr"), port=free_port(1000), heap="512m", light=True)
    service.start()
    yield service
    service.kill()


def test_solr_that_is_killed_in_the_middle_and_comes_back_is_waited_for(
    store, own_solr, small_bodies, monkeypatch
):
    """It also starts although a collection was half created when it was killed."""
    run = make_run(store, partitions=10)
    posted, halfway, original, summaries = [], threading.Event(), Solr.update, []

    def update(self, collection, body):
        original(self, collection, body)
        posted.append(body)
        if len(posted) == 10:
            halfway.set()
        time.sleep(0.02)

    client = Solr(own_solr.url)
    client.create("half")
    monkeypatch.setattr(Solr, "update", update)
    thread = threading.Thread(target=lambda: summaries.append(index_run(store, run.name, client, "own")))
    thread.start()
    assert halfway.wait(60)
    own_solr.kill()
    assert thread.is_alive()
    (folder,) = (own_solr.directory / "home").glob("half_*")
    shutil.rmtree(folder)
    own_solr.start()
    thread.join(120)
    assert summaries[0]["complete"]
    assert indexed(client, run) == documents(store, run)
    assert client.exists("half")
    client.delete("half")


@pytest.mark.parametrize("by", ["index", "create"])
def test_a_half_created_collection_is_created_again_unless_an_alias_shows_it(store, client, monkeypatch, by):
    monkeypatch.setattr(solr, "CREATE_SECONDS", 0.5)
    run = make_run(store)
    client.create("configset")
    wanted = {"collection.configName": solr.configset_name(), "numShards": 1, "createNodeSet": "EMPTY"}
    client._admin("collections", action="CREATE", name=run.name, **wanted)
    client.set_alias("shows-it", [run.name])
    assert not client._is_half_created(run.name, new=True)
    client.delete_alias("shows-it")
    if by == "create":  # a command that Solr left in the middle of CREATE sends it again
        client.create(run.name)
        assert client.counts(run.name) == {}
    assert index_run(store, run.name, client, ALIAS, publication="no")["complete"]
    assert indexed(client, run) == documents(store, run)
    client.delete("configset")


def test_only_a_new_collection_is_half_created_where_its_replica_is_down(monkeypatch):
    """Of an older one the index may only not be open yet. The description is Solr's after a kill in the middle of CREATE."""
    replicas = {"core_node2": {"core": "run2_shard1_replica_n1", "state": "down"}}
    client = Solr("http://127.0.0.1:1/solr")
    monkeypatch.setattr(client, "aliases", dict)
    monkeypatch.setattr(client, "describe", lambda _: {"shards": {"shard1": {"replicas": replicas}}})
    assert client._is_half_created("run2", new=True)
    assert not client._is_half_created("run2", new=False)
    replicas["core_node2"]["state"] = "active"
    assert not client._is_half_created("run2", new=True)


def test_interrupted_while_solr_is_unavailable_it_ends_at_once(store, client, small_bodies, monkeypatch):
    run = make_run(store)
    client.create(run.name)
    original = posting._bodies

    def interrupted(*args):
        yield next(original(*args))
        time.sleep(0.5)
        raise KeyboardInterrupt

    def update(self, collection, body):
        return self._request("nowhere", body=body)

    monkeypatch.setattr(Solr, "update", update)
    monkeypatch.setattr(posting, "_bodies", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        index_run(store, run.name, client, ALIAS)
    assert time.monotonic() - began < 30, "its patience is twice as long"
    assert not store.exists(layout.run_index_lease(run.name))


# An index that isn't as it should be


def test_missing_and_extra_documents_are_repaired(store, client):
    run = make_run(store, partitions=5)
    index_run(store, run.name, client, ALIAS)
    lines = documents(store, run)
    foreign = [stranger(run, 17), {"id": "lost", "run": run.name}]
    change(client, run, {"delete": {"query": "partition:1 AND tag:dog"}}, [stranger(run, 3)], foreign)
    summary = index_run(store, run.name, client, ALIAS)
    assert summary["posted"] == [1, 3]
    assert (summary["complete"], summary["documents"]) == (True, len(lines))
    assert indexed(client, run) == lines


def test_a_missing_and_an_extra_document_of_one_partition_are_repaired_by_repeating_it(store, client):
    run = make_run(store)
    index_run(store, run.name, client, ALIAS)
    lines = documents(store, run)
    gone = next(key for key, d in lines.items() if d["partition"] == 1)
    change(client, run, {"delete": {"id": gone}}, [stranger(run, 1)])
    assert index_run(store, run.name, client, ALIAS)["posted"] == [], "the counts agree"
    summary = index_run(store, run.name, client, ALIAS, partitions=[1])
    assert summary["posted"] == [1]
    assert indexed(client, run) == lines


def test_missing_and_superfluous_at_once_are_found_out_after_posting(store, client):
    run = make_run(store)
    index_run(store, run.name, client, ALIAS)
    lines = documents(store, run)
    gone = [key for key, d in lines.items() if d["partition"] == 1][:5]
    change(
        client, run, {"delete": gone}, [stranger(run, 1)]
    )  # fewer than it should have, one of them a stranger
    assert index_run(store, run.name, client, ALIAS)["complete"]
    assert indexed(client, run) == lines


def test_a_partition_that_stays_wrong_is_an_error_after_the_second_time(store, client, monkeypatch):
    run = make_run(store)
    original = Solr.counts

    def counts(self, *args):
        change(client, run, [stranger(run, 1)])  # another program writes
        return original(self, *args)

    monkeypatch.setattr(Solr, "counts", counts)
    with pytest.raises(TinyTagsError, match=r"^partition 1 of run .*posting twice .*another program writing"):
        index_run(store, run.name, client, ALIAS)
    assert client.alias(ALIAS) == []


def test_redoing_a_partition_shows_no_gap(store, client, small_bodies, monkeypatch):
    run = make_run(store, partitions=6)
    index_run(store, run.name, client, ALIAS)
    total, seen, stop = len(documents(store, run)), set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add(client.select(ALIAS, {"q": "*:*", "rows": 0})["response"]["numFound"])

    thread = threading.Thread(target=watch)
    thread.start()
    index_run(store, run.name, client, ALIAS, partitions=[1, 2, 3, 4, 5])
    stop.set()
    thread.join()
    assert seen == {total}


# Partitions that aren't tagged


def test_what_is_tagged_is_indexed_and_not_published_until_all_of_it_is(store, client):
    run = make_run(store, partitions=4)
    statistics = store.read_bytes(layout.run_statistics(run.name, 2))
    store.remove(layout.run_statistics(run.name, 2))
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["untagged"], summary["complete"], summary["published"]) == ([2], False, False)
    assert summary["left"] == ["partition 2 not tagged yet"]
    assert client.alias(ALIAS) == []
    with pytest.raises(
        TinyTagsError,
        match="is not complete: partition 2 not tagged yet; complete and publish it with `tinytags index",
    ):
        publish(store, run.name, client, ALIAS)
    with pytest.raises(TinyTagsError, match="is not written yet; write it with `tinytags tag`"):
        index_run(store, run.name, client, ALIAS, partitions=[2])
    with pytest.raises(TinyTagsError, match="has no partition 4; it has 0 to 3"):
        index_run(store, run.name, client, ALIAS, partitions=[4])

    store.write_bytes(layout.run_statistics(run.name, 2), statistics)
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["posted"], summary["complete"], summary["published"]) == ([2], True, True)


def test_documents_of_a_partition_that_is_to_be_tagged_again_stay_until_then(store, client):
    run = make_run(store)
    index_run(store, run.name, client, ALIAS)
    store.remove(layout.run_statistics(run.name, 1))
    assert index_run(store, run.name, client, ALIAS)["complete"] is False
    assert indexed(client, run) == documents(store, run)


# The alias


def test_a_second_run_takes_the_place_of_the_first_and_no_answer_mixes_them(store, client, small_bodies):
    first, second = make_run(store, model="forest-10"), make_run(store, model="forest-50", partitions=4)
    totals = {run.name: len(documents(store, run)) for run in (first, second)}
    index_run(store, first.name, client, ALIAS)
    seen, wrong, stop = [], [], threading.Event()
    facet = json.dumps({"runs": {"type": "terms", "field": "run", "limit": -1}})

    def watch():
        mine = Solr(client.url, patience=0)
        while not stop.is_set():
            try:
                answer = mine.select(ALIAS, {"q": "*:*", "rows": 5, "json.facet": facet})
            except SolrError as error:
                wrong.append(error)
                continue
            counts = {bucket["val"]: bucket["count"] for bucket in answer["facets"]["runs"]["buckets"]}
            name = next(iter(counts))
            if counts != {name: totals[name]} or {hit["run"] for hit in answer["response"]["docs"]} != {name}:
                wrong.append(counts)
            if seen[-1:] != [name]:
                seen.append(name)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    summary = index_run(store, second.name, client, ALIAS)
    wait_until(lambda: wrong or seen[-1:] == [second.name])
    back = publish(store, first.name, client, ALIAS)
    wait_until(lambda: wrong or seen[-1:] == [first.name])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (summary["previous"], summary["published"]) == ([first.name], True)
    assert back == {"run": first.name, "alias": ALIAS, "previous": [second.name], "published": True}
    # Two threads, each of which may be the first to see a change.
    assert [name for i, name in enumerate(seen) if seen[i - 1 : i] != [name]] in (
        [first.name, second.name, first.name],
    ) or set(seen) == {first.name, second.name}


def test_beside_keeps_what_the_alias_shows_and_no_publish_leaves_it(store, client):
    first, second = make_run(store, model="forest-10"), make_run(store, model="forest-50")
    index_run(store, first.name, client, ALIAS)
    assert index_run(store, second.name, client, ALIAS, publication="no")["published"] is False
    assert client.alias(ALIAS) == [first.name]
    assert index_run(store, second.name, client, ALIAS, publication="beside")["published"] is True
    assert client.alias(ALIAS) == [first.name, second.name]
    index_run(store, second.name, client, ALIAS, publication="beside")
    assert client.alias(ALIAS) == [first.name, second.name]
    both = client.select(ALIAS, {"q": "*:*", "rows": 0})["response"]["numFound"]
    assert both == len(documents(store, first)) + len(documents(store, second))


@pytest.fixture
def runs_in_solr(store, client):
    """Two complete runs, of which the alias shows the first one."""
    first, second = make_run(store, partitions=1), make_run(store, model="forest-50", partitions=1)
    index_run(store, first.name, client, ALIAS)
    index_run(store, second.name, client, ALIAS, publication="no")
    return first.name, second.name


def test_of_two_runs_that_are_added_to_the_alias_at_once_none_is_lost(
    store, client, runs_in_solr, monkeypatch
):
    first, second = runs_in_solr
    client.create(f"{ALIAS}-other")
    client.set_alias(ALIAS, [f"{ALIAS}-other"])
    set_alias, waiting, others = Solr.set_alias, threading.Event(), []
    # The other command waits for the lease while this one is between reading the alias and moving it.
    monkeypatch.setattr(
        publishing,
        "time",
        SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: waiting.set() or time.sleep(seconds)),
    )

    def slow(self, *args):
        if not others:
            others.append(threading.Thread(target=index_run, args=(store, second, client, ALIAS, "beside")))
            others[0].start()
            assert waiting.wait(30)
        set_alias(self, *args)

    monkeypatch.setattr(Solr, "set_alias", slow)
    assert index_run(store, first, client, ALIAS, publication="beside")["published"]
    others[0].join(30)
    assert client.alias(ALIAS) == [f"{ALIAS}-other", first, second]


def test_an_alias_that_another_program_moves_is_moved_again_a_few_times(
    store, client, runs_in_solr, monkeypatch
):
    first, second = runs_in_solr
    set_alias, others = Solr.set_alias, [1]

    def overwritten(self, alias, collections):
        set_alias(self, alias, collections)
        if others and others.pop():
            set_alias(self, alias, [first])

    monkeypatch.setattr(Solr, "set_alias", overwritten)
    index_run(store, second, client, ALIAS, publication="beside")
    assert client.alias(ALIAS) == [first, second]
    others += [1] * 10
    with pytest.raises(
        TinyTagsError, match=f"points to {first} after it was moved; is another program moving it"
    ):
        publish(store, second, client, ALIAS)


@pytest.mark.parametrize("live", [False, True])
def test_an_alias_with_the_name_of_a_run_or_a_collection_is_refused_before_anything_is_written(
    store, client, runs_in_solr, live
):
    _, second = runs_in_solr
    other = make_run(store, model="forest-20", partitions=1)
    theirs = f"{ALIAS}-theirs"
    client.create(theirs)
    before = client.aliases()
    for alias in (other.name, theirs, "a b"):
        with pytest.raises(TinyTagsError, match=f"alias '{alias}'|alias name 'a b'"):
            index_run(store, other.name, client, alias, publication="live" if live else "publish")
        with pytest.raises(TinyTagsError):
            publish(store, second, client, alias)
        with pytest.raises(TinyTagsError):
            retire(store, second, client, alias, force=True)
    assert not client.exists(other.name)
    assert client.aliases() == before
    assert not store.exists(layout.run_index_lease(other.name))


def test_a_run_with_the_name_of_an_alias_is_refused_and_the_run_behind_it_keeps_its_documents(store, client):
    run, other = make_run(store, partitions=1), make_run(store, model="forest-50", partitions=1)
    index_run(store, other.name, client, ALIAS)
    client.set_alias(run.name, [other.name])  # as an earlier version did
    for write in (index_run, publish, retire):
        with pytest.raises(TinyTagsError, match=f"run '{run.name}' has the name of an alias in Solr; delete"):
            write(store, run.name, client, ALIAS)
    assert not client.exists(run.name)
    assert indexed(client, other) == documents(store, other)


def test_a_run_that_another_alias_shows_is_not_retired(store, client, runs_in_solr):
    _, second = runs_in_solr
    client.set_alias(f"{ALIAS}-too", [second])
    with pytest.raises(TinyTagsError, match=f"is also published as alias '{ALIAS}-too'"):
        retire(store, second, client, ALIAS, force=True)
    assert client.exists(second)


def test_live_shows_the_run_from_the_start(store, client, monkeypatch):
    first, second = make_run(store, model="forest-10"), make_run(store, model="forest-50")
    index_run(store, first.name, client, ALIAS)
    aliases, original = [], posting._post_body

    def post(solr, *args):
        aliases.append(solr.alias(ALIAS))
        return original(solr, *args)

    monkeypatch.setattr(posting, "_post_body", post)
    summary = index_run(store, second.name, client, ALIAS, publication="live")
    assert aliases == [[second.name]]
    assert (summary["previous"], summary["published"]) == ([first.name], True)


def test_a_run_that_is_not_complete_is_not_published(store, client):
    run = make_run(store)
    with pytest.raises(
        TinyTagsError, match=f"is not in Solr at .*; index it with `tinytags index {run.name}`"
    ):
        publish(store, run.name, client, ALIAS)
    index_run(store, run.name, client, ALIAS, publication="no")
    change(client, run, {"delete": {"query": "partition:1 AND tag:dog"}}, [stranger(run, 9)])
    with pytest.raises(TinyTagsError) as error:
        publish(store, run.name, client, ALIAS)
    assert "partition 1 with a wrong number of documents in the index (partition 1: " in str(error.value)
    assert "1 document of partitions that the run does not have" in str(error.value)
    assert client.alias(ALIAS) == []
    with pytest.raises(TinyTagsError, match="no run 'other'"):
        publish(store, "other", client, ALIAS)


def test_retiring_drops_the_collection_but_not_the_one_that_is_shown(store, client):
    first, second = make_run(store, model="forest-10"), make_run(store, model="forest-50")
    for run in (first, second):
        index_run(store, run.name, client, ALIAS)
    with pytest.raises(TinyTagsError, match=f"run '{second.name}' is published as alias"):
        retire(store, second.name, client, ALIAS)
    before = files(store, first)
    assert retire(store, first.name, client, ALIAS)["shown"] == [second.name]
    assert not client.exists(first.name)
    assert files(store, first) == before
    store.remove_tree(layout.run_folder(second.name))
    assert retire(store, second.name, client, ALIAS, force=True)["shown"] == []
    assert (client.exists(second.name), client.alias(ALIAS)) == (False, [])
    with pytest.raises(TinyTagsError, match=f"no run '{second.name}' in Solr"):
        retire(store, second.name, client, ALIAS)


def test_retiring_leaves_collections_of_others_alone(store, client, monkeypatch):
    monkeypatch.setattr("indexing.solr.configset_name", lambda: "theirs")
    theirs = f"{ALIAS}-theirs"
    client.create(theirs)
    with pytest.raises(TinyTagsError, match="was not created by TinyTags"):
        retire(store, theirs, client, ALIAS, force=True)
    assert client.exists(theirs)


# Others


def test_a_second_writer_gets_the_name_of_the_first(store, client):
    run = make_run(store)
    with (
        lease(store, layout.run_index_lease(run.name), "the index"),
        pytest.raises(LeaseHeldError, match=f"the index of run '{run.name}' is being written by"),
    ):
        index_run(store, run.name, client, ALIAS)
    assert not client.exists(run.name)


def test_a_store_that_fails_in_the_middle_ends_it_with_its_error_and_repeating_completes(
    store, client, small_bodies, monkeypatch
):
    run = make_run(store, partitions=6)
    original, reads = LocalStore.read_bytes, []

    def read_bytes(self, path, *args):
        reads.append(path)
        if "/tags/" in path and sum("/tags/" in p for p in reads) == 4:
            raise StoreError("no DataNode")
        return original(self, path, *args)

    with monkeypatch.context() as during:
        during.setattr(LocalStore, "read_bytes", read_bytes)
        with pytest.raises(TinyTagsError, match="no DataNode"):
            index_run(store, run.name, client, ALIAS)
    assert not store.exists(layout.run_index_lease(run.name))
    assert index_run(store, run.name, client, ALIAS)["complete"]
    assert indexed(client, run) == documents(store, run)


def test_a_run_in_hdfs_is_indexed_and_verified(hdfs, client, tmp_path):
    def spoil(partition, lines):
        if partition == 1:
            lines[7]["votes"] = "x"

    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    run = make_run(
        store,
        corpus_hash=make_corpus(store, partitions=2, images=50).hash,
        partitions=2,
        images=50,
        spoil=spoil,
    )
    summary = index_run(store, run.name, client, ALIAS)
    assert (summary["complete"], summary["rejected"]) == (True, 1)
    assert indexed(client, run) == {key: d for key, d in documents(store, run).items() if d["votes"] != "x"}
    assert verify_run(store, run.name, client)["problems"] == []
    assert index_run(store, run.name, client, ALIAS, partitions=[1])["rejected"] == 1
    store.remove_tree("")
