"""Training with MLlib: the preparation of the images against MLlib's own fit."""

import numpy as np

from bench import made
from bench.harness import Comparison, Latencies, Way
from ingest.formats.tiny_images import open_tiny_images
from ingest.image import from_column_major


def measured(place):
    place.stop_spark()  # frees the memory for the fit
    images, labels = (array[: place.sizes.fitted] for array in place.labelled)
    dump, labels_file = place.folder / "labelled.bin", place.folder / "labels.bin"
    from_column_major(images).tofile(dump)
    labels.astype(np.uint8).tofile(labels_file)
    source = open_tiny_images(str(dump), str(labels_file))
    made.make_corpus(place.store, source, made.corpus_of(source, "labelled", place.sizes.partition))
    seconds = {}

    def prepare() -> Latencies:
        words = ("--corpus", "labelled", "--model", "mllib", "--holdout", "0.001")
        seconds.update(place.run_tinytags("train", *words, "--master", f"local[{place.cores}]")["seconds"])
        return Latencies([seconds["prepare"]])

    yield Comparison(
        "train/prepare",
        Way(prepare, len(images)),
        Way(lambda: Latencies([seconds["fit"]]), len(images)),
        figures={"train/prepare": lambda ours, fit: ours.seconds[0] / fit.seconds[0]},
        rounds=1,
        warm_ups=0,
        about={"images": len(images)},
    )
