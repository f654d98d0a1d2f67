"""The tag job on all cores, from Parquet to JSON lines on disk, against the alternatives within Spark."""

import json
import shutil
from pathlib import Path

import numpy as np

from bench import mllib
from bench.harness import Comparison, UnequalError, Way
from bench.place import removed
from ingest.corpus import read_partition
from storage import layout, runs

STEP = "tag job, all cores, Parquet to JSON lines"


def measured(place):
    store, corpus, spark, rounds = place.store, place.corpus, place.spark, place.sizes.rounds
    partitions = list(range(max(1, place.sizes.tag // corpus.partition_images)))
    run = make_run(store, corpus, place.model, place.forest)
    images = sum(stop - start for start, stop in map(corpus.rows, partitions))
    ours = Way(
        "tinytags tag",
        lambda: tag(store, place.spark, corpus, run, partitions),
        images,
        before=lambda: forget(store, run),
    )
    folder = place.folder / "map-in-arrow"
    paths, base = place.parquet_paths(corpus, partitions), store.url(layout.corpus_images_folder(corpus.name))
    yield Comparison(
        "tag/map-in-arrow",
        STEP,
        ours,
        Way(
            "Parquet, mapInArrow with the same kernel, write.json",
            lambda: map_in_arrow(spark, base, paths, store, run, folder),
            images,
            before=removed(folder),
        ),
        target=5,
        same=lambda *_: same_documents(_our_lines(store, run, partitions), _spark_lines(folder)),
        rounds=rounds,
        note=f"{len(partitions)} partitions of {corpus.partition_images:,}",
    )
    count = place.sizes.mllib
    sample = place.split("sample", count, count // place.cores)
    sample_paths = place.parquet_paths(sample, range(sample.partitions))
    votes = place.forest.votes(first_images(store, sample, count))
    model, output = (
        mllib.to_ml(spark, place.forest, str(place.folder / "tag-ml")),
        place.folder / "tagged-by-mllib",
    )
    yield Comparison(
        "tag/mllib",
        STEP,
        ours,
        Way(
            "Spark vectors, MLlib transform",
            lambda: mllib.tag(spark, model, sample_paths, output),
            count,
            before=removed(output),
        ),
        target=150,
        same=lambda *_: np.array_equal(votes, mllib.tagged_votes(model, output, sample.partition_images)),
        rounds=rounds,
        warm_ups=2,
        note=f"MLlib on {count:,} images, from Parquet to JSON lines too",
    )
    if place.sizes.zipped:
        yield _against_zipped(place, ours)


def first_images(store, corpus, count: int) -> np.ndarray:
    """Return the first images of a corpus, (count, 3072) uint8."""
    blocks = []
    for p in range(corpus.partitions):
        if sum(map(len, blocks)) < count:
            blocks += [block.images for block in read_partition(store, corpus, p)]
    return np.concatenate(blocks)[:count]


def _against_zipped(place, ours: Way) -> Comparison:
    """Each way has a session to itself: zipping leaves dozens of Python workers without a loaded forest."""
    from pyspark.mllib.linalg import Vectors

    sample = place.pool[: place.sizes.zipped]
    theirs = {}

    def renew_ours() -> None:
        place.stop_spark()
        ours.run()
        ours.before()

    def renew_theirs() -> None:
        place.stop_spark()
        # Zipping ends some workers' work early; over a Unix socket they report this as errors.
        spark = place.spark_on(place.cores, **{"spark.python.unix.domain.socket.enabled": "false"})
        shutil.rmtree(place.folder / "mllib", ignore_errors=True)
        theirs["model"] = mllib.to_mllib(spark, place.forest, str(place.folder / "mllib"))
        vectors = [Vectors.dense(image) for image in sample.astype(float)]
        theirs["vectors"] = spark.sparkContext.parallelize(vectors, place.cores)

    return Comparison(
        "tag/zipped",
        STEP,
        Way(ours.name, ours.run, ours.work, renew_ours),
        Way(
            "one RDD a tree, zipped",
            lambda: mllib.zipped_votes(theirs["model"], theirs["vectors"], len(place.forest.classes)),
            len(sample),
            renew_theirs,
        ),
        target=10_000,
        same=lambda lines, votes: np.array_equal(votes, place.forest.votes(sample)),
        rounds=min(place.sizes.rounds, 2),
        note=f"as in the first TinyTags; on {len(sample):,} images, and it writes nothing",
    )


def make_run(store, corpus, model: str, forest) -> runs.Run:
    run = runs.Run(
        corpus.name, corpus.hash, model, forest.hash, 0.4, list(forest.classes), corpus.images, corpus.partitions,
        forest.trees,
    )  # fmt: skip
    runs.create_run(store, run)
    return run


def tag(store, spark, corpus, run, partitions: list[int]) -> int:
    """Tag partitions as `tinytags tag` does, in an existing session; return the number of documents."""
    from jobs.tag_images import tag_partition

    results = run_job(spark, "tag", partitions, lambda p: tag_partition(store, corpus, run, p))
    return sum(result["tagged"] for result in results)


def run_job(spark, what: str, partitions: list[int], task) -> list[dict]:
    """Run a task for each partition as the jobs do; raises `UnequalError` where one fails."""
    from jobs.spark import SparkRunner

    results, errors, _ = SparkRunner(spark).run(what, partitions, task)
    if errors:
        raise UnequalError(f"{what}: partitions failed: {errors}")
    return results


def forget(store, run) -> None:
    for part in ("tags", "statistics"):
        store.remove_tree(f"{layout.run_folder(run.name)}/{part}")


def map_in_arrow(spark, base: str, paths: list[str], store, run, folder: Path) -> None:
    """Tag Parquet files as in Spark's documentation: a DataFrame, a function of Arrow batches, a writer."""
    schema = (
        "id string, corpus string, partition int, row int, tag string, votes int, trees int, confidence double, "
        "runner_up string, runner_up_votes int, model string, run string"
    )

    def documents(batches):
        import pyarrow

        from tagging.models import load_exact_model

        forest = load_exact_model(store, run.model, run.model_hash)
        classes = np.array(run.classes)
        for batch in batches:
            images = np.frombuffer(batch["image"].buffers()[2], np.uint8)[: len(batch) * 3072]
            votes = forest.votes(images.reshape(-1, 3072))
            rows, best = np.arange(len(votes)), votes.argmax(axis=1)
            most = votes[rows, best]
            votes[rows, best] = 0
            second, kept = votes.argmax(axis=1), most >= 4
            partition, row = (batch[name].to_numpy()[kept] for name in ("partition", "row"))
            others, count = votes[rows, second][kept], len(row)
            columns = {
                "id": [
                    f"{run.prefix}:{p}:{r}" for p, r in zip(partition.tolist(), row.tolist(), strict=True)
                ],
                "corpus": [run.corpus] * count,
                "partition": partition.astype(np.int32),
                "row": row,
                "tag": classes[best[kept]],
                "votes": most[kept].astype(np.int32),
                "trees": np.full(count, run.trees, np.int32),
                "confidence": most[kept] / run.trees,
                "runner_up": pyarrow.array(classes[second[kept]], mask=others == 0),
                "runner_up_votes": pyarrow.array(others.astype(np.int32), mask=others == 0),
                "model": [run.model] * count,
                "run": [run.name] * count,
            }
            yield pyarrow.RecordBatch.from_pydict(columns)

    images = spark.read.option("basePath", base).parquet(*paths).select("partition", "row", "image")
    images.mapInArrow(documents, schema).write.json(f"file://{folder}")


def _our_lines(store, run, partitions: list[int]) -> list[bytes]:
    return [line for p in partitions for line in store.read_bytes(layout.run_tags(run.name, p)).splitlines()]


def _spark_lines(folder: Path) -> list[bytes]:
    return [line for path in folder.glob("part-*") for line in path.read_bytes().splitlines()]


def same_documents(ours: list[bytes], theirs: list[bytes]) -> None:
    """Raise `UnequalError` unless both are the same documents, in any order."""
    if len(ours) != len(theirs):
        raise UnequalError(f"{len(ours):,} documents against {len(theirs):,}")
    by_id = {document["id"]: document for document in map(json.loads, theirs)}
    for document in map(json.loads, ours):
        if by_id.get(document["id"]) != document:
            raise UnequalError(f"{document} against {by_id.get(document['id'])}")
