"""Tests that parameters which other sites add to links are ignored, and that others that there are not are an error for programs."""

import pytest

from conf.settings import Settings
from search_ui import create_app


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    return create_app(
        Settings(store=str(folder), solr="http://127.0.0.1:1/solr", database=f"sqlite:///{folder}/records.db")
    )


def test_a_browser_is_redirected_to_the_page_without_parameters_that_are_unknown(app):
    page = app.test_client()
    for path, wanted in (
        ("/?utm_source=x&tag=frog&fbclid=1&tag=a%26b&page=2", "/?tag=frog&tag=a%26b&page=2"),
        ("/?utm_source=x", "/"),
        ("/label?gclid=1&show=uncertain&class=%C3%A9", "/label?show=uncertain&class=%C3%A9"),
        ("/history?//evil.example=1&answer=frog", "/history?answer=frog"),
    ):
        answer = page.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (302, wanted)
    assert page.get("/?utm_source=x&page=0", follow_redirects=True).status_code == 400
    routes = [rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods and not rule.arguments]
    assert len(routes) > 15
    for path in routes:
        status = page.get(path, query_string={"utm_source": "x"}, headers={"Accept": "text/html"}).status_code
        assert status != 400 or path.startswith("/api/"), path


def test_a_program_gets_the_name_of_a_parameter_that_there_is_not(app):
    page = app.test_client()
    for path in ("/api/search", "/export.jsonl", "/history.csv"):
        answer = page.get(f"{path}?tags=frog")
        assert answer.status_code == 400 and "unknown parameter 'tags'" in answer.json["error"]
        answer = page.get(f"{path}?utm_source=x&fbclid=1&tags=frog&utm=y")
        assert answer.status_code == 400 and "unknown parameter 'tags'" in answer.json["error"]
    answer = page.get("/annotations/x/classes.csv?utm_source=x&srsltid=1")
    assert answer.status_code == 404 and answer.is_json, "not that a parameter is unknown"
    for path in ("/api/history", "/history.csv", "/api/search", "/export.txt"):
        with page.get(f"{path}?utm_source=x&fbclid=1&gclid=2") as answer:
            assert answer.status_code == (503 if "history" not in path else 200)
