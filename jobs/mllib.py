"""Trains a forest with MLlib, Spark's library of models."""

import functools
import itertools
import re
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from conf.wording import counted
from ingest.corpus import Corpus
from ingest.image import IMAGE_BYTES
from jobs.corrected import Corrected
from jobs.engines import Fitted, Training
from jobs.session import open_session
from jobs.spark import WorkerErrors
from storage import layout
from storage.store import Store
from tagging.features import Features
from tagging.forest.mllib import COLUMNS, pack_nodes
from tagging.training import Part, labelled_blocks, mirrored
from tagging.types import LabelledBlock

CORRECTED_BLOCK = 256


def fit(training: Training) -> Fitted:
    """Fit on Spark and pack the forest. Adds "tasks" to the parameters."""
    settings, store, corpus, model = training.settings, training.store, training.corpus, training.model
    parameters = training.parameters
    options: dict[str, Any] = (
        {"spark.driver.memory": "6g", "spark.driver.maxResultSize": "0"}
        if settings.master.startswith("local")
        else {}
    )
    with open_session(settings.master, f"train {model}", **options) as spark:
        from pyspark.ml.classification import RandomForestClassifier

        began = time.monotonic()
        training.note(f"preparing the images of corpus {corpus.name!r}")
        # The number of tasks changes the forest: MLlib draws each tree's images task by task. Four keep two cores busy to the
        # end: with three one idles, with sixteen merging the statistics costs more.
        parameters["tasks"] = 2 * spark.sparkContext.defaultParallelism
        errors = WorkerErrors(spark)
        vectors = labelled_vectors(
            spark,
            store,
            corpus,
            training.part,
            parameters["tasks"],
            training.corrected,
            errors.caught,
            training.features,
            training.classes,
        ).cache()
        images = vectors.count() // (2 if training.mirrored else 1)
        errors.check(f"train {model}")
        if not images:
            raise training.no_images()
        prepared = time.monotonic()
        training.note(
            f"{counted(images, 'image')}, {counted(parameters['trees'], 'tree')}, depth {parameters['depth']}, {parameters['bins']} bins; "
            "fitting (CIFAR-10's 50,000 take a minute or two on 2 cores)"
        )
        classifier = RandomForestClassifier(
            numTrees=parameters["trees"], maxDepth=parameters["depth"], maxBins=parameters["bins"], seed=parameters["seed"],
            labelCol="label", featuresCol="features",
        )  # fmt: skip
        fitted = classifier.fit(vectors)
        errors.check(f"train {model}")  # where memory is short, rows are read again
        done = time.monotonic()
        url = store.url(layout.model_spark(model))
        if "://" not in url:
            url = f"file://{url}"
        fitted.write().overwrite().save(url)
        forest = pack_nodes(
            spark.read.parquet(_without_patterns(f"{url}/data")).selectExpr(*COLUMNS).toArrow(),
            training.classes,
            training.features.length if training.features else IMAGE_BYTES,
        )
        return Fitted(
            forest, images, {"prepare": round(prepared - began, 1), "fit": round(done - prepared, 1)}
        )


def _without_patterns(url: str) -> str:
    """Return a URL that Spark reads as it is: a store may be in a folder called ``[2024]``."""
    return re.sub(r"([\[\]{}?*\\])", r"\\\1", url)


def labelled_vectors(
    spark: Any, store: Store, corpus: Corpus, part: Part, tasks: int, corrected: Corrected, caught=lambda read: read,
    features: Features | None = None, classes: list[str] | None = None,
) -> Any:  # fmt: skip
    """Return a DataFrame of label (double) and features (vector) of the rows in ``part``, read by up to ``tasks`` tasks.

    ``caught`` wraps the function that reads them on workers, as `jobs.spark.WorkerErrors.caught` does.
    With ``features``, these are computed by the tasks, of mirrored images too where they say so. ``classes`` are all that
    labels may be, where these are more than those of the corpus.
    The ``corrected`` images come last, as one more partition. Each task reads its own rows; pixels go to the JVM as one
    flat array a block, with no object an image, in the layout of MLlib's vectors within Spark.
    `pyspark.ml.functions.array_to_vector` makes an object of each pixel, which takes twice as long.
    """
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DoubleType, StructField, StructType

    twice = features is not None and features.mirrored

    def read(batches):
        import pyarrow

        blocks: Iterable[LabelledBlock]
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
                    blocks = labelled_blocks(store, corpus, partition, rows, None if twice else features)
                for images, labels in _inputs(blocks, features, twice, partition == corpus.partitions):
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
    nominal = {"ml_attr": {"type": "nominal", "vals": classes or corpus.classes, "name": "label"}}
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


def _inputs(
    blocks: Iterable[LabelledBlock], features: Features | None, twice: bool, pixels: bool
) -> Iterable[LabelledBlock]:
    """Yield what is learnt from: features of blocks that are still ``pixels``, or of each image and its mirror image."""
    for inputs, labels in blocks:
        if features is None or not (twice or pixels):
            yield inputs, labels
        else:
            yield features.codes(inputs), labels
            if twice:
                yield features.codes(mirrored(inputs)), labels


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


def _slice(part: Part, first: int, last: int, partition: int) -> np.ndarray:
    """Return the rows in ``part`` without those before its ``first`` and from its ``last`` on."""
    chosen = part(partition)
    kept = np.zeros(len(chosen), bool)
    kept[np.flatnonzero(chosen)[first:last]] = True
    return kept
