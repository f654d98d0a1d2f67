"""Ingest to a local folder, against copying the bytes and against Spark's own way to read records."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench import made
from bench.harness import Comparison, Way
from bench.place import removed
from bench.rows.tag import first_images, run_job
from ingest.corpus import Corpus, create_corpus
from ingest.image import IMAGE_BYTES, from_column_major
from storage import layout

STEP = "ingest, all cores, dump to Parquet"
COPY_BYTES = 1 << 20
COPY = "copying the bytes, read and write"


def measured(place):
    sizes, spark, store = place.sizes, place.spark, place.store
    count = min(sizes.ingest, sizes.images)
    source = made.first_of(place.dump, count)
    corpus = made.corpus_of(source, "ingested", min(sizes.partition, count // place.cores))
    ours = Way(
        "tinytags ingest",
        lambda: ingest(store, spark, corpus, source),
        count,
        before=lambda: store.remove_tree(layout.corpus_folder(corpus.name)),
    )
    for name, threads, synced, target, words in (
        ("copy", 1, False, 0.4, COPY),
        ("copy-all-cores", place.cores, False, None, f"{COPY}, all cores"),
        ("copy-to-disk", place.cores, True, None, f"{COPY}, all cores, each file to the disk"),
    ):
        folder = place.folder / name

        def copied(folder=folder, threads=threads, synced=synced) -> int:
            return copy(place.dump, folder, corpus, threads, synced)

        yield Comparison(
            f"ingest/{name}",
            STEP,
            ours,
            Way(words, copied, count, before=removed(folder)),
            target=target,
            same=lambda images, copied: images == count and copied == count * IMAGE_BYTES,
            rounds=sizes.rounds,
            note=f"{count * IMAGE_BYTES / 1e6:,.0f} MB into {corpus.partitions} files, {threads} at a time; ingest waits "
            "until each is on the disk, " + ("and so does the copy" if synced else "the copy does not"),
        )
        removed(folder)()
    small, folder = place.folder / "few_images.bin", place.folder / "binary-records"
    with open(place.dump, "rb") as dump:
        small.write_bytes(dump.read(sizes.binary * IMAGE_BYTES))
    yield Comparison(
        "ingest/binary-records",
        STEP,
        ours,
        Way(
            "Spark binaryRecords, DataFrame, Parquet",
            lambda: binary_records(spark, small, folder),
            sizes.binary,
            before=removed(folder),
        ),
        target=10,
        same=lambda images, _: same_images(store, corpus, folder, sizes.binary),
        rounds=sizes.rounds,
        note=f"Spark on {sizes.binary:,} images",
    )
    removed(folder)()
    small.unlink()
    store.remove_tree(layout.corpus_folder(corpus.name))


def ingest(store, spark, corpus: Corpus, source) -> int:
    """Split a dump as `tinytags ingest` does, in an existing session; return the number of images."""
    from ingest.corpus import write_partition

    create_corpus(store, corpus)
    partitions = list(range(corpus.partitions))
    results = run_job(spark, "ingest", partitions, lambda p: write_partition(store, corpus, p, source))
    return sum(result["images"] for result in results)


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

    records = spark.sparkContext.binaryRecords(f"file://{dump}", IMAGE_BYTES)
    frame = spark.createDataFrame(records.zipWithIndex().map(to_row), "row long, image binary")
    frame.write.parquet(f"file://{folder}")


def same_images(store, corpus: Corpus, folder: Path, count: int) -> bool:
    """Return whether the Parquet that Spark wrote holds the first images of the corpus."""
    import pyarrow.parquet

    theirs = pyarrow.parquet.read_table(folder).sort_by("row")["image"].to_pylist()
    return b"".join(theirs) == first_images(store, corpus, count).tobytes()
