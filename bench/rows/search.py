"""A search with filters that Solr has not cached, with its counts, against Solr's filter queries and facets."""

import functools
import itertools
import json
from collections.abc import Iterator
from statistics import median

import numpy as np

from bench import made
from bench.harness import Comparison, Way, latencies
from indexing.index import index_run
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.query.search_state import SearchState

ALIAS = "bench"
CHECKED = 5
OFFSETS = itertools.count(1)


def measured(place):
    run, documents = searched_run(place)
    client, count = place.solr_client, place.sizes.searches
    ours = functools.partial(by_page, client, PublishedIndex(client, ALIAS))
    theirs = functools.partial(by_facets, client, run)
    states, others = (unseen_searches(run.classes, seed) for seed in (1, 2))

    def same(*_) -> bool:
        """Return whether both ways find the same documents with the same counts."""
        return all(ours(state) == theirs(state) for state in itertools.islice(others, CHECKED))

    yield Comparison(
        "search/facets",
        Way(lambda: latencies(itertools.islice(states, count), ours)),
        Way(lambda: latencies(itertools.islice(others, count), theirs)),
        same,
        {"search/facets": lambda ours, theirs: median(theirs.seconds) / median(ours.seconds)},
        about={"documents": documents, "searches": count},
    )


def searched_run(place):
    """Return a run of `Sizes.search_documents` documents, in Solr and behind the alias, and their number."""
    if not hasattr(place, "searched"):
        run, documents = made.drawn_run(place, "search", place.sizes.search_documents)
        index_run(place.store, run.name, place.solr_client, ALIAS)
        place.searched = run, documents
    return place.searched


def unseen_searches(classes: list[str], seed: int, trees: int = 10, least: int = 4) -> Iterator[SearchState]:
    """Yield searches by some tags and a range of confidence, none twice."""
    random, seen = np.random.default_rng(seed), set()
    while True:
        tags = tuple(sorted(random.choice(classes, random.integers(1, len(classes)), replace=False).tolist()))
        low, high = sorted((100 * random.integers(least, trees + 1, 2) // trees).tolist())
        if (tags, low, high) not in seen:
            seen.add((tags, low, high))
            yield SearchState({"tag": tags}, confidence=(low, high))


def by_page(client, published, state: SearchState) -> dict:
    """Search as the search page does."""
    result = search(client, published, state)
    counts = result.searched.counts
    return {
        "total": result.total,
        "ids": [hit["id"] for hit in result.hits],
        "tags": {tag: n for tag, n in counts.by_value(state, "tag").items() if n},
        "percents": {percent: n for percent, n in counts.by_percent(state).items() if n},
    }


def by_facets(client, run, state: SearchState) -> dict:
    """Search as in Solr's guide: filter queries, and terms facets that exclude their own filter."""
    low, high = (percent / 100 for percent in state.confidence)
    offset = 1e-3 + next(OFFSETS) * 1e-6  # the same documents, but a filter that Solr has not cached
    terms = {
        "tags": {"type": "terms", "field": "tag", "limit": -1, "domain": {"excludeTags": "tag"}},
        "votes": {"type": "terms", "field": "votes", "limit": -1, "domain": {"excludeTags": "confidence"}},
    }
    filters = [
        f"{{!terms f=tag tag=tag}}{','.join(state.values('tag'))}",
        f"{{!tag=confidence}}confidence:[{low - offset:.6f} TO {high + offset:.6f}]",
    ]
    query = {"q": "*:*", "fq": filters, "sort": "confidence desc,id asc", "rows": state.per_page}
    result = client.select(run.name, query | {"json.facet": json.dumps(terms)})
    tags, votes = (result["facets"].get(name, {}).get("buckets", []) for name in terms)
    return {
        "total": result["response"]["numFound"],
        "ids": [hit["id"] for hit in result["response"]["docs"]],
        "tags": {bucket["val"]: bucket["count"] for bucket in tags},
        "percents": {100 * bucket["val"] // run.trees: bucket["count"] for bucket in votes},
    }
