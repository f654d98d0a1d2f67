"""One Solr with two small runs for all tests of the page, and the page before them."""

from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache
from measured import train_models
from playwright.sync_api import sync_playwright
from searchable import ALIAS, make_corpus, make_network_run, make_run, read_documents
from served import served
from vision import endpoint as vision_endpoint
from vision import write_account
from werkzeug.routing import Rule

from conf.settings import Settings
from indexing.index import index_run
from indexing.query import published, search
from indexing.solr import Solr
from operations.chromium import find_chromium
from records import sql
from search_ui import board, create_app, people, similar
from search_ui.views import models
from storage.store import open_store

# How long a page waits for what it asks.
WAITS = [
    (published, "ANSWER_SECONDS"),
    (search, "ROWS_SECONDS"),
    (similar, "SECONDS"),
    (people, "FIRST_SECONDS"),
    (people, "WAIT_SECONDS"),
    (sql, "ANSWER_SECONDS"),
    (board, "WAIT_SECONDS"),
    (board, "READ_SECONDS"),
    (models, "WAIT_SECONDS"),
]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A store with a corpus and three runs of it, of 10 trees, of 7 and of a network; needs no server."""
    folder = tmp_path_factory.mktemp("search-ui")
    store = open_store(str(folder / "store"))
    corpus = make_corpus(store, folder)
    first, second = make_run(store, corpus, "ten", 10, seed=1), make_run(store, corpus, "seven", 7, seed=4)
    network = make_network_run(store, corpus, "network", seed=5)
    learnt = train_models(store, folder)
    by_run = {run.name: read_documents(store, run) for run in (first, second, network)}
    return SimpleNamespace(
        store=store,
        corpus=corpus,
        first=first,
        second=second,
        network=network,
        documents=by_run,
        learnt=learnt,
    )


@pytest.fixture(scope="session")
def searchable(solr, library):
    """The same, with all runs in Solr; the alias shows the first."""
    client = Solr(solr.url, patience=60)
    runs = library.first, library.second, library.network
    for run in runs:
        index_run(library.store, run.name, client, ALIAS, publication="no")
    client.set_alias(ALIAS, [library.first.name])
    yield SimpleNamespace(**vars(library), solr=client)
    client.delete_alias(ALIAS)
    for run in runs:
        client.delete(run.name)


@pytest.fixture(scope="session")
def settings(searchable):
    database = f"sqlite:///{searchable.store.root}/tinytags.db"
    return Settings(
        store=searchable.store.root,
        solr=searchable.solr.url,
        alias=ALIAS,
        database=database,
        details="yes",
        classify_rate="none",
    )


@pytest.fixture(scope="session", autouse=True)
def compared_models():
    """Every search waits until models are compared, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexing.query.published.COMPARISON_SECONDS", 60)
        yield


@pytest.fixture(scope="module", autouse=True)
def patience():
    """Let pages wait a minute for Solr, the database and the store, as the machine may be busy; give the usual limits."""
    usual = {}
    with pytest.MonkeyPatch.context() as patch:
        for module, name in WAITS:
            usual[module, name] = getattr(module, name)
            patch.setattr(module, name, 60)
        yield usual


@pytest.fixture
def limits(patience, monkeypatch):
    """The usual limits, for tests of a Solr or a store that doesn't answer."""
    for (module, name), seconds in patience.items():
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture(scope="session", autouse=True)
def compiled_templates(tmp_path_factory):
    """Applications of all tests share compiled templates: each would compile its own."""
    cache = FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    Flask.jinja_options = Flask.jinja_options | {"bytecode_cache": cache}


@pytest.fixture(scope="session", autouse=True)
def compiled_routes():
    """Applications of all tests share what Werkzeug compiles to make URLs: nine tenths of the time that creating one takes."""
    compile_builder, compiled = Rule._compile_builder, {}

    def shared(self, append_unknown=True):
        key = self.rule, self.endpoint, str(self.defaults), append_unknown
        if key not in compiled:
            compiled[key] = compile_builder(self, append_unknown)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", shared)
        yield


@pytest.fixture
def page(settings):
    """The application's client; every request checks whether the alias has moved."""
    return create_app(settings, {"CHECK_SECONDS": 0}).test_client()


@pytest.fixture
def show(searchable):
    """Points the alias to some runs for one test."""
    yield lambda *runs: searchable.solr.set_alias(ALIAS, [run.name for run in runs])
    searchable.solr.set_alias(ALIAS, [searchable.first.name])


@pytest.fixture(scope="session")
def endpoint():
    """What Google Cloud Vision would answer, and what it was sent (`vision.endpoint`)."""
    with vision_endpoint() as started:
        yield started


@pytest.fixture(scope="session")
def account(tmp_path_factory):
    """The file of a service account of Google."""
    return write_account(tmp_path_factory.mktemp("account") / "account.json")


@pytest.fixture(scope="module")
def address(settings):
    """The page on a real port."""
    with served(create_app(settings)) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium, address):
    """Opens pages; at the end none may have logged an error or requested another host."""
    contexts, complaints, hosts = [], [], []

    def open_page(path="/", **options):
        context = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.append(urlsplit(request.url).netloc))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(hosts) == {urlsplit(address).netloc}
