"""The JSON responses about models as types, like those of `search_ui.api`."""

from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from search_ui.schemas import Count, Keywords, Percent, Share, Time


class BrokenModel(TypedDict):
    model: str
    error: str


class ModelSummary(TypedDict):
    model: str
    kind: str | None
    engine: str | None
    hash: str
    classes: Count
    trees: Count | None
    trained_on: Any
    measured_on: Any
    accuracy: Share | None
    created: Time | None
    url: str


class Models(TypedDict):
    models: list[ModelSummary | BrokenModel]


class CalibrationBin(TypedDict):
    confidence: Annotated[list[Percent], Keywords(minItems=2, maxItems=2)]
    images: Count
    right: Count
    share: Share
    interval: Annotated[list[Share], Keywords(minItems=2, maxItems=2)]


class ThresholdRow(TypedDict):
    percent: Percent
    votes: Count | None
    images: Count
    right: Count
    kept: Share
    precision: Share | None
    url: str | None


class Mistake(TypedDict):
    label: str
    tag: str
    images: Count
    share: Share


Colour = Literal["red", "green", "blue"]


class PixelShare(TypedDict):
    row: Count
    column: Count
    channel: Colour
    share: Share


class Evaluation(TypedDict):
    """A measurement of a model; ``warning`` where it was trained on some of the images, so that the figures are too good."""

    corpus: str
    corpus_hash: str
    measured_on: str
    measured: str | None
    images: Count
    accuracy: Share | None
    interval: Annotated[list[Share], Keywords(minItems=2, maxItems=2)]
    top_2: Share | None
    calibration_error: Share | None
    left_out: Count
    warning: str | None


class ModelRun(TypedDict):
    run: str
    published: bool


class Model(TypedDict):
    """A model: its card as it is in the store, and what follows from it."""

    model: str
    url: str
    card: dict[str, Any]
    calibration: list[CalibrationBin] | None
    thresholds: list[ThresholdRow] | None
    mistakes: list[Mistake] | None
    pixels: dict[str, str] | None
    channels: dict[str, Share] | None
    top_pixels: list[PixelShare]
    runs: list[ModelRun]
    evaluations: list[Evaluation]
