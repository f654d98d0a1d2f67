"""A search that was never asked before, with its counts, against the same with Solr's filter queries and facets."""

import itertools
import json
import time
from collections.abc import Iterator

import numpy as np

from bench import made
from bench.harness import Comparison, Latencies, UnequalError, Way, median_speed
from indexing.index import index_run
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.query.search_state import SearchState

ALIAS = "bench"
CHECKED = 5


def measured(place):
    run, documents = searched_run(place)
    client, published = place.solr_client, PublishedIndex(place.solr_client, ALIAS)
    states = never_asked(run.classes, seed=1)
    fresh = never_asked(run.classes, seed=2)
    yield Comparison(
        "search/facets",
        f"a search of {documents / 1e6:.1f} million documents with counts of tags and votes, 30 rows",
        Way("tinytags", lambda: asked(states, place.sizes.searches, lambda s: ours(client, published, s)), 1),
        Way(
            "fq, and terms facets on docValues",
            lambda: asked(fresh, place.sizes.searches, lambda s: facets(client, run, s)),
            1,
        ),
        "searches",
        same=lambda *_: check_same(client, published, run, fresh),
        figures=(median_speed(5),),
        rounds=place.sizes.rounds,
        note=f"medians of {place.sizes.searches} searches a round, no filter ever asked before; the page's counts come from "
        "one facet that is asked once for each version of an index",
    )


def searched_run(place):
    """Return a run of `Sizes.search_documents` documents, in Solr and behind the alias, and how many they are."""
    if not hasattr(place, "searched"):
        count, votes = place.sizes.search_documents, place.votes
        kept = (votes.max(axis=1) >= 4).mean()
        place.told(f"indexing {count:,} documents to be searched")
        run, documents = made.drawn_run(
            place.store, "search", votes, int(count / kept), place.sizes.partition
        )
        index_run(place.store, run.name, place.solr_client, ALIAS)
        place.searched = run, documents
    return place.searched


def never_asked(classes: list[str], seed: int, trees: int = 10, least: int = 4) -> Iterator[SearchState]:
    """Yield searches by some tags and a range of confidence, none twice; no choice of tags twice before all had their turn."""
    random = np.random.default_rng(seed)
    choices = [tags for n in range(1, len(classes)) for tags in itertools.combinations(sorted(classes), n)]
    asked = set()
    while True:
        for number in random.permutation(len(choices)).tolist():
            low, high = sorted(random.integers(least, trees + 1, 2).tolist())
            if (number, low, high) not in asked:
                asked.add((number, low, high))
                yield SearchState(
                    {"tag": choices[number]}, confidence=(100 * low // trees, 100 * high // trees)
                )


def asked(states, count: int, ask) -> Latencies:
    """Ask as many searches, one after the other, and time each."""
    seconds = []
    for _ in range(count):
        state = next(states)
        began = time.perf_counter()
        ask(state)
        seconds.append(time.perf_counter() - began)
    return Latencies(seconds)


def ours(client, published, state: SearchState) -> dict:
    """What the search page asks and shows."""
    found = search(client, published, state)
    return {
        "total": found.total,
        "ids": [hit["id"] for hit in found.hits],
        "tags": {tag: n for tag, n in found.searched.counts.by_value(state, "tag").items() if n},
        "percents": {percent: n for percent, n in found.searched.counts.by_percent(state).items() if n},
    }


_apart = iter(range(1, 10**9))


def facets(client, run, state: SearchState) -> dict:
    """The same as Solr's guide has it: filter queries, and terms facets that leave out their own filter."""
    low, high = (percent / 100 for percent in state.confidence)
    apart = 1e-3 + next(_apart) * 1e-6  # the same documents, but a filter that Solr has not seen
    counted = {
        "tags": {"type": "terms", "field": "tag", "limit": -1, "domain": {"excludeTags": "tag"}},
        "votes": {"type": "terms", "field": "votes", "limit": -1, "domain": {"excludeTags": "confidence"}},
    }
    answer = client.select(
        run.name,
        {
            "q": "*:*",
            "fq": [
                f"{{!terms f=tag tag=tag}}{','.join(state.values('tag'))}",
                f"{{!tag=confidence}}confidence:[{low - apart:.6f} TO {high + apart:.6f}]",
            ],
            "sort": "confidence desc,id asc",
            "rows": state.per_page,
            "json.facet": json.dumps(counted),
        },
    )
    found = {name: answer["facets"].get(name, {}).get("buckets", []) for name in counted}
    return {
        "total": answer["response"]["numFound"],
        "ids": [hit["id"] for hit in answer["response"]["docs"]],
        "tags": {bucket["val"]: bucket["count"] for bucket in found["tags"]},
        "percents": {100 * bucket["val"] // run.trees: bucket["count"] for bucket in found["votes"]},
    }


def check_same(client, published, run, states) -> None:
    """Raise `UnequalError` unless both ways find the same documents and count the same."""
    for _ in range(CHECKED):
        state = next(states)
        found, theirs = ours(client, published, state), facets(client, run, state)
        if found != theirs:
            raise UnequalError(f"{state}: {found} against {theirs}")
