"""Makes what a bench works on: images, forests trained on them, dumps, and runs drawn from a forest's votes."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ingest.corpus import Corpus, create_corpus
from ingest.formats.cifar_10 import CLASSES
from ingest.formats.tiny_images import TinyImages
from ingest.image import IMAGE_BYTES, SIDE, from_column_major
from ingest.partition import write_partition
from operations.made_votes import write_votes
from operations.sample import read_digits, read_jpegs
from storage.runs import Run, create_run, read_statistics
from tagging.forest import PackedForest, Tree, pack
from tagging.forest.scikit_learn import plain_tree

# Images are varied in blocks of this many.
BLOCK = 1_000


def images(archive: Path | None, train: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return about ``train`` training images with their labels, and others, of CIFAR-10; without it some of digits.

    (n, 3072) uint8, (n,) int64, (m, 3072) uint8.
    """
    if archive is None:
        images, labels = read_digits()
        return images[:-400], labels[:-400], images[-400:]
    parts = read_jpegs(archive, {"train": train, "test": min(8_000, max(1_600, train // 6))})
    return *parts["train"], parts["test"][0]


def varied(pool: np.ndarray, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield ``count`` images in blocks: random ones of ``pool``, moved by up to 3 pixels, mirrored, with other brightness."""
    for number, start in enumerate(range(0, count, BLOCK)):
        random = np.random.default_rng([seed, number])
        chosen = np.resize(random.permutation(len(pool)), BLOCK)[: count - start]
        images = pool[chosen].reshape(-1, 3, SIDE, SIDE)
        if random.random() < 0.5:
            images = images[..., ::-1]
        images = np.roll(images, random.integers(-3, 4, 2), (2, 3))
        light = np.clip(np.arange(256) * random.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
        yield light[images].reshape(-1, IMAGE_BYTES)


def write_dump(path: Path, pool: np.ndarray, count: int) -> Path:
    """Write ``count`` varied images in the format of 80 Million Tiny Images: 3,072-byte records, planes column-major."""
    with open(path, "wb") as file:
        for images in varied(pool, count):
            file.write(from_column_major(images).data)  # a transpose is its own inverse
    return path


def corpus_of(source: TinyImages, name: str, partition: int) -> Corpus:
    """Return the manifest of a corpus of a dump."""
    identity = {"bytes": source.images * IMAGE_BYTES}
    words = source.format, source.path, identity, source.images, partition, source.labels, source.classes
    return Corpus(name, *words)


def make_corpus(store, source: TinyImages, corpus: Corpus) -> Corpus:
    """Split a dump into a corpus, without Spark."""
    create_corpus(store, corpus)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda p: write_partition(store, corpus, p, source), range(corpus.partitions)))
    return corpus


def grow(images: np.ndarray, labels: np.ndarray, trees: int, depth: int):
    """Return a scikit-learn forest whose trees vote: each leaf is wholly of its majority's class.

    Then its mean of probabilities is a count of votes, and its predictions are those of `PackedForest`.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(trees, max_depth=depth, max_features="sqrt", random_state=1, n_jobs=-1)
    forest.fit(images, labels)
    for tree in forest.estimators_:
        values = tree.tree_.value  # the tree's own memory
        majority = values.argmax(axis=2)
        values[:] = 0
        np.put_along_axis(values, majority[:, :, None], 1, axis=2)
    forest.n_jobs = 1
    return forest


def plain_trees(forest) -> list[Tree]:
    """Return a scikit-learn forest's trees in plain arrays."""
    return [plain_tree(tree.tree_, forest.classes_) for tree in forest.estimators_]


def more_trees(trees: list[Tree], count: int) -> list[Tree]:
    """Return ``count`` different trees: those given, then the same with their pixels moved."""
    more = []
    for number in range(count):
        tree, moved = trees[number % len(trees)], number // len(trees)
        plane, y, x = np.unravel_index(np.maximum(tree.feature, 0), (3, SIDE, SIDE))
        x = SIDE - 1 - x if moved % 2 else x
        feature = np.ravel_multi_index((plane, (y + moved) % SIDE, (x + 3 * moved) % SIDE), (3, SIDE, SIDE))
        more.append(dataclasses.replace(tree, feature=feature))
    return more


def packed(trees: list[Tree]) -> PackedForest:
    return pack(trees, list(CLASSES))


def drawn_run(place, corpus: str, documents: int) -> tuple[Run, int]:
    """Write a run as the tag job does, of votes drawn from those of the forest on real images; return it and its documents.

    So tags, confidences and runners-up have their real frequencies, together.
    """
    place.note(f"writing a run of {documents:,} documents")
    store, pool, partition = place.store, place.votes, place.sizes.partition
    images = round(documents / float((pool.max(axis=1) >= 4).mean()))  # at a confidence of 40 %
    partitions = -(-images // partition)
    run = Run(corpus, "c" * 64, "forest-10", "m" * 64, 0.4, list(CLASSES), images, partitions, 10)
    create_run(store, run)

    def write(p: int) -> int:
        count = min(partition, images - p * partition)
        votes = pool[np.random.default_rng([images, p]).integers(0, len(pool), count)]
        return write_votes(store, run, p, votes)

    with ThreadPoolExecutor() as threads:
        return run, sum(threads.map(write, range(run.partitions)))


def total(store, run: Run, key: str) -> int:
    """Return the sum of a number in the statistics of a run's partitions."""
    return sum(read_statistics(store, run, p)[key] for p in range(run.partitions))
