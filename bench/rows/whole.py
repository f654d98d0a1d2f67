"""The time of a whole run: each command as a user runs it, and the parts of its work."""

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

from bench import made
from bench.harness import UnequalError, single
from bench.rows.full import even, rates
from indexing.index import index_run
from ingest.corpus import open_corpus
from ingest.formats.tiny_images import open_tiny_images
from ingest.partition import write_partition
from storage import layout
from storage.runs import open_run

# So many partitions are profiled, one after the other in this process; then times are divided by the cores.
PROFILED = 5
# The functions of each part; none calls another.
WAIT = {"wait for the disk": ("<built-in method posix.fsync>",)}
INGEST = WAIT | {
    "read the dump": ("read_into",),
    "columns to rows": ("from_column_major",),
    "Parquet, checksums, write": ("write_table",),
}
TAG = WAIT | {
    "read Parquet, check": ("read_partition",),
    "kernel": ("votes",),
    "votes to JSON lines": ("winners", "documents"),
}
INDEX = {"read tags, hash": ("read_tags",), "commit": ("commit",), "count": ("counts",)}


def measured(place):
    from jobs.tag_images import tag_partition

    images, store = place.sizes.whole, place.store
    place.stop_spark()
    path = made.write_dump(place.folder / "whole.bin", place.pool, images)
    master = ("--master", f"local[{place.cores}]")
    words = (str(path), "--format", "tiny-images", "--corpus", "whole")
    ingested = place.run_tinytags("ingest", *words, "--partition-images", str(place.sizes.partition), *master)
    tagged = place.run_tinytags("tag", "--corpus", "whole", "--model", place.model, *master)
    if not tagged["tagged"] + tagged["dropped"] == tagged["images"] == ingested["images"] == images:
        raise UnequalError(f"{images:,} images, but {tagged['tagged'] + tagged['dropped']:,} results")
    corpus, run, source = (
        open_corpus(store, "whole"),
        open_run(store, tagged["run"]),
        open_tiny_images(str(path)),
    )
    folders = layout.corpus_statistics_folder("whole"), layout.run_statistics_folder(run.name)
    for step, done, folder in zip(("ingest", "tag"), (ingested, tagged), folders, strict=True):
        yield single(f"whole/{step}", done["images_per_second"], images=images)
        ended = sorted(file.stat().st_mtime for file in Path(store.url(folder)).iterdir())
        times = [ended[-1] - images / done["images_per_second"], *ended]
        yield even(step, rates([(time, n * corpus.partition_images) for n, time in enumerate(times)], images))
    indexed = place.run_tinytags("index", run.name, "--solr", place.solr.url, "--no-publish")

    place.note("profiling the work")
    profiled = range(min(PROFILED, corpus.partitions))
    share = min(len(profiled) * corpus.partition_images / images, 1) * place.cores  # of the work of a core

    def rows(step: str, seconds: dict[str, float]) -> list[dict]:
        return [single("whole/part", s, images=images, step=step, part=part) for part, s in seconds.items()]

    def job(step: str, command: dict, functions: dict, task: Callable[[int], object]) -> list[dict]:
        """Return rows of a job: its start, its parts on all cores, and the time in which they did not run."""
        seconds = images / command["images_per_second"]
        parts = profile(functions, lambda: list(map(task, profiled)))
        parts = {part: value / share for part, value in parts.items()}
        parts = {"start: Python, Spark, manifests": command["wall"] - seconds} | parts
        return rows(step, parts | {"scheduling, waiting": max(command["wall"] - sum(parts.values()), 0.0)})

    yield from job("ingest", ingested, INGEST, lambda p: write_partition(store, corpus, p, source))
    tag_partition(store, corpus, run, 0)  # loads the model and the kernel
    yield from job("tag", tagged, TAG, lambda p: tag_partition(store, corpus, run, p))

    client = place.solr_client
    client.delete(run.name)
    client.create(run.name)
    # The work of another thread beside posting costs nothing. The rest is mostly the wait for Solr to take documents.
    parts = profile(INDEX, lambda: index_run(store, run.name, client, "whole", publication="no"))
    size = made.total(store, run, "bytes")
    yield single("whole/read-tags", size / 1e6 / parts["read tags, hash"])
    inside = indexed["seconds"] / sum(parts.values())
    parts = {part: seconds * inside for part, seconds in parts.items()}
    yield from rows("index", {"start: Python": indexed["wall"] - indexed["seconds"]} | parts)
    client.delete(run.name)
    path.unlink()
    store.remove_tree(layout.corpus_folder("whole"))


def profile(parts: dict[str, tuple[str, ...]], work: Callable[[], object]) -> dict[str, float]:
    """Do some work and return the seconds of each part of it in this thread, then of the rest.

    ``parts`` are names of functions, of which none calls another; one that is not called is an error.
    """
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats, cumulative = pstats.Stats(profiler), {}
    for (_, _, function), (_, _, _, seconds, _) in stats.stats.items():
        cumulative[function] = cumulative.get(function, 0.0) + seconds
    seconds = {name: sum(cumulative[function] for function in functions) for name, functions in parts.items()}
    return seconds | {"the rest": stats.total_tt - sum(seconds.values())}
