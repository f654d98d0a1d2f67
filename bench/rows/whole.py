"""The time of a whole run: each command as a user runs it, and the parts of its work."""

import contextlib
import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

from bench import made
from bench.harness import Table
from indexing import index
from indexing.solr import Solr
from ingest import corpus as corpora
from ingest import files
from ingest.formats import tiny_images
from storage import layout, runs

# So many partitions are profiled, one after the other in this process.
PROFILED = 5
COLUMNS = ("step", "part", "seconds", "share")


def measured(place):
    images, store = place.sizes.whole, place.store
    if not images:
        return
    place.stop_spark()
    path = place.folder / "whole.bin"
    made.write_dump(path, place.pool, images)
    source = made.first_of(path, images)
    master = ("--master", f"local[{place.cores}]")
    partition = ("--partition-images", str(place.sizes.partition))
    words = (str(path), "--format", "tiny-images", "--corpus", "whole", *partition)
    ingested = place.run_tinytags("ingest", *words, *master)
    tagged = place.run_tinytags("tag", "--corpus", "whole", "--model", place.model, *master)
    indexed = place.run_tinytags("index", tagged["run"], "--solr", place.solr.url, "--no-publish")
    place.note("profiling the work")
    corpus, run = corpora.open_corpus(store, "whole"), runs.open_run(store, tagged["run"])
    profiled = range(min(PROFILED, corpus.partitions))
    part = sum(stop - start for start, stop in map(corpus.rows, profiled)) / images * place.cores
    rows = _job_rows("ingest", ingested, images, part, _ingest_parts(store, corpus, source, profiled))
    rows += _job_rows("tag", tagged, images, part, _tag_parts(store, corpus, run, profiled))
    rows += _index_rows(place, run, indexed)
    path.unlink()
    store.remove_tree(layout.corpus_folder("whole"))
    total = sum(row[2] for row in rows)
    yield Table(
        "whole",
        f"Where the time of a whole run of {images:,} images goes",
        COLUMNS,
        [[*row, row[2] / total] for row in rows],
        note=f"the commands one after the other, {place.cores} cores; parts of a job are measured on {PROFILED} partitions done "
        "in one process and divided by the cores",
    )


def _job_rows(step: str, done: dict, images: int, part: float, seconds: Counter) -> list[list]:
    """Return rows of a Spark job: its start, its parts on all cores, of which ``part`` were profiled, and the rest."""
    job = images / done["images_per_second"]
    rows = [[step, "start: Python, Spark, manifests", done["wall"] - job]]
    rows += [[step, name, value / part] for name, value in seconds.items()]
    inside = sum(row[2] for row in rows[1:])
    return [*rows, [step, "scheduling, waiting for each other", max(job - inside, 0.0)]]


def _ingest_parts(store, corpus, source, profiled) -> Counter:
    import pyarrow.parquet

    watch = Stopwatch()
    with (
        watch.on(files, "read_into", "read the dump"),
        watch.on(tiny_images, "from_column_major", "columns to rows"),
        watch.on(pyarrow.parquet.ParquetWriter, "write_table", "Parquet, checksums, write"),
        watch.on(os, "fsync", "wait for the disk"),
        watch.part("the rest"),
    ):
        for p in profiled:
            corpora.write_partition(store, corpus, p, source)
    return watch.seconds


def _tag_parts(store, corpus, run, profiled) -> Counter:
    from jobs.tag_images import tag_partition
    from tagging import tags
    from tagging.forest import PackedForest

    tag_partition(store, corpus, run, 0)  # loads the model and the kernel
    watch = Stopwatch()
    with (
        watch.on(corpora, "read_partition", "read Parquet, check", generator=True),
        watch.on(PackedForest, "votes", "kernel"),
        watch.on(tags, "winners", "votes to JSON lines"),
        watch.on(tags, "documents", "votes to JSON lines"),
        watch.on(os, "fsync", "wait for the disk"),
        watch.part("write, hash, the rest"),
    ):
        for p in profiled:
            tag_partition(store, corpus, run, p)
    return watch.seconds


def _index_rows(place, run, done: dict) -> list[list]:
    """Profile indexing: index the run once more in this process."""
    place.solr_client.delete(run.name)
    place.solr_client.create(run.name)
    watch = Stopwatch()
    with (
        watch.on(index, "read_tags", "read tags, hash"),
        watch.on(Solr, "commit", "commit"),
        watch.on(Solr, "counts", "count"),
        watch.part("wait for Solr to take documents"),
    ):
        index.index_run(place.store, run.name, place.solr_client, "whole", publication="no")
    place.solr_client.delete(run.name)
    # The work of another thread beside posting costs nothing.
    inside = sum(watch.seconds.values())
    rows = [["index", part, seconds / inside * done["seconds"]] for part, seconds in watch.seconds.items()]
    return [["index", "start: Python", done["wall"] - done["seconds"]], *rows]


class Stopwatch:
    """Adds up the seconds of named parts of this thread's work; a part inside another counts only for itself."""

    def __init__(self) -> None:
        self.seconds = Counter()
        self._thread = threading.get_ident()
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time under ``name``, without the parts inside it."""
        if threading.get_ident() != self._thread:
            yield
            return
        self._lap()
        self._running.append(name)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def on(self, owner, name: str, part: str, generator: bool = False) -> Iterator[None]:
        """Count the time of the function ``owner.name``, or of a generator's steps, as a part, while the block runs."""
        original = getattr(owner, name)

        def steps(values):
            done = object()
            while True:
                with self.part(part):
                    value = next(values, done)
                if value is done:
                    return
                yield value

        @functools.wraps(original)
        def timed(*args, **options):
            if generator:
                return steps(original(*args, **options))
            with self.part(part):
                return original(*args, **options)

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)
