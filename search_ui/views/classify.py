"""Classify: pictures that a person uploads or draws, classified by a model of the store; as a page and for programs."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Response, abort, current_app, jsonify, render_template, request

from conf.errors import TinyTagsError
from indexing.solr_errors import SolrError
from ingest.image import PictureError, to_png
from ingest.picture import FORMATS, MOST_BYTES
from records.predictions import NewPrediction
from search_ui import UPLOAD_BYTES, api, details
from search_ui.classifying import LoadedModel, UploadedFile, classify, load
from search_ui.errors import HEADERS
from search_ui.label_detection import installed
from search_ui.library import image_urls
from search_ui.similar import similar_images
from search_ui.sources import sources
from search_ui.uploads import MOST_FILES, UploadOutcome, bad_picture, check_any, files, percent, read_request
from search_ui.views.corrections import name as name_of_visitor
from search_ui.views.label_detection import Result as Detected
from search_ui.views.label_detection import detect
from search_ui.views.models import models
from search_ui.writing import check_rate, refusal
from storage.store import StoreError
from tagging.cards import TABLE_CLASSES

blueprint = Blueprint("classify", __name__)

# The value of the button that sends pictures to Google Cloud Vision instead.
DETECTOR = "google-cloud-vision"
# No picture is begun after this time, so that a request of the slowest ones ends.
SECONDS = 10.0
# Pictures of a request whose nearest tagged images are searched.
MOST_SIMILAR = 4
NO_PLACE = ("", -1, -1)  # that an image of the index could have


@dataclass(frozen=True, kw_only=True)
class Result(UploadOutcome):
    """A prediction, and its number in the history where it was recorded; or an error."""

    prediction: NewPrediction | None = None
    record: int | None = None
    similar: list[dict[str, Any]] | None = None

    @property
    def png(self) -> str:
        """The image that the model classified, as a data: URL."""
        return png_data(self.prediction.image) if self.prediction else ""


def png_data(image: bytes) -> str:
    """Return the data: URL of a canonical image of 3,072 bytes."""
    import numpy as np

    return (
        "data:image/png;base64," + base64.b64encode(to_png(np.frombuffer(image, np.uint8), scale=8)).decode()
    )


@blueprint.get("/classify")
def page() -> Response:
    """The form; it works without JavaScript."""
    return _page(request.args.get("model", ""), percent(request.args.get("min_confidence", "")), [])


@blueprint.post("/classify")
def classify_form() -> Response:
    """Classify the ``files`` of a form by ``model``, or by `DETECTOR`; show classes of ``min_confidence`` percent or more."""
    request.max_content_length = UPLOAD_BYTES
    least = percent(request.form.get("min_confidence", ""))
    model, given = request.form.get("model", ""), files()
    if request.form.get("detector") == DETECTOR:
        if error := refusal():
            raise error
        return _page(model, least, [], missing=not given, detected=detect(given) if given else [])
    chosen = _choose(model)
    results = _with_similar(_classify(chosen, given)) if given else []
    return _page(chosen.name, least, results, missing=not given)


@blueprint.post("/api/classify")
def api_classify() -> Response:
    """Classify pictures: ``files`` of a multipart form, or ``image`` in JSON."""
    given, model, least = read_request(model=True)
    chosen = _choose(model)
    results = _classify(chosen, given)
    check_any(results)
    answer: api.Classified = {"results": [_as_json(result, least) for result in results]}
    if error := refusal():
        answer["not_recorded"] = error.description or ""
    return jsonify(answer)


def _as_json(result: Result, least: float) -> api.ClassifiedFile | api.UnclassifiedFile:
    if result.prediction is None:
        return {"filename": result.name, "error": result.error or ""}
    return {
        "filename": result.name,
        "model": result.prediction.model,
        "milliseconds": result.prediction.milliseconds,
        "predictions": [
            {"class": name, "confidence": confidence}
            for name, confidence in result.prediction.classes
            if confidence >= least
        ],
        "record": result.record,
    }


def _classify(chosen: LoadedModel, given: list[UploadedFile]) -> list[Result]:
    """Classify files and record the predictions; one after another, as the processors are shared anyway."""
    check_rate(sources().classify_rates, "pictures", len(given))
    until = time.monotonic() + SECONDS
    return [_classify_one(chosen, one, until) for one in given]


def _classify_one(chosen: LoadedModel, given: UploadedFile, until: float) -> Result:
    if time.monotonic() > until:
        return Result(name=given.name, error="was not classified, as the others took too long; send it again")
    try:
        prediction = classify(chosen, given, sources().decoder)
    except PictureError as error:
        return Result(**bad_picture(given, error))
    record = None if refusal() else sources().history.add(prediction)
    return Result(name=given.name, prediction=prediction, record=record)


def _with_similar(results: list[Result]) -> list[Result]:
    """Add the nearest tagged images to the first results, unless Solr or the store is unavailable."""
    completed = []
    for place, result in enumerate(results):
        similar = nearest(result.prediction.image) if result.prediction and place < MOST_SIMILAR else None
        completed.append(replace(result, similar=similar))
    return completed


def nearest(image: bytes) -> list[dict[str, Any]] | None:
    """Return the tagged images nearest to one of 3,072 bytes; None where no run has descriptors or they can't be had."""
    import numpy as np

    pixels = np.frombuffer(image, np.uint8).reshape(1, -1)
    try:
        hits = similar_images(sources().solr, sources().published, sources().library, pixels, NO_PLACE)
        if hits is None:
            return None
        versions = sources().library.versions(hits)
    except (SolrError, StoreError) as error:
        current_app.logger.warning("nearest images: %s", error)
        return None
    return [hit | image_urls(hit, versions[hit["corpus"]]) for hit in hits]


def _choose(name: str) -> LoadedModel:
    """Return the model of this name, or the default for none; 404 where there is none. Raises `ModelUnusableError`."""
    known = usable_models()
    name = name or default_model(known)
    if name not in known:
        abort(404, f"There is no model {name[:80]!r}." if name else "There is no model in the store yet.")
    return load(sources().library.store, name, known[name]["hash"])


def usable_models() -> dict[str, dict[str, Any]]:
    """Return the cards of the models that can be read, by name."""
    return {name: card for name, card in models().cards().items() if "error" not in card}


def default_model(known: dict[str, dict[str, Any]]) -> str:
    """Return the model of the first published run, else the newest one; "" where there is none."""
    try:
        published = [sources().library.run(run) for run in sources().published.now().collections]
    except (SolrError, StoreError):
        published = []
    of_runs = [run.model for run in published if run is not None and run.model in known]
    newest = sorted(known, key=lambda name: str(known[name].get("created") or ""))
    return (of_runs or newest[::-1] or [""])[0]


def with_images(html: str) -> Response:
    """Return a page that may show data: URLs: the image that a model classified is part of it, as it may be recorded nowhere."""
    response = current_app.make_response(html)
    policy = HEADERS["Content-Security-Policy"].replace("img-src 'self'", "img-src 'self' data:")
    response.headers["Content-Security-Policy"] = policy
    return response


def _page(
    model: str, least: float, results: list[Result], missing: bool = False, detected: Sequence[Detected] = ()
) -> Response:
    error = None
    known: dict[str, Any] = {}
    try:
        known = usable_models()
    except TinyTagsError as problem:
        error = details.reason(problem)
    chosen, refused = model or default_model(known), refusal()
    html = render_template(
        "classify.html",
        models=sorted(known),
        chosen=chosen,
        least=least,
        results=results,
        detected=detected,
        detector=DETECTOR,
        detector_installed=installed(),
        missing=missing,
        error=error,
        formats=FORMATS,
        most_mib=MOST_BYTES >> 20,
        most_files=MOST_FILES,
        most_classes=TABLE_CLASSES,
        by=name_of_visitor(),
        recording=sources().history.enabled and not refused,
        not_recorded=refused.description if refused else "",
    )
    response = with_images(html)
    outcomes: list[UploadOutcome] = [*results, *detected]
    if outcomes and all(outcome.error for outcome in outcomes):
        response.status_code = 400
    return response
