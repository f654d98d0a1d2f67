"""The tag job on all cores, from Parquet to JSON lines on disk, against what else Spark offers."""

import json
import shutil
from pathlib import Path

import numpy as np

from bench import mllib
from bench.harness import Comparison, UnequalError, Way, speed
from ingest.corpus import read_partition
from storage import layout, runs

STEP = "tag job, all cores, Parquet to JSON lines"


def measured(place):
    corpus, spark = place.corpus, place.spark
    partitions = list(range(max(1, place.sizes.tag // corpus.partition_images)))
    run = make_run(place.store, corpus, place.model, place.forest)
    images = sum(stop - start for start, stop in map(corpus.rows, partitions))
    ours = Way(
        "tinytags tag",
        lambda: tag(place.store, spark, corpus, run, partitions),
        images,
        before=lambda: forget(place.store, run),
    )
    folder = place.folder / "map-in-arrow"
    paths = [place.store.url(layout.corpus_images(corpus.name, p)) for p in partitions]
    base = place.store.url(layout.corpus_images_folder(corpus.name))
    yield Comparison(
        "tag/map-in-arrow",
        STEP,
        ours,
        Way(
            "Parquet, mapInArrow with the same kernel, write.json",
            lambda: map_in_arrow(spark, base, paths, place.store, run, folder),
            images,
            before=lambda: shutil.rmtree(folder, ignore_errors=True),
        ),
        "images",
        same=lambda lines, documents: same_documents(
            _lines(place.store, run, partitions), _spark_lines(folder)
        ),
        figures=(speed(5),),
        rounds=place.sizes.rounds,
        note=f"{len(partitions)} partitions of {corpus.partition_images:,}",
    )
    yield _against_mllib(place, ours)
    if place.sizes.zipped:
        yield _against_zipped(place, run, partitions, ours)


def _against_mllib(place, ours: Way) -> Comparison:
    spark, count = place.spark, place.sizes.mllib
    sample = place.split("sample", count, count // place.cores)
    paths = [place.store.url(layout.corpus_images(sample.name, p)) for p in range(sample.partitions)]
    votes = place.forest.votes(first_images(place.store, sample, count))
    model = mllib.to_ml(spark, place.forest, str(place.folder / "tag-ml"))
    folder = place.folder / "tagged-by-mllib"
    return Comparison(
        "tag/mllib",
        STEP,
        ours,
        Way(
            "Spark vectors, MLlib transform",
            lambda: mllib.tag(spark, model, paths, folder),
            count,
            before=lambda: shutil.rmtree(folder, ignore_errors=True),
        ),
        "images",
        same=lambda *_: np.array_equal(votes, mllib.tagged_votes(model, folder, sample.partition_images)),
        figures=(speed(150),),
        rounds=place.sizes.rounds,
        warm_ups=2,
        note=f"MLlib on {count:,} images, from Parquet to JSON lines too",
    )


def first_images(store, corpus, count: int) -> np.ndarray:
    """Return the first images of a corpus, (count, 3072) uint8."""
    found = []
    for p in range(corpus.partitions):
        if sum(map(len, found)) < count:
            found += [block.images for block in read_partition(store, corpus, p)]
    return np.concatenate(found)[:count]


def _against_zipped(place, run, partitions: list[int], ours: Way) -> Comparison:
    """Each way has a session to itself: zipping leaves dozens of Python workers behind, who know nothing of forests."""
    from pyspark.mllib.linalg import Vectors

    sample = place.pool[: place.sizes.zipped]
    theirs = {}

    def renew_ours() -> None:
        place.stop_spark()
        tag(place.store, place.spark, place.corpus, run, partitions)
        ours.before()

    def renew_theirs() -> None:
        place.stop_spark()
        # Zipping ends some workers' work early, of which they complain where they are reached by another socket.
        spark = place.spark_on(place.cores, **{"spark.python.unix.domain.socket.enabled": "false"})
        shutil.rmtree(place.folder / "mllib", ignore_errors=True)
        theirs["model"] = mllib.to_mllib(spark, place.forest, str(place.folder / "mllib"))
        vectors = [Vectors.dense(image) for image in sample.astype(float)]
        theirs["vectors"] = spark.sparkContext.parallelize(vectors, place.cores)

    return Comparison(
        "tag/zipped",
        STEP,
        Way(
            ours.name,
            lambda: tag(place.store, place.spark, place.corpus, run, partitions),
            ours.work,
            renew_ours,
        ),
        Way(
            "one RDD a tree, zipped",
            lambda: mllib.zipped_votes(theirs["model"], theirs["vectors"], len(place.forest.classes)),
            len(sample),
            renew_theirs,
        ),
        "images",
        same=lambda lines, votes: np.array_equal(votes, place.forest.votes(sample)),
        figures=(speed(10_000),),
        rounds=min(place.sizes.rounds, 2),
        note=f"what the first TinyTags did; on {len(sample):,} images, and it writes nothing",
    )


def make_run(store, corpus, model: str, forest) -> runs.Run:
    run = runs.Run(
        corpus.name, corpus.hash, model, forest.hash, 0.4, list(forest.classes), corpus.images, corpus.partitions,
        forest.trees,
    )  # fmt: skip
    runs.create_run(store, run)
    return run


def tag(store, spark, corpus, run, partitions: list[int]) -> int:
    """Tag partitions as `tinytags tag` does, in a session that is there already; return the number of documents."""
    from jobs.spark import SparkRunner
    from jobs.tag_images import tag_partition

    results, errors, _ = SparkRunner(spark).run(
        "tag", partitions, lambda p: tag_partition(store, corpus, run, p)
    )
    if errors:
        raise UnequalError(f"partitions were not tagged: {errors}")
    return sum(result["tagged"] for result in results)


def forget(store, run) -> None:
    for part in ("tags", "statistics"):
        store.remove_tree(f"{layout.run_folder(run.name)}/{part}")


def map_in_arrow(spark, base: str, paths: list[str], store, run, folder: Path) -> None:
    """Tag Parquet files the way that Spark's documentation leads to: a DataFrame, a function of Arrow batches, a writer."""
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
            images = np.frombuffer(batch["image"].buffers()[2], np.uint8)[: len(batch) * 3072].reshape(
                -1, 3072
            )
            votes = forest.votes(images)
            best = votes.argmax(axis=1)
            rows = np.arange(len(votes))
            most = votes[rows, best]
            votes[rows, best] = 0
            second = votes.argmax(axis=1)
            kept = most >= 4
            partition, row = (batch[name].to_numpy()[kept] for name in ("partition", "row"))
            others = votes[rows, second][kept]
            count = len(row)
            yield pyarrow.RecordBatch.from_pydict(
                {
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
            )

    images = spark.read.option("basePath", base).parquet(*paths).select("partition", "row", "image")
    images.mapInArrow(documents, schema).write.json(f"file://{folder}")


def _lines(store, run, partitions: list[int]) -> list[bytes]:
    return [line for p in partitions for line in store.read_bytes(layout.run_tags(run.name, p)).splitlines()]


def _spark_lines(folder: Path) -> list[bytes]:
    return [line for path in folder.glob("part-*") for line in path.read_bytes().splitlines()]


def same_documents(ours: list[bytes], theirs: list[bytes]) -> None:
    """Raise `UnequalError` unless both are the same documents, in whichever order."""
    if len(ours) != len(theirs):
        raise UnequalError(f"{len(ours):,} documents against {len(theirs):,}")
    found = {document["id"]: document for document in map(json.loads, theirs)}
    for document in map(json.loads, ours):
        if found.get(document["id"]) != document:
            raise UnequalError(f"{document} against {found.get(document['id'])}")
