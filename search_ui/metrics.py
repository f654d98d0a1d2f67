"""The application's own metrics, for Prometheus."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from indexing.solr_errors import SolrError

# A thumbnail takes less than a millisecond, a page some; a Solr that hangs is given up after 2.5 s.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, eq=False)
class Metrics:
    """The metrics of one application, in a registry of its own: those of two in one process stay separate."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    unreadable: Counter
    solr_failures: Counter
    exports: Gauge

    def watch_export(self, response: Response) -> Response:
        """Return a streamed response that counts as a running export until it is closed, and as a failure where Solr fails."""
        lines = response.iter_encoded()

        def watched() -> Iterator[bytes]:
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
        """Return all metrics in the format of Prometheus."""
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


def make_metrics() -> Metrics:
    """Return new metrics, all zero."""
    registry = CollectorRegistry()

    def counter(name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, description, labels, namespace="tinytags", registry=registry)

    return Metrics(
        registry=registry,
        requests=counter("requests", "Requests answered.", ("route", "status")),
        seconds=Histogram(
            "request_seconds", "Seconds until the response began.", ["route"], buckets=SECONDS,
            namespace="tinytags", registry=registry,
        ),
        unreadable=counter("unreadable_thumbnails", "Thumbnails whose partition could not be read."),
        solr_failures=counter(
            "solr_failures", "Responses that failed, or were cut short, because Solr failed."
        ),
        exports=Gauge("exports_running", "Exports in progress.", namespace="tinytags", registry=registry),
    )  # fmt: skip


def register(app: Flask, metrics: Metrics) -> None:
    """Count every request of an application by its route, of which there are few, not by its URL."""

    def begin() -> None:
        g.began = time.perf_counter()

    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        metrics.requests.labels(route, response.status_code).inc()
        metrics.seconds.labels(route).observe(time.perf_counter() - g.began)
        return response

    app.before_request(begin)
    app.after_request(end)
