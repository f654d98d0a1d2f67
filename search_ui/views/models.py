"""The pages of models: what each one's card says of it, with plots and the pixels it looks at, alone or beside another."""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

import numpy as np
from flask import Blueprint, abort, current_app, jsonify, render_template, request
from flask.blueprints import BlueprintSetupState

from conf.errors import TinyTagsError
from indexing.query.search_state import SearchState, check_parameters, quote_value
from ingest.image import IMAGE_BYTES, SIDE, to_png
from search_ui import cards, plots, png
from search_ui.board import REFRESH_SECONDS, WAIT_SECONDS
from search_ui.cached import Answer, Cached
from search_ui.sources import sources
from storage import layout
from storage.store import StoreError, StoreUnavailableError
from tagging.model import Explained, is_explained
from tagging.models import load_model, read_card

blueprint = Blueprint("models", __name__)

COLOURS = ("red", "green", "blue")
# The pictures of a model: of all colours, and of each by its place in the layout.
CHANNELS = {"all": None} | {colour: place for place, colour in enumerate(COLOURS)}
# Forests whose pixel importance is kept: 24 kB each.
MOST_KEPT = 32
TOP_PIXELS = 10


class Models:
    """The cards of a store's models, read anew where they have changed, and how much each forest looks at each pixel."""

    def __init__(self, store, seconds: float = REFRESH_SECONDS) -> None:
        self.store = store
        self._read: dict[str, tuple[float, dict]] = {}
        self._cards = Cached("the store", self._look, seconds)
        self._lock = threading.Lock()
        self._importance: OrderedDict[tuple[str, str], Cached] = OrderedDict()

    def cards(self, until: float | None = None) -> dict[str, dict]:
        """Return every model's card by its name, {"error": ...} where it can't be read.

        Waits for `WAIT_SECONDS`, or until ``until`` of `time.monotonic`. Raises `StoreUnavailableError` where the store
        doesn't answer in time and never has.
        """
        answer = self._cards.get(until - time.monotonic() if until else WAIT_SECONDS)
        if answer.value is None:
            raise StoreUnavailableError(answer.error)
        return answer.value

    def importance(self, name: str, model_hash: str, until: float) -> Answer:
        """Return the (3072,) importance of each byte of an image to a forest, worked out once for each forest."""
        with self._lock:
            kept = self._importance.setdefault(
                (name, model_hash),
                Cached("the forest", lambda: _importance(self.store, name, model_hash), 60),
            )
            self._importance.move_to_end((name, model_hash))
            while len(self._importance) > MOST_KEPT:
                self._importance.popitem(last=False)
        return kept.get(until - time.monotonic(), forever=True)

    def _look(self) -> dict[str, dict]:
        there = {}
        for name in self.store.times(layout.MODELS):
            written = self.store.times(layout.model_folder(name)).get(layout.CARD)
            if written is not None:
                before = self._read.get(name)
                there[name] = before if before and before[0] == written else (written, self._card(name))
        self._read = there
        return {name: card for name, (_, card) in there.items()}

    def _card(self, name: str) -> dict:
        try:
            card = read_card(self.store, name)
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"error": str(error)}
        if not isinstance(card.get("hash"), str) or not isinstance(card.get("classes"), list):
            return {"error": f"{self.store.url(layout.model_card(name))}: is no model's card; train it again"}
        return card | {"name": name}


def _importance(store, name: str, model_hash: str) -> np.ndarray:
    model = load_model(store, name)
    if model.hash != model_hash:
        raise TinyTagsError(f"model {name!r} has changed: its hash is {model.hash}, not {model_hash}")
    found = cast(Explained, model).pixel_importance()
    if len(found) != IMAGE_BYTES:
        raise TinyTagsError(f"model {name!r} is for images of {len(found):,} bytes, not of {IMAGE_BYTES:,}")
    return found


@blueprint.record_once
def _make_models(state: BlueprintSetupState) -> None:
    store = state.app.extensions["tinytags"].library.store
    state.app.extensions["tinytags.models"] = Models(store, state.app.config["REFRESH_SECONDS"])


def models() -> Models:
    return current_app.extensions["tinytags.models"]


@dataclass(frozen=True)
class Side:
    """One model as a page shows it; ``pixels`` are its pictures by channel, ``blind`` says why there are none."""

    name: str
    card: dict
    quality: cards.Quality | None
    facts: list[tuple[str, str]]
    runs: list[dict]
    links: dict[int, str]  # the search from a percentage up, where a run of this model is shown
    pixels: dict[str, str]
    top: list[dict]
    channels: dict[str, float]
    blind: str | None


def model_url(name: str) -> str:
    return f"/models/{quote(name)}"


@blueprint.get("/models")
def index():
    """Every model, the best one first."""
    found = [_summary(name, card) for name, card in models().cards().items()]
    known = [summary for summary in found if summary.get("accuracy") is not None]
    rest = [summary for summary in found if summary.get("accuracy") is None]
    best = sorted(known, key=lambda summary: -summary["accuracy"])
    return render_template("models.html", models=[*best, *rest])


@blueprint.get("/api/models")
def api_models():
    """The models that there are, each with its most important numbers."""
    return jsonify(models=[_summary(name, card) for name, card in models().cards().items()])


def _summary(name: str, card: dict) -> dict:
    if "error" in card:
        return {"model": name, "error": card["error"]}
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
def model(name: str):
    """One model, or two side by side: ``with`` names the other one."""
    other = request.args.get("with") or None
    check_parameters(request.args, ["with"])
    until = time.monotonic() + WAIT_SECONDS
    found = models().cards(until)
    sides = [_side(found, one, until) for one in dict.fromkeys([name, other or name])]
    measured = [(side.name, side.quality) for side in sides if side.quality]
    same = len({repr(side.card.get("measured_on")) for side in sides if side.quality}) < 2
    return render_template(
        "model.html",
        sides=sides,
        others=[one for one, card in found.items() if one != name and "error" not in card],
        calibration=plots.calibration(measured) if measured else None,
        price=plots.price(measured) if measured else None,
        plots=plots,
        facts=cards.together(side.facts for side in sides),
        thresholds=[(side, cards.few(side.quality.thresholds)) for side in sides if side.quality],
        classes=_classes([side.quality for side in sides]),
        same_images=same,
        darkest=max(
            (cell.share for _, one in measured for row in one.confusion or [] for cell in row), default=0
        ),
    )


def _classes(sides: list[cards.Quality | None]) -> list[tuple[str, list[cards.ClassQuality | None]]]:
    """Return every class that one of the models knows, with what each says of it."""
    tables = [{row.name: row for row in side.classes} if side else {} for side in sides]
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [table.get(name) for table in tables]) for name in names]


@blueprint.get("/api/models/<name>")
def api_model(name: str):
    """All that the card says, what follows from it, and the runs that this model has made."""
    until = time.monotonic() + WAIT_SECONDS
    side = _side(models().cards(until), name, until)
    quality = side.quality
    return jsonify(
        model=name,
        url=model_url(name),
        card=side.card,
        calibration=[
            {
                "confidence": [bin.low, bin.high],
                "images": bin.images,
                "right": bin.right,
                "share": round(bin.share, 6),
                "interval": [round(bin.least, 6), round(bin.most, 6)],
            }
            for bin in quality.bins
        ]
        if quality
        else None,
        thresholds=[
            {
                "percent": row.percent,
                "votes": row.votes,
                "images": row.images,
                "right": row.right,
                "kept": row.kept,
                "precision": row.precision,
                "url": side.links.get(row.percent),
            }
            for row in quality.thresholds
        ]
        if quality
        else None,
        mistakes=[
            {"label": label, "tag": tag, "images": count, "share": round(share, 6)}
            for label, tag, count, share in quality.mistakes
        ]
        if quality
        else None,
        pixels=side.pixels or None,
        channels=side.channels or None,
        top_pixels=side.top,
        runs=[{"run": run["run"], "published": run["published"]} for run in side.runs],
    )


def _side(found: dict[str, dict], name: str, until: float) -> Side:
    card = _known(found, name)
    quality = cards.read_quality(card)
    runs = [
        run
        for run in sources().board.now(until)["runs"]
        if (run.get("model"), run.get("model_hash")) == (name, card["hash"])
    ]
    shown = [run for run in runs if run["published"]]
    least = min((round(100 * run["min_confidence"], 6) for run in shown), default=101)
    state = SearchState({"model": (name,)})
    links = {
        row.percent: state.with_confidence(row.percent, 100).url()
        for row in (quality.thresholds if quality else [])
        if row.percent >= least
    }
    importance = (
        models().importance(name, card["hash"], until) if is_explained(card.get("kind")) else Answer()
    )
    looks, blind = importance.value, importance.error
    version = f"v={card['hash'][:8]}"
    return Side(
        name=name,
        card=card,
        quality=quality,
        facts=cards.facts(card),
        runs=runs,
        links=links,
        pixels={
            channel: f"{model_url(name)}/pixels.png?{version}"
            + ("" if channel == "all" else f"&channel={channel}")
            for channel in CHANNELS
        }
        if looks is not None
        else {},
        top=_top(looks) if looks is not None else [],
        channels=_channels(looks) if looks is not None else {},
        blind=blind,
    )


def _known(found: dict[str, dict], name: str) -> dict:
    """Return a model's card; 404 where there is no such model, with those that there are, or where it can't be read."""
    if name not in found:
        there = ", ".join(one for one, card in found.items() if "error" not in card)
        abort(
            404,
            f"There is no model {quote_value(name)}; "
            + (f"there are {there}." if there else "there is none yet: tinytags train makes one."),
        )
    if "error" in found[name]:
        abort(404, found[name]["error"])
    return found[name]


def _top(importance: np.ndarray) -> list[dict]:
    """Return the pixels that a forest looks at most: row and column from 0, channel and share of all looks."""
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


def _channels(importance: np.ndarray) -> dict[str, float]:
    sums = importance.reshape(3, -1).sum(axis=1).tolist()
    return {name: round(share, 6) for name, share in zip(COLOURS, sums, strict=True)}


@blueprint.get("/models/<name>/pixels.png")
def pixels(name: str):
    """How much the forest looks at each pixel, as a picture, each pixel ``scale`` x ``scale`` large."""
    check_parameters(request.args, ["scale", "channel", "v"])
    scale, channel = png.parse_scale(8), request.args.get("channel", "all")
    if channel not in CHANNELS:
        abort(400, f"channel is one of {', '.join(CHANNELS)}.")
    card = _known(models().cards(), name)
    if not is_explained(card.get("kind")):
        abort(
            404,
            f"Model {name!r} has no pixel importance: its kind, {card.get('kind')!r}, does not compute it.",
        )
    version = card["hash"][:8]

    def draw() -> bytes:
        answer = models().importance(name, card["hash"], time.monotonic() + WAIT_SECONDS)
        if answer.value is None:
            raise StoreError(answer.error)
        return to_png(plots.importance_image(answer.value, CHANNELS[channel]), scale)

    # Hashed, for a name is whatever a person typed.
    etag = hashlib.sha256(f"{card['hash']} {scale} {channel}".encode()).hexdigest()[:16]
    return png.answer(etag, version, draw)
