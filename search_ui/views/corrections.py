"""Corrections: people give the label of an image on its page; each is stored with name and time, and used for training."""

from urllib.parse import quote, unquote

from flask import Blueprint, abort, current_app, redirect, request
from werkzeug import Response

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from records.corrections import LONGEST_NAME, BadCorrectionError, Correction
from search_ui.library import image_url, known_corpus
from search_ui.sources import sources

blueprint = Blueprint("corrections", __name__)

# The value of the setting database that turns corrections off.
NONE = "none"
# A person enters their name once.
COOKIE, COOKIE_SECONDS = "by", 365 * 24 * 3600


def choices(corpus: Corpus) -> list[str]:
    """Return the labels to choose from: the classes of the published runs of a corpus, and its own."""
    runs = [sources().library.run(name) for name in sources().published.now().collections]
    known = [run.classes for run in runs if run is not None and run.corpus_hash == corpus.hash]
    return list(dict.fromkeys(name for names in [*known, corpus.classes or []] for name in names))


def enabled() -> bool:
    """Return whether this application takes corrections."""
    return sources().settings.database != NONE


def corrections_of(corpus: Corpus, partition: int, row: int) -> tuple[list[Correction] | None, str | None]:
    """Return the corrections of an image, newest first; or None, and the error where they are unavailable."""
    if not enabled():
        return None, None
    try:
        return sources().corrections.of_image(corpus, partition, row), None
    except TinyTagsError as error:
        current_app.logger.warning("%s", error)
        return None, str(error)


def name() -> str:
    """Return the name of the last correction from this browser, or ""."""
    return unquote(request.cookies.get(COOKIE, ""))[:LONGEST_NAME]


@blueprint.post("/images/<corpus>/<int:partition>/<int:row>/corrections")
def add(corpus: str, partition: int, row: int) -> Response:
    """Store a correction: ``label`` and ``by`` of a form."""
    manifest = _corrected_corpus(corpus, partition, row)
    label, by = request.form.get("label", ""), request.form.get("by", "")
    if label and label not in (known := choices(manifest)):
        raise BadCorrectionError(
            f"{label[:80]!r} is not a class of {corpus}; its classes are {', '.join(known)}"
        )
    sources().corrections.add(manifest, partition, row, label, by)
    answer = _redirect_back(corpus, partition, row)
    answer.set_cookie(
        COOKIE, quote(" ".join(by.split())), COOKIE_SECONDS, path="/images", httponly=True, samesite="Strict"
    )  # fmt: skip
    return answer


@blueprint.post("/images/<corpus>/<int:partition>/<int:row>/corrections/<int(max=2147483647):number>/remove")
def remove(corpus: str, partition: int, row: int, number: int) -> Response:
    """Remove a correction; no error where it is removed already."""
    manifest = _corrected_corpus(corpus, partition, row)
    sources().corrections.undo(manifest, partition, row, number)
    return _redirect_back(corpus, partition, row)


def _corrected_corpus(corpus: str, partition: int, row: int) -> Corpus:
    """Return the corpus of an image for a form of our own pages; 403 for other sites, 404 where there is no such image."""
    # A browser sends forms of other sites with the cookies of this one.
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = (f"{scheme}://{request.host}" for scheme in ("http", "https"))
    if site not in ("same-origin", "none") if site else origin and origin not in ours:
        abort(403, "This form was sent from another site. Correct labels on the page of the image.")
    if not enabled():
        abort(403, "Corrections are turned off here.")
    return known_corpus(sources().library, corpus, partition, row)


def _redirect_back(corpus: str, partition: int, row: int) -> Response:
    """Return a redirect to the page of an image, with the search that it was opened from."""
    query = request.query_string.decode("latin-1")
    page = image_url(corpus, partition, row)
    return redirect(f"{page}{'?' if query else ''}{query}#corrections", 303)
