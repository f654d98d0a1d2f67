"""Tests of `tagging.network`: what an ONNX network says of images, and what is refused."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from networks import one_node, pattern_network, random_network
from onnx import TensorProto
from small_world import CLASSES, make_images

from conf.errors import TinyTagsError
from storage import layout
from storage.store import open_store
from tagging.models import load_model, save_model
from tagging.network import BATCH, FILE, Network, NetworkError, open_session, threads


@pytest.fixture(scope="module")
def images():
    return make_images(300)[0]


def test_its_votes_are_the_graphs_probabilities(images):
    network = Network(tuple(CLASSES), random_network())
    votes = network.votes(images)
    assert (votes.dtype, votes.shape, network.voters) == (np.float32, (300, 10), None)
    expected = open_session(random_network()).run(None, {"image": images})[0]
    np.testing.assert_allclose(votes, expected, atol=1e-6)
    assert votes.sum(axis=1) == pytest.approx(1, abs=1e-5) and len(set(votes.argmax(axis=1))) > 1
    assert network.votes(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("batch", ["batch", 7])
def test_an_image_has_the_same_probabilities_however_images_are_split(images, batch):
    network = Network(tuple(CLASSES), random_network(seed=1, batch=batch))
    assert network.batch == (BATCH if batch == "batch" else 7)
    votes = network.votes(images)
    for size in (1, 30, 32, 100):
        parts = [network.votes(images[start : start + size]) for start in range(0, 300, size)]
        assert np.array_equal(np.concatenate(parts), votes)
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(network.votes(images[order]), votes[order]), "and whatever is beside it"
    assert np.array_equal(network.votes(np.asfortranarray(images)), votes)


def test_threads_share_a_session(images):
    network = Network(tuple(CLASSES), random_network())
    votes = network.votes(images)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(one, votes) for one in pool.map(network.votes, [images] * 8))


def test_it_goes_to_workers_without_its_session(images):
    network = Network(tuple(CLASSES), random_network())
    votes = network.votes(images)
    copy = pickle.loads(pickle.dumps(network))
    assert copy.hash == network.hash and np.array_equal(copy.votes(images), votes)


def test_a_session_has_as_many_threads_as_its_task_has_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads() == len(os.sched_getaffinity(0))
    for value, expected in (("1", 1), ("3,2", 3), ("0", threads()), ("many", threads())):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert threads() == expected


def test_it_is_saved_and_loaded_by_its_kind(tmp_path, images):
    store = open_store(str(tmp_path))
    network = Network(tuple(CLASSES), pattern_network())
    card = save_model(store, "net", network, {})
    assert (card["kind"], card["hash"], "trees" in card) == ("network", network.hash, False)
    loaded = load_model(store, "net")
    assert loaded.classes == tuple(CLASSES) and np.array_equal(loaded.votes(images), network.votes(images))
    others = [Network((*CLASSES[:9], "lorry"), pattern_network()), Network(tuple(CLASSES), random_network())]
    assert len({network.hash, *(other.hash for other in others)}) == 3


@pytest.mark.parametrize("damage", ["truncated", "replaced", "no classes"])
def test_damaged_files_are_one_line_with_their_address(tmp_path, damage):
    store = open_store(str(tmp_path))
    save_model(store, "net", Network(tuple(CLASSES), pattern_network()), {})
    path = layout.model_file("net", FILE if damage != "no classes" else "network.json")
    data = {"truncated": store.read_bytes(path)[:500], "replaced": random_network(), "no classes": b"{}"}[
        damage
    ]
    store.write_bytes(path, data)
    with pytest.raises(TinyTagsError) as caught:
        load_model(store, "net")
    assert "\n" not in str(caught.value) and store.url("models/net") in str(caught.value)
    assert getattr(caught.value, "problem", "hash") == ("hash" if damage == "replaced" else "damaged")


floats = {"input_type": TensorProto.FLOAT, "input_shape": ["batch", 3, 32, 32]}
REFUSED = {
    "no file": (b"", "damaged"),
    "text": (b"<html>404</html>", "damaged"),
    "truncated": (pattern_network()[:700], "damaged"),
    "unknown operator": (one_node("Frobnicate"), "graph"),
    "operator of a vendor": (one_node("Conv", "com.example"), "graph"),
    "wrong input": (one_node("GlobalAveragePool", **floats), "input"),
    "an output a pixel": (one_node("Cast", to=TensorProto.FLOAT, classes=3072), "classes"),
    "two classes": (random_network(classes=2), "classes"),
}


@pytest.mark.parametrize("data, problem", REFUSED.values(), ids=REFUSED)
def test_what_is_no_network_of_canonical_images_is_refused(data, problem):
    with pytest.raises(NetworkError) as caught:
        Network(tuple(CLASSES), data).votes(make_images(1)[0])
    assert caught.value.problem == problem and "\n" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).problem == problem


@pytest.mark.parametrize("output", ["Identity", "Log"])
def test_what_is_no_probability_is_refused(images, output):
    network = Network(tuple(CLASSES), pattern_network(output=output))
    with pytest.raises(NetworkError) as caught:
        network.votes(images)
    assert caught.value.problem == "probabilities"
    if output == "Log":
        assert "nan" in str(caught.value)


def test_other_arrays_than_canonical_images_are_refused(images):
    network = Network(tuple(CLASSES), pattern_network())
    for wrong in (images.astype(np.float32), images[:, :3000], images[0]):
        with pytest.raises(NetworkError) as caught:
            network.votes(wrong)
        assert caught.value.problem == "input"


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], ["a", ""], [], ["a", 1]])
def test_classes_without_names_of_their_own_are_refused(classes):
    with pytest.raises(NetworkError) as caught:
        Network(tuple(classes), b"")
    assert caught.value.problem == "classes"


def test_without_onnxruntime_the_message_has_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(NetworkError, match=r"pip install 'tinytags\[network\]'") as caught:
        open_session(pattern_network())
    assert caught.value.problem == "missing"
