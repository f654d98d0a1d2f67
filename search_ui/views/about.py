"""What TinyTags is, and which runs are searched now."""

from flask import Blueprint, render_template

from indexing.solr_errors import SolrError
from ingest.corpus import Corpus
from search_ui.sources import sources
from storage.runs import Run
from storage.store import StoreUnavailableError

blueprint = Blueprint("about", __name__)


@blueprint.get("/about")
def about() -> str:
    """The page about TinyTags."""
    try:
        published = sources().published.now().collections
    except SolrError:
        published = ()
    runs: list[tuple[str, Run | None]] = []
    corpora: dict[str, Corpus | None] = {}
    try:
        runs = [(name, sources().library.run(name)) for name in published]
        corpora = {run.corpus: sources().library.corpus(run.corpus) for _, run in runs if run is not None}
    except StoreUnavailableError:
        runs = [(name, None) for name in published]
    return render_template("about.html", runs=runs, corpora=corpora)
