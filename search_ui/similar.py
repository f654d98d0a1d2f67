"""The tagged images that look most like one: its descriptor, and the nearest to that in Solr."""

import math

import numpy as np

from indexing.query.published import PublishedIndex
from indexing.query.search import FIELDS
from indexing.solr import Solr
from search_ui.library import Library
from storage.store import StoreUnavailableError
from tagging import descriptor

SHOWN = 12
# Solr's search of a graph misses some: of the 12 nearest among 100,000 it finds 84 % if 13 are looked for, 98 % if 100 are,
# and 99 % if 200 are, in about the same time.
LOOKED_FOR = 200
# A page is worth more than what stands below it.
SECONDS = 1.5


def similar_images(
    solr: Solr, published: PublishedIndex, library: Library, image: np.ndarray, place: tuple[str, int, int]
) -> list[dict] | None:
    """Return the documents of up to 12 images nearest to ``image`` (1, 3072) uint8, which is at ``place``, nearest first.

    Each has its ``distance``, between descriptors. An image that several runs tagged comes once. None where no run that is
    searched has descriptors; raises `SolrError` where Solr doesn't answer in time.
    """
    names = [name for name in published.now().collections if _is_described(library, name)]
    if not names:
        return None
    numbers = descriptor.describe(image)[0].tolist()
    parameters = {
        "q": f"{{!knn f=descriptor topK={LOOKED_FOR:d} v=$descriptor}}",
        "descriptor": str(numbers),
        "fl": f"{FIELDS},score",
        "sort": "score desc,id asc",
        # With itself, and all as often as there are runs.
        "rows": (SHOWN + 1) * len(names),
        "collection": ",".join(names),
    }
    hits = solr.select(names[0], parameters, timeout=SECONDS)["response"]["docs"]
    nearest = {}
    for hit in hits:
        nearest.setdefault((hit["corpus"], hit["partition"], hit["row"]), hit)
    nearest.pop(place, None)
    return [_with_distance(hit) for hit in list(nearest.values())[:SHOWN]]


def _is_described(library: Library, name: str) -> bool:
    """Whether documents of a run have the descriptors of this version; no where the store can't say."""
    try:
        run = library.run(name)
    except StoreUnavailableError:
        return False
    return run is not None and run.descriptor == descriptor.NAME


def _with_distance(hit: dict) -> dict:
    found = {field: hit[field] for field in FIELDS.split(",") if field in hit}
    # What Solr gives for a Euclidean distance d is 1 / (1 + d * d).
    return found | {"distance": round(math.sqrt(max(1 / hit["score"] - 1, 0)), 1)}
