"""Tests that a password in an address reaches the server, and is on no page, in no answer, message or log."""

import base64
import http.server
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import urllib3
from small_world import run

from search_ui import create_app
from search_ui.library import source

SECRET = "hidden4711"
LOGIN = f"ada:{SECRET}@"


@pytest.fixture(scope="module")
def guarded(searchable):
    """The address, with its login, of a proxy that lets only this login through to Solr."""
    expected = f"Basic {base64.b64encode(f'ada:{SECRET}'.encode()).decode()}"
    host, pool = f"http://{urlsplit(searchable.solr.url).netloc}", urllib3.PoolManager()

    class Proxy(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, data = 401, b"log in first"
            if self.headers.get("Authorization") == expected:
                headers = {name: self.headers[name] for name in ("Content-Type",) if name in self.headers}
                solr = pool.request(self.command, host + self.path, body=body or None, headers=headers)
                status, data = solr.status, solr.data
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://{LOGIN}127.0.0.1:{server.server_port}/solr"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def secretive(settings, guarded):
    """Settings with the password in every address; only Solr is there."""
    return replace(
        settings, solr=guarded, database=f"postgresql://{LOGIN}127.0.0.1:1/x", webhdfs=f"http://{LOGIN}127.0.0.1:1"
    )  # fmt: skip


def paths(app, searchable):
    """Return a path of every route, with an image, a run and a model that are there."""
    corpus, run, model = searchable.corpus.name, searchable.first.name, "ten"
    values = {
        "corpus": corpus,
        "partition": 0,
        "row": 0,
        "number": 1,
        "run": run,
        "name": model,
        "model": model,
        "filename": "page.js",
        "ending": "csv",
        "image": "0123456789abcdef",
    }
    adapter = app.url_map.bind("127.0.0.1")
    for rule in app.url_map.iter_rules():
        if "GET" in rule.methods:
            yield adapter.build(rule.endpoint, {name: values[name] for name in rule.arguments})


@pytest.mark.services
@pytest.mark.parametrize("state", ["all there", "no Solr", "no store"])
def test_no_page_and_no_answer_has_a_password(searchable, secretive, state, caplog):
    if state == "no Solr":
        secretive = replace(secretive, solr=f"http://{LOGIN}127.0.0.1:1/solr")
    if state == "no store":
        secretive = replace(secretive, store=f"hdfs://{LOGIN}127.0.0.1:1/x")
    app = create_app(secretive, {"CHECK_SECONDS": 0})
    statuses = {}
    # One page is enough for a store that keeps each of them waiting.
    for path in paths(app, searchable) if state != "no store" else ["/runs", "/api/runs", "/readyz"]:
        with app.test_client().get(path) as answer:
            statuses[path] = answer.status_code
            assert SECRET.encode() not in answer.data and SECRET not in str(answer.headers), path
    assert SECRET not in caplog.text
    assert statuses["/readyz"] == (503 if state == "no Solr" else 200), "the login is sent"
    if state == "all there":
        assert (
            "ada:***@"
            in app.test_client().get(f"/api/images/{searchable.corpus.name}/0/0").json["corrections_error"]
        )


@pytest.mark.services
def test_no_command_prints_a_password(searchable, secretive, guarded, tmp_path):
    environment = {f"TINYTAGS_{name.upper()}": value for name, value in vars(secretive).items()}
    gone = f"http://{LOGIN}127.0.0.1:1/solr"
    run_name = searchable.first.name
    printed = [
        *run("status", **environment),
        *run("status", "--json", **environment),
        *run("doctor", "--json", **environment),
        *run("index", run_name, "--no-publish", **environment),
        *run("status", **(environment | {"TINYTAGS_SOLR": gone})),
        *run("index", run_name, code=1, **(environment | {"TINYTAGS_SOLR": gone})),
        *run("index", run_name, "--solr", f"http://ada:{SECRET}/@:x", code=1, **environment),
        *run("ingest", f"hdfs://{LOGIN}/x", "--corpus", "x", code=1, **environment),
        *run("ingest", f"nothing://{LOGIN}host/x", "--corpus", "x", code=1, **environment),
        *run("train", "--corpus", "none", "--model", "none", "--corrections", "--engine", "scikit-learn", code=1, **environment),
        *run("status", "--store", f"ftp://{LOGIN}host/x", code=1, **environment),
    ]  # fmt: skip
    assert [text for text in printed if SECRET in text] == []
    assert any("/solr" in text for text in printed)


def test_the_dump_of_an_image_is_named_without_its_password(library):
    corpus = replace(library.corpus, dump=f"https://{LOGIN}host/dump.bin")
    assert source(corpus, 0, 0, None)["dump"] == "https://ada:***@host/dump.bin"
