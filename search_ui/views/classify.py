"""Classify: pictures that a person uploads or draws, classified by a model of the store; as a page and for programs."""

import base64
import binascii
import math
import time
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, current_app, jsonify, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from conf.errors import TinyTagsError
from indexing.solr import SolrError
from ingest.image import PictureError, to_png
from ingest.picture import FORMATS, MOST_BYTES, PictureTooLargeError
from records.predictions import NewPrediction
from search_ui import UPLOAD_BYTES, api, details
from search_ui.classifying import Chosen, Given, classify, load
from search_ui.errors import HEADERS
from search_ui.library import image_urls
from search_ui.similar import similar_images
from search_ui.sources import sources
from search_ui.views.corrections import name as name_of_visitor
from search_ui.views.models import models
from search_ui.writing import check_rate, refusal
from storage.store import StoreError
from tagging.cards import TABLE_CLASSES

blueprint = Blueprint("classify", __name__)

MOST_FILES = 20
# No picture is begun after this time, so that a request of the slowest ones ends.
SECONDS = 10.0
# Pictures of a request whose nearest tagged images are searched.
MOST_SIMILAR = 4
NO_PLACE = ("", -1, -1)  # that an image of the index could have


@dataclass(frozen=True)
class Result:
    """What became of one file: a prediction, and its number in the history where it was recorded; or an error."""

    name: str
    prediction: NewPrediction | None = None
    record: int | None = None
    error: str | None = None
    too_large: bool = False
    similar: list[dict[str, Any]] | None = None

    @property
    def png(self) -> str:
        """The image as the model saw it, as a data: URL."""
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
    return _page(request.args.get("model", ""), _least(request.args.get("min_confidence", "")), [])


@blueprint.post("/classify")
def classify_form() -> Response:
    """Classify the ``files`` of a form by ``model``; show classes of ``min_confidence`` percent or more."""
    request.max_content_length = UPLOAD_BYTES
    least = _least(request.form.get("min_confidence", ""))
    chosen = _choose(request.form.get("model", ""))
    given = _files()
    results = [] if not given else _with_similar(_classify(chosen, given))
    return _page(chosen.name, least, results, missing=not given)


@blueprint.post("/api/classify")
def api_classify() -> Response:
    """Classify pictures: ``files`` of a multipart form, or ``image`` in JSON."""
    request.max_content_length = UPLOAD_BYTES
    if request.is_json:
        given, model, least = _json_request()
    elif request.mimetype == "multipart/form-data":
        _only(request.form, request.files)
        given, model = _files(), request.form.get("model", "")
        least = _share(request.form.get("min_confidence") or "0")
        if not given:
            abort(400, "files is missing: send one or more pictures under this name.")
    else:
        raise UnsupportedMediaType("Send pictures as multipart/form-data, or JSON with image in base64.")
    chosen = _choose(model)
    results = _classify(chosen, given)
    if all(result.error for result in results):
        # All that was sent is wrong. Among good files a bad one has its own error.
        refused = RequestEntityTooLarge if results[0].too_large else BadRequest
        raise refused(f"{results[0].name}: {results[0].error}")
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


def _classify(chosen: Chosen, given: list[Given]) -> list[Result]:
    """Classify files and record the predictions; one after another, as the processors are shared anyway."""
    if len(given) > MOST_FILES:
        raise RequestEntityTooLarge(f"{len(given):,} pictures; send up to {MOST_FILES} at once.")
    check_rate(sources().classify_rates, "pictures", len(given))
    until = time.monotonic() + SECONDS
    return [_classify_one(chosen, one, until) for one in given]


def _classify_one(chosen: Chosen, given: Given, until: float) -> Result:
    if time.monotonic() > until:
        return Result(given.name, error="was not classified, as the others took too long; send it again")
    try:
        prediction = classify(chosen, given, sources().decoder)
    except PictureError as error:
        too_large = isinstance(error, PictureTooLargeError)
        return Result(given.name, error=str(error), too_large=too_large)
    return Result(given.name, prediction, None if refusal() else sources().history.add(prediction))


def _with_similar(results: list[Result]) -> list[Result]:
    """Add the nearest tagged images to the first results, unless Solr or the store is unavailable."""
    found = []
    for place, result in enumerate(results):
        similar = nearest(result.prediction.image) if result.prediction and place < MOST_SIMILAR else None
        found.append(Result(**vars(result) | {"similar": similar}))
    return found


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


def _choose(name: str) -> Chosen:
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


def _files() -> list[Given]:
    """Return the files of the form; a browser sends an empty one where none was chosen."""
    files = [file for file in request.files.getlist("files") if file.filename or file.content_length]
    if len(files) > MOST_FILES:
        raise RequestEntityTooLarge(f"{len(files):,} pictures; send up to {MOST_FILES} at once.")
    return [Given(_shown(file.filename), file.read(MOST_BYTES + 1)) for file in files]


def _json_request() -> tuple[list[Given], str, float]:
    """Return the file, the model's name and the minimum confidence of a request in JSON; 400 for what is none."""
    try:
        body = request.get_json()
    except RequestEntityTooLarge:
        raise
    except HTTPException:
        abort(400, "The body is not JSON.")
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        abort(400, 'Send a JSON object with image, a picture in base64: {"image": "iVBORw0KGgo..."}.')
    _only(body)
    model, name = body.get("model") or "", body.get("filename") or ""
    if not isinstance(model, str) or not isinstance(name, str):
        abort(400, "model and filename are strings.")
    try:
        data = base64.b64decode(body["image"], validate=True)
    except (binascii.Error, ValueError):
        abort(400, "image is not base64.")
    return [Given(_shown(name), data)], model, _share(body.get("min_confidence") or 0)


def _only(*fields: Any) -> None:
    known = ("files", "image", "filename", "model", "min_confidence")
    for name in (name for part in fields for name in part):
        if name not in known:
            abort(400, f"{str(name)[:80]!r} is unknown; known are {', '.join(known)}.")


def _share(value: Any) -> float:
    """Return a minimum confidence of the API, 0 to 1; 400 for anything else."""
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        abort(400, "min_confidence is a number from 0 to 1.")
    return share


def _least(value: str) -> float:
    """Return the minimum confidence of the page in percent; 400 for what is none."""
    try:
        percent = float(value or 0)
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        abort(400, "The minimum confidence is a number from 0 to 100 percent.")
    return percent


def _shown(name: str | None) -> str:
    """Return a file's name as it is shown: without its folders and characters that can't be."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:255]


def with_images(html: str) -> Response:
    """Return a page that may show data: URLs: the image that a model saw is part of it, as it may be recorded nowhere."""
    response = current_app.make_response(html)
    policy = HEADERS["Content-Security-Policy"].replace("img-src 'self'", "img-src 'self' data:")
    response.headers["Content-Security-Policy"] = policy
    return response


def _page(model: str, least: float, results: list[Result], missing: bool = False) -> Response:
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
    if results and all(result.error for result in results):
        response.status_code = 400
    return response
