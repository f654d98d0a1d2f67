"""The amounts that a bench measures: in full or in under 3 minutes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Amounts, of images unless the name says otherwise; the defaults are those of the full bench."""

    name: str = "full"
    rounds: int = 5
    train: int = 50_000  # of the forest
    images: int = 1_000_000  # in the corpus that is tagged
    partition: int = 20_000
    read: int = 200_000  # several times the processor's caches
    predict: int = 20_000  # for scikit-learn and onnxruntime
    mllib: int = 8_000
    zipped: int = 300  # for one RDD a tree
    curve: int = 20_000
    curve_trees: tuple[int, ...] = (10, 50, 100, 500)
    curve_depths: tuple[int, ...] = (10, 16)
    curve_grown: int = (
        20  # trees that are trained for the curve; the others are these with their pixels moved
    )
    tag: int = 400_000
    network: int = 16_000
    ingest: int = 200_000
    binary: int = 10_000  # for Spark's binaryRecords
    hdfs: int = 320_000
    index_documents: int = 400_000
    search_documents: int = 1_000_000
    searches: int = 60  # a round
    pages: int = 200  # a round
    thumbnail_partition: int = 20_000
    similar: int = 160_000
    similar_searches: int = 500
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    growth_partitions: tuple[int, ...] = (2_000, 200_000)
    whole: int = 1_000_000
    fitted: int = 50_000  # for training by MLlib
    # Of `bench.full`: the documents of the 79,302,017 images of 80 Million Tiny Images at a confidence of 40 %.
    documents: int = 56_000_000
    heap: str = "1g"  # of Solr
    users_pages: int = 400  # of each kind
    annotated: int = 9_000_000  # with labels and relations, as many as Open Images has
    annotation_pages: int = 200  # of each kind
    users: int = 50  # at once
    users_images: int = 20_000
    users_seconds: int = 120


FULL = Sizes()

QUICK = Sizes(
    name="quick", rounds=3, train=6_000, images=200_000, partition=20_000,
    read=100_000, predict=10_000, mllib=3_000, zipped=50, curve=5_000, curve_trees=(10, 50), curve_depths=(10,),
    curve_grown=10, tag=200_000, network=8_000, ingest=100_000, binary=3_000, hdfs=40_000, index_documents=60_000,
    search_documents=100_000, searches=50, pages=60, thumbnail_partition=512, similar=20_000, similar_searches=100,
    growth=(2_000, 10_000, 60_000), growth_partitions=(2_000,), whole=100_000,
    fitted=3_000, documents=200_000, users_pages=40, annotated=20_000, annotation_pages=20,
    users_seconds=10, users_images=2_000,
)  # fmt: skip
