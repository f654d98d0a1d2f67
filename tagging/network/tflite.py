"""A network of TensorFlow Lite, run by LiteRT as it is; what makes its input of canonical images is in the file beside it."""

import io
import threading
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tagging.network import (
    ABOUT,
    BATCH,
    NetworkError,
    Probabilities,
    batched_votes,
    check_classes,
    describe_classes,
    named,
    network_hash,
    read_about,
    threads,
)
from tagging.network.inputs import NetworkInput, as_json, from_json
from tagging.types import Images

if TYPE_CHECKING:
    from storage.store import Store

FILE, FORMAT = "network.tflite", "tinytags-tflite"
# At this place a TensorFlow Lite file says what it is.
MAGIC, MAGIC_AT = b"TFL3", 4
MOST_LABEL_BYTES = 10_000_000


@dataclass(frozen=True, eq=False)
class TfliteNetwork:
    """A TensorFlow Lite network of one picture, in float32, uint8 or int8, to a number a class."""

    classes: tuple[str, ...]
    data: bytes = field(repr=False)
    taken: NetworkInput
    softmax: bool  # whether its numbers are logits
    kind: ClassVar[str] = "tflite"
    voters: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_classes(self.classes)

    def __getstate__(self) -> dict[str, Any]:
        # An interpreter stays in its process.
        return {name: getattr(self, name) for name in ("classes", "data", "taken", "softmax")}

    @cached_property
    def hash(self) -> str:
        """The sha256 of everything that decides the votes."""
        return network_hash(FORMAT, self.classes, self.data, self._about())

    @cached_property
    def interpreter(self) -> "Interpreter":
        """The interpreter, one a process. Raises `NetworkError` for a file that can't be run."""
        return Interpreter(self.data)

    def votes(self, images: Images) -> Probabilities:
        """As `tagging.network.Network.votes`. Threads that call this at once wait for each other."""

        def run(batch: Images) -> Probabilities:
            numbers = self.interpreter.run(self.taken.prepare(batch))
            return softmax(numbers) if self.softmax else numbers

        return batched_votes(run, images, self.interpreter.batch, len(self.classes))

    def files(self) -> dict[str, bytes]:
        """As in `tagging.model.Model`."""
        return {FILE: self.data, ABOUT: describe_classes(FORMAT, self.classes, **self._about())}

    def _about(self) -> dict[str, Any]:
        return {"input": as_json(self.taken), "softmax": self.softmax}

    @classmethod
    def load(cls, store: "Store", folder: str) -> "TfliteNetwork":
        """As in `tagging.model.Model`. Raises `NetworkError` where the files are damaged or LiteRT is missing."""
        about = read_about(FORMAT, store.read_bytes(f"{folder}/{ABOUT}"), store.url(f"{folder}/{ABOUT}"))
        with named(store.url(f"{folder}/{FILE}")):
            data = store.read_bytes(f"{folder}/{FILE}")
            network = cls(
                tuple(about["classes"]), data, from_json(about.get("input")), bool(about.get("softmax"))
            )
            _ = network.interpreter
        return network


class Interpreter:
    """LiteRT's interpreter of one network. Raises `NetworkError` where it can't run it."""

    def __init__(self, data: bytes) -> None:
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError:
            raise NetworkError(
                "TensorFlow Lite needs ai-edge-litert, which is not installed: pip install 'tinytags[tflite]'",
                "missing",
            ) from None
        if data[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
            raise NetworkError(
                f"not a TensorFlow Lite network: {len(data):,} bytes without its mark {MAGIC.decode()}",
                "damaged",
            )
        try:
            self._interpreter = litert.Interpreter(model_content=data, num_threads=threads())
        except (ValueError, RuntimeError) as error:
            raise NetworkError(
                f"LiteRT can't read it: {_first_line(error)} (truncated copy?)", "damaged"
            ) from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise NetworkError(
                f"the network has {len(inputs)} inputs and {len(outputs)} outputs, not one of each", "input"
            )
        self._input, self._output = inputs[0], outputs[0]
        shape = [int(d) for d in self._input["shape_signature"]]
        try:
            if shape and shape[0] == -1:
                self._interpreter.resize_tensor_input(
                    self._input["index"], [BATCH, *self._input["shape"][1:]]
                )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise NetworkError(f"LiteRT can't run this network: {_first_line(error)}", "graph") from None
        self._lock = threading.Lock()
        self.shape: list[int] = [int(d) for d in self._interpreter.get_input_details()[0]["shape"]]
        self.batch = self.shape[0] if self.shape else 1
        self.takes_bytes = self._input["dtype"] in (np.uint8, np.int8)
        for what, one in (("input", self._input), ("output", self._output)):
            if one["dtype"] not in (np.float32, np.uint8, np.int8):
                raise NetworkError(
                    f"the network's {what} is {np.dtype(one['dtype'])}, not float32, uint8 or int8", what
                )
        numbers = [int(d) for d in self._interpreter.get_output_details()[0]["shape"][1:] if d != 1]
        if len(numbers) != 1:
            raise NetworkError(
                f"the network's output has the shape {numbers}, not a number a class", "output"
            )
        self.classes = numbers[0]

    def run(self, pictures: Probabilities) -> Probabilities:
        """Return (batch, classes) float32, the network's numbers for ``pictures`` (batch, ...) float32.

        A network in int8 or uint8 gets pixels 0-255 as its numbers, the darkest as its least.
        """
        kind = self._input["dtype"]
        if self.takes_bytes:
            pictures = np.clip(np.floor(pictures + 0.5), 0, 255)
            pictures = pictures - (128 if kind == np.int8 else 0)
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(pictures, kind))
            try:
                self._interpreter.invoke()
            except (ValueError, RuntimeError) as error:
                raise NetworkError(f"LiteRT can't run this network: {_first_line(error)}", "graph") from None
            numbers = self._interpreter.get_tensor(self._output["index"])
        result: Probabilities = numbers.reshape(len(pictures), -1).astype(np.float32)
        scale, zero = self._output["quantization"]
        return (result - np.float32(zero)) * np.float32(scale) if scale else result


def softmax(logits: Probabilities) -> Probabilities:
    """Return the probabilities (n, classes) of ``logits`` (n, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return shares


def labels_in(data: bytes) -> list[str] | None:
    """Return the names of the classes in the zip at the end of a TensorFlow Lite file; None where there is none.

    It is a text file with a name a line, as the TensorFlow Lite metadata and AutoML have it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = [
                one
                for one in archive.infolist()
                if one.filename.endswith(".txt") and one.file_size < MOST_LABEL_BYTES
            ]
            texts.sort(key=lambda one: ("label" not in one.filename, "dict" not in one.filename))
            lines = archive.read(texts[0]).decode().splitlines() if texts else []
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, OSError):
        return None
    return [line.strip() for line in lines if line.strip()] or None


def _first_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
