"""The labelled images that `tinytags compare` fits and measures classifiers on, read once a worker."""

import functools
from typing import Any

import numpy as np

from conf.errors import TinyTagsError
from ingest.corpus import Corpus, open_corpus
from storage.store import Store
from tagging.features import Features
from tagging.trained import are_among, hash_blocks
from tagging.training import HOLDOUT, SEED, choose, labelled_part, make_features, mirrored
from tagging.types import LabelledBlock

IMAGES = 5_000  # to fit on, by default


def labelled_corpus(corpus: Corpus) -> Corpus:
    """Return a corpus that has labels; raise `TinyTagsError` for one that has none."""
    if not corpus.classes:
        raise TinyTagsError(
            f"corpus {corpus.name!r} has no labels to compare by; ingest one that has, like CIFAR-10"
        )
    return corpus


def measured_images(store: Store, corpus: Corpus) -> LabelledBlock:
    """Return the images (n, 3072) and labels (n,) that are measured on: those held out that aren't also training images.

    Raises `TinyTagsError` where there is none.
    """
    return _measured_images(store, corpus.name, corpus.hash)


@functools.lru_cache(maxsize=1)  # once a worker
def _measured_images(store: Store, name: str, corpus_hash: str) -> LabelledBlock:
    images, labels = _images(store, name, corpus_hash, False)
    new = ~are_among(images, hash_blocks([_images(store, name, corpus_hash, True)[0]]))
    if not new.any():
        raise TinyTagsError(f"corpus {name!r} has no labelled image to measure on but its training images")
    return images[new], labels[new]


def training_sample(store: Store, corpus: Corpus, images: int, seed: int) -> LabelledBlock:
    """Return up to ``images`` labelled images (n, 3072) of the training part with labels (n,), drawn by ``seed``."""
    pixels, labels = _images(store, corpus.name, corpus.hash, True)
    if len(labels) <= images:
        return pixels, labels
    rows = np.sort(np.random.default_rng(seed).permutation(len(labels))[:images])
    return pixels[rows], labels[rows]


def training_codes(store: Store, corpus: Corpus, fact: dict[str, Any]) -> tuple[LabelledBlock, Features]:
    """Return the features, uint8, of the training images of these facts with their labels, and the features themselves."""
    return _training_codes(store, corpus.name, corpus.hash, fact["images"], fact["seed"], fact["features"])


@functools.lru_cache(maxsize=1)
def _training_codes(
    store: Store, name: str, corpus_hash: str, count: int, seed: int, features: str
) -> tuple[LabelledBlock, Features]:
    corpus = open_corpus(store, name)
    images, labels = training_sample(store, corpus, count, seed)
    part = functools.partial(choose, corpus, SEED, HOLDOUT, train=True)
    chosen = make_features(store, corpus, features, part, SEED, HOLDOUT)
    codes = chosen.codes(images)
    if chosen.mirrored:
        codes, labels = np.concatenate([codes, chosen.codes(mirrored(images))]), np.tile(labels, 2)
    return (codes, labels), chosen


@functools.lru_cache(maxsize=2)
def _images(store: Store, name: str, _hash: str, train: bool) -> LabelledBlock:
    corpus = open_corpus(store, name)
    part = functools.partial(choose, corpus, SEED, HOLDOUT, train=train)
    images, labels = labelled_part(store, corpus, part)
    if not len(labels):
        raise TinyTagsError(f"corpus {name!r} has no labelled image to {'train' if train else 'measure'} on")
    return images, labels
