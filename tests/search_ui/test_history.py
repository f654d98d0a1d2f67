"""Tests of the history: found by filters, corrected, exported, deleted and expired; on pages and as JSON."""

import csv
import io
import json
import re
import shutil
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import search_ui.history
from conf.settings import Settings
from records.corrections import DatabaseError
from records.predictions import NewPrediction
from search_ui import create_app
from search_ui.history import History
from search_ui.server import THREADS

DAY = datetime(2026, 11, 20, 12, tzinfo=UTC)


def prediction(number: int, **options) -> NewPrediction:
    values = {
        "name": f"picture {number}.png", "size": 100 + number, "sha256": f"{number:064x}", "image": bytes([number % 256] * 3072),
        "model": "ten", "model_hash": "ab" * 32, "milliseconds": 1.25, "answer": ("frog", "ship")[number % 2], "confidence": 0.6,
        "classes": (("frog", 0.6), ("ship", 0.3), ("<b>deer</b>", 0.1)), "at": DAY + timedelta(hours=number),
    }  # fmt: skip
    return NewPrediction(**values | options)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database file with 120 predictions an hour apart."""
    file = tmp_path_factory.mktemp("history") / "h.db"
    history = History(f"sqlite:///{file}").predictions
    for number in range(120):
        history.add(prediction(number))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@pytest.fixture
def app(database, tmp_path):
    """The page with an empty store and without Solr, and a copy of that database."""
    shutil.copy(database, tmp_path / "h.db")
    settings = Settings(
        store=str(tmp_path / "store"), solr="http://127.0.0.1:1/solr", database=f"sqlite:///{tmp_path}/h.db"
    )
    app = create_app(settings)
    app.numbers = [one.number for one in app.extensions["tinytags"].history.predictions.every()][::-1]
    return app


@pytest.fixture
def client(app):
    return app.test_client()


def total(client, query="") -> int:
    return client.get(f"/api/history?{query}").json["total"]


def test_pages_are_newest_first_and_lead_to_each_other(client, app):
    seen, query = [], ""
    while True:
        page = client.get(f"/api/history?{query}").json
        seen += [record["number"] for record in page["records"]]
        if page["older"] is None:
            break
        query = f"before={page['older']}"
    assert seen == app.numbers[::-1] and page["total"] == 120 and page["complete"]
    html = client.get("/history").text
    assert "120</strong> predictions" in html
    older = re.search(r'href="(/history\?before=\d+)" rel="next"', html)[1]
    newer = re.search(r'href="(/history\?after=\d+)" rel="prev"', client.get(older).text)[1]
    assert re.findall(r"/history/(\d+)\.png", client.get(newer).text) == re.findall(
        r"/history/(\d+)\.png", html
    )


def test_filters_by_answer_model_date_and_correction(client, app):
    assert total(client, "answer=frog") == 60 and total(client, "model=seven") == 0
    assert total(client, "since=2026-11-21&until=2026-11-21") == 24, "the whole day"
    assert total(client, "since=2026-11-21T00:00&until=2026-11-21T06:00%2B01:00&answer=") == 5
    client.post(f"/history/{app.numbers[0]}/correction", data={"label": "ship", "by": "Ada"})
    assert (total(client, "corrected=yes"), total(client, "corrected=no")) == (1, 119)
    html = client.get("/history?answer=frog&corrected=yes").text
    assert "1</strong> prediction of this filter" in html and 'value="frog"' in html


@pytest.mark.parametrize("query", ["colour=red", "since=yesterday", "corrected=maybe", "before=x", "before=-1", "after=" + "1" * 5000, "answer=a&answer=b"])  # fmt: skip
@pytest.mark.parametrize("path", ["/history", "/api/history", "/history.csv"])
def test_filters_that_are_none_are_refused(client, path, query):
    # A page drops a parameter that there is not.
    expected = 302 if (path, query) == ("/history", "colour=red") else 400
    assert client.get(f"{path}?{query}").status_code == expected


def test_a_prediction_has_a_page_and_its_pixels(client, app):
    number = app.numbers[7]
    html = client.get(f"/history/{number}").text
    for words in (
        "picture 7.png",
        f"{7:064x}",
        "107 bytes",
        "&lt;b&gt;deer&lt;/b&gt;",
        "2026-11-20 19:00:00 UTC",
    ):
        assert words in html
    assert "<b>deer" not in html
    pixels = np.asarray(Image.open(io.BytesIO(client.get(f"/history/{number}.png?scale=2").data)))
    assert pixels.shape == (64, 64, 3) and (pixels == 7).all()
    assert "img-src 'self' data:;" in client.get(f"/history/{number}").headers["Content-Security-Policy"]
    assert client.get("/api/history?before=0&after=0").json["newer"] == 0
    assert client.get("/history/5").status_code == client.get("/history/5.png").status_code == 404
    assert client.get(f"/history/{10**30}").status_code == 404


def test_a_correction_is_stored_and_undone(client, app):
    number = app.numbers[3]
    answer = client.post(f"/history/{number}/correction", data={"label": "<b>deer</b>", "by": "Ada"})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/history/{number}")
    record = client.get("/api/history?corrected=yes").json["records"][0]
    assert (record["number"], record["correction"], record["corrected_by"]) == (number, "<b>deer</b>", "Ada")
    assert "<strong>&lt;b&gt;deer&lt;/b&gt;</strong>" in client.get(f"/history/{number}").text
    assert 'value="Ada"' in client.get(f"/history/{app.numbers[4]}").text, "a name is written once"
    for data, status in (({"label": "unicorn", "by": "Ada"}, 400), ({"label": "frog"}, 400), ({}, 400)):
        assert client.post(f"/history/{number}/correction", data=data).status_code == status
    assert client.post(f"/history/{number}/correction", data={"undo": "yes", "by": "Ada"}).status_code == 303
    assert total(client, "corrected=yes") == 0
    assert client.post("/history/5/correction", data={"label": "frog", "by": "Ada"}).status_code == 404


def test_one_is_deleted_and_all_of_a_filter(client, app):
    for left in (119, 119):
        assert client.post(f"/history/{app.numbers[0]}/delete").status_code == 303
        assert total(client) == left
    answer = client.post("/history/delete", data={"answer": "ship", "until": "2026-11-21"})
    assert answer.headers["Location"] == "/history?deleted=18"
    assert "18 predictions deleted." in client.get("/history?deleted=18").text
    assert client.post("/history/delete", data={"colour": "red"}).status_code == 400
    assert total(client) == 101
    client.post("/history/delete")
    assert total(client) == 0 and "Nothing has been classified yet" in client.get("/history").text


def test_another_machine_deletes_nothing_unless_the_setting_allows_it(app):
    settings, number = app.extensions["tinytags"].settings, app.numbers[0]
    other = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    client = app.test_client()
    for path in ("/history/delete", f"/history/{number}/delete"):
        assert client.post(path, **other).status_code == 403
    for path in ("/history", f"/history/{number}"):
        assert "/delete" not in client.get(path, **other).text and "/delete" in client.get(path).text
    assert total(client) == 120
    client = create_app(replace(settings, delete_history="yes")).test_client()
    assert client.post(f"/history/{number}/delete", **other).status_code == 303
    assert total(client) == 119 and "/delete" in client.get("/history", **other).text


@pytest.mark.parametrize("path", ["/history/{}/correction", "/history/{}/delete", "/history/delete"])
def test_forms_of_other_sites_change_nothing(client, app, path):
    path = path.format(app.numbers[0])
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        answer = client.post(path, data={"label": "frog", "by": "Eve"}, headers=headers)
        assert answer.status_code == 403
    assert client.get(path).status_code == 405, "a link changes nothing"
    assert total(client) == total(client, "corrected=no") == 120


def test_exports_have_all_of_a_filter_and_no_formula(client, app):
    app.extensions["tinytags"].history.predictions.add(
        prediction(200, name="=1+1.png", answer="frog", at=DAY)
    )
    with client.get("/history.jsonl?answer=frog") as answer:
        lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == 61 and lines[0]["predictions"][1] == {"class": "ship", "confidence": 0.3}
    with client.get("/history.csv?answer=frog") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.mimetype == "text/csv" and answer.headers["X-Total-Count"] == "61"
    assert [int(row["number"]) for row in rows] == [line["number"] for line in lines]
    assert rows[-2]["filename"] == "'=1+1.png" or rows[-1]["filename"] == "'=1+1.png"


def test_an_export_has_a_place_of_its_client_as_those_of_searches(client):
    with client.get("/history.jsonl"):
        assert client.get("/history.csv").status_code == client.get("/export.csv").status_code == 429
    with client.get("/history.csv") as answer:
        assert answer.status_code == 200
    assert next(beginning for beginning in THREADS if "/history.csv".startswith(beginning)) == "/history."


def test_old_predictions_are_deleted_each_hour_also_where_none_is_added(app, monkeypatch):
    settings = replace(app.extensions["tinytags"].settings, retention_days="3", read_only="yes")
    kept = create_app(settings).extensions["tinytags"].history
    now, expire = datetime.now(UTC), Mock(wraps=kept.predictions.expire)
    left = sum(DAY + timedelta(hours=n) >= now - timedelta(days=3) for n in range(120))

    def has(count):
        until = time.monotonic() + 30
        while kept.predictions.count().number != count and time.monotonic() < until:
            time.sleep(0.01)
        return kept.predictions.count().number == count

    monkeypatch.setattr(search_ui.history, "EXPIRE_SECONDS", 0.05)
    monkeypatch.setattr(kept.predictions, "expire", expire)
    kept.expire_hourly()
    assert has(left)
    expire.side_effect = DatabaseError("busy")  # which ends neither the thread nor the page
    number = kept.add(prediction(2, at=now - timedelta(days=9)))
    failed = expire.call_count
    while expire.call_count < failed + 2:
        time.sleep(0.01)
    assert kept.predictions.get(number)
    expire.side_effect = None
    assert has(left)


def test_the_history_can_be_turned_off_and_an_unavailable_database_is_reported(app, tmp_path):
    settings = app.extensions["tinytags"].settings
    off = create_app(replace(settings, database="none")).test_client()
    assert off.get("/history").status_code == off.get("/api/history").status_code == 403
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    broken = create_app(replace(settings, database=f"sqlite:///{tmp_path}/broken.db")).test_client()
    for path in ("/history", "/api/history", "/history/1", "/history.csv"):
        answer = broken.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 503 and "Corrections" not in answer.text, path
