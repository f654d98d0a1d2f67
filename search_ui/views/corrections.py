"""Corrections: people give the label of an image on its page or in a file; each is stored with name and time."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from flask import Blueprint, abort, current_app, jsonify, make_response, redirect, render_template, request
from werkzeug import Response

from conf.errors import TinyTagsError
from conf.wording import counted
from indexing.solr_errors import SolrError
from ingest.corpus import Corpus
from records.corrections import BadCorrectionError, Correction, check_name, parse_time
from records.importing import import_labels
from search_ui import api, details
from search_ui.access import valid_name
from search_ui.clients import is_loopback
from search_ui.history import NONE
from search_ui.library import image_url, known_corpus
from search_ui.login import given_name, user
from search_ui.sources import sources
from search_ui.writing import check_rate, may_write

blueprint = Blueprint("corrections", __name__)

# A person enters their name once.
COOKIE, COOKIE_SECONDS = "by", 365 * 24 * 3600
# Of a file to import; `tinytags corrections import` takes larger ones. So many rows of it count as one correction.
IMPORT_BYTES = 1 << 20
ROWS_EACH = 1000


def choices(corpus: Corpus, given: Iterable[str] = ()) -> list[str]:
    """Return the labels to choose from: the classes of the published runs of a corpus, its own, and, beside these, ``given`` ones.

    None where no classes are known: then any label is taken.
    """
    runs = [sources().library.run(name) for name in sources().published.now().collections]
    known = [run.classes for run in runs if run is not None and run.corpus_hash == corpus.hash]
    classes = dict.fromkeys(name for names in [*known, corpus.classes or []] for name in names)
    return list(classes | dict.fromkeys(given)) if classes else []


def given_labels(corpus: Corpus) -> list[str]:
    """Return the labels that people gave images of a corpus so far, sorted: new classes, of which the page of labels takes any."""
    return sources().labels.now().names.get(corpus.hash, [])


def enabled() -> bool:
    """Return whether this application takes corrections."""
    return sources().settings.database != NONE


def may_train() -> bool:
    """Return whether the client may start jobs and publish: one on this machine, or all where the setting allows it."""
    allowed = sources().settings.page_jobs == "yes" or is_loopback(request.remote_addr or "")
    return allowed and enabled() and may_write()


def corrections_of(corpus: Corpus, partition: int, row: int) -> tuple[list[Correction] | None, str | None]:
    """Return the corrections of an image, newest first; or None, and the error where they are unavailable."""
    if not enabled():
        return None, None
    try:
        return sources().corrections.of_image(corpus, partition, row), None
    except TinyTagsError as error:
        current_app.logger.warning("%s", error)
        return None, details.reason(error)


def name() -> str:
    """Return the name of the person who is logged in, or of the last correction from this browser, or ""."""
    # Of several cookies, the last one has the shortest path; version 0.1 set it for /images.
    return user() or valid_name(unquote((request.cookies.getlist(COOKIE) or [""])[-1]))


@blueprint.post("/images/<corpus>/<int:partition>/<int:row>/corrections")
def add(corpus: str, partition: int, row: int) -> Response:
    """Store a correction: ``label`` and ``by`` of a form."""
    manifest = _corrected_corpus(corpus, partition, row)
    label, by = request.form.get("label", ""), given_name()
    try:
        known = choices(manifest)
    except SolrError:
        known = []  # which runs are published isn't known now; a correction is taken all the same
    if label and known and label not in known and label not in given_labels(manifest):
        raise BadCorrectionError(
            f"{label[:80]!r} is not a class of {corpus}; its classes are {', '.join(known)}"
        )
    sources().corrections.add(manifest, partition, row, label, by)
    sources().published.expire()
    return keep_name(_redirect_back(corpus, partition, row), by)


@blueprint.post(
    "/images/<corpus>/<int:partition>/<int:row>/corrections/<int(max=9223372036854775807):number>/remove"
)
def remove(corpus: str, partition: int, row: int, number: int) -> Response:
    """Remove a correction; no error where it is removed already."""
    manifest = _corrected_corpus(corpus, partition, row)
    sources().corrections.undo(manifest, partition, row, number, name())
    sources().published.expire()
    return _redirect_back(corpus, partition, row)


@blueprint.get("/corrections")
def contributors() -> str:
    """The names under which corrections were made, with forms that undo all of one and import a file."""
    _check_enabled()
    undone, restored = (request.args.get(key, type=int) for key in ("undone", "restored"))
    done = None
    if undone is not None:
        done = f"{counted(undone, 'correction')} undone."
    elif restored is not None:
        done = f"{counted(restored, 'correction')} restored."
    return _page(done=done)


def _page(**values: object) -> str:
    return render_template(
        "corrections.html", names=sources().corrections.names(), by=name(), **{"done": None} | values
    )


@blueprint.get("/api/corrections")
def api_contributors() -> Response:
    """The data of the page of names."""
    _check_enabled()
    answer: api.Contributors = {
        "names": [
            {
                "name": one.name,
                "corrections": one.corrections,
                "undone": one.undone,
                "first": one.first.isoformat(),
                "last": one.last.isoformat(),
            }
            for one in sources().corrections.names()
        ]
    }
    return jsonify(answer)


@blueprint.post("/corrections/undo")
def undo_all() -> Response:
    """Undo the corrections ``by`` a name, made at or after ``since``: fields of a form."""
    _check_form()
    undone_by = check_name("your name", given_name("undone_by"))
    by, since = check_name("the name", request.form.get("by", "")), request.form.get("since")
    number = sources().corrections.undo_all(by, parse_time(since) if since else None, undone_by=undone_by)
    sources().published.expire()
    current_app.logger.warning("%s by %r undone by %r", counted(number, "correction"), by, undone_by)
    return keep_name(redirect(f"/corrections?undone={number}", 303), undone_by)


@blueprint.post("/corrections/restore")
def restore() -> Response:
    """Restore the corrections ``by`` a name that were undone at or after ``since``."""
    _check_form()
    by, since = check_name("the name", request.form.get("by", "")), request.form.get("since")
    number = sources().corrections.restore(by, parse_time(since) if since else None)
    sources().published.expire()
    return redirect(f"/corrections?restored={number}", 303)


@blueprint.post("/corrections/import")
def import_file() -> Response:
    """Import the labels in ``file``, a CSV file, as corrections ``by`` a name; with ``dry_run`` only check them."""
    _check_enabled()
    request.max_content_length = IMPORT_BYTES
    by, file = check_name("your name", given_name()), request.files.get("file")
    if file is None or not file.filename:
        raise BadCorrectionError("choose a CSV file")
    dry_run = bool(request.form.get("dry_run"))
    text = file.read().decode("utf-8-sig", "replace")
    check_rate(sources().rates, "corrections", 1 + text.count("\n") // ROWS_EACH)
    began = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    done = import_labels(
        io.StringIO(text, newline=""), sources().library.store, sources().corrections, by, dry_run
    )
    sources().published.expire()
    page = _page(imported=done, dry_run=dry_run, undo_by=by, undo_since=began.isoformat(timespec="seconds"))
    return keep_name(make_response(page), by)


def _corrected_corpus(corpus: str, partition: int, row: int) -> Corpus:
    """Return the corpus of an image for a form of our own pages; 404 where there is no such image."""
    _check_form()
    return known_corpus(sources().library, corpus, partition, row)


def _check_form() -> None:
    _check_enabled()
    check_rate(sources().rates, "corrections")


def _check_enabled() -> None:
    if not enabled():
        abort(403, "Corrections are turned off here.")


def keep_name(answer: Response, by: str) -> Response:
    """Return an answer that lets the browser keep the name of a person, who then enters it once."""
    answer.set_cookie(
        COOKIE, quote(" ".join(by.split())), COOKIE_SECONDS, httponly=True, samesite="Strict", secure=request.is_secure
    )  # fmt: skip
    return answer


def _redirect_back(corpus: str, partition: int, row: int) -> Response:
    """Return a redirect to the page of an image, with the search that it was opened from."""
    query = request.query_string.decode("latin-1")
    page = image_url(corpus, partition, row)
    return redirect(f"{page}{'?' if query else ''}{query}#corrections", 303)
