"""Label detection by Google Cloud Vision for programs; the page for classifying uses `detect`, too."""

import time
from dataclasses import dataclass, replace

from flask import Blueprint, Response, jsonify

from ingest.image import PictureError
from search_ui import api
from search_ui.classifying import UploadedFile
from search_ui.label_detection import Detected, DetectionRefusedError, DetectionUnavailableError, Detector
from search_ui.sources import sources
from search_ui.uploads import UploadOutcome, bad_picture, check_any, read_request
from search_ui.writing import check_rate

blueprint = Blueprint("label_detection", __name__)

# No picture is sent after this time, so that a request of the slowest ones ends.
SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Result(UploadOutcome):
    """The labels, and the image of 3,072 bytes to show the file by; or an error."""

    detected: Detected | None = None
    image: bytes = b""


@blueprint.post("/api/label-detection")
def api_detect() -> Response:
    """Send pictures to Google Cloud Vision: ``files`` of a multipart form, or ``image`` in JSON."""
    given, _, least = read_request(model=False)
    results = detect(given)
    check_any(results)
    answer: api.DetectedLabels = {"results": [_as_json(result, least) for result in results]}
    return jsonify(answer)


def _as_json(result: Result, least: float) -> api.LabelledFile | api.UnclassifiedFile:
    if result.detected is None:
        return {"filename": result.name, "error": result.error or ""}
    return {
        "filename": result.name,
        "milliseconds": result.detected.milliseconds,
        "predictions": [
            {"class": one.name, "label": one.id, "confidence": one.score}
            for one in result.detected.labels
            if one.score >= least
        ],
    }


def detect(given: list[UploadedFile]) -> list[Result]:
    """Send the pictures among files to Google Cloud Vision, one after another; others have an error and are not sent.

    Raises `DetectionUnavailableError` where no picture has labels by then.
    """
    check_rate(sources().classify_rates, "pictures", len(given))
    checked = [_check(one) for one in given]
    if all(result.error for result in checked):
        return checked
    detector = Detector(sources().settings)
    until = time.monotonic() + SECONDS
    results: list[Result] = []
    for one, result in zip(given, checked, strict=True):
        results.append(result if result.error else _detect_one(detector, one, result, until, results))
    return results


def _check(given: UploadedFile) -> Result:
    try:
        image = sources().decoder.read(given.data, False)
    except PictureError as error:
        return Result(**bad_picture(given, error))
    return Result(name=given.name, image=image.tobytes())


def _detect_one(
    detector: Detector, given: UploadedFile, checked: Result, until: float, before: list[Result]
) -> Result:
    if time.monotonic() > until:
        return Result(name=given.name, error="was not sent, as the others took too long; send it again")
    try:
        return replace(checked, detected=detector.detect(given))
    except DetectionRefusedError as error:
        return Result(name=given.name, error=str(error))
    except DetectionUnavailableError as error:
        if not any(result.detected for result in before):
            raise
        return Result(name=given.name, error=str(error))
