"""Writes a Keras network in the formats that others read: ONNX, ONNX in int8, Keras, HDF5 and TensorFlow Lite."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import first_line
from tagging.network import BATCH, NetworkError
from tagging.network.training import file_of, load_keras, without_optimizer

KERAS_FILE = "network.keras"


def to_onnx(model: Any) -> bytes:
    """Return a Keras model as an ONNX graph with the same input and output."""
    try:
        import tf2onnx  # noqa: F401  # Keras uses it
    except ImportError:
        raise NetworkError(
            "ONNX needs the package tf2onnx, which is not installed: pip install 'tinytags[train]'", "missing"
        ) from None
    with _quiet():
        model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras exports only what was called
        return file_of(lambda path: model.export(path, format="onnx", verbose=False), "network.onnx")


def to_keras(model: Any) -> bytes:
    """Return a Keras model, without the state of its training, as a .keras file."""
    return file_of(without_optimizer(model).save, KERAS_FILE)


def to_h5(model: Any) -> bytes:
    """Return a Keras model as an HDF5 file, the format before .keras."""
    with _quiet():
        return file_of(lambda path: model.save(path, include_optimizer=False), "network.h5")


def to_tflite(model: Any) -> bytes:
    """Return a Keras model as a TensorFlow Lite file."""
    with _quiet():
        return file_of(lambda path: model.export(path, format="litert", verbose=False), "network.tflite")


def from_keras(data: bytes, name: str) -> Any:
    """Return the Keras model in a .keras file, ``data``. Raises `TinyTagsError` with ``name`` for anything else."""
    keras = load_keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, KERAS_FILE)
        path.write_bytes(data)
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as error:  # zipfile, h5py and Keras each have their own
            reason = first_line(error)
            raise TinyTagsError(f"{name}: is no Keras model ({reason}); train the model again") from None


def to_int8(graph: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """Return an ONNX graph with its convolutions in int8, calibrated on ``images`` (n, 3072).

    Each channel has a scale of its own. The first convolution stays in float32, as its outputs are small differences of large
    numbers, and so do sums. Of 2,000 training images of CIFAR-10 a small network is right in 79.5 %, and in
    79.6 % in this form; in 75.2 % with sums in int8, and in 61.7 % with the first convolution, too.
    """
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise NetworkError(
            f"int8 needs the package {error.name}, which is not installed: pip install 'tinytags[train]'",
            "missing",
        ) from None

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # has no types
        def __init__(self, name: str) -> None:
            self._batches = iter(
                [{name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    import onnx

    name = onnx.load_from_string(graph).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, prepared, quantized = (Path(folder, name) for name in ("a.onnx", "b.onnx", "c.onnx"))
        whole.write_bytes(graph)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared, quantized, Reader(name), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"], nodes_to_exclude=convolutions[:1],
        )  # fmt: skip
        return quantized.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what converters print: warnings of their own libraries, and progress in C++."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
