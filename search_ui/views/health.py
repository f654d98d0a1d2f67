"""Probes and metrics for operators."""

from flask import Blueprint, Response, current_app, jsonify
from flask.typing import ResponseReturnValue

from indexing.solr_errors import SolrError
from search_ui import api, details
from search_ui.sources import sources

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Whether the process runs."""
    answer: api.Alive = {"status": "alive"}
    return jsonify(answer)


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Whether a search can be answered."""
    try:
        published = sources().published.now(fresh=True)
    except SolrError as error:
        current_app.logger.warning("%s", error)
        sources().metrics.solr_failures.inc()
        failure: api.NotReady = {"status": "not ready", "reason": details.reason(error)}
        return jsonify(failure), 503
    answer: api.Ready = {"status": "ready", "collections": list(published.collections)}
    return jsonify(answer)


@blueprint.get("/metrics")
def metrics() -> Response:
    """The counters since the start of the server, for Prometheus."""
    return sources().metrics.text()


@blueprint.get("/favicon.ico")
def favicon() -> Response:
    """The icon, at the address that browsers try by default."""
    return current_app.send_static_file("icon.svg")
