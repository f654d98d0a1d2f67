"""Ingest to a local folder, against copying the bytes and against Spark's own way to read records."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench import made
from bench.harness import Comparison, Way, single
from bench.place import removed
from bench.rows.tag import run_job
from ingest.corpus import Corpus, create_corpus
from ingest.image import IMAGE_BYTES, from_column_major
from ingest.partition import write_partition
from storage import layout

COPY_BYTES = 1 << 20


def measured(place):
    sizes, spark, store = place.sizes, place.spark, place.store
    count = min(sizes.ingest, sizes.images)
    source, corpus = place.part("ingested", count, min(sizes.partition, count // place.cores))
    ours = way(place, corpus, source)
    about = {"megabytes": count * IMAGE_BYTES / 1e6, "files": corpus.partitions}

    def same(images: int, size: int) -> bool:
        return images == count and size == count * IMAGE_BYTES

    for name, threads in (("copy", 1), ("copy-all-cores", place.cores), ("copy-to-disk", place.cores)):
        folder = place.folder / name
        copied = functools.partial(copy, place.dump, folder, corpus, threads, name == "copy-to-disk")
        yield Comparison(f"ingest/{name}", ours, Way(copied, count, removed(folder)), same, about=about)
        removed(folder)()
    start, stop = corpus.rows(0)
    yield single("ingest/bytes", store.size(layout.corpus_images(corpus.name, 0)) / (stop - start))
    folder = place.folder / "binary-records"
    small = made.write_dump(place.folder / "few_images.bin", place.pool, sizes.binary)
    yield Comparison(
        "ingest/binary-records",
        ours,
        Way(lambda: binary_records(spark, small, folder), sizes.binary, removed(folder)),
        lambda *_: read_images(spark, folder) == place.images(sizes.binary).tobytes(),
        about={"images": sizes.binary},
    )
    removed(folder)()
    ours.before()


def way(place, corpus: Corpus, source, store=None) -> Way:
    """Return the splitting of a dump as `tinytags ingest` does it, in an existing session; the result is the images."""
    store = store or place.store

    def ingest() -> int:
        create_corpus(store, corpus)
        task = functools.partial(write_partition, store, corpus, dump=source)
        results = run_job(place.spark, "ingest", corpus, range(corpus.partitions), task)
        return sum(result["images"] for result in results)

    return Way(ingest, corpus.images, lambda: store.remove_tree(layout.corpus_folder(corpus.name)))


def copy(dump: Path, folder: Path, corpus: Corpus, threads: int, synced: bool) -> int:
    """Copy the records of each partition to a file of its own; return the number of bytes."""
    folder.mkdir()

    def copy_partition(p: int) -> int:
        start, stop = (row * IMAGE_BYTES for row in corpus.rows(p))
        buffer = memoryview(bytearray(COPY_BYTES))
        with open(dump, "rb", buffering=0) as source, open(folder / str(p), "wb", buffering=0) as target:
            source.seek(start)
            while left := stop - source.tell():
                target.write(buffer[: source.readinto(buffer[: min(left, COPY_BYTES)])])
            if synced:
                os.fsync(target.fileno())
            return target.tell()

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(copy_partition, range(corpus.partitions)))


def binary_records(spark, dump: Path, folder: Path) -> None:
    """Split a dump as in Spark's documentation."""

    def to_row(record_and_number):
        record, number = record_and_number
        image = from_column_major(np.frombuffer(record, np.uint8).reshape(1, IMAGE_BYTES))
        return number, image.tobytes()

    records = spark.sparkContext.binaryRecords(str(dump), IMAGE_BYTES)
    frame = spark.createDataFrame(records.zipWithIndex().map(to_row), "row long, image binary")
    frame.write.parquet(str(folder))


def read_images(spark, folder: Path) -> bytes:
    """Return the images in the Parquet that Spark wrote."""
    return b"".join(row.image for row in spark.read.parquet(str(folder)).orderBy("row").collect())
