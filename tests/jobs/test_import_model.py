"""Tests of `tinytags import`: the way that a network takes images is found on labelled ones, and nothing is imported unproved."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import graph_of, one_node, pattern_network, random_network
from onnx import TensorProto, helper
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

from storage.store import open_store
from tagging.models import load_model
from tagging.network import Network, NetworkError
from tagging.network.foreign import (
    ForeignOnnx,
    ForeignTflite,
    UselessNetworkError,
    choose,
    open_foreign,
    ways,
)
from tagging.network.inputs import SCALES, NetworkInput, possible_inputs
from tagging.network.tflite import Interpreter, labels_in
from tagging.network.wrapping import OnnxGraph


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a labelled corpus that has a test part, and one without labels."""
    folder = tmp_path_factory.mktemp("import")
    store = open_store(str(folder / "store"))
    make_corpus(store, "cifar", write_cifar(folder / "cifar", 300, 200), 250)
    make_corpus(store, "unlabelled", write_tiny_images(folder / "tiny_images.bin", 50), 50)
    return store


def foreign_network(taken: NetworkInput, logits=False, takes_bytes=False, batch="n", sharpness=30.0) -> bytes:
    """Return an ONNX network from elsewhere that knows the patterns of `small_world` in images as ``taken``.

    With pixels in another scale, order or layout it is useless: its first step clips to what it was trained on.
    """
    patterns = np.random.default_rng(4711).integers(0, 256, (10, 3, 4, 4)).astype(np.float32)
    factor, offset = taken.affine()
    seen = patterns * factor[:, None, None] + offset[:, None, None]
    middle = (127.5 * factor + offset)[:, None, None]
    step = 255 * factor[:, None, None]
    weights = ((seen - middle) / step**2 / 48 * sharpness).reshape(10, 48)
    bias = -(weights.reshape(10, 3, 16) * middle.reshape(3, 1)).sum(axis=(1, 2))
    if taken.order == "bgr":
        weights = weights.reshape(10, 3, 16)[:, ::-1].reshape(10, 48)
    pool = taken.size // 4
    # A clip to the range that it knows, and a root, so that a network fed in another scale is wrong, not only unsure.
    arrays = {
        "weights": np.ascontiguousarray(weights.T, np.float32), "bias": bias.astype(np.float32),
        "least": np.float32((offset).min()), "most": np.float32((255 * factor + offset).max()),
    }  # fmt: skip
    shape = (
        [batch, taken.size, taken.size, 3] if taken.layout == "nhwc" else [batch, 3, taken.size, taken.size]
    )
    nodes, at = [], "image"
    if takes_bytes:
        nodes.append(helper.make_node("Cast", [at], ["cast"], to=TensorProto.FLOAT))
        at = "cast"
    if taken.layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [at], ["planes"], perm=[0, 3, 1, 2]))
        at = "planes"
    nodes += [
        helper.make_node("Clip", [at, "least", "most"], ["clipped"]),
        helper.make_node(
            "AveragePool", ["clipped"], ["means"], kernel_shape=[pool, pool], strides=[pool, pool]
        ),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Identity" if logits else "Softmax", ["logits"], ["probabilities"]),
    ]
    kind = TensorProto.UINT8 if takes_bytes else TensorProto.FLOAT
    return graph_of(nodes, arrays, input_type=kind, input_shape=shape, batch=batch)


def write(folder: Path, data: bytes, name="network.onnx") -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


RAW = NetworkInput(32, 3, "nhwc", "0-255", "rgb", False)
WAYS = {
    "0-255": RAW,
    "0-1 nchw": NetworkInput(32, 3, "nchw", "0-1", "rgb", False),
    "-1-1 bgr": NetworkInput(32, 3, "nhwc", "-1-1", "bgr", False),
    "imagenet 64": NetworkInput(64, 3, "nchw", "imagenet", "rgb", False),
}


@pytest.mark.parametrize("taken", WAYS.values(), ids=WAYS)
def test_the_way_it_takes_images_is_found(taken):
    images, labels = make_images(400, seed=3)
    foreign = open_foreign(foreign_network(taken))
    choice = choose(foreign, ways(foreign), CLASSES, images, labels.astype(np.int32))
    assert choice.tried[0][1] > 0.9 and f"scale {taken.scale}, {taken.order.upper()}" in choice.takes
    assert choice.tried[-1][1] < 0.5
    assert f"{taken.size}x{taken.size}" in choice.takes and taken.layout.upper() in choice.takes


@pytest.mark.parametrize("taken", WAYS.values(), ids=WAYS)
def test_the_graph_prepares_images_as_the_function_does(taken):
    images = make_images(40)[0]
    data = foreign_network(taken)
    from tagging.network import open_session

    expected = open_session(data).run(None, {"image": taken.prepare(images)})[0]
    votes = Network(tuple(CLASSES), OnnxGraph(data).wrapped(taken, False, 10)).votes(images)
    np.testing.assert_allclose(votes, expected, atol=1e-5)


def test_enlarged_images_are_pillows():
    from PIL import Image

    images = make_images(3)[0]
    ours = NetworkInput(80, 3, "nhwc", "0-255", "rgb", False).prepare(images)
    for image, our in zip(images, ours, strict=True):
        picture = Image.fromarray(image.reshape(3, 32, 32).transpose(1, 2, 0))
        theirs = np.asarray(picture.resize((80, 80), Image.Resampling.BILINEAR), np.float32)
        assert np.abs(our - theirs).max() <= 1.5


@pytest.mark.slow
def test_import_finds_the_scale_measures_on_other_images_and_reports_it(store, tmp_path):
    file = write(tmp_path, foreign_network(RAW, logits=True, batch=1))
    words = ["import", file, "--corpus", "cifar", "--store", store.url()]
    out, err = run(*words, "--model", "foreign")
    assert "scale 0-255" in out and "images get the right tag" in out
    assert "tried 10 input formats, on 300 labelled images: 32x32, scale 0-255, RGB, NHWC: 9" in err
    card = run_json(*words, "--model", "foreign-2")
    assert card["quality"]["accuracy"] > 0.9 and card["quality"]["images"] == 200
    assert (card["measured_on"]["corpus"], card["measured_on"]["part"]) == ("cifar", "test")
    assert "0-255" in card["parameters"]["takes"] and len(card["tried"]) == 2 * len(SCALES)
    model = load_model(store, "foreign")
    images, labels = make_images(500, seed=1)
    assert (model.votes(images).argmax(axis=1) == labels).mean() > 0.9 and model.batch == 1
    assert "is there already" in error_line(run(*words, "--model", "foreign", code=1)[1])
    assert run_json(
        "evaluate",
        "--model",
        "foreign",
        "--corpus",
        "cifar",
        "--store",
        store.url(),
        "--master",
        "processes[1]",
    )


def test_the_scale_alone_makes_it_useless(store, tmp_path):
    file = write(tmp_path, foreign_network(RAW))
    words = [
        "import",
        file,
        "--model",
        "wrong",
        "--corpus",
        "cifar",
        "--scale",
        "0-1",
        "--store",
        store.url(),
    ]
    assert "always the same class" in error_line(run(*words, code=1)[1])
    assert not store.exists("models/wrong/model.json")
    images, labels = make_images(300)
    foreign = open_foreign(file.read_bytes())
    with pytest.raises(UselessNetworkError) as caught:
        choose(foreign, ways(foreign, scale="0-1"), CLASSES[::-1], images, labels.astype(np.int32))
    assert caught.value.tried[0][1] < 0.2


def test_without_an_accuracy_it_is_refused_or_marked(store, tmp_path):
    file = write(tmp_path, foreign_network(RAW))
    words = ["import", file, "--model", "unmeasured", "--store", store.url()]
    assert "--unmeasured" in error_line(run(*words, code=1)[1])
    names = ["--classes", ",".join(CLASSES)]
    assert "--classes" in error_line(run(*words, "--unmeasured", code=1)[1])
    line = error_line(run(*words, "--unmeasured", *names, code=1)[1])
    assert "--scale" in line and "--channel-order" in line
    out, _ = run(*words, "--unmeasured", *names, "--scale", "0-255", "--channel-order", "rgb")
    assert "not measured" in out
    from tagging.cards import facts
    from tagging.models import read_card

    card = read_card(store, "unmeasured")
    assert (
        "quality" not in card and dict(facts(card))["measured on"] == "nothing (imported with --unmeasured)"
    )
    images, labels = make_images(200, seed=5)
    assert (load_model(store, "unmeasured").votes(images).argmax(axis=1) == labels).mean() > 0.9


def test_what_tinytags_exported_is_imported_as_it_is(store, tmp_path):
    file = write(tmp_path, pattern_network())
    card = run_json("import", file, "--model", "own", "--corpus", "cifar", "--store", store.url())
    assert card["parameters"]["takes"] == "images as the store has them" and "tried" not in card
    assert load_model(store, "own").graph == file.read_bytes()


@pytest.mark.parametrize(
    "shape, count, first",
    [
        (["n", 3, 32, 32], 10, "nchw"),
        ([1, 224, 224, 3], 10, "nhwc"),
        (["n", 28, 28, 1], 5, "nhwc"),
        (["n", 784], 5, "nhwc"),
        (["n", 3072], 20, "nhwc"),
        ([None, None, None, None], 20, "nhwc"),
    ],
)
def test_shapes_of_pictures_have_their_ways(shape, count, first):
    inputs = possible_inputs(shape)
    assert (len(inputs), inputs[0].layout) == (count, first)
    images = make_images(2)[0]
    expected = [2, *(d if isinstance(d, int) else 32 for d in shape[1:])]
    expected = expected if shape != [None] * 4 else [2, 32, 32, 3]
    assert list(inputs[0].prepare(images).shape) == expected


@pytest.mark.parametrize(
    "shape", [["n", 3, 32, 24], ["n", 12, 32, 32], ["n", 101], ["n"], [], [1, 3, 5000, 5000]]
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(NetworkError) as caught:
        possible_inputs(shape)
    assert caught.value.problem == "input"


BAD = {
    "truncated": (foreign_network(RAW)[:900], "damaged"),
    "empty": (b"", "damaged"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
    "unknown operator": (
        one_node("Frobnicate", input_type=TensorProto.FLOAT, input_shape=["n", 32, 32, 3]),
        "graph",
    ),
    "whole numbers": (
        one_node("Identity", input_type=TensorProto.INT64, input_shape=["n", 32, 32, 3]),
        "graph",
    ),
}


@pytest.mark.parametrize(
    "data, problem, runtime",
    [pytest.param(*bad, None, id=name) for name, bad in BAD.items()]
    + [
        pytest.param(b"\x1c\x00\x00\x00TFL3" + bytes(50), "damaged", "litert", id="truncated TensorFlow Lite")
    ],
)
def test_a_file_that_is_no_network_is_one_line(data, problem, runtime, request, store, tmp_path):
    if runtime:
        request.getfixturevalue(runtime)
    with pytest.raises(NetworkError) as caught:
        open_foreign(data)
    assert caught.value.problem == problem
    file = write(tmp_path, data)
    line = error_line(
        run("import", file, "--model", "bad", "--corpus", "cifar", "--store", store.url(), code=1)[1]
    )
    assert str(file) in line


def test_an_answer_that_is_no_number_is_refused(store, tmp_path):
    model = onnx.load_from_string(foreign_network(RAW))
    weights = next(one for one in model.graph.initializer if one.name == "weights")
    weights.raw_data = np.full((48, 10), np.nan, np.float32).tobytes()
    file = write(tmp_path, model.SerializeToString())
    line = error_line(
        run("import", file, "--model", "nan", "--corpus", "cifar", "--store", store.url(), code=1)[1]
    )
    assert "nan" in line and str(file) in line


def test_classes_that_do_not_fit_are_one_line(store, tmp_path):
    file = write(tmp_path, random_network(classes=7))
    for words in (
        ["--corpus", "cifar"],
        ["--corpus", "cifar", "--classes", "a,b"],
        ["--corpus", "unlabelled"],
        ["--corpus", "none"],
    ):
        error_line(run("import", file, "--model", "bad", *words, "--store", store.url(), code=1)[1])
    words = ["--corpus", "cifar", "--classes", "a,b,c,d,e,f,g"]
    assert "airplane" in error_line(
        run("import", file, "--model", "bad", *words, "--store", store.url(), code=1)[1]
    )
    line = error_line(
        run(
            "import",
            tmp_path / "none.onnx",
            "--model",
            "bad",
            "--corpus",
            "cifar",
            "--store",
            store.url(),
            code=1,
        )[1]
    )
    assert "none.onnx" in line


def test_a_network_that_mixes_the_images_of_a_call_gets_one_at_a_time():
    data = graph_of(
        [
            helper.make_node("DynamicQuantizeLinear", ["image"], ["q", "s", "z"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("ReduceMean", ["d"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("Softmax", ["m"], ["probabilities"]),
        ],
        {}, classes=3, input_type=TensorProto.FLOAT, input_shape=["n", 3, 32, 32],
    )  # fmt: skip
    assert Network(("r", "g", "b"), ForeignOnnx(data)._graph.wrapped(WAYS["0-1 nchw"], False, 3)).batch == 1


def test_a_network_with_one_image_inside_gets_one_at_a_time():
    data = graph_of(
        [
            helper.make_node("ReduceMean", ["image"], ["m"], axes=[2, 3]),
            helper.make_node("Reshape", ["m", "one"], ["r"]),
            helper.make_node("Softmax", ["r"], ["probabilities"]),
        ],
        {"one": np.array([1, 3])}, classes=3, input_type=TensorProto.FLOAT, input_shape=["n", 3, 32, 32],
    )  # fmt: skip
    foreign = open_foreign(data)
    with pytest.raises(NetworkError) as caught:
        foreign.network(WAYS["0-1 nchw"], ("r", "g", "b"), False).votes(make_images(40)[0])
    assert caught.value.problem == "graph" and "32 images" in str(caught.value)
    choice = choose(foreign, [WAYS["0-1 nchw"]], ["r", "g", "b"])
    assert choice.model.batch == 1 and choice.model.votes(make_images(40)[0]).shape == (40, 3)


# TensorFlow Lite


@pytest.fixture(scope="module")
def tflite(keras, litert, tmp_path_factory):
    """Return a function that writes a small TensorFlow Lite network that knows the patterns of `small_world`."""
    import tensorflow

    def make(quantized: bool) -> bytes:
        patterns = np.random.default_rng(4711).integers(0, 256, (10, 3, 4, 4)).astype(np.float32)
        weights = (patterns.transpose(2, 3, 1, 0).reshape(48, 10) - 127.5) / 255**2 / 48 * 30
        model = keras.Sequential(
            [
                keras.Input((32, 32, 3), batch_size=1), keras.layers.AveragePooling2D(8), keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )  # fmt: skip
        model.layers[-1].set_weights([weights, -127.5 * weights.sum(axis=0)])
        converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
        if quantized:
            images = make_images(100, seed=9)[0]
            pictures = RAW.prepare(images)
            converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one[None]] for one in pictures)
            converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tensorflow.uint8
        return converter.convert()

    return make


@pytest.mark.parametrize("quantized", [False, True], ids=["float32", "uint8"])
def test_tensorflow_lite_is_imported_with_the_labels_in_its_zip(store, tflite, quantized, tmp_path, litert):
    data = tflite(quantized)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("dict.txt", "\n".join(CLASSES) + "\n")
    data += zipped.getvalue()
    assert labels_in(data) == CLASSES
    name = f"lite-{quantized}"
    card = run_json(
        "import",
        write(tmp_path, data, "a.tflite"),
        "--model",
        name,
        "--corpus",
        "cifar",
        "--store",
        store.url(),
    )
    assert (card["kind"], card["classes"]) == ("tflite", CLASSES) and card["quality"]["accuracy"] > 0.8
    model = load_model(store, name)
    images = make_images(70, seed=4)[0]
    votes = model.votes(images)
    assert np.array_equal(votes[11:12], model.votes(images[11:12]))
    interpreter = litert.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    for image, vote in zip(images[:5], votes, strict=False):
        interpreter.set_tensor(given["index"], RAW.prepare(image[None]).astype(given["dtype"]))
        interpreter.invoke()
        expected = interpreter.get_tensor(answer["index"])[0].astype(np.float32)
        expected = expected / 256 if quantized else expected
        np.testing.assert_allclose(vote, expected, atol=1e-6)


def test_a_truncated_tensorflow_lite_file_is_one_line(tflite):
    data = tflite(False)
    for length in (100, len(data) // 2, len(data) - 8):
        with pytest.raises(NetworkError) as caught:
            Interpreter(data[:length])
        assert caught.value.problem in ("damaged", "graph")


def test_without_litert_the_message_has_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    with pytest.raises(NetworkError, match=r"pip install 'tinytags\[tflite\]'") as caught:
        ForeignTflite(b"\x1c\x00\x00\x00TFL3")
    assert caught.value.problem == "missing"
