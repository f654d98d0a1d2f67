"""Probes and metrics, for whoever operates the server."""

from flask import Blueprint, current_app, jsonify

from indexing.solr import SolrError
from search_ui.sources import sources

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz():
    """The process runs, whatever else does not."""
    return jsonify(status="alive")


@blueprint.get("/readyz")
def readyz():
    """Whether a search can be answered."""
    try:
        shown = sources().published.now(fresh=True)
    except SolrError as error:
        sources().metrics.solr_failures.inc()
        return jsonify(status="not ready", reason=str(error)), 503
    return jsonify(status="ready", collections=shown.collections)


@blueprint.get("/metrics")
def metrics():
    """The counters since the start of the server, for Prometheus."""
    return sources().metrics.text()


@blueprint.get("/favicon.ico")
def favicon():
    return current_app.send_static_file("icon.svg")
