"""The forest kernel on one core, against reading every byte and against other implementations of a forest."""

import numpy as np

from bench import made, mllib
from bench.harness import Comparison, Way
from tagging.forest import compiled_kernel


def measured(place):
    sizes, forest = place.sizes, place.forest
    images = place.images(sizes.read)
    yield Comparison(
        "kernel/read",
        ours_of(forest, images),
        reading(images),
        same=lambda votes, most: (votes.sum(axis=1) == forest.trees).all() and most == images.max(),
        rounds=2 * sizes.rounds + 1,
        about={"megabytes": images.nbytes / 1e6},
    )
    some = images[: sizes.predict]
    yield against_scikit_learn(ours_of(forest, some), place.scikit_forest, some)
    yield against_onnx(ours_of(forest, some), place.scikit_forest, some)
    yield from _curve(place, images[: sizes.curve])
    yield from _against_mllib(place)


def ours_of(forest, images: np.ndarray) -> Way:
    compiled_kernel()  # the first images of a process are voted on without it
    return Way(lambda: forest.votes(images), len(images))


def reading(images: np.ndarray) -> Way:
    return Way(lambda: int(images.max()), len(images))


def against_scikit_learn(ours: Way, forest, images: np.ndarray) -> Comparison:
    theirs = Way(lambda: forest.predict(images), len(images))
    return Comparison(
        "kernel/scikit-learn", ours, theirs, lambda votes, tags: (votes.argmax(1) == tags).all()
    )


def against_onnx(ours: Way, forest, images: np.ndarray) -> Comparison:
    import onnxruntime
    from skl2onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = to_onnx(forest, images[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: images.astype(np.float32)}
    theirs = Way(lambda: session.run(None, inputs)[1], len(images))

    def same(votes: np.ndarray, shares: np.ndarray) -> bool:
        return (votes == np.rint(shares * forest.n_estimators)).all()

    return Comparison("kernel/onnxruntime", ours, theirs, same)


def _curve(place, images: np.ndarray):
    """Yield the kernel against reading for forests of more and deeper trees."""
    sizes = place.sizes
    for depth in sizes.curve_depths:
        grown = made.plain_trees(place.grown(sizes.curve_grown, depth))
        for trees in sizes.curve_trees:
            forest = made.packed(made.more_trees(grown, trees))
            about = {"trees": trees, "depth": depth, "nodes": len(forest.feature), "grown": sizes.curve_grown}
            yield Comparison(
                "kernel/curve",
                ours_of(forest, images),
                reading(images),
                same=lambda votes, _, trees=trees: (votes.sum(axis=1) == trees).all(),
                about=about,
            )


def _against_mllib(place):
    images, forest = place.images(place.sizes.mllib), place.forest
    model = mllib.to_ml(place.spark, forest, place.folder / "ml")
    frame = mllib.images_in_memory(place.spark, images)
    vectors = mllib.in_memory(mllib.vectors_of(frame))
    for name, theirs in (("mllib", lambda: mllib.vectors_of(frame)), ("mllib-vectors", lambda: vectors)):
        way = Way(lambda theirs=theirs: mllib.votes_of(model, mllib.transform(model, theirs())), len(images))
        yield Comparison(f"kernel/{name}", ours_of(forest, images), way, np.array_equal, warm_ups=3)
    vectors.unpersist()
    frame.unpersist()
