"""The tag job on all cores, from Parquet to JSON lines on disk, against the alternatives within Spark."""

import functools
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench import mllib
from bench.harness import Comparison, UnequalError, Way
from bench.place import removed
from storage import layout, runs


def measured(place):
    store, corpus, spark, count = place.store, place.corpus, place.spark, place.sizes.mllib
    partitions, run = tagged_partitions(place), make_run(place, place.corpus)
    ours, folder = way(place, run, partitions), place.folder / "map-in-arrow"
    paths, lines = place.parquet_paths(corpus, partitions), [layout.run_tags(run.name, p) for p in partitions]
    yield Comparison(
        "tag/map-in-arrow",
        ours,
        Way(lambda: map_in_arrow(spark, paths, store, run, folder), ours.work, removed(folder)),
        lambda *_: same_documents(map(store.read_bytes, lines), spark.read.json(str(folder)).toArrow()),
        about={"partitions": len(partitions), "partition": corpus.partition_images},
    )
    sample = place.split("sample", count, count // place.cores)
    paths, output = place.parquet_paths(sample, range(sample.partitions)), place.folder / "tagged-by-mllib"
    model = mllib.to_ml(spark, place.forest, place.folder / "tag-ml")
    votes = place.forest.votes(place.images(count))
    yield Comparison(
        "tag/mllib",
        ours,
        Way(lambda: mllib.tag(spark, model, paths, output), count, removed(output)),
        lambda *_: np.array_equal(votes, mllib.votes_of(model, spark.read.json(str(output)))),
        warm_ups=2,
        about={"images": count},
    )


def tagged_partitions(place) -> list[int]:
    """Return the partitions of the place's corpus that are tagged."""
    return list(range(max(1, place.sizes.tag // place.corpus.partition_images)))


def make_run(place, corpus, store=None, descriptor: str | None = None) -> runs.Run:
    """Make a run of a corpus by the place's forest, in its store or another."""
    forest, model = place.forest, place.model
    run = runs.Run(
        corpus.name, corpus.hash, model, forest.hash, 0.4, list(forest.classes), corpus.images, corpus.partitions,
        forest.trees, descriptor=descriptor,
    )  # fmt: skip
    runs.create_run(store or place.store, run)
    return run


def way(place, run, partitions, corpus=None, store=None) -> Way:
    """Return the tagging of partitions as `tinytags tag` does it, in an existing session; the result is the documents."""
    from jobs.tag_images import tag_partition

    corpus, store = corpus or place.corpus, store or place.store

    def tag() -> int:
        task = functools.partial(tag_partition, store, corpus, run)
        return sum(result["tagged"] for result in run_job(place.spark, "tag", corpus, partitions, task))

    images = sum(stop - start for start, stop in map(corpus.rows, partitions))
    return Way(tag, images, lambda: forget(store, run))


def run_job(spark, what: str, corpus, partitions, task) -> list[dict]:
    """Run a task for each partition as the jobs do; raises `UnequalError` where one fails."""
    from jobs.spark import SparkRunner

    results, errors, _ = SparkRunner(spark).run(what, list(partitions), task, total=corpus.images)
    if errors:
        raise UnequalError(f"{what}: partitions failed: {errors}")
    return results


def forget(store, run) -> None:
    for folder in (layout.run_tags_folder, layout.run_statistics_folder):
        store.remove_tree(folder(run.name))


def map_in_arrow(spark, paths: list[str], store, run, folder: Path) -> None:
    """Tag Parquet files as in Spark's documentation: a DataFrame, a function of Arrow batches, a writer."""
    schema = (
        "id string, corpus string, partition int, row int, tag string, votes int, trees int, confidence double, "
        "runner_up string, runner_up_votes int, model string, run string"
    )

    def documents(batches):
        import pyarrow

        from tagging.models import load_exact_model
        from tagging.tags import winners

        forest = load_exact_model(store, run.model, run.model_hash)
        classes, least = np.array(run.classes), run.min_confidence * run.trees
        for batch in batches:
            best = winners(forest.votes(mllib.pixels_of(batch["image"])))
            kept = np.flatnonzero(best.votes >= least)
            partition, row = (batch[name].to_numpy()[kept] for name in ("partition", "row"))
            votes, others = best.votes[kept].astype(np.int32), best.runner_up_votes[kept].astype(np.int32)
            ids = [f"{run.prefix}:{p}:{r}" for p, r in zip(partition.tolist(), row.tolist(), strict=True)]
            runners_up = (pyarrow.array(a, mask=others == 0) for a in (classes[best.runner_up[kept]], others))
            columns = [
                ids, [run.corpus] * len(kept), partition.astype(np.int32), row, classes[best.tag[kept]], votes,
                np.full(len(kept), run.trees, np.int32), votes / run.trees, *runners_up, [run.model] * len(kept),
                [run.name] * len(kept),
            ]  # fmt: skip
            names = [column.split()[0] for column in schema.split(", ")]
            yield pyarrow.RecordBatch.from_pydict(dict(zip(names, columns, strict=True)))

    mllib.read_images(spark, paths).mapInArrow(documents, schema).write.json(str(folder))


def same_documents(ours: Iterable[bytes], theirs) -> bool:
    """Return whether JSON lines and an Arrow table have the same documents, in any order."""
    import pyarrow.json

    tables = pyarrow.json.read_json(io.BytesIO(b"".join(ours))), theirs
    ours, theirs = (table.select(sorted(table.column_names)).sort_by("id") for table in tables)
    return ours.equals(theirs)
