"""A run: one tagging of one corpus by one model at one threshold, as its files stand in the store."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from storage import layout
from storage.documents import done_partitions as done_partitions
from storage.documents import read_statistics as read_statistics
from storage.manifests import list_names, open_manifest
from storage.store import DamagedFileError, Store

VERSION = 1
# A network's probabilities have four digits in documents: in these steps they are whole numbers, like votes.
PROBABILITY_STEPS = 10_000
# What a manifest leaves out where it is None.
_OPTIONAL = ("descriptor", "min_precision")


@dataclass(frozen=True)
class Run:
    """The manifest of a run: its inputs, and the name and hash derived from them."""

    corpus: str
    corpus_hash: str
    model: str
    model_hash: str
    min_confidence: float
    classes: list[str]
    images: int
    partitions: int
    trees: int | None = None  # None for a model that doesn't vote
    version: int = VERSION
    descriptor: str | None = None  # how documents describe their images; None where they don't
    # The precision by which the threshold was chosen, None where it was given; the same threshold is the same run.
    min_precision: float | None = field(default=None, compare=False)

    @property
    def hash(self) -> str:
        """The sha256 of what decides the documents: corpus, model, threshold, descriptor and their form.

        The classes are part of the model's hash; the manifest's checksum protects those in the manifest.
        """
        contents = [
            self.version,
            self.corpus,
            self.corpus_hash,
            self.model,
            self.model_hash,
            self.min_confidence,
        ]
        # Runs without descriptors keep the hashes that they had before there were any.
        contents += [self.descriptor] if self.descriptor else []
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()

    @property
    def prefix(self) -> str:
        """What the ids of the run's documents begin with, so that two runs behind one alias never share ids."""
        return self.hash[:8]

    @property
    def name(self) -> str:
        """The run's name, and that of its folder and its Solr collection."""
        return f"{self.corpus}-{self.model}-{self.prefix}"

    # What makes it a `storage.documents.DocumentSet`.
    configset = "tags"
    counts = ("images", "tagged", "dropped", "bad")
    make = "tinytags tag"

    @property
    def folder(self) -> str:
        return layout.run_folder(self.name)

    @property
    def documents_folder(self) -> str:
        return layout.run_tags_folder(self.name)

    @property
    def what(self) -> str:
        return f"run {self.name!r}"

    @property
    def repair(self) -> str:
        return f"tinytags verify {self.name} --repair"


def list_runs(store: Store) -> list[str]:
    """Return the sorted names of the runs in a store."""
    return list_names(store, "run")


def create_run(store: Store, run: Run) -> bool:
    """Write the manifest of ``run`` unless it is there; return whether it is new.

    Raises `DamagedFileError` where the manifest that is there differs in anything that follows from the run's inputs.
    """
    path = layout.run_manifest(run.name)
    if store.exists(path):
        there = open_run(store, run.name)
        if there != run:
            wrong = [key.name for key in fields(Run) if getattr(there, key.name) != getattr(run, key.name)]
            raise DamagedFileError(
                f"{store.url(path)}: is not as it was written (different: {', '.join(wrong)}); remove it and repeat this command",
                path,
            )
        return False
    manifest = {
        name: value for name, value in asdict(run).items() if name not in _OPTIONAL or value is not None
    }
    store.write_json(path, manifest | {"run": run.name, "hash": run.hash})
    store.sync(layout.run_folder(run.name))
    return True


def open_run(store: Store, name: str) -> Run:
    """Read a manifest. Raises `TinyTagsError` for a run that isn't there or a manifest that was changed."""
    return open_manifest(store, "run", name, _parse)


def _parse(manifest: dict[str, Any]) -> Run:
    names = [key.name for key in fields(Run) if key.name not in _OPTIONAL or key.name in manifest]
    return Run(**{name: manifest[name] for name in names})


def remove_temporary(store: Store, run: Run) -> None:
    """Remove what killed writers left in a run; only for the holder of the lease of tagging."""
    for folder in (
        layout.run_folder(run.name),
        layout.run_tags_folder(run.name),
        layout.run_statistics_folder(run.name),
        layout.run_failed_folder(run.name),
    ):
        store.remove_temporary(folder)
