"""Tests of label detection: the client of Google Cloud Vision itself, against an endpoint on this machine."""

import base64
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from served import served
from vision import CAT

from conf.settings import Settings
from search_ui import create_app, label_detection

pytestmark = pytest.mark.slow  # importing the client takes seconds

UNREADABLE = {"responses": [{"error": {"code": 3, "message": "Bad image data."}}]}
DENIED = {"error": {"code": 403, "message": "Cloud Vision API is disabled.", "status": "PERMISSION_DENIED"}}


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def app(library, endpoint, tmp_path_factory):
    database = tmp_path_factory.mktemp("labels") / "history.db"
    settings = Settings(
        store=library.store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{database}",
        classify_rate="none", vision=endpoint.url,
    )  # fmt: skip
    app = create_app(settings)
    yield app
    app.extensions["tinytags"].decoder.close()


@pytest.fixture
def client(app, endpoint, account, monkeypatch):
    """A client of the page, whose process has credentials; the endpoint knows all pictures as cats."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    endpoint.answers = [(200, CAT)]
    for sent in (endpoint.pictures, endpoint.headers, endpoint.features):
        sent.clear()
    return app.test_client()


def send(client, *files: bytes, path="/api/label-detection", **fields):
    data = {"files": [(io.BytesIO(data), f"{n}.png") for n, data in enumerate(files)], **fields}
    return client.post(path, data=data, content_type="multipart/form-data")


def test_pictures_are_sent_whole_and_answered_with_their_labels(client, endpoint, app):
    answer = send(client, png(1), png(2), min_confidence="0.5")
    assert answer.status_code == 200
    first, second = answer.json["results"]
    assert first["filename"] == "0.png" and second["filename"] == "1.png"
    cat, dog = first["predictions"]
    assert (cat["class"], cat["label"], cat["confidence"]) == ("Cat", "/m/01yrx", 0.875)
    assert (dog["class"], dog["confidence"]) == ("Dog", pytest.approx(0.61))
    assert endpoint.pictures == [png(1), png(2)]
    assert all(headers["Authorization"].startswith("Bearer ") for headers in endpoint.headers)
    assert [(one["type"], one["maxResults"]) for (one,) in endpoint.features] == [
        (4, label_detection.MOST_LABELS)
    ] * 2
    body = {"image": base64.b64encode(png(3)).decode(), "filename": "three.png"}
    (third,) = client.post("/api/label-detection", json=body).json["results"]
    assert (third["filename"], len(third["predictions"]), endpoint.pictures[-1]) == ("three.png", 3, png(3))
    assert client.get("/api/history").json["total"] == 0


def test_the_page_sends_pictures_away_only_where_a_person_chose_it(client, endpoint):
    form = client.get("/classify").text
    assert "the pictures leave this machine" in form and 'value="google-cloud-vision"' in form
    assert send(client, png(1), path="/classify", model="ten").status_code == 200
    assert endpoint.pictures == []
    labels = send(client, png(1), path="/classify", model="ten", detector="google-cloud-vision")
    assert labels.status_code == 200 and endpoint.pictures == [png(1)]
    assert labels.text.index("Cat") < labels.text.index("Dog") < labels.text.index("Whiskers")


def test_what_is_no_picture_is_not_sent(client, endpoint):
    bad, good = send(client, b"no picture", png(1)).json["results"]
    assert bad["error"] and good["predictions"] and endpoint.pictures == [png(1)]
    assert send(client, b"no picture").status_code == 400
    assert send(client, png(1), model="ten").status_code == 400
    assert client.post("/api/label-detection", data=b"x").status_code == 415
    assert len(endpoint.pictures) == 1


def test_a_picture_that_google_can_not_read_and_a_failure_after_others_have_errors_of_their_own(
    client, endpoint
):
    endpoint.answers = [(200, CAT), (200, UNREADABLE), (503, DENIED)]
    first, second, third = send(client, png(1), png(2), png(3)).json["results"]
    assert first["predictions"] and second["error"] and third["error"]
    endpoint.answers = [(200, UNREADABLE)]
    assert send(client, png(1)).status_code == 400


@pytest.mark.parametrize(
    "fault", ["denied", "unreachable", "no credentials", "bad credentials", "not installed"]
)
def test_without_google_cloud_vision_the_answer_is_one_line(
    client, endpoint, account, fault, monkeypatch, tmp_path
):
    if fault == "denied":
        endpoint.answers = [(403, DENIED)]
    elif fault == "unreachable":
        sources = client.application.extensions["tinytags"]
        without_answer = replace(sources, settings=replace(sources.settings, vision="http://127.0.0.1:1"))
        monkeypatch.setitem(client.application.extensions, "tinytags", without_answer)
    elif fault == "not installed":
        monkeypatch.setitem(sys.modules, "google.cloud.vision", None)
    else:
        file = tmp_path / "account.json"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        if fault == "bad credentials":
            file.write_text(json.dumps(json.loads(account.read_text()) | {"private_key": "none"}))
    answer = send(client, png(1))
    assert answer.status_code == 503
    assert "\n" not in answer.json["error"] and str(tmp_path) not in answer.json["error"]
    page = send(client, png(1), path="/classify", model="ten", detector="google-cloud-vision")
    assert page.status_code == 503
    if fault == "not installed":
        form = client.get("/classify").text
        assert "tinytags[vision]" in form and 'name="detector"' not in form
    assert endpoint.pictures == ([png(1)] * 2 if fault == "denied" else [])


def test_those_who_may_change_nothing_send_nothing_away(client, endpoint, monkeypatch):
    sources = client.application.extensions["tinytags"]
    settings = replace(sources.settings, read_only="yes")
    monkeypatch.setitem(client.application.extensions, "tinytags", replace(sources, settings=settings))
    assert send(client, png(1)).status_code == 403
    assert (
        send(client, png(1), path="/classify", model="ten", detector="google-cloud-vision").status_code == 403
    )
    assert 'name="detector"' not in client.get("/classify").text
    assert endpoint.pictures == []


@pytest.mark.services
def test_in_a_browser_only_the_button_sends_a_picture_away(client, endpoint, chromium):
    with served(client.application) as address:
        page = chromium.new_page()
        page.goto(f"{address}/classify")
        page.set_input_files("#files", {"name": "a.png", "mimeType": "image/png", "buffer": png(1)})
        page.get_by_text("What the model classified").wait_for()
        assert endpoint.pictures == []
        page.get_by_role("button", name="Google Cloud Vision").click()
        page.get_by_role("heading", name="Cat 87.5 %").wait_for()
        assert endpoint.pictures == [png(1)]
        page.close()
