"""Small runs and corpora, written straight into a store, and what the index should then hold."""

import hashlib
import json
import uuid
import zlib

import numpy as np

from ingest.corpus import Corpus, create_corpus
from ingest.formats import Batch
from ingest.formats.dump import ReadInBatches
from ingest.image import IMAGE_BYTES
from ingest.partition import write_partition
from storage import layout
from storage.runs import Run, create_run

# Of this process alone: other test processes may use the same Solr.
UNIQUE = uuid.uuid4().hex
ALIAS = f"tags-{UNIQUE[:8]}"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def make_run(
    store,
    corpus="tiny",
    model="forest-10",
    partitions=3,
    images=500,
    corpus_hash=2 * UNIQUE,
    spoil=None,
    descriptor=None,
):
    """Write a run as tagging does, of random tags, each partition with another number of documents; return it.

    ``spoil`` may change the documents of a partition before they are written: ``spoil(partition, documents)``.
    """
    run = Run(
        corpus=corpus, corpus_hash=corpus_hash, model=model, model_hash="m" * 64, min_confidence=0.4,
        classes=CLASSES, images=partitions * images, partitions=partitions, trees=10,
        descriptor=descriptor,
    )  # fmt: skip
    create_run(store, run)
    for p in range(partitions):
        write_tags(store, run, p, images, spoil)
    return run


def write_tags(store, run, partition, images, spoil=None):
    """Write the tags file of a partition, then its statistics."""
    random = np.random.default_rng([partition, zlib.crc32(f"{run.corpus} {run.model}".encode())])
    votes = random.integers(2, 11, images)
    documents = []
    for row in np.flatnonzero(votes >= 4).tolist():
        tag, runner_up = random.choice(CLASSES, 2, replace=False).tolist()
        document = {
            "id": f"{run.prefix}:{partition}:{row}", "corpus": run.corpus, "partition": partition, "row": row,
            "tag": tag, "votes": int(votes[row]), "trees": 10, "confidence": int(votes[row]) / 10,
            "runner_up": runner_up, "runner_up_votes": 1, "label": tag, "model": run.model, "run": run.name,
        }  # fmt: skip
        documents.append(document)
    if spoil:
        spoil(partition, documents)
    data = b"".join(json.dumps(d, separators=(",", ":")).encode() + b"\n" for d in documents)
    store.write_bytes(layout.run_tags(run.name, partition), data)
    tags = {tag: sum(d["tag"] == tag for d in documents) for tag in CLASSES}
    store.write_json(
        layout.run_statistics(run.name, partition),
        {
            "partition": partition, "images": images, "tagged": len(documents), "dropped": images - len(documents),
            "bad": 0, "votes": {}, "tags": tags, "labelled": len(documents), "right": len(documents),
            "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "seconds": 0.1, "host": "here",
        },
    )  # fmt: skip


class Noise(ReadInBatches):
    """A dump of random images."""

    def read(self, start, stop):
        images = np.random.default_rng(start).integers(0, 256, (stop - start, IMAGE_BYTES), np.uint8)
        return Batch(images, np.full(stop - start, -1, np.int32))


def make_corpus(store, name="tiny", partitions=3, images=500):
    """Write a corpus of noise and return it."""
    corpus = Corpus(
        name=name,
        format="noise",
        dump="nowhere",
        identity={},
        images=partitions * images,
        partition_images=images,
    )
    create_corpus(store, corpus)
    for p in range(partitions):
        write_partition(store, corpus, p, Noise())
    return corpus


def documents(store, run):
    """Return what the run's tags files say, by id."""
    lines = b"".join(
        store.read_bytes(layout.run_tags(run.name, p)) for p in range(run.partitions)
    ).splitlines()
    return {document["id"]: document for document in map(json.loads, lines)}


def indexed(client, run):
    """Return what the index holds of the run, by id."""
    hits = client.select(run.name, {"q": "*:*", "rows": 1_000_000, "sort": "id asc"})["response"]["docs"]
    for hit in hits:
        hit.pop("_version_")
    return {hit["id"]: hit for hit in hits}
