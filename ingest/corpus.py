"""A corpus: a named set of images in the store, as partitions of Parquet that each hold a range of one dump's records."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from conf.errors import TinyTagsError
from storage import layout
from storage.manifests import list_names, open_manifest
from storage.runs import list_runs, open_run
from storage.store import FileUnavailableError, Store, StoreUnavailableError, check_name

VERSION = 1
PARTITION_IMAGES = 20_000


@dataclass(frozen=True)
class Corpus:
    """The manifest of a corpus, frozen once written: what it was split from and into."""

    name: str
    format: str
    dump: str
    identity: dict[str, Any]
    images: int
    partition_images: int
    labels: str | None = None  # the value of --labels
    classes: list[str] | None = None
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    version: int = VERSION

    @property
    def partitions(self) -> int:
        return -(-self.images // self.partition_images)

    @cached_property
    def hash(self) -> str:
        """The sha256 of everything that decides the corpus' contents; not its name, nor where dump and labels are."""
        contents = {
            key: value for key, value in asdict(self).items() if key not in ("name", "dump", "labels")
        }
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

    def rows(self, partition: int) -> tuple[int, int]:
        """Return the range of the dump's records that ``partition`` holds; the last one may be ragged."""
        if not 0 <= partition < self.partitions:
            raise TinyTagsError(
                f"corpus {self.name!r} has no partition {partition}; it has 0 to {self.partitions - 1}"
            )
        start = partition * self.partition_images
        return start, min(start + self.partition_images, self.images)


def list_corpora(store: Store) -> list[str]:
    """Return the sorted names of the corpora in a store."""
    return list_names(store, "corpus")


def create_corpus(store: Store, corpus: Corpus) -> bool:
    """Write the manifest of ``corpus``, or check that the one there is the same; return whether it is new.

    Raises `TinyTagsError`, with both hashes, where another corpus has the name.
    """
    check_name("corpus", corpus.name)
    path = layout.corpus_manifest(corpus.name)
    if store.exists(path):
        there = open_corpus(store, corpus.name)
        if there.hash != corpus.hash:
            changed = [
                key
                for key in ("format", "identity", "images", "partition_images", "classes", "splits")
                if getattr(there, key) != getattr(corpus, key)
            ]
            raise TinyTagsError(
                f"corpus {corpus.name!r} exists already, with other contents ({there.hash[:8]}, not {corpus.hash[:8]}; "
                f"different: {', '.join(changed)}); give this one another name, or replace it with --replace"
            )
        return False
    manifest = asdict(corpus) | {"partitions": corpus.partitions, "hash": corpus.hash}
    store.write_json(path, manifest)
    store.sync(layout.corpus_folder(corpus.name))
    return True


def remove_other(store: Store, corpus: Corpus) -> None:
    """Remove the corpus of this name where its contents are other ones; for the holder of the lease.

    Raises `TinyTagsError` where a run was tagged from it, whose images would be others, and where that can't be read now.
    """
    if not store.exists(layout.corpus_manifest(corpus.name)):
        return
    there = open_corpus(store, corpus.name)
    if there.hash == corpus.hash:
        return
    tagged = []
    for name in list_runs(store):
        try:
            if open_run(store, name).corpus_hash == there.hash:
                tagged.append(name)
        except (FileUnavailableError, StoreUnavailableError):
            raise
        except TinyTagsError:  # a run whose manifest is broken shows no image
            continue
    if tagged:
        raise TinyTagsError(
            f"corpus {corpus.name!r} can't be replaced: {', '.join(tagged)} was tagged from it; ingest under another name, "
            "tag and publish that, and remove the old ones then"
        )
    # The markers first and the manifest last: where this is killed in between, the same command continues.
    for folder in (
        layout.corpus_statistics_folder(corpus.name),
        layout.corpus_failed_folder(corpus.name),
        layout.corpus_bad_folder(corpus.name),
        layout.corpus_features_folder(corpus.name),
        layout.corpus_images_folder(corpus.name),
    ):
        store.remove_tree(folder)
    store.remove(layout.corpus_names(corpus.name))
    store.remove(layout.finished(layout.corpus_folder(corpus.name), "ingest"))
    store.remove(layout.corpus_manifest(corpus.name))


def with_known_identity(store: Store, corpus: Corpus) -> Corpus:
    """Return ``corpus`` with the identity of the one of its name, where that one is from version 0.1 and has no sample."""
    if not store.exists(layout.corpus_manifest(corpus.name)):
        return corpus
    known = open_corpus(store, corpus.name).identity
    return replace(corpus, identity=known) if known == _without_sample(corpus.identity) else corpus


def _without_sample(identity: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_sample(value) if isinstance(value, dict) else value
        for key, value in identity.items()
        if key != "sample"
    }


def open_corpus(store: Store, name: str) -> Corpus:
    """Read a manifest. Raises `TinyTagsError` for a corpus that isn't there or a manifest that was changed."""
    return open_manifest(store, "corpus", name, _parse)


def _parse(manifest: dict[str, Any]) -> Corpus:
    values = {key.name: manifest[key.name] for key in fields(Corpus)}
    return Corpus(**values | {"splits": {key: tuple(rows) for key, rows in values["splits"].items()}})


def remove_temporary(store: Store, corpus: str) -> None:
    """Remove what killed writers left in a corpus; only for the holder of the lease."""
    for folder in (
        layout.corpus_folder(corpus),
        layout.corpus_statistics_folder(corpus),
        layout.corpus_failed_folder(corpus),
        layout.corpus_bad_folder(corpus),
    ):
        store.remove_temporary(folder)
    store.remove_temporary_below(layout.corpus_images_folder(corpus))


def done_partitions(store: Store, corpus: Corpus) -> list[int]:
    """Return the partitions whose marker, the statistics file, is there."""
    done = layout.partitions_in(store.list(layout.corpus_statistics_folder(corpus.name)))
    return [p for p in done if p < corpus.partitions]
