"""The cost of more images, more cores and larger partitions, in time and in memory of a worker."""

import os
import threading
import time
from collections.abc import Callable
from statistics import median

from bench import made
from bench.harness import Table, single
from bench.rows.index import STEP as INDEX
from bench.rows.index import renew
from bench.rows.ingest import STEP as INGEST
from bench.rows.tag import STEP as TAG
from bench.rows.tag import forget, make_run, run_job
from indexing.index import index_run
from ingest.corpus import create_corpus, list_corpora, open_corpus, write_partition
from storage import layout

# Two rounds are enough for the largest, which take long.
ROUNDS, FEW_ROUNDS, LARGE = 3, 2, 500_000
SAMPLE_SECONDS = 0.005
COLUMNS = ("step", "images", "cores", "partition", "seconds", "images/s", "private MB", "mapped MB")


def measured(place):
    sizes = place.sizes
    if not sizes.growth:
        return
    work = [(images, sizes.partition) for images in sizes.growth]
    work += [(sizes.growth_partitions_images, partition) for partition in sizes.growth_partitions]
    rows = []
    for cores in sorted({1, place.cores}):
        _measure(place, cores, min(sizes.growth), sizes.partition)  # warms the session up
        for images, partition in dict.fromkeys(work):
            place.note(f"{images:,} images in partitions of {partition:,} on {cores} cores")
            rows += _measure(place, cores, images, partition)
    rows += _index(place)
    for name in list_corpora(place.store):
        if name.startswith("grown-"):
            place.store.remove_tree(layout.corpus_folder(name))
    yield Table("growth", "Cost as work grows", COLUMNS, rows)
    yield from _figures(sizes, rows, place.cores)


def _figures(sizes, rows: list[list], cores: int):
    *_, many, most = sorted(sizes.growth)
    by_step = {
        step: {row[1]: row for row in rows if row[0] == step and row[2:4] == [cores, sizes.partition]}
        for step in ("ingest", "tag", "index")
    }
    for step, words in (("ingest", INGEST), ("tag", TAG), ("index", INDEX)):
        seconds = {images: row[4] / images for images, row in by_step[step].items()}
        yield single(
            f"growth/{step}", words, f"time an image at {most:,} and at {many:,}", seconds[most] / seconds[many],
            target=1.2, at_most=True,
        )  # fmt: skip
    for step in ("ingest", "tag"):
        yield single(
            f"growth/{step}-memory", f"a worker's memory: {step}", f"partitions of {sizes.partition:,}, {most:,} images",
            by_step[step][most][6], "MB", target=300, at_most=True,
            note="the most private memory of a Python worker, Python and libraries included; the partition's file, "
            "which is mapped and can be dropped at any time, comes on top",
        )  # fmt: skip


def _measure(place, cores: int, images: int, partition: int) -> list[list]:
    """Ingest and tag a few times; return a row for each."""
    from jobs.tag_images import tag_partition

    store, spark = place.store, place.spark_on(cores)
    source = made.first_of(place.dump, images)
    corpus = made.corpus_of(source, f"grown-{images}-{partition}", partition)
    run = make_run(store, corpus, place.model, place.forest)

    def renew_corpus() -> None:
        store.remove_tree(layout.corpus_folder(corpus.name))
        create_corpus(store, corpus)

    rows = []
    for step, before, task in (
        ("ingest", renew_corpus, lambda p: write_partition(store, corpus, p, source)),
        ("tag", lambda: forget(store, run), lambda p: tag_partition(store, corpus, run, p)),
    ):
        results = []
        seconds = _median_seconds(
            images, before, lambda task=task, step=step, results=results: results.extend(
                run_job(spark, step, list(range(corpus.partitions)), lambda p: watched(lambda: task(p)))
            )
        )  # fmt: skip
        memory = [max(result[kind] for result in results) for kind in ("private", "mapped")]
        rows.append([step, images, cores, partition, seconds, images / seconds, *memory])
    return rows


def _index(place) -> list[list]:
    """Index the runs that were tagged; a row for each."""
    rows, client, partition = [], place.solr_client, place.sizes.partition
    for images in place.sizes.growth:
        corpus = open_corpus(place.store, f"grown-{images}-{partition}")
        run = make_run(place.store, corpus, place.model, place.forest)
        place.note(f"indexing the tags of {images:,} images")
        seconds = _median_seconds(
            images,
            lambda name=run.name: renew(client, name),
            lambda name=run.name: index_run(place.store, name, client, "grown", publication="no"),
        )
        client.delete(run.name)
        rows.append(["index", images, place.cores, partition, seconds, images / seconds, None, None])
    return rows


def _median_seconds(images: int, before: Callable[[], object], work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(FEW_ROUNDS if images >= LARGE else ROUNDS):
        before()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def watched(task: Callable[[], dict]) -> dict:
    """Do a task and return the peak memory of its process meanwhile: private and mapped from files, in MB.

    Sampled every 5 ms: the kernel records a peak only of the sum of the two.
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
