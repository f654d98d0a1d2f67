"""The store as the page reads it: corpora, runs and models with a short cache, and one image with its label and source."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote

from flask import abort

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from indexing.annotation_counts import AnnotationCounts, read_counts
from indexing.query.annotations import Index
from ingest.annotations.classes import Classes, read_classes
from ingest.annotations.manifest import list_annotations, open_annotations
from ingest.bad import read_bad_records
from ingest.corpus import Corpus, list_corpora, open_corpus
from ingest.formats import record_offset
from ingest.names import find_records
from ingest.partition import Block, read_image
from search_ui.api import Source
from storage import layout
from storage.runs import Run, open_run, read_statistics
from storage.store import Store, StoreUnavailableError
from tagging.cards import Quality, read_quality
from tagging.models import load_exact_model, read_card
from tagging.trained import are_among, read_trained

T = TypeVar("T")
_Key = tuple[Callable[[Store, str], object], str]

# A manifest doesn't change, but a corpus can be removed and another be made under its name.
MANIFEST_SECONDS = 10
MOST_CACHED = 1_000
# In so many partitions of a run, evenly spread, images are looked for that its model was trained on.
MOST_STATISTICS = 16


@dataclass(frozen=True)
class Measured:
    """The quality of a model with this hash, from its card."""

    model_hash: str
    quality: Quality


class Library:
    """The corpora, runs and models of a store. Manifests and cards are cached for a few seconds. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._cache: dict[_Key, tuple[float, object]] = {}
        self._counts: dict[str, AnnotationCounts] = {}

    def corpus(self, name: str) -> Corpus | None:
        """Return a corpus, or None where the store has none of this name. Raises `StoreUnavailableError`."""
        return self._read(open_corpus, name)

    def run(self, name: str) -> Run | None:
        """Return a run, or None where the store has none of this name. Raises `StoreUnavailableError`."""
        return self._read(open_run, name)

    def measured(self, name: str) -> Measured | None:
        """Return the quality of a model, or None where the store has no card of it, or the card no quality."""
        return self._read(_read_measured, name)

    def annotations(self, name: str) -> Classes | None:
        """Return the classes of annotations, or None where the store has none of this name. Raises `StoreUnavailableError`."""
        return self._read(_read_annotations, name)

    def annotation_counts(
        self, name: str, images: Index | None = None, relations: Index | None = None
    ) -> AnnotationCounts | None:
        """Return the counts of annotations whose images and relations have these indexes, or any where none is given.

        None where the store has none. Raises `StoreUnavailableError`.
        """

        def fit(counts: AnnotationCounts) -> bool:
            return images in (None, counts.images_index) and relations in (None, counts.relations_index)

        known = self._counts.get(name)
        if known is None or not fit(known):
            known = self._read(read_counts, name)
            if known is None or not fit(known):
                return None
            self._counts[name] = known
        return known

    def annotation_names(self) -> list[str]:
        """Return the names of all annotations. Raises `StoreError`."""
        return list_annotations(self.store)

    def records(self, name: str) -> list[tuple[Corpus, int]]:
        """Return the records of all corpora whose pictures may have this name (`ingest.names`). Raises `StoreError`."""
        corpora = [self.corpus(corpus) for corpus in self._read(_read_indexed, "") or ()]
        return [
            (corpus, record)
            for corpus in corpora
            if corpus is not None
            for record in find_records(self.store, corpus.name, name)
        ]

    def versions(self, hits: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
        """Return `version_of` the corpora of some hits; None of all where the store is unavailable."""
        versions: dict[str, str | None] = dict.fromkeys(hit["corpus"] for hit in hits)
        with contextlib.suppress(StoreUnavailableError):  # the hits are useful without
            for name in versions:
                versions[name] = version_of(self.corpus(name))
        return versions

    def image(self, corpus: Corpus, partition: int, row: int) -> Block:
        """Return one image as a block of one. Raises `StoreError` where its partition can't be read."""
        return read_image(self.store, corpus, partition, row)

    def was_trained_on(self, run: str) -> bool:
        """Return whether a run has images that its model was trained on, so that more of its tags are right than of others."""
        with contextlib.suppress(StoreUnavailableError):  # what is searched is useful without
            return bool(self.run(run) and self._read(_read_trained_on, run))
        return False

    def is_trained_on(self, run: Run, block: Block) -> bool | None:
        """Return whether the model that made the run was trained on an image, or on one of the same pixels; None where unknown."""
        try:
            card = self._read(read_card, run.model)
            trained = read_trained(self.store, card) if card and card.get("hash") == run.model_hash else None
        except TinyTagsError:
            return None
        return None if trained is None else bool(are_among(block.images, trained)[0])

    def bad_records(self, corpus: Corpus) -> frozenset[int]:
        """Return the numbers of the records of a corpus that have no image. Raises `StoreUnavailableError`."""
        return self._read(_read_bad_records, corpus.name) or frozenset()

    def votes(self, run: Run, block: Block) -> dict[str, float] | None:
        """Return the votes for every class by the model that made the run, most first; None where it is not in the store or can't be run.

        Those of a network are its probabilities, 0.0-1.0.
        """
        try:
            model = load_exact_model(self.store, run.model, run.model_hash)
            numbers = model.votes(block.images)[0].tolist()
        except (TinyTagsError, ImportError):
            return None
        votes = dict(zip(run.classes, numbers, strict=True))
        return dict(sorted(votes.items(), key=lambda item: -item[1]))

    def _read(self, read: Callable[[Store, str], T | None], name: str) -> T | None:
        """Return what ``read`` returns for ``name``, cached; None where it raises, but for `StoreUnavailableError`."""
        value = self._cached((read, name))
        if isinstance(value, StoreUnavailableError):
            raise value
        return cast("T | None", value)

    def _cached(self, key: _Key) -> object:
        now = time.monotonic()
        with self._lock:
            until, value = self._cache.get(key, (0, None))
            if now < until:
                return value
            if value is not None:
                # While one thread reads again, which may take long, the others go on with the old value.
                self._cache[key] = (now + MANIFEST_SECONDS, value)
        read, name = key
        try:
            value = read(self.store, name)
        except StoreUnavailableError as error:
            if value is None:  # else the old value is better than none
                value = error
        except TinyTagsError:
            value = None
        with self._lock:
            self._cache[key] = (time.monotonic() + MANIFEST_SECONDS, value)
            if len(self._cache) > MOST_CACHED:  # names come from URLs
                self._cache = {key: entry for key, entry in self._cache.items() if entry[0] > now}
        return value


def _read_annotations(store: Store, name: str) -> Classes:
    return read_classes(store, open_annotations(store, name).name)


def _read_indexed(store: Store, _: str) -> list[str]:
    """Return the corpora that have an index of names."""
    return [name for name in list_corpora(store) if store.exists(layout.corpus_names(name))]


def _read_trained_on(store: Store, name: str) -> bool:
    run = open_run(store, name)
    trained_on = read_card(store, run.model).get("trained_on") or {}
    if run.corpus_hash in (trained_on.get("corpus_hash"), *trained_on.get("corrections_of", ())):
        return True
    # Of another corpus with some of the same images.
    some = range(0, run.partitions, 1 + run.partitions // MOST_STATISTICS)
    there = [partition for partition in some if store.exists(layout.run_statistics(name, partition))]
    return any(read_statistics(store, run, partition).get("trained") for partition in there)


def _read_bad_records(store: Store, name: str) -> frozenset[int]:
    return read_bad_records(store, open_corpus(store, name))


def _read_measured(store: Store, name: str) -> Measured | None:
    card = read_card(store, name)
    quality = read_quality(card)
    return Measured(str(card.get("hash")), quality) if quality else None


def version_of(corpus: Corpus | None) -> str | None:
    """Return what identifies a corpus' contents in URLs."""
    return corpus.hash[:8] if corpus is not None else None


def image_url(corpus: str, partition: int, row: int) -> str:
    """Return the URL of an image's page."""
    return f"/images/{quote(corpus)}/{partition}/{row}"


def png_url(corpus: str, partition: int, row: int, version: str | None) -> str:
    """Return the URL of an image's pixels; with the corpus' version in it, browsers may keep them for good."""
    return f"{image_url(corpus, partition, row)}.png" + (f"?v={version}" if version else "")


def image_urls(hit: Mapping[str, Any], version: str | None) -> dict[str, str]:
    """Return the URLs of a hit's page and pixels."""
    place = hit["corpus"], hit["partition"], hit["row"]
    return {"url": image_url(*place), "png": png_url(*place, version)}


def no_image(corpus: str, partition: int, row: int, manifest: Corpus | None) -> str | None:
    """Return why there is no such image, and the valid numbers; None where there is one."""
    if manifest is None:
        return f"There is no corpus {corpus!r} in the store."
    if partition >= manifest.partitions:
        return f"Corpus {corpus!r} has no partition {partition:,}; it has 0 to {manifest.partitions - 1:,}."
    first, last = manifest.rows(partition)
    if row >= last - first:
        return f"Partition {partition:,} of {corpus!r} has no row {row:,}; it has 0 to {last - first - 1:,}."
    return None


def known_corpus(library: Library, corpus: str, partition: int, row: int) -> Corpus:
    """Return the corpus of an image; 404 where there is no such image. Raises `StoreUnavailableError`."""
    manifest = library.corpus(corpus)
    if (missing := no_image(corpus, partition, row, manifest)) or manifest is None:
        abort(404, missing)
    return manifest


def source(corpus: Corpus, partition: int, row: int, block: Block | None) -> Source:
    """Return where an image comes from: the dump, the number of its record and, in a tiny-images dump, its first byte."""
    record = corpus.rows(partition)[0] + row
    split = next((name for name, (first, last) in corpus.splits.items() if first <= record < last), None)
    return {
        "dump": without_passwords(corpus.dump),
        "format": corpus.format,
        "record": record,
        "offset": record_offset(corpus.format, record),
        "split": split,
        "name": block.names[0] if block is not None and block.names else None,
    }


def label(corpus: Corpus, block: Block | None) -> str | None:
    """Return the name of the label that came with an image; None where none did."""
    if block is None or not corpus.classes or not 0 <= block.labels[0] < len(corpus.classes):
        return None
    return str(corpus.classes[block.labels[0]])


def step(corpus: Corpus, partition: int, row: int, by: int) -> tuple[int, int] | None:
    """Return partition and row of the image ``by`` places later in the corpus; None beyond its ends."""
    record = corpus.rows(partition)[0] + row + by
    return divmod(record, corpus.partition_images) if 0 <= record < corpus.images else None
