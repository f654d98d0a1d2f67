"""Scanning the annotations of a store: how far reading them is, at the cost of what has changed since the last scan."""

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict, final

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from indexing.expected import ExpectedCounts, count_rejected
from indexing.failures import problems, read_failures
from indexing.folder_cache import FolderCache
from indexing.states import Problem, States, Working, Writer, states, working, writer_of
from indexing.watch_finished import finished_jobs
from ingest.annotations.manifest import Annotations, DocumentsOf, open_annotations
from storage import layout
from storage.documents import number_of_documents
from storage.finished import Finished
from storage.lease import holder
from storage.store import Store, StoreUnavailableError


@final
class AnnotationsStatus(TypedDict):
    """Annotations, as the API and `tinytags status --json` have them; a scan of Solr fills in ``published`` and ``index``."""

    annotations: str
    hash: str
    ranges: int
    partitions: int
    rows: States  # of ranges of bytes
    documents: States  # of partitions of images
    collections: dict[str, str]  # of the images and of the relations
    writer: Writer | None
    problems: list[Problem]
    redo: list[str]
    working: list[Working]
    finished: list[Finished]  # the last job that read some
    published: bool
    index: dict[str, States | None]


@final
class BrokenAnnotations(TypedDict):
    """Annotations that can't be read."""

    annotations: str
    error: str


@dataclass(frozen=True, eq=False)
class ScannedAnnotations:
    """The state of all annotations, and what the index should hold of each collection."""

    statuses: list[AnnotationsStatus | BrokenAnnotations]
    expected: dict[str, ExpectedCounts | None]


class AnnotationsWatch:
    """Scans the annotations of a store; for one thread at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folders: dict[str, FolderCache] = {}

    def scan(self, pool: ThreadPoolExecutor) -> ScannedAnnotations:
        """Return the state of all annotations. Raises `StoreUnavailableError`; broken ones are reported as such."""
        scanned = ScannedAnnotations([], {})
        for name in self.store.times(layout.ANNOTATIONS):
            try:
                folder = self._folder(layout.annotations_folder(name))
                annotations = folder.manifest(lambda name=name: open_annotations(self.store, name))  # type: ignore[misc]  # a default
                if annotations is not None:
                    scanned.statuses.append(self._status(annotations, folder))
                    for part in annotations.sets:
                        scanned.expected[part.name] = self._expected(part, pool)
            except StoreUnavailableError:
                raise
            except TinyTagsError as error:
                scanned.statuses.append({"annotations": name, "error": str(error)})
        return scanned

    def _folder(self, path: str) -> FolderCache:
        folder = self._folders.setdefault(path, FolderCache(self.store, path))
        folder.refresh()
        return folder

    def _status(self, annotations: Annotations, folder: FolderCache) -> AnnotationsStatus:
        all_problems: list[Problem] = []
        steps = {}
        done: dict[int, float] = {}
        for step, path, partitions in (
            ("rows", layout.annotations_rows_folder(annotations.name), annotations.ranges),
            ("documents", annotations.documents("images").folder, annotations.partitions),
        ):
            there = self._folder(path)
            done = there.numbers(layout.STATISTICS)
            failed, failures = read_failures(there, done)
            steps[step] = states(partitions, done, failed)
            all_problems += problems(step, failures)
        writer = None
        if folder.has("lease.json"):
            writer = writer_of(holder(self.store, layout.annotations_lease(annotations.name)))
        words = ["tinytags", "annotations", without_passwords(annotations.folder), "--name", annotations.name]
        return {
            "annotations": annotations.name, "hash": annotations.hash, "ranges": annotations.ranges,
            "partitions": annotations.partitions, "rows": steps["rows"], "documents": steps["documents"],
            "collections": {part.kind: part.name for part in annotations.sets}, "writer": writer,
            "problems": all_problems, "redo": [shlex.join(words)] if all_problems else [],
            "working": working(
                "annotations", writer, annotations.partitions, annotations.partitions, steps["documents"]["pending"], done
            ),
            "finished": finished_jobs(folder, "annotations"), "published": False, "index": {part.kind: None for part in annotations.sets},
        }  # fmt: skip

    def _expected(self, part: DocumentsOf, pool: ThreadPoolExecutor) -> ExpectedCounts:
        folder = self._folder(part.folder)

        def read(entry: tuple[int, float]) -> int:
            p, written = entry
            return folder.read(
                layout.statistics(part.folder, p),
                written,
                lambda path: number_of_documents(self.store.read_json(path)),
            )

        done = folder.numbers(layout.STATISTICS)
        counts = zip(done, pool.map(read, done.items()), strict=True)
        rejected = {
            p: folder.read(
                layout.rejected(part.folder, p), written, lambda path: count_rejected(self.store, path)
            )
            for p, written in folder.numbers(layout.REJECTED, ".jsonl").items()
            if p in done
        }
        return ExpectedCounts(part, {p: {"documents": count} for p, count in counts}, rejected)
