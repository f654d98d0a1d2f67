"""Tests that any string stays a value: in requests of Solr, on pages, in attributes and in spreadsheets.

`test_hostile_strings` parses all strings without a server; these send one of each kind by HTTP.
"""

import csv
import io
import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote, urlsplit

import hostile
import numpy as np
import pytest
from hostile import ODD, PLAIN, REPRESENTATIVES, STRINGS, TAGS
from PIL import Image
from served import served
from small_world import make_corpus

from conf.settings import Settings
from indexing.fields import FACETS
from indexing.query.search_state import PARAMETERS
from jobs.train_forest import train_forest
from search_ui import create_app
from storage import layout
from storage.store import open_store

pytestmark = pytest.mark.services

RUN, SECOND, ALIAS = "search-ui-hostile", "search-ui-hostile-names", "search-ui-hostile-hostile_settings"
# Names of a corpus and a model that no check has seen.
CORPUS, MODEL = '"><img src=x onerror=fired()>', "{!func}sum(1,1)"
STORED = [PLAIN, *TAGS]
MARKUP = ["<script>fired()</script>", '"><img src=x onerror=fired()>', "' onmouseover='fired()"]
CLASSES = ["<b onclick=fired()>b", "=1+1", "\"' onfocus=fired() '"]
WRITTEN = {PLAIN, *STRINGS}


@pytest.fixture(scope="module")
def hostile_settings(searchable, tmp_path_factory):
    """Settings of a page that shows nothing but hostile words, of images, runs, models and corpora."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(searchable.store.root, folder / "store")
    settings = Settings(store=str(folder / "store"), solr=searchable.solr.url, alias=ALIAS)
    make_hostile_corpus(settings, folder)
    # The documents that are right have images in the store; the wrong ones have none, as no test opens them.
    documents = hostile.documents(RUN, STORED + ODD) + hostile.documents(
        RUN, STORED, label="wrong", first=700
    )
    hostile.insert(searchable.solr, RUN, documents)
    hostile.insert(searchable.solr, SECOND, hostile.documents(SECOND, [PLAIN, "frog"], CORPUS, MODEL))
    searchable.solr.set_alias(ALIAS, [RUN, SECOND])
    yield settings
    searchable.solr.delete_alias(ALIAS)
    for run in (RUN, SECOND):
        searchable.solr.delete(run)


def make_hostile_corpus(settings, folder) -> None:
    """Ingest pictures whose names and classes are markup, train a model of these classes, and let a partition fail."""
    random = np.random.default_rng(3)
    for number, name in enumerate(CLASSES):
        (folder / "pictures" / name).mkdir(parents=True)
        for picture in range(40):
            pixels = random.integers(80 * number, 80 * number + 96, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"<i onclick=fired()>{picture:02}.png")
    store = open_store(settings.store)
    make_corpus(store, "markup", folder / "pictures", 60)
    train_forest(settings, "markup", "markup", trees=3, depth=2, engine="scikit-learn")
    store.write_json(layout.corpus_failed("small", 2), {"partition": 2, "error": MARKUP[0]})
    store.remove("corpora/small/statistics/00002.json")


@pytest.fixture(scope="module")
def app(hostile_settings):
    return create_app(hostile_settings, {"CHECK_SECONDS": 3600})


@pytest.fixture(scope="module")
def requests(app):
    """Every request that Solr gets, as it is sent: (method, URL, body)."""
    pool, requests = app.extensions["tinytags"].solr._pool, []
    send = pool.request

    def request(method, url, body=None, **more):
        requests.append((method, url, body))
        return send(method, url, body=body, **more)

    pool.request = request
    app.test_client().get("/")
    return requests


def shape(requests: list[tuple]) -> list:
    """Return the requests of Solr, with a mark where a whole value is one of the strings, and nowhere else."""
    shapes = []
    for method, url, body in requests:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query) + parse_qsl((body or b"").decode(), keep_blank_values=True)
        marked = [
            (name, ["§" if one in WRITTEN else one for one in value.split("\x1f")]) for name, value in pairs
        ]
        shapes.append((method, parts.path, sorted(marked)))
    return shapes


@pytest.mark.parametrize(
    "more", [{}, {"answer": "right"}, {"answer": "wrong", "sort": "corpus"}, {"confidence": "50-70"}]
)
@pytest.mark.parametrize("name", ["tag", "runner_up"])
def test_a_stored_value_finds_its_images_by_the_request_of_a_plain_value(app, requests, name, more):
    client = app.test_client()

    def ask(word):
        del requests[:]
        with client.get("/export.jsonl", query_string={name: word, "run": RUN, **more}) as answer:
            assert answer.status_code == 200, word
            hits = [json.loads(line) for line in answer.data.splitlines()]
        return shape(requests), [(hit[name], hit["label"]) for hit in hits]

    wanted, _ = ask(PLAIN)
    assert len(wanted) == 1 and "§" in str(wanted)
    for word in TAGS[:: 20 if more else 5]:
        sent, hits = ask(word)
        assert sent == wanted, word
        labels = {"right": [word], "wrong": ["wrong"]}.get(more.get("answer"), [word, "wrong"])
        assert sorted(hits) == sorted((word, label) for label in labels), word


@pytest.mark.parametrize(
    "name", [*PARAMETERS, "min", "max", "q", "fq", "shards", "json.facet", "stream.body", "qt"]
)
def test_a_parameter_of_any_value_makes_a_known_request_or_none(app, requests, name):
    client, statuses = app.test_client(), Counter()

    def ask(query):
        del requests[:]
        with client.get("/export.jsonl" if name in FACETS else "/api/search", query_string=query) as answer:
            return answer.status_code, shape(requests)

    # What a word that is there, one that isn't, none at all, and a collection's name make of the page.
    allowed = [ask({name: word})[1] for word in (PLAIN, "unicorn", "")] + [ask({"run": SECOND})[1]]
    for word in REPRESENTATIVES:
        status, sent = ask({name: word})
        statuses[status] += 1
        assert status in (200, 400), word
        assert sent in allowed if status == 200 else sent == [], (word, sent)
    assert statuses[400] > 5
    assert (statuses[200] > 50) == (name in FACETS)


def test_a_string_as_the_name_of_a_parameter_is_refused(app, requests):
    client = app.test_client()
    for word in REPRESENTATIVES:
        del requests[:]
        query = {word: "1"} if word not in PARAMETERS else {}
        assert client.get("/api/search", query_string=query).status_code == 400, word
        assert client.get("/export.csv", query_string=query).status_code == 400, word
        assert requests == []


@pytest.mark.parametrize("path", ["/images/{}/0/0", "/images/{}/0/0.png", "/images/small/{}/0", "/images/small/0/{}", "/api/images/{}/0/0",
                                  "/api/models/{}", "/models/{}", "/models/{}/pixels.png", "/models/ten?with={}", "/runs/{}",
                                  "/static/{}", "/{}", "/images/small/0/0.png?scale={}", "/images/small/0/0?at={}"])  # fmt: skip
def test_a_path_of_any_string_finds_nothing_and_breaks_nothing(app, requests, path):
    client = app.test_client()
    for word in REPRESENTATIVES:
        del requests[:]
        answer = client.get(path.replace("{}", quote(word, safe="/" if "static" in path else "")))
        assert answer.status_code in (200, 308, 400, 404), (path, word)
        if answer.status_code == 200:  # a path that means another page, as /models/?with= does
            assert answer.mimetype in ("text/html", "application/json"), (path, word)
        assert "root:" not in answer.text and "[project]" not in answer.text and "fired()<" not in answer.text
        bodies = "".join(str(body) for _, _, body in requests)
        assert "passwd" not in bodies and "delete" not in bodies


class Page(HTMLParser):
    """A page as a browser takes it: complains of whatever could do something that is not ours."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.titles, self.names, self._name = "", [], [], False
        self.feed(html)

    def handle_starttag(self, element, attributes):
        values = dict(attributes)
        assert element not in ("base", "iframe", "object", "embed", "b", "i", "style", "template", "math"), (
            element
        )
        for name, value in attributes:
            assert name.replace("-", "").isalnum() and not name.startswith("on") and name != "style", (
                element,
                name,
            )
            if name in ("href", "src", "action"):
                assert value.startswith(("/", "#")) and not value.startswith("//"), value
        if element == "script":
            assert values["src"].startswith("/static/")
        if element == "img":
            assert values["src"].startswith(("/images/", "/models/"))
        self._name = values.get("class") == "name"

    def handle_endtag(self, element):
        self._name = False

    def handle_data(self, data):
        self.text += data
        if self._name:
            self.names.append(data)


def test_words_of_the_index_and_of_the_url_are_text_on_every_page(app):
    client = app.test_client()
    first = {word: place for place, word in enumerate(STORED)}
    for word in [text for text in TAGS if set(text) & set("<>&\"'{")][::48]:
        query = {"tag": word, "run": RUN}
        page = Page(client.get("/", query_string=query).text)
        assert page.names.count(word) >= 2, "among tags and runners-up"
        assert page.text.count(word) >= 5, "in the title, as a filter, and below its images too"
        page = Page(client.get("/", query_string=query | {"confidence": "99-100"}).text)
        assert f"matches all of these filters: {word}, " in " ".join(page.text.split()) or "  " in word
        place = divmod(first[word], 300)
        page = Page(
            client.get(f"/images/small/{place[0]}/{place[1]}", query_string={"tag": word, "at": "0"}).text
        )
        assert page.text.count(word) >= 3, "its tag, its label and in the title"
    everything = Page(client.get("/").text)
    assert set(everything.names) >= {*STORED, CORPUS, MODEL}


def test_refused_strings_are_text_in_the_error(app):
    client = app.test_client()
    for word in REPRESENTATIVES:
        for path in (f"/?page={quote(word)}", f"/?{quote(word)}=1", f"/images/{quote(word, safe='')}/0/0",
                     f"/models/{quote(word, safe='')}", f"/?min={quote(word)}"):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code in (200, 302, 308, 400, 404), path
            if answer.status_code in (200, 400, 404):  # a redirection has a page that no browser shows
                Page(answer.text)


def test_names_of_files_classes_and_failures_are_text_on_every_page(app):
    client = app.test_client()
    for path, words in {
        "/images/markup/0/0": ["<i onclick=fired()>", CLASSES[2]],
        "/images/markup/1/59": ["<i onclick=fired()>39.png"],
        "/runs": [MARKUP[0]],
        "/about": [RUN],
        "/models": ["markup"],
        "/models/markup": CLASSES,
        "/models/markup?with=trained": CLASSES,
    }.items():
        answer = client.get(path)
        assert answer.status_code == 200, path
        page = Page(answer.text)
        for word in words:
            assert word in page.text, (path, word)
    label = client.get("/api/images/markup/0/0").json["label"]
    assert label in CLASSES and label in Page(client.get("/images/markup/0/0").text).text


def test_a_browser_runs_none_of_it(chromium, app):
    fired, complaints, requests = [], [], set()
    with served(app) as address, chromium.new_context(base_url=address) as context:
        _visit(context, fired, complaints, requests)
    assert fired == []
    assert requests == {urlsplit(address).netloc}


def _visit(context, fired: list, complaints: list, requests: set) -> None:
    context.expose_function("fired", lambda *words: fired.append(words))
    page = context.new_page()
    page.on("dialog", lambda dialog: (fired.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.add(urlsplit(request.url).netloc))
    page.goto(f"/?run={RUN}&per_page=120")
    assert set(page.locator(".facet .name").all_text_contents()) >= set(STORED)
    for word in [
        *MARKUP,
        "javascript:fired()",
        "<base href=//x>",
        "`-fired()-`",
        "${jndi:ldap://127.0.0.1/x}",
    ]:
        page.goto(f"/?run={RUN}")
        # As a user would.
        page.locator("#filters section").first.get_by_text(word, exact=True).click()
        page.wait_for_url(lambda url: "tag=" in url)
        page.wait_for_function("document.querySelectorAll('.grid li').length === 2")
        assert page.title().startswith(word)
        assert set(page.locator(".grid .tag").all_text_contents()) == {word}
        page.locator(".grid a").first.click()
        page.wait_for_url("**/images/**")
        assert page.locator("h1").first.text_content().startswith(word)
    # Some images have no pixels, which the browser logs; it would also log a script that it refused.
    assert {complaint.split(":")[0] for complaint in complaints} <= {"Failed to load resource"}
    complaints.clear()
    for path in (
        "/images/markup/0/0",
        "/runs",
        "/models/markup",
        "/about",
        "/models/markup?with=trained",
    ):
        page.goto(path)
        page.wait_for_load_state("networkidle")
    assert complaints == []


@pytest.mark.parametrize("query", [f"run={RUN}", f"run={SECOND}", f"run={RUN}&answer=wrong"])
def test_a_spreadsheet_executes_no_cell_and_loses_no_word(app, query):
    client = app.test_client()
    with client.get(f"/export.jsonl?{query}") as answer:
        documents = [json.loads(line) for line in answer.data.splitlines()]
    with client.get(f"/export.csv?{query}") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))
    assert len(rows) == len(documents) >= 2
    changed = 0
    for row, document in zip(rows, documents, strict=True):
        for name, cell in row.items():
            value = "" if document[name] is None else str(document[name])
            # OWASP's list, with the wide forms that East Asian versions take for the narrow ones.
            assert not cell.startswith(tuple("=+-@\t\r\n＝＋－＠")), (name, cell)
            assert cell in (value, f"'{value}"), (name, cell, value)
            changed += cell != value
    assert changed > 10 or SECOND in query
