"""Wrong tag? People say on an image's page what it shows; who said so and when is kept, shown, and can be trained on."""

from urllib.parse import quote, unquote

from flask import Blueprint, abort, current_app, redirect, request

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from records.corrections import LONGEST_NAME, BadCorrectionError, Correction
from search_ui.library import image_url, no_image

blueprint = Blueprint("corrections", __name__)

# The setting database of a page that takes no corrections.
NONE = "none"
# Whoever corrects a hundred images writes their name once.
COOKIE, COOKIE_SECONDS = "by", 365 * 24 * 3600


def classes(manifest: Corpus) -> list[str]:
    """Return what may be said of a corpus' images: the classes of the runs that are searched now, and its own."""
    sources = current_app.extensions["tinytags"]
    runs = [sources.library.run(name) for name in sources.published.now().collections]
    known = [run.classes for run in runs if run is not None and run.corpus_hash == manifest.hash]
    return list(dict.fromkeys(name for names in [*known, manifest.classes or []] for name in names))


def wanted() -> bool:
    """Say whether this page takes corrections."""
    return current_app.extensions["tinytags"].settings.database != NONE


def corrections_of(manifest: Corpus, partition: int, row: int) -> tuple[list[Correction] | None, str | None]:
    """Return what was said of an image, newest first; or None, and why that can't be told now, where there is a reason."""
    if not wanted():
        return None, None
    try:
        return current_app.extensions["tinytags"].corrections.of_image(manifest, partition, row), None
    except TinyTagsError as error:
        current_app.logger.warning("%s", error)
        return None, str(error)


def name() -> str:
    """Return the name under which this browser corrected last, or ""."""
    return unquote(request.cookies.get(COOKIE, ""))[:LONGEST_NAME]


@blueprint.post("/images/<corpus>/<int:partition>/<int:row>/corrections")
def correct(corpus: str, partition: int, row: int):
    """Store a correction: ``label`` and ``by`` of a form."""
    manifest = _image(corpus, partition, row)
    label, by = request.form.get("label", ""), request.form.get("by", "")
    if label and label not in (known := classes(manifest)):
        raise BadCorrectionError(f"{label[:80]!r} is no class here; there are {', '.join(known)}")
    current_app.extensions["tinytags"].corrections.add(manifest, partition, row, label, by)
    answer = _back(corpus, partition, row)
    answer.set_cookie(
        COOKIE, quote(" ".join(by.split())), COOKIE_SECONDS, path="/images", httponly=True, samesite="Strict"
    )  # fmt: skip
    return answer


@blueprint.post("/images/<corpus>/<int:partition>/<int:row>/corrections/<int(max=2147483647):number>/remove")
def take_back(corpus: str, partition: int, row: int, number: int):
    """Remove a correction. Where it is gone already, that is what was wanted."""
    manifest = _image(corpus, partition, row)
    current_app.extensions["tinytags"].corrections.undo(manifest, partition, row, number)
    return _back(corpus, partition, row)


def _image(corpus: str, partition: int, row: int) -> Corpus:
    """Return the corpus of an image that there is, for a form that one of our own pages has sent."""
    # Forms of other sites are sent with everything that a browser knows of this one.
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = (f"{scheme}://{request.host}" for scheme in ("http", "https"))
    if site not in ("same-origin", "none") if site else origin and origin not in ours:
        abort(403, "A page of another site has sent this; correct tags on the image's own page.")
    if not wanted():
        abort(403, "This page takes no corrections.")
    manifest = current_app.extensions["tinytags"].library.corpus(corpus)
    if missing := no_image(corpus, partition, row, manifest):
        abort(404, missing)
    return manifest


def _back(corpus: str, partition: int, row: int):
    """Return the way to the image's page, as part of the search that it was opened from."""
    query = request.query_string.decode("latin-1")
    page = image_url(corpus, partition, row)
    return redirect(f"{page}{'?' if query else ''}{query}#corrections", 303)
