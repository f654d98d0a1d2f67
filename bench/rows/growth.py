"""What more images, more cores and larger partitions cost, in time and in memory of a worker."""

import os
import threading
import time
from collections.abc import Callable
from statistics import median

from bench import made
from bench.harness import Table, told
from bench.rows.ingest import STEP as INGEST
from bench.rows.tag import STEP as TAG
from bench.rows.tag import forget, make_run
from indexing.index import index_run
from ingest.corpus import create_corpus, list_corpora, open_corpus, write_partition
from storage import layout

# The largest take long enough to be told by two.
ROUNDS, FEW_ROUNDS, LARGE = 3, 2, 500_000
SAMPLE_SECONDS = 0.005
COLUMNS = ("step", "images", "cores", "partition", "seconds", "images/s", "private MB", "mapped MB")


def measured(place):
    sizes = place.sizes
    if not sizes.growth:
        return
    rows = []
    for cores in sorted({1, place.cores}):
        _measure(place, cores, min(sizes.growth), sizes.partition)  # warms the session up
        for images in sizes.growth:
            place.told(f"{images:,} images on {cores} cores")
            rows += _measure(place, cores, images, sizes.partition)
        for partition in sizes.growth_partitions:
            if (sizes.growth_partitions_images, partition) not in [
                (row[1], row[3]) for row in rows if row[2] == cores
            ]:
                place.told(f"partitions of {partition:,} images on {cores} cores")
                rows += _measure(place, cores, sizes.growth_partitions_images, partition)
    rows += _index(place)
    for name in list_corpora(place.store):
        if name.startswith("grown-"):
            place.store.remove_tree(layout.corpus_folder(name))
    yield Table("growth", "Cost as work grows", COLUMNS, rows)
    yield from _told(sizes, rows, place.cores)


def _told(sizes, rows: list[list], cores: int):
    *_, many, most = sorted(sizes.growth)
    for step, words in (("ingest", INGEST), ("tag", TAG), ("index", "index, with commits")):
        of = {
            row[1]: row[4] / row[1]
            for row in rows
            if row[0] == step and row[2] == cores and row[3] == sizes.partition
        }
        yield told(
            f"growth/{step}", words, f"time an image at {most:,} and at {many:,}", of[most] / of[many],
            target=1.2, at_most=True,
        )  # fmt: skip
    for step in ("ingest", "tag"):
        of = {
            row[1]: row[6] for row in rows if row[0] == step and row[2] == cores and row[3] == sizes.partition
        }
        yield told(
            f"growth/{step}-memory", f"a worker's memory: {step}", f"partitions of {sizes.partition:,}, {most:,} images",
            of[most], "MB", target=300, at_most=True,
            note="the most private memory of a Python worker, Python and libraries included; the partition's file, "
            "which is mapped and can be dropped at any time, comes on top",
        )  # fmt: skip


def _measure(place, cores: int, images: int, partition: int) -> list[list]:
    """Ingest and tag a few times; return a row for each."""
    store, spark = place.store, place.spark_on(cores)
    source = made.first_of(place.dump, images)
    corpus = made.corpus_of(source, f"grown-{images}-{partition}", partition)
    run = make_run(store, corpus, place.model, place.forest)
    rows = []
    for step in ("ingest", "tag"):
        timed, peaks = [], []
        for _ in range(rounds(images)):
            if step == "ingest":
                store.remove_tree(layout.corpus_folder(corpus.name))
                create_corpus(store, corpus)
                task = _ingest_task(store, corpus, source)
            else:
                forget(store, run)
                task = _tag_task(store, corpus, run)
            began = time.perf_counter()
            peaks.append(run_watched(spark, step, corpus, task))
            timed.append(time.perf_counter() - began)
        seconds = median(timed)
        private, mapped = (max(values) for values in zip(*peaks, strict=True))
        rows.append([step, images, cores, partition, seconds, images / seconds, private, mapped])
    return rows


def rounds(images: int) -> int:
    return FEW_ROUNDS if images >= LARGE else ROUNDS


def _ingest_task(store, corpus, source) -> Callable[[int], dict]:
    return lambda p: write_partition(store, corpus, p, source)


def _tag_task(store, corpus, run) -> Callable[[int], dict]:
    from jobs.tag_images import tag_partition

    return lambda p: tag_partition(store, corpus, run, p)


def _index(place) -> list[list]:
    """Index the runs that were tagged; a row for each."""
    rows = []
    for images in place.sizes.growth:
        corpus = open_corpus(place.store, f"grown-{images}-{place.sizes.partition}")
        run = make_run(place.store, corpus, place.model, place.forest)
        place.told(f"indexing the tags of {images:,} images")
        timed = []
        for _ in range(rounds(images)):
            if place.solr_client.exists(run.name):
                place.solr_client.delete(run.name)
            place.solr_client.create(run.name)
            began = time.perf_counter()
            index_run(place.store, run.name, place.solr_client, "grown", publication="no")
            timed.append(time.perf_counter() - began)
        place.solr_client.delete(run.name)
        seconds = median(timed)
        rows.append(
            ["index", images, place.cores, place.sizes.partition, seconds, images / seconds, None, None]
        )
    return rows


# Memory


def run_watched(spark, what: str, corpus, task: Callable[[int], dict]) -> tuple[float, float]:
    """Run a task for each partition as the jobs do; return the most private and the most mapped memory of a worker, in MB."""
    from jobs.spark import SparkRunner

    results, errors, _ = SparkRunner(spark).run(
        what, list(range(corpus.partitions)), lambda p: watched(lambda: task(p)), total=corpus.images
    )
    assert not errors, errors
    return max(result["private"] for result in results), max(result["mapped"] for result in results)


def watched(task: Callable[[], dict]) -> dict:
    """Do a task and return how much memory its process had meanwhile at most: private and mapped from files, in MB.

    Sampled every 5 ms: the kernel keeps a peak only of the sum of the two.
    """
    peaks, done = {"RssAnon": 0.0, "RssFile": 0.0}, threading.Event()

    def sample() -> None:
        while True:
            with open(f"/proc/{os.getpid()}/status") as status:
                for line in status:
                    name, _, value = line.partition(":")
                    if name in peaks:
                        peaks[name] = max(peaks[name], int(value.split()[0]) / 1000)
            if done.wait(SAMPLE_SECONDS):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        images = task()["images"]
    finally:
        done.set()
        sampler.join()
    return {"images": images, "private": peaks["RssAnon"], "mapped": peaks["RssFile"]}
