"""The cost of more images, more cores and other partitions, in time and in memory of a worker."""

import itertools
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from bench import made
from bench.harness import Comparison, Way, single
from bench.rows import index, tag
from ingest.corpus import create_corpus
from ingest.partition import write_partition
from storage import layout

SAMPLE_SECONDS = 0.005
STEPS = ("ingest", "tag")


def measured(place):
    sizes, megabytes = place.sizes, []
    many, most = sorted(sizes.growth)[-2:]

    def way(step: str, images: int, partition: int = sizes.partition, cores: int = place.cores) -> Way:
        return way_of(place, megabytes, step, images, partition, cores)

    for step in STEPS:
        megabytes.clear()
        yield compared(step, way(step, most), way(step, many), ours=most, theirs=many)
        yield single(f"growth/{step}-memory", max(megabytes), partition=sizes.partition, most=most)
    yield compared("index", indexing(place, most), indexing(place, many), ours=most, theirs=many)
    for few, step in itertools.product(sorted(sizes.growth)[:-2], STEPS):
        yield compared(f"{step}-few", way(step, many), way(step, few), ours=many, theirs=few)
    for partition, step in itertools.product(sizes.growth_partitions, STEPS):
        both = way(step, many, partition), way(step, many)
        yield compared(f"{step}-partition", *both, images=many, ours=partition, theirs=sizes.partition)
    for step in STEPS:
        both = way(step, many), way(step, many, cores=1)
        yield compared(f"{step}-cores", *both, images=many, ours=place.cores)


def compared(name: str, ours: Way, theirs: Way, /, **about) -> Comparison:
    """Compare the time of an image or a document; the ways work on different images, and have no results to compare."""
    figures = {f"growth/{name}": lambda ours, theirs: theirs.rate / ours.rate}
    return Comparison(f"growth/{name}", ours, theirs, lambda *_: True, figures, about=about)


def way_of(place, megabytes: list[float], step: str, images: int, partition: int, cores: int) -> Way:
    """Return a step on a corpus and a number of cores; each task adds its worker's memory to ``megabytes``."""
    from jobs.tag_images import tag_partition

    store, (source, corpus) = place.store, place.part(f"grown-{images}-{partition}", images, partition)
    run = tag.make_run(place, corpus)

    def task(p: int) -> dict:
        if step == "ingest":
            return write_partition(store, corpus, p, source)
        return tag_partition(store, corpus, run, p)

    def work() -> None:
        spark, partitions = place.spark_on(cores), range(corpus.partitions)
        results = tag.run_job(spark, step, corpus, partitions, lambda p: watched(lambda: task(p)))
        megabytes.extend(result["megabytes"] for result in results)

    def forget() -> None:
        if step == "ingest":
            store.remove_tree(layout.corpus_folder(corpus.name))
            create_corpus(store, corpus)
        else:
            tag.forget(store, run)

    def before() -> None:
        forget()
        warm = place.session
        if place.spark_on(cores) is not warm:
            work()
            forget()

    return Way(work, images, before)


def indexing(place, images: int) -> Way:
    """Return the indexing of a run that was tagged."""
    _, corpus = place.part(f"grown-{images}-{place.sizes.partition}", images, place.sizes.partition)
    run = tag.make_run(place, corpus)
    return index.way(place, run, made.total(place.store, run, "tagged"))


def watched(task: Callable[[], dict]) -> dict:
    """Do a task and return its result with the peak of its process' private memory meanwhile, as ``megabytes``.

    Sampled every 5 ms: the kernel records a peak only of the sum of private memory and mapped files.
    """
    peak, done, status = 0, threading.Event(), Path(f"/proc/{os.getpid()}/status")

    def sample() -> None:
        nonlocal peak
        while True:
            peak = max(peak, int(re.search(r"RssAnon:\s+(\d+)", status.read_text())[1]))
            if done.wait(SAMPLE_SECONDS):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        return task() | {"megabytes": peak / 1000}
    finally:
        done.set()
        sampler.join()
