"""The labels that people gave, read from the database once for all requests, and only when they have changed."""

import logging
import threading
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from conf.cached import Cached
from indexing.query.people import PeoplesLabels, Place
from ingest.corpus import Corpus
from records.corrections import Correction, Corrections
from records.majority import peoples_labels
from search_ui.library import Library

# A search doesn't wait longer for the database: it has the labels as they were, and the next one those that are there by then. The
# first one also waits for SQLAlchemy to be imported.
WAIT_SECONDS, FIRST_SECONDS = 2, 5
_NONE: PeoplesLabels = {}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Labels:
    """All labels in one state of the database: of each image the one that most people give, None where it is disputed."""

    by_place: Mapping[tuple[str, str], Mapping[Place, str | None]]  # by name and hash of the corpus
    by_hash: PeoplesLabels
    names: Mapping[str, list[str]]  # all labels that a person gives images of a corpus, sorted; by its hash
    _records: dict[tuple[str, str], dict[int, str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, newest: Iterable[Correction]) -> "Labels":
        """Return the labels of images by `Corrections.newest`."""
        newest = list(newest)
        by_place: dict[tuple[str, str], dict[Place, str | None]] = {}
        for one in peoples_labels(newest):
            by_place.setdefault((one.corpus, one.corpus_hash), {})[one.partition, one.row] = one.label
        by_hash: dict[str, Mapping[Place, str | None]] = {}
        for (_, corpus_hash), labels in by_place.items():
            by_hash[corpus_hash] = {**by_hash[corpus_hash], **labels} if corpus_hash in by_hash else labels
        names: dict[str, set[str]] = {}
        for correction in newest:
            names.setdefault(correction.corpus_hash, set()).add(correction.label)
        return cls(by_place, by_hash, {key: sorted(those) for key, those in names.items()})

    def of_corpus(self, corpus: Corpus) -> Mapping[int, str | None]:
        """Return the label of each labelled record of a corpus; None where it is disputed."""
        key, size = (corpus.name, corpus.hash), corpus.partition_images
        if key not in self._records:
            labels = self.by_place.get(key, {})
            self._records[key] = {partition * size + row: label for (partition, row), label in labels.items()}
        return self._records[key]

    def of_image(self, corpus: Corpus, partition: int, row: int) -> str | None:
        """Return the label of an image; None for none, and where it is disputed."""
        return self.by_place.get((corpus.name, corpus.hash), {}).get((partition, row))


class CurrentLabels:
    """The labels as they are in the database now. Thread-safe: one thread reads, and the others wait for what it reads."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections
        self._lock = threading.Lock()
        self._version: Hashable = None
        self._labels = Labels.of(())

    def now(self) -> Labels:
        """Return all labels, as the same object where none has changed. Raises `DatabaseError`."""
        with self._lock:
            # Read first: what changes in between is read again the next time.
            version = self._corrections.version()
            if version != self._version:
                self._labels = Labels.of(self._corrections.newest())
                self._version = version
            return self._labels


class DatabasePeople:
    """The labels as searches need them: read in the background. Thread-safe."""

    def __init__(self, labels: CurrentLabels, library: Library) -> None:
        self._library = library
        self._cached = Cached("the database", labels.now, 0)
        self._wait: float = FIRST_SECONDS
        self._error: str | None = None

    def labels(self) -> PeoplesLabels:
        """Return the label that most people give to each image, as the same object where none has changed."""
        answer = self._cached.get(self._wait)
        if answer.value is not None:
            self._wait = WAIT_SECONDS
        if answer.error and answer.error != self._error:
            _log.warning("people's labels are those of before: %s", answer.error)
        self._error = answer.error
        return answer.value.by_hash if answer.value is not None else _NONE

    def corpus_hash(self, run: str) -> str | None:
        """Return the hash of the corpus of a run; None where the store has no such run. Raises `StoreUnavailableError`."""
        known = self._library.run(run)
        return known.corpus_hash if known is not None else None
