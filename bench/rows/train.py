"""Training with MLlib: what preparing the images costs beside MLlib's own fit."""

import json
import subprocess

import numpy as np

from bench import made
from bench.harness import Comparison, Figure, Latencies, Way
from bench.place import ROOT
from conf.errors import TinyTagsError
from ingest.formats.tiny_images import open_tiny_images
from ingest.image import from_column_major


def measured(place):
    if not place.sizes.fitted:
        return
    place.stop_spark()  # the fit wants the memory
    images, labels = (array[: place.sizes.fitted] for array in place.labelled)
    dump, labels_file = place.folder / "labelled.bin", place.folder / "labels.bin"
    from_column_major(images).tofile(dump)
    labels.astype(np.uint8).tofile(labels_file)
    source = open_tiny_images(str(dump), str(labels_file))
    made.make_corpus(place.store, source, "labelled", place.sizes.partition, place.cores)
    trained = {}

    def train() -> dict:
        place.told(f"training on {len(images):,} images with MLlib; a minute or two")
        words = ("train", "--corpus", "labelled", "--model", "mllib", "--holdout", "0.001", "--json")
        command = place.tinytags(*words, "--master", f"local[{place.cores}]")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise TinyTagsError(f"tinytags train ends with {done.returncode}: {done.stderr[-300:]}")
        trained.update(json.loads(done.stdout)["seconds"])
        return trained

    yield Comparison(
        "train/prepare",
        f"preparing {len(images):,} labelled images for MLlib",
        Way("reading them into vectors", lambda: Latencies([train()["prepare"]]), len(images)),
        Way("MLlib's fit, 10 trees, depth 10, 50 bins", lambda: Latencies([trained["fit"]]), len(images)),
        "images",
        figures=(
            Figure(
                "share", lambda ours, theirs: ours.seconds[0] / theirs.seconds[0], 0.25, True, "of the fit"
            ),
        ),
        rounds=1,
        warm_ups=0,
        note="both once, in one run of `tinytags train`",
    )
