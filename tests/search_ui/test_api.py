"""Tests of the routes for programs: every request is answered as the OpenAPI document says."""

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode
from served import served
from werkzeug.datastructures import MultiDict

from conf.settings import Settings
from indexing.fields import FACETS, HIT_FIELDS
from indexing.query.search_state import (
    ANSWERS,
    PARAMETERS,
    PER_PAGE,
    SIZES,
    SORTS,
    BadSearchError,
    SearchState,
)
from search_ui import create_app, openapi
from search_ui.schemas import document_schema
from storage import layout
from storage.lease import lease

# The same cases every time.
settings.register_profile(
    "bounded", derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)  # fmt: skip
# What is wrong with two parameters together.
TOGETHER = re.compile(
    r"the lower one first|only sort=random has one|can't be used with sort=random|numbered pages end at"
)


@pytest.fixture
def schema(page):
    return schemathesis.openapi.from_wsgi(openapi.PATH, page.application)


def parses(**parameters) -> bool:
    try:
        SearchState.parse(MultiDict(parameters))
    except BadSearchError:
        return False
    return True


def test_every_route_for_programs_is_in_the_document_and_nothing_else(library):
    app = create_app(Settings(store=library.store.root))
    routes = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if re.match(r"/(api/|healthz|readyz)", rule.rule)
    }
    assert set(openapi.document()["paths"]) == routes | {
        f"/{name}.{ending}" for name in ("export", "history") for ending in ("jsonl", "csv")
    } | {"/export.txt"}


def test_the_document_is_served_as_it_is_and_the_about_page_links_to_it(page):
    answer = page.get(openapi.PATH)
    assert answer.mimetype == "application/json"
    assert answer.json == openapi.document()
    assert f'href="{openapi.PATH}"' in page.get("/about").text


def test_the_parameters_in_the_document_are_those_that_a_search_takes():
    described = {parameter["name"]: parameter["schema"] for parameter in openapi.search_parameters()}
    assert set(described) == set(PARAMETERS)
    assert {name for name, schema in described.items() if schema["type"] == "array"} == set(FACETS)
    for name, choices in {"answer": ANSWERS, "sort": SORTS, "size": SIZES, "per_page": PER_PAGE}.items():
        assert described[name]["enum"] == list(choices)
        assert all(parses(**{name: str(choice)}) for choice in choices)
        assert not parses(**{name: "another"})
    assert all(parses(**{name: ""}) for name in described), "an empty one is as good as none"
    state = SearchState()
    defaults = {
        "sort": state.sort,
        "seed": state.seed,
        "per_page": state.per_page,
        "size": state.size,
        "page": 1,
    }
    assert {name: schema["default"] for name, schema in described.items() if "default" in schema} == defaults


def test_numbers_and_patterns_in_the_document_end_where_those_of_a_search_do():
    described = {parameter["name"]: parameter["schema"] for parameter in openapi.search_parameters()}
    seed, page = described["seed"], described["page"]
    for wanted, values in {
        True: (seed["minimum"], seed["maximum"]),
        False: (-1, seed["maximum"] + 1),
    }.items():
        assert {parses(sort="random", seed=str(value)) for value in values} == {wanted}
    after = "0.5,0123abcd:1:2"
    for wanted, values in {True: (page["minimum"], page["maximum"]), False: (0, page["maximum"] + 1)}.items():
        assert {parses(page=str(value), after=after) for value in values} == {wanted}
    most = described["tag"]["maxItems"]
    assert SearchState.parse(MultiDict([("tag", f"{n}") for n in range(most)])).values("tag")
    with pytest.raises(BadSearchError):
        SearchState.parse(MultiDict([("tag", "same")] * (most + 1)))
    for name, values in {
        "confidence": ("60-100", "0-0", "60", "-1-5", "1-2-3", "60-100\n", " 1-2", "a-b"),
        "after": (after, "1,0123abcd:1:2", "1.0,0123abcd:1:2", "1.1,0123abcd:1:2", "2,0123abcd:1:2", "0.5,*", "0.5", after + "x"),
    }.items():  # fmt: skip
        valid = jsonschema_rs.validator_for(described[name]).is_valid
        assert {value: parses(**{name: value}) for value in values} == {
            value: valid(value) for value in values
        }
        assert {valid(value) for value in values} == {True, False}


@settings(settings.get_profile("bounded"), max_examples=150)
@given(
    st.text(max_size=8) | st.text(st.sampled_from("a é\u00ad\u2028\u200b\u3000\x00\x7f\u202e"), max_size=4)
)
def test_words_in_the_document_are_those_that_a_search_takes(word):
    # Characters that newer tables of Unicode have and older ones don't are a matter of the tables.
    if any(unicodedata.category(character) in ("Cn", "Cs", "Co") for character in word):
        return
    assert jsonschema_rs.validator_for(openapi.WORD).is_valid(word) == parses(tag=word)


def test_a_document_in_the_document_is_what_solr_has(library):
    assert list(document_schema()["properties"]) == [field.name for field in HIT_FIELDS]
    validator = jsonschema_rs.validator_for(openapi.document()["components"]["schemas"]["Document"])
    for documents in library.documents.values():
        assert all(validator.is_valid(document) for document in documents)
    assert not validator.is_valid(documents[0] | {"colour": "red"})


@pytest.fixture(scope="module")
def address(settings, endpoint, account):
    """The page on a real port, with credentials for an endpoint of label detection."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        with served(create_app(replace(settings, vision=endpoint.url))) as address:
            yield address


@pytest.mark.services
def test_schemathesis_finds_nothing(address, tmp_path):
    """Its own runner: examples, edge cases and random ones of every operation, allowed and not, against a real server."""

    def requests() -> Counter:
        counts = Counter()
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    if sample.name == "tinytags_requests_total":
                        counts[int(sample.labels["status"])] += int(sample.value)
        return counts

    # What is allowed, and what is not, is the next test's: to Schemathesis two queries differ that are the same as sent.
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{address}{openapi.PATH}", "--seed=1",
        "--generation-deterministic", "--phases=examples,coverage,fuzzing", "--max-examples=10", "--workers=1",
        "--exclude-checks=positive_data_acceptance,negative_data_rejection", "--no-color",
    ]  # fmt: skip
    before = requests()
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    made = requests() - before
    assert made.total() >= 500, made
    # 429: on a busy machine an export begins before the last one of the same address has ended.
    assert set(made) <= {200, 400, 404, 405, 413, 415, 429}
    assert min(made[200], made[400], made[404]) > 20, "all of it is tried"


def allowed(query: MultiDict) -> bool:
    """Say whether a query, as it is sent, is what the document says of the parameters of a search."""
    described = {parameter["name"]: parameter for parameter in openapi.search_parameters()}
    for name, values in query.lists():
        if name not in described:
            return False
        schema, value = described[name]["schema"], values
        if schema["type"] != "array":
            if values == [""] and described[name]["allowEmptyValue"]:
                continue
            # A whole number is written in one way: neither 07 nor 7.0, though that is one to JSON Schema.
            whole = schema["type"] == "integer" and re.fullmatch("0|-?[1-9][0-9]*", values[0])
            value = int(values[0]) if whole else values[0]
            if len(values) > 1:
                return False
        if not jsonschema_rs.validator_for(schema).is_valid(value):
            return False
    return True


@pytest.mark.services
@pytest.mark.parametrize("path", ["/api/search", "/export.jsonl", "/export.csv"])
def test_a_search_is_accepted_where_the_document_allows_it_and_refused_where_not(schema, page, library, path):
    operation = schema[path]["GET"]
    known = {"tag": "frog", "runner_up": "ship", "corpus": "small", "model": "ten", "run": library.first.name}
    statuses = Counter()

    @settings(settings.get_profile("bounded"), max_examples=60)
    @given(
        st.one_of(map(operation.as_strategy, GenerationMode)), st.sampled_from([None, *known]), st.booleans()
    )
    def ask(case, name, alone):
        if name:  # often alone, as few combinations of arbitrary values are allowed
            case.query = ({} if alone else case.query or {}) | {name: [known[name]], "page": 1}
        with page.open(**case.as_transport_kwargs()) as answer:
            operation.validate_response(answer)
            query = answer.request.args
            # What one parameter allows or not may depend on another, which OpenAPI has no words for.
            together = answer.status_code == 400 and TOGETHER.search(answer.json["error"])
            assert answer.status_code == (200 if allowed(query) and not together else 400), (
                query,
                answer.text,
            )
            statuses[answer.status_code] += 1

    ask()
    assert statuses[200] > 8 and statuses[400] > 8, statuses


@pytest.mark.services
def test_what_is_there_is_answered_as_the_document_states(schema, page, library):
    """Images, runs and models that there are, some of them broken, and one at work."""
    library.store.write_bytes("corpora/torn/manifest.json", b"{")
    library.store.write_bytes("runs/torn/manifest.json", b"{}")
    library.store.write_bytes("models/torn/model.json", b"[]")
    try:
        with lease(library.store, layout.corpus_lease("small"), "corpus small"):
            app = create_app(
                Settings(
                    library.store.root,
                    solr=page.application.extensions["tinytags"].solr.url,
                    alias="search-ui",
                )
            )
            client = app.test_client()
            paths = {
                "/api/images/{corpus}/{partition}/{row}": [f"/api/images/small/{p}/{row}" for p in range(3) for row in range(0, 100, 7)],
                "/api/corrections": ["/api/corrections"],
                "/api/history": ["/api/history", "/api/history?answer=frog&corrected=no"],
                "/api/runs": ["/api/runs"],
                "/api/runs/{run}": [f"/api/runs/{name}" for name in (library.first.name, library.network.name, "torn", "none")],
                "/api/models": ["/api/models"],
                "/api/models/{name}": ["/api/models/ten", "/api/models/seven", "/api/models/torn", "/api/models/none"],
                "/readyz": ["/readyz"],
                "/healthz": ["/healthz"],
            }  # fmt: skip
            answers = {}
            for template, urls in paths.items():
                for url in urls:
                    answers[url] = client.get(url)
                    schema[template]["GET"].validate_response(answers[url])
        runs = answers["/api/runs"].json
        assert (
            {"error" in state for state in runs["corpora"]}
            == {"error" in state for state in runs["runs"]}
            == {True, False}
        )
        assert [state["working"][0]["step"] for state in runs["corpora"] if state.get("working")] == [
            "ingest"
        ]
        assert {"error" in state for state in answers["/api/models"].json["models"]} == {True, False}
        assert answers["/api/models/torn"].status_code == answers["/api/models/none"].status_code == 404
    finally:
        for folder in ("corpora", "runs", "models"):
            library.store.remove_tree(f"{folder}/torn")


def test_without_solr_every_answer_is_still_as_the_document_states(library):
    app = create_app(Settings(store=library.store.root, solr="http://127.0.0.1:1/solr"))
    schema = schemathesis.openapi.from_wsgi(openapi.PATH, app)
    statuses = {}
    for path, url in {
        "/api/search": "/api/search?tag=frog",
        "/export.jsonl": "/export.jsonl",
        "/export.csv": "/export.csv",
        "/export.txt": "/export.txt",
        "/api/images/{corpus}/{partition}/{row}": "/api/images/small/0/0",
        "/api/runs": "/api/runs",
        "/api/runs/{run}": f"/api/runs/{library.network.name}",
        "/api/models": "/api/models",
        "/api/models/{name}": "/api/models/ten",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
    }.items():
        answer = app.test_client().get(url)
        statuses[path] = answer.status_code
        schema[path]["GET"].validate_response(answer)
    unavailable = [path for path, status in statuses.items() if status == 503]
    assert unavailable == [
        "/api/search",
        "/export.jsonl",
        "/export.csv",
        "/export.txt",
        "/api/images/{corpus}/{partition}/{row}",
        "/readyz",
    ]
    assert set(statuses.values()) == {200, 503}


@pytest.mark.services
def test_exports_are_the_documents_of_the_document(page, library):
    validator = jsonschema_rs.validator_for(openapi.document()["components"]["schemas"]["Document"])
    with page.get("/export.jsonl?tag=frog") as answer:
        lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["Content-Disposition"] == "attachment; filename=tinytags-frog.jsonl"
    columns = [*(field.name for field in HIT_FIELDS), "record", "offset"]
    for line in lines:
        assert list(line) == columns
        record, offset = line.pop("record"), line.pop("offset")
        assert record == line["partition"] * library.corpus.partition_images + line["row"]
        assert offset == 3072 * record
        assert validator.is_valid({name: value for name, value in line.items() if value is not None})
    assert lines
    with page.get("/export.csv?tag=frog") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == columns
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    with page.get("/export.txt?tag=frog") as answer:
        assert answer.text.splitlines() == [line["id"] for line in lines]
    assert (answer.mimetype, int(answer.headers["X-Total-Count"])) == ("text/plain", len(lines))


@pytest.mark.services
@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_errors_are_json_for_programs_and_a_page_for_people_who_follow_a_link(page, accept):
    for path, status in {"/export.csv?page=x": 400, "/export.jsonl?colour=red": 400}.items():
        answer = page.get(path, headers={"Accept": accept})
        assert answer.status_code == status
        if "html" in accept:
            assert answer.mimetype == "text/html" and "<h1>" in answer.text
        else:
            assert answer.json["status"] == status and answer.json["error"]
    for path, status in {"/api/search?page=x": 400, "/api/nothing": 404, "/api/images/none/0/0": 404}.items():
        answer = page.get(path, headers={"Accept": accept})
        assert (answer.mimetype, answer.json["status"]) == ("application/json", status)


def test_a_refused_method_lists_the_allowed_ones(library):
    answer = create_app(Settings(store=library.store.root)).test_client().post("/api/runs")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
