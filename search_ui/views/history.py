"""History: what models answered for pictures that people gave; searched, corrected, exported and deleted."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import numpy as np
from flask import Blueprint, Response, abort, current_app, jsonify, redirect, render_template, request
from werkzeug import Response as Answer
from werkzeug.datastructures import MultiDict

from conf.spreadsheets import guarded
from conf.wording import counted
from indexing.query.search_state import check_parameters
from ingest.image import to_png
from records.corrections import BadCorrectionError, parse_time
from records.predictions import Filters, Prediction, Predictions
from search_ui import api, png
from search_ui.clients import is_loopback
from search_ui.login import given_name
from search_ui.sources import sources
from search_ui.views.classify import Result, nearest, png_data, with_images
from search_ui.views.corrections import keep_name, name
from search_ui.views.export import exported
from search_ui.writing import check_rate, may_write
from tagging.cards import TABLE_CLASSES

blueprint = Blueprint("history", __name__)

PER_PAGE = 50
FILTERS = ("answer", "model", "since", "until", "corrected")
NUMBER = "<int(max=9007199254740991):number>"
CSV_COLUMNS = ("number", "at", "filename", "size", "sha256", "model", "model_hash", "milliseconds", "answer", "confidence",
               "correction", "corrected_by", "corrected_at")  # fmt: skip


@blueprint.get("/history")
def index() -> str:
    """Predictions, newest first, by ``answer``, ``model``, ``since``, ``until`` and ``corrected``."""
    filters, before, after = _parse(request.args)
    history = _history()
    listed = history.page(filters, before, after, PER_PAGE)
    given = _given(request.args)
    deleted = request.args.get("deleted", type=int)
    return render_template(
        "history.html",
        page=listed,
        total=history.count(filters),
        filters=given,
        query=urlencode(given),
        older=urlencode(given | {"before": listed.older}) if listed.older is not None else None,
        newer=urlencode(given | {"after": listed.newer}) if listed.newer is not None else None,
        done=None if deleted is None else f"{counted(deleted, 'prediction')} deleted.",
        days=sources().settings.retention_days,
        deletable=_may_delete(),
    )


@blueprint.get(f"/history/{NUMBER}")
def one(number: int) -> Response:
    """One prediction, as after it was made."""
    prediction = _known(number)
    result = Result(
        name=prediction.name, prediction=prediction, record=number, similar=nearest(prediction.image)
    )
    html = render_template(
        "prediction.html",
        result=result,
        prediction=prediction,
        by=name(),
        most_classes=TABLE_CLASSES,
        deletable=_may_delete(),
    )
    return with_images(html)


@blueprint.get(f"/history/{NUMBER}.png")
def pixels(number: int) -> Response:
    """The image that the model classified."""
    scale = png.parse_scale(1)
    prediction = _known(number)
    image = np.frombuffer(prediction.image, np.uint8)
    return png.answer(f"{number}-{prediction.sha256[:8]}-{scale}", None, lambda: to_png(image, scale))


@blueprint.get("/api/history")
def api_index() -> Response:
    """The same as JSON."""
    filters, before, after = _parse(request.args)
    history = _history()
    listed, total = history.page(filters, before, after, PER_PAGE), history.count(filters)
    answer: api.History = {
        "total": total.number,
        "complete": total.complete,
        "records": [_as_json(prediction) for prediction in listed.predictions],
        "older": listed.older,
        "newer": None if listed.newer is None else max(listed.newer, 0),
    }
    return jsonify(answer)


@blueprint.get("/history.<any(csv, jsonl):ending>")
def export(ending: str) -> Response:
    """All predictions of a filter, streamed."""
    check_parameters(request.args, FILTERS)
    filters, _, _ = _parse(request.args)
    history = _history()

    def begin() -> tuple[int | None, Iterator[str]]:
        total = history.count(filters)  # an unavailable database is an error now, not in the middle of a file
        predictions = history.every(filters)
        lines = _csv_lines(predictions) if ending == "csv" else _json_lines(predictions)
        return total.number if total.complete else None, lines

    return exported(f"history.{ending}", begin)


@blueprint.post(f"/history/{NUMBER}/correction")
def correct(number: int) -> Answer:
    """Store the ``label`` that a person gives, or remove it with ``undo``."""
    history = _writable()
    prediction = _known(number)
    by = given_name()
    label = None if request.form.get("undo") else request.form.get("label", "")
    if label and label not in (classes := [one for one, _ in prediction.classes]):
        raise BadCorrectionError(
            f"{label[:80]!r} is not a class of {prediction.model}, which has {len(classes):,}"
        )
    if not history.correct(number, label, by):
        abort(404, f"There is no prediction {number}.")
    answer = redirect(f"/history/{number}", 303)
    return keep_name(answer, by) if label else answer


@blueprint.post(f"/history/{NUMBER}/delete")
def delete_one(number: int) -> Answer:
    """Delete one prediction; no error where it is deleted already."""
    return redirect(f"/history?deleted={int(_deletable().delete_one(number))}", 303)


@blueprint.post("/history/delete")
def delete() -> Answer:
    """Delete all predictions of a filter."""
    history = _deletable()
    filters, _, _ = _parse(request.form)
    number = history.delete(filters)
    current_app.logger.warning("%s deleted: %s", counted(number, "prediction"), filters)
    return redirect(f"/history?deleted={number}", 303)


def _history() -> Predictions:
    if not sources().history.enabled:
        abort(403, "The history is turned off here.")
    return sources().history.predictions


def _writable() -> Predictions:
    history = _history()
    check_rate(sources().rates, "changes")
    return history


def _deletable() -> Predictions:
    history = _writable()
    if not _may_delete():
        abort(
            403,
            "Predictions can only be deleted on the machine of the server, or where its setting delete_history is yes.",
        )
    return history


def _may_delete() -> bool:
    """Return whether the client may delete predictions: of those who may write, one on this machine, or all where the setting
    allows it.
    """
    allowed = sources().settings.delete_history == "yes" or is_loopback(request.remote_addr or "")
    return allowed and may_write()


def _known(number: int) -> Prediction:
    prediction = _history().get(number)
    if prediction is None:
        abort(404, f"There is no prediction {number}.")
    return prediction


def _given(args: MultiDict[str, str]) -> dict[str, Any]:
    return {key: value for key in FILTERS if (value := args.get(key, "").strip(" \t\r\n"))}


def _parse(args: MultiDict[str, str]) -> tuple[Filters, int | None, int | None]:
    """Return filters, ``before`` and ``after`` of a URL or form; 400 for what is none. Empty values are the same as none."""
    check_parameters(args, (*FILTERS, "before", "after", "deleted"))
    given = _given(args)
    try:
        since, until = (parse_time(given[key]) if key in given else None for key in ("since", "until"))
        if until and len(given["until"]) == len("2026-11-26"):  # that day, too
            until += timedelta(days=1)
    except (BadCorrectionError, OverflowError) as error:
        abort(400, str(error))
    corrected = given.get("corrected")
    if corrected not in (None, "yes", "no"):
        abort(400, "corrected is yes or no.")
    numbers = []
    for key in ("before", "after"):
        value = args.get(key) or None
        if value is not None and not (
            value.isascii() and value.isdecimal() and len(value) <= 16 and int(value) < 2**53
        ):
            abort(400, f"{key} is the number of a prediction.")
        numbers.append(int(value) if value else None)
    filters = Filters(
        answer=given.get("answer"),
        model=given.get("model"),
        since=since,
        until=until,
        corrected=None if corrected is None else corrected == "yes",
    )
    return filters, numbers[0], numbers[1]


def _as_json(prediction: Prediction) -> api.Record:
    return {
        "number": prediction.number,
        "at": prediction.at.isoformat(),
        "filename": prediction.name,
        "size": prediction.size,
        "sha256": prediction.sha256,
        "model": prediction.model,
        "model_hash": prediction.model_hash,
        "milliseconds": prediction.milliseconds,
        "answer": prediction.answer,
        "confidence": prediction.confidence,
        "predictions": [{"class": one, "confidence": share} for one, share in prediction.classes],
        "correction": prediction.correction,
        "corrected_by": prediction.corrected_by,
        "corrected_at": prediction.corrected_at.isoformat() if prediction.corrected_at else None,
        "png": f"/history/{prediction.number}.png",
    }


def _json_lines(predictions: Iterator[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        yield json.dumps(_as_json(prediction), ensure_ascii=False) + "\n"


def _csv_lines(predictions: Iterator[Prediction]) -> Iterator[str]:
    yield ",".join(CSV_COLUMNS) + "\r\n"
    for prediction in predictions:
        text = io.StringIO()
        values: dict[str, Any] = dict(_as_json(prediction))
        csv.writer(text).writerow([guarded(values[column]) for column in CSV_COLUMNS])
        yield text.getvalue()


blueprint.add_app_template_filter(png_data)
