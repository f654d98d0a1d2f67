"""What the page counts of itself for Prometheus."""

import time
from dataclasses import dataclass

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from indexing.solr import SolrError

# Thumbnails take less than a millisecond, pages some, and a Solr that hangs is given up after 2.5 s.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, eq=False)
class Metrics:
    """The counters of one application, in a registry of its own: two of them in one process don't add up."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    unreadable: Counter
    solr_failures: Counter
    exports: Gauge

    def watch_export(self, response: Response) -> Response:
        """Return a streamed answer that counts as a running export until it is closed, and where Solr ends it as a failure."""
        lines = response.response

        def watched():
            try:
                yield from lines
            except SolrError:
                self.solr_failures.inc()
                raise

        response.response = watched()
        self.exports.inc()
        response.call_on_close(self.exports.dec)
        return response

    def text(self) -> Response:
        """Return all of it as Prometheus reads it."""
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


def make_metrics() -> Metrics:
    registry = CollectorRegistry()
    common = {"namespace": "tinytags", "registry": registry}
    return Metrics(
        registry=registry,
        requests=Counter("requests", "Requests answered.", ["route", "status"], **common),
        seconds=Histogram(
            "request_seconds", "Seconds until an answer began.", ["route"], buckets=SECONDS, **common
        ),
        unreadable=Counter(
            "unreadable_thumbnails", "Thumbnails whose partition could not be read.", **common
        ),
        solr_failures=Counter(
            "solr_failures", "Answers that failed, or were cut short, because Solr did.", **common
        ),
        exports=Gauge("exports_running", "Exports that are being sent.", **common),
    )


def register(app: Flask, metrics: Metrics) -> None:
    """Count every request of an application by its route, of which there are few, never by its URL."""

    def begin() -> None:
        g.began = time.perf_counter()

    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        metrics.requests.labels(route, response.status_code).inc()
        metrics.seconds.labels(route).observe(time.perf_counter() - g.began)
        return response

    app.before_request(begin)
    app.after_request(end)
