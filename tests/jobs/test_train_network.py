"""Tests of `tinytags train --engine keras` and `tinytags export`: a network is the same in every format and after a kill."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_world import (
    CLASSES,
    error_line,
    make_corpus,
    make_images,
    run,
    run_json,
    write_cifar,
    write_tiny_images,
)

import jobs.network
from conf.errors import TinyTagsError
from jobs.train_forest import train_forest
from storage import layout
from storage.store import open_store
from tagging.forest.scikit_learn import train as train_trees
from tagging.models import load_model, save_model
from tagging.network import Network
from tagging.network.export import from_keras, to_keras, to_onnx
from tagging.network.muon import muon, orthogonal
from tagging.network.recipes import RECIPES
from tagging.network.training import (
    augmented,
    batch_of,
    build,
    compile_model,
    ended_early,
    is_grey,
    validation_rows,
    whitening,
    with_mirrored,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

TRAIN, TEST, EPOCHS = 520, 130, 6


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a corpus that has a test part."""
    folder = tmp_path_factory.mktemp("train-network")
    store = open_store(str(folder / "store"))
    make_corpus(store, "cifar", write_cifar(folder / "cifar", TRAIN, TEST), 400)
    return store


def train(store, model: str, *words, **options) -> dict:
    small = ["--engine", "keras", "--recipe", "small", "--epochs", EPOCHS]
    return run_json(
        "train", "--corpus", "cifar", "--model", model, *small, *words, "--store", store.url(), **options
    )


@pytest.fixture(scope="module")
def trained(store, keras):
    """A network of a few epochs, its card and the test images."""
    card = train(store, "net")
    images, labels = make_images(TRAIN + TEST, seed=1)
    return SimpleNamespace(
        card=card, images=images[TRAIN:], labels=labels[TRAIN:], model=load_model(store, "net")
    )


def exported(store, folder: Path, form: str) -> Path:
    file = folder / f"exported.{form.replace('onnx-int8', 'int8.onnx')}"
    result = run_json("export", "--model", "net", "--format", form, file, "--store", store.url())
    assert result["bytes"] == file.stat().st_size
    return file


def test_it_learns_and_its_card_states_how(store, trained):
    card = trained.card
    assert card["quality"]["accuracy"] > 0.3 and card["quality"]["images"] == TEST
    assert (card["engine"], card["kind"]) == ("keras", "network")
    parameters = card["parameters"]
    assert (parameters["recipe"], parameters["epochs"], parameters["flip"]) == ("small", EPOCHS, True)
    assert parameters["weights"] > 100_000 and 0 <= parameters["validation_accuracy"] <= 1
    assert set(card["seconds"]) >= {"prepare", "fit", "processor", "measure"}
    files = store.list(layout.model_folder("net"))
    assert "network.keras" in files and not any(name.startswith("checkpoint") for name in files)


def test_keras_and_onnxruntime_give_the_same_probabilities(store, trained, keras, tmp_path):
    for form in ("keras", "h5"):
        model = keras.models.load_model(exported(store, tmp_path, form), compile=False)
        expected = model.predict(trained.images, verbose=0)
        np.testing.assert_allclose(trained.model.votes(trained.images), expected, atol=1e-5)
    assert exported(store, tmp_path, "onnx").read_bytes() == trained.model.graph


def test_tensorflow_lite_gives_the_same_probabilities(store, trained, litert, tmp_path):
    interpreter = litert.Interpreter(str(exported(store, tmp_path, "tflite")))
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, trained.images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, trained.images)
    interpreter.invoke()
    probabilities = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(trained.model.votes(trained.images), probabilities, atol=1e-4)


def test_int8_is_a_network_of_nearly_the_same_tags(store, trained, tmp_path):
    import onnx

    file = exported(store, tmp_path, "onnx-int8")
    kinds = {tensor.data_type for tensor in onnx.load(file).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert file.stat().st_size < 0.4 * len(trained.model.graph)
    votes = Network(tuple(CLASSES), file.read_bytes()).votes(trained.images)
    assert (votes.argmax(axis=1) == trained.model.votes(trained.images).argmax(axis=1)).mean() > 0.9


def test_an_average_with_mirror_images_is_the_same_in_onnx(trained, keras):
    model = build(RECIPES["small"], 10, trained.images)
    compile_model(model, RECIPES["small"], 10)
    flip = np.ones(len(trained.images), bool)
    mirrored = augmented(trained.images, flip, 0, np.random.default_rng(0))
    expected = (model.predict(trained.images, verbose=0) + model.predict(mirrored, verbose=0)) / 2
    average = with_mirrored(model)
    for same in (average, from_keras(to_keras(average), "a test")):
        votes = Network(tuple(CLASSES), to_onnx(same)).votes(trained.images)
        np.testing.assert_allclose(votes, expected, atol=1e-5)


def test_after_a_kill_it_continues_to_the_same_network(store, trained, monkeypatch):
    save = jobs.network.StoredCheckpoints.save

    def save_and_stop(self, accuracies, weights):
        save(self, accuracies, weights)
        if len(accuracies) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(jobs.network.StoredCheckpoints, "save", save_and_stop)
        words = ["--engine", "keras", "--recipe", "small", "--epochs", EPOCHS, "--store", store.url()]
        run("train", "--corpus", "cifar", "--model", "again", *words, code=130)
    files = store.list(layout.model_folder("again"))
    assert files == ["checkpoint-2.weights.h5", "checkpoint.json"]
    _, err = run("train", "--corpus", "cifar", "--model", "again", *words)
    assert "continues after epoch 2" in err
    again = load_model(store, "again")
    np.testing.assert_allclose(again.votes(trained.images), trained.model.votes(trained.images), atol=1e-3)
    assert not any(name.startswith("checkpoint") for name in store.list(layout.model_folder("again")))


def test_what_another_training_left_is_not_continued(store, tmp_path):
    kept = jobs.network.StoredCheckpoints(store, "other", "a" * 64)
    kept.save([0.1], b"weights of epoch 1")
    kept.save([0.1, 0.2], b"weights of epoch 2")
    assert store.list("models/other") == ["checkpoint-2.weights.h5", "checkpoint.json"]
    other = jobs.network.StoredCheckpoints(store, "other", "a" * 64)
    assert other.load() == ([0.1, 0.2], b"weights of epoch 2")
    assert jobs.network.StoredCheckpoints(store, "other", "b" * 64).load() is None
    store.write_bytes("models/other/checkpoint-2.weights.h5", b"weights of ep")
    assert other.load() is None
    other.remove()
    assert store.list("models/other") == []


@pytest.mark.usefixtures("keras")
def test_labels_of_one_class_are_one_line(store, tmp_path):
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 60)
    (tmp_path / "labels.bin").write_bytes(bytes(60))
    make_corpus(store, "one-class", dump, 60, labels=str(tmp_path / "labels.bin"))
    _, err = run(
        "train",
        "--corpus",
        "one-class",
        "--model",
        "one",
        "--engine",
        "keras",
        "--store",
        store.url(),
        code=1,
    )
    assert "one class" in error_line(err)


def test_without_keras_the_message_has_the_extra(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras", None)
    with pytest.raises(TinyTagsError, match=r"pip install 'tinytags\[train\]'"):
        train_forest(
            SimpleNamespace(store=store.url(), webhdfs="", master="processes"), "cifar", "none", "keras"
        )


def test_only_networks_are_exported_and_what_keras_trained_only_by_keras(store, tmp_path):
    from networks import pattern_network

    forest, _ = train_trees(*make_images(100), CLASSES, trees=2, depth=3)
    save_model(store, "forest", forest, {})
    save_model(store, "foreign", Network(tuple(CLASSES), pattern_network()), {})
    for model, form in (("forest", "onnx"), ("foreign", "keras"), ("foreign", "onnx-int8")):
        words = ["export", "--model", model, "--format", form, tmp_path / "file", "--store", store.url()]
        assert repr(model) in error_line(run(*words, code=1)[1])
    assert not list(tmp_path.iterdir())
    words = ["export", "--model", "foreign", tmp_path / "no" / "folder.onnx", "--store", store.url()]
    assert "folder.onnx" in error_line(run(*words, code=1)[1])


def test_muon_steps_along_an_orthogonal_matrix_and_keeps_kernels_at_their_size(keras):
    matrix = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    for some in (matrix, matrix.T):
        update = keras.ops.convert_to_numpy(orthogonal(keras.ops, keras.ops.convert_to_tensor(some)))
        left, _, right = np.linalg.svd(some, full_matrices=False)
        assert np.linalg.svd(update, compute_uv=False) == pytest.approx(1, abs=0.35)
        assert np.abs(update - left @ right).max() < 0.15
    kernel, row, gradient = np.ones((3, 3, 2, 8)), np.ones(5), np.zeros((3, 3, 2, 8))
    gradient[1, 1, 0, 0] = 1e-3  # whose size has no effect
    variables = [keras.Variable(value, dtype="float32") for value in (kernel, row)]
    optimizer = muon(keras, 0.1, 0.5, momentum=0.9, nesterov=True)
    optimizer.apply([keras.ops.convert_to_tensor(g.astype(np.float32)) for g in (gradient, row)], variables)
    kernel, row = (keras.ops.convert_to_numpy(variable) for variable in variables)
    step = 8**0.5 / 12 - kernel  # of 144 ones, in 8 outputs
    assert step[1, 1, 0, 0] == pytest.approx(0.1 * 0.5, rel=0.35)
    assert np.abs(np.delete(step.ravel(), step.argmax())).max() < 1e-6
    assert row == pytest.approx(1 - 0.1 * (1 + 0.9)), "SGD with Nesterov momentum"


@pytest.mark.parametrize(("images", "batch"), [(20, 20), (100, 32), (2_000, 125), (50_000, 256)])
def test_few_images_are_trained_on_in_smaller_steps(images, batch):
    assert batch_of(RECIPES["medium"], images) == batch


# Without Keras


def test_whitened_patches_are_uncorrelated():
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 32, 32)).astype(np.uint8)
    images[:, 1] = images[:, 0] // 2 + images[:, 1] // 2  # red and green are alike
    filters = whitening(images.reshape(300, 3072), 4, 48)
    assert filters.shape == (4, 4, 3, 96)
    filters, negative = filters[..., :48], filters[..., 48:]
    assert np.array_equal(negative, -filters)
    patches = images.transpose(0, 2, 3, 1)[:, :28, :28].reshape(300, 7, 4, 7, 4, 3).swapaxes(2, 3)
    outputs = ((patches.reshape(-1, 48) - 127.5) / 64) @ filters.reshape(48, 48)
    covariance = np.cov(outputs, rowvar=False)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.15
    assert np.diag(covariance) == pytest.approx(1, abs=0.3)


def test_the_first_layer_has_the_components_of_the_greatest_variance():
    images = np.tile(make_images(100)[0][:, :1024], 3)  # grey: a patch of 2x2 has 4 components
    assert whitening(images, 2, 12).shape == (2, 2, 3, 8)
    some, more = whitening(images, 2, 2), whitening(images, 2, 3)
    assert np.array_equal(some[..., :2], more[..., 1:3]), "the smallest is left out first"


def test_images_are_mirrored_and_moved_and_otherwise_unchanged():
    images = make_images(200)[0]
    flip = np.arange(200) % 2 == 0
    mirrored = augmented(images, flip, 0, np.random.default_rng(0)).reshape(-1, 3, 32, 32)
    planes = images.reshape(-1, 3, 32, 32)
    assert np.array_equal(mirrored[0], planes[0, ..., ::-1]) and np.array_equal(mirrored[1], planes[1])
    moved = augmented(images, np.zeros(200, bool), 2, np.random.default_rng(0)).reshape(-1, 3, 32, 32)
    places = {
        (y, x)
        for image, original in zip(moved, planes, strict=True)
        for y in range(5)
        for x in range(5)
        if np.array_equal(
            image[:, 2:-2, 2:-2],
            np.pad(original, ((0, 0), (2, 2), (2, 2)))[:, y + 2 : y + 30, x + 2 : x + 30],
        )
    }
    assert len(places) == 25


def test_grey_images_are_recognised():
    images = make_images(20)[0]
    assert not is_grey(images) and is_grey(np.tile(images[:, :1024], 3))


def test_training_ends_where_the_accuracy_has_not_risen_for_half_of_the_epochs():
    assert not ended_early([], 4) and not ended_early([0.5, *[0.4] * 5], 4)
    assert ended_early([0.5, *[0.4] * 6], 4)
    assert not ended_early([0.5, *[0.4] * 6], 16) and ended_early([0.1, 0.5, *[0.4] * 9], 16)


def test_a_twentieth_is_watched():
    assert [len(validation_rows(n, 0)) for n in (10, 100, 100_000)] == [1, 5, 1000]
    assert np.array_equal(validation_rows(100, 3), validation_rows(100, 3))


def test_recipes_have_names_that_the_help_lists():
    out, _ = run("train", "--help")
    words = " ".join(out.split())
    assert all(f"{name}: {recipe.about}" in words for name, recipe in RECIPES.items())
