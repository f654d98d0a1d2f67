"""The votes of a model on a partition: from the features that the store has, else from the pixels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.bad import read_bad
from ingest.corpus import Corpus
from ingest.partition import ROW_GROUP_IMAGES, read_labels, read_partition
from storage.store import Store
from tagging.features.kept import read_codes, read_hashes
from tagging.model import Model, OnFeatures
from tagging.trained import Hashes, hash_images
from tagging.types import Codes, Images, Votes


class Voted(NamedTuple):
    """Up to 256 consecutive images of a partition."""

    row: int  # of the first one, within the partition
    votes: Votes  # (n, classes)
    labels: npt.NDArray[np.int32]  # (n,), -1 for no label
    images: Images | None  # None where the pixels were not needed
    # (n,), rows without an image, whose votes mean nothing; None for none
    bad: npt.NDArray[np.bool_] | None = None
    hashes: Hashes | None = None  # (n,) of `tagging.trained`, where they were wanted


def vote_blocks(
    store: Store, corpus: Corpus, partition: int, model: Model, pixels: bool = False, hashed: bool = False
) -> Iterator[Voted]:
    """Yield a model's votes on a partition; with ``pixels`` the images, with ``hashed`` their hashes, too.

    Where the store has the features that a model votes on, no pixels are read for the votes and the hashes. Raises as `read_partition`
    does, and `FeaturesDamagedError`.
    """
    codes = kept_codes(store, corpus, partition, model)
    hashes = None
    if codes is not None and hashed and not pixels and isinstance(model, OnFeatures):
        hashes = read_hashes(store, corpus, model.features, partition)
        pixels = hashes is None
    if codes is None or pixels or not isinstance(model, OnFeatures):
        for block in read_partition(store, corpus, partition):
            own = None if codes is None else codes[block.row : block.row + len(block.images)]
            votes = votes_on(model, block.images, own)
            of_block = hash_images(block.images) if hashed else None
            yield Voted(block.row, votes, block.labels, block.images, block.bad, of_block)
        return
    labels = read_labels(store, corpus, partition)
    bad = np.zeros(len(labels), bool)
    bad[[record["row"] for record in read_bad(store, corpus.name, partition)]] = True
    for row in range(0, len(codes), ROW_GROUP_IMAGES):
        rows = slice(row, row + ROW_GROUP_IMAGES)
        yield Voted(
            row,
            model.votes_of(codes[rows]),
            labels[rows],
            None,
            bad[rows],
            None if hashes is None else hashes[rows],
        )


def kept_codes(store: Store, corpus: Corpus, partition: int, model: Model) -> Codes | None:
    """Return the features (n, k) of a partition that a model votes on; None where the store has none, or the model needs none.

    Raises `FeaturesDamagedError`.
    """
    return read_codes(store, corpus, model.features, partition) if isinstance(model, OnFeatures) else None


def votes_on(model: Model, images: Images, codes: Codes | None) -> Votes:
    """Return a model's votes (n, classes) on images (n, 3072), from their ``codes`` (n, k) where these are known."""
    return (
        model.votes_of(codes) if codes is not None and isinstance(model, OnFeatures) else model.votes(images)
    )
