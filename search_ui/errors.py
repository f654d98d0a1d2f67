"""What goes wrong, as a page or as JSON, never as a traceback; and the headers that every answer carries."""

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from conf.errors import TinyTagsError
from indexing.query.search import TooBusyError
from indexing.query.search_state import BadSearchError
from indexing.solr import SolrError
from records.corrections import BadCorrectionError, DatabaseError
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
    400: "That is no search",
    403: "That is not for others to do",
    404: "Nothing is here",
    405: "That can't be done here",
    413: "That is too much",
    500: "Something broke",
    503: "The search is not available",
}


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(BadSearchError, lambda error: _answer(400, str(error)))
    app.register_error_handler(
        BadCorrectionError, lambda error: _answer(400, str(error), "That is no correction")
    )
    app.register_error_handler(
        DatabaseError, lambda error: _unavailable(app, error, "Corrections are not available")
    )
    app.register_error_handler(SolrError, lambda error: _unavailable(app, error))
    app.register_error_handler(StoreError, lambda error: _unavailable(app, error))
    app.register_error_handler(TinyTagsError, lambda error: _answer(404, str(error)))
    app.register_error_handler(Exception, lambda error: _bug(app, error))
    app.after_request(_add_headers)


def _refused(error: HTTPException):
    # Some say more in a header: Allow, with 405.
    headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
    return *_answer(error.code or 500, error.description), headers


def _unavailable(app: Flask, error: TinyTagsError, title: str | None = None):
    app.logger.warning("%s", error)
    if isinstance(error, SolrError) and not isinstance(error, TooBusyError):
        app.extensions["tinytags"].metrics.solr_failures.inc()
    return _answer(503, str(error), title)


def _bug(app: Flask, error: Exception):
    app.logger.exception("%s", request.full_path, exc_info=error)
    return _answer(500, "This is a mistake in TinyTags. What it was stands in the log of the server.")


def _answer(status: int, words: str | None, title: str | None = None):
    if _is_for_programs():
        return jsonify(error=words, status=status), status
    title = title or TITLES.get(status, "That did not work")
    return render_template("error.html", status=status, title=title, words=words), status


def _is_for_programs() -> bool:
    """Say whether an answer is JSON: an export or a probe fails as a page for people alone who follow a link to it."""
    if request.path.startswith("/api/"):
        return True
    asked = request.path.startswith("/export.") or request.path in ("/healthz", "/readyz", "/metrics")
    return asked and "text/html" not in request.accept_mimetypes.values()


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-cache")
    return response
