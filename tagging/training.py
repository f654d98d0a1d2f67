"""The labelled images of a corpus: those that a model is trained on, and those that it is measured on."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.corpus import Corpus, read_partition
from storage.store import Store
from tagging.model import Images, Model
from tagging.quality import quality, tally, total
from tagging.trained import Hashes, hash_blocks

SEED = 0
HOLDOUT = 0.2

Part = Callable[[int], npt.NDArray[np.bool_]]  # from a partition to which of its rows are taken: (n,) bool
LabelledBlock = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]  # images (n, 3072) and labels (n,)


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
    store: Store, corpus: Corpus, seed: int = SEED, holdout: float = HOLDOUT
) -> Iterator[LabelledBlock]:
    """Yield images and labels of all rows that a model trained on this corpus is measured on."""
    part = functools.partial(choose, corpus, seed, holdout, train=False)
    for partition in range(corpus.partitions):
        yield from labelled_blocks(store, corpus, partition, part)


def labelled_blocks(store: Store, corpus: Corpus, partition: int, part: Part) -> Iterator[LabelledBlock]:
    """Yield images (n, 3072) and labels (n,) of a partition's rows in ``part`` whose label is known."""
    chosen = part(partition)
    if not chosen.any():
        return
    for block in read_partition(store, corpus, partition):
        rows = chosen[block.row : block.row + len(block.images)] & (block.labels >= 0)
        if rows.any():
            yield block.images[rows], block.labels[rows]


def training_hashes(store: Store, corpus: Corpus, part: Part, corrected: Images) -> Hashes:
    """Return the hashes of the labelled images in ``part`` and of the ``corrected`` ones (n, 3072): what is trained on.

    Read here, whatever engine trains and on whichever machines: 58,000 images take 1.6 s from a local disk.
    """
    rows = (
        images
        for partition in range(corpus.partitions)
        for images, _ in labelled_blocks(store, corpus, partition, part)
    )
    return hash_blocks(itertools.chain(rows, [corrected]))


def measure_model(model: Model, blocks: Iterable[LabelledBlock]) -> dict[str, Any]:
    """Return the `quality` of a model on blocks of images and labels. Raises `TinyTagsError` where there is none."""
    tallies = [tally(model.votes(images), labels, model.voters) for images, labels in blocks]
    if not tallies:
        raise TinyTagsError("no labelled image is left to measure on; give more images or a larger --holdout")
    return quality(total(tallies), model.classes)
