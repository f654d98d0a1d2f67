"""The measurements of a model on its card: that of its training, and those of `tinytags evaluate`."""

from typing import Any

from conf.errors import TinyTagsError
from storage import layout
from storage.lease import lease
from storage.store import Store
from tagging.calibration import ENOUGH_IMAGES
from tagging.models import read_card

Evaluation = dict[str, Any]


class PrecisionNotReachedError(TinyTagsError):
    """No threshold reaches the precision; ``best`` is the row of thresholds with the highest one, if there is any."""

    def __init__(self, message: str, best: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.best = best

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.best)


def evaluations(card: dict[str, Any]) -> list[Evaluation]:
    """Return the evaluations on a card, the newest first; entries of another form are left out."""
    entries = card.get("evaluations")
    known = [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("quality"), dict)
    ]
    return known[::-1]


def record(store: Store, name: str, model_hash: str, evaluation: Evaluation) -> None:
    """Add an evaluation to a model's card, in place of one on the same images.

    Raises `LeaseHeldError` where another process writes the model, and `TinyTagsError` where it is another model now.
    """
    with lease(store, layout.model_lease(name), f"model {name!r}"):
        card = read_card(store, name)
        if card.get("hash") != model_hash:
            raise TinyTagsError(f"model {name!r} has changed while it was measured; measure it again")
        others = [entry for entry in evaluations(card)[::-1] if _images(entry) != _images(evaluation)]
        store.write_json(layout.model_card(name), card | {"evaluations": [*others, evaluation]})


def _images(entry: Evaluation) -> tuple[Any, ...]:
    return entry.get("corpus_hash"), entry.get("part"), bool(entry.get("training_images"))


def best_known(card: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the quality that says what to expect of a model, and what it was measured on; None where none is known.

    It is that of the training or, for a card without, of the newest evaluation on images that the model was not trained on.
    """
    quality, measured_on = card.get("quality"), card.get("measured_on")
    if isinstance(quality, dict):
        return quality, measured_on if isinstance(measured_on, dict) else {}
    for entry in evaluations(card):
        if not is_marked(entry):
            return entry["quality"], entry
    return None


def is_marked(entry: Evaluation) -> bool:
    """Return whether an evaluation is of images that the model was trained on, so that its figures are too good."""
    return bool(entry.get("training_images", 0) != 0)


def warning(entry: Evaluation) -> str | None:
    """Return what the figures of an evaluation on training data are marked with; None for any other."""
    if not is_marked(entry):
        return None
    trained, images = entry.get("training_images"), entry.get("images")
    if isinstance(trained, int) and isinstance(images, int):
        return f"too good: the model was trained on {trained:,} of these {images:,} images"
    return "too good: the model was trained on images of this corpus"


def threshold_for(card: dict[str, Any], precision: float) -> dict[str, Any]:
    """Return the row of the lowest threshold whose measured precision, on `ENOUGH_IMAGES` or more, is ``precision`` or more.

    Raises `PrecisionNotReachedError` where there is none, and `TinyTagsError` where the quality of the model is unknown.
    """
    known = best_known(card)
    name = card.get("name")
    if known is None:
        raise TinyTagsError(
            f"model {name!r} has no measured precision; measure it with `tinytags evaluate --model {name}`, or give "
            "--min-confidence"
        )
    quality, _ = known
    rows = [row for row in quality["thresholds"] if row["images"] >= ENOUGH_IMAGES]
    for row in rows:
        if row["precision"] >= precision:
            return dict(row)
    if not rows:
        raise PrecisionNotReachedError(
            f"model {name!r} was measured on {quality['images']:,} images; a threshold by precision needs {ENOUGH_IMAGES} or "
            "more with a tag; measure it on more, or give --min-confidence",
            None,
        )
    best = max(rows, key=lambda row: row["precision"])
    reached = int(best["precision"] * 1000) / 1000
    raise PrecisionNotReachedError(
        f"model {name!r} does not reach a precision of {precision:g}: at most {reached:g}, at a confidence of "
        f"{best['confidence']:g} or more ({best['images']:,} of {quality['images']:,} images); give --min-precision {reached:g} "
        "or less",
        best,
    )
