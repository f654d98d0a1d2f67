"""The forest kernel on one core, against reading every byte and against other implementations of a forest."""

import numpy as np

from bench import made, mllib
from bench.harness import Comparison, Way
from tagging.forest import compiled_kernel

STEP = "forest kernel, one core"


def measured(place):
    sizes, forest = place.sizes, place.forest
    images = place.images(sizes.read)
    yield Comparison(
        "kernel/read",
        STEP,
        ours_of(forest, images),
        reading(images),
        target=0.55,
        same=lambda votes, most: (votes.sum(axis=1) == forest.trees).all() and most == images.max(),
        rounds=2 * sizes.rounds + 1,
        note=f"{images.nbytes / 1e6:,.0f} MB; numpy's max() is the fastest reader tried",
    )
    some = images[: sizes.predict]
    for against in (against_scikit_learn, against_onnx):
        yield against(ours_of(forest, some), place.scikit_forest, some, sizes.rounds)
    yield from _curve(place, images[: sizes.curve])
    yield from _against_mllib(place)


def ours_of(forest, images: np.ndarray) -> Way:
    compiled_kernel()  # the first images of a process are voted on without it
    return Way("packed forest", lambda: forest.votes(images), len(images))


def reading(images: np.ndarray) -> Way:
    return Way("reading every byte once", lambda: int(images.max()), len(images))


def against_scikit_learn(ours: Way, forest, images: np.ndarray, rounds: int) -> Comparison:
    return Comparison(
        "kernel/scikit-learn",
        STEP,
        ours,
        Way("scikit-learn predict", lambda: forest.predict(images), len(images)),
        target=15,
        same=lambda votes, tags: (votes.argmax(axis=1) == tags).all(),
        rounds=rounds,
        note="one core, trees of which each leaf is of one class: the same votes",
    )


def against_onnx(ours: Way, forest, images: np.ndarray, rounds: int) -> Comparison:
    import onnxruntime
    from skl2onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = to_onnx(forest, images[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: images.astype(np.float32)}
    return Comparison(
        "kernel/onnxruntime",
        STEP,
        ours,
        Way("onnxruntime's tree ensemble", lambda: session.run(None, inputs)[1], len(images)),
        target=7,
        same=lambda votes, shares: (votes == np.rint(shares * forest.n_estimators)).all(),
        rounds=rounds,
        note="one thread; the conversion of pixels to floats is not counted",
    )


def _against_mllib(place):
    images, forest = place.pool[: place.sizes.mllib], place.forest
    model = mllib.to_ml(place.spark, forest, str(place.folder / "ml"))
    frame = mllib.images_in_memory(place.spark, images, parts=1)
    vectors = mllib.in_memory(mllib.vectors_of(frame))
    for name, theirs, target, note in (
        ("mllib", lambda: mllib.vectors_of(frame), 400, "both from images in memory"),
        ("mllib-vectors", lambda: vectors, None, "its vectors in memory already"),
    ):
        yield Comparison(
            f"kernel/{name}",
            STEP,
            ours_of(forest, images),
            Way(
                f"MLlib transform, {note}",
                lambda theirs=theirs: mllib.transformed_votes(model, theirs()),
                len(images),
            ),
            target=target,
            same=np.array_equal,
            rounds=place.sizes.rounds,
            warm_ups=3,
            note="MLlib as one task",
        )
    vectors.unpersist()
    frame.unpersist()


def _curve(place, images: np.ndarray):
    """Yield the kernel against reading for forests of more and deeper trees."""
    sizes = place.sizes
    for depth in sizes.curve_depths:
        grown = made.plain_trees(place.grown(sizes.curve_grown, max(sizes.curve_depths)), depth)
        for trees in sizes.curve_trees:
            forest = made.packed(made.more_trees(grown, trees))
            about = {"trees": trees, "depth": depth, "nodes": len(forest.feature)}
            yield Comparison(
                f"kernel/curve-{trees}-{depth}",
                f"{trees} trees, depth {depth}",
                ours_of(forest, images),
                reading(images),
                same=lambda votes, most, trees=trees: (votes.sum(axis=1) == trees).all(),
                rounds=sizes.rounds,
                note=f"{sizes.curve_grown} trees are trained, the others are these with their pixels moved",
                about=about,
            )
