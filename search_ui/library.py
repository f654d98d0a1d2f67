"""What the store says of an image: its pixels, its label, the record it came from, and how a model votes on it."""

import contextlib
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from conf.errors import TinyTagsError
from ingest.corpus import Block, Corpus, open_corpus, read_image
from ingest.formats import record_offset
from search_ui.cards import Quality, read_quality
from storage.runs import Run, open_run
from storage.store import StoreUnavailableError
from tagging.models import read_card

# Manifests don't change once written, but a corpus can be removed and another be made under its name.
MANIFEST_SECONDS = 10
MOST_KEPT = 1_000


@dataclass(frozen=True)
class Measured:
    """What the card of a model with this hash says of its quality."""

    model_hash: str
    quality: Quality


class Library:
    """The corpora, runs and models of a store, what is written of them read once and kept for a few seconds; for many threads."""

    def __init__(self, store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._kept: dict[tuple, tuple[float, object]] = {}

    def corpus(self, name: str) -> Corpus | None:
        """Return a corpus, or None where the store has none of this name. Raises `StoreUnavailableError`."""
        return self._keep(open_corpus, name)

    def run(self, name: str) -> Run | None:
        return self._keep(open_run, name)

    def measured(self, name: str) -> Measured | None:
        """Return how good a model is by its card, or None where the store or the card doesn't say."""
        return self._keep(_read_measured, name)

    def versions(self, hits: list[dict]) -> dict[str, str | None]:
        """Return `version_of` the corpora of some hits; None of all where the store is unavailable."""
        versions: dict[str, str | None] = dict.fromkeys(hit["corpus"] for hit in hits)
        with contextlib.suppress(StoreUnavailableError):  # the hits are useful without
            for name in versions:
                versions[name] = version_of(self.corpus(name))
        return versions

    def image(self, corpus: Corpus, partition: int, row: int) -> Block:
        """Return one image as a block of one. Raises `StoreError` where its partition can't be read."""
        return read_image(self.store, corpus, partition, row)

    def votes(self, run: Run, block: Block) -> dict[str, int] | None:
        """Return every class with its votes, most first, from the very model that made the run; None without it.

        Of a network these are its probabilities, 0.0-1.0.
        """
        try:
            model = _load_model(self.store, run.model, run.model_hash)
        except (TinyTagsError, ImportError):
            return None
        votes = dict(zip(run.classes, model.votes(block.images)[0].tolist(), strict=True))
        return dict(sorted(votes.items(), key=lambda item: -item[1]))

    def _keep(self, open_one, name: str):
        """Return what ``open_one`` last said of ``name``: a manifest, None, or raise that the store was out of reach."""
        found = self._look_up((open_one, name))
        if isinstance(found, StoreUnavailableError):
            raise found
        return found

    def _look_up(self, key: tuple) -> object:
        now = time.monotonic()
        with self._lock:
            until, found = self._kept.get(key, (0, None))
            if now < until:
                return found
            if found is not None:
                # While one looks again, and maybe waits for HDFS, the others go on with this.
                self._kept[key] = (now + MANIFEST_SECONDS, found)
        open_one, name = key
        try:
            found = open_one(self.store, name)
        except StoreUnavailableError as error:
            if found is None:  # else what was true a moment ago
                found = error
        except TinyTagsError:
            found = None
        with self._lock:
            self._kept[key] = (time.monotonic() + MANIFEST_SECONDS, found)
            if len(self._kept) > MOST_KEPT:  # names come from URLs
                self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > now}
        return found


def _read_measured(store, name: str) -> Measured | None:
    card = read_card(store, name)
    quality = read_quality(card)
    return quality and Measured(str(card.get("hash")), quality)


@lru_cache(maxsize=4)
def _load_model(store, name: str, model_hash: str):
    """Load a model; raises `TinyTagsError` where the one of this name is another by now."""
    from tagging.models import load_model

    model = load_model(store, name)
    if model.hash != model_hash:
        raise TinyTagsError(
            f"model {name!r} is not the one that made the run: {model.hash}, not {model_hash}"
        )
    return model


def version_of(corpus: Corpus | None) -> str | None:
    """Return what identifies a corpus' contents in URLs."""
    return corpus.hash[:8] if corpus is not None else None


def image_url(corpus: str, partition: int, row: int) -> str:
    """Return the URL of an image's page."""
    return f"/images/{quote(corpus)}/{partition}/{row}"


def png_url(corpus: str, partition: int, row: int, version: str | None) -> str:
    """Return the URL of an image's pixels; with the corpus' version in it, browsers may keep them for good."""
    return f"{image_url(corpus, partition, row)}.png" + (f"?v={version}" if version else "")


def image_urls(hit: dict, version: str | None) -> dict[str, str]:
    """Return the URLs of a hit's page and pixels."""
    place = hit["corpus"], hit["partition"], hit["row"]
    return {"url": image_url(*place), "png": png_url(*place, version)}


def no_image(corpus: str, partition: int, row: int, manifest: Corpus | None) -> str | None:
    """Say why there is no such image, and what there is instead; None where there is one."""
    if manifest is None:
        return f"There is no corpus {corpus!r} in the store."
    if partition >= manifest.partitions:
        return f"Corpus {corpus!r} has no partition {partition:,}; it has 0 to {manifest.partitions - 1:,}."
    first, last = manifest.rows(partition)
    if row >= last - first:
        return f"Partition {partition:,} of {corpus!r} has no row {row:,}; it has 0 to {last - first - 1:,}."
    return None


def source(corpus: Corpus, partition: int, row: int, block: Block | None) -> dict:
    """Return where an image came from: the dump, the number of its record and, where it has one, the byte it starts at."""
    record = corpus.rows(partition)[0] + row
    split = next((name for name, (first, last) in corpus.splits.items() if first <= record < last), None)
    return {
        "dump": corpus.dump,
        "format": corpus.format,
        "record": record,
        "offset": record_offset(corpus.format, record),
        "split": split,
        "name": block.names[0] if block is not None and block.names else None,
    }


def label(corpus: Corpus, block: Block | None) -> str | None:
    """Return what a person said the image shows, where somebody did."""
    if block is None or not corpus.classes or not 0 <= block.labels[0] < len(corpus.classes):
        return None
    return corpus.classes[block.labels[0]]


def step(corpus: Corpus, partition: int, row: int, by: int) -> tuple[int, int] | None:
    """Return partition and row of the image ``by`` further on in the corpus; None beyond its ends."""
    record = corpus.rows(partition)[0] + row + by
    return divmod(record, corpus.partition_images) if 0 <= record < corpus.images else None
