"""Facets, ways out of an empty search and page links, worked out for templates, which only print them."""

import random
from dataclasses import dataclass

from indexing.query.counts import Counts
from indexing.query.search import SearchResult
from indexing.query.search_state import MOST_SEED, PER_PAGE, SIZES, SORTS, WORDS, SearchState

# What goes before a word of a filter where it stands by itself; a tag needs nothing.
SAID = {"tag": "", "runner_up": "runner-up", "corpus": "corpus", "model": "model", "run": "run"}


@dataclass(frozen=True)
class Value:
    """One value of a facet: what it is called, how many hits it would give, whether it is on, and the link that turns it."""

    value: str
    count: int
    selected: bool
    toggle_url: str
    share: float = 0.0  # of the largest count of the facet, in percent


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram of confidence."""

    percent: int
    count: int
    height: float  # percent of the highest
    selected: bool  # whether the search's range takes it in
    picked: bool  # whether the range is this bar alone
    url: str


@dataclass(frozen=True)
class Choice:
    """One of several links of which one is on: an order, a size, a page."""

    text: str
    url: str
    selected: bool = False


def tag_values(counts: Counts, state: SearchState) -> list[Value]:
    """Return every tag, and those that were asked for but aren't there."""
    return _values("tag", counts.by_tag(state), state)


def runner_up_values(counts: Counts, state: SearchState) -> list[Value]:
    return _values("runner_up", counts.by_runner_up(state), state)


def source_values(counts: Counts, state: SearchState) -> dict[str, list[Value]]:
    """Return corpora, models and runs, by these names; ``counts`` are those of everything. One alone is no choice."""
    found = {name: _values(name, counts.by_word(state, name), state) for name in ("corpus", "model", "run")}
    return {name: values for name, values in found.items() if len(values) > 1}


def _values(name: str, counts: dict[str, int], state: SearchState) -> list[Value]:
    found = dict.fromkeys(state.words(name), 0) | counts
    most = max(found.values(), default=0) or 1
    return [
        Value(
            word,
            found[word],
            word in state.words(name),
            state.toggle(name, word).url(),
            round(100 * found[word] / most, 1),
        )
        for word in sorted(found)
    ]


def answer_values(counts: Counts, state: SearchState) -> list[Value]:
    """Return how many tags are right and wrong; nothing where no labels are known at all."""
    if not counts.labelled.any():
        return []
    found = counts.by_answer(state)
    most = max(found.values()) or 1
    return [
        Value(
            answer,
            found[answer],
            state.answer == answer,
            state.with_answer(None if state.answer == answer else answer).url(),
            round(100 * found[answer] / most, 1),
        )
        for answer in found
    ]


def histogram(counts: Counts, state: SearchState) -> list[Bar]:
    found = counts.by_percent(state)
    most = max(found.values(), default=0) or 1
    low, high = state.confidence or (0, 100)
    bars = []
    for percent, count in found.items():
        picked = state.confidence is not None and [p for p in found if low <= p <= high] == [percent]
        url = (state.without_confidence() if picked else state.with_confidence(percent, percent)).url()
        bars.append(Bar(percent, count, round(100 * count / most, 1), low <= percent <= high, picked, url))
    return bars


def range_box(counts: Counts, state: SearchState) -> dict:
    """Return what the two boxes under the histogram start from: the scale's ends and step, and the range that is on."""
    percents = counts.percents or [0, 100]
    low, high = state.confidence or (percents[0], 100)
    steps = 100 // counts.trees if counts.trees and 100 % counts.trees == 0 else 1
    return {"least": percents[0], "step": steps, "low": low, "high": high}


def filters(counts: Counts, state: SearchState) -> list[Choice]:
    """Return the filters that are on, each with the link that takes it off."""
    chosen = [
        Choice(f"{SAID[name]} {word}".strip(), state.toggle(name, word).url())
        for name in WORDS
        for word in state.words(name)
    ]
    if state.confidence:
        chosen.append(Choice(confidence_words(state), state.without_confidence().url()))
    if state.answer:
        chosen.append(Choice(f"{state.answer} tags", state.with_answer(None).url()))
    return chosen


def confidence_words(state: SearchState) -> str:
    low, high = state.confidence
    return f"{low} %" if low == high else f"{low}–{high} %"


def ways_out(counts: Counts, state: SearchState) -> list[tuple[str, int, str]]:
    """Return for an empty search which filter to widen, how many images that gives, and the link; most images first."""
    wider = []
    if state.confidence:
        wider.append(("any confidence", state.without_confidence()))
    for name in WORDS:
        if state.words(name):
            wider.append((f"every {SAID[name] or name}", state.with_words(name, [])))
    if state.answer:
        wider.append(("right and wrong tags alike", state.with_answer(None)))
    if len(wider) > 1:
        wider.append(("no filter at all", state.without_filters()))
    found = [(words, counts.total(widened), widened.url()) for words, widened in wider]
    return sorted((way for way in found if way[1]), key=lambda way: way[1])


def sorts(state: SearchState) -> list[Choice]:
    seeds = {"random": random.randint(1, MOST_SEED)}  # chosen again, it shuffles again
    return [
        Choice(words, state.with_sort(sort, seeds.get(sort, 0)).url(), sort == state.sort)
        for sort, words in SORTS.items()
    ]


def sizes(state: SearchState) -> list[Choice]:
    return [Choice(str(n), state.with_per_page(n).url(), n == state.per_page) for n in PER_PAGE]


def thumbnail_sizes(state: SearchState) -> list[Choice]:
    return [Choice(words, state.with_size(size).url(), size == state.size) for size, words in SIZES.items()]


def pages(found: SearchResult) -> list[Choice | None]:
    """Return the numbered pages around this one, the first and the last that have numbers; None where some are left out."""
    state = found.state
    last = min(last_page(found), state.last_numbered_page)
    numbers = {1, last, *range(state.page - 2, state.page + 3)}
    shown = sorted(n for n in numbers if 1 <= n <= last)
    links: list[Choice | None] = []
    for before, n in zip([0, *shown], shown, strict=False):
        if n == before + 2:
            links.append(Choice(f"{n - 1:,}", state.with_page(n - 1).url()))
        elif n > before + 2:
            links.append(None)
        links.append(Choice(f"{n:,}", state.with_page(n).url(), n == state.page))
    if state.page > last:
        links += [*([None] if state.page > last + 1 else []), Choice(f"{state.page:,}", state.url(), True)]
    return links


def last_page(found: SearchResult) -> int:
    return max(1, -(-found.total // found.state.per_page))


def next_url(found: SearchResult) -> str | None:
    """Return the link to the next page; far from the start it goes on from the last hit."""
    state = found.state
    if not found.hits or state.page >= last_page(found):
        return None
    if found.after is None and state.page + 1 > state.last_numbered_page:
        return None
    return state.with_page(state.page + 1, found.after).url()


def previous_url(found: SearchResult) -> str | None:
    state = found.state
    return state.with_page(state.page - 1).url() if 1 < state.page <= state.last_numbered_page + 1 else None
