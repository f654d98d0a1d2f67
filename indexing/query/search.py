"""One search: from its state to a request of Solr that ends early, and to hits."""

import base64
import random
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from indexing.fields import HIT_FIELDS, HIT_NAMES
from indexing.query.cells import IN_SOLR
from indexing.query.levels import Level
from indexing.query.people import ids_with, terms
from indexing.query.published import ANSWER_SECONDS, PublishedIndex, Snapshot
from indexing.query.search_state import NUMBERED_ROWS, PER_PAGE, After, SearchState
from indexing.solr import Solr
from indexing.solr_errors import NotNowError, SolrError

# A page's few rows take some milliseconds: a Solr that takes longer than this hangs.
ROWS_SECONDS = ANSWER_SECONDS
EXPORT_SECONDS = 10
# How long a page far back waits for one of the two places.
FAR_BACK_SECONDS = 10
# Beyond so many hits, Next continues from the last one instead of skipping all before it.
CURSOR_FROM = 3_000
# Of more hits than these only a part is shuffled: twice what numbered pages show.
SHUFFLED_HITS = 2 * NUMBERED_ROWS
# So many hits of an export are requested at a time: with 56 million documents that takes 0.2 s, and half as many take as long.
EXPORT_ROWS = 10_000
# So many are written at a time: each has several forms then.
EXPORT_BATCH = 1_000
# Solr keeps all hits before a page in memory while it collects the page: far back, two requests run at a time, others wait.
_FAR_BACK = threading.BoundedSemaphore(2)


# What people give the images whose tags are right or wrong.
_BY_PEOPLE = {"right": "agreed", "wrong": "corrected"}

Hit = dict[str, Any]  # a document as Solr returns it, with what people give it
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SearchResult:
    """One page of a search: ``hits`` are documents as Solr returns them, ``after`` is where the next page may continue.

    ``searched`` are the collections that the search covers, ``published`` all that the alias points to. ``images`` is of how
    many images the ``total`` hits are, None where several runs of a corpus are not compared.
    """

    published: Snapshot
    searched: Snapshot
    state: SearchState
    total: int
    images: int | None
    hits: list[Hit]
    after: After | None
    seconds: float


def search(solr: Solr, published: PublishedIndex, state: SearchState) -> SearchResult:
    """Return one page of hits. Raises `SolrError` where Solr is down."""
    began = time.perf_counter()
    everything, hits = _with_snapshot(
        published, lambda snapshot: page_hits(solr, snapshot.of(state), state), state
    )
    snapshot = everything.of(state)
    total = snapshot.counts.total(state)
    after = None
    if hits and state.sort != "random" and state.start + len(hits) >= CURSOR_FROM:
        after = After(float(hits[-1]["confidence"]), hits[-1]["id"])
    images = everything.images.total(snapshot.counts, state)
    return SearchResult(everything, snapshot, state, total, images, hits, after, time.perf_counter() - began)


def export(solr: Solr, published: PublishedIndex, state: SearchState) -> tuple[int, Iterator[list[Hit]]]:
    """Return how many hits a search has, and all of them whatever its page, up to `EXPORT_BATCH` at a time.

    A random order is replaced by that of confidence. Raises `SolrError` where Solr is down; for the first hits at once.
    All hits come from the runs that are published now.
    """
    state = state.with_sort("confidence" if state.sort == "random" else state.sort)
    snapshot, first = _with_snapshot(
        published, lambda snapshot: hits(solr, snapshot.of(state), state, 0, EXPORT_ROWS), state
    )
    snapshot = snapshot.of(state)

    def all_hits(batch: list[Hit]) -> Iterator[list[Hit]]:
        while batch:
            last = After(float(batch[-1]["confidence"]), batch[-1]["id"])
            full = len(batch) >= EXPORT_ROWS
            while batch:  # so that these are no longer in memory when the next arrive
                part, batch = batch[:EXPORT_BATCH], batch[EXPORT_BATCH:]
                yield part
            del part
            batch = hits(solr, snapshot, replace(state, after=last), 0, EXPORT_ROWS) if full else []

    return snapshot.counts.total(state), all_hits(first)


def page_hits(solr: Solr, snapshot: Snapshot, state: SearchState) -> list[Hit]:
    """Return the hits of the page of a search. Raises `SolrError`."""
    return hits(solr, snapshot, state, state.start, state.per_page)


def image_of(hit: Hit) -> tuple[str, int, int]:
    """Return the corpus, partition and row of a hit's image."""
    return hit["corpus"], hit["partition"], hit["row"]


def neighbours(
    solr: Solr, published: PublishedIndex, state: SearchState, at: int
) -> list[tuple[int, Hit] | None]:
    """Return the hits before, at and after place ``at`` (from 0) of a search with their places; None where there is none.

    Those before and after are of other images: each run may have a tag of one image, side by side among the hits.
    """

    def query(snapshot: Snapshot) -> list[tuple[int, Hit]]:
        snapshot = snapshot.of(state)
        most = max(len(snapshot.collections), 1)
        first = max(at - most, 0)
        return list(enumerate(hits(solr, snapshot, state, first, at + most + 1 - first), first))

    _, nearby = _with_snapshot(published, query, state)
    here = next((one for one in nearby if one[0] == at), None)
    if here is None:
        return [None, None, None]
    others = [one for one in nearby if image_of(one[1]) != image_of(here[1])]
    before = [one for one in others if one[0] < at]
    after = [one for one in others if one[0] > at]
    return [before[-1] if before else None, here, after[0] if after else None]


def find_image(solr: Solr, published: PublishedIndex, corpus: str, partition: int, row: int) -> list[Hit]:
    """Return the documents of one image: one of each published run that tagged it."""

    def query(snapshot: Snapshot) -> list[Hit]:
        if not snapshot.collections:
            return []
        parameters = {
            "q": "{!bool must=$of must=$in must=$at}",
            "of": "{!term f=corpus v=$corpus}",
            "in": f"partition:[{partition:d} TO {partition:d}]",
            "at": f"row:[{row:d} TO {row:d}]",
            "corpus": corpus,
        }
        return _select(solr, snapshot, parameters | {"sort": "id asc", "rows": 20})

    return _with_snapshot(published, query)[1]


def other_tags(solr: Solr, snapshot: Snapshot, listed: Iterable[Hit]) -> list[Hit]:
    """Return the documents of the same images that other runs among the collections of ``snapshot`` have, whatever the search."""
    of_corpus: dict[str, list[str]] = {}
    for source in snapshot.counts.sources:
        of_corpus.setdefault(source.value("corpus"), []).append(source.run[-8:])
    by_id = {hit["id"]: hit for hit in listed}
    others = {
        f"{prefix}:{hit['partition']:d}:{hit['row']:d}"
        for hit in by_id.values()
        for prefix in of_corpus.get(hit["corpus"], [])
    } - by_id.keys()
    if not others:
        return []
    parameters = {
        "q": terms("others"),
        "others": ",".join(sorted(others)),
        "sort": "id asc",
        "rows": len(others),
    }
    return _select(solr, snapshot, parameters)


def hits(solr: Solr, snapshot: Snapshot, state: SearchState, start: int, rows: int) -> list[Hit]:
    """Return ``rows`` hits from place ``start`` on, or after ``state.after`` where the state has that."""
    counts = snapshot.counts
    levels = counts.levels_of(state)
    after = state.after
    if not levels or (after is None and start >= counts.total(state)):
        return []
    if state.sort == "random":
        return _random_order(solr, snapshot, state, levels, start, rows)
    if state.sort == "corpus":
        return _corpus_order(solr, snapshot, state, levels, start, rows)
    if state.sort == "confidence":
        return _confidence_order(solr, snapshot, state, levels, start, rows, after)
    # The index is sorted from high to low and Solr stops early only in that order. But within one level of votes the order
    # is the same both ways, and how many hits each level has is known: so take the levels one by one. Of a network's levels
    # Solr sorts all hits: they are a percent each.
    collected: list[Hit] = []
    start = start if after is None else 0
    for level, count in zip(counts.levels, counts.by_level(state).tolist(), strict=True):
        here = None
        if after is not None:
            lowest, above = level.ends()
            if above <= after.confidence:
                continue
            here = after if lowest <= after.confidence else None
        elif start >= count:
            start -= count
            continue
        if count:
            order = "asc" if level.votes is None else "desc"
            collected += _confidence_order(
                solr, snapshot, state, [level], start, rows - len(collected), here, order
            )
        start = 0
        if len(collected) >= rows:
            break
    return collected


def _confidence_order(
    solr: Solr,
    snapshot: Snapshot,
    state: SearchState,
    levels: list[Level],
    start: int,
    rows: int,
    after: After | None,
    order: str = "desc",
) -> list[Hit]:
    parameters = _query(snapshot, state, levels) | {
        "sort": f"confidence {order},id asc",
        "start": start,
        "rows": rows,
    }
    if after:
        parameters["cursorMark"] = cursor_mark(after)
        del parameters["start"]
    return _select(solr, snapshot, parameters)


def _corpus_order(
    solr: Solr, snapshot: Snapshot, state: SearchState, levels: list[Level], start: int, rows: int
) -> list[Hit]:
    parameters = _query(snapshot, state, levels)
    if after := state.after:
        p, row = after.partition, after.row
        behind = {
            "later": f"partition:{{{p:d} TO *]",
            "rest": f"+partition:[{p:d} TO {p:d}] +row:{{{row:d} TO *]",
        }
        # The same image in other runs: an id begins with the end of the run's name.
        others = [id for name in snapshot.collections if (id := f"{name[-8:]}:{p:d}:{row:d}") > after.id]
        if others:
            behind["others"] = "{!terms f=id v=$places}"
            parameters["places"] = ",".join(others)
        parameters |= behind | {
            "q": f"{parameters['q'][:-1]} must=$behind}}",
            "behind": f"{{!bool {' '.join(f'should=${name}' for name in behind)}}}",
        }
        start = 0
    return _select(
        solr, snapshot, parameters | {"sort": "partition asc,row asc,id asc", "start": start, "rows": rows}
    )


def _random_order(
    solr: Solr, snapshot: Snapshot, state: SearchState, levels: list[Level], start: int, rows: int
) -> list[Hit]:
    """Return hits in an order given by the search's seed, as long as the index doesn't change.

    To shuffle 50 million hits Solr would have to read each. So of many hits those of some rows of every partition are
    shuffled, of as many rows as hold all numbered pages; the seed also selects the rows.
    """
    parameters = _query(snapshot, state, levels)
    order = {"sort": f"random_{state.seed} asc,id asc", "start": start, "rows": rows}
    total = snapshot.counts.total(state)
    most = max(source.rows for source in snapshot.counts.sources)
    width = most * SHUFFLED_HITS // total + 1
    if width < most:
        first = random.Random(state.seed).randrange(most)
        ranges = {
            "some": "{!bool should=$upwards should=$around}",
            "upwards": f"row:[{first:d} TO {first + width - 1:d}]",
            "around": f"row:[0 TO {first + width - 1 - most:d}]",
        }
        some = parameters | ranges | {"q": f"{parameters['q'][:-1]} must=$some}}"}
        response = _query_solr(solr, snapshot, some | order | {"minExactCount": total})
        # Where these rows hold fewer hits than others do, all pages come from all rows.
        if response["numFound"] >= SHUFFLED_HITS // 2:
            return _docs(response)
    return _select(solr, snapshot, parameters | order)


def _query(snapshot: Snapshot, state: SearchState, levels: list[Level]) -> dict[str, str]:
    """Return the parameters of Solr's query. They hold no text of a user: values are those that there are.

    All filters are part of the query: only then may Solr stop early in a sorted index.
    """
    counts = snapshot.counts
    tags = counts.known_values(state, "tag") or counts.values("tag")
    clauses = ["must=$levels"]
    parameters = {"levels": _range(counts.trees, levels)}
    if state.answer:
        # A tag is right where the label has the same value, which a query can only express one value at a time.
        for number, tag in enumerate(tags):
            parameters |= {
                f"word{number}": tag,
                f"both{number}": f"{{!bool must=$tag{number} must=$label{number}}}",
                f"tag{number}": f"{{!term f=tag v=$word{number}}}",
                f"label{number}": f"{{!term f=label v=$word{number}}}",
            }
        right = " ".join(f"should=$both{number}" for number in range(len(tags)))
        parameters |= {"right": f"{{!bool {right}}}", "known": "label:[* TO *]"}
        answered = "must=$right" if state.answer == "right" else "must=$known must_not=$right"
        clauses.append("must=$answered")
        parameters["answered"] = f"{{!bool {answered}}}"
        if given := ids_with(snapshot.given, snapshot.collections):
            # What people give an image counts instead of the label that came with it.
            same = ids_with(snapshot.given, snapshot.collections, (_BY_PEOPLE[state.answer],))
            parameters |= {
                "answered": "{!bool should=$by_label should=$by_people}",
                "by_label": f"{{!bool {answered} must_not=$given}}",
                "given": terms("given_ids"),
                "given_ids": ",".join(given),
                "by_people": terms("same_ids"),
                "same_ids": ",".join(same),
            }
    if states := state.values("correction"):
        clauses.append("must=$correction_filter")
        parameters["correction_filter"] = terms("correction_ids")
        parameters["correction_ids"] = ",".join(ids_with(snapshot.given, snapshot.collections, states))
    if wanted := state.values("agreement"):
        clauses.append("must=$agreement_filter")
        parameters |= snapshot.comparison.query(wanted)
    for name in IN_SOLR:
        if state.values(name):
            # Between values stands a character that no value can hold.
            parameters[f"{name}_filter"] = f"{{!terms f={name} separator='\x1f' v=${name}_values}}"
            parameters[f"{name}_values"] = "\x1f".join(counts.known_values(state, name))
            clauses.append(f"must=${name}_filter")
    return {"q": f"{{!bool {' '.join(clauses)}}}"} | parameters


def _range(trees: int | None, levels: list[Level]) -> str:
    """Return the range of the levels: of whole votes where all forests have as many trees, else of confidence."""
    if trees:
        return f"votes:[{levels[0].votes:d} TO {levels[-1].votes:d}]"
    return f"confidence:[{levels[0].ends()[0]:.7f} TO {levels[-1].ends()[1]:.7f}}}"


def _select(solr: Solr, snapshot: Snapshot, parameters: dict[str, Any]) -> list[Hit]:
    # Solr stops as soon as it has the rows: totals are known from the counts. segmentTerminateEarly isn't needed for that, and
    # gives no rows at all beyond the first page.
    return _docs(_query_solr(solr, snapshot, parameters | {"minExactCount": parameters["rows"]}))


def _query_solr(solr: Solr, snapshot: Snapshot, parameters: dict[str, Any]) -> dict[str, Any]:
    """Query the collections themselves, not the alias, which may move between two requests."""
    names = snapshot.collections
    parameters = parameters | {"fl": HIT_NAMES}
    if len(names) > 1:
        parameters["collection"] = ",".join(names)
    far_back = parameters.get("start", 0) >= CURSOR_FROM
    if far_back and not _FAR_BACK.acquire(timeout=FAR_BACK_SECONDS):
        raise NotNowError(
            f"too many requests for pages this far back; try again in {FAR_BACK_SECONDS} seconds"
        )
    seconds = ROWS_SECONDS if parameters["rows"] <= PER_PAGE[-1] else EXPORT_SECONDS
    try:
        response: dict[str, Any] = solr.select(names[0], parameters, timeout=seconds)["response"]
        return response | {"docs": with_beside(snapshot, response["docs"])}
    finally:
        if far_back:
            _FAR_BACK.release()


def _with_snapshot(
    published: PublishedIndex, query: Callable[[Snapshot], T], state: SearchState | None = None
) -> tuple[Snapshot, T]:
    """Return the current snapshot and ``query`` of it, repeated with a new one where a collection was dropped meanwhile.

    A search for where models agree waits until that is known.
    """
    current = published.compared if state and state.values("agreement") else published.now
    snapshot = current()
    try:
        return snapshot, query(snapshot)
    except SolrError as error:
        if error.status not in (400, 404):
            raise
        published.expire()
        again = current()
        if again.collections == snapshot.collections:
            raise
        return again, query(again)


def with_beside(snapshot: Snapshot, given_hits: Iterable[Hit]) -> list[Hit]:
    """Return hits with the fields that are beside the index."""
    hits = []
    for hit in given_hits:
        if given := snapshot.given.get(hit["id"]):
            hit = hit | given.fields
        agreements = snapshot.comparison.of_corpus(hit["corpus"])
        if agreement := agreements.get((hit["partition"], hit["row"])):
            hit = hit | {"agreement": agreement}
        hits.append(hit)
    return hits


def _docs(response: dict[str, Any]) -> list[Hit]:
    docs: list[Hit] = response["docs"]
    return docs


def cursor_mark(after: After) -> str:
    """Return Solr's cursor after a document for ``confidence desc,id asc``, or the same with ``confidence asc``.

    It is the sort values as javabin in base64 (org.apache.solr.search.CursorMark, common.util.JavaBinCodec): version 2,
    a list of 2 (0x82), a float (0x08) and a string (0x20 + bytes).
    """
    id = after.id.encode()
    values = b"\x02\x82\x08" + struct.pack(">f", after.confidence) + bytes([0x20 | len(id)]) + id
    return base64.b64encode(values).decode()


def documents(batch: Iterable[Hit]) -> list[Hit]:
    """Return hits with their fields in the order of `HIT_FIELDS` and without Solr's own, as the API has them."""
    return [{field.name: hit[field.name] for field in HIT_FIELDS if field.name in hit} for hit in batch]
