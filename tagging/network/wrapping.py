"""Turns an ONNX network from elsewhere into one from canonical images to probabilities, by nodes before and after it."""

from typing import Any

import numpy as np

from ingest.image import IMAGE_BYTES, SIDE
from tagging.network import NetworkError, open_session
from tagging.network.inputs import NetworkInput

# The versions of the operator set whose operators are used here as they are.
FIRST_OPSET = 7
# Before this version of the file format, each constant is an input, too.
FIRST_IR = 4
# An operator that computes its scale from all images of a call: such a network gets one image a call.
MIXES_IMAGES = {"DynamicQuantizeLinear"}
_PREFIX = "tinytags_"


class OnnxGraph:
    """An ONNX network before it is known how it takes images. Raises `NetworkError` for what is no network of one picture."""

    def __init__(self, data: bytes) -> None:
        self._model = read_graph(data)
        # Whether each call gets one image, as some graphs have a number of images inside, too.
        self.one_at_a_time = any(node.op_type in MIXES_IMAGES for node in self._model.graph.node)
        session = open_session(data)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in ("tensor(float)", "tensor(uint8)"):
            signature = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise NetworkError(
                f"the network's input is {signature or 'nothing'}, not one tensor of float32 or uint8",
                "input",
            )
        if len(outputs) != 1 or outputs[0].type != "tensor(float)":
            signature = ", ".join(f"{one.name} {one.type} {one.shape}" for one in outputs)
            raise NetworkError(f"the network's output is {signature}, not one tensor of float32", "output")
        self.shape = list(inputs[0].shape)
        self.takes_bytes = inputs[0].type == "tensor(uint8)"
        self.is_canonical = self.takes_bytes and self.shape[1:] == [IMAGE_BYTES]
        self._input, self._output = inputs[0].name, outputs[0].name
        numbers = [d for d in outputs[0].shape[1:] if d != 1]
        self.classes = numbers[0] if len(numbers) == 1 and isinstance(numbers[0], int) else None
        if len(numbers) != 1 or not outputs[0].shape:
            raise NetworkError(
                f"the network's output has the shape {outputs[0].shape}, not a number a class", "output"
            )

    def wrapped(self, taken: NetworkInput | None, softmax: bool, classes: int) -> bytes:
        """Return the network from canonical images (batch, 3072) uint8 to (batch, classes) float32.

        It takes images as ``taken``, or as they are where that is None. Where ``softmax``, its output are logits.
        """
        from onnx import ModelProto, TensorProto, helper

        model = ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        nodes, constants = _before(taken, self.takes_bytes, self._input) if taken else ([], [])
        image = f"{_PREFIX}image" if taken else self._input
        after = [helper.make_node("Flatten", [self._output], [f"{_PREFIX}flat"], name=f"{_PREFIX}flatten")]
        last = "Softmax" if softmax else "Identity"
        after.append(
            helper.make_node(last, [f"{_PREFIX}flat"], [f"{_PREFIX}probabilities"], name=f"{_PREFIX}last")
        )
        batch = self._batch()
        ours = list(graph.node)
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend([*nodes, *ours, *after])
        graph.initializer.extend(constants)
        graph.input.append(helper.make_tensor_value_info(image, TensorProto.UINT8, [batch, IMAGE_BYTES]))
        graph.output.append(
            helper.make_tensor_value_info(f"{_PREFIX}probabilities", TensorProto.FLOAT, [batch, classes])
        )
        model.ir_version = max(model.ir_version, FIRST_IR)
        data: bytes = model.SerializeToString()
        return data

    def _batch(self) -> int | str:
        if self.one_at_a_time:
            return 1
        return self.shape[0] if isinstance(self.shape[0], int) and self.shape[0] > 0 else "batch"


def read_graph(data: bytes) -> Any:
    """Return the `onnx.ModelProto` in ``data``. Raises `NetworkError` for what is none, or has parts in other files."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.external_data_helper import uses_external_data
    except ImportError as error:
        raise NetworkError(
            f"importing a network needs the package {error.name}, which is not installed: pip install 'tinytags[network]'",
            "missing",
        ) from None
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise NetworkError(
            f"not an ONNX network: {len(data):,} bytes that onnx can't read (truncated copy?)", "damaged"
        ) from None
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise NetworkError(
            "the network's weights are in another file; save it with them (onnx.save with save_as_external_data=False)",
            "graph",
        )
    version = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if model.graph.node and version < FIRST_OPSET:
        raise NetworkError(
            f"the network is of ONNX's operator set {version}; {FIRST_OPSET} is the oldest that is read",
            "graph",
        )
    return model


def _before(taken: NetworkInput, takes_bytes: bool, name: str) -> tuple[list[Any], list[Any]]:
    """Return the nodes that make the input ``name`` of canonical images, with their constants."""
    from onnx import TensorProto, helper, numpy_helper

    factor, offset = taken.affine()
    constants: dict[str, Any] = {"planes": np.array([-1, 3, SIDE * SIDE])}
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Reshape", ["planes"], {}),
    ]
    if (factor != 1).any():
        constants["factor"] = factor[:, None]
        steps.append(("Mul", ["factor"], {}))
    if offset.any():
        constants["offset"] = offset[:, None]
        steps.append(("Add", ["offset"], {}))
    if taken.channels == 1 or taken.order == "bgr":
        constants["mixing"] = taken.mixing()
        steps.append(("MatMul", ["mixing"], {}))
    constants["pictures"] = np.array([-1, taken.channels, SIDE, SIDE])
    steps.append(("Reshape", ["pictures"], {}))
    if taken.size != SIDE:
        constants["rows"] = taken.resizing()
        constants["columns"] = np.ascontiguousarray(taken.resizing().T)
        steps += [("MatMul", ["rows"], {}), ("MatMul", ["columns"], {})]
    if taken.layout == "nhwc":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    if taken.flat:
        constants["row"] = np.array([-1, taken.size**2 * taken.channels])
        steps.append(("Reshape", ["row"], {}))
    if takes_bytes:
        constants["half"] = np.float32(0.5)
        steps += [("Add", ["half"], {}), ("Cast", [], {"to": TensorProto.UINT8})]
    nodes, at = [], f"{_PREFIX}image"
    for number, (operator, others, attributes) in enumerate(steps):
        output = name if number == len(steps) - 1 else f"{_PREFIX}{number}"
        arguments = [at, *(f"{_PREFIX}{other}" for other in others)]
        if others in (["mixing"], ["rows"]):  # from the left
            arguments.reverse()
        nodes.append(helper.make_node(operator, arguments, [output], name=f"{_PREFIX}{number}", **attributes))
        at = output
    return nodes, [numpy_helper.from_array(array, f"{_PREFIX}{key}") for key, array in constants.items()]
