"""Tests of classifying pictures: over the API and on the page, as the batch does, recorded, within limits."""

import base64
import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hostile_pictures import hostile_files
from networks import random_network
from PIL import Image
from searchable import CLASSES
from served import served
from small_world import make_corpus, make_images

from conf.processor import processor_seconds
from conf.settings import Settings
from ingest.partition import read_partition
from ingest.picture import MOST_BYTES, WORKERS
from jobs.tag_images import tag_images
from records.predictions import open_predictions
from search_ui import UPLOAD_BYTES, create_app
from search_ui.uploads import MOST_FILES
from storage import layout
from storage.store import open_store
from tagging.models import save_model
from tagging.network import Network


def png(picture: Image.Image | np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, "PNG", **options)
    return file.getvalue()


GOOD = png(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def app(library, tmp_path_factory):
    """The page without Solr, with a database of its own."""
    database = tmp_path_factory.mktemp("classify") / "history.db"
    settings = Settings(
        store=library.store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{database}", classify_rate="none"
    )  # fmt: skip
    app = create_app(settings)
    yield app
    app.extensions["tinytags"].decoder.close()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def predictions(app):
    return app.extensions["tinytags"].history.predictions


def upload(client, *files: tuple[bytes, str], path="/api/classify", headers=None, **fields):
    sent = [(io.BytesIO(data), name) for data, name in files]
    return client.post(
        path, data={"files": sent, **fields}, headers=headers, content_type="multipart/form-data"
    )


def test_a_picture_gets_the_share_of_every_class_and_is_recorded(client, predictions):
    answer = upload(client, (GOOD, "a picture.png"), model="ten")
    assert answer.status_code == 200
    (result,) = answer.json["results"]
    assert (result["filename"], result["model"]) == ("a picture.png", "ten")
    shares = [entry["confidence"] for entry in result["predictions"]]
    assert {entry["class"] for entry in result["predictions"]} == set(CLASSES)
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert result["milliseconds"] > 0
    stored = predictions.get(result["record"])
    assert (stored.name, stored.size, stored.sha256) == (
        "a picture.png",
        len(GOOD),
        hashlib.sha256(GOOD).hexdigest(),
    )
    assert stored.answer == result["predictions"][0]["class"] and stored.confidence == shares[0]
    pixels = np.frombuffer(stored.image, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(GOOD))))


def test_json_with_base64_gives_the_same(client):
    body = {
        "image": base64.b64encode(GOOD).decode(),
        "model": "ten",
        "min_confidence": 0.3,
        "filename": "x/../a.png",
    }
    (result,) = client.post("/api/classify", json=body).json["results"]
    (other,) = upload(client, (GOOD, "b.png"), model="ten", min_confidence="0.3").json["results"]
    assert result["predictions"] == other["predictions"]
    assert all(entry["confidence"] >= 0.3 for entry in result["predictions"])
    assert result["filename"] == "a.png", "the folders of another machine are left out"


def test_a_bad_file_among_good_ones_has_an_error(client, predictions):
    before = predictions.count().number
    answer = upload(client, (GOOD, "1.png"), (b"<svg>", "2.png"), (GOOD, "3.png"), model="ten")
    first, bad, last = answer.json["results"]
    assert answer.status_code == 200 and set(bad) == {"filename", "error"} and bad["filename"] == "2.png"
    assert first["predictions"] == last["predictions"] and first["record"] < last["record"]
    assert predictions.count().number == before + 2


def test_the_newest_model_is_the_default_where_nothing_is_published(client, library):
    (result,) = upload(client, (GOOD, "a.png")).json["results"]
    cards = {
        name: library.store.read_json(layout.model_card(name)) for name in ("ten", "seven", "trained", "deep")
    }
    assert cards[result["model"]]["created"] == max(card["created"] for card in cards.values())


REFUSED = {
    "no file": ({"data": {"model": "ten"}, "content_type": "multipart/form-data"}, 400),
    "no image": ({"json": {}}, 400),
    "a list": ({"json": [1]}, 400),
    "not JSON": ({"data": b"{", "content_type": "application/json"}, 400),
    "lists in lists": ({"data": b"[" * 60_000, "content_type": "application/json"}, 400),
    "a confidence of 400 digits": ({"data": b'{"image": "AAAA", "min_confidence": 1%s}' % (b"0" * 400), "content_type": "application/json"}, 400),
    "not base64": ({"json": {"image": "***"}}, 400),
    "another field": ({"json": {"image": "AAAA", "path": "/etc/passwd"}}, 400),
    "a bad confidence": ({"json": {"image": "AAAA", "min_confidence": "NaN"}}, 400),
    "an unknown model": ({"json": {"image": "AAAA", "model": "../../etc"}}, 404),
    "plain text": ({"data": b"x", "content_type": "text/plain"}, 415),
    "of another site": ({"json": {"image": "AAAA"}, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    "of another origin": ({"json": {"image": "AAAA"}, "headers": {"Origin": "http://evil.example"}}, 403),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_requests_that_are_refused(client, what):
    request, status = REFUSED[what]
    answer = client.post("/api/classify", **request)
    assert (answer.status_code, answer.json["status"]) == (status, status) and answer.json["error"]


def test_too_many_bytes_or_files_are_refused_before_any_is_decoded(client):
    assert upload(client, (bytes(MOST_BYTES + 1), "large.png")).status_code == 413
    assert upload(client, *[(GOOD, f"{n}.png") for n in range(MOST_FILES + 1)]).status_code == 413
    large = {"data": b"", "content_type": "multipart/form-data; boundary=x"}
    answer = client.post(
        "/api/classify", **large, environ_overrides={"CONTENT_LENGTH": str(UPLOAD_BYTES + 1)}
    )
    assert answer.status_code == 413


def decoders_memory(server: psutil.Process) -> int:
    """Return the most bytes of memory that one of a server's decoders has had; those that have just ended don't count."""
    peaks = [0]
    for process in server.children():
        with contextlib.suppress(psutil.Error, OSError):
            if "ingest.picture" in process.cmdline():
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks += [1024 * int(kib) for kib in re.findall(r"VmHWM:\s+(\d+) kB", status)]
    return max(peaks)


@pytest.mark.slow
def test_hostile_files_get_4xx_in_under_two_seconds_take_little_memory_and_nothing_is_kept(
    client, predictions, app
):
    began = processor_seconds()
    upload(client, (GOOD, "starts the decoder.png"))
    starting = (
        processor_seconds() - began
    )  # a file that ends the decoder has another one started for the next file
    before = predictions.count().number
    files = hostile_files()
    assert len(files) >= 200
    server, peaks = psutil.Process(), []
    memory = server.memory_info().rss
    for name, data in files.items():
        began, busy = time.monotonic(), processor_seconds()
        answer = upload(client, (data, f"../../{name}\x00.png"))
        assert 400 <= answer.status_code < 500, name
        # A busy machine gives less than a processor: what is left of this time is another's.
        assert time.monotonic() - began < 2 or processor_seconds() - busy < 2 + starting, name
        assert time.monotonic() - began < 20, name
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.mimetype == "application/json"
        peaks.append(decoders_memory(server))
    # Two decoders; what the answers are made of stays small.
    assert 0 < WORKERS * max(peaks) + server.memory_info().rss - memory < 200 << 20
    assert predictions.count().number == before
    assert app.extensions["tinytags"].decoder._workers.qsize() == WORKERS


def test_an_address_has_so_many_pictures_classified_in_a_time(app, library):
    settings = replace(app.extensions["tinytags"].settings, classify_rate="3/day", database="none")
    client = create_app(settings).test_client()
    assert upload(client, (GOOD, "1"), (GOOD, "2")).status_code == 200
    refused = upload(client, (GOOD, "3"), (GOOD, "4"))
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert upload(client, (GOOD, "3")).json["results"][0]["record"] is None, "the history is turned off"


def test_an_unavailable_database_does_not_stop_an_answer_and_the_page_reports_it(app, tmp_path):
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    settings = replace(app.extensions["tinytags"].settings, database=f"sqlite:///{tmp_path}/broken.db")
    client = create_app(settings).test_client()
    (result,) = upload(client, (GOOD, "a.png"), model="ten").json["results"]
    assert result["record"] is None and len(result["predictions"]) == len(CLASSES)
    html = upload(client, (GOOD, "a.png"), path="/classify", model="ten").text
    assert "Not recorded: the database is unavailable." in html and "data:image/png;base64," in html


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A folder of pictures tagged in batch by a forest and a network, with its store."""
    folder = tmp_path_factory.mktemp("tagged")
    store = open_store(str(folder / "store"))
    images, labels = make_images(12, seed=3)
    pictures = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    (folder / "pictures").mkdir()
    for number, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels).resize((90 + number, 64), Image.Resampling.BICUBIC)
        picture.save(folder / "pictures" / f"{number:02}.png")
    corpus = make_corpus(store, "pictures", folder / "pictures", 12)
    return SimpleNamespace(store=store, folder=folder / "pictures", corpus=corpus, labels=labels)


@pytest.mark.slow
def test_the_same_bytes_get_the_same_tag_as_in_batch_by_a_forest_and_by_a_network(library, tagged, tmp_path):
    from tagging.models import load_model

    forest = load_model(library.learnt.store, "deep")
    network = Network(tuple(CLASSES), random_network(classes=4))
    settings = Settings(store=tagged.store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{tmp_path}/h.db", master="processes[1]")  # fmt: skip
    client = create_app(settings).test_client()
    (block,) = read_partition(tagged.store, tagged.corpus, 0)
    for name, model in {"forest": forest, "network": network}.items():
        save_model(tagged.store, name, model, {})
    for name in ("forest", "network"):
        run = tag_images(settings, "pictures", name, min_confidence=0)["run"]
        lines = tagged.store.read_bytes(layout.run_tags(run, 0)).splitlines()
        for row, line in enumerate(lines):
            document = json.loads(line)
            data = (tagged.folder / f"{row:02}.png").read_bytes()
            (result,) = upload(client, (data, "x.png"), model=name).json["results"]
            best, second = result["predictions"][:2]
            assert (best["class"], best["confidence"]) == (document["tag"], document["confidence"])
            assert second["class"] == (document["runner_up"] or second["class"])
            stored = open_predictions(settings.database).get(result["record"])
            assert stored.image == block.images[row].tobytes(), "the same canonical image"


@pytest.mark.slow
def test_the_examples_of_the_documentation_run(app, predictions, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    curl, program = re.findall(
        r"```\w*\n(.*?)```", text.partition("## Classify")[2].partition("\n## ")[0], re.DOTALL
    )
    (tmp_path / "frog.png").write_bytes(GOOD)
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "ship.jpg")

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout

    with served(app) as address:
        curl, program = (one.replace("http://127.0.0.1:8000", address) for one in (curl, program))
        first, second = json.loads(run("sh", "-c", curl.replace("forest-10", "ten")))["results"]
        printed = run(sys.executable, "-c", program)
    assert (first["filename"], first["model"], second["filename"]) == ("frog.png", "ten", "ship.jpg")
    record = int(printed.split()[-1])
    assert predictions.get(record).name == "frog.png" and predictions.get(record).answer in printed


@pytest.mark.services
def test_in_a_browser_pictures_and_drawings_are_classified_filtered_and_corrected_in_place(
    app, chromium, predictions
):
    errors = []
    with served(app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/classify?model=ten")
        page.evaluate("window.stayed = true")
        page.locator("#files").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": GOOD})
        page.get_by_text("a.png · ten").wait_for()
        rows, best = page.locator(".answer tr:visible"), predictions.page().predictions[0].confidence
        assert rows.count() == len(CLASSES)
        page.get_by_label("Minimum confidence").fill(f"{100 * best}")
        assert rows.count() == 1
        page.get_by_label("Minimum confidence").fill("")
        canvas = page.locator("#canvas").bounding_box()
        for left in (60, 180):  # two strokes, the second undone
            page.mouse.move(canvas["x"] + left, canvas["y"] + 60)
            page.mouse.down()
            page.mouse.move(canvas["x"] + left, canvas["y"] + 200)
            page.mouse.up()
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Classify drawing").click()
        page.get_by_text("drawing.png · ten").wait_for()
        image = np.frombuffer(predictions.page().predictions[0].image, np.uint8).reshape(3, 32, 32)
        assert image[:, 16, 7].max() < 100 and image[:, 16, 20].min() == 255, "black on white, one stroke"
        page.get_by_label("Correct label").select_option(CLASSES[0])
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("by Ada, ").wait_for()
        assert predictions.page().predictions[0].correction == CLASSES[0]
        page.locator("#files").set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": b"none"})
        page.locator("#results .error", has_text="b.png").wait_for()
        assert page.evaluate("window.stayed"), "it was never loaded anew"
    assert errors == []
