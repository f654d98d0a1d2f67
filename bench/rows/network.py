"""The tag job with a network on all cores, against onnxruntime alone and against Spark's own way to run a model."""

import numpy as np

from bench import mllib
from bench.harness import Comparison, Way
from bench.place import removed
from bench.rows.tag import forget, run_job
from storage import layout, runs
from tagging.models import save_model
from tagging.network import BATCH, Network
from tagging.network.recipes import RECIPES, Recipe

MODEL, CLASSES = "network", 10
# Images of a call of Spark's function.
UDF_BATCH = 256
LEAST = 0.4


def measured(place):
    store, spark, count = place.store, place.spark, place.sizes.network
    network = Network(tuple(f"class {number}" for number in range(CLASSES)), graph())
    save_model(store, MODEL, network, {"engine": "none: random weights"})
    corpus = place.split("for-the-network", count, count // (2 * place.cores))
    images = place.images(count)
    run = runs.Run(
        corpus.name, corpus.hash, MODEL, network.hash, LEAST, list(network.classes), corpus.images, corpus.partitions, None
    )  # fmt: skip
    runs.create_run(store, run)
    partitions, folder = range(corpus.partitions), place.folder / "predict-batch-udf"
    paths = place.parquet_paths(corpus, partitions)

    def tag() -> int:
        from jobs.tag_images import tag_partition

        results = run_job(spark, "tag", corpus, partitions, lambda p: tag_partition(store, corpus, run, p))
        return sum(result["tagged"] for result in results)

    ours = Way(tag, count, lambda: forget(store, run))
    session = onnx_session(network.graph, place.cores)
    yield Comparison(
        "network/onnxruntime",
        ours,
        Way(lambda: alone(session, images), count),
        about={"weights": weights(network.graph), "images": count},
    )
    yield Comparison(
        "network/predict-batch-udf",
        ours,
        Way(lambda: predict_batch_udf(spark, paths, network.graph, folder), count, removed(folder)),
        warm_ups=2,
        about={"images": count, "batch": UDF_BATCH},
    )
    store.remove_tree(layout.run_folder(run.name))


def onnx_session(graph: bytes, threads: int):
    """Return onnxruntime's session with its own settings but for the threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def alone(session, images: np.ndarray) -> int:
    """Return how many images in memory get a confidence of `LEAST` or more."""
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    most = np.concatenate([session.run(None, {"image": batch})[0].max(axis=1) for batch in batches])
    return int((np.rint(most * runs.PROBABILITY_STEPS) >= LEAST * runs.PROBABILITY_STEPS).sum())


def predict_batch_udf(spark, paths: list[str], graph: bytes, folder) -> int:
    """Tag Parquet files as Spark's documentation runs a model, with one thread a task; return the number of tags."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions
    from pyspark.sql.types import ArrayType, FloatType

    def make_predict():
        session = onnx_session(graph, 1)

        def predict(images):
            pixels = np.frombuffer(b"".join(images), np.uint8).reshape(len(images), -1)
            return session.run(None, {"image": pixels})[0]

        return predict

    predict = predict_batch_udf(make_predict, return_type=ArrayType(FloatType()), batch_size=UDF_BATCH)
    frame = mllib.read_images(spark, paths)
    frame = frame.select("partition", "row", predict("image").alias("shares"))
    frame = frame.select("partition", "row", "shares", functions.array_max("shares").alias("confidence"))
    steps = runs.PROBABILITY_STEPS
    frame = frame.where(functions.round(frame.confidence * steps) >= LEAST * steps)
    tag = functions.expr("array_position(shares, confidence) - 1").alias("tag")
    frame.select("partition", "row", "confidence", tag).write.json(str(folder))
    return spark.read.json(str(folder)).count()


def graph(recipe: Recipe = RECIPES["medium"], seed: int = 0) -> bytes:
    """Return an ONNX network of the layers of a recipe, with random weights: it is as fast as a trained one without the mean with mirror images."""
    import onnx.parser
    from onnx import numpy_helper

    random = np.random.default_rng(seed)
    arrays = {"middle": np.float32(127.5), "scale": np.float32(1 / 64), "planes": np.array([-1, 3, 32, 32])}
    steps = ["x1 = Cast<to = 1>(image)"]

    def layer(operator: str, *more: str) -> None:
        inputs = f"x{len(steps)}", *more
        steps.append(f"x{len(steps) + 1} = {operator}({', '.join(inputs)})")

    def convolution(channels: int, before: int, side: int, pad: int, step: int = 1) -> None:
        weights = random.normal(size=(channels, before, side, side)) * np.sqrt(2 / (before * side * side))
        names = f"w{len(arrays)}", f"b{len(arrays)}"
        arrays.update(zip(names, (weights.astype(np.float32), np.zeros(channels, np.float32)), strict=True))
        layer(f"Conv<pads = {[pad] * 4}, strides = {[step] * 2}>", *names)

    def silu() -> None:
        layer("Sigmoid")
        layer("Mul", f"x{len(steps) - 1}")

    for operator, array in (("Sub", "middle"), ("Mul", "scale"), ("Reshape", "planes")):
        layer(operator, array)
    before = 2 * recipe.components
    convolution(before, 3, recipe.patch, (recipe.patch - recipe.step) // 2, recipe.step)
    layer("Relu")
    for width in recipe.widths:
        convolution(width, before, 3, pad=1)
        layer("MaxPool<kernel_shape = [2, 2], strides = [2, 2]>")
        silu()
        convolution(width, width, 3, pad=1)
        silu()
        before = width
    layer("GlobalMaxPool")
    layer("Flatten")
    arrays["last"] = random.normal(size=(before, CLASSES)).astype(np.float32) * np.float32(6 / before)
    layer("MatMul", "last")
    layer("Softmax")
    signature = f"bench (uint8[batch, 3072] image) => (float[batch, {CLASSES}] x{len(steps)})"
    head = '<ir_version: 8, opset_import: ["": 17]>'
    model = onnx.parser.parse_model(f"{head} {signature} {{ {' '.join(steps)} }}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    data: bytes = model.SerializeToString()
    return data


def weights(graph: bytes) -> int:
    """Return the number of weights of an ONNX network."""
    import onnx

    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load_from_string(graph).graph.initializer)
