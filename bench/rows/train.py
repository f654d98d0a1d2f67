"""Training with MLlib: the preparation of the images against MLlib's own fit."""

import numpy as np

from bench import made
from bench.harness import Comparison, Figure, Latencies, Way
from ingest.formats.tiny_images import open_tiny_images
from ingest.image import from_column_major


def measured(place):
    if not place.sizes.fitted:
        return
    place.stop_spark()  # frees the memory for the fit
    images, labels = (array[: place.sizes.fitted] for array in place.labelled)
    dump, labels_file = place.folder / "labelled.bin", place.folder / "labels.bin"
    from_column_major(images).tofile(dump)
    labels.astype(np.uint8).tofile(labels_file)
    source = open_tiny_images(str(dump), str(labels_file))
    made.make_corpus(place.store, source, "labelled", place.sizes.partition, place.cores)
    seconds = {}

    def prepare() -> Latencies:
        words = ("--corpus", "labelled", "--model", "mllib", "--holdout", "0.001")
        seconds.update(place.run_tinytags("train", *words, "--master", f"local[{place.cores}]")["seconds"])
        return Latencies([seconds["prepare"]])

    def share(ours, theirs) -> float:
        return ours.seconds[0] / theirs.seconds[0]

    yield Comparison(
        "train/prepare",
        f"preparing {len(images):,} labelled images for MLlib",
        Way("reading them into vectors", prepare, len(images)),
        Way("MLlib's fit, 10 trees, depth 10, 50 bins", lambda: Latencies([seconds["fit"]]), len(images)),
        figures=(Figure("share", share, 0.25, True, "of the fit"),),
        rounds=1,
        warm_ups=0,
        note="both once, in one run of `tinytags train`",
    )
