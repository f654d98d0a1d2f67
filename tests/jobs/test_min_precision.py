"""Tests of `tinytags tag --min-precision`: the threshold that a card gives, and the run that follows from it."""

import hashlib
import json

import numpy as np
import pytest
from small_world import CLASSES, error_line, make_corpus, make_images, run, run_json, write_tiny_images

from storage import layout
from storage.runs import open_run
from storage.store import open_store
from tagging.calibration import ENOUGH_IMAGES
from tagging.evaluations import PrecisionNotReachedError, threshold_for
from tagging.forest.scikit_learn import train
from tagging.model import KINDS
from tagging.models import read_card, save_model
from tagging.quality import measure


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a corpus, a measured forest and one without quality."""
    folder = tmp_path_factory.mktemp("precision")
    store = open_store(str(folder / "store"))
    make_corpus(store, "tiny", write_tiny_images(folder / "tiny_images.bin", 300), 200)
    forest, _ = train(*make_images(300, seed=1), CLASSES, trees=10, depth=4)
    images, labels = make_images(1_000, seed=2)
    quality = measure(forest.votes(images), labels, CLASSES, 10)
    save_model(store, "forest", forest, {"quality": quality, "measured_on": {"corpus": "other"}})
    save_model(store, "unmeasured", forest, {})
    return store


def tag(store, *words, model="forest"):
    return ("tag", "--corpus", "tiny", "--model", model, "--store", store.url(), *words)


def test_the_threshold_is_the_lowest_whose_measured_precision_is_enough(store):
    rows = read_card(store, "forest")["quality"]["thresholds"]
    wanted = next(row for row in rows if row["images"] >= ENOUGH_IMAGES and row["precision"] >= 0.8)
    before = rows[rows.index(wanted) - 1]
    assert before["precision"] < 0.8, "the card has thresholds below and above"
    out, err = run(*tag(store, "--min-precision", "0.8"))
    name = out.split()[1].rstrip(":")
    assert err.startswith(
        f"tag: minimum confidence {wanted['confidence']:g}; {wanted['precision']:.1%} of {wanted['images']} such tags"
    )
    manifest = store.read_json(layout.run_manifest(name))
    assert (manifest["min_precision"], manifest["min_confidence"]) == (0.8, wanted["confidence"])
    lines = b"".join(store.read_bytes(layout.run_tags(name, p)) for p in (0, 1)).splitlines()
    confidences = {json.loads(line)["confidence"] for line in lines}
    assert min(confidences) == wanted["confidence"] and max(confidences) <= 1, "raw, as votes"
    again = run_json(*tag(store, "--min-confidence", wanted["confidence"]))
    assert (again["run"], again["already_done"]) == (name, 2), "the same threshold is the same run"
    assert open_run(store, name).min_precision == 0.8


def test_a_precision_that_is_not_reached_is_one_line_with_what_can_be(store):
    card = read_card(store, "forest")
    rows = [row for row in card["quality"]["thresholds"] if row["images"] >= ENOUGH_IMAGES]
    best = max(rows, key=lambda row: row["precision"])
    with pytest.raises(PrecisionNotReachedError) as caught:
        threshold_for(card, 0.9999)
    assert caught.value.best == best
    _, err = run(*tag(store, "--min-precision", "0.9999"), code=1)
    reached = int(best["precision"] * 1000) / 1000
    assert error_line(err) == (
        f"tinytags: model 'forest' does not reach a precision of 0.9999: at most {reached:g}, at a confidence of "
        f"{best['confidence']:g} or more ({best['images']} of 1,000 images); give --min-precision {reached:g} or less"
    )
    run(*tag(store, "--min-precision", f"{reached:g}"))


def test_few_images_and_none_state_nothing_of_a_threshold(store):
    forest_card = read_card(store, "forest")
    votes = np.eye(10, dtype=np.uint16)[[3] * (ENOUGH_IMAGES - 1)] * 10
    few = measure(votes, np.full(len(votes), 3), CLASSES, 10)
    with pytest.raises(PrecisionNotReachedError) as caught:
        threshold_for(forest_card | {"quality": few}, 0.5)
    assert caught.value.best is None
    _, err = run(*tag(store, "--min-precision", "0.8", model="unmeasured"), code=1)
    assert error_line(err).startswith(
        "tinytags: model 'unmeasured' has no measured precision; measure it with"
    )
    # Another measurement is as good, but none on what the model was trained on.
    entry = {"quality": forest_card["quality"], "training_images": 0}
    assert threshold_for({"evaluations": [entry]}, 0.8) == threshold_for(forest_card, 0.8)
    with pytest.raises(Exception, match="has no measured precision"):
        threshold_for({"evaluations": [entry | {"training_images": 5}]}, 0.8)


@pytest.mark.parametrize("words", [["--min-precision", "90"], ["--min-precision", "0.9", "--min-confidence", "0.4"]])  # fmt: skip
def test_what_can_not_be_a_threshold_is_an_error_of_usage(store, words):
    run(*tag(store, *words), code=2)


class NoNumbers:
    """A model whose probabilities are NaN, as those of a network whose training failed."""

    kind = "no-numbers"
    voters = None
    classes = tuple(CLASSES)
    hash = hashlib.sha256(b"no numbers").hexdigest()

    def votes(self, images):
        return np.full((len(images), 10), np.nan, np.float32)

    def files(self):
        return {}

    @classmethod
    def load(cls, store, folder):
        return cls()


def test_a_model_without_numbers_is_one_clear_line(store, monkeypatch):
    monkeypatch.setitem(KINDS, NoNumbers.kind, f"{__name__}:NoNumbers")
    save_model(store, "nan", NoNumbers(), {})
    _, err = run(*tag(store, model="nan"), code=1)
    assert error_line(err) == (
        "tinytags: 2 of 2 partitions not tagged: 0, 1; the first: the model gives 200 of 200 images a probability of nan, which "
        "is not a number from 0 to 1; train or import the model again"
    )
