"""Errors as pages or as JSON, never as a traceback; and the headers of every response."""

from urllib.parse import quote, urlencode

from flask import Flask, Response, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, SecurityError

from conf.errors import TinyTagsError
from indexing.query.search_state import BadSearchError, UnknownParameterError
from indexing.solr_errors import NotNowError, SolrError
from ingest.picture import DecoderBusyError
from records.corrections import BadCorrectionError, DatabaseError
from search_ui import api, details
from search_ui.classifying import ModelUnusableError
from search_ui.label_detection import DetectionUnavailableError
from search_ui.linked import for_programs
from storage.store import StoreError

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TITLES = {
    400: "This request isn't valid",
    401: "Log in first",
    403: "Not allowed",
    404: "Page not found",
    405: "Method not allowed",
    413: "Request too large",
    415: "Unsupported kind of request",
    429: "Too many requests",
    500: "Internal error",
    503: "The search is unavailable",
}


def register(app: Flask) -> None:
    """Let an application answer every exception, and add `HEADERS` to every response."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(
        SecurityError,
        lambda error: _answer(400, f"{error.description} The setting hosts names more.", "Unknown host"),
    )
    app.register_error_handler(
        BadSearchError, lambda error: _answer(400, str(error), "This search link isn't valid")
    )
    app.register_error_handler(UnknownParameterError, _without_unknown)
    app.register_error_handler(
        BadCorrectionError, lambda error: _answer(400, str(error), "This correction isn't valid")
    )
    app.register_error_handler(DatabaseError, lambda error: _unavailable(app, error, _without_database()))
    app.register_error_handler(SolrError, lambda error: _unavailable(app, error))
    app.register_error_handler(StoreError, lambda error: _unavailable(app, error))
    app.register_error_handler(
        DecoderBusyError, lambda error: _unavailable(app, error, "Too many pictures at once")
    )
    app.register_error_handler(
        ModelUnusableError, lambda error: _unavailable(app, error, "The model can't be used")
    )
    app.register_error_handler(
        DetectionUnavailableError, lambda error: _unavailable(app, error, "Label detection is unavailable")
    )
    app.register_error_handler(TinyTagsError, lambda error: _answer(404, details.reason(error)))
    app.register_error_handler(Exception, lambda error: _bug(app, error))
    app.after_request(_add_headers)


def _without_unknown(error: UnknownParameterError) -> ResponseReturnValue:
    """Redirect a browser to the page without the parameters that other sites add to links; for a program they are an error."""
    if _wants_json() or for_programs(request.path) or request.method not in ("GET", "HEAD"):
        return _answer(400, str(error), "This search link isn't valid")
    known = [pair for pair in request.args.items(multi=True) if pair[0] not in error.names]
    query = urlencode(known, quote_via=quote, safe=":,")
    return redirect(f"{quote(request.path)}{'?' if query else ''}{query}")


def _http_error(error: HTTPException) -> ResponseReturnValue:
    # Some have a header of their own: 405 has Allow.
    headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
    return *_answer(error.code or 500, details.public(error.description or "")), headers


def _unavailable(app: Flask, error: TinyTagsError, title: str | None = None) -> ResponseReturnValue:
    app.logger.warning("%s", error)
    if isinstance(error, SolrError) and not isinstance(error, NotNowError):
        app.extensions["tinytags"].metrics.solr_failures.inc()
    return _answer(503, details.reason(error), title)


def _without_database() -> str:
    return "The history is unavailable" if request.blueprint == "history" else "Corrections are unavailable"


def _bug(app: Flask, error: Exception) -> ResponseReturnValue:
    app.logger.exception("%s", request.full_path, exc_info=error)
    return _answer(500, "This is a bug in TinyTags. The server's log has the details.")


def _answer(status: int, message: str | None, title: str | None = None) -> tuple[Response | str, int]:
    if _wants_json():
        answer: api.Error = {"error": message or "", "status": status}
        return jsonify(answer), status
    title = title or TITLES.get(status, "Error")
    return render_template("error.html", status=status, title=title, message=message), status


def _wants_json() -> bool:
    """Return whether an error is JSON: always in the API; of an export or a probe unless a browser follows a link to it."""
    if request.path.startswith("/api/"):
        return True
    plain = for_programs(request.path) or request.path in (
        "/healthz",
        "/readyz",
        "/metrics",
    )
    return plain and "text/html" not in request.accept_mimetypes.values()


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-cache")
    return response
