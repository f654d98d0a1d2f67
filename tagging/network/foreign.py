"""A network from elsewhere: how it may take images, and which of the ways is right on labelled images."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import counted, listed
from tagging.model import Model
from tagging.network import Network, NetworkError, check_classes
from tagging.network.inputs import NetworkInput, described, possible_inputs, unknown_options
from tagging.network.tflite import MAGIC, MAGIC_AT, Interpreter, TfliteNetwork, labels_in
from tagging.network.wrapping import OnnxGraph
from tagging.types import Images

CANONICAL = "images as the store has them"
# Images of noise that show whether a network gives probabilities or logits, where there are no labelled ones.
NOISE_IMAGES = 32
_Z = 1.96  # 95 %


class UselessNetworkError(TinyTagsError):
    """No way of giving images to a network is better than guessing; ``tried`` has each with its accuracy."""

    def __init__(self, message: str, tried: list[tuple[str, float]]) -> None:
        super().__init__(message)
        self.tried = tried

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.tried)


class ForeignOnnx:
    """An ONNX network. Raises `NetworkError` for what is no network of one picture."""

    labels: None = None

    def __init__(self, data: bytes) -> None:
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._data, self._graph = data, OnnxGraph(data)
        self.classes, self.shape, self.takes_bytes = (
            self._graph.classes,
            self._graph.shape,
            self._graph.takes_bytes,
        )
        self.is_canonical = self._graph.is_canonical

    def one_at_a_time(self) -> bool:
        """Let each call of the network have one image; return whether it had more before."""
        before, self._graph.one_at_a_time = self._graph.one_at_a_time, True
        return not before

    def network(self, taken: NetworkInput | None, classes: Sequence[str], softmax: bool) -> Model:
        """Return it as a model that takes images as ``taken`` (None: as they are); its numbers are logits where ``softmax``."""
        graph = self._data
        if taken or softmax or self._graph.one_at_a_time:
            graph = self._graph.wrapped(taken, softmax, len(classes))
        return Network(tuple(classes), graph)


class ForeignTflite:
    """A TensorFlow Lite network. Raises `NetworkError` for what is no network of one picture."""

    is_canonical = False

    def __init__(self, data: bytes) -> None:
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._data = data
        interpreter = Interpreter(data)
        self.classes: int | None = interpreter.classes
        self.shape, self.takes_bytes, self.labels = (
            interpreter.shape,
            interpreter.takes_bytes,
            labels_in(data),
        )

    def one_at_a_time(self) -> bool:
        """As `ForeignOnnx.one_at_a_time`; the file says itself how many images a call has."""
        return False

    def network(self, taken: NetworkInput | None, classes: Sequence[str], softmax: bool) -> Model:
        """As `ForeignOnnx.network`."""
        assert taken is not None
        return TfliteNetwork(tuple(classes), self._data, taken, softmax)


Foreign = ForeignOnnx | ForeignTflite


def open_foreign(data: bytes) -> Foreign:
    """Return the network in a file of ONNX or TensorFlow Lite. Raises `NetworkError` for anything else."""
    return ForeignTflite(data) if data[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC else ForeignOnnx(data)


def choose_classes(foreign: Foreign, given: list[str] | None, of_corpus: list[str] | None) -> list[str]:
    """Return the names of a network's classes: those ``given``, else those in its file, else those of a corpus.

    Raises `NetworkError` where there are none, or not as many as the network gives numbers.
    """
    names = given or foreign.labels or of_corpus
    if not names:
        raise NetworkError(
            "the file has no names of classes; give them in the network's order by --classes A,B,...",
            "classes",
        )
    check_classes(names)
    if foreign.classes is not None and foreign.classes != len(names):
        whose = "--classes has" if given else "its file has" if foreign.labels else "the corpus has"
        raise NetworkError(
            f"the network gives {foreign.classes:,} numbers, but {whose} {len(names):,} classes ({listed(names, 10)}); give "
            "its classes in its order by --classes A,B,...",
            "classes",
        )
    return names


def ways(
    foreign: Foreign, size: int | None = None, scale: str | None = None, order: str | None = None, layout: str | None = None
) -> list[NetworkInput | None]:  # fmt: skip
    """Return the ways in which a network may take an image, where ``size`` and so on are known where given.

    None stands for the canonical image. A network of bytes takes pixels as they are. Raises `NetworkError` for a network
    whose input is no picture.
    """
    if foreign.is_canonical:
        return [None]
    if foreign.takes_bytes:
        scale = scale or "0-255"
    return list(possible_inputs(foreign.shape, size, scale, order, layout))


class ChosenInput(NamedTuple):
    """A network that takes images in the way that was best, or the only one."""

    model: Model
    takes: str
    tried: list[tuple[str, float]]  # each way and its accuracy, the best first


def choose(
    foreign: Foreign, taken: Sequence[NetworkInput | None], classes: list[str], images: Images | None = None,
    labels: npt.NDArray[np.int32] | None = None,
) -> ChosenInput:  # fmt: skip
    """Return the network in the best of the ways ``taken``, tried on ``images`` (n, 3072) with ``labels`` (n,), places in ``classes``.

    Without images there may be only one way. Raises `UselessNetworkError` where the best is no better than always the same
    class, `NetworkError` where the network gives no probabilities, and `TinyTagsError` where it can't be decided.
    """
    if images is None or labels is None:
        if len(taken) > 1:
            options = unknown_options([one for one in taken if one])
            raise TinyTagsError(
                f"the network's input format is unknown: give {' and '.join(options)}, or labelled images by --corpus"
            )
        noise = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, 3072)).astype(np.uint8)
        return ChosenInput(_probabilities(foreign, taken[0], classes, noise)[0], _words(taken[0]), [])
    candidates: list[tuple[float, int, Model]] = []
    errors: list[NetworkError] = []
    for place, one in enumerate(taken):
        try:
            model, votes = _probabilities(foreign, one, classes, images)
        except NetworkError as error:
            errors.append(error)
            continue
        candidates.append((float((votes.argmax(axis=1) == labels).mean()), -place, model))
    if not candidates:
        raise errors[0]
    candidates.sort(key=lambda entry: entry[:2], reverse=True)
    tried = [(_words(taken[-place]), round(accuracy, 4)) for accuracy, place, _ in candidates]
    guessing = np.bincount(labels).max() / len(labels)
    margin = _Z * np.sqrt(guessing * (1 - guessing) / len(labels))
    if candidates[0][0] <= guessing + margin:
        raise UselessNetworkError(
            f"the network is right in {candidates[0][0]:.1%} of {counted(len(labels), 'labelled image')} at best "
            f"({tried[0][0]}), and always the same class in {guessing:.1%}: its classes are others or in another order "
            "(--classes A,B,...), or it takes images in none of the ways that are tried",
            tried,
        )
    return ChosenInput(candidates[0][2], tried[0][0], tried)


def _probabilities(
    foreign: Foreign, taken: NetworkInput | None, classes: list[str], images: Images
) -> tuple[Model, npt.NDArray[np.float32]]:
    """Return the network and its votes on ``images``; values outside 0 to 1 are read as logits."""
    model = foreign.network(taken, classes, softmax=False)
    try:
        return model, model.votes(images)
    except NetworkError as error:
        if error.problem == "graph" and foreign.one_at_a_time():
            return _probabilities(foreign, taken, classes, images)
        if error.problem != "probabilities":
            raise
    model = foreign.network(taken, classes, softmax=True)
    return model, model.votes(images)


def _words(taken: NetworkInput | None) -> str:
    return described(taken) if taken else CANONICAL
