"""A search with filters that Solr has not cached, with its counts, against Solr's filter queries and facets."""

import itertools
import json
from collections.abc import Iterator

import numpy as np

from bench import made
from bench.harness import Comparison, UnequalError, Way, latencies, median_speed
from indexing.index import index_run
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.query.search_state import SearchState

ALIAS = "bench"
CHECKED = 5


def measured(place):
    run, documents = searched_run(place)
    client, count = place.solr_client, place.sizes.searches
    published = PublishedIndex(client, ALIAS)
    states, others = (unseen_searches(run.classes, seed) for seed in (1, 2))

    def way(name: str, states, request) -> Way:
        return Way(name, lambda: latencies(itertools.islice(states, count), request), 1)

    yield Comparison(
        "search/facets",
        f"a search of {documents / 1e6:.1f} million documents with counts of tags and votes, 30 rows",
        way("tinytags", states, lambda state: ours(client, published, state)),
        way("fq, and terms facets on docValues", others, lambda state: facets(client, run, state)),
        "searches",
        same=lambda *_: check_same(client, published, run, others),
        figures=(median_speed(5),),
        rounds=place.sizes.rounds,
        note=f"medians of {count} searches a round, each filter only once; the page's counts come from one facet that is "
        "requested once for each version of an index",
    )


def searched_run(place):
    """Return a run of `Sizes.search_documents` documents, in Solr and behind the alias, and their number."""
    if not hasattr(place, "searched"):
        count = place.sizes.search_documents
        place.note(f"indexing {count:,} documents to be searched")
        images = made.images_for(count, place.votes)
        run, documents = made.drawn_run(place.store, "search", place.votes, images, place.sizes.partition)
        index_run(place.store, run.name, place.solr_client, ALIAS)
        place.searched = run, documents
    return place.searched


def unseen_searches(classes: list[str], seed: int, trees: int = 10, least: int = 4) -> Iterator[SearchState]:
    """Yield searches by some tags and a range of confidence, none twice; all choices of tags before one comes again."""
    random = np.random.default_rng(seed)
    choices = [tags for n in range(1, len(classes)) for tags in itertools.combinations(sorted(classes), n)]
    seen = set()
    while True:
        for number in random.permutation(len(choices)).tolist():
            low, high = sorted(random.integers(least, trees + 1, 2).tolist())
            if (number, low, high) not in seen:
                seen.add((number, low, high))
                yield SearchState(
                    {"tag": choices[number]}, confidence=(100 * low // trees, 100 * high // trees)
                )


def ours(client, published, state: SearchState) -> dict:
    """Search as the search page does."""
    result = search(client, published, state)
    counts = result.searched.counts
    return {
        "total": result.total,
        "ids": [hit["id"] for hit in result.hits],
        "tags": {tag: n for tag, n in counts.by_value(state, "tag").items() if n},
        "percents": {percent: n for percent, n in counts.by_percent(state).items() if n},
    }


_offsets = iter(range(1, 10**9))


def facets(client, run, state: SearchState) -> dict:
    """Search as in Solr's guide: filter queries, and terms facets that exclude their own filter."""
    low, high = (percent / 100 for percent in state.confidence)
    offset = 1e-3 + next(_offsets) * 1e-6  # the same documents, but a filter that Solr has not cached
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


def check_same(client, published, run, states) -> None:
    """Raise `UnequalError` unless both ways find the same documents with the same counts."""
    for state in itertools.islice(states, CHECKED):
        result, theirs = ours(client, published, state), facets(client, run, state)
        if result != theirs:
            raise UnequalError(f"{state}: {result} against {theirs}")
