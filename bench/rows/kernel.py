"""The forest kernel on one core, against reading every byte and against other ways to walk a forest."""

import numpy as np

from bench import made, mllib
from bench.harness import Comparison, UnequalError, Way, speed

STEP = "forest kernel, one core"


def measured(place):
    sizes, forest = place.sizes, place.forest
    images = place.images(sizes.read)
    yield Comparison(
        "kernel/read",
        STEP,
        Way("packed forest", lambda: forest.votes(images), len(images)),
        Way("reading every byte once", lambda: int(images.max()), len(images)),
        "images",
        same=lambda votes, most: (votes.sum(axis=1) == forest.trees).all() and most == images.max(),
        figures=(speed(0.55),),
        rounds=2 * sizes.rounds + 1,
        note=f"{images.nbytes / 1e6:,.0f} MB; numpy's max() is the fastest reader tried",
    )
    some = images[: sizes.predict]
    ours = Way("packed forest", lambda: forest.votes(some), len(some))
    yield against_scikit_learn(ours, place.scikit_forest, some, sizes.rounds)
    yield against_onnx(ours, place.scikit_forest, some, sizes.rounds)
    yield from _curve(place, images[: sizes.curve])
    yield from _against_mllib(place)


def against_scikit_learn(ours: Way, forest, images: np.ndarray, rounds: int) -> Comparison:
    return Comparison(
        "kernel/scikit-learn",
        STEP,
        ours,
        Way("scikit-learn predict", lambda: forest.predict(images), len(images)),
        "images",
        same=lambda votes, tags: (votes.argmax(axis=1) == tags).all(),
        figures=(speed(15),),
        rounds=rounds,
        note="one core, trees of which each leaf is of one class: the same votes",
    )


def against_onnx(ours: Way, forest, images: np.ndarray, rounds: int) -> Comparison:
    import onnxruntime
    from skl2onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = to_onnx(forest, images[:1].astype(np.float32), options={"zipmap": False})
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    floats = images.astype(np.float32)

    def predict() -> np.ndarray:
        _, shares = session.run(None, {session.get_inputs()[0].name: floats})
        return shares

    return Comparison(
        "kernel/onnxruntime",
        STEP,
        ours,
        Way("onnxruntime's tree ensemble", predict, len(images)),
        "images",
        same=lambda votes, shares: (votes == np.rint(shares * forest.n_estimators)).all(),
        figures=(speed(7),),
        rounds=rounds,
        note="one thread; turning the pixels into the floats that it takes is not counted",
    )


def _against_mllib(place):
    images, forest = place.pool[: place.sizes.mllib], place.forest
    model = mllib.to_ml(place.spark, forest, str(place.folder / "ml"))
    frame = mllib.images_in_memory(place.spark, images, parts=1)
    vectors = mllib.vectors_in_memory(frame)
    for name, theirs, target, note in (
        ("mllib", lambda: mllib.vectors_of(frame), 400, "both from images in memory"),
        ("mllib-vectors", lambda: vectors, None, "its vectors in memory already"),
    ):
        yield Comparison(
            f"kernel/{name}",
            STEP,
            Way("packed forest", lambda: forest.votes(images), len(images)),
            Way(
                f"MLlib transform, {note}",
                lambda theirs=theirs: mllib.transformed_votes(model, theirs()),
                len(images),
            ),
            "images",
            same=np.array_equal,
            figures=(speed(target),),
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
            yield Comparison(
                f"kernel/curve-{trees}-{depth}",
                f"{trees} trees, depth {depth}",
                Way("packed forest", lambda forest=forest: forest.votes(images), len(images)),
                Way("reading every byte once", lambda: int(images.max()), len(images)),
                "images",
                same=lambda votes, most, trees=trees: _all_voted(votes, trees),
                figures=(speed(),),
                rounds=sizes.rounds,
                note=f"{sizes.curve_grown} trees are trained, the others are these with their pixels moved",
                about={
                    "trees": trees,
                    "depth": depth,
                    "nodes": len(forest.feature),
                    "megabytes": images.nbytes / 1e6,
                },
            )


def _all_voted(votes: np.ndarray, trees: int) -> None:
    if not (votes.sum(axis=1) == trees).all():
        raise UnequalError(f"an image has not got the votes of {trees} trees")
