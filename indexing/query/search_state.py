"""The state of a search, which is its URL: filters, order and page; each change of it is a link."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from werkzeug.datastructures import MultiDict

from conf.errors import TinyTagsError
from conf.names import is_one_line
from indexing.fields import FACETS, RANGES

SORTS = {
    "confidence": "most confident",
    "confidence-low": "least confident",
    "corpus": "corpus order",
    "random": "shuffled",
}
PER_PAGE = (30, 60, 120)
ANSWERS = ("right", "wrong")
SIZES = {"s": "S", "m": "M", "l": "L"}  # of thumbnails
# For a numbered page Solr collects all hits before it: 60 ms at this depth. Beyond, pages continue after a document.
NUMBERED_ROWS = 30_000
MOST_VALUES, LONGEST_VALUE = 200, 220  # of one filter
MOST_SEED = MOST_PAGE = 999_999_999

RANGE = re.compile(r"([0-9]{1,3})-([0-9]{1,3})")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_POSITION = re.compile(r"0|[1-9][0-9]{0,4}")
AFTER = re.compile(r"(0(?:\.[0-9]{1,10})?|1(?:\.0{1,10})?),([0-9a-f]{8}):([0-9]{1,9}):([0-9]{1,9})")
PARAMETERS = (*FACETS, *RANGES, "answer", "sort", "seed", "per_page", "size", "page", "after")


class BadSearchError(TinyTagsError):
    """A URL that isn't a valid search: the message names the parameter and what it has to be."""


class UnknownParameterError(BadSearchError):
    """A URL with unknown parameters, ``names``."""

    def __init__(self, message: str, names: list[str]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True)
class After:
    """The document after which a page begins."""

    confidence: float
    id: str

    @property
    def partition(self) -> int:
        return int(self.id.split(":")[1])

    @property
    def row(self) -> int:
        return int(self.id.split(":")[2])

    def __str__(self) -> str:
        return f"{self.confidence:.10f}".rstrip("0").rstrip(".") + f",{self.id}"


@dataclass(frozen=True)
class SearchState:
    """A search. ``filters`` are the values of facets by field, any of which a hit may have.

    Values are sorted and fields without values left out, so that one search has one URL, and one entry in Solr's caches.
    """

    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    confidence: tuple[int, int] | None = None  # percent, both ends included
    answer: str | None = None
    sort: str = "confidence"
    per_page: int = PER_PAGE[0]
    page: int = 1
    after: After | None = None
    seed: int = 0  # of the random order
    size: str = "m"

    def __post_init__(self) -> None:
        if unknown := self.filters.keys() - FACETS.keys():
            raise ValueError(f"no facet {', '.join(sorted(unknown))}")
        filters = {name: tuple(sorted(set(values))) for name in FACETS if (values := self.filters.get(name))}
        object.__setattr__(self, "filters", filters)

    @classmethod
    def parse(cls, args: MultiDict[str, str]) -> "SearchState":
        """Read the query of a URL. Raises `BadSearchError`, one line, for the first invalid parameter."""
        check_parameters(args, PARAMETERS, several=FACETS)
        state = cls(
            {name: _parse_values(name, args.getlist(name)) for name in FACETS},
            confidence=_parse_confidence(args.get("confidence")),
            answer=_parse_choice("answer", args.get("answer"), ANSWERS),
            sort=_parse_choice("sort", args.get("sort"), SORTS) or "confidence",
            per_page=int(_parse_choice("per_page", args.get("per_page"), map(str, PER_PAGE)) or PER_PAGE[0]),
            page=_parse_whole("page", args.get("page"), 1, " from 1"),
            after=_parse_after(args.get("after")),
            seed=_parse_whole("seed", args.get("seed"), 0, f", 0 to {MOST_SEED:,}"),
            size=_parse_choice("size", args.get("size"), SIZES) or "m",
        )
        if args.get("seed") and state.sort != "random":
            raise BadSearchError(f"seed is {quote_value(args['seed'])}; only sort=random has one")
        if state.after is not None and state.sort == "random":
            raise BadSearchError("after can't be used with sort=random, which has numbered pages only")
        if state.after is None and state.page > state.last_numbered_page:
            raise BadSearchError(
                f"page is {state.page:,}; numbered pages end at {state.last_numbered_page:,}, from there follow Next"
            )
        return state

    @property
    def start(self) -> int:
        """The number of hits before the page."""
        return (self.page - 1) * self.per_page

    @property
    def last_numbered_page(self) -> int:
        return NUMBERED_ROWS // self.per_page

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values that the facet ``name`` is filtered by."""
        return self.filters.get(name, ())

    def with_values(self, name: str, values: Iterable[str]) -> "SearchState":
        """Return the search with these values of a facet, on its first page."""
        return replace(self, filters={**self.filters, name: tuple(values)}, page=1, after=None)

    def toggle(self, name: str, value: str) -> "SearchState":
        """Return the search with ``value`` added to the filter ``name``, or removed from it."""
        return self.with_values(name, set(self.values(name)) ^ {value})

    def with_confidence(self, low: int, high: int) -> "SearchState":
        """Return the search with confidences from ``low`` to ``high`` percent, both included."""
        return replace(self, confidence=(low, high), page=1, after=None)

    def without_confidence(self) -> "SearchState":
        """Return the search with all confidences."""
        return replace(self, confidence=None, page=1, after=None)

    def with_answer(self, answer: str | None) -> "SearchState":
        """Return the search with right or wrong tags only; with all for None."""
        return replace(self, answer=answer, page=1, after=None)

    def with_sort(self, sort: str, seed: int = 0) -> "SearchState":
        """Return the search in another order; ``seed`` decides a random one."""
        return replace(self, sort=sort, seed=seed, page=1, after=None)

    def with_size(self, size: str) -> "SearchState":
        """Return the search with thumbnails of another size."""
        return replace(self, size=size)

    def with_per_page(self, per_page: int) -> "SearchState":
        """Return the search with another number of hits a page."""
        return replace(self, per_page=per_page, page=1, after=None)

    def with_page(self, page: int, after: After | None = None) -> "SearchState":
        """Return another page of the search; ``after`` is the last hit before it, where it isn't found by its number."""
        return replace(self, page=page, after=after)

    def without_filters(self) -> "SearchState":
        """Return the search of all documents, in the same order."""
        return replace(self, filters={}, confidence=None, answer=None, page=1, after=None)

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the URL, always in the same order; defaults are left out."""
        pairs = [(name, value) for name, values in self.filters.items() for value in values]
        if self.confidence:
            pairs.append(("confidence", f"{self.confidence[0]}-{self.confidence[1]}"))
        if self.answer:
            pairs.append(("answer", self.answer))
        if self.sort != "confidence":
            pairs.append(("sort", self.sort))
        if self.seed:
            pairs.append(("seed", str(self.seed)))
        if self.per_page != PER_PAGE[0]:
            pairs.append(("per_page", str(self.per_page)))
        if self.size != "m":
            pairs.append(("size", self.size))
        if self.page > 1:
            pairs.append(("page", str(self.page)))
        if self.after:
            pairs.append(("after", str(self.after)))
        return pairs

    def url(self, path: str = "/", **more: object) -> str:
        """Return the URL of the search on the page ``path``, with ``more`` parameters at its end."""
        pairs = [*self.parameters(), *more.items()]
        query = "&".join([f"{name}={_quoted(str(value))}" for name, value in pairs])
        return f"{path}?{query}" if query else path


@functools.lru_cache(maxsize=1_000)  # a page has some 60 links, nearly all with the same values
def _quoted(value: str) -> str:
    return quote(value, safe=":,")


def check_parameters(args: MultiDict[str, str], names: Iterable[str], several: Iterable[str] = ()) -> None:
    """Raise `UnknownParameterError` for parameters that aren't among ``names``, `BadSearchError` for one that is given
    twice and not among ``several``.
    """
    names = list(names)
    if unknown := [name for name in args if name not in names]:
        valid = (
            f"valid {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
            if names
            else "there are none here"
        )
        raise UnknownParameterError(f"unknown parameter {quote_value(unknown[0])}; {valid}", unknown)
    for name, values in args.lists():
        if name not in several and len(values) > 1:
            raise BadSearchError(f"{name} is given {len(values)} times; it can be given once")


def parse_form(args: MultiDict[str, str]) -> SearchState:
    """Read the form of the confidence range: ``min`` and ``max`` beside the other parameters of the search.

    Since people type them, they may be in either order, and an empty one is the end of the scale.
    """
    args = args.copy()
    ends = []
    for name, empty in (("min", 0), ("max", 100)):
        value = "".join(args.poplist(name)[:1]).strip()
        if value and not (value.isascii() and value.isdecimal() and len(value) <= 4 and int(value) <= 100):
            raise BadSearchError(
                f"{name} is {quote_value(value)}; a confidence is a whole number of percent, 0 to 100"
            )
        ends.append(int(value) if value else empty)
    args.poplist("confidence")
    return SearchState.parse(args).with_confidence(min(ends), max(ends))


def parse_position(value: str | None) -> int | None:
    """Read ``at``, the position of an image among the hits of the search that led to it, from 0."""
    if value is None:
        return None
    if not _POSITION.fullmatch(value) or int(value) >= NUMBERED_ROWS:
        raise BadSearchError(
            f"at is {quote_value(value)}; a position among the hits is 0 to {NUMBERED_ROWS - 1:,}"
        )
    return int(value)


def _parse_values(name: str, values: list[str]) -> tuple[str, ...]:
    if len(values) > MOST_VALUES:
        raise BadSearchError(f"{name} is given {len(values)} times; the limit is {MOST_VALUES}")
    for value in values:
        if len(value) > LONGEST_VALUE or not is_one_line(value):
            raise BadSearchError(
                f"{name} is {quote_value(value)}; it has to be up to {LONGEST_VALUE} printable characters"
            )
    return tuple(value for value in values if value)


def _parse_confidence(value: str | None) -> tuple[int, int] | None:
    if not value:
        return None
    match = RANGE.fullmatch(value)
    low, high = map(int, match.groups()) if match else (1, 0)
    if not low <= high <= 100:
        raise BadSearchError(
            f"confidence is {quote_value(value)}; it has to be a range of whole percents like 60-100, the lower one first"
        )
    return low, high


def _parse_choice(name: str, value: str | None, choices: Iterable[str]) -> str | None:
    choices = list(choices)
    if not value:
        return None
    if value not in choices:
        raise BadSearchError(
            f"{name} is {quote_value(value)}; it can be {', '.join(choices[:-1])} or {choices[-1]}"
        )
    return value


def _parse_whole(name: str, value: str | None, least: int, bounds: str) -> int:
    """Read a whole number of up to nine digits, ``least`` by default. ``bounds`` is for the message."""
    if not value:
        return least
    if not _WHOLE.fullmatch(value) or int(value) < least:
        raise BadSearchError(f"{name} is {quote_value(value)}; it has to be a whole number{bounds}")
    return int(value)


def _parse_after(value: str | None) -> After | None:
    if not value:
        return None
    match = AFTER.fullmatch(value)
    if not match:
        raise BadSearchError(f"after is {quote_value(value)}; it has to come from a link to the next page")
    return After(float(match[1]), value.split(",", 1)[1])


def quote_value(value: str) -> str:
    """Return a value in quotes, shortened to 60 characters."""
    return repr(value if len(value) <= 60 else value[:57] + "...")
