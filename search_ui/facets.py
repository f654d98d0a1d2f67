"""Facets, wider searches and page links, prepared for templates, which only print them."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from indexing.fields import FACETS
from indexing.query.counts import Counts
from indexing.query.search import SearchResult
from indexing.query.search_state import MOST_SEED, PER_PAGE, SIZES, SORTS, SearchState


@dataclass(frozen=True)
class Value:
    """One value of a facet: the hits that it would give, whether it is selected, and the link that toggles it."""

    value: str
    count: int
    selected: bool
    toggle_url: str
    share: float = 0.0  # of the largest count of the facet, in percent


@dataclass(frozen=True)
class FacetValues:
    """A facet with its values; ``name`` is its field and URL parameter."""

    name: str
    heading: str
    plural: str
    values: list[Value]
    folded: bool

    @property
    def selected(self) -> bool:
        return any(value.selected for value in self.values)


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram of confidence."""

    percent: int
    count: int
    height: float  # percent of the highest
    selected: bool  # whether the search's range covers it
    picked: bool  # whether the range is this bar alone
    url: str


@dataclass(frozen=True)
class Choice:
    """One of several links of which one is selected: an order, a size, a page."""

    text: str
    url: str
    selected: bool = False


def label_mark(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `mark` of parts.html shows of a hit: whether its tag is right, the label, and what people make of it.

    People's label counts instead of the one that came with the image; where it is disputed, nothing is right or wrong.
    """
    correction = hit.get("correction")
    label = hit.get("people_label") if correction else hit.get("label")
    right = None if label is None else label == hit["tag"]
    return {"right": right, "label": label, "correction": correction}


def facet_values(result: SearchResult, zeros: bool = True) -> dict[str, FacetValues]:
    """Return the facets by field, folded ones last; a filter's values are among them though no document has them.

    Corpora, models and runs are only there where there are several to choose from. Without ``zeros``, values that no hit has are
    left out, but for those of the search.
    """
    return {
        name: FacetValues(name, facet.heading, facet.plural, values, facet.folded)
        for folded in (False, True)
        for name, facet in FACETS.items()
        if facet.folded == folded
        and (values := [v for v in _values(result, name) if zeros or v.count or v.selected])
        and not (facet.per_run and len(values) == 1)
    }


def _values(result: SearchResult, name: str) -> list[Value]:
    state = result.state
    # A search for one run only has the counts of that run, but the other runs can be selected too.
    counts = result.published.counts if FACETS[name].per_run else result.searched.counts
    hits = dict.fromkeys(state.values(name), 0) | counts.by_value(state, name)
    most = max(hits.values(), default=0) or 1
    return [
        Value(
            value,
            hits[value],
            value in state.values(name),
            state.toggle(name, value).url(),
            round(100 * hits[value] / most, 1),
        )
        for value in sorted(hits)
    ]


def answer_values(counts: Counts, state: SearchState) -> list[Value]:
    """Return how many tags are right and wrong; nothing where no image has a label."""
    if not counts.values("label") and not counts.values("correction"):
        return []
    hits = counts.by_answer(state)
    most = max(hits.values()) or 1
    return [
        Value(
            answer,
            hits[answer],
            state.answer == answer,
            state.with_answer(None if state.answer == answer else answer).url(),
            round(100 * hits[answer] / most, 1),
        )
        for answer in hits
    ]


def histogram(counts: Counts, state: SearchState) -> list[Bar]:
    hits = counts.by_percent(state)
    most = max(hits.values(), default=0) or 1
    low, high = state.confidence or (0, 100)
    within = [percent for percent in hits if low <= percent <= high]
    bars = []
    for percent, count in hits.items():
        picked = state.confidence is not None and within == [percent]
        url = (state.without_confidence() if picked else state.with_confidence(percent, percent)).url()
        bars.append(Bar(percent, count, round(100 * count / most, 1), low <= percent <= high, picked, url))
    return bars


def range_box(counts: Counts, state: SearchState) -> dict[str, int]:
    """Return what the two number boxes below the histogram start from: the least value, the step and the current range."""
    percents = counts.percents or [0, 100]
    low, high = state.confidence or (percents[0], 100)
    steps = 100 // counts.trees if counts.trees and 100 % counts.trees == 0 else 1
    return {"least": percents[0], "step": steps, "low": low, "high": high}


def filters(state: SearchState) -> list[Choice]:
    """Return the filters of a search, each with the link that removes it."""
    chosen = [
        Choice(f"{FACETS[name].prefix} {value}".strip(), state.toggle(name, value).url())
        for name, values in state.filters.items()
        for value in values
    ]
    if state.confidence:
        chosen.append(Choice(format_range(state.confidence), state.without_confidence().url()))
    if state.answer:
        chosen.append(Choice(f"{state.answer} tags", state.with_answer(None).url()))
    return chosen


def format_range(confidence: tuple[int, int]) -> str:
    low, high = confidence
    return f"{low} %" if low == high else f"{low}–{high} %"


def exports(state: SearchState) -> dict[str, str]:
    """Return the URLs of all hits of a search, by what the file is."""
    endings = {"CSV": "csv", "JSON lines": "jsonl", "a list of ids": "txt"}
    return {what: state.with_page(1).url(f"/export.{ending}") for what, ending in endings.items()}


def wider_searches(counts: Counts, state: SearchState) -> list[tuple[str, int, str]]:
    """Return for an empty search the filters to remove, how many images that gives, and the link; fewest images first."""
    wider = []
    if state.confidence:
        wider.append(("any confidence", state.without_confidence()))
    for name in state.filters:
        wider.append((f"every {FACETS[name].heading.lower()}", state.with_values(name, [])))
    if state.answer:
        wider.append(("both right and wrong tags", state.with_answer(None)))
    if len(wider) > 1:
        wider.append(("no filters", state.without_filters()))
    ways = [(words, counts.total(widened), widened.url()) for words, widened in wider]
    return sorted((way for way in ways if way[1]), key=lambda way: way[1])


def sorts(state: SearchState) -> list[Choice]:
    seeds = {"random": random.randint(1, MOST_SEED)}  # selected again, the order is another one
    return [
        Choice(words, state.with_sort(sort, seeds.get(sort, 0)).url(), sort == state.sort)
        for sort, words in SORTS.items()
    ]


def sizes(state: SearchState) -> list[Choice]:
    return [Choice(str(n), state.with_per_page(n).url(), n == state.per_page) for n in PER_PAGE]


def thumbnail_sizes(state: SearchState) -> list[Choice]:
    return [Choice(words, state.with_size(size).url(), size == state.size) for size, words in SIZES.items()]


def pages(result: SearchResult) -> list[Choice | None]:
    """Return the numbered pages around this one, the first one and the last one; None for each gap."""
    state = result.state
    last = min(last_page(result), state.last_numbered_page)
    numbers = {1, last, *range(state.page - 2, state.page + 3)}
    numbered = sorted(n for n in numbers if 1 <= n <= last)
    links: list[Choice | None] = []
    for before, n in zip([0, *numbered], numbered, strict=False):
        if n == before + 2:
            links.append(Choice(f"{n - 1:,}", state.with_page(n - 1).url()))
        elif n > before + 2:
            links.append(None)
        links.append(Choice(f"{n:,}", state.with_page(n).url(), n == state.page))
    if state.page > last:
        links += [*([None] if state.page > last + 1 else []), Choice(f"{state.page:,}", state.url(), True)]
    return links


def last_page(result: SearchResult) -> int:
    return max(1, -(-result.total // result.state.per_page))


def next_url(result: SearchResult) -> str | None:
    """Return the link to the next page; far from the start it continues after the last hit."""
    state = result.state
    if not result.hits or state.page >= last_page(result):
        return None
    if result.after is None and state.page + 1 > state.last_numbered_page:
        return None
    return state.with_page(state.page + 1, result.after).url()


def previous_url(result: SearchResult) -> str | None:
    state = result.state
    return state.with_page(state.page - 1).url() if 1 < state.page <= state.last_numbered_page + 1 else None
