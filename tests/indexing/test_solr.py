"""Tests of `indexing.solr`: what the client repeats and what it does not, and how it counts."""

import http.server
import json
import socket
import threading

import pytest
from small_runs import ALIAS, documents, make_run

from indexing import solr as module
from indexing.query.cells import query_cells
from indexing.query.published import PublishedIndex
from indexing.solr import Solr
from indexing.solr_errors import BodyTooLargeError, RefusedError, SolrError

OK = {"responseHeader": {"status": 0}}


@pytest.fixture
def answering(monkeypatch):
    """A server that returns the given answers, one a request: (status, JSON); `requests` lists the requests."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    answers, requests = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            status, answer = answers.pop(0)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.headers["Content-Length"] = "0"
            self.do_POST()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    server.answers, server.requests = answers, requests
    server.url = f"http://127.0.0.1:{server.server_port}/solr"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503, 504])
def test_a_busy_solr_gets_the_same_body_again(answering, status):
    answering.answers += [(status, {"error": {"msg": "busy"}}), (status, b"<html>no</html>"), (200, OK)]
    Solr(answering.url).update("run", b"[1]")
    assert answering.requests == [("/solr/run/update", b"[1]")] * 3


def test_pauses_grow_and_stay_below_their_cap(answering, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 4.0)
    client, pauses = Solr(answering.url, patience=1000), []
    monkeypatch.setattr(client._impatient, "wait", pauses.append)
    answering.answers += [(429, {})] * 6 + [(200, OK)]
    client.update("run", b"[]")
    most = [1, 2, 4, 4, 4, 4]
    assert len(pauses) == 6
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, most, strict=True))
    assert len(set(pauses)) == 6, "without jitter all clients would come back at once"


@pytest.mark.parametrize("status", [400, 401, 403, 409])
def test_a_request_that_solr_rejects_is_not_repeated(answering, status):
    answering.answers += [(status, {"error": {"msg": "no\n  such thing"}})]
    with pytest.raises(SolrError, match=rf"answers {status} for run/update: no such thing$") as error:
        Solr(answering.url).update("run", b"[1]")
    assert error.value.status == status
    assert isinstance(error.value, RefusedError) == (status == 400)
    assert len(answering.requests) == 1


def test_a_body_that_is_too_large_is_an_error_of_its_own_and_not_repeated(answering):
    answering.answers.append((413, b"<html>413 Request Entity Too Large</html>"))
    with pytest.raises(BodyTooLargeError):
        Solr(answering.url).update("run", b"[1]")
    assert len(answering.requests) == 1


@pytest.mark.parametrize(("free", "named"), [(3_000_000, True), (300_000_000_000, False), (None, False)])
def test_a_full_disk_of_solr_is_named(answering, free, named):
    metrics = {"CONTAINER.fs.usableSpace": free, "CONTAINER.fs.coreRoot.usableSpace": free}
    answering.answers += [
        (500, {"error": {"msg": "this IndexWriter is closed"}}),
        (200, {"metrics": {"solr.node": metrics}}),
    ]
    with pytest.raises(SolrError) as error:
        Solr(answering.url, patience=0).commit("run")
    assert error.value.status == 500
    assert str(error.value).startswith("Solr's disk is full (3 MB left): ") is named
    assert "this IndexWriter is closed" in str(error.value)


def test_patience_ends(answering):
    answering.answers += [(503, {"error": {"msg": "not yet"}})] * 1000
    with pytest.raises(SolrError, match=r"answers 503 .*not yet"):
        Solr(answering.url, patience=0.5).update("run", b"[]")
    assert len(answering.requests) > 2


def test_waiting_ends_when_it_has_to(answering):
    answering.answers += [(503, {})] * 1000
    client = Solr(answering.url, patience=3600)
    threading.Timer(0.2, client.stop_waiting).start()
    with pytest.raises(SolrError, match="answers 503"):
        client.update("run", b"[]")


NO_ANSWERS = [
    {}, [], {"error": "overloaded"}, {"error": {"msg": "overloaded", "code": 503}} | OK,
    b"<html>Welcome</html>", b"", b"\xff\xfe", b"[" * 100_000,
]  # fmt: skip


@pytest.mark.slow
def test_an_error_with_status_200_is_repeated_like_any_other(answering):
    answering.answers += [*((200, answer) for answer in NO_ANSWERS), (200, OK)]
    Solr(answering.url).update("run", b"[1]")
    assert answering.requests == [("/solr/run/update", b"[1]")] * (len(NO_ANSWERS) + 1)


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=lambda answer: repr(answer)[:20])
def test_what_a_page_cannot_use_of_an_answer_with_status_200_is_an_error_of_solr(answering, answer):
    client = Solr(answering.url, patience=0)
    queries = [
        PublishedIndex(client, ALIAS).now,
        lambda: query_cells(client, "run"),
        lambda: client.select("run", {"q": "*:*"}),
        lambda: client.counts("run"),
        client.collections,
        client.aliases,
    ]
    for query in queries:
        for body in (answer, OK):  # the second one has nothing but Solr's header
            answering.answers.append((200, body))
            with pytest.raises(SolrError) as error:
                query()
            assert error.value.status in (200, 503)
            assert "\n" not in str(error.value)


def test_an_answer_with_status_200_that_is_not_solrs_is_named(answering):
    answering.answers += [(200, b"<html>Welcome</html>")]
    with pytest.raises(SolrError, match=r"not an answer of Solr: .*Welcome.*; is this Solr's address"):
        Solr(answering.url, patience=0).select("run", {})


def test_a_rejection_with_status_200_is_one(answering):
    answering.answers += [(200, {"error": {"msg": "unknown field", "code": 400}})]
    with pytest.raises(RefusedError) as error:
        Solr(answering.url).update("run", b"[1]")
    assert (error.value.status, error.value.reason) == (400, "unknown field")
    assert len(answering.requests) == 1


def test_a_solr_that_is_not_there_is_named_with_the_way_to_start_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/solr"
    with pytest.raises(SolrError) as error:
        Solr(url, patience=0.1).collections()
    assert str(error.value).startswith(f"Solr at {url} does not answer (Connection refused); ")
    assert "scripts/services up solr" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.status is None


def test_the_configset_is_named_by_its_contents(tmp_path, monkeypatch):
    names = []
    for text in ("one", "two", "one"):
        (tmp_path / "schema.xml").write_text(text)
        monkeypatch.setattr(module, "CONFIGSET", tmp_path)
        module.configset_name.cache_clear()
        names.append(module.configset_name())
    module.configset_name.cache_clear()
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("tags-") for name in names)


@pytest.mark.services
def test_a_collection_keeps_its_configset_when_the_fields_change(client, tmp_path, monkeypatch):
    client.create(f"{ALIAS}-before")
    for file in module.CONFIGSET.iterdir():
        text = file.read_text().replace("</schema>", '<field name="colour" type="string"/></schema>')
        (tmp_path / file.name).write_text(text)
    monkeypatch.setattr(module, "CONFIGSET", tmp_path)
    module.configset_name.cache_clear()
    client.create(f"{ALIAS}-after")
    module.configset_name.cache_clear()
    client.update(f"{ALIAS}-after", b'[{"id":"a","colour":"green"}]')
    with pytest.raises(RefusedError, match="unknown field 'colour'"):
        client.update(f"{ALIAS}-before", b'[{"id":"a","colour":"green"}]')


@pytest.mark.services
def test_counts_are_exact_on_two_shards_and_may_be_confined(client, store):
    run = make_run(store, partitions=30, images=40)
    lines = documents(store, run)
    client.create(run.name, shards=2)
    client.update(run.name, json.dumps([*lines.values(), {"id": "lost"}]).encode())
    assert client.counts(run.name) == {}
    client.commit(run.name)
    wanted = {p: sum(d["partition"] == p for d in lines.values()) for p in range(30)}
    assert client.counts(run.name) == wanted | {None: 1}
    assert client.counts(run.name, 3, 5) == {p: wanted[p] for p in (3, 4, 5)}
    assert client.counts(run.name, 30, 40) == {}
    client.delete_partitions(run.name, [4, None, 17])
    client.commit(run.name)
    assert client.counts(run.name) == {p: n for p, n in wanted.items() if p not in (4, 17)}


@pytest.mark.services
def test_an_alias_is_set_read_and_dropped(client):
    client.create(f"{ALIAS}-a")
    client.create(f"{ALIAS}-b")
    assert client.alias(ALIAS) == []
    client.set_alias(ALIAS, [f"{ALIAS}-a"])
    client.set_alias(ALIAS, [f"{ALIAS}-a", f"{ALIAS}-b"])
    assert client.alias(ALIAS) == [f"{ALIAS}-a", f"{ALIAS}-b"]
    client.delete_alias(ALIAS)
    assert client.alias(ALIAS) == []


@pytest.mark.services
def test_documents_are_deleted_by_id_unless_they_were_posted_again_since(client):
    name = f"{ALIAS}-versions"
    ids = ["it's\\one", "two", "three"]
    client.create(name, shards=2)
    client.update(name, json.dumps([{"id": id, "partition": 1} for id in ids]).encode())
    client.commit(name)
    versions = {
        hit["id"]: hit["_version_"]
        for page in client.pages(name, "partition:1", "id,_version_")
        for hit in page
        if hit["id"] != "three"
    }
    for left in ({"three"}, set(ids)):  # the second time it arrives late
        client.delete_versions(name, versions)
        client.commit(name)
        assert {hit["id"] for page in client.pages(name, "*:*", "id") for hit in page} == left
        client.update(name, json.dumps([{"id": id, "partition": 1} for id in ids]).encode())
