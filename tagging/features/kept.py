"""Features of a corpus that are kept in the store: computed once, a partition at a time, and then read instead of the pixels."""

import hashlib
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from ingest.partition import read_partition
from storage import layout
from storage.store import FileMissingError, Store, StoreError
from tagging.features import Features, features_class
from tagging.trained import Hashes, hash_images
from tagging.types import Codes


class FeaturesDamagedError(StoreError):
    """The features of a partition are not as they were written; the verb ``remedy`` computes them again."""

    remedy = "features"

    def __init__(self, message: str, corpus: str, partition: int) -> None:
        super().__init__(message)
        self.corpus, self.partition = corpus, partition

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.corpus, self.partition)


@dataclass(frozen=True)
class Fit:
    """What decides features beside their name: the seed, and the share of a corpus without a test part that is held out."""

    seed: int
    holdout: float | None


def folder_name(features: Features) -> str:
    """Return the name of the folder of these features in a corpus."""
    return f"{features.name}-{features.hash[:8]}"


def keep_features(store: Store, corpus: Corpus, features: Features, fit: Fit) -> None:
    """Write what the features are, and their files; the manifest last. Nothing happens where it is there."""
    name = folder_name(features)
    if not store.exists(layout.features_manifest(corpus.name, name)):
        folder = layout.features_folder(corpus.name, name)
        for file, data in features.files().items():
            store.write_bytes(f"{folder}/{file}", data)
        manifest = {
            "features": features.name, "version": features.version, "length": features.length, "hash": features.hash,
            "corpus": corpus.name, "corpus_hash": corpus.hash, "seed": fit.seed, "holdout": fit.holdout, **features.facts,
        }  # fmt: skip
        store.write_json(layout.features_manifest(corpus.name, name), manifest)


def find_features(store: Store, corpus: Corpus, name: str, fit: Fit) -> Features | None:
    """Return the features of this name that are kept of a corpus, or None.

    Those that are fitted to images have to be from the same ``fit``. Raises `UnknownFeaturesError`, and `TinyTagsError` for files that are damaged.
    """
    kind = features_class(name)
    for folder in store.list(layout.corpus_features_folder(corpus.name)):
        try:
            manifest = store.read_json(layout.features_manifest(corpus.name, folder))
        except FileMissingError:
            continue
        fits = not kind.fitted or (manifest.get("seed"), manifest.get("holdout")) == (fit.seed, fit.holdout)
        known = (manifest.get("features"), manifest.get("version"), manifest.get("corpus_hash"))
        if fits and known == (name, kind.version, corpus.hash):
            place = layout.features_folder(corpus.name, folder)
            features = kind.load(name, store, place)
            if features.hash != manifest.get("hash"):
                raise TinyTagsError(
                    f"{store.url(place)}: the features have hash {features.hash}, but their manifest has {manifest.get('hash')}; "
                    "remove that folder and compute them again"
                )
            return features
    return None


def write_codes(store: Store, corpus: Corpus, features: Features, partition: int) -> dict[str, Any]:
    """Compute the features of a partition and write them, then their statistics, the marker; return these."""
    began = time.monotonic()
    name = folder_name(features)
    start, stop = corpus.rows(partition)
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (stop - start, features.length)}
    np.lib.format.write_array_header_1_0(header, about)
    digest, size = hashlib.sha256(), 0
    hashes: list[Hashes] = []

    def computed() -> Iterator[Codes]:
        for block in read_partition(store, corpus, partition):
            hashes.append(hash_images(block.images))
            yield features.codes(block.images)

    with store.writer(layout.features_codes(corpus.name, name, partition)) as file:
        codes = computed()
        for data in _bytes(header.getvalue(), codes):
            file.write(data)
            digest.update(data)
            size += len(data)
    saved = io.BytesIO()
    np.save(saved, np.concatenate(hashes).astype("<u8"))
    store.write_bytes(layout.features_hashes(corpus.name, name, partition), saved.getvalue())
    statistics = {
        "partition": partition, "images": stop - start, "corpus_hash": corpus.hash, "features_hash": features.hash, "bytes": size,
        "sha256": digest.hexdigest(), "hashes_sha256": hashlib.sha256(saved.getvalue()).hexdigest(), "seconds": round(time.monotonic() - began, 3),
    }  # fmt: skip
    store.write_json(layout.features_statistics(corpus.name, name, partition), statistics)
    return statistics


def _bytes(header: bytes, codes: Iterable[Codes]) -> Iterable[bytes]:
    yield header
    for block in codes:
        yield block.tobytes()


def done_partitions(store: Store, corpus: Corpus, features: Features) -> list[int]:
    """Return the partitions whose features are kept."""
    done = layout.partitions_in(
        store.list(layout.features_statistics_folder(corpus.name, folder_name(features)))
    )
    return [p for p in done if p < corpus.partitions]


def read_codes(store: Store, corpus: Corpus, features: Features, partition: int) -> Codes | None:
    """Return the features (n, length) of a partition; None where they are not kept, or are of other images or features.

    Raises `FeaturesDamagedError` where they aren't as they were written.
    """
    name = folder_name(features)
    try:
        statistics = store.read_json(layout.features_statistics(corpus.name, name, partition))
    except FileMissingError:
        return None
    if (statistics.get("corpus_hash"), statistics.get("features_hash")) != (corpus.hash, features.hash):
        return None
    path = layout.features_codes(corpus.name, name, partition)
    try:
        data = store.read_bytes(path)
    except FileMissingError:
        raise _damaged(store, corpus, features, partition, "is missing") from None
    if len(data) != statistics.get("bytes"):
        problem = f"has {len(data):,} bytes instead of {statistics.get('bytes'):,} (truncated?)"
        raise _damaged(store, corpus, features, partition, problem)
    if hashlib.sha256(data).hexdigest() != statistics.get("sha256"):
        raise _damaged(store, corpus, features, partition, "is not as it was written")
    start, stop = corpus.rows(partition)
    codes = np.frombuffer(data, np.uint8, offset=len(data) - (stop - start) * features.length)
    return codes.reshape(stop - start, features.length)


def read_hashes(store: Store, corpus: Corpus, features: Features, partition: int) -> Hashes | None:
    """Return the hashes (n,) of a partition's images that are kept with its features; None where they are not, or have changed."""
    name = folder_name(features)
    try:
        statistics = store.read_json(layout.features_statistics(corpus.name, name, partition))
        data = store.read_bytes(layout.features_hashes(corpus.name, name, partition))
    except FileMissingError:
        return None
    if hashlib.sha256(data).hexdigest() != statistics.get("hashes_sha256"):
        return None
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.uint64)


def read_any_codes(store: Store, corpus: Corpus, partition: int) -> Codes | None:
    """Return whatever features (n, length) are kept of a partition, the longest; None where none are, or they can't be read."""
    kept: list[tuple[int, str]] = []
    for folder in store.list(layout.corpus_features_folder(corpus.name)):
        try:
            manifest = store.read_json(layout.features_manifest(corpus.name, folder))
            statistics = store.read_json(layout.features_statistics(corpus.name, folder, partition))
        except StoreError:
            continue
        if manifest.get("corpus_hash") == statistics.get("corpus_hash") == corpus.hash:
            kept.append((int(manifest["length"]), folder))
    for length, folder in sorted(kept, reverse=True):
        start, stop = corpus.rows(partition)
        try:
            data = store.read_bytes(layout.features_codes(corpus.name, folder, partition))
        except StoreError:
            continue
        size = (stop - start) * length
        if len(data) > size:
            return np.frombuffer(data, np.uint8, offset=len(data) - size).reshape(-1, length)
    return None


def _damaged(
    store: Store, corpus: Corpus, features: Features, partition: int, problem: str
) -> FeaturesDamagedError:
    path = store.url(layout.features_codes(corpus.name, folder_name(features), partition))
    command = f"tinytags features --corpus {corpus.name} --features {features.name} --partition {partition}"
    return FeaturesDamagedError(f"{path}: {problem}; `{command}` computes it again", corpus.name, partition)
