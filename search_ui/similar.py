"""The tagged images most similar to one: those whose descriptors in Solr are nearest to its own."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from indexing.fields import HIT_NAMES
from indexing.query.published import PublishedIndex
from indexing.query.search import documents, image_of, with_beside
from indexing.solr import Solr
from search_ui.library import Library
from storage.store import StoreUnavailableError
from tagging import descriptor

MOST_SIMILAR = 12
# Solr's search of a graph is approximate: of the 12 nearest among 100,000 it finds 84 % with 13 candidates, 98 % with 100
# and 99 % with 200, in about the same time.
CANDIDATES = 200
# The page of an image does not wait longer for this part of it.
SECONDS = 1.5


def similar_images(
    solr: Solr,
    published: PublishedIndex,
    library: Library,
    image: npt.NDArray[np.uint8],
    place: tuple[str, int, int],
) -> list[dict[str, Any]] | None:
    """Return the documents of up to 12 images nearest to ``image`` (1, 3072) uint8, which is at ``place``, nearest first.

    Each has its ``distance``, between descriptors. An image that several runs tagged comes once. None where no published
    run has descriptors. Raises `SolrError` where Solr doesn't answer in time.
    """
    snapshot = published.now()
    names = [name for name in snapshot.collections if _is_described(library, name)]
    if not names:
        return None
    numbers = descriptor.describe(image)[0].tolist()
    parameters = {
        "q": f"{{!knn f=descriptor topK={CANDIDATES:d} v=$descriptor}}",
        "descriptor": str(numbers),
        "fl": f"{HIT_NAMES},score",
        "sort": "score desc,id asc",
        # The image itself is among them, and each one once a run.
        "rows": (MOST_SIMILAR + 1) * len(names),
        "collection": ",".join(names),
    }
    hits = solr.select(names[0], parameters, timeout=SECONDS)["response"]["docs"]
    hits = with_beside(snapshot, hits)
    nearest: dict[tuple[str, int, int], dict[str, Any]] = {}
    for hit in hits:
        nearest.setdefault(image_of(hit), hit)
    nearest.pop(place, None)
    return [_with_distance(hit) for hit in list(nearest.values())[:MOST_SIMILAR]]


def _is_described(library: Library, name: str) -> bool:
    """Whether the documents of a run have descriptors of this version; False where the store is unavailable."""
    try:
        run = library.run(name)
    except StoreUnavailableError:
        return False
    return run is not None and run.descriptor == descriptor.NAME


def _with_distance(hit: dict[str, Any]) -> dict[str, Any]:
    document = documents([hit])[0]
    # Solr's score of a Euclidean distance d is 1 / (1 + d * d).
    return document | {"distance": round(math.sqrt(max(1 / hit["score"] - 1, 0)), 1)}
