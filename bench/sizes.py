"""The amounts that a bench measures: in full, in under 3 minutes, or in seconds for tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Amounts, of images unless the name says otherwise; 0 or () leaves a part out."""

    name: str
    rounds: int
    train: int  # of the forest
    images: int  # in the corpus that is tagged
    partition: int
    read: int  # several times the processor's caches
    predict: int  # for scikit-learn and onnxruntime
    mllib: int
    zipped: int  # for one RDD a tree
    curve: int
    curve_trees: tuple[int, ...]
    curve_depths: tuple[int, ...]
    curve_grown: int  # trees that are trained for the curve; the others are these with their pixels moved
    tag: int
    ingest: int
    binary: int  # for Spark's binaryRecords
    hdfs: int
    index_documents: int
    search_documents: int
    searches: int  # a round
    pages: int  # a round
    thumbnail_partition: int
    growth: tuple[int, ...]
    growth_partitions: tuple[int, ...]
    growth_partitions_images: int
    whole: int
    fitted: int  # for training by MLlib


FULL = Sizes(
    name="full", rounds=5, train=50_000, images=1_000_000, partition=20_000,
    read=200_000, predict=20_000, mllib=8_000, zipped=300,
    curve=20_000, curve_trees=(10, 50, 100, 500), curve_depths=(10, 16), curve_grown=20,
    tag=400_000, ingest=200_000, binary=10_000, hdfs=320_000,
    index_documents=400_000, search_documents=1_000_000, searches=60, pages=200, thumbnail_partition=20_000,
    growth=(10_000, 100_000, 1_000_000), growth_partitions=(2_000, 20_000, 200_000), growth_partitions_images=200_000,
    whole=1_000_000, fitted=50_000,
)  # fmt: skip

QUICK = Sizes(
    name="quick", rounds=3, train=6_000, images=200_000, partition=20_000,
    read=100_000, predict=10_000, mllib=3_000, zipped=0,
    curve=5_000, curve_trees=(10, 50), curve_depths=(10,), curve_grown=10,
    tag=200_000, ingest=100_000, binary=3_000, hdfs=40_000,
    index_documents=60_000, search_documents=100_000, searches=50, pages=60, thumbnail_partition=512,
    growth=(), growth_partitions=(), growth_partitions_images=0, whole=0, fitted=0,
)  # fmt: skip

TINY = Sizes(
    name="tiny", rounds=1, train=400, images=1_000, partition=250,
    read=2_000, predict=300, mllib=50, zipped=10,
    curve=300, curve_trees=(10, 20), curve_depths=(3,), curve_grown=5,
    tag=1_000, ingest=500, binary=200, hdfs=500,
    index_documents=1_000, search_documents=2_000, searches=5, pages=5, thumbnail_partition=300,
    growth=(100, 500), growth_partitions=(100, 250), growth_partitions_images=500, whole=500, fitted=0,
)  # fmt: skip
