"""Tests of the settings read_only, password and user_header: who may change something, and that no view forgets to ask."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from served import started

from conf.settings import Settings
from records.corrections import open_corrections
from records.predictions import NewPrediction
from search_ui import access, create_app
from search_ui.clients import PEER
from search_ui.login import local
from search_ui.writing import OPEN

PASSWORD = "correct horse"
IMAGE = "/images/small/0/3"


@pytest.fixture
def settings(library, tmp_path):
    """Settings without Solr, with a database of the test's own."""
    return Settings(
        store=library.store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{tmp_path}/login.db"
    )


@pytest.fixture
def number(settings):
    """The number of a prediction that is in the database."""
    history = create_app(settings).extensions["tinytags"].history
    return history.add(
        NewPrediction(
            name="a.png", size=1, sha256="ab" * 32, image=bytes(3072), model="ten", model_hash="cd" * 32,
            milliseconds=1.0, answer="frog", confidence=0.6, classes=(("frog", 0.6), ("ship", 0.4)),
        )
    )  # fmt: skip


def page_with(settings, **changed):
    return create_app(replace(settings, **changed)).test_client()


def log_in(page, name="Ada", password=PASSWORD, **fields):
    return page.post("/login", data={"name": name, "password": password, **fields})


def correct(page, number, **options):
    return page.post(f"/history/{number}/correction", data={"label": "ship", "by": "Eve"}, **options)


def corrected_by(page, number):
    return page.get("/api/history").json["records"][0]["corrected_by"]


def writing_paths(app):
    """Yield a path of every view that a request which may change something reaches."""
    values = {"corpus": "small", "name": "ten", "model": "ten"}
    adapter = app.url_map.bind("127.0.0.1")
    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"GET", "HEAD", "OPTIONS"}:
            if rule.endpoint not in OPEN:
                yield (
                    method,
                    adapter.build(
                        rule.endpoint, {name: values.get(name, 1) for name in rule.arguments}, method
                    ),
                )


@pytest.mark.parametrize(
    ("changed", "status"), [({"read_only": "yes"}, 403), ({"password": PASSWORD}, 401), ({}, None)]
)
def test_every_view_that_may_change_something_is_refused_to_those_who_may_not(settings, changed, status):
    app = create_app(replace(settings, **changed))
    answers = {
        f"{method} {path}": app.test_client().open(path, method=method) for method, path in writing_paths(app)
    }
    assert len(answers) >= 7 and "POST /history/delete" in answers
    if status is None:  # the paths reach their views
        assert not {401, 405} & {answer.status_code for answer in answers.values()}
    else:
        assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
            answers, status
        )


def test_views_that_answer_everyone_are_there_and_are_no_others(settings):
    app = create_app(settings)
    assert {"classify.classify_form", "classify.api_classify", "login.login", "login.logout"} == OPEN
    assert set(app.view_functions) >= OPEN


def test_read_only_hides_every_form_even_from_the_own_machine(settings, number):
    correct(page_with(settings), number)
    page = page_with(settings, read_only="yes", delete_history="yes")
    for path in (f"/history/{number}", "/history", "/corrections"):
        html = page.get(path).text
        assert 'method="post"' not in html and "Log in" not in html, path
        assert 'method="post"' in page_with(settings).get(path).text, path
    answer = correct(page, number)
    assert answer.status_code == 403 and "read-only" in answer.text


@pytest.mark.slow
def test_pictures_are_classified_for_everyone_and_recorded_for_those_who_may_write(settings):
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
    body = {"image": base64.b64encode(file.getvalue()).decode(), "model": "ten"}
    locked, read_only = page_with(settings, password=PASSWORD), page_with(settings, read_only="yes")
    for page in (locked, read_only):
        answer = page.post("/api/classify", json=body)
        assert answer.status_code == 200 and answer.json["results"][0]["predictions"]
        assert answer.json["results"][0]["record"] is None and answer.json["not_recorded"]
        assert "is not recorded" in page.get("/classify").text
    answer = locked.post("/api/classify", json=body, auth=("Ada", PASSWORD))
    assert answer.json["results"][0]["record"] and "not_recorded" not in answer.json
    assert locked.post("/api/classify", json=body, auth=("Ada", "another one")).status_code == 401
    assert locked.get("/api/history").json["total"] == 1


def test_a_person_logs_in_corrects_under_that_name_and_logs_out(settings, number):
    page = page_with(settings, password=PASSWORD)
    html = page.get(f"/history/{number}").text
    assert 'name="label"' not in html and f"/login?next=%2Fhistory%2F{number}" in html
    refused = correct(page, number, headers={"Referer": f"http://localhost/history/{number}?x=1"})
    assert refused.status_code == 401 and f"/login?next=%2Fhistory%2F{number}%3Fx%3D1" in refused.text
    refused = correct(page, number, headers={"Referer": "http://["})
    assert refused.status_code == 401 and 'href="/login?next=%2F"' in refused.text
    answer = log_in(page, "Ada  <b>", next=f"/history/{number}")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/history/{number}")
    cookie = page.get_cookie("tinytags")
    assert cookie.http_only and cookie.same_site == "Strict"
    html = page.get(f"/history/{number}").text
    assert 'name="label"' in html and 'name="by"' not in html and "as <strong>Ada &lt;b&gt;</strong>" in html
    assert correct(page, number).status_code == 303
    assert corrected_by(page, number) == "Ada <b>", "not the name in the form"
    assert "Logged in as Ada &lt;b&gt;" in page.get("/login").text
    page.post("/logout")
    assert correct(page, number).status_code == 401


def test_the_session_is_that_of_every_process_with_the_password_and_ends_with_it(settings, number):
    page = page_with(settings, password=PASSWORD)
    log_in(page)
    value = page.get_cookie("tinytags").value
    # Not the last character, of which two bits mean nothing.
    forged = value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]
    for password, cookie, status in (
        (PASSWORD, value, 303), ("another password", value, 401), (PASSWORD, forged, 401), (PASSWORD, "eyJ1c2VyIjoiQSJ9", 401),
    ):  # fmt: skip
        other = page_with(settings, password=password)
        other.set_cookie("tinytags", cookie)
        assert correct(other, number).status_code == status


def test_wrong_passwords_are_limited_by_address_and_right_ones_are_not(settings, monkeypatch):
    # Where the machine is busy, these take a part of a minute.
    monkeypatch.setattr(access, "TRIES", "10/hour")
    page = page_with(settings, password=PASSWORD)
    assert {log_in(page).status_code for _ in range(15)} == {303}
    answers = [log_in(page, password="another one") for _ in range(12)]
    statuses = [answer.status_code for answer in answers]
    assert 10 <= statuses.index(429) <= 11 and set(statuses) == {403, 429}  # 11 where an hour ends between
    assert "The password is wrong." in answers[0].text and "another one" not in answers[0].text
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert log_in(page).status_code == 429, "a right one is no way to find out"
    assert page.post("/history/delete", auth=("Ada", PASSWORD), headers={}).status_code == 303, (
        "logged in before"
    )
    fresh = create_app(replace(settings, password=PASSWORD)).test_client()
    for _ in range(12):
        assert fresh.post("/history/delete", auth=("Ada", "another one")).status_code in (401, 429)
    assert fresh.post("/history/delete", auth=("Ada", PASSWORD)).status_code == 429
    other = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert fresh.post("/login", data={"name": "A", "password": PASSWORD}, **other).status_code == 303


@pytest.mark.parametrize(("form", "status"), [({"password": PASSWORD}, 400), ({"name": "x" * 81, "password": PASSWORD}, 400), ({"name": "Ada"}, 403)])  # fmt: skip
def test_a_login_without_a_name_or_a_password_is_none(settings, form, status):
    page = page_with(settings, password=PASSWORD)
    assert page.post("/login", data=form).status_code == status
    assert page.get_cookie("tinytags") is None


def test_requests_of_another_site_log_no_person_in_or_out(settings, number):
    page = page_with(settings, password=PASSWORD)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert (
            page.post("/login", data={"name": "Eve", "password": PASSWORD}, headers=headers).status_code
            == 403
        )
    log_in(page)
    page.post("/logout", headers={"Origin": "http://evil.example"})
    assert correct(page, number).status_code == 303


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "http://evil.example", "evil", "", "/\t/evil", "/a b"])  # fmt: skip
def test_a_login_leads_to_no_other_site(path):
    assert local(path) == "/"
    assert local("/images/small/0/3?tag=a%20b&at=2") == "/images/small/0/3?tag=a%20b&at=2"


def test_a_header_names_the_person_where_it_comes_from_the_proxy(settings, number):
    page = page_with(settings, user_header="X-Forwarded-User", proxy="192.0.2.1", delete_history="yes")
    header = {"X-Forwarded-User": "Béa".encode().decode("latin-1")}
    proxy = {"environ_overrides": {PEER: "192.0.2.1", "REMOTE_ADDR": "198.51.100.9"}}
    assert correct(page, number, headers=header).status_code == 401
    for peer in ("198.51.100.9", "::1"):
        sent = {"environ_overrides": {PEER: peer, "REMOTE_ADDR": "192.0.2.1"}}
        assert correct(page, number, headers=header, **sent).status_code == 401
    assert correct(page, number, **proxy).status_code == 401, "no person is logged in there"
    assert correct(page, number, headers={"X-Forwarded-User": "x" * 81}, **proxy).status_code == 401
    assert correct(page, number, headers=header, **proxy).status_code == 303
    assert corrected_by(page, number) == "Béa"
    assert "has logged you in" in page.get("/login", headers=header, **proxy).text
    assert log_in(page).status_code == 403, "there is no password"
    assert page.post("/logout").status_code == 303
    assert page.post(f"/history/{number}/delete", headers=header, **proxy).status_code == 303


def test_the_login_is_for_those_who_delete_too(settings, number):
    page, other = page_with(settings, password=PASSWORD), {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    assert page.post(f"/history/{number}/delete").status_code == 401
    log_in(page)
    assert page.post(f"/history/{number}/delete", **other).status_code == 403, "delete_history is no"
    assert page.post(f"/history/{number}/delete").status_code == 303


def test_without_these_settings_there_is_no_login(settings, number):
    page = page_with(settings)
    assert (
        page.get("/login").status_code == log_in(page).status_code == page.post("/logout").status_code == 404
    )
    assert "/login" not in page.get("/history").text
    assert correct(page, number, auth=("Ada", "anything")).status_code == 303
    assert corrected_by(page, number) == "Eve"


@pytest.mark.services
def test_the_server_trusts_the_address_of_the_connection_and_no_header(settings, number):
    import urllib.request

    def status(port, **headers):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/history/{number}/correction", b"label=ship&by=Eve", headers
        )
        try:
            return urllib.request.build_opener(Quiet).open(request, timeout=60).status
        except urllib.error.HTTPError as error:
            return error.code

    class Quiet(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    sent = {"X-Forwarded-User": "Ada", "X-Forwarded-For": "198.51.100.9"}
    for proxy, wanted in (("127.0.0.1", 303), ("192.0.2.1", 401)):
        with started(replace(settings, user_header="X-Forwarded-User", proxy=proxy)) as (_, port):
            assert status(port, **sent) == wanted
            assert status(port, X_Forwarded_User="Ada") == 401
    assert [one.by for one in open_corrections(settings.database).newest()] == []


def test_the_form_for_corrections_of_an_image_is_hidden_and_its_undo(settings, library):
    open_corrections(settings.database).add(library.corpus, 0, 3, "frog", "Ada")
    page = page_with(settings, read_only="yes")
    answer = page.post(f"{IMAGE}/corrections", data={"label": "ship", "by": "Eve"})
    assert answer.status_code == 403 and re.search("read-only", answer.text)
