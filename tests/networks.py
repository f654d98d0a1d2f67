"""Small ONNX networks for tests: one that knows the patterns of `small_world`, and random ones."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ingest.image import IMAGE_BYTES


def graph_of(
    nodes,
    weights,
    classes=10,
    input_type=TensorProto.UINT8,
    input_shape=("batch", IMAGE_BYTES),
    batch="batch",
):
    """Return the bytes of an ONNX model from ``image`` to ``probabilities`` (batch, classes)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", input_type, input_shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def pattern_network(scale=1 / 255, output="Softmax", sharpness=30.0):
    """Return an ONNX network that compares an image with the ten patterns of `small_world.make_images`."""
    patterns = np.random.default_rng(4711).integers(0, 256, (10, 48)).astype(np.float32) / 255
    weights = (patterns - 0.5).T / 48 * sharpness
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "planes"], ["picture"]),
        helper.make_node("AveragePool", ["picture"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node(output, ["logits"], ["probabilities"]),
    ]
    arrays = {
        "scale": np.float32(scale),
        "planes": np.array([-1, 3, 32, 32]),
        "weights": weights.astype(np.float32),
        "bias": (-0.5 * weights.sum(axis=0)).astype(np.float32),
    }
    return graph_of(nodes, arrays)


def random_network(seed=0, classes=10, batch="batch"):
    """Return an ONNX network with convolutions and dense layers of random weights."""
    random = np.random.default_rng(seed)
    shapes = {"first": (24, 3, 3, 3), "second": (40, 24, 3, 3), "dense": (40 * 49, 64), "last": (64, classes)}
    arrays = {
        name: (
            random.normal(size=shape) / np.sqrt(np.prod(shape[1:]) if len(shape) == 4 else shape[0])
        ).astype(np.float32)
        for name, shape in shapes.items()
    }
    arrays |= {"scale": np.float32(1 / 64), "planes": np.array([-1, 3, 32, 32])}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "planes"], ["picture"]),
        helper.make_node("Conv", ["picture", "first"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return graph_of(nodes, arrays, classes, input_shape=(batch, IMAGE_BYTES), batch=batch)


def one_node(operator, domain="", to=None, **options):
    """Return an ONNX network of one operator; onnxruntime may not know it."""
    attributes = {} if to is None else {"to": to}
    node = helper.make_node(operator, ["image"], ["probabilities"], domain=domain, **attributes)
    data = graph_of([node], {}, **options)
    if not domain:
        return data
    model = onnx.load_from_string(data)
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()
