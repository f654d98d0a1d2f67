"""Converts a packed forest to Spark's MLlib, so that both have exactly the same votes.

Both of MLlib's libraries load a model from files. In these, a leaf's statistics are all of one class, so that MLlib's mean
of shares is a count of votes.
"""

import json
from pathlib import Path

import numpy as np

from ingest.image import IMAGE_BYTES
from tagging.forest import PackedForest


def to_ml(spark, forest: PackedForest, folder: str):
    """Return the forest as a ``pyspark.ml`` model; its files are written to ``folder``.

    The format is that of ``EnsembleModelReadWrite``: ``data`` has a row a node, numbered from 0, children after parents.
    It depends on the version of Spark; so a small model is trained and saved as a pattern, and its trees are replaced.
    """
    from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
    from pyspark.ml.linalg import Vectors

    rows = [(i % 2.0, Vectors.dense([i % 2.0])) for i in range(8)]
    pattern, path = f"file://{folder}/pattern", f"file://{folder}/model"
    pattern_model = RandomForestClassifier(numTrees=forest.trees, maxDepth=1).fit(
        spark.createDataFrame(rows, ["label", "features"])
    )
    pattern_model.write().overwrite().save(pattern)
    metadata = json.loads(spark.read.text(f"{pattern}/metadata").first()[0])
    metadata |= {"numFeatures": forest.features, "numClasses": len(forest.classes)}
    spark.read.parquet(f"{pattern}/treesMetadata").write.parquet(f"{path}/treesMetadata")

    def node(tree, i: int, left: int, right: int):
        leaf = left < 0
        votes = [float(leaf and k == tree.leaf_class[i]) for k in range(len(forest.classes))]
        split = (-1, [], -1) if leaf else (int(tree.feature[i]), [float(tree.threshold[i])], -1)
        return ((i, float(np.argmax(votes)), 0.0, votes, 1, -1.0 if leaf else 1.0, left, right, split),)

    _write(spark, path, metadata, forest, node, spark.read.parquet(f"{pattern}/data").schema)
    return RandomForestClassificationModel.load(path)


def to_mllib(spark, forest: PackedForest, folder: str):
    """Return the forest as a ``pyspark.mllib`` model, the older library; its files are written to ``folder``.

    The format is that of ``TreeEnsembleModel.SaveLoadV1_0``: a row a node, the root of each tree has number 1.
    """
    from pyspark.mllib.tree import RandomForestModel

    path = f"file://{folder}/old-model"
    metadata = {
        "class": "org.apache.spark.mllib.tree.model.RandomForestModel",
        "version": "1.0",
        "metadata": {
            "algo": "Classification", "treeAlgo": "Classification", "combiningStrategy": "Vote",
            "treeWeights": [1.0] * forest.trees,
        },
    }  # fmt: skip
    schema = (
        "treeId int, nodeId int, predict struct<predict double, prob double>, impurity double, isLeaf boolean, "
        "split struct<feature int, threshold double, featureType int, categories array<double>>, "
        "leftNodeId int, rightNodeId int, infoGain double"
    )

    def node(tree, i: int, left: int, right: int):
        if left < 0:
            return i + 1, (float(tree.leaf_class[i]), 1.0), 0.0, True, None, None, None, None
        split = (int(tree.feature[i]), float(tree.threshold[i]), 0, [])
        return i + 1, (0.0, 1.0), 0.0, False, split, left + 1, right + 1, 1.0

    _write(spark, path, metadata, forest, node, schema)
    return RandomForestModel.load(spark.sparkContext, path)


def _write(spark, path: str, metadata: dict, forest: PackedForest, node, schema) -> None:
    """Write the metadata and a row for each node of a model."""
    spark.createDataFrame([(json.dumps(metadata),)], "value string").coalesce(1).write.text(
        f"{path}/metadata"
    )
    rows = []
    for number in range(forest.trees):
        tree = forest.tree(number)
        for i, children in enumerate(zip(tree.left.tolist(), tree.right.tolist(), strict=True)):
            rows.append((number, *node(tree, i, *children)))
    spark.createDataFrame(rows, schema).coalesce(1).write.parquet(f"{path}/data")


def images_in_memory(spark, images: np.ndarray, parts: int):
    """Return ``images`` (n, 3072) uint8 as a DataFrame of their bytes, numbered by ``row``, in memory in ``parts`` parts."""
    rows = [(number, image.tobytes()) for number, image in enumerate(images)]
    return in_memory(spark.createDataFrame(rows, "row int, image binary").repartition(parts))


def in_memory(frame):
    """Return a DataFrame that is held in memory."""
    frame = frame.cache()
    frame.count()
    return frame


def vectors_of(frame):
    """Replace the images of a DataFrame by vectors, ``features``; pixels go to the JVM as flat arrays."""
    from pyspark.ml.functions import array_to_vector

    fields = [field for field in frame.schema.fields if field.name != "image"]
    names = [*(field.name for field in fields), "pixels"]

    def read(batches):
        import pyarrow

        for batch in batches:
            images = pixels_of(batch["image"])
            ends = pyarrow.array(np.arange(len(images) + 1, dtype=np.int32) * images.shape[1])
            pixels = pyarrow.ListArray.from_arrays(ends, pyarrow.array(images.astype(np.float64).ravel()))
            yield pyarrow.RecordBatch.from_arrays([*(batch[name] for name in names[:-1]), pixels], names)

    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in fields)
    frame = frame.mapInArrow(read, f"{schema}, pixels array<double>")
    return frame.select(*names[:-1], array_to_vector("pixels").alias("features"))


def transform(model, frame):
    """Return the output of ``pyspark.ml`` for vectors: ``tag`` and ``shares``, a list of each class' share of the trees."""
    from pyspark.ml.functions import vector_to_array

    columns = [column for column in frame.columns if column != "features"]
    frame = model.transform(frame)
    shares = vector_to_array("probability").alias("shares")
    return frame.select(*columns, frame.prediction.alias("tag"), shares)


def transformed_votes(model, frame) -> np.ndarray:
    """Return the votes of ``pyspark.ml`` for a DataFrame of vectors, (n, classes) uint16 in the order of their rows."""
    table = transform(model, frame).toArrow()
    return _votes(table["row"].to_numpy(), table["shares"].combine_chunks().flatten().to_numpy(), model)


def tag(spark, model, paths: list[str], folder: Path) -> None:
    """Tag partitions of a corpus by ``pyspark.ml``, from Parquet to JSON lines."""
    frame = spark.read.option("basePath", paths[0].split("/partition=")[0]).parquet(*paths)
    transform(model, vectors_of(frame.select("partition", "row", "image"))).write.json(f"file://{folder}")


def tagged_votes(model, folder: Path, partition_images: int) -> np.ndarray:
    """Return the votes that `tag` wrote, (n, classes) uint16 in the order of partitions and rows."""
    documents = [json.loads(line) for path in folder.glob("part-*") for line in path.read_text().splitlines()]
    rows = np.array([one["partition"] * partition_images + one["row"] for one in documents])
    return _votes(rows, np.array([one["shares"] for one in documents]), model)


def pixels_of(images) -> np.ndarray:
    """Return the bytes of an Arrow array of images as (n, 3072) uint8, without a copy."""
    _, ends, pixels = images.buffers()
    first = np.frombuffer(ends, np.int32)[images.offset]
    return np.frombuffer(pixels, np.uint8, len(images) * IMAGE_BYTES, first).reshape(-1, IMAGE_BYTES)


def _votes(rows: np.ndarray, shares: np.ndarray, model) -> np.ndarray:
    ordered = np.empty((len(rows), model.numClasses), np.uint16)
    ordered[rows] = np.rint(shares.reshape(ordered.shape) * model.getNumTrees)
    return ordered


def zipped_votes(model, vectors, classes: int) -> np.ndarray:
    """Predict an RDD of vectors by each tree of a ``pyspark.mllib`` forest, zip the RDDs and count; (n, classes) uint16."""
    from pyspark.mllib.tree import DecisionTreeModel

    predictions = [DecisionTreeModel(tree).predict(vectors) for tree in model._java_model.trees()]
    zipped = predictions[0].map(lambda tag: [tag])
    for prediction in predictions[1:]:
        zipped = zipped.zip(prediction).map(lambda pair: [*pair[0], pair[1]])
    tags = np.array(zipped.collect()).astype(int)
    return np.apply_along_axis(np.bincount, 1, tags, minlength=classes).astype(np.uint16)
