"""The votes of a model on a partition: from the features that the store has, else from the pixels."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ingest.corpus import ROW_GROUP_IMAGES, Corpus, read_labels, read_partition
from storage.store import Store
from tagging.features.kept import read_codes
from tagging.model import Model, OnFeatures
from tagging.types import Images, Votes


class Voted(NamedTuple):
    """Up to 256 consecutive images of a partition."""

    row: int  # of the first one, within the partition
    votes: Votes  # (n, classes)
    labels: npt.NDArray[np.int32]  # (n,), -1 for no label
    images: Images | None  # None where the pixels were not needed


def vote_blocks(
    store: Store, corpus: Corpus, partition: int, model: Model, pixels: bool = False
) -> Iterator[Voted]:
    """Yield a model's votes on a partition; with ``pixels`` the images, too.

    Where the store has the features that a model votes on, no pixels are read for the votes. Raises as `read_partition`
    does, and `FeaturesDamagedError`.
    """
    on_features = cast(OnFeatures, model) if hasattr(model, "votes_of") else None
    codes = read_codes(store, corpus, on_features.features, partition) if on_features else None
    if on_features is None or codes is None:
        for block in read_partition(store, corpus, partition):
            yield Voted(block.row, model.votes(block.images), block.labels, block.images)
    elif pixels:
        for block in read_partition(store, corpus, partition):
            votes = on_features.votes_of(codes[block.row : block.row + len(block.images)])
            yield Voted(block.row, votes, block.labels, block.images)
    else:
        labels = read_labels(store, corpus, partition)
        for row in range(0, len(codes), ROW_GROUP_IMAGES):
            rows = slice(row, row + ROW_GROUP_IMAGES)
            yield Voted(row, on_features.votes_of(codes[rows]), labels[rows], None)
