"""Scanning a store again and again: how far every corpus and run is, at the cost of what has changed since the last scan."""

import functools
import json
import shlex
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NotRequired, TypedDict, final

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from indexing.expected import ExpectedCounts
from indexing.failures import NAMED, NO_REASON, Failure, problems, read_failures
from indexing.folder_cache import FolderCache
from indexing.states import Problem, States, Working, Writer, start_working, states, working, writer_of
from indexing.watch_annotations import AnnotationsStatus, AnnotationsWatch, BrokenAnnotations
from indexing.watch_features import BrokenFeatures, FeaturesStatus, FeaturesWatch
from indexing.watch_finished import finished_jobs
from indexing.watch_models import BrokenModel, ModelStatus, ModelsWatch
from ingest.bad import describe, read_bad
from ingest.corpus import Corpus, open_corpus
from storage import layout, runs
from storage.finished import Finished
from storage.lease import holder
from storage.runs import Run
from storage.store import DamagedFileError, Store, StoreError, StoreUnavailableError

# In HDFS each file is a request.
THREADS = 8


@final
class CorpusStatus(TypedDict):
    """A corpus, as the API and `tinytags status --json` have it."""

    corpus: str
    images: int
    partitions: int
    format: str
    classes: list[str] | None
    hash: str
    ingest: States
    bad: int  # records that can't be decoded, among the images
    bad_first: str | None  # the first of them, and why
    writer: Writer | None
    problems: list[Problem]
    redo: list[str]  # the commands that repeat what failed
    working: list[Working]
    finished: list[Finished]  # the last job of each step
    features: list[FeaturesStatus | BrokenFeatures]  # that are kept of it


@final
class RunStatus(TypedDict):
    """A run, as the API and `tinytags status --json` have it; a scan of Solr fills in ``published`` and ``index``."""

    run: str
    corpus: str
    model: str
    model_hash: str
    trees: int | None
    min_confidence: float
    min_precision: float | None  # by which the threshold was chosen
    similar: bool
    images: int
    partitions: int
    tag: States
    writer: Writer | None
    problems: list[Problem]
    redo: list[str]
    redo_index: str | None  # of these the one that indexes again
    working: list[Working]
    finished: list[Finished]
    published: bool
    index: States | None  # None where it isn't known
    statistics_read: NotRequired[int]  # of how many partitions, where not of all


@final
class BrokenCorpus(TypedDict):
    """A corpus that can't be read."""

    corpus: str
    error: str


@final
class BrokenRun(TypedDict):
    """A run that can't be read."""

    run: str
    error: str


@dataclass(frozen=True, eq=False)
class StoreStatus:
    """The state of a store, and what the index should hold of each run.

    ``expected`` is None for a run until all its statistics are read; ``read`` is how many are. It also has the images and
    the relations of annotations, by the names of their collections.
    """

    corpora: list[CorpusStatus | BrokenCorpus]
    runs: list[RunStatus | BrokenRun]
    expected: dict[str, ExpectedCounts | None]
    read: dict[str, int]
    annotations: list[AnnotationsStatus | BrokenAnnotations]
    models: list[ModelStatus | BrokenModel]


@dataclass(frozen=True, eq=False)
class _ScannedCorpus:
    corpus: Corpus
    status: CorpusStatus


@dataclass(frozen=True, eq=False)
class _ScannedRun:
    run: Run
    folder: FolderCache
    status: RunStatus
    done: dict[int, float]
    failures: list[Failure]
    rejected: dict[int, int]


class StoreWatch:
    """Scans a store; for one thread at a time.

    A corpus or run that doesn't change costs one request a scan, one that is being written some four, and the statistics
    of each partition are read once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folders: dict[str, FolderCache] = {}
        self._annotations = AnnotationsWatch(store)
        self._features = FeaturesWatch(store)
        self._models = ModelsWatch(store)

    def scan(self, seconds: float | None = None) -> StoreStatus:
        """Return the state of the store. After ``seconds`` of reading statistics the rest is left to the next scan.

        Raises `StoreError` where the store itself can't be read; a broken corpus or run is reported as such.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with ThreadPoolExecutor(THREADS) as pool:
            corpus_names, run_names = (list(self.store.times(kind)) for kind in (layout.CORPORA, layout.RUNS))
            paths = [*map(layout.corpus_folder, corpus_names), *map(layout.run_folder, run_names)]
            self._folders = {path: self._folders.get(path) or FolderCache(self.store, path) for path in paths}
            scanned_corpora = [scanned for scanned in pool.map(self._corpus, corpus_names) if scanned]
            scanned_runs = [scanned for scanned in pool.map(self._run, run_names) if scanned]
            whole = [scanned for scanned in scanned_runs if isinstance(scanned, _ScannedRun)]
            errors = self._read_statistics(pool, whole, until)
            annotations = self._annotations.scan(pool)
        models = self._models.scan()
        sources = {
            scanned.corpus.name: scanned.corpus
            for scanned in scanned_corpora
            if isinstance(scanned, _ScannedCorpus)
        }
        run_statuses: list[RunStatus | BrokenRun] = []
        expected: dict[str, ExpectedCounts | None] = {}
        read = {}
        for scanned in scanned_runs:
            if not isinstance(scanned, _ScannedRun):
                run_statuses.append(scanned)
                continue
            name = scanned.run.name
            if name in errors:
                run_statuses.append({"run": name, "error": errors[name]})
                continue
            scanned.status["redo_index"] = reindex = _redo_index(scanned)
            scanned.status["redo"] = [
                *_redo(scanned, sources.get(scanned.run.corpus)),
                *([reindex] if reindex else []),
            ]
            run_statuses.append(scanned.status)
            expected[name], read[name] = _expected(scanned)
        return StoreStatus(
            [
                scanned.status if isinstance(scanned, _ScannedCorpus) else scanned
                for scanned in scanned_corpora
            ],
            run_statuses,
            expected | annotations.expected,
            read,
            annotations.statuses,
            models,
        )

    def _corpus(self, name: str) -> _ScannedCorpus | BrokenCorpus | None:
        folder = self._folders[layout.corpus_folder(name)]
        try:
            folder.refresh()
            corpus = folder.manifest(lambda: open_corpus(self.store, name))
            if corpus is None:
                return None
            done = _done(folder, corpus.partitions)
            failed, failures = read_failures(folder, done)
            writer = self._writer(folder, layout.corpus_lease(name))
            ingest = states(corpus.partitions, done, failed)
            features, computing = self._features.scan(corpus, folder)
            bad = [
                folder.read(layout.corpus_bad(name, p), written, functools.partial(self._read_bad, name, p))
                for p, written in folder.numbers(layout.BAD, ".jsonl").items()
                if p in done
            ]
            return _ScannedCorpus(
                corpus,
                {
                    "corpus": name, "images": corpus.images, "partitions": corpus.partitions, "format": corpus.format,
                    "classes": corpus.classes, "hash": corpus.hash, "ingest": ingest,
                    "bad": sum(count for count, _ in bad), "bad_first": bad[0][1] if bad else None, "writer": writer,
                    "problems": problems("ingest", failures),
                    "redo": [shlex.join(_ingest_command(corpus))] if ingest["failed"] else [],
                    "working": working("ingest", writer, corpus.images, corpus.partitions, ingest["pending"], done) + computing,
                    "finished": finished_jobs(folder, "ingest"),
                    "features": features,
                },
            )  # fmt: skip
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"corpus": name, "error": str(error)}

    def _run(self, name: str) -> _ScannedRun | BrokenRun | None:
        folder = self._folders[layout.run_folder(name)]
        try:
            folder.refresh()
            run = folder.manifest(lambda: runs.open_run(self.store, name))
            if run is None:
                return None
            done = _done(folder, run.partitions)
            failed, failures = read_failures(folder, done)
            rejected = {
                p: folder.read(layout.run_rejected(name, p), written, self._read_rejected)
                for p, written in folder.numbers(layout.REJECTED, ".jsonl").items()
                if p in done
            }
            tagging = self._writer(folder, layout.run_lease(name))
            indexing = self._writer(folder, layout.run_index_lease(name))
            tag = states(run.partitions, done, failed)
            status: RunStatus = {
                "run": name, "corpus": run.corpus, "model": run.model, "model_hash": run.model_hash, "trees": run.trees,
                "min_confidence": run.min_confidence, "min_precision": run.min_precision, "similar": run.descriptor is not None, "images": run.images,
                "partitions": run.partitions, "tag": tag, "writer": tagging or indexing,
                "problems": problems("tag", failures), "redo": [], "redo_index": None,
                "working": working("tag", tagging, run.images, run.partitions, tag["pending"], done),
                "finished": finished_jobs(folder, "tag", "index"), "published": False, "index": None,
            }  # fmt: skip
            status["problems"] += [
                {"step": "index", "partition": p, "error": f"Solr rejected {count:,}; the first: {reason}"}
                for p, (count, reason) in list(rejected.items())[:NAMED]
            ]
            if indexing:
                status["working"].append(start_working("index", indexing, "documents"))
            return _ScannedRun(
                run, folder, status, done, failures, {p: count for p, (count, _) in rejected.items()}
            )
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"run": name, "error": str(error)}

    def _read_bad(self, corpus: str, partition: int, path: str) -> tuple[int, str]:
        """Return how many records of a partition can't be decoded, and the first of them."""
        try:
            records = read_bad(self.store, corpus, partition)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            return 0, str(error)
        return len(records), describe(records[0]) if records else NO_REASON

    def _read_rejected(self, path: str) -> tuple[int, str]:
        """Return how many documents of a partition Solr rejected, and why the first one."""
        try:
            lines = self.store.read_lines(path)
        except DamagedFileError as error:
            return 0, str(error)
        try:
            reason = str(json.loads(lines[0])["reason"])
        except (IndexError, ValueError, KeyError, TypeError):
            reason = NO_REASON
        return len(lines), reason

    def _writer(self, folder: FolderCache, lease: str) -> Writer | None:
        return writer_of(holder(self.store, lease)) if folder.has(lease.rsplit("/", 1)[1]) else None

    def _read_statistics(
        self, pool: ThreadPoolExecutor, scanned_runs: Iterable[_ScannedRun], until: float | None
    ) -> dict[str, str]:
        """Read the statistics that aren't read yet, until the time is up; return the first error of each run."""
        errors: dict[str, str] = {}
        left = [
            (scanned, p, written)
            for scanned in scanned_runs
            for p, written in scanned.done.items()
            if not scanned.folder.is_read(layout.run_statistics(scanned.run.name, p), written)
        ]

        def read(entry: tuple[_ScannedRun, int, float]) -> None:
            scanned, p, written = entry
            run = scanned.run
            try:
                scanned.folder.read(
                    layout.run_statistics(run.name, p),
                    written,
                    lambda path: runs.read_statistics(self.store, run, p)["tagged"],
                )
            except StoreUnavailableError:
                raise
            except TinyTagsError as error:
                errors.setdefault(run.name, str(error))

        for start in range(0, len(left), 8 * THREADS):
            if until is not None and time.monotonic() > until:
                break
            list(pool.map(read, left[start : start + 8 * THREADS]))
        return errors


def _done(folder: FolderCache, partitions: int) -> dict[int, float]:
    """Return the partitions that are done, each with its time."""
    return {p: written for p, written in folder.numbers(layout.STATISTICS).items() if p < partitions}


def _expected(scanned: _ScannedRun) -> tuple[ExpectedCounts | None, int]:
    """Return what the index should hold of a run, None until all its statistics are read, and how many are."""
    tagged = {}
    for p, written in scanned.done.items():
        path = layout.run_statistics(scanned.run.name, p)
        if scanned.folder.is_read(path, written):
            tagged[p] = {"tagged": scanned.folder.known(path)}
    expected = (
        ExpectedCounts(scanned.run, tagged, scanned.rejected) if len(tagged) == len(scanned.done) else None
    )
    return expected, len(tagged)


def _ingest_command(corpus: Corpus) -> list[str]:
    # Importing the formats takes some 60 ms; only a scan that finds failed partitions needs them.
    from ingest.formats import ingest_command

    return [without_passwords(word) for word in ingest_command(corpus)]


def _redo(scanned: _ScannedRun, corpus: Corpus | None) -> list[str]:
    """Return the commands that tag again what failed of a run of ``corpus``, in order."""
    run, commands = scanned.run, []
    if scanned.failures:
        damaged = [str(failure.partition) for failure in scanned.failures if failure.remedy == "ingest"]
        if damaged and corpus:
            commands.append(
                [*_ingest_command(corpus), *(word for p in damaged for word in ("--partition", p))]
            )
        words = ["tinytags", "tag", "--corpus", run.corpus, "--model", run.model]
        words += ["--min-confidence", str(run.min_confidence)]
        commands.append([*words, *(["--similar"] if run.descriptor is not None else [])])
    return [shlex.join(command) for command in commands]


def _redo_index(scanned: _ScannedRun) -> str | None:
    """Return the command that indexes again what Solr rejected of a run; None where it rejected nothing."""
    rejected = list(scanned.rejected)[:NAMED]
    options = (word for p in rejected for word in ("--partition", str(p)))
    return shlex.join(["tinytags", "index", scanned.run.name, *options]) if rejected else None
