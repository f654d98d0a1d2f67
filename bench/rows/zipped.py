"""The tag job against one RDD a tree, zipped, as in the first TinyTags."""

import shutil

import numpy as np

from bench import mllib
from bench.harness import Comparison, Way
from bench.rows import tag


def measured(place):
    from pyspark.mllib.linalg import Vectors

    ours = tag.way(place, tag.make_run(place, place.corpus), tag.tagged_partitions(place))
    sample, theirs = place.images(place.sizes.zipped), {}

    # Each way has a session to itself: zipping leaves dozens of Python workers without a loaded forest.
    def renew_ours() -> None:
        place.stop_spark()
        ours.run()
        ours.before()

    def renew_theirs() -> None:
        place.stop_spark()
        # Zipping ends some workers' work early; over a Unix socket they report this as errors.
        spark = place.spark_on(place.cores, **{"spark.python.unix.domain.socket.enabled": "false"})
        shutil.rmtree(place.folder / "zipped", ignore_errors=True)
        theirs["model"] = mllib.to_ml(spark, place.forest, place.folder / "zipped")
        vectors = [Vectors.dense(image) for image in sample.astype(float)]
        theirs["vectors"] = spark.sparkContext.parallelize(vectors, place.cores)

    yield Comparison(
        "tag/zipped",
        Way(ours.run, ours.work, renew_ours),
        Way(lambda: mllib.zipped_votes(theirs["model"], theirs["vectors"]), len(sample), renew_theirs),
        same=lambda _, votes: np.array_equal(votes, place.forest.votes(sample)),
        rounds=min(place.sizes.rounds, 2),
        about={"images": len(sample)},
    )
    place.stop_spark()
