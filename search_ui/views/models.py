"""The pages of models: the card of each with plots and pixel importance, of one model or two side by side."""

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import quote

import numpy as np
from flask import Blueprint, Response, abort, current_app, jsonify, render_template, request
from flask.blueprints import BlueprintSetupState

from conf.cached import Answer
from indexing.query.search_state import SearchState, check_parameters, quote_value
from indexing.solr_errors import SolrError
from ingest.image import SIDE, to_png
from search_ui import api_models as api
from search_ui import png
from search_ui.board import WAIT_SECONDS
from search_ui.details import public
from search_ui.library import image_urls, version_of
from search_ui.model_cards import Card, Importance, Models
from search_ui.sources import sources
from storage.store import StoreError, StoreUnavailableError
from tagging import cards, plots
from tagging.calibration import ENOUGH_IMAGES
from tagging.model import explained_kind

blueprint = Blueprint("models", __name__)

COLOURS: tuple[api.Colour, ...] = ("red", "green", "blue")
# The images of pixel importance: of all colours together, and of each by its place in the layout.
CHANNELS: dict[str, int | None] = {"all": None, **{colour: place for place, colour in enumerate(COLOURS)}}
TOP_PIXELS = 10


@blueprint.record_once
def _make_models(state: BlueprintSetupState) -> None:
    store = state.app.extensions["tinytags"].library.store
    state.app.extensions["tinytags.models"] = Models(store, state.app.config["REFRESH_SECONDS"])


def models() -> Models:
    """Return the models of the current application."""
    return cast(Models, current_app.extensions["tinytags.models"])


@dataclass(frozen=True)
class Side:
    """One model, prepared for a page."""

    name: str
    card: Card
    quality: cards.Quality | None
    facts: list[tuple[str, str]]
    runs: list[dict[str, Any]]
    links: dict[int, str]  # the search for a percentage or more, where a run of this model is published
    search: (
        Callable[..., str] | None
    )  # from label and tag to the search for them, where such a run has labels
    pixels: dict[
        str, str
    ]  # the URLs of the images of pixel importance by channel; empty where there are none
    top: list[api.PixelShare]
    channels: dict[str, float]
    evaluations: list[cards.Evaluation]
    mistakes: list[dict[str, Any]]  # the most confident ones of the newest evaluation with its images here
    mistakes_of: str
    importance_note: str | None
    importance_error: str | None


def model_url(name: str) -> str:
    """Return the URL of a model's page."""
    return f"/models/{quote(name)}"


@blueprint.get("/models")
def index() -> str:
    """Every model, the best one first."""
    summaries = [_summary(name, card) for name, card in models().cards().items()]
    return render_template("models.html", models=sorted(summaries, key=_rank))


def _rank(summary: api.ModelSummary | api.BrokenModel) -> float:
    accuracy = None if "error" in summary else summary["accuracy"]
    return 1 if accuracy is None else -accuracy


@blueprint.get("/api/models")
def api_models() -> Response:
    """All models, each with its most important numbers."""
    answer: api.Models = {"models": [_summary(name, card) for name, card in models().cards().items()]}
    return jsonify(answer)


def _summary(name: str, card: Card) -> api.ModelSummary | api.BrokenModel:
    if "error" in card:
        return {"model": name, "error": public(card["error"])}
    quality = cards.read_quality(card)
    return {
        "model": name,
        "kind": card.get("kind"),
        "engine": card.get("engine"),
        "hash": card["hash"],
        "classes": len(card["classes"]),
        "trees": card.get("trees"),
        "trained_on": card.get("trained_on"),
        "measured_on": card.get("measured_on"),
        "accuracy": quality.accuracy if quality else None,
        "created": card.get("created"),
        "url": model_url(name),
    }


@blueprint.get("/models/<name>")
def model(name: str) -> str:
    """One model, or two side by side: ``with`` names the other one."""
    other = request.args.get("with") or None
    check_parameters(request.args, ["with"])
    until = time.monotonic() + WAIT_SECONDS
    known = models().cards(until)
    sides = [_side(known, one, until) for one in dict.fromkeys([name, other or name])]
    measured = [(side.name, side.quality) for side in sides if side.quality]
    classes = _classes([side.quality for side in sides])
    same = len({repr(side.card.get("measured_on")) for side in sides if side.quality}) < 2
    return render_template(
        "model.html",
        sides=sides,
        others=[one for one, card in known.items() if one != name and "error" not in card],
        calibration=plots.calibration(measured) if measured else None,
        coverage=plots.coverage(measured) if measured else None,
        plots=plots,
        enough=ENOUGH_IMAGES,
        facts=cards.together(side.facts for side in sides),
        thresholds=[(side, cards.few(side.quality.thresholds)) for side in sides if side.quality],
        classes=classes[: cards.TABLE_CLASSES],
        classes_left_out=max(len(classes) - cards.TABLE_CLASSES, 0),
        same_images=same,
        evaluated=_evaluated(sides),
        darkest=max(
            (cell.share for _, one in measured for row in one.confusion or [] for cell in row), default=0
        ),
    )


def _classes(sides: list[cards.Quality | None]) -> list[tuple[str, list[cards.ClassQuality | None]]]:
    """Return every class of the models, with the quality of each model; the most frequent first where not all are shown."""
    tables = [{row.name: row for row in side.classes} if side else {} for side in sides]
    names = dict.fromkeys(name for table in tables for name in table)
    classes = [(name, [table.get(name) for table in tables]) for name in names]
    if len(classes) > cards.TABLE_CLASSES:
        classes.sort(key=lambda row: -sum(quality.images for quality in row[1] if quality))
    return classes


def _evaluated(sides: list[Side]) -> list[tuple[str, list[cards.Evaluation | None]]]:
    """Return the images that the models were evaluated on, with the evaluation of each model on them.

    One on images that its model was trained on is not put beside one on new images.
    """
    tables = [
        {(one.corpus_hash, one.measured_on, bool(one.warning)): one for one in reversed(side.evaluations)}
        for side in sides
    ]
    keys = dict.fromkeys(key for table in tables for key in reversed(table))
    return [(key[1], [table.get(key) for table in tables]) for key in keys]


@blueprint.get("/api/models/<name>")
def api_model(name: str) -> Response:
    """The whole card of a model, what follows from it, and the runs of this model."""
    until = time.monotonic() + WAIT_SECONDS
    side = _side(models().cards(until), name, until)
    quality = side.quality
    answer: api.Model = {
        "model": name,
        "url": model_url(name),
        "card": side.card,
        "calibration": [_api_bin(bin) for bin in quality.bins] if quality else None,
        "thresholds": [_api_threshold(row, side.links) for row in quality.thresholds] if quality else None,
        "mistakes": [
            {"label": label, "tag": tag, "images": count, "share": round(share, 6)}
            for label, tag, count, share in quality.mistakes
        ]
        if quality
        else None,
        "pixels": side.pixels or None,
        "channels": side.channels or None,
        "top_pixels": side.top,
        "runs": [{"run": run["run"], "published": run["published"]} for run in side.runs],
        "evaluations": [_api_evaluation(one) for one in side.evaluations],
    }
    return jsonify(answer)


def _api_evaluation(one: cards.Evaluation) -> api.Evaluation:
    return {
        "corpus": one.corpus,
        "corpus_hash": one.corpus_hash,
        "measured_on": one.measured_on,
        "measured": one.measured,
        "images": one.quality.images,
        "accuracy": one.quality.accuracy,
        "interval": [round(end, 6) for end in one.quality.interval],
        "top_2": one.quality.top_2,
        "calibration_error": one.quality.calibration_error,
        "left_out": one.left_out,
        "warning": one.warning,
    }


def _api_bin(bin: cards.Bin) -> api.CalibrationBin:
    return {
        "confidence": [bin.low, bin.high],
        "images": bin.images,
        "right": bin.right,
        "share": round(bin.share, 6),
        "interval": [round(bin.least, 6), round(bin.most, 6)],
    }


def _api_threshold(row: cards.Threshold, links: dict[int, str]) -> api.ThresholdRow:
    return {
        "percent": row.percent,
        "votes": row.votes,
        "images": row.images,
        "right": row.right,
        "kept": row.kept,
        "precision": row.precision,
        "url": links.get(row.percent),
    }


def _side(known: dict[str, Card], name: str, until: float) -> Side:
    card = _known_card(known, name)
    quality = cards.read_quality(card)
    runs = [
        run
        for run in sources().board.now(until)["runs"]
        if (run.get("model"), run.get("model_hash")) == (name, card["hash"])
    ]
    published = [run for run in runs if run["published"]]
    least = min((round(100 * run["min_confidence"], 6) for run in published), default=101)
    state = SearchState({"model": (name,)})
    links = {
        row.percent: state.with_confidence(row.percent, 100).url()
        for row in (quality.thresholds if quality else [])
        if row.percent >= least
    }
    kind = explained_kind(card.get("kind"))
    answer: Answer[Importance] = models().importance(name, card["hash"], until) if kind else Answer()
    importance = answer.value
    version = f"v={card['hash'][:8]}"
    evaluations = cards.read_evaluations(card)
    mistakes_of, mistakes = _mistakes(evaluations)
    return Side(
        name=name,
        card=card,
        quality=quality,
        facts=cards.facts(card),
        runs=runs,
        links=links,
        search=_label_search(state, published),
        pixels={
            channel: f"{model_url(name)}/pixels.png?{version}"
            + ("" if channel == "all" else f"&channel={channel}")
            for channel in CHANNELS
        }
        if importance is not None
        else {},
        top=_top(importance) if importance is not None else [],
        channels=_channels(importance) if importance is not None else {},
        evaluations=evaluations,
        mistakes=mistakes,
        mistakes_of=mistakes_of,
        importance_note=kind.importance_note if kind else None,
        importance_error=public(answer.error) if answer.error else None,
    )


def _label_search(state: SearchState, published: list[dict[str, Any]]) -> Callable[..., str] | None:
    """Return what gives the search for a label and a tag among the published runs of a model; None where none has labels."""
    try:
        labels = sources().published.now().of(state).counts.values("label") if published else ()
    except SolrError:
        return None

    def search(label: str | None = None, tag: str | None = None) -> str:
        wanted = {"label": label, "tag": tag}
        filters = {name: (value,) for name, value in wanted.items() if value is not None}
        return replace(state, filters={**state.filters, **filters}).url()

    return search if labels else None


def _mistakes(evaluations: list[cards.Evaluation]) -> tuple[str, list[dict[str, Any]]]:
    """Return what the newest evaluation whose images are in the store was measured on, and its mistakes with their pictures."""
    for one in evaluations:
        with contextlib.suppress(StoreUnavailableError):  # the rest of the page is useful without
            corpus = sources().library.corpus(one.corpus)
            if one.mistakes and corpus is not None and corpus.hash == one.corpus_hash:
                version = version_of(corpus)
                return one.measured_on, [
                    mistake | image_urls(mistake | {"corpus": one.corpus}, version)
                    for mistake in one.mistakes
                ]
    return "", []


def _known_card(known: dict[str, Card], name: str) -> Card:
    """Return the card of a model; abort with 404 where there is no such model or its card can't be read."""
    if name not in known:
        there = ", ".join(one for one, card in known.items() if "error" not in card)
        abort(
            404,
            f"There is no model {quote_value(name)}; "
            + (f"there are {there}." if there else "there is none yet: tinytags train makes one."),
        )
    if "error" in known[name]:
        abort(404, known[name]["error"])
    return known[name]


def _top(importance: Importance) -> list[api.PixelShare]:
    """Return the most important pixels: row and column from 0, channel and share of the importance."""
    first = np.argsort(-importance, kind="stable")[:TOP_PIXELS]
    return [
        {
            "row": int(at % SIDE**2 // SIDE),
            "column": int(at % SIDE),
            "channel": COLOURS[at // SIDE**2],
            "share": round(float(importance[at]), 6),
        }
        for at in first.tolist()
        if importance[at] > 0
    ]


def _channels(importance: Importance) -> dict[str, float]:
    sums = importance.reshape(3, -1).sum(axis=1).tolist()
    return {name: round(share, 6) for name, share in zip(COLOURS, sums, strict=True)}


@blueprint.get("/models/<name>/pixels.png")
def pixels(name: str) -> Response:
    """The pixel importance of a model as an image, each pixel ``scale`` x ``scale`` large."""
    check_parameters(request.args, ["scale", "channel", "v"])
    scale, channel = png.parse_scale(8), request.args.get("channel", "all")
    if channel not in CHANNELS:
        abort(400, f"channel is one of {', '.join(CHANNELS)}.")
    card = _known_card(models().cards(), name)
    if explained_kind(card.get("kind")) is None:
        abort(
            404,
            f"Model {name!r} has no pixel importance: models of kind {card.get('kind')!r} do not compute it.",
        )
    version = card["hash"][:8]

    def draw() -> bytes:
        answer = models().importance(name, card["hash"], time.monotonic() + WAIT_SECONDS)
        if answer.value is None:
            raise StoreError(answer.error or "no answer")
        return to_png(plots.importance_image(answer.value, CHANNELS[channel]), scale)

    # Hashed, as a name may be any text.
    etag = hashlib.sha256(f"{card['hash']} {scale} {channel}".encode()).hexdigest()[:16]
    return png.answer(etag, version, draw)
