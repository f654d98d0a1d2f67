"""Documents of a store in partitions, as JSON lines: what the indexer posts to a Solr collection of their own."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Protocol

from storage import layout
from storage.store import DamagedFileError, Store, StoreError


class DocumentSet(Protocol):
    """A set of documents that the indexer knows: the tags of a run, or the images or relations of annotations.

    ``documents_folder`` has a file of JSON lines for each partition; ``folder`` has the rest: ``statistics/``, written
    last, one file a partition, ``rejected/`` and the lease of the indexer.
    """

    @property
    def name(self) -> str:
        """The name of the Solr collection."""
        ...

    @property
    def folder(self) -> str: ...

    @property
    def documents_folder(self) -> str: ...

    @property
    def partitions(self) -> int: ...

    @property
    def what(self) -> str:
        """How messages name the set, such as ``run 'tiny-forest-3f9a2c1d'``."""
        ...

    @property
    def configset(self) -> str:
        """The folder in `conf/solr/` with the fields of the collection."""
        ...

    @property
    def counts(self) -> tuple[str, ...]:
        """The numbers that statistics have beside their partition, bytes and sha256."""
        ...

    @property
    def make(self) -> str:
        """The command that writes what is missing."""
        ...

    @property
    def repair(self) -> str:
        """The command that writes a changed file again."""
        ...


def documents_file(documents: DocumentSet, partition: int) -> str:
    """Return the documents of a partition, one JSON line each."""
    return f"{documents.documents_folder}/{partition:05d}.jsonl"


def done_partitions(store: Store, documents: DocumentSet) -> list[int]:
    """Return the partitions whose marker, the statistics file, is there."""
    return layout.partitions_in(store.list(layout.statistics_folder(documents.folder)))


def rejected_partitions(store: Store, documents: DocumentSet) -> list[int]:
    """Return the partitions of which Solr rejected documents."""
    return layout.partitions_in(store.list(layout.rejected_folder(documents.folder)), ".jsonl")


def number_of_documents(statistics: dict[str, Any]) -> int:
    """Return how many documents a partition has; of a run these are the tagged images."""
    number: int = statistics["documents"] if "documents" in statistics else statistics["tagged"]
    return number


def read_statistics(store: Store, documents: DocumentSet, partition: int) -> dict[str, Any]:
    """Return the statistics of a partition. Raises `StoreError` where they are missing or not of this partition."""
    path = layout.statistics(documents.folder, partition)
    statistics = store.read_json(path)
    wanted = ("partition", *documents.counts, "bytes", "sha256")
    if any(key not in statistics for key in wanted) or statistics["partition"] != partition:
        raise StoreError(
            f"{store.url(path)}: is not the statistics of partition {partition}; remove it and run `{documents.make}` again",
            path,
        )
    return statistics


def read_documents(store: Store, documents: DocumentSet, partition: int) -> Iterator[dict[str, Any]]:
    """Yield the documents of a partition. Raises `StoreError` where they aren't as their statistics say."""
    path = documents_file(documents, partition)
    wanted = read_statistics(store, documents, partition)["sha256"]
    data = store.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != wanted:
        raise DamagedFileError(f"{store.url(path)}: has changed; `{documents.repair}` writes it again", path)
    yield from map(json.loads, data.splitlines())
