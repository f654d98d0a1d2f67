"""Converts a packed forest to Spark's MLlib, so that both have exactly the same votes.

A leaf's statistics are all of one class, so that MLlib's mean of shares is a count of votes.
"""

import json
from pathlib import Path

import numpy as np

from ingest.image import IMAGE_BYTES
from tagging.forest import PackedForest


def to_ml(spark, forest: PackedForest, folder: Path):
    """Return the forest as a ``pyspark.ml`` model; its files are written to ``folder``.

    The format is that of ``EnsembleModelReadWrite``: ``data`` has a row a node, numbered from 0, children after parents.
    It depends on the version of Spark; so a small model is trained and saved as a pattern, and its trees are replaced.
    """
    from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
    from pyspark.ml.linalg import Vectors

    examples = [(i % 2.0, Vectors.dense([i % 2.0])) for i in range(8)]
    pattern, path = f"{folder}/pattern", f"{folder}/model"
    frame = spark.createDataFrame(examples, ["label", "features"])
    RandomForestClassifier(numTrees=forest.trees, maxDepth=1).fit(frame).write().overwrite().save(pattern)
    metadata = json.loads(spark.read.text(f"{pattern}/metadata").first()[0])
    metadata |= {"numFeatures": forest.features, "numClasses": len(forest.classes)}
    frame = spark.createDataFrame([(json.dumps(metadata),)], "value string")
    frame.coalesce(1).write.text(f"{path}/metadata")
    spark.read.parquet(f"{pattern}/treesMetadata").write.parquet(f"{path}/treesMetadata")
    rows = []
    for number in range(forest.trees):
        tree = forest.tree(number)
        for i, (left, right) in enumerate(zip(tree.left.tolist(), tree.right.tolist(), strict=True)):
            leaf = left < 0
            votes = [float(leaf and k == tree.leaf_class[i]) for k in range(len(forest.classes))]
            split = (-1, [], -1) if leaf else (int(tree.feature[i]), [float(tree.threshold[i])], -1)
            node = (i, float(np.argmax(votes)), 0.0, votes, 1, -1.0 if leaf else 1.0, left, right, split)
            rows.append((number, node))
    schema = spark.read.parquet(f"{pattern}/data").schema
    spark.createDataFrame(rows, schema).coalesce(1).write.parquet(f"{path}/data")
    return RandomForestClassificationModel.load(path)


def images_in_memory(spark, images: np.ndarray):
    """Return ``images`` (n, 3072) uint8 as a DataFrame of their bytes, numbered by ``row``, in memory in one part."""
    rows = [(number, image.tobytes()) for number, image in enumerate(images)]
    return in_memory(spark.createDataFrame(rows, "row int, image binary").repartition(1))


def in_memory(frame):
    """Return a DataFrame that is held in memory."""
    frame = frame.cache()
    frame.count()
    return frame


def vectors_of(frame):
    """Replace the images of a DataFrame by vectors, ``features``; pixels go to the JVM as flat arrays."""
    from pyspark.ml.functions import array_to_vector

    names = [name for name in frame.columns if name != "image"]

    def read(batches):
        import pyarrow

        for batch in batches:
            images = pixels_of(batch["image"])
            ends = pyarrow.array(np.arange(len(images) + 1, dtype=np.int32) * images.shape[1])
            pixels = pyarrow.ListArray.from_arrays(ends, pyarrow.array(images.astype(np.float64).ravel()))
            yield pyarrow.record_batch([*(batch[name] for name in names), pixels], [*names, "pixels"])

    schema = "".join(f"{name} {kind}, " for name, kind in frame.select(*names).dtypes)
    frame = frame.mapInArrow(read, f"{schema}pixels array<double>")
    return frame.select(*names, array_to_vector("pixels").alias("features"))


def transform(model, frame):
    """Return the output of ``pyspark.ml`` for vectors: ``tag`` and ``shares``, a list of each class' share of the trees."""
    from pyspark.ml.functions import vector_to_array

    columns = [column for column in frame.columns if column != "features"]
    frame = model.transform(frame)
    shares = vector_to_array("probability").alias("shares")
    return frame.select(*columns, frame.prediction.alias("tag"), shares)


def read_images(spark, paths: list[str]):
    """Return the images of partitions of a corpus, with ``partition`` and ``row``, as a DataFrame."""
    frame = spark.read.option("basePath", paths[0].split("/partition=")[0]).parquet(*paths)
    return frame.select("partition", "row", "image")


def tag(spark, model, paths: list[str], folder: Path) -> None:
    """Tag partitions of a corpus by ``pyspark.ml``, from Parquet to JSON lines."""
    transform(model, vectors_of(read_images(spark, paths))).write.json(str(folder))


def votes_of(model, frame) -> np.ndarray:
    """Return the votes in the output of `transform`, (n, classes) uint16 in the order of partitions and rows."""
    table = frame.toArrow()
    keys = [(name, "ascending") for name in ("partition", "row") if name in table.column_names]
    table = table.sort_by(keys)
    shares = table["shares"].combine_chunks().flatten().to_numpy()
    return np.rint(shares.reshape(len(table), -1) * model.getNumTrees).astype(np.uint16)


def pixels_of(images) -> np.ndarray:
    """Return the bytes of an Arrow array of images as (n, 3072) uint8, without a copy."""
    _, ends, pixels = images.buffers()
    first = np.frombuffer(ends, np.int32)[images.offset]
    return np.frombuffer(pixels, np.uint8, len(images) * IMAGE_BYTES, first).reshape(-1, IMAGE_BYTES)


def zipped_votes(model, vectors) -> np.ndarray:
    """Predict an RDD of vectors by each tree of a ``pyspark.ml`` forest in the older library, ``pyspark.mllib``, zip the RDDs
    and count; (n, classes) uint16.
    """
    from pyspark.mllib.tree import DecisionTreeModel

    predictions = [DecisionTreeModel(tree.toOld()).predict(vectors) for tree in model._java_obj.trees()]
    zipped = predictions[0].map(lambda tag: [tag])
    for prediction in predictions[1:]:
        zipped = zipped.zip(prediction).map(lambda pair: [*pair[0], pair[1]])
    tags = np.array(zipped.collect()).astype(int)
    return np.apply_along_axis(np.bincount, 1, tags, minlength=model.numClasses).astype(np.uint16)
