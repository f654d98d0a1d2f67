"""A network: an ONNX graph from canonical images to probabilities, run by onnxruntime."""

import contextlib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import listed
from ingest.image import IMAGE_BYTES
from tagging.types import Images

if TYPE_CHECKING:
    from storage.store import Store

Probabilities = npt.NDArray[np.float32]  # (n, classes)

FILE, ABOUT = "network.onnx", "network.json"
FORMAT, VERSION = "tinytags-network", 1
# The images of one call of the graph. All calls have the same number, the last one filled up with black images: a matrix
# product may add up in another order for another number of rows, and then one image would have two probabilities.
BATCH = 32
# Sums of float32 shares may exceed 1 by this much.
TOLERANCE = 1e-3


class NetworkError(TinyTagsError):
    """A network that can't be used; ``problem`` is one of the words in `PROBLEMS`."""

    def __init__(self, message: str, problem: str) -> None:
        super().__init__(message)
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.problem)


PROBLEMS = {
    "damaged": "the file is no network, or is not whole",
    "graph": "onnxruntime can't run it: an operator is unknown, or one does not fit the others",
    "input": "its input is not what a canonical image gives",
    "output": "its output is not a number a class",
    "classes": "its classes have no names, or not as many as its output has numbers",
    "probabilities": "its answer is not a number, or is outside 0 to 1",
    "missing": "a Python package is not installed",
}


@dataclass(frozen=True, eq=False)
class Network:
    """An ONNX graph with one input (batch, 3072) uint8, canonical images, and one output (batch, classes) float32.

    Everything between pixels and probabilities is in the graph: layout, scale, softmax. The first dimension of its input is
    free, or the number of images that each call takes.
    """

    classes: tuple[str, ...]
    graph: bytes = field(repr=False)
    kind: ClassVar[str] = "network"
    voters: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_classes(self.classes)

    def __getstate__(self) -> dict[str, Any]:
        return {"classes": self.classes, "graph": self.graph}  # a session stays in its process

    @cached_property
    def hash(self) -> str:
        """The sha256 of the classes and the graph."""
        return network_hash(FORMAT, self.classes, self.graph)

    @cached_property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`, one a process. Raises `NetworkError` for a graph that can't be run."""
        session = open_session(self.graph)
        check_signature(session, len(self.classes))
        return session

    @cached_property
    def batch(self) -> int:
        """The images of each call of the graph."""
        return batch_of(self.session)

    def votes(self, images: Images) -> Probabilities:
        """Return (n, classes) float32, the probability of each class, for ``images`` (n, 3072) uint8.

        Threads that call this at once share one session. Raises `NetworkError` for an array of another shape or type,
        for probabilities that are no numbers from 0 to 1, and where the graph fails.
        """
        name = self.session.get_inputs()[0].name

        def run(batch: Images) -> Probabilities:
            try:
                return np.asarray(self.session.run(None, {name: batch})[0], np.float32)
            except Exception as error:  # as in `open_session`
                raise NetworkError(
                    f"onnxruntime can't run this network on {len(batch)} images: {one_line(error)}", "graph"
                ) from None

        return batched_votes(run, images, self.batch, len(self.classes))

    def files(self) -> dict[str, bytes]:
        """As in `tagging.model.Model`."""
        return {FILE: self.graph, ABOUT: describe_classes(FORMAT, self.classes)}

    @classmethod
    def load(cls, store: "Store", folder: str) -> "Network":
        """As in `tagging.model.Model`. Raises `NetworkError` where the files are damaged or onnxruntime is missing."""
        about = read_about(FORMAT, store.read_bytes(f"{folder}/{ABOUT}"), store.url(f"{folder}/{ABOUT}"))
        with named(store.url(f"{folder}/{FILE}")):
            network = cls(tuple(about["classes"]), store.read_bytes(f"{folder}/{FILE}"))
            _ = network.session  # so that a graph that can't be run is an error now, not on a worker
        return network


def open_session(graph: bytes) -> Any:
    """Return an `onnxruntime.InferenceSession` of an ONNX graph. Raises `NetworkError` for one that can't be run."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ImportError:
        raise NetworkError(
            "a network needs onnxruntime, which is not installed: pip install 'tinytags[network]'", "missing"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    # Threads that wait in a loop would take the cores from tasks beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong is in the exception
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (errors.InvalidProtobuf, errors.InvalidArgument):
        raise NetworkError(
            f"not an ONNX network: {len(graph):,} bytes that onnxruntime can't read (truncated copy?)",
            "damaged",
        ) from None
    except Exception as error:  # its exceptions have no class of their own in common
        raise NetworkError(f"onnxruntime can't run this network: {one_line(error)}", "graph") from None


def threads() -> int:
    """Return the threads of a session: OMP_NUM_THREADS where it is set, else as many as this process has cores.

    Spark sets it to the cores of a task, and `--master processes` to 1 where it starts more than one process.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else len(os.sched_getaffinity(0))


def one_line(error: Exception) -> str:
    """Return the message of an exception of onnxruntime without its number and places in source files."""
    text = str(error).rpartition("] : ")[2] or type(error).__name__
    text = re.sub(r"^\d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"/\S+\.(h|cc):\d+ .*?(?= (?:ONNX Runtime|\[ONNX))", "", text)
    return " ".join(text.split())[:300]


def check_signature(session: Any, classes: int) -> None:
    """Raise `NetworkError` where a session is not from (batch, 3072) uint8 to (batch, ``classes``) float32."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    signature = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or list(inputs[0].shape[1:]) != [IMAGE_BYTES]:
        raise NetworkError(
            f"the network's input is {signature or 'nothing'}, not canonical images, tensor(uint8) ['batch', {IMAGE_BYTES}]; "
            "`tinytags import` adds what turns these into its input",
            "input",
        )
    signature = ", ".join(f"{one.name} {one.type} {one.shape}" for one in outputs)
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 2:
        raise NetworkError(
            f"the network's output is {signature}, not a probability a class, tensor(float) ['batch', {classes}]",
            "output",
        )
    numbers = outputs[0].shape[1]
    if isinstance(numbers, int) and numbers != classes:
        raise NetworkError(f"the network gives {numbers:,} numbers for {classes:,} classes", "classes")


def batch_of(session: Any) -> int:
    """Return the images of each call of a session: as many as its input is fixed to, else `BATCH`."""
    first = session.get_inputs()[0].shape[0]
    return first if isinstance(first, int) and first > 0 else BATCH


def batched_votes(
    run: Callable[[Images], Probabilities], images: Images, batch: int, classes: int
) -> Probabilities:
    """Return (n, classes) float32 of ``images`` (n, 3072) uint8, from calls of ``run`` with ``batch`` images each.

    Raises `NetworkError` for images of another shape or type, and for results that are no probabilities.
    """
    if images.ndim != 2 or images.shape[1] != IMAGE_BYTES or images.dtype != np.uint8:
        raise NetworkError(
            f"the network is for images of {IMAGE_BYTES:,} bytes (uint8), not for an array of {images.dtype} {images.shape}",
            "input",
        )
    n = len(images)
    votes = np.empty((n, classes), np.float32)
    for start in range(0, n, batch):
        part = images[start : start + batch]
        if len(part) < batch:
            part = np.concatenate([part, np.zeros((batch - len(part), IMAGE_BYTES), np.uint8)])
        result = run(np.ascontiguousarray(part))
        if result.shape != (batch, classes):
            raise NetworkError(
                f"the network gives an array of {result.shape}, not of {(batch, classes)}", "output"
            )
        votes[start : start + batch] = result[: n - start]
    # Not `min() < 0`: every comparison with NaN is false.
    if n and not (votes.min() >= -TOLERANCE and votes.max() <= 1 + TOLERANCE):
        wrong = np.flatnonzero(~((votes >= -TOLERANCE) & (votes <= 1 + TOLERANCE)).all(axis=1))
        raise NetworkError(
            f"the network gives {listed([f'{value:g}' for value in votes[wrong[0]]], 10)} for an image, which are no "
            "probabilities from 0 to 1",
            "probabilities",
        )
    return np.clip(votes, 0, 1, out=votes)


def check_classes(classes: Sequence[object]) -> None:
    """Raise `NetworkError` for names of classes that are no names, occur twice, or are fewer than two."""
    if not all(isinstance(name, str) and name.strip() for name in classes):
        raise NetworkError("a class of the network has no name", "classes")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise NetworkError(f"two classes of the network are called {twice[0]!r}", "classes")
    if len(classes) < 2:
        raise NetworkError(
            f"the network has only the class {list(classes)}; a tag is a choice of two or more", "classes"
        )


def network_hash(
    form: str, classes: Sequence[str], data: bytes, about: Mapping[str, Any] | None = None
) -> str:
    """Return the sha256 of everything that decides the votes of a network."""
    head = json.dumps([form, VERSION, list(classes), about or {}], sort_keys=True)
    return hashlib.sha256(head.encode() + b"\n" + data).hexdigest()


def describe_classes(form: str, classes: Sequence[str], **more: Any) -> bytes:
    """Return the small JSON file beside a network; the same for equal arguments."""
    about = {"format": form, "version": VERSION, "classes": list(classes), **more}
    return (json.dumps(about, ensure_ascii=False, indent=1) + "\n").encode()


def read_about(form: str, data: bytes, name: str) -> dict[str, Any]:
    """Return what `describe_classes` wrote as ``data``; raises `NetworkError` with ``name`` for anything else."""
    try:
        about = json.loads(data)
        if about["format"] != form or about["version"] != VERSION or not isinstance(about["classes"], list):
            raise ValueError(
                f"it is {about['format']!r} version {about['version']!r}, not {form!r} {VERSION}"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise NetworkError(f"{name}: {error}; train, import or copy the model again", "damaged") from None
    result: dict[str, Any] = about
    return result


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Put ``name`` before the message of a `NetworkError` of the block."""
    try:
        yield
    except NetworkError as error:
        raise NetworkError(f"{name}: {error}", error.problem) from None
