"""The labelled images of a corpus: those that a model is trained on, and those that it is measured on."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from ingest.image import IMAGE_BYTES, SIDE
from ingest.partition import read_labels, read_partition
from storage import layout
from storage.store import Store
from tagging.features import Features, features_class
from tagging.features.kept import Fit, find_features, read_codes
from tagging.model import Model
from tagging.quality import quality
from tagging.tallies import tally, total
from tagging.trained import Hashes, hash_blocks
from tagging.types import Codes, Images, LabelledBlock

SEED = 0
HOLDOUT = 0.2

Part = Callable[[int], npt.NDArray[np.bool_]]  # from a partition to which of its rows are taken: (n,) bool

# With fewer labelled images held out, the 95 % interval of an accuracy is wider than 14 points.
FEWEST_HELD_OUT = 200
# Images that features are fitted to, where they are fitted, and the partitions that these are read from.
FIT_IMAGES, FIT_PARTITIONS = 10_000, 8


def choose(corpus: Corpus, seed: int, holdout: float, partition: int, train: bool) -> npt.NDArray[np.bool_]:
    """Return which rows of a partition are for training, or for measuring: (n,) bool; the same for the same seed."""
    start, stop = corpus.rows(partition)
    if corpus.splits:
        first, last = corpus.splits["train" if train else "test"]
        rows = np.arange(start, stop)
        return (rows >= first) & (rows < last)
    held_out: npt.NDArray[np.bool_] = np.random.default_rng([seed, partition]).random(stop - start) < holdout
    return ~held_out if train else held_out


def held_out_blocks(
    store: Store,
    corpus: Corpus,
    seed: int = SEED,
    holdout: float = HOLDOUT,
    features: Features | None = None,
    threads: int = 1,
) -> Iterator[LabelledBlock]:
    """Yield images, or their ``features``, and labels of all rows that a model trained on this corpus is measured on."""
    part = functools.partial(choose, corpus, seed, holdout, train=False)
    for partition in range(corpus.partitions):
        yield from labelled_blocks(store, corpus, partition, part, features, threads)


def labelled_blocks(
    store: Store,
    corpus: Corpus,
    partition: int,
    part: Part,
    features: Features | None = None,
    threads: int = 1,
) -> Iterator[LabelledBlock]:
    """Yield images (n, 3072) and labels (n,) of a partition's rows in ``part`` whose label is known.

    With ``features`` their codes (n, length) instead of the images: those in the store, where it has them, else computed by so many ``threads``.
    """
    chosen = part(partition)
    if corpus.classes is None or not chosen.any():
        return
    codes = read_codes(store, corpus, features, partition) if features else None
    if codes is not None:
        labels = read_labels(store, corpus, partition)
        rows = chosen & (labels >= 0)
        if rows.any():
            yield codes[rows], labels[rows]
        return
    blocks = _labelled_images(store, corpus, partition, chosen)
    yield from coded(blocks, features, threads) if features else blocks


def _labelled_images(
    store: Store, corpus: Corpus, partition: int, chosen: npt.NDArray[np.bool_]
) -> Iterator[LabelledBlock]:
    for block in read_partition(store, corpus, partition):
        rows = chosen[block.row : block.row + len(block.images)] & (block.labels >= 0)
        if rows.any():
            yield block.images[rows], block.labels[rows]


def labelled_part(
    store: Store, corpus: Corpus, part: Part, features: Features | None = None, most: int | None = None
) -> LabelledBlock:
    """Return images (n, 3072), or their ``features``, and labels (n,) of all labelled rows in ``part``, or of the first ``most``."""
    images = [np.empty((0, features.length if features else IMAGE_BYTES), np.uint8)]
    labels = [np.empty(0, np.int32)]
    count = 0
    for partition in range(corpus.partitions):
        for block in labelled_blocks(store, corpus, partition, part, features):
            images.append(block[0])
            labels.append(block[1])
            count += len(block[1])
            if most is not None and count >= most:
                return np.concatenate(images)[:most], np.concatenate(labels)[:most]
    return np.concatenate(images), np.concatenate(labels)


def training_hashes(store: Store, corpus: Corpus, part: Part, *others: Images) -> Hashes:
    """Return the hashes of the labelled images in ``part`` and of ``others`` (n, 3072), such as corrected ones: what is trained on.

    Read here, whatever engine trains and on whichever machines: 58,000 images take 1.6 s from a local disk.
    """
    rows = (
        images
        for partition in range(corpus.partitions)
        for images, _ in labelled_blocks(store, corpus, partition, part)
    )
    return hash_blocks(itertools.chain(rows, others))


def coded(blocks: Iterable[LabelledBlock], features: Features, threads: int = 1) -> Iterator[LabelledBlock]:
    """Yield features and labels of blocks of images and labels, in their order, computed by so many threads."""
    if threads <= 1:
        yield from ((features.codes(images), labels) for images, labels in blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[tuple[Future[Codes], npt.NDArray[np.int32]]] = deque()
        for images, labels in blocks:
            pending.append((pool.submit(features.codes, images), labels))
            if len(pending) > 4 * threads:
                future, known = pending.popleft()
                yield future.result(), known
        yield from ((future.result(), known) for future, known in pending)


def mirrored(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images (n, 3072) mirrored left to right."""
    return images.reshape(-1, 3, SIDE, SIDE)[..., ::-1].reshape(len(images), -1)


def sample_images(store: Store, corpus: Corpus, part: Part, seed: int) -> npt.NDArray[np.uint8]:
    """Return up to `FIT_IMAGES` images (n, 3072) of rows in ``part``, labelled or not, drawn by ``seed``."""
    chance = np.random.default_rng(seed)
    there = [p for p in range(corpus.partitions) if part(p).any()]
    partitions = sorted(chance.permutation(there)[:FIT_PARTITIONS].tolist())
    images = []
    for partition in partitions:
        rows = np.flatnonzero(part(partition))
        drawn = np.zeros(len(part(partition)), bool)
        drawn[chance.permutation(rows)[: FIT_IMAGES // len(partitions)]] = True
        for block in read_partition(store, corpus, partition):
            images.append(block.images[drawn[block.row : block.row + len(block.images)] & block.good])
    return np.concatenate(images) if images else np.empty((0, IMAGE_BYTES), np.uint8)


def make_features(store: Store, corpus: Corpus, name: str, part: Part, seed: int, holdout: float) -> Features:
    """Return the features of this name: those that are kept of the corpus, else new ones.

    Where they are fitted, it is to rows in ``part``. Raises `UnknownFeaturesError`, and `MissingExtraError` where a library is
    not installed.
    """
    fit = Fit(seed, None if corpus.splits else holdout)
    features = find_features(store, corpus, name, fit)
    return features or features_class(name).fit(name, lambda: sample_images(store, corpus, part, seed), seed)


def every_row(corpus: Corpus, partition: int) -> npt.NDArray[np.bool_]:
    """Return all rows of a partition, as a `Part`."""
    start, stop = corpus.rows(partition)
    return np.ones(stop - start, bool)


def some_of_each(store: Store, corpus: Corpus, part: Part, most: int, seed: int) -> Part:
    """Return the `Part` of up to ``most`` labelled rows of each class among those in ``part``, drawn by ``seed``."""
    chance = np.random.default_rng(seed)
    places, labels = [], []
    for partition in range(corpus.partitions):
        known = read_labels(store, corpus, partition)
        rows = np.flatnonzero(part(partition) & (known >= 0))
        places.append(rows + corpus.rows(partition)[0])
        labels.append(known[rows])
    every, label = np.concatenate(places), np.concatenate(labels)
    drawn = [chance.permutation(every[label == one])[:most] for one in np.unique(label)]
    return functools.partial(_listed_rows, corpus, np.sort(np.concatenate([np.empty(0, np.int64), *drawn])))


def _listed_rows(corpus: Corpus, records: npt.NDArray[np.int64], partition: int) -> npt.NDArray[np.bool_]:
    start, stop = corpus.rows(partition)
    rows = np.zeros(stop - start, bool)
    rows[records[(records >= start) & (records < stop)] - start] = True
    return rows


def fold_numbers(labels: npt.NDArray[np.int32], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold, 0 to ``folds`` - 1, of each image: of each class as many in each fold as can be, by chance."""
    chance = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    place = 0
    for label in np.unique(labels):
        rows = chance.permutation(np.flatnonzero(labels == label))
        # Where a class ends in one fold, the next one begins in the following fold.
        fold[rows] = (place + np.arange(len(rows))) % folds
        place += len(rows)
    return fold


def few_held_out(store: Store, corpus: Corpus, holdout: float) -> bool:
    """Return whether a corpus without a test part has too few labels to hold a share out: fewer than `FEWEST_HELD_OUT`."""
    if corpus.splits:
        return False
    statistics = (store.read_json(layout.corpus_statistics(corpus.name, p)) for p in range(corpus.partitions))
    return bool(holdout * sum(one["labelled"] for one in statistics) < FEWEST_HELD_OUT)


def measure_model(model: Model, blocks: Iterable[LabelledBlock]) -> dict[str, Any]:
    """Return the `quality` of a model on blocks of images and labels. Raises `TinyTagsError` where there is none."""
    tallies = [tally(model.votes(images), labels, model.voters) for images, labels in blocks]
    if not tallies:
        raise TinyTagsError("no labelled image is left to measure on; give more images or a larger --holdout")
    return quality(total(tallies), model.classes)
