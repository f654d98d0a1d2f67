"""The JSON responses of the API as types: views build them, mypy checks them, `search_ui.openapi` describes them.

They are plain dicts: nothing is validated when a response is sent. The tests do that, with the schemas made from here.
"""

from typing import (
    Annotated,
    Literal,
    NotRequired,  # pydantic needs these before Python 3.12
)

from typing_extensions import TypedDict

from indexing.query.search_state import PER_PAGE, SORTS
from search_ui.schemas import Count, Hit, Keywords, Percent, Positive, Share, Similar, Tagged, Time


class Error(TypedDict):
    error: str
    status: int


# /api/search


class Value(TypedDict):
    """A value of a facet: the hits it would give, whether it is selected, and the search that toggles it."""

    value: str
    count: Count
    selected: bool
    toggle: str


class TagValue(TypedDict):
    tag: str
    count: Count
    selected: bool
    toggle: str


class ConfidenceBar(TypedDict):
    percent: Percent
    count: Count
    selected: bool


class Labelled(TypedDict):
    """Of the hits whose label is known, how many have the right tag and how many a wrong one."""

    known: Count
    right: Count
    wrong: Count
    # The models that were trained on some of these images: more of their tags are right than of new images.
    trained: list[str]


class PrecisionEstimate(TypedDict):
    """The precision and coverage of a model's tags in a range of confidence, measured on images it was not trained on.

    ``tags`` are those it is for: the chosen ones, or none for all tags where too few images with these were measured.
    ``interval`` is the 95 % interval of the precision.
    """

    model: str
    tags: list[str]
    low: Percent
    high: Percent
    images: Count
    precision: Share
    interval: Annotated[list[Share], Keywords(minItems=2, maxItems=2)]
    kept: Share


class Search(TypedDict):
    """One page of a search: ``total`` tags of ``images`` images, null where the tags of several models for one corpus are not compared:
    not yet, or as they are more than 200,000. The values of every other facet are in a list of its name too: "runners_up", "models"...
    """

    total: Count
    images: Count | None
    milliseconds: Count
    collections: list[str]
    page: Count
    pages: Count
    per_page: Annotated[int, Keywords(enum=list(PER_PAGE))]
    sort: Annotated[str, Keywords(enum=list(SORTS))]
    tags: list[TagValue]
    confidence: list[ConfidenceBar]
    labelled: Labelled
    expected: list[PrecisionEstimate]
    hits: list[Hit]
    next: str | None


# /api/images


class Source(TypedDict):
    """The record that an image comes from; ``offset`` is its first byte in a tiny-images dump."""

    dump: str
    format: str
    record: Count
    offset: Count | None
    split: str | None
    name: str | None


class CorrectionEntry(TypedDict):
    label: str
    by: str
    at: Time
    number: Count


class Contributor(TypedDict):
    name: str
    corrections: Count
    undone: Count
    first: Time
    last: Time


class Contributors(TypedDict):
    """The last names under which corrections were made, the newest first: how many are in effect, and how many undone."""

    names: list[Contributor]


class GivenLabel(TypedDict):
    """The label of an image by a person, null where there is none; ``added`` where the request stored it."""

    corpus: str
    partition: Count
    row: Count
    label: str | None
    added: bool


class Labels(TypedDict):
    """The labels of the images of a request after it, in its order."""

    labels: list[GivenLabel]


class Image(TypedDict):
    """Everything known about an image. ``unreadable`` is the reason why its pixels can't be read."""

    corpus: str
    partition: Count
    row: Count
    label: str | None
    source: Source
    unreadable: str | None
    corrections: list[CorrectionEntry] | None
    corrections_error: str | None
    tags: list[Tagged]
    similar: list[Similar] | None
    png: str


# /api/classify


ClassShare = TypedDict("ClassShare", {"class": str, "confidence": Share})


class ClassifiedFile(TypedDict):
    """The prediction of a picture, the most confident class first; its number in the history, or null."""

    filename: str
    model: str
    milliseconds: Positive
    predictions: list[ClassShare]
    record: Count | None


class UnclassifiedFile(TypedDict):
    filename: str
    error: str


class Classified(TypedDict):
    """One result for each file, in their order; ``not_recorded`` is the reason where this client may record nothing."""

    results: list[ClassifiedFile | UnclassifiedFile]
    not_recorded: NotRequired[str]


# /api/label-detection


DetectedLabel = TypedDict("DetectedLabel", {"class": str, "label": str, "confidence": Share})


class LabelledFile(TypedDict):
    """The labels of a picture, the most confident first; ``label`` is the id of a class as in Open Images, or empty."""

    filename: str
    milliseconds: Positive
    predictions: list[DetectedLabel]


class DetectedLabels(TypedDict):
    """One result for each file, in their order."""

    results: list[LabelledFile | UnclassifiedFile]


# /api/history


class Record(TypedDict):
    """A prediction, with the correction that a person gave, if any."""

    number: Count
    at: Time
    filename: str
    size: Count
    sha256: str
    model: str
    model_hash: str
    milliseconds: Positive
    answer: str
    confidence: Share
    predictions: list[ClassShare]
    correction: str | None
    corrected_by: str | None
    corrected_at: Time | None
    png: str


class History(TypedDict):
    """Predictions, newest first. ``older`` and ``newer`` are ``before`` and ``after`` of the pages beside this one.

    ``complete`` is false where there are more than ``total``: counting them all takes too long.
    """

    total: Count
    complete: bool
    records: list[Record]
    older: Count | None
    newer: Count | None


# Probes


class Alive(TypedDict):
    status: Literal["alive"]


class Ready(TypedDict):
    status: Literal["ready"]
    collections: list[str]


class NotReady(TypedDict):
    status: Literal["not ready"]
    reason: str
