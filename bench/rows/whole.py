"""Where the time of a whole run goes: each command as a person gives it, and the work inside it taken apart."""

import contextlib
import functools
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench import made
from bench.harness import Table
from bench.place import ROOT
from conf.errors import TinyTagsError
from indexing import index
from indexing.solr import Solr
from ingest import corpus as corpora
from ingest import files
from ingest.formats import tiny_images
from ingest.image import IMAGE_BYTES
from storage import layout, runs

# So many partitions are taken apart, one after the other in this process.
TAKEN_APART = 5
COLUMNS = ("step", "part", "seconds", "share")


def measured(place):
    images = place.sizes.whole
    if not images:
        return
    place.stop_spark()
    source = made.first_of(place.dump, images)
    path = place.folder / "whole.bin"
    _copy_head(place.dump, path, images * IMAGE_BYTES)
    partition = str(place.sizes.partition)
    master = ("--master", f"local[{place.cores}]")
    place.model  # noqa: B018 - saved when asked for
    told = {}
    for step, words in {
        "ingest": ("ingest", str(path), "--format", "tiny-images", "--corpus", "whole", "--partition-images", partition, *master),
        "tag": ("tag", "--corpus", "whole", "--model", place.model, *master),
        "index": (),
    }.items():  # fmt: skip
        words = words or ("index", told["tag"]["run"], "--solr", place.solr.url, "--no-publish")
        place.told(f"tinytags {words[0]}, {images:,} images")
        told[step] = _command(place, words)
    path.unlink()
    place.told("taking the work apart")
    corpus = corpora.open_corpus(place.store, "whole")
    run = runs.open_run(place.store, told["tag"]["run"])
    rows = _job("ingest", told["ingest"], place.cores, images, *_ingest_parts(place.store, corpus, source))
    rows += _job("tag", told["tag"], place.cores, images, *_tag_parts(place.store, corpus, run))
    rows += _index_rows(place, run, told["index"])
    place.store.remove_tree(layout.corpus_folder("whole"))
    total = sum(row[2] for row in rows)
    yield Table(
        "whole",
        f"Where the time of a whole run of {images:,} images goes",
        COLUMNS,
        [[*row, row[2] / total] for row in rows],
        note=f"the commands one after the other, {place.cores} cores; parts of a job are taken from {TAKEN_APART} partitions done "
        "in one process and divided by the cores",
    )


def _copy_head(source: Path, target: Path, length: int) -> None:
    with open(source, "rb") as head, open(target, "wb") as file:
        while file.tell() < length:
            file.write(head.read(min(1 << 22, length - file.tell())))


def _command(place, words: tuple[str, ...]) -> dict:
    began = time.perf_counter()
    done = subprocess.run(place.tinytags(*words, "--json"), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise TinyTagsError(f"tinytags {words[0]} ends with {done.returncode}: {done.stderr[-300:]}")
    return json.loads(done.stdout) | {"wall": time.perf_counter() - began}


def _job(step: str, told: dict, cores: int, images: int, parts: Counter, taken: int) -> list[list]:
    """Return rows of a job on Spark: its start, its parts as they are on all cores, and what is left."""
    job = images / told["images_per_second"]
    rows = [[step, "start: Python, Spark, manifests", told["wall"] - job]]
    rows += [[step, part, seconds / taken * images / cores] for part, seconds in parts.items()]
    inside = sum(row[2] for row in rows[1:])
    return [*rows, [step, "scheduling, waiting for each other", max(job - inside, 0.0)]]


def _ingest_parts(store, corpus, source) -> tuple[Counter, int]:
    import pyarrow.parquet

    watch = Stopwatch()
    writer = pyarrow.parquet.ParquetWriter
    taken = range(min(TAKEN_APART, corpus.partitions))
    with (
        watch.on(files, "read_into", "read the dump"),
        watch.on(tiny_images, "from_column_major", "columns to rows"),
        watch.on(writer, "write_table", "Parquet, checksums, write"),
        watch.on(os, "fsync", "wait for the disk"),
        watch.part("the rest"),
    ):
        for p in taken:
            corpora.write_partition(store, corpus, p, source)
    return watch.seconds, sum(stop - start for start, stop in map(corpus.rows, taken))


def _tag_parts(store, corpus, run) -> tuple[Counter, int]:
    from jobs.tag_images import tag_partition
    from tagging import tags
    from tagging.forest import PackedForest

    tag_partition(store, corpus, run, 0)  # loads the model and the kernel
    watch = Stopwatch()
    taken = range(min(TAKEN_APART, corpus.partitions))
    with (
        watch.on_generator(corpora, "read_partition", "read Parquet, check"),
        watch.on(PackedForest, "votes", "kernel"),
        watch.on(tags, "documents", "votes to JSON lines"),
        watch.on(os, "fsync", "wait for the disk"),
        watch.part("write, hash, the rest"),
    ):
        for p in taken:
            tag_partition(store, corpus, run, p)
    return watch.seconds, sum(stop - start for start, stop in map(corpus.rows, taken))


def _index_rows(place, run, told: dict) -> list[list]:
    """Take indexing apart: index the run once more in this process."""
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
    # What another thread did beside posting costs nothing.
    inside = sum(watch.seconds.values())
    rows = [["index", part, seconds / inside * told["seconds"]] for part, seconds in watch.seconds.items()]
    return [["index", "start: Python", told["wall"] - told["seconds"]], *rows]


class Stopwatch:
    """Adds up the seconds that named parts of this thread's work take; what happens within a part counts only there."""

    def __init__(self) -> None:
        self.seconds = Counter()
        self._thread = threading.get_ident()
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time under ``name``, but for the parts inside it."""
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
    def on(self, owner, name: str, part: str) -> Iterator[None]:
        """Count what the function ``owner.name`` takes as a part, while the block runs."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args, **options):
            with self.part(part):
                return original(*args, **options)

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)

    @contextlib.contextmanager
    def on_generator(self, owner, name: str, part: str) -> Iterator[None]:
        """The same for a function that yields: what it takes to come to each next value."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args, **options):
            values = original(*args, **options)
            while True:
                with self.part(part):
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                yield value

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)
