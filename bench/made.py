"""Makes what a bench works on: images, forests trained on them, dumps, and runs drawn from a forest's votes."""

import dataclasses
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.corpus import Corpus, create_corpus, write_partition
from ingest.formats.cifar_10 import CLASSES
from ingest.formats.tiny_images import TinyImages, open_tiny_images
from ingest.image import IMAGE_BYTES, SIDE, from_column_major
from storage import layout
from storage.runs import Run, create_run
from tagging.forest import PackedForest, Tree, pack

ARCHIVE = "cifar10-jpeg.tar.xz"
# Images are varied in blocks of this many.
BLOCK = 1_000


def shared_archive() -> Path | None:
    """Return CIFAR-10 as JPEGs, ``train|test/CLASS/N.jpg``, in the folder TINYTAGS_SHARED_DATA; None without it."""
    folder = os.environ.get("TINYTAGS_SHARED_DATA")
    archive = Path(folder, ARCHIVE) if folder else None
    return archive if archive and archive.is_file() else None


def real_images(archive: Path, train: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return about ``train`` training images with their labels, and all test images, from the JPEGs.

    (n, 3072) uint8, (n,) int64, (m, 3072) uint8.
    """
    every = max(1, 50_000 // train)
    images, labels = {"train": [], "test": []}, []
    with tarfile.open(archive) as files:
        for count, member in enumerate(member for member in files if member.isfile()):
            split, name, _ = member.name.split("/")
            if split == "train" and count % every:
                continue
            with Image.open(io.BytesIO(files.extractfile(member).read()), formats=["JPEG"]) as picture:
                images[split].append(np.asarray(picture.convert("RGB")).transpose(2, 0, 1).ravel())
            if split == "train":
                labels.append(CLASSES.index(name))
    return np.stack(images["train"]), np.array(labels), np.stack(images["test"])


def synthetic_images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth images of ten classes, (count, 3072) uint8, and the classes (count,), for use without real ones."""
    random = np.random.default_rng(seed)
    coarse = np.random.default_rng(0).normal(0, 30, (10, 3, 4, 4)).astype(np.float32)
    # Linear interpolation from 4 to 32 points.
    place = np.linspace(0, 3, SIDE)
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(4)), 0, 1).astype(np.float32)
    labels = random.integers(0, 10, count)
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for start in range(0, count, BLOCK):
        part = slice(start, min(start + BLOCK, count))
        noisy = coarse[labels[part]] + random.normal(0, 40, (part.stop - start, 3, 4, 4)).astype(np.float32)
        smooth = np.einsum("yi,ncij,xj->ncyx", weights, noisy, weights, optimize=True)
        smooth += random.normal(128, 8, smooth.shape).astype(np.float32)
        images[part] = smooth.clip(0, 255)
    return images.reshape(count, IMAGE_BYTES), labels


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


def write_dump(path: Path, pool: np.ndarray, count: int, progress=lambda images: None) -> Path:
    """Write ``count`` varied images in the format of 80 Million Tiny Images: 3,072-byte records, planes column-major."""
    with open(path, "wb") as file:
        for images in varied(pool, count):
            file.write(from_column_major(images).data)  # a transpose is its own inverse
            progress(len(images))
    return path


def first_of(dump: Path, images: int) -> TinyImages:
    """Open the first ``images`` of a dump as if there were no more."""
    return dataclasses.replace(open_tiny_images(str(dump)), images=images)


def make_corpus(store, source: TinyImages, name: str, partition: int, threads: int) -> Corpus:
    """Split a dump into a corpus, without Spark."""
    corpus = corpus_of(source, name, partition)
    create_corpus(store, corpus)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda p: write_partition(store, corpus, p, source), range(corpus.partitions)))
    return corpus


def corpus_of(source: TinyImages, name: str, partition: int) -> Corpus:
    identity = {"bytes": source.images * IMAGE_BYTES}
    return Corpus(
        name, source.format, source.path, identity, source.images, partition, source.labels, source.classes
    )


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


def plain_trees(forest, depth: int | None = None) -> list[Tree]:
    """Return a scikit-learn forest's trees in plain arrays, cut at ``depth``."""
    return [_plain_tree(tree.tree_, forest.classes_, depth) for tree in forest.estimators_]


def _plain_tree(tree, classes: np.ndarray, depth: int | None) -> Tree:
    left, right = tree.children_left.copy(), tree.children_right.copy()
    if depth is not None:
        depths = np.zeros(len(left), int)
        for node in np.flatnonzero(left >= 0):  # children come after their parents
            depths[[left[node], right[node]]] = depths[node] + 1
        left[depths >= depth] = right[depths >= depth] = -1
    return Tree(tree.feature, tree.threshold, left, right, classes[tree.value[:, 0].argmax(axis=1)])


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


def drawn_run(
    store, corpus: str, pool: np.ndarray, images: int, partition: int = 20_000, progress=lambda images: None
) -> tuple[Run, int]:
    """Write a run as the tag job does, of votes drawn from ``pool`` (m, classes); return it and its number of documents.

    ``pool`` are the votes of a real forest of 10 trees on real images, so that tags, confidences and runners-up have their
    real frequencies, together.
    """
    from tagging.tags import documents, winners

    partitions = -(-images // partition)
    run = Run(corpus, "c" * 64, "forest-10", "m" * 64, 0.4, list(CLASSES), images, partitions, 10)
    create_run(store, run)

    def write(p: int) -> int:
        count = min(partition, images - p * partition)
        votes = pool[np.random.default_rng([images, p]).integers(0, len(pool), count)]
        lines, counts = documents(run, p, winners(votes))
        store.write_bytes(layout.run_tags(run.name, p), lines)
        histogram = {str(k): n for k, n in enumerate(counts.pop("votes")) if n}
        statistics = {"partition": p, "bad": 0, **counts, "votes": histogram, "bytes": len(lines)}
        statistics |= {"sha256": hashlib.sha256(lines).hexdigest(), "seconds": 0.0, "host": "bench"}
        store.write_json(layout.run_statistics(run.name, p), statistics)
        progress(count)
        return counts["tagged"]

    with ThreadPoolExecutor(2) as threads:
        return run, sum(threads.map(write, range(partitions)))


def images_for(documents: int, votes: np.ndarray) -> int:
    """Return how many images have about so many documents at a confidence of 40 %."""
    return round(documents / float((votes.max(axis=1) >= 4).mean()))
