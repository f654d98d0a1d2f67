"""What TinyTags is, and which runs are searched now."""

from flask import Blueprint, render_template

from indexing.solr import SolrError
from search_ui.sources import sources
from storage.store import StoreUnavailableError

blueprint = Blueprint("about", __name__)


@blueprint.get("/about")
def about():
    """The page about TinyTags."""
    try:
        shown = sources().published.now().collections
    except SolrError:
        shown = ()
    try:
        runs = [(name, sources().library.run(name)) for name in shown]
        corpora = {run.corpus: sources().library.corpus(run.corpus) for _, run in runs if run is not None}
    except StoreUnavailableError:
        runs, corpora = [(name, None) for name in shown], {}
    return render_template("about.html", runs=runs, corpora=corpora)
