"""Pictures that a client sends to the page or the API: files of a form, or one in JSON."""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import abort, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from ingest.image import PictureError, PictureTooLargeError
from ingest.picture import MOST_BYTES
from search_ui import UPLOAD_BYTES
from search_ui.classifying import UploadedFile

MOST_FILES = 20


@dataclass(frozen=True, kw_only=True)
class UploadOutcome:
    """The result of one file; each view adds what it answers where there is no error."""

    name: str
    error: str | None = None
    too_large: bool = False


def bad_picture(given: UploadedFile, error: PictureError) -> dict[str, Any]:
    """Return the parts of the `UploadOutcome` of a file that is no picture, or too large."""
    return {"name": given.name, "error": str(error), "too_large": isinstance(error, PictureTooLargeError)}


def check_any(outcomes: Sequence[UploadOutcome]) -> None:
    """Abort with the first error where every file of a request has one: 413 for a file that is too large, else 400."""
    if all(outcome.error for outcome in outcomes):
        refused = RequestEntityTooLarge if outcomes[0].too_large else BadRequest
        raise refused(f"{outcomes[0].name}: {outcomes[0].error}")


def read_request(*, model: bool) -> tuple[list[UploadedFile], str, float]:
    """Return the files, the model's name and the minimum confidence (0-1) of a request of the API; aborts for what is none.

    ``files`` of a multipart form, or ``image`` in JSON. Without ``model`` there is none to choose.
    """
    request.max_content_length = UPLOAD_BYTES
    known = ("files", "image", "filename", *(["model"] if model else []), "min_confidence")
    if request.is_json:
        return _json_request(known)
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send pictures as multipart/form-data, or JSON with image in base64.")
    _only(known, request.form, request.files)
    given, name = files(), request.form.get("model", "")
    least = _share(request.form.get("min_confidence") or "0")
    if not given:
        abort(400, "files is missing: send one or more pictures under this name.")
    return given, name, least


def files() -> list[UploadedFile]:
    """Return the files of the form; a browser sends an empty one where none was chosen."""
    sent = [file for file in request.files.getlist("files") if file.filename or file.content_length]
    if len(sent) > MOST_FILES:
        raise RequestEntityTooLarge(f"{len(sent):,} pictures; send up to {MOST_FILES} at once.")
    return [UploadedFile(_display_name(file.filename), file.read(MOST_BYTES + 1)) for file in sent]


def _json_request(known: tuple[str, ...]) -> tuple[list[UploadedFile], str, float]:
    """Return the file, the model's name and the minimum confidence of a request in JSON; 400 for what is none."""
    try:
        body = request.get_json()
    except RequestEntityTooLarge:
        raise
    except (HTTPException, RecursionError):  # lists in lists, thousands deep
        abort(400, "The body is not JSON.")
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        abort(400, 'Send a JSON object with image, a picture in base64: {"image": "iVBORw0KGgo..."}.')
    _only(known, body)
    model, name = body.get("model") or "", body.get("filename") or ""
    if not isinstance(model, str) or not isinstance(name, str):
        abort(400, "model and filename are strings.")
    try:
        data = base64.b64decode(body["image"], validate=True)
    except (binascii.Error, ValueError):
        abort(400, "image is not base64.")
    return [UploadedFile(_display_name(name), data)], model, _share(body.get("min_confidence") or 0)


def _only(known: tuple[str, ...], *fields: Any) -> None:
    for name in (name for part in fields for name in part):
        if name not in known:
            abort(400, f"{str(name)[:80]!r} is unknown; known are {', '.join(known)}.")


def _share(value: Any) -> float:
    """Return a minimum confidence of the API, 0 to 1; 400 for anything else."""
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        share = math.nan
    if not 0 <= share <= 1:
        abort(400, "min_confidence is a number from 0 to 1.")
    return share


def percent(value: str) -> float:
    """Return the minimum confidence of the page in percent; 400 for what is none."""
    try:
        number = float(value or 0)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:
        abort(400, "The minimum confidence is a number from 0 to 100 percent.")
    return number


def _display_name(name: str | None) -> str:
    """Return a file's name as it is shown: without its folders and characters that can't be."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:255]
