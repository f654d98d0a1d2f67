"""What a partition holds, measured from its images: to check it and its statistics, or to write these again."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ingest.bad import BadRecord, read_bad, write_bad
from ingest.corpus import Corpus
from ingest.partition import read_partition
from storage import layout
from storage.store import DamagedFileError, Store


def measure_partition(store: Store, corpus: Corpus, partition: int) -> dict[str, Any]:
    """Read a whole partition, all checksums checked; return its statistics but for the time that splitting took.

    Raises as `read_partition` does.
    """
    images = bad = labelled = 0
    for block in read_partition(store, corpus, partition, names=True):
        images += len(block.images)
        bad += int(np.count_nonzero(block.bad)) if block.bad is not None else 0
        labelled += int((block.labels >= 0).sum())
    size = store.size(layout.corpus_images(corpus.name, partition))
    return {"partition": partition, "images": images, "bad": bad, "labelled": labelled, "bytes": size}


def check_statistics(store: Store, corpus: Corpus, measured: dict[str, Any]) -> str | None:
    """Return how the statistics of a partition differ from what `measure_partition` returned for it, or None."""
    path = layout.corpus_statistics(corpus.name, measured["partition"])
    try:
        written = store.read_json(path)
    except DamagedFileError as error:
        return str(error)
    written = {"bad": 0} | written  # version 0.1 had none
    if wrong := [key for key, value in measured.items() if written.get(key) != value]:
        return f"{store.url(path)}: differs from the partition's images in {', '.join(wrong)}"
    try:
        listed = len(read_bad(store, corpus.name, measured["partition"]))
    except DamagedFileError as error:
        return str(error)
    if listed != measured["bad"]:
        path = layout.corpus_bad(corpus.name, measured["partition"])
        return f"{store.url(path)}: lists {listed:,} bad records; the partition has {measured['bad']:,}"
    return None


def restore_statistics(store: Store, corpus: Corpus, partition: int) -> None:
    """Write the statistics of a partition, and the list of its bad records, again from its images; for the holder of the lease."""
    measured = measure_partition(store, corpus, partition)
    write_bad(store, corpus.name, partition, list(_restored_bad(store, corpus, partition)))
    store.write_json(layout.corpus_statistics(corpus.name, partition), measured | {"seconds": None})


def _restored_bad(store: Store, corpus: Corpus, partition: int) -> Iterator[BadRecord]:
    """Yield the bad records of a partition as its images show them, with the reasons that are still known."""
    try:
        reasons = {record["row"]: record["reason"] for record in read_bad(store, corpus.name, partition)}
    except DamagedFileError:
        reasons = {}
    for block in read_partition(store, corpus, partition, names=True):
        for place in [] if block.bad is None else np.flatnonzero(block.bad).tolist():
            row = block.row + place
            name = block.names[place] if block.names else None
            yield BadRecord(
                row=row, name=name, reason=reasons.get(row, "unknown: the list of reasons was lost")
            )
