"""Tests of `tagging.featured`: a model of features votes as its parts do, and one with a part missing is one clear line."""

import json

import numpy as np
import pytest
from small_world import CLASSES, make_images

from conf.errors import TinyTagsError
from storage.store import FileMissingError, open_store
from tagging.featured import FILE, Featured
from tagging.features import UnknownFeaturesError, features_class
from tagging.forest import scikit_learn
from tagging.linear import train
from tagging.models import load_model, save_model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a forest on gradients, and a linear model on pretrained features of tiny images."""
    store = open_store(str(tmp_path_factory.mktemp("featured")))
    images, labels = make_images(200)
    for name, kind in (("forest", "hog"), ("linear", "pretrained-32")):
        features = features_class(kind).fit(kind, lambda: images, 0)
        codes = features.codes(images)
        head = (
            scikit_learn.train(codes, labels, CLASSES, 3, 4, jobs=1)[0]
            if name == "forest"
            else train(codes, labels, CLASSES)[0]
        )
        save_model(store, name, Featured(features, head), {})
    return store


@pytest.mark.parametrize(
    ("name", "voters", "dtype"), [("forest", 3, np.uint16), ("linear", None, np.float32)]
)
def test_it_votes_as_its_head_does_on_its_features(store, name, voters, dtype):
    model = load_model(store, name)
    images, _ = make_images(50, seed=3)
    votes = model.votes(images)
    assert (model.kind, model.voters, model.classes, votes.dtype) == (
        "featured",
        voters,
        tuple(CLASSES),
        dtype,
    )
    np.testing.assert_array_equal(votes, model.head.votes(model.features.codes(images)))
    np.testing.assert_array_equal(votes, model.votes_of(model.features.codes(images)))
    np.testing.assert_array_equal(model.votes(images[9:10]), votes[9:10])


@pytest.mark.parametrize(
    ("name", "file", "error"),
    [
        ("linear", "features.onnx", TinyTagsError),
        ("linear", "linear.npz", FileMissingError),
        ("forest", "forest.npz", FileMissingError),
        ("forest", FILE, FileMissingError),
    ],
)
def test_a_model_with_a_part_missing_or_truncated_is_one_line(store, name, file, error):
    path = f"models/{name}/{file}"
    data = store.read_bytes(path)
    try:
        store.remove(path)
        with pytest.raises(error, match=file) as raised:
            load_model(store, name)
        assert "\n" not in str(raised.value)
        store.write_bytes(path, data[: len(data) // 2])
        with pytest.raises(TinyTagsError):
            load_model(store, name)
    finally:
        store.write_bytes(path, data)


@pytest.mark.parametrize("change", [{"features": "sift"}, {"features_version": 99}])
def test_features_that_this_version_does_not_have_are_refused(store, change):
    path = f"models/forest/{FILE}"
    data = store.read_bytes(path)
    try:
        about = json.loads(data)
        del about["checksum"]
        store.write_json(path, about | change)
        with pytest.raises(UnknownFeaturesError if "features" in change else TinyTagsError):
            load_model(store, "forest")
    finally:
        store.write_bytes(path, data)
