"""Tests of `tagging.models`: a model is loaded as it was saved, or not at all."""

import numpy as np
import pytest
from forests import NAMES, random_tree

from conf.errors import TinyTagsError
from storage import layout
from storage.store import open_store
from tagging.forest import pack
from tagging.model import UnknownKindError
from tagging.models import (
    ModelChangedError,
    list_models,
    load_exact_model,
    load_model,
    read_card,
    save_model,
)


def forest(seed):
    random = np.random.default_rng(seed)
    return pack([random_tree(random, 4) for _ in range(5)], NAMES)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


CARD = {"engine": "scikit-learn", "parameters": {"trees": 5}, "quality": {"accuracy": 0.37}}


def test_a_saved_model_loads_with_its_card_and_votes(store):
    images = np.random.default_rng(1).integers(0, 256, (200, 3072), dtype=np.uint8)
    card = save_model(store, "five", forest(1), CARD)
    model = load_model(store, "five")
    assert card == read_card(store, "five")
    assert (model.kind, model.hash, model.classes, model.voters) == (
        "forest",
        forest(1).hash,
        tuple(NAMES),
        5,
    )
    assert (card["name"], card["hash"], card["trees"]) == ("five", model.hash, 5)
    assert (card["kind"], card["engine"], card["quality"]) == ("forest", "scikit-learn", {"accuracy": 0.37})
    assert card["created"] and card["versions"]["numpy"] == np.__version__
    np.testing.assert_array_equal(model.votes(images), forest(1).votes(images))


def test_a_model_without_a_card_is_not_listed(store):
    store.write_bytes(layout.model_file("half", "forest.npz"), forest(1).save())
    save_model(store, "whole", forest(1), CARD)
    assert list_models(store) == ["whole"]
    with pytest.raises(TinyTagsError, match=r"no model 'half' in .*store; there are whole$"):
        load_model(store, "half")


def test_a_missing_model_in_an_empty_store_states_how_to_make_one(store):
    assert list_models(store) == []
    with pytest.raises(
        TinyTagsError, match=r"no model 'forest-10' in .*; there is none yet: make one with `tinytags train`"
    ):
        load_model(store, "forest-10")


def test_an_exchanged_forest_is_rejected_with_both_hashes(store):
    save_model(store, "five", forest(1), CARD)
    store.write_bytes(layout.model_file("five", "forest.npz"), forest(2).save())
    with pytest.raises(TinyTagsError, match=f"has hash {forest(2).hash}, but its card has {forest(1).hash}"):
        load_model(store, "five")


def test_a_corrupt_forest_is_named(store):
    save_model(store, "five", forest(1), CARD)
    store.write_bytes(layout.model_file("five", "forest.npz"), b"nothing")
    with pytest.raises(TinyTagsError, match=r"models/five/forest\.npz: File is not a zip file"):
        load_model(store, "five")


def test_a_lost_forest_is_named(store):
    save_model(store, "five", forest(1), CARD)
    store.remove(layout.model_file("five", "forest.npz"))
    with pytest.raises(TinyTagsError, match=r"models/five/forest\.npz: no such file"):
        load_model(store, "five")


@pytest.mark.parametrize("kind", ["oracle", None, 3])
def test_an_unknown_kind_of_model_is_rejected_by_name(store, kind):
    save_model(store, "five", forest(1), CARD)
    store.write_json(layout.model_card("five"), {**read_card(store, "five"), "kind": kind})
    with pytest.raises(
        UnknownKindError, match=f"kind {kind!r} of model is unknown; known are forest"
    ) as caught:
        load_model(store, "five")
    assert caught.value.kind == kind
    assert str(caught.value).startswith(store.url(layout.model_card("five")))


def test_a_model_that_was_replaced_is_not_loaded_for_a_run_of_the_other(store):
    save_model(store, "five", forest(1), CARD)
    assert load_exact_model(store, "five", forest(1).hash).hash == forest(1).hash
    with pytest.raises(ModelChangedError):
        load_exact_model(store, "five", forest(2).hash)


def test_a_model_is_not_replaced_by_another_of_its_name(store):
    save_model(store, "five", forest(1), CARD)
    with pytest.raises(
        TinyTagsError,
        match=f"exists already with hash {forest(1).hash} in .*; the new one has {forest(2).hash}",
    ):
        save_model(store, "five", forest(2), CARD)
    assert load_model(store, "five").hash == forest(1).hash


def test_saving_the_same_model_again_replaces_its_card(store):
    save_model(store, "five", forest(1), CARD)
    save_model(store, "five", forest(1), {**CARD, "quality": {"accuracy": 0.4}})
    assert read_card(store, "five")["quality"] == {"accuracy": 0.4}


@pytest.mark.parametrize("name", ["", "../five", "a/b", ".five", "x" * 101])
def test_a_name_that_could_leave_the_folder_is_rejected(store, name):
    for action in (lambda: save_model(store, name, forest(1), CARD), lambda: load_model(store, name)):
        with pytest.raises(TinyTagsError, match="model name"):
            action()
