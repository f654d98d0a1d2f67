"""Train a random forest on a labelled corpus, measure it on images held out, and save it as a packed forest.

spark-submit --driver-memory 8g --py-files dist/tinytags.zip jobs/train_forest.py --corpus cifar-10 --model forest-10
"""

import functools
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import numpy as np

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, duration
from ingest.image import IMAGE_BYTES
from storage import layout

SEED = 0
HOLDOUT = 0.2
CORRECTED_BLOCK = 256


@click.command("train")
@click.option("--corpus", required=True, metavar="NAME", help="The labelled corpus to learn from.")
@click.option("--model", required=True, metavar="NAME", help="What to call the model.")
@click.option(
    "--trees", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Each has one vote."
)
@click.option(
    "--depth", type=click.IntRange(0, 30), default=10, show_default=True, help="Deepest a tree may grow."
)
@click.option(
    "--bins",
    type=click.IntRange(2, 256),
    default=50,
    show_default=True,
    help="Thresholds tried a feature (MLlib only).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=SEED,
    show_default=True,
    help="Decides what chance decides: the same seed and tasks (in the card) give the same forest.",
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=HOLDOUT,
    show_default=True,
    help="Share of the images kept to measure on, where the corpus doesn't come with a test part.",
)
@click.option(
    "--engine",
    type=click.Choice(["mllib", "scikit-learn"]),
    default="mllib",
    show_default=True,
    help="scikit-learn gives the same kind of model for local work, without a JVM.",
)
@click.option(
    "--corrections",
    is_flag=True,
    help="Also train on the corrections made on the page, on the latest one of each image.",
)
@settings_options("store", "webhdfs", "master", "database")
@json_option
def main(corpus, model, trees, depth, bins, seed, holdout, engine, corrections, settings, as_json):
    """Train a random forest on a labelled corpus.

    A corpus that says which images are for testing (CIFAR-10 and MNIST do) is trained on the others and measured on
    these; of any other, a seeded share is held out. The model's card has the accuracy, the confusion matrix and, for each
    number of votes, how many tags are kept and how many of these are right.
    """  # fmt: skip
    card = train_forest(settings, corpus, model, trees, depth, bins, seed, holdout, engine, corrections)
    from tagging.quality import describe

    trained_on = counted(card["trained_on"]["images"], "image") + (
        f" and {counted(card['trained_on']['corrections'], 'correction')}" if corrections else ""
    )
    summary = f"model {model}: {trained_on}, {counted(trees, 'tree')}, fitted in {duration(card['seconds']['fit'])}\n"
    report(card, summary + describe(card["quality"]), as_json)


def train_forest(
    settings: Settings, corpus: str, model: str, trees: int = 10, depth: int = 10, bins: int = 50, seed: int = SEED,
    holdout: float = HOLDOUT, engine: str = "mllib", corrections: bool = False,
) -> dict:  # fmt: skip
    """Train, measure and save a forest; return its card. With ``corrections`` it is also trained on those in the database.

    Raises `TinyTagsError` for a corpus without labels, for the name of another model, and where there are no corrections.
    """
    from ingest.corpus import open_corpus
    from jobs.runner import runner_module
    from storage.lease import lease
    from storage.store import check_name, open_store
    from tagging.models import model_exists, save_model

    check_name("model", model)
    store = open_store(settings.store, settings.webhdfs or None)
    source = open_corpus(store, corpus)
    if not source.classes:
        raise TinyTagsError(
            f"corpus {corpus!r} has no labels to learn from; ingest one that has, like CIFAR-10"
        )
    if engine == "mllib" and runner_module(settings.master) != "jobs.spark":
        raise TinyTagsError(
            f"MLlib needs Spark, and the master is {settings.master!r}: train with `--engine scikit-learn`, or on a Spark master "
            "like --master 'local[*]'"
        )
    part = functools.partial(choose, source, seed, holdout, train=True)
    corrected, correction_facts = Corrected.nothing(), {}
    if corrections:
        held_out = held_out_blocks(store, source, seed, holdout)
        part, corrected, digest = with_corrections(settings, store, source, part, held_out)
        correction_facts = {"corrections": len(corrected.labels), "corrections_hash": digest}
    parameters: dict[str, Any] = {"trees": trees, "depth": depth, "bins": bins, "seed": seed}
    if not source.splits:
        parameters["holdout"] = holdout
    with lease(store, layout.model_lease(model), f"model {model!r}"):
        if model_exists(store, model):
            raise TinyTagsError(
                f"model {model!r} is there already; give this one another name, or remove {store.url(f'models/{model}')}"
            )
        store.remove_temporary(
            layout.model_folder(model)
        )  # without a card, all there is was left by a killed attempt
        store.remove_tree(layout.model_spark(model))
        began = time.monotonic()
        fit = fit_mllib if engine == "mllib" else fit_scikit_learn
        forest, images, seconds = fit(settings, store, source, model, parameters, part, corrected)
        measured = time.monotonic()
        quality = measure(forest, held_out_blocks(store, source, seed, holdout))
        seconds |= {
            "measure": round(time.monotonic() - measured, 1),
            "all": round(time.monotonic() - began, 1),
        }
        card = {
            "engine": engine, "parameters": parameters,
            "trained_on": {"corpus": corpus, "corpus_hash": source.hash, "images": images - len(corrected.labels),
                           **correction_facts},
            "measured_on": {"corpus": corpus, "corpus_hash": source.hash, "images": quality["images"],
                            "part": "test" if source.splits else f"held out, {holdout:.0%}"},
            "quality": quality, "seconds": seconds,
        }  # fmt: skip
        return save_model(store, model, forest, card)


def choose(corpus, seed: int, holdout: float, partition: int, train: bool) -> np.ndarray:
    """Return which rows of a partition are for training, or for measuring: (n,) bool; the same for the same seed."""
    start, stop = corpus.rows(partition)
    if corpus.splits:
        first, last = corpus.splits["train" if train else "test"]
        rows = np.arange(start, stop)
        return (rows >= first) & (rows < last)
    held = np.random.default_rng([seed, partition]).random(stop - start) < holdout
    return held != train


class Corrected(NamedTuple):
    """Corrected images, for training beside the rows of a corpus."""

    images: np.ndarray  # (n, 3072) uint8
    labels: np.ndarray  # (n,) int32

    @classmethod
    def nothing(cls) -> "Corrected":
        return cls(np.empty((0, IMAGE_BYTES), np.uint8), np.empty(0, np.int32))


def with_corrections(settings: Settings, store, corpus, part, held_out) -> tuple:
    """Return ``part`` without the corrected rows, the corrected images, and the sha256 of the corrections.

    An image in the ``held_out`` blocks is never used for training, whichever corpus it was corrected in. Prints a note on
    the corrections that are left out, with the reasons.
    """
    from records.corrections import open_corrections
    from records.training import read_corrected

    corrections = open_corrections(settings.database)
    newest = corrections.newest()
    usable, images, labels, reasons = read_corrected(store, newest, corpus.classes)
    measured = {image.tobytes() for image in images}
    measured &= {image.tobytes() for block, _ in held_out for image in block} if measured else set()
    kept = [n for n, image in enumerate(images) if image.tobytes() not in measured]
    if len(kept) < len(usable):
        reasons.append(
            f"{len(usable) - len(kept):,} of images that corpus {corpus.name!r} keeps for measuring"
        )
    if reasons and kept:
        note(f"train: without {counted(len(newest) - len(kept), 'correction')}: {'; '.join(reasons)}")
    if not kept:
        raise TinyTagsError(
            f"database {corrections.address!r} has no correction to learn from{''.join(f'; {reason}' for reason in reasons)}; "
            "leave --corrections out, or correct tags on the pages of images"
        )
    used = [usable[n] for n in kept]
    own: dict[int, list[int]] = {}
    for one in used:
        if one.corpus_hash == corpus.hash:
            own.setdefault(one.partition, []).append(one.row)
    facts = [[one.corpus_hash, one.partition, one.row, one.label] for one in used]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return functools.partial(_others, part, own), Corrected(images[kept], labels[kept]), digest


def _others(part, own: dict[int, list[int]], partition: int) -> np.ndarray:
    """Return the rows in ``part`` without the partition's ``own``."""
    chosen = part(partition).copy()
    chosen[own.get(partition, [])] = False
    return chosen


def held_out_blocks(
    store, corpus, seed: int = SEED, holdout: float = HOLDOUT
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels of all rows that a model trained on this corpus is measured on."""
    part = functools.partial(choose, corpus, seed, holdout, train=False)
    for partition in range(corpus.partitions):
        yield from labelled_blocks(store, corpus, partition, part)


def labelled_blocks(store, corpus, partition: int, part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images (n, 3072) and labels (n,) of a partition's rows in ``part`` whose label is known."""
    from ingest.corpus import read_partition

    chosen = part(partition)
    if not chosen.any():
        return
    for block in read_partition(store, corpus, partition):
        rows = chosen[block.row : block.row + len(block.images)] & (block.labels >= 0)
        if rows.any():
            yield block.images[rows], block.labels[rows]


def fit_scikit_learn(
    settings: Settings, store, corpus, model: str, parameters: dict, part, corrected: Corrected
):
    """Fit in this process; return the packed forest, the number of images and the seconds taken."""
    from tagging.forest.scikit_learn import train

    began = time.monotonic()
    blocks = [block for p in range(corpus.partitions) for block in labelled_blocks(store, corpus, p, part)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*blocks, corrected, strict=True))
    if not len(images):
        raise TinyTagsError(f"corpus {corpus.name!r} has no labelled image to train on")
    note(
        f"train: {counted(len(images), 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, scikit-learn"
    )
    prepared = time.monotonic()
    parameters.pop("bins")  # scikit-learn tries every threshold
    forest, more = train(
        images, labels, corpus.classes, parameters["trees"], parameters["depth"], parameters["seed"]
    )
    parameters |= more
    seconds = {"prepare": round(prepared - began, 1), "fit": round(time.monotonic() - prepared, 1)}
    return forest, len(images), seconds


def fit_mllib(settings: Settings, store, corpus, model: str, parameters: dict, part, corrected: Corrected):
    """Fit on Spark; return the packed forest, the number of images and the seconds taken."""
    from jobs.session import open_session
    from jobs.spark import WorkerErrors

    options: dict[str, Any] = (
        {"spark.driver.memory": "6g", "spark.driver.maxResultSize": "0"}
        if settings.master.startswith("local")
        else {}
    )
    with open_session(settings.master, f"train {model}", **options) as spark:
        from pyspark.ml.classification import RandomForestClassifier

        began = time.monotonic()
        note(f"train: preparing the images of corpus {corpus.name!r}")
        # The number of tasks changes the forest: MLlib draws each tree's images task by task. Four keep two cores busy to the
        # end: with three one idles, with sixteen merging the statistics costs more.
        parameters["tasks"] = 2 * spark.sparkContext.defaultParallelism
        errors = WorkerErrors(spark)
        vectors = labelled_vectors(
            spark, store, corpus, part, parameters["tasks"], corrected, errors.caught
        ).cache()
        images = vectors.count()
        errors.check(f"train {model}")
        if not images:
            raise TinyTagsError(f"corpus {corpus.name!r} has no labelled image to train on")
        prepared = time.monotonic()
        note(
            f"train: {counted(images, 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, {parameters['bins']} bins; "
            "fitting (CIFAR-10's 50,000 take a minute or two on 2 cores)"
        )
        classifier = RandomForestClassifier(
            numTrees=parameters["trees"], maxDepth=parameters["depth"], maxBins=parameters["bins"], seed=parameters["seed"],
            labelCol="label", featuresCol="features",
        )  # fmt: skip
        fitted = classifier.fit(vectors)
        errors.check(f"train {model}")  # where memory is short, rows are read again
        done = time.monotonic()
        path = store.url(layout.model_spark(model))
        fitted.write().overwrite().save(path if "://" in path else f"file://{path}")
        forest = pack_mllib(spark, path if "://" in path else f"file://{path}", corpus.classes)
        return forest, images, {"prepare": round(prepared - began, 1), "fit": round(done - prepared, 1)}


def labelled_vectors(spark, store, corpus, part, tasks: int, corrected: Corrected, caught=lambda read: read):
    """Return a DataFrame of label (double) and features (vector) of the rows in ``part``, read by up to ``tasks`` tasks.

    ``caught`` wraps the function that reads them on workers, as `jobs.spark.WorkerErrors.caught` does.
    The ``corrected`` images come last, as one more partition. Each task reads its own rows; pixels go to the JVM as one
    flat array a block, with no object an image, in the layout of MLlib's vectors within Spark.
    `pyspark.ml.functions.array_to_vector` makes an object of each pixel, which takes twice as long.
    """
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DoubleType, StructField, StructType

    def read(batches):
        import pyarrow

        blocks: Iterator[tuple[np.ndarray, np.ndarray]]
        for batch in batches:
            mine = itertools.chain.from_iterable(slices[number] for number in batch.column(0).to_pylist())
            for partition, first, last in mine:
                if partition == corpus.partitions:
                    ends = [*range(first, last, CORRECTED_BLOCK), last]
                    blocks = (
                        (corrected.images[start:stop], corrected.labels[start:stop])
                        for start, stop in itertools.pairwise(ends)
                    )
                else:
                    rows = functools.partial(_slice, part, first, last)
                    blocks = labelled_blocks(store, corpus, partition, rows)
                for images, labels in blocks:
                    n = len(images)
                    pixels = pyarrow.array(images.astype(np.float64).ravel())
                    ends = np.arange(n + 1, dtype=np.int32) * images.shape[1]
                    vectors = {  # VectorUDT.sqlType, of dense ones
                        "type": pyarrow.array(np.ones(n, np.int8)),
                        "size": pyarrow.nulls(n, pyarrow.int32()),
                        "indices": pyarrow.nulls(n, pyarrow.list_(pyarrow.int32())),
                        "values": pyarrow.ListArray.from_arrays(ends, pixels),
                    }
                    vectors = pyarrow.StructArray.from_arrays(list(vectors.values()), list(vectors))
                    labels = pyarrow.array(labels.astype(np.float64))
                    yield pyarrow.RecordBatch.from_arrays([labels, vectors], ["label", "features"])

    sizes = [int(part(p).sum()) for p in range(corpus.partitions)]
    slices = even_slices([*sizes, len(corrected.labels)], tasks)
    # With the classes given, MLlib does not scan for the largest label, and a class without images keeps its place.
    nominal = {"ml_attr": {"type": "nominal", "vals": corpus.classes, "name": "label"}}
    label = StructField("label", DoubleType(), metadata=nominal)
    plain = StructType([label, StructField("features", VectorUDT.sqlType())])
    frame = spark.range(0, len(slices), 1, max(len(slices), 1)).mapInArrow(caught(read), plain)
    # The same rows, typed as vectors: PySpark has no function for that, its JVM has.
    schema = StructType([label, StructField("features", VectorUDT())])
    session = spark._jsparkSession
    vectors = session.internalCreateDataFrame(
        frame._jdf.queryExecution().toRdd(), session.parseDataType(schema.json()), False
    )
    return DataFrame(vectors, spark)


def even_slices(sizes: list[int], slices: int) -> list[list[tuple[int, int, int]]]:
    """Cut partitions of ``sizes`` rows into up to ``slices`` even lists of (partition, first row, last row + 1)."""
    ends = np.cumsum([0, *sizes])
    borders = np.unique(np.linspace(0, ends[-1], slices + 1).astype(int))
    return [
        [
            (p, int(max(start, ends[p]) - ends[p]), int(min(stop, ends[p + 1]) - ends[p]))
            for p in range(len(sizes))
            if max(start, ends[p]) < min(stop, ends[p + 1])
        ]
        for start, stop in itertools.pairwise(borders)
    ]


def _slice(part, first: int, last: int, partition: int) -> np.ndarray:
    """Return the rows in ``part`` without those before its ``first`` and from its ``last`` on."""
    chosen = part(partition)
    kept = np.zeros(len(chosen), bool)
    kept[np.flatnonzero(chosen)[first:last]] = True
    return kept


def pack_mllib(spark, path: str, classes: list[str]):
    """Return a saved MLlib forest as a packed one.

    The format is that of Spark's ``EnsembleModelReadWrite``: one row a node with treeID and nodeData, whose leftChild is
    negative for a leaf; an image goes left where its feature is <= the threshold. A leaf's class is the largest of its
    impurityStats, the lowest class on a tie, which is what each tree of MLlib predicts.
    """
    from tagging.forest import Tree, pack

    nodes = (
        spark.read.parquet(f"{path}/data")
        .selectExpr(
            "treeID", "nodeData.id", "nodeData.leftChild", "nodeData.rightChild", "nodeData.split.featureIndex",
            "get(nodeData.split.leftCategoriesOrThreshold, 0) AS threshold", "nodeData.impurityStats",
        )
        .toArrow()
        .sort_by([("treeID", "ascending"), ("id", "ascending")])
    )  # fmt: skip
    columns = {name: nodes[name].to_pylist() for name in nodes.column_names}
    trees = []
    tree_ids = np.asarray(columns["treeID"])
    for tree in np.unique(tree_ids):
        rows = np.flatnonzero(tree_ids == tree)
        left = np.array([columns["leftChild"][i] for i in rows])
        leaf = left < 0
        trees.append(
            Tree(
                feature=np.array([columns["featureIndex"][i] for i in rows]),
                threshold=np.array(
                    [0.0 if end else columns["threshold"][i] for end, i in zip(leaf, rows, strict=True)]
                ),
                left=left,
                right=np.array([columns["rightChild"][i] for i in rows]),
                leaf_class=np.array([np.argmax(columns["impurityStats"][i]) for i in rows]),
            )
        )
    return pack(trees, classes)


def measure(forest, blocks) -> dict:
    """Return the quality of a forest on blocks of images and labels. Raises `TinyTagsError` where there is none."""
    from tagging.quality import quality, tally, total

    tallies = [tally(forest.votes(images), labels, forest.voters) for images, labels in blocks]
    if not tallies:
        raise TinyTagsError("no labelled image is left to measure on; give more images or a larger --holdout")
    return quality(total(tallies), forest.classes)


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.train_forest import main

    run(main)
