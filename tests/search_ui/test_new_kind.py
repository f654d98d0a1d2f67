"""A kind of model that is defined in this file goes through tag, index, search and pages after one line in the registry."""

import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
from small_world import make_corpus

from conf.settings import Settings
from indexing.index import index_run
from indexing.solr import Solr
from ingest.image import from_column_major
from jobs.evaluate_model import evaluate_model
from jobs.tag_images import tag_images
from search_ui import create_app
from storage import layout
from storage.store import open_store
from tagging.model import KINDS
from tagging.models import load_model, save_model
from tagging.quality import measure
from tagging.tags import winners

pytestmark = pytest.mark.slow

ALIAS = "new-kind"
CLASSES = ["brick", "grass", "sky"]
COLOURS = np.array([[180.0, 80, 60], [70, 150, 60], [90, 140, 210]])
FILE = "mean-colour.npz"


class MeanColour:
    """A softmax over the distances of an image's mean colour from one colour a class: its votes are probabilities."""

    kind = "mean-colour"
    voters = None

    def __init__(self, classes, colours):
        self.classes, self.colours = tuple(classes), np.asarray(colours, np.float64)

    @property
    def hash(self):
        return hashlib.sha256(repr((self.classes, self.colours.tolist())).encode()).hexdigest()

    def votes(self, images):
        means = images.reshape(-1, 3, 1024).mean(axis=2)
        distances = ((means[:, None] - self.colours) ** 2).sum(axis=2)
        weights = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / 2_000)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def files(self):
        file = io.BytesIO()
        np.savez(file, classes=np.array(self.classes), colours=self.colours)
        return {FILE: file.getvalue()}

    @classmethod
    def load(cls, store, folder):
        with np.load(io.BytesIO(store.read_bytes(f"{folder}/{FILE}"))) as arrays:
            return cls(arrays["classes"].tolist(), arrays["colours"])


def coloured_images(count, seed):
    """Return (count, 3072) uint8 images of the colours of classes, with noise that hides some, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(CLASSES), count).astype(np.uint8)
    colours = COLOURS[labels] + random.normal(0, 45, (count, 3))
    images = colours[:, :, None] + random.normal(0, 20, (count, 3, 1024))
    return images.clip(0, 255).astype(np.uint8).reshape(count, 3072), labels


@pytest.fixture(scope="module")
def registry():
    """The registry with one line more."""
    KINDS["mean-colour"] = f"{__name__}:MeanColour"
    yield
    del KINDS["mean-colour"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, registry):
    """A corpus, a saved model of the new kind, and the run that it made on worker processes."""
    folder = tmp_path_factory.mktemp("new-kind")
    store = open_store(str(folder / "store"))
    images, labels = coloured_images(700, seed=1)
    (folder / "images.bin").write_bytes(from_column_major(images).tobytes())
    (folder / "labels.bin").write_bytes(labels.tobytes())
    corpus = make_corpus(
        store, "walls", folder / "images.bin", 300, labels=str(folder / "labels.bin"), classes=CLASSES
    )
    model = MeanColour(CLASSES, COLOURS)
    held_out, truth = coloured_images(600, seed=2)
    quality = measure(model.votes(held_out), truth, CLASSES, model.voters)
    measured_on = {"corpus": "other-walls", "images": 600}
    card = save_model(store, "colours", model, {"quality": quality, "measured_on": measured_on})
    settings = Settings(store=str(folder / "store"), master="processes[2]")
    tagged = tag_images(settings, "walls", "colours", 0.5)
    return SimpleNamespace(
        store=store, settings=settings, corpus=corpus, model=model, card=card, tagged=tagged,
        images=images, labels=labels, best=winners(model.votes(images)),
    )  # fmt: skip


def test_it_is_saved_and_loaded_by_its_kind(world):
    assert (world.card["kind"], world.card["hash"], "trees" in world.card) == (
        "mean-colour", world.model.hash, False
    )  # fmt: skip
    loaded = load_model(world.store, "colours")
    assert isinstance(loaded, MeanColour) and loaded.hash == world.model.hash
    np.testing.assert_array_equal(loaded.votes(world.images), world.model.votes(world.images))


def test_tagging_on_worker_processes_writes_its_tags_with_probabilities(world):
    kept = world.best.votes >= 5_000
    assert (world.tagged["tagged"], world.tagged["failed"]) == (int(kept.sum()), {})
    assert world.tagged["right"] == int((world.best.tag == world.labels)[kept].sum())
    assert 0 < world.tagged["dropped"] < 100
    lines = world.store.read_bytes(layout.run_tags(world.tagged["run"], 0))
    assert b"votes" not in lines and b'"confidence":0.' in lines


def test_evaluate_measures_it_at_each_percent(world):
    result = evaluate_model(world.settings, "colours", "walls")
    assert result["quality"] == measure(world.model.votes(world.images), world.labels, CLASSES, None)
    assert 0.6 < result["quality"]["accuracy"] < 0.99
    assert len(result["quality"]["thresholds"]) == 100


@pytest.fixture(scope="module")
def page(world, solr):
    """The pages over the run in Solr."""
    client = Solr(solr.url, patience=60)
    index_run(world.store, world.tagged["run"], client, ALIAS)
    settings = Settings(
        store=world.settings.store, solr=solr.url, alias=ALIAS, database=f"sqlite:///{world.store.root}/db"
    )
    yield create_app(settings).test_client()
    client.delete_alias(ALIAS)
    client.delete(world.tagged["run"])


@pytest.mark.services
def test_a_search_finds_its_tags_and_estimates_their_precision(world, page):
    everything = page.get("/api/search").json
    assert everything["total"] == world.tagged["tagged"]
    percents = (world.best.votes[world.best.votes >= 5_000] + 50) // 100
    result = page.get("/api/search?confidence=80-100").json
    assert result["total"] == int((percents >= 80).sum())
    row = next(r for r in world.card["quality"]["thresholds"] if r["confidence"] == 0.8)
    (estimate,) = result["expected"]
    assert (estimate["model"], estimate["low"], estimate["images"]) == ("colours", 80, row["images"])
    assert estimate["precision"] == pytest.approx(row["precision"], abs=1e-5)
    html = page.get("/?confidence=80-100").get_data(as_text=True)
    assert "80 % or more" in html and f"<strong>{100 * row['precision']:.0f} %</strong> (" in html


@pytest.mark.services
def test_an_images_page_has_the_probability_of_each_class(world, page):
    hit = page.get("/api/search").json["hits"][0]
    row = world.corpus.rows(hit["partition"])[0] + hit["row"]
    votes = dict(zip(CLASSES, world.model.votes(world.images[[row]])[0].tolist(), strict=True))
    probabilities = page.get(f"/api{hit['url']}").json["tags"][0]["class_votes"]
    assert probabilities == pytest.approx(votes) and max(probabilities, key=probabilities.get) == hit["tag"]
    assert page.get(hit["url"]).status_code == 200


@pytest.mark.services
def test_its_page_has_its_quality_and_no_pixel_importance(world, page):
    (listed,) = page.get("/api/models").json["models"]
    accuracy = world.card["quality"]["accuracy"]
    assert (listed["kind"], listed["trees"], listed["accuracy"]) == ("mean-colour", None, accuracy)
    assert "probabilities" in page.get("/models").get_data(as_text=True)
    html = page.get("/models/colours").get_data(as_text=True)
    assert f"{100 * accuracy:.1f} %" in html and "mean-colour have no pixel importance" in html
    card = page.get("/api/models/colours").json
    assert sum(bin["images"] for bin in card["calibration"]) == 600 and len(card["calibration"]) <= 20
    assert [row["percent"] for row in card["thresholds"]] == list(range(1, 101))
    links = {row["percent"]: row["url"] for row in card["thresholds"]}
    assert links[49] is None and links[90] is not None, "links start at the threshold of the run"
    assert (card["pixels"], card["top_pixels"]) == (None, [])
    assert page.get("/models/colours/pixels.png").status_code == 404
