"""The amounts that a bench measures: in full or in 3 to 6 minutes."""

import dataclasses

# Amounts, of images unless the name says otherwise: in full, and in the quick bench.
AMOUNTS = {
    "name": ("full", "quick"),
    "rounds": (5, 3),
    "train": (50_000, 6_000),  # of the forest
    "images": (1_000_000, 200_000),  # in the corpus that is tagged
    "partition": (20_000, 20_000),
    "read": (200_000, 100_000),  # several times the processor's caches
    "predict": (20_000, 10_000),  # for scikit-learn and onnxruntime
    "mllib": (8_000, 3_000),
    "zipped": (300, 50),  # for one RDD a tree
    "curve": (20_000, 5_000),
    "curve_trees": ((10, 50, 100, 500), (10, 50)),
    "curve_depths": ((10, 16), (10,)),
    # Trees that are trained for the curve; the others are these with their pixels moved.
    "curve_grown": (20, 10),
    "tag": (400_000, 200_000),
    "network": (16_000, 8_000),
    "ingest": (200_000, 100_000),
    "binary": (10_000, 3_000),  # for Spark's binaryRecords
    "hdfs": (320_000, 40_000),
    "index_documents": (400_000, 60_000),
    "search_documents": (1_000_000, 100_000),
    "searches": (60, 50),  # a round
    "pages": (200, 60),  # a round
    "thumbnail_partition": (20_000, 512),
    "similar": (160_000, 20_000),
    "similar_searches": (500, 100),
    "growth": ((10_000, 100_000, 1_000_000), (2_000, 10_000, 60_000)),
    "growth_partitions": ((2_000, 200_000), (2_000,)),
    "whole": (1_000_000, 100_000),
    "fitted": (50_000, 3_000),  # for training by MLlib
    # Of `bench.full`: the documents of the 79,302,017 images of 80 Million Tiny Images at a confidence of 40 %.
    "documents": (56_000_000, 200_000),
    "heap": ("1g", "1g"),  # of Solr
    "users_pages": (400, 40),  # of each kind
    "annotated": (9_000_000, 20_000),  # with labels and relations, as many as Open Images has
    "annotation_pages": (200, 20),  # of each kind
    "users": (50, 50),  # at once
    "users_images": (20_000, 2_000),
    "users_seconds": (120, 10),
}
Sizes = dataclasses.make_dataclass("Sizes", AMOUNTS, frozen=True)
FULL, QUICK = (Sizes(*values) for values in zip(*AMOUNTS.values(), strict=True))
