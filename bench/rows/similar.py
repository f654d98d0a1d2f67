"""Tagging and indexing with descriptors against without, and how well they find similar images."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from bench import made
from bench.harness import Comparison, latencies, percentile, single
from bench.rows import index, tag
from indexing.query.published import PublishedIndex
from ingest.partition import read_partition
from search_ui.library import Library
from search_ui.similar import MOST_SIMILAR, similar_images
from tagging import descriptor

ALIAS = "similar"
WARM_UP = 50


def measured(place):
    count, client = min(place.sizes.similar, place.sizes.images), place.solr_client
    corpus = place.split("similar", count, place.sizes.partition)
    partitions = range(corpus.partitions)
    names = descriptor.NAME, None
    described, plain = runs = [tag.make_run(place, corpus, descriptor=name) for name in names]
    for run in runs:
        tag.way(place, run, partitions, corpus).run()
    documents = made.total(place.store, plain, "tagged")
    yield Comparison("similar/tag", *(tag.way(place, run, partitions, corpus) for run in runs))
    place.stop_spark()
    yield Comparison("similar/index", *(index.way(place, run, documents) for run in runs), warm_ups=2)
    lines = [made.total(place.store, run, "bytes") for run in runs]
    for name, sizes in (("lines", lines), ("size", [index.index_bytes(place, run.name) for run in runs])):
        ours, theirs = (size / documents for size in sizes)
        yield single(f"similar/{name}", ours / theirs, ours=ours, theirs=theirs)
    client.set_alias(ALIAS, [described.name])
    seconds, recall = search_similar(place, corpus, described)
    for percent in (50, 99):
        yield single(f"similar/p{percent}", 1000 * percentile(seconds, percent), documents=documents)
    yield single("similar/recall", recall, documents=documents)


def search_similar(place, corpus, run) -> tuple[list[float], float]:
    """Search for images similar to some, each searched once; return the seconds, and the share of the hits that are right.

    A hit is right where a comparison with all images has it among the most similar ones.
    """
    published, library = PublishedIndex(place.solr_client, ALIAS, 3600), Library(place.store)
    blocks = [(p, block) for p in range(run.partitions) for block in read_partition(place.store, corpus, p)]
    images = np.concatenate([block.images for _, block in blocks])
    places = np.concatenate([[(p, block.row + i) for i in range(len(block.images))] for p, block in blocks])
    tagged = np.flatnonzero(place.forest.votes(images).max(axis=1) >= run.min_confidence * run.trees)
    searched = np.random.default_rng(1).choice(len(images), place.sizes.similar_searches + WARM_UP)
    hits = []

    def request(n: int) -> None:
        where = corpus.name, *map(int, places[n])
        hits.append(similar_images(place.solr_client, published, library, images[n : n + 1], where))

    seconds = latencies(searched.tolist(), request).seconds
    neighbours = NearestNeighbors(n_neighbors=MOST_SIMILAR + 1).fit(descriptor.describe(images[tagged]))
    right = []
    for n, own_hits, distances, nearest in zip(
        searched, hits, *neighbours.kneighbors(descriptor.describe(images[searched])), strict=True
    ):
        least = distances[tagged[nearest] != n][MOST_SIMILAR - 1]  # an image is not similar to itself
        right.append(sum(hit["distance"] <= least + 0.05 for hit in own_hits) / MOST_SIMILAR)
    return seconds[WARM_UP:], float(np.mean(right))
