"""Scanning the features that are kept of corpora: how far they are computed, at the cost of what has changed since the last scan."""

import shlex
from typing import Any, TypedDict, final

from indexing.failures import problems, read_failures
from indexing.folder_cache import FolderCache
from indexing.states import Problem, States, Working, states, working, writer_of
from indexing.watch_finished import finished_jobs
from ingest.corpus import Corpus
from storage import layout
from storage.finished import Finished
from storage.lease import holder
from storage.store import Store, StoreError, StoreUnavailableError


@final
class FeaturesStatus(TypedDict):
    """Features that are kept of a corpus, as the API and `tinytags status --json` have them."""

    name: str
    folder: str  # the name with the beginning of their hash
    length: int | None  # bytes for each image
    features: States  # of partitions
    problems: list[Problem]
    redo: list[str]
    finished: list[Finished]  # the last job that computed some


@final
class BrokenFeatures(TypedDict):
    """Features that can't be read."""

    folder: str
    error: str


class FeaturesWatch:
    """Scans the features of corpora; for one thread a corpus at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folders: dict[str, FolderCache] = {}

    def scan(
        self, corpus: Corpus, corpus_folder: FolderCache
    ) -> tuple[list[FeaturesStatus | BrokenFeatures], list[Working]]:
        """Return the state of all features of a corpus, and who computes some.

        Raises `StoreUnavailableError`; broken ones are reported as such.
        """
        statuses: list[FeaturesStatus | BrokenFeatures] = []
        jobs: list[Working] = []
        if not corpus_folder.has("features"):
            return statuses, jobs
        for name in self.store.times(layout.corpus_features_folder(corpus.name)):
            path = layout.features_folder(corpus.name, name)
            folder = self._folders.setdefault(path, FolderCache(self.store, path))
            try:
                folder.refresh()
                manifest = folder.manifest(
                    lambda name=name: self.store.read_json(layout.features_manifest(corpus.name, name))  # type: ignore[misc]  # a default
                )
                if manifest is not None:
                    statuses.append(self._status(corpus, name, folder, manifest, jobs))
            except StoreUnavailableError:
                raise
            except StoreError as error:
                statuses.append({"folder": name, "error": str(error)})
        return statuses, jobs

    def _status(
        self, corpus: Corpus, name: str, folder: FolderCache, manifest: dict[str, Any], jobs: list[Working]
    ) -> FeaturesStatus:
        if manifest.get("corpus_hash") != corpus.hash:
            there = f"{self.store.url(layout.features_folder(corpus.name, name))}"
            raise StoreError(
                f"{there}: these features are of other images, those of a corpus that had this name; remove that folder"
            )
        done = {
            p: written for p, written in folder.numbers(layout.STATISTICS).items() if p < corpus.partitions
        }
        failed, failures = read_failures(folder, done)
        counts = states(corpus.partitions, done, failed)
        lease = layout.features_lease(corpus.name, name)
        writer = writer_of(holder(self.store, lease)) if folder.has(lease.rsplit("/", 1)[1]) else None
        jobs += working("features", writer, corpus.images, corpus.partitions, counts["pending"], done)
        words = ["tinytags", "features", "--corpus", corpus.name, "--features", str(manifest.get("features"))]
        for option in ("seed", "holdout"):
            if manifest.get(option) is not None:
                words += [f"--{option}", str(manifest[option])]
        return {
            "name": str(manifest.get("features")), "folder": name, "length": manifest.get("length"), "features": counts,
            "problems": problems("features", failures), "redo": [shlex.join(words)] if failures else [],
            "finished": finished_jobs(folder, "features"),
        }  # fmt: skip
