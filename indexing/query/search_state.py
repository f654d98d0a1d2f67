"""The search as its URL says it: what is filtered by, in what order, which page; each change of it is a link."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from werkzeug.datastructures import MultiDict

from conf.errors import TinyTagsError

SORTS = {
    "confidence": "most confident",
    "confidence-low": "least confident",
    "corpus": "corpus order",
    "random": "shuffled",
}
PER_PAGE = (30, 60, 120)
ANSWERS = ("right", "wrong")
SIZES = {"s": "S", "m": "M", "l": "L"}  # of thumbnails
# Filters by words that documents hold; each may be given several times, which widens.
WORDS = {"tag": "tags", "runner_up": "runners_up", "corpus": "corpora", "model": "models", "run": "runs"}
# Solr collects everything before a numbered page anew: 60 ms at this depth. Beyond it, pages go on from a document.
NUMBERED_ROWS = 30_000
MOST_WORDS, LONGEST_WORD = 200, 220
MOST_SEED = MOST_PAGE = 999_999_999

RANGE = re.compile(r"([0-9]{1,3})-([0-9]{1,3})")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_POSITION = re.compile(r"0|[1-9][0-9]{0,4}")
AFTER = re.compile(r"(0(?:\.[0-9]{1,10})?|1(?:\.0{1,10})?),([0-9a-f]{8}):([0-9]{1,9}):([0-9]{1,9})")
PARAMETERS = (*WORDS, "confidence", "answer", "sort", "seed", "per_page", "size", "page", "after")


class BadSearchError(TinyTagsError):
    """A URL that is no search: the message says what is wrong with it."""


@dataclass(frozen=True)
class After:
    """The document behind which a page goes on."""

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
    """A search. Words are sorted, so that one search has one URL and Solr's caches know it again."""

    tags: tuple[str, ...] = ()
    confidence: tuple[int, int] | None = None  # percent, both ends included
    answer: str | None = None
    sort: str = "confidence"
    per_page: int = PER_PAGE[0]
    page: int = 1
    after: After | None = None
    runners_up: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    seed: int = 0  # of the random order
    size: str = "m"

    @classmethod
    def parse(cls, args: MultiDict) -> "SearchState":
        """Read the query of a URL. Raises `BadSearchError`, one line, for the first thing in it that can't be."""
        check_parameters(args, PARAMETERS, several=WORDS)
        state = cls(
            confidence=_parse_confidence(args.get("confidence")),
            answer=_parse_choice("answer", args.get("answer"), ANSWERS),
            sort=_parse_choice("sort", args.get("sort"), SORTS) or "confidence",
            per_page=int(_parse_choice("per_page", args.get("per_page"), map(str, PER_PAGE)) or PER_PAGE[0]),
            page=_parse_whole("page", args.get("page"), 1, " from 1"),
            after=_parse_after(args.get("after")),
            seed=_parse_whole("seed", args.get("seed"), 0, f", 0 to {MOST_SEED:,}"),
            size=_parse_choice("size", args.get("size"), SIZES) or "m",
            **{field: _parse_words(name, args.getlist(name)) for name, field in WORDS.items()},
        )
        if args.get("seed") and state.sort != "random":
            raise BadSearchError(f"seed is {show(args['seed'])}; only sort=random has one")
        if state.after is not None and state.sort == "random":
            raise BadSearchError("after: the random order has numbered pages alone")
        if state.after is None and state.page > state.last_numbered_page:
            raise BadSearchError(
                f"page {state.page:,}: pages have numbers up to {state.last_numbered_page:,}; from there on, follow Next"
            )
        return state

    @property
    def start(self) -> int:
        """How many hits come before the page."""
        return (self.page - 1) * self.per_page

    @property
    def last_numbered_page(self) -> int:
        return NUMBERED_ROWS // self.per_page

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of the filter ``name``, one of `WORDS`."""
        return getattr(self, WORDS[name])

    def with_words(self, name: str, words: Iterable[str]) -> "SearchState":
        return replace(self, **{WORDS[name]: tuple(sorted(set(words)))}, page=1, after=None)

    def toggle(self, name: str, word: str) -> "SearchState":
        """Return the search with ``word`` added to the filter ``name``, or taken away from it."""
        return self.with_words(name, set(self.words(name)) ^ {word})

    def with_confidence(self, low: int, high: int) -> "SearchState":
        return replace(self, confidence=(low, high), page=1, after=None)

    def without_confidence(self) -> "SearchState":
        return replace(self, confidence=None, page=1, after=None)

    def with_answer(self, answer: str | None) -> "SearchState":
        return replace(self, answer=answer, page=1, after=None)

    def with_sort(self, sort: str, seed: int = 0) -> "SearchState":
        return replace(self, sort=sort, seed=seed, page=1, after=None)

    def with_size(self, size: str) -> "SearchState":
        return replace(self, size=size)

    def with_per_page(self, per_page: int) -> "SearchState":
        return replace(self, per_page=per_page, page=1, after=None)

    def with_page(self, page: int, after: After | None = None) -> "SearchState":
        return replace(self, page=page, after=after)

    def without_filters(self) -> "SearchState":
        nothing = dict.fromkeys(WORDS.values(), ())
        return replace(self, **nothing, confidence=None, answer=None, page=1, after=None)

    def parameters(self) -> list[tuple[str, str]]:
        """Return what the URL says, in one order; what goes without saying isn't in it."""
        pairs = [(name, word) for name in WORDS for word in self.words(name)]
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
        query = urlencode([*self.parameters(), *more.items()], quote_via=quote, safe=":,")
        return f"{path}?{query}" if query else path


def check_parameters(args: MultiDict, names: Iterable[str], several: Iterable[str] = ()) -> None:
    """Raise `BadSearchError` for a parameter that isn't among ``names``, or is given twice and not among ``several``."""
    names = list(names)
    for name, values in args.lists():
        if name not in names:
            there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
            raise BadSearchError(f"there is no parameter {show(name)}; {there}")
        if name not in several and len(values) > 1:
            raise BadSearchError(f"{name} is given {len(values)} times")


def parse_form(args: MultiDict) -> SearchState:
    """Read what the form of the confidence range sends: ``min`` and ``max`` beside the rest of the search.

    Ends in the wrong order are put right, and an empty box is the end of the scale: a person typed them.
    """
    args = args.copy()
    ends = []
    for name, empty in (("min", 0), ("max", 100)):
        value = "".join(args.poplist(name)[:1]).strip()
        if value and not (value.isascii() and value.isdecimal() and len(value) <= 4 and int(value) <= 100):
            raise BadSearchError(
                f"{name} is {show(value)}; a confidence is a whole number of percent, 0 to 100"
            )
        ends.append(int(value) if value else empty)
    args.poplist("confidence")
    return SearchState.parse(args).with_confidence(min(ends), max(ends))


def parse_position(value: str | None) -> int | None:
    """Read ``at``, the place of an image among the hits of the search it was found by, from 0."""
    if value is None:
        return None
    if not _POSITION.fullmatch(value) or int(value) >= NUMBERED_ROWS:
        raise BadSearchError(f"at is {show(value)}; a place among the hits is 0 to {NUMBERED_ROWS - 1:,}")
    return int(value)


def _parse_words(name: str, values: list[str]) -> tuple[str, ...]:
    words = {value for value in values if value}
    if len(values) > MOST_WORDS:
        raise BadSearchError(f"{len(values)} of {name} at once; there may be {MOST_WORDS}")
    for word in words:
        if len(word) > LONGEST_WORD or not word.isprintable():
            raise BadSearchError(
                f"{name} {show(word)} can't be: it has up to {LONGEST_WORD} characters that can be printed"
            )
    return tuple(sorted(words))


def _parse_confidence(value: str | None) -> tuple[int, int] | None:
    if not value:
        return None
    match = RANGE.fullmatch(value)
    low, high = map(int, match.groups()) if match else (1, 0)
    if not low <= high <= 100:
        raise BadSearchError(
            f"confidence is {show(value)}; it has to be a range of whole percents like 60-100, the lower one first"
        )
    return low, high


def _parse_choice(name: str, value: str | None, choices) -> str | None:
    choices = list(choices)
    if not value:
        return None
    if value not in choices:
        raise BadSearchError(f"{name} is {show(value)}; it can be {', '.join(choices[:-1])} or {choices[-1]}")
    return value


def _parse_whole(name: str, value: str | None, least: int, bounds: str) -> int:
    """Read a whole number of up to nine digits; where nothing is given it is ``least``. ``bounds`` is for the message."""
    if not value:
        return least
    if not _WHOLE.fullmatch(value) or int(value) < least:
        raise BadSearchError(f"{name} is {show(value)}; it has to be a whole number{bounds}")
    return int(value)


def _parse_after(value: str | None) -> After | None:
    if not value:
        return None
    match = AFTER.fullmatch(value)
    if not match:
        raise BadSearchError(f"after is {show(value)}; it has to come from a link of this page")
    return After(float(match[1]), value.split(",", 1)[1])


def show(value: str) -> str:
    """Quote what somebody wrote, but not a page of it."""
    return repr(value if len(value) <= 60 else value[:57] + "...")
