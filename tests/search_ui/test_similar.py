"""Tests that an image's page shows the most similar images of runs with descriptors, and leaves them out elsewhere."""

import shutil
import threading
from types import SimpleNamespace

import jsonschema_rs
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from searchable import (
    CLASSES,
    IMAGES,
    PARTITION_IMAGES,
    UPRIGHT,
    make_corpus,
    make_run,
    read_documents,
    shares,
)
from werkzeug.serving import make_server

from conf.settings import Settings
from indexing.index import index_run
from indexing.solr import Solr
from indexing.verify import verify_run
from ingest.image import SIDE
from ingest.partition import read_partition
from search_ui import create_app, openapi, similar
from storage import layout
from storage.store import open_store
from tagging import descriptor

pytestmark = pytest.mark.services

ALIAS = "similar"
COPIES = 200  # at the end of the corpus, of its first images


def paint(count: int) -> np.ndarray:
    """Return (count, 32, 32, 3) uint8 pictures: a disc of some colour and size somewhere before a slope of two others."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    pictures = np.empty((count, SIDE, SIDE, 3))
    for picture in pictures:
        turn, colours = random.uniform(0, 2 * np.pi), random.uniform(0, 255, (3, 3))
        slope = ((np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5)) + 0.71) / 1.42
        picture[:] = colours[0] * slope[..., None] + colours[1] * (1 - slope[..., None])
        at, size = random.uniform(0.2, 0.8, 2), random.uniform(0.1, 0.35)
        picture[np.hypot(x - at[0], y - at[1]) < size] = colours[2]
    return pictures.astype(np.uint8)


@pytest.fixture(scope="module")
def alike(solr, tmp_path_factory):
    """A corpus of which the last images are the first once more, moved and lit otherwise, with three runs of it in Solr."""
    folder = tmp_path_factory.mktemp("similar")
    store = open_store(str(folder / "store"))
    pictures = paint(IMAGES)
    copies = np.pad(pictures[:COPIES], ((0, 0), (1, 0), (0, 0), (0, 0)), mode="edge")[:, :SIDE] * 0.93 + 9
    pictures[-COPIES:] = copies.astype(np.uint8)
    corpus = make_corpus(store, folder, "alike", pictures)
    plain = make_run(store, corpus, "ten", 10, seed=1)
    ten = make_run(store, corpus, "ten", 10, seed=1, similar=True)
    seven = make_run(store, corpus, "seven", 7, seed=4, similar=True)
    client = Solr(solr.url, patience=60)
    for run, shards in ((plain, 1), (ten, 1), (seven, 2)):
        index_run(store, run.name, client, ALIAS, publication="no", shards=shards)
    images = np.concatenate(
        [block.images for p in range(corpus.partitions) for block in read_partition(store, corpus, p)]
    )
    settings = Settings(store=store.root, solr=solr.url, alias=ALIAS)
    yield SimpleNamespace(
        store=store, solr=client, corpus=corpus, plain=plain, ten=ten, seven=seven, settings=settings,
        documents={run.name: read_documents(store, run) for run in (plain, ten, seven)},
        numbers=descriptor.describe(images).astype(int),
    )  # fmt: skip
    client.delete_alias(ALIAS)
    for run in (plain, ten, seven):
        client.delete(run.name)


@pytest.fixture
def show(alike):
    """Points the alias to some runs and gives the page's client."""

    def open_page(*runs):
        alike.solr.set_alias(ALIAS, [run.name for run in runs])
        return create_app(alike.settings, {"CHECK_SECONDS": 0}).test_client()

    return open_page


def path(record: int) -> str:
    partition, row = divmod(record, PARTITION_IMAGES)
    return f"/images/alike/{partition}/{row}"


def record(hit: dict) -> int:
    return hit["partition"] * PARTITION_IMAGES + hit["row"]


def tagged(alike, *runs) -> list[int]:
    return sorted({record(document) for run in runs for document in alike.documents[run.name]})


def nearest(alike, to: int, *runs) -> list[float]:
    """Return the 12 least distances to the tagged images of runs, the slow way."""
    others = [other for other in tagged(alike, *runs) if other != to]
    distances = np.sqrt(((alike.numbers[others] - alike.numbers[to]) ** 2).sum(axis=1))
    return np.sort(distances)[:12].round(1).tolist()


def test_a_copy_comes_first_and_the_rest_are_those_of_comparing_with_all(alike, show):
    page = show(alike.ten)
    there = set(tagged(alike, alike.ten))
    pairs = [
        (original, original + IMAGES - COPIES)
        for original in range(COPIES)
        if {original, original + IMAGES - COPIES} <= there
    ]
    assert len(pairs) > 50
    for original, copy in pairs[:20]:
        for image, expected in ((original, copy), (copy, original)):
            hits = page.get(f"/api{path(image)}").json["similar"]
            assert record(hits[0]) == expected
            assert len(hits) == 12 and image not in map(record, hits)
            assert [hit["distance"] for hit in hits] == nearest(alike, image, alike.ten)
    described = openapi.document()
    schema = {"$ref": "#/components/schemas/Image", "components": described["components"]}
    jsonschema_rs.validate(schema, page.get(f"/api{path(original)}").json)
    document = next(d for d in alike.documents[alike.ten.name] if record(d) == record(hits[0]))
    del document["descriptor"]
    version = f"?v={alike.corpus.hash[:8]}"
    assert hits[0] == document | {
        "distance": hits[0]["distance"], "url": path(original), "png": f"{path(original)}.png{version}",
    }  # fmt: skip


def test_the_page_links_to_them_with_tag_and_percent(alike, show):
    page = show(alike.ten)
    text = page.get(path(3)).text
    hits = page.get(f"/api{path(3)}").json["similar"]
    section = text[text.index('<section class="similar"') :]
    assert [section.count(f'href="{hit["url"]}"') for hit in hits] == [1] * 12
    for hit in hits:
        assert f'src="{hit["png"]}"' in section
        assert f'<span class="percent">{shares(hit)} %</span>' in section
        with page.get(hit["png"]) as answer:
            assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert "<b>deer</b>" not in section, "a tag is text"


def test_an_image_without_a_tag_has_similar_ones_too(alike, show):
    page = show(alike.ten)
    untagged = next(r for r in range(IMAGES) if r not in tagged(alike, alike.ten))
    answer = page.get(f"/api{path(untagged)}").json
    assert answer["tags"] == []
    assert [hit["distance"] for hit in answer["similar"]] == nearest(alike, untagged, alike.ten)
    assert "No tag" in page.get(path(untagged)).text and 'id="similar"' in page.get(path(untagged)).text


def test_without_descriptors_there_is_nothing_of_it(alike, show):
    for runs in ((alike.plain,), ()):
        page = show(*runs) if runs else show(alike.plain)
        if not runs:
            alike.solr.delete_alias(ALIAS)
        assert page.get(f"/api{path(3)}").json["similar"] is None
        assert 'id="similar"' not in page.get(path(3)).text


def test_several_runs_are_searched_at_once_and_an_image_comes_once(alike, show):
    page = show(alike.plain, alike.ten, alike.seven)
    both = alike.ten, alike.seven
    for image in range(0, IMAGES, 35):
        answer = page.get(f"/api{path(image)}").json
        hits = answer["similar"]
        assert len({record(hit) for hit in hits}) == 12 and image not in map(record, hits)
        assert [hit["distance"] for hit in hits] == nearest(alike, image, *both)
        assert {hit["run"] for hit in hits} <= {run.name for run in both}
        assert len(answer["tags"]) == sum(
            record(d) == image for documents in alike.documents.values() for d in documents
        )
    assert page.get(f"/api{path(UPRIGHT)}").json["similar"]


def test_searches_and_counts_are_as_they_are_without(alike, show):
    for address in (
        "/api/search?tag=frog&tag=ship&confidence=50-80",
        "/api/search?answer=right&sort=corpus&page=2",
    ):
        plain, ten = (show(run).get(address).json for run in (alike.plain, alike.ten))
        assert plain["total"] == ten["total"] > 30
        for name in ("tags", "confidence", "labelled", "pages"):
            assert plain[name] == ten[name]
        for hit in ten["hits"]:
            assert "descriptor" not in hit
    with show(alike.ten).get("/export.jsonl") as answer:
        assert "descriptor" not in answer.text and answer.text.count("\n") == len(
            alike.documents[alike.ten.name]
        )


def test_when_solr_refuses_or_is_silent_in_time_the_page_does_without(alike, show, monkeypatch):
    page = show(alike.ten)
    assert page.get(f"/api{path(3)}").json["similar"]
    with monkeypatch.context() as patch:
        patch.setattr(similar, "HIT_NAMES", f"{similar.HIT_NAMES},slow:sleep(2000,1)")  # milliseconds
        patch.setattr(similar, "SECONDS", 0.3)
        assert page.get(f"/api{path(3)}").json["similar"] is None
    with monkeypatch.context() as patch:
        patch.setattr(descriptor, "describe", lambda images: np.zeros((1, 59), np.int8))  # Solr refuses these
        answer = page.get(path(3))
        assert answer.status_code == 200 and 'id="similar"' not in answer.text and "votes of" in answer.text
    with monkeypatch.context() as patch:  # as a later version would have it
        patch.setattr(descriptor, "NAME", "colours-edges-2")
        assert page.get(f"/api{path(3)}").json["similar"] is None
    assert page.get(f"/api{path(3)}").json["similar"]


def test_what_cannot_be_read_has_none_and_a_run_that_left_the_store_is_left_out(alike, show, tmp_path):
    store = open_store(str(tmp_path / "store"))
    shutil.copytree(alike.store.root, store.root)
    alike.solr.set_alias(ALIAS, [alike.ten.name])
    settings = Settings(store=store.root, solr=alike.settings.solr, alias=ALIAS)
    store.remove(layout.corpus_images("alike", 1))
    page = create_app(settings, {"CHECK_SECONDS": 0}).test_client()
    answer = page.get(f"/api{path(PARTITION_IMAGES + 1)}").json
    assert answer["unreadable"] and answer["similar"] is None
    assert len(page.get(f"/api{path(3)}").json["similar"]) == 12
    store.remove_tree(layout.run_folder(alike.ten.name))
    page = create_app(settings, {"CHECK_SECONDS": 0}).test_client()
    assert page.get(f"/api{path(3)}").json["similar"] is None


def test_the_runs_verify(alike):
    for run in (alike.plain, alike.ten, alike.seven):
        assert verify_run(alike.store, run.name, alike.solr)["problems"] == []


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_a_person_goes_from_one_to_the_next(alike, show, chromium, width):
    show(alike.ten)
    server = make_server("127.0.0.1", 0, create_app(alike.settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    context = chromium.new_context(
        base_url=f"http://127.0.0.1:{server.server_port}", viewport={"width": width, "height": 900}
    )
    try:
        page = context.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(path(3))
        heading = page.get_by_role("heading", name="Similar images")
        heading.scroll_into_view_if_needed()
        thumbnails = page.get_by_role("region", name="Similar images").get_by_role("link")
        assert thumbnails.count() == 12
        for place in range(12):
            thumbnails.nth(place).scroll_into_view_if_needed()
        page.wait_for_function(
            "[...document.querySelectorAll('.similar img')].every(image => image.complete && image.naturalWidth === 32)"
        )
        sizes = thumbnails.locator("img").evaluate_all(
            "all => all.map(image => image.getBoundingClientRect().width)"
        )
        assert min(sizes) > 70, "large enough to see and to touch"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        violations = Axe().run(page).response["violations"]
        assert [rule["id"] for rule in violations if rule["impact"] in ("serious", "critical")] == []
        assert any(name in thumbnails.first.inner_text() for name in CLASSES)
        thumbnails.first.click()
        page.wait_for_url(f"**{path(3 + IMAGES - COPIES)}")
        assert page.get_by_role("region", name="Similar images").get_by_role("link").count() == 12
        assert complaints == []
    finally:
        context.close()
        server.shutdown()
        thread.join()
        server.server_close()
