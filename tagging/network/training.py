"""Trains a network with Keras, by one of the recipes."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.image import IMAGE_BYTES, SIDE
from tagging.network.muon import muon
from tagging.network.recipes import LEAST_BATCH, LEAST_STEPS, Recipe
from tagging.types import Images, Labels

# Pixels 0-255 become these numbers' range: about -2 to 2.
MEAN, DEVIATION = 127.5, 64.0
MOMENTUM = 0.9


def load_keras() -> Any:
    """Import Keras on TensorFlow. Raises `TinyTagsError` where one is not installed."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its lines about the processor
    # TensorFlow uses oneDNN by itself only on processors with AVX-512; with AVX2 it trains 1.5 to 2 times as fast, too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        with _without_stderr() if "tensorflow" not in sys.modules else contextlib.nullcontext():
            import keras
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise TinyTagsError(
            f"engine keras needs the package {error.name}, which is not installed: pip install 'tinytags[train]'"
        ) from None
    return keras


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what the process writes to stderr: TensorFlow's lines about oneDNN, which no level of its log leaves out."""
    stderr = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


def whitening(images: Images, patch: int, components: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return (patch, patch, 3, filters) float32, a layer that makes the patches of ``images`` (n, 3072) uncorrelated.

    The filters are the eigenvectors of the patches' covariance, each over the root of its eigenvalue: those of the
    ``components`` greatest, and the same with the other sign, so that a ReLU loses nothing (K. Jordan, 94% on CIFAR-10 in
    3.29 Seconds on a Single GPU, 2024, section 3.2). Images in grey may have fewer.
    """
    random = np.random.default_rng(seed)
    planes = images.reshape(-1, 3, SIDE, SIDE)
    y, x = random.integers(0, SIDE - patch + 1, (2, len(images), 8))
    windows = np.lib.stride_tricks.sliding_window_view(planes, (patch, patch), axis=(2, 3))
    patches = windows[np.arange(len(images))[:, None], :, y, x]  # (n, 8, 3, patch, patch)
    flat = (patches.transpose(0, 1, 3, 4, 2).reshape(-1, patch * patch * 3) - MEAN) / DEVIATION
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    used = [place for place in range(len(values)) if values[place] > values[-1] * 1e-6][-components:]
    filters = vectors[:, used] / np.sqrt(values[used] + 5e-4)
    filters = np.concatenate([filters, -filters], axis=1)
    shaped: npt.NDArray[np.float32] = filters.reshape(patch, patch, 3, -1).astype(np.float32)
    return shaped


def build(recipe: Recipe, classes: int, images: Images, seed: int = 0) -> Any:
    """Return a Keras model from canonical images (n, 3072) uint8 to (n, classes) probabilities, untrained.

    Its first layer is computed from ``images``.
    """
    keras = load_keras()
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    image = keras.Input((IMAGE_BYTES,), dtype="uint8", name="image")
    x = layers.Rescaling(1 / DEVIATION, -MEAN / DEVIATION)(image)
    x = layers.Permute((2, 3, 1))(layers.Reshape((3, SIDE, SIDE))(x))
    if recipe.plain:
        for width in recipe.widths:
            x = layers.Conv2D(width, 3, activation="relu")(x)
        x = layers.Dense(classes)(layers.Flatten()(x))
        return keras.Model(image, layers.Softmax(name="probabilities")(x))
    filters = whitening(images, recipe.patch, recipe.components, seed)
    # Patches at each pixel lie within the image: 31 x 31 of them, which the blocks halve to 15, 7 and 3.
    first = layers.Conv2D(
        filters.shape[-1], recipe.patch, recipe.step, padding="same" if recipe.step > 1 else "valid",
        activation="relu", use_bias=False, trainable=False, name="whitening",
    )  # fmt: skip
    x = first(x)
    convolutions = []
    for width in recipe.widths:
        convolutions += [layers.Conv2D(width, 3, padding="same", use_bias=False) for _ in range(2)]
        x = _normalised(layers, layers.MaxPooling2D(2)(convolutions[-2](x)))
        x = _normalised(layers, convolutions[-1](x))
    x = layers.Dense(classes, use_bias=False)(layers.GlobalMaxPooling2D()(x))
    model = keras.Model(image, layers.Softmax(name="probabilities")(layers.Rescaling(0.125)(x)))
    first.set_weights([filters])
    for layer in convolutions:
        layer.set_weights([_with_identity(layer.get_weights()[0])])
    return model


def _with_identity(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a kernel (3, 3, before, after) whose first channels give what comes in, as far as there are (Jordan 2024, section 3.3)."""
    same = np.arange(min(kernel.shape[2:]))
    kernel[..., same] = 0
    kernel[1, 1, same, same] = 1
    return kernel


def _normalised(layers: Any, x: Any) -> Any:
    return layers.Activation("silu")(layers.BatchNormalization(momentum=0.9, scale=False)(x))


def without_optimizer(model: Any) -> Any:
    """Return a copy of a Keras model without the state of its training."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def with_mirrored(model: Any) -> Any:
    """Return a Keras model that gives the mean of what ``model`` gives for an image and for its mirror image."""
    keras = load_keras()
    layers = keras.layers
    model = without_optimizer(model)
    image = keras.Input((IMAGE_BYTES,), dtype="uint8", name="image")
    # A product with ones on the other diagonal mirrors rows: an operator that all formats have, and exact.
    mirror = layers.Dense(SIDE, use_bias=False, trainable=False, name="mirror")
    rows = layers.Reshape((3 * SIDE, SIDE))(layers.Rescaling(1.0)(image))
    mirrored = layers.Reshape((IMAGE_BYTES,))(mirror(rows))
    mirror.set_weights([np.eye(SIDE, dtype=np.float32)[::-1]])
    return keras.Model(image, layers.Average(name="mean")([model(image), model(mirrored)]))


def ended_early(accuracies: list[float], epochs: int) -> bool:
    """Return whether the accuracy has not risen for half of so many ``epochs``, and at least for 5."""
    return bool(accuracies) and len(accuracies) - 1 - int(np.argmax(accuracies)) > max(epochs / 2, 5)


def augmented(images: Images, flip: npt.NDArray[np.bool_], shift: int, random: np.random.Generator) -> Images:
    """Return ``images`` (n, 3072), mirrored where ``flip`` (n,) says so and moved by up to ``shift`` pixels at random.

    What comes in from outside is a reflection of the border.
    """
    planes = images.reshape(-1, 3, SIDE, SIDE)
    planes = np.where(flip[:, None, None, None], planes[..., ::-1], planes)
    if shift:
        y, x = random.integers(0, 2 * shift + 1, (2, len(images)))
        padded = np.pad(planes, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(2, 3))
        planes = windows[np.arange(len(images)), :, y, x]
    return planes.reshape(-1, IMAGE_BYTES)


def is_grey(images: Images) -> bool:
    """Return whether all ``images`` (n, 3072) have the same red, green and blue."""
    planes = images.reshape(-1, 3, SIDE * SIDE)
    return bool((planes == planes[:, :1]).all())


def compile_model(model: Any, recipe: Recipe, steps: int) -> None:
    """Set loss, optimizer and rates of ``steps`` steps in all."""
    keras = load_keras()
    rate = keras.optimizers.schedules.PolynomialDecay(recipe.rate, steps, end_learning_rate=0.0)
    options = {"momentum": MOMENTUM, "nesterov": True, "weight_decay": recipe.decay or None}
    optimizer = (
        muon(keras, rate, recipe.muon / recipe.rate, **options)
        if recipe.muon
        else keras.optimizers.SGD(rate, **options)
    )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.smoothing)
    # Without XLA, which takes longer to compile than it saves on a processor.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)


def batch_of(recipe: Recipe, images: int) -> int:
    """Return the images of a step, where there are so many in all."""
    return min(recipe.batch, max(images // LEAST_STEPS, LEAST_BATCH), images)


def batches(
    images: Images, labels: Labels, classes: int, recipe: Recipe, flips: bool, seed: int, epoch: int
) -> Iterator[tuple[Images, npt.NDArray[np.float32]]]:
    """Yield the batches of an epoch, images and one-hot labels; the same for the same seed and epoch.

    Where ``flips``, a random half of the images is mirrored in epoch 0, the others in epoch 1, and so on in turn, which is
    better than a new choice for each (Jordan 2024, section 3.6). What is left over after the last whole batch is left out.
    """
    random = np.random.default_rng([seed, epoch])
    mirrored = np.random.default_rng(seed).random(len(images)) < 0.5
    order = random.permutation(len(images))
    one_hot = np.eye(classes, dtype=np.float32)
    batch = batch_of(recipe, len(images))
    for start in range(0, len(order) - batch + 1, batch):
        rows = order[start : start + batch]
        flip = mirrored[rows] ^ bool(epoch % 2) if flips else np.zeros(len(rows), bool)
        yield augmented(images[rows], flip, recipe.shift, random), one_hot[labels[rows]]


class Checkpoints(Protocol):
    """Where training keeps its state after each epoch, so that it can continue after a kill."""

    def load(self) -> tuple[list[float], bytes] | None:
        """Return the `Trained.accuracies` so far and the weights; None where there is nothing to continue."""
        ...

    def save(self, accuracies: list[float], weights: bytes) -> None:
        """Keep the state after ``len(accuracies)`` epochs."""
        ...


@dataclass(frozen=True)
class Trained:
    """A trained Keras model."""

    model: Any
    flips: bool
    accuracies: list[float]  # on the images for validation, after each epoch
    continued: int  # the epochs that an earlier attempt had done


def train(
    images: Images, labels: Labels, classes: int, recipe: Recipe, seed: int, flips: bool | None, add: Callable[[int], None],
    checkpoints: Checkpoints,
) -> Trained:  # fmt: skip
    """Train the network of ``recipe`` on ``images`` (n, 3072) with ``labels`` (n,), places in a list of ``classes`` names.

    Some of the images, `validation_rows`, are not trained on but watched: training ends early where their accuracy has
    not risen for half of the recipe's epochs. ``flips`` says whether images are mirrored; None: unless all are grey, as
    letters and digits are. ``add`` is called with the number of images after each batch. Continues from ``checkpoints``.
    Raises `TinyTagsError` where Keras is missing, where all labels are the same, and where the loss is no number.
    """
    if len(np.unique(labels)) < 2:
        raise TinyTagsError(
            f"all {len(labels):,} labelled images are of one class; a network learns to tell two or more apart"
        )
    watched = validation_rows(len(images), seed)
    watched_images, watched_labels = images[watched], labels[watched]
    images, labels = np.delete(images, watched, axis=0), np.delete(labels, watched)
    if flips is None:
        flips = not is_grey(images[:1000])
    model = build(recipe, classes, images[:5000], seed)
    steps = len(images) // batch_of(recipe, len(images))
    compile_model(model, recipe, steps * recipe.epochs)
    before = checkpoints.load()
    accuracies = before[0] if before else []
    if before:
        load_weights(model, before[1])
    continued = len(accuracies)
    add(len(images) * continued)
    for epoch in range(continued, recipe.epochs):
        if ended_early(accuracies, recipe.epochs):
            break
        loss = 0.0
        for batch in batches(images, labels, classes, recipe, flips, seed, epoch):
            loss = float(model.train_on_batch(*batch)[0])
            add(len(batch[0]))
        if not np.isfinite(loss):
            raise TinyTagsError(
                f"training diverged: the loss of epoch {epoch + 1} is {loss}; another --seed may help"
            )
        tags = model.predict(watched_images, batch_size=250, verbose=0).argmax(axis=1)
        accuracies.append(round(float((tags == watched_labels).mean()), 4))
        checkpoints.save(accuracies, dump_weights(model))
    if recipe.average and flips:
        model = with_mirrored(model)
    return Trained(model, flips, accuracies, continued)


def validation_rows(images: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which of so many images are watched instead of trained on: a twentieth, at most 1,000."""
    return np.sort(np.random.default_rng([seed, images]).permutation(images)[: min(-(-images // 20), 1000)])


def dump_weights(model: Any) -> bytes:
    """Return the weights of a Keras model, with the state of its optimizer."""
    return file_of(model.save_weights, "x.weights.h5")


def load_weights(model: Any, weights: bytes) -> None:
    """Give a compiled Keras model the state that `dump_weights` returned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.weights.h5")
        path.write_bytes(weights)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)


def file_of(write: Callable[[str], object], name: str) -> bytes:
    """Return the contents of the file that ``write`` writes, given a path that ends with ``name``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(str(path))
        return path.read_bytes()
