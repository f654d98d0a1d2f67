"""The state of the page of labels, which is its URL: a search, what is shown of it, the classes, and where the page begins."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from werkzeug.datastructures import MultiDict

from conf.names import has_letter, is_one_line, tidy
from indexing.fields import FACETS
from indexing.query.search_state import (
    LONGEST_VALUE,
    MOST_SEED,
    PARAMETERS,
    BadSearchError,
    SearchState,
    check_parameters,
    quote_value,
)

# What is shown: the hits of the search, or images that are suggested to label next.
CHOICES = {
    "search": "Search results",
    "uncertain": "Most uncertain",
    "disagreeing": "Models disagree",
    "diverse": "Diverse",
    "random": "Random",
    "order": "In corpus order",
}
MOST_CLASSES = 200


@dataclass(frozen=True)
class LabelState:
    """``start`` is where the page begins in an order, ``draw`` the number of what is drawn by chance."""

    search: SearchState
    show: str | None = None  # of `CHOICES`; None for what suits the corpus
    classes: tuple[str, ...] = ()  # beside those that are known
    start: int = 0
    draw: int = 0

    @classmethod
    def parse(cls, args: MultiDict[str, str]) -> "LabelState":
        """Read the query of a URL. Raises `BadSearchError`, one line, for the first invalid parameter."""
        check_parameters(args, (*PARAMETERS, "show", "class", "start", "draw"), several=(*FACETS, "class"))
        search = SearchState.parse(
            MultiDict((name, value) for name, value in args.items(multi=True) if name in PARAMETERS)
        )
        show = args.get("show") or None
        if show is not None and show not in CHOICES:
            raise BadSearchError(f"show is {quote_value(show)}; it can be {', '.join(CHOICES)}")
        return cls(
            search, show, parse_classes(args.getlist("class")), _number("start", args), _number("draw", args)
        )

    @property
    def corpus(self) -> str | None:
        """The corpus of the search, where it has just one."""
        names = self.search.values("corpus")
        return names[0] if len(names) == 1 else None

    def of(self, corpus: str) -> "LabelState":
        """Return the state of one corpus, from its beginning."""
        return replace(self.first(), search=self.search.with_values("corpus", [corpus]))

    def first(self, show: str | None = None) -> "LabelState":
        """Return the first page of what is shown, or of ``show`` instead."""
        return replace(self, search=self.search.with_page(1), show=show or self.show, start=0, draw=0)

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the URL; defaults are left out."""
        numbers = [
            (name, str(value)) for name, value in (("start", self.start), ("draw", self.draw)) if value
        ]
        show = [("show", self.show)] if self.show else []
        return [*self.search.parameters(), *show, *numbers, *(("class", name) for name in self.classes)]

    def url(self, path: str = "/label") -> str:
        query = urlencode(self.parameters(), quote_via=quote, safe=":,")
        return f"{path}?{query}" if query else path

    def with_changes(self, **changes: Any) -> "LabelState":
        return replace(self, **changes)


def parse_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes, each once, in their order. Raises `BadSearchError` for what can't be a label."""
    classes = tuple(dict.fromkeys(name for text in names if has_letter(name := tidy(text))))
    for name in classes:
        if len(name) > LONGEST_VALUE or not is_one_line(name):
            raise BadSearchError(
                f"class is {quote_value(name)}; it has to be up to {LONGEST_VALUE} printable characters"
            )
    if len(classes) > MOST_CLASSES:
        raise BadSearchError(f"class is given {len(classes)} times; the limit is {MOST_CLASSES}")
    return classes


def _number(name: str, args: MultiDict[str, str]) -> int:
    value = args.get(name) or "0"
    if not (value.isascii() and value.isdecimal() and len(value) <= 9 and int(value) <= MOST_SEED):
        raise BadSearchError(
            f"{name} is {quote_value(value)}; it has to be a whole number up to {MOST_SEED:,}"
        )
    return int(value)
