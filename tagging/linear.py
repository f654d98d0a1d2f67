"""Softmax regression: a linear model of pixels or features, whose votes are probabilities."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from tagging.features import EXTRA, MissingExtraError, arrays
from tagging.training import fold_numbers

if TYPE_CHECKING:
    from storage.store import Store

FILE = "linear.npz"
FORMAT = "tinytags-linear-1"
MOST_ITERATIONS = 500
# scikit-learn's C: the inverse of the strength of the regularization, for standardized inputs. Chosen on training images of CIFAR-10
# (pretrained features; 5 to 500 labels a class; measured on 2,000 other training images): within a point of the best for each.
C = 0.003
# Numbers that are fitted to; more are fitted by all cores, and as float32.
MANY = 1 << 24
# The temperature is found by models that each leave out one of so many folds; from so many images on, by one such model.
FOLDS, ONE_FOLD_FROM = 5, 5_000
TEMPERATURES = (0.1, 10.0)
# The logit of a class without examples, below those of all others.
NEVER = -1000.0


@dataclass(frozen=True, eq=False)
class Linear:
    """A class' logit is its column of ``weights`` times the inputs, plus its ``bias``, over 2**``power``.

    Inputs, weights and bias are whole numbers, small enough that their sums are exact: an image's votes don't depend on the images beside it, nor on the machine.
    Raises `TinyTagsError` for arrays that are no such model.
    """

    kind: ClassVar[str] = "linear"
    voters: ClassVar[None] = None

    classes: tuple[str, ...]
    weights: npt.NDArray[np.int64]  # (k, classes)
    bias: npt.NDArray[np.int64]  # (classes,)
    power: int

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise TinyTagsError(f"not a linear model: {problem}")

    @property
    def features(self) -> int:
        """The number of inputs."""
        return len(self.weights)

    @cached_property
    def hash(self) -> str:
        """As in `tagging.model.Model`."""
        return arrays.digest(FORMAT, list(self.classes), self.power, self.weights, self.bias)

    @cached_property
    def _floats(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return self.weights.astype(np.float64), self.bias.astype(np.float64)

    def votes(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities (n, classes) float32 for inputs (n, k) uint8. Raises `TinyTagsError` for another array."""
        if images.ndim != 2 or images.shape[1] != self.features or images.dtype != np.uint8:
            raise TinyTagsError(
                f"the model is for {self.features:,} numbers an image (uint8), not for an array of {images.dtype} {images.shape}"
            )
        weights, bias = self._floats
        logits = np.ldexp(images.astype(np.float64) @ weights + bias, -self.power)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        votes: npt.NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(
            np.float32
        )
        return votes

    def files(self) -> dict[str, bytes]:
        """As in `tagging.model.Model`."""
        about = {"format": FORMAT, "classes": list(self.classes), "power": self.power}
        return {FILE: arrays.save(about, {"weights": self.weights, "bias": self.bias})}

    @classmethod
    def load(cls, store: "Store", folder: str) -> "Linear":
        """As in `tagging.model.Model`."""
        path = f"{folder}/{FILE}"
        about, kept = arrays.load(store, path, FORMAT, {"weights": "i8", "bias": "i8"})
        try:
            return cls(tuple(about["classes"]), kept["weights"], kept["bias"], int(about["power"]))
        except (TinyTagsError, KeyError, TypeError, ValueError) as error:
            raise arrays.damaged(store, path, error) from error

    def _problem(self) -> str | None:
        if len(set(self.classes)) < max(len(self.classes), 1) or not all(self.classes):
            return "it has no classes, two of one name, or one without a name"
        if self.weights.ndim != 2 or self.bias.shape != (len(self.classes),):
            return "its arrays don't fit its classes"
        if self.weights.shape[1:] != self.bias.shape:
            return f"{self.weights.shape[1]:,} columns for {len(self.classes):,} classes"
        largest = (
            255 * int(np.abs(self.weights).astype(object).sum(axis=0).max(initial=0))
            if self.weights.size
            else 0
        )
        if largest + int(np.abs(self.bias).max()) >= arrays.EXACT:
            return "its numbers are too large"
        return None


def train(
    codes: npt.NDArray[np.uint8], labels: npt.NDArray[Any], classes: list[str], c: float = C, seed: int = 0
) -> tuple[Linear, dict[str, Any]]:
    """Return the softmax regression fitted to ``codes`` (n, k) uint8 with ``labels`` (n,), and its parameters.

    All labels are known. Inputs are standardized; means and deviations are part of the weights. ``c`` is scikit-learn's C. The logits are
    divided by a temperature (Guo et al., ICML 2017), which makes the probabilities those of models on images that they were not fitted to, in
    folds drawn by ``seed``: regularization for few labels makes them too small otherwise.
    Raises `TinyTagsError` where all labels are of one class, `MissingExtraError` without scikit-learn.
    """
    known = np.unique(labels)
    if len(known) < 2:
        names = ", ".join(repr(classes[label]) for label in known) or "none"
        raise TinyTagsError(
            f"all {len(labels):,} labelled images are of one class ({names}); a model needs images of two or more"
        )
    weights, bias = _fit(codes, labels, known, len(classes), c)
    temperature = _temperature(codes, labels, known, len(classes), c, seed)
    weights, bias = weights / temperature, bias / temperature
    whole, power = arrays.whole(np.vstack([weights, bias / 255]), len(weights) + 1)
    model = Linear(tuple(classes), whole[:-1], np.rint(np.ldexp(bias, power)).astype(np.int64), power)
    return model, {"C": c, "temperature": round(temperature, 4)}


def _fit(
    codes: npt.NDArray[np.uint8], labels: npt.NDArray[Any], known: npt.NDArray[Any], classes: int, c: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return weights (k, classes) and biases (classes,) for codes as they are."""
    try:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingExtraError(
            f"linear models are fitted by scikit-learn: {EXTRA}", "scikit-learn"
        ) from None

    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    inputs = ((codes - mean) * inverse).astype(np.float32 if codes.size >= MANY else np.float64)
    regression = LogisticRegression(C=c, max_iter=MOST_ITERATIONS, tol=1e-3)
    # On a busy machine, several threads take many times as long for a few labels as one.
    with threadpool_limits(1 if codes.size < MANY else None, "blas"):
        fitted = regression.fit(inputs, labels)
    slopes, intercepts = fitted.coef_.astype(np.float64), fitted.intercept_.astype(np.float64)
    if len(known) == 2:  # the logit of the second class alone
        slopes, intercepts = np.vstack([0 * slopes, slopes]), np.concatenate([[0.0], intercepts])
    weights = np.zeros((codes.shape[1], classes))
    bias = np.full(classes, NEVER)
    weights[:, known] = (slopes * inverse).T
    bias[known] = intercepts - (slopes * inverse) @ mean
    return weights, bias


def _temperature(
    codes: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    known: npt.NDArray[Any],
    classes: int,
    c: float,
    seed: int,
) -> float:
    """Return the temperature that gives the labels of images not fitted to the largest likelihood.

    Of many images, one fold is enough. 1 where classes are too small to be left out in part.
    """
    fold = fold_numbers(labels, FOLDS, seed)
    logits, answers = [], []
    for number in range(FOLDS if len(labels) < ONE_FOLD_FROM else 1):
        out = fold == number
        if out.any() and np.array_equal(np.unique(labels[~out]), known):
            weights, bias = _fit(codes[~out], labels[~out], known, classes, c)
            logits.append((codes[out] @ weights + bias)[:, known])
            answers.append(np.searchsorted(known, labels[out]))
    if not logits:
        return 1.0
    every, answer = np.concatenate(logits), np.concatenate(answers)
    every -= every.max(axis=1, keepdims=True)
    right = every[np.arange(len(answer)), answer]
    candidates = np.geomspace(*TEMPERATURES, 200)
    losses = [np.mean(np.log(np.exp(every / t).sum(axis=1)) - right / t) for t in candidates]
    return float(candidates[int(np.argmin(losses))])
