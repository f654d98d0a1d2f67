"""The page of one run: what went in, what came out, how it is indexed, and what can be done with it."""

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from flask import Blueprint, Response, abort, current_app, jsonify, render_template
from flask.blueprints import BlueprintSetupState

from conf.cached import Cached
from conf.errors import TinyTagsError
from conf.recent import Recent
from conf.wording import duration, percent
from indexing.query.search_state import SearchState, quote_value
from indexing.solr_errors import SolrError
from ingest.corpus import Corpus
from search_ui import api_runs as api
from search_ui import facets
from search_ui.board import READ_SECONDS, REFRESH_SECONDS, WAIT_SECONDS
from search_ui.details import are_public, public, public_board
from search_ui.run_totals import RunTotals, TotalsReader
from search_ui.sources import sources
from search_ui.views.corrections import may_train
from search_ui.views.models import models
from storage import layout
from storage.runs import Run
from storage.store import Store, StoreUnavailableError
from tagging import cards

blueprint = Blueprint("run", __name__)

# Runs whose sums are cached.
MOST_CACHED = 32


class CachedTotals:
    """The sums of the last runs that were shown; for many threads."""

    def __init__(self, store: Store, seconds: float = REFRESH_SECONDS) -> None:
        self.store, self.seconds = store, seconds
        self._runs: Recent[str, Cached[RunTotals]] = Recent(MOST_CACHED)

    def get(self, run: Run, until: float) -> tuple[RunTotals | None, str | None]:
        """Return the sums of a run, None where they aren't known by ``until`` of `time.monotonic`, and the error if any."""
        answer = self._runs.get(run.name, lambda: self._cached(run)).get(until - time.monotonic())
        return answer.value, answer.error

    def _cached(self, run: Run) -> Cached[RunTotals]:
        reader = TotalsReader(self.store, run)
        return Cached("the store", lambda: reader.scan(READ_SECONDS), self.seconds)


@blueprint.record_once
def _make_totals(state: BlueprintSetupState) -> None:
    store = state.app.extensions["tinytags"].library.store
    state.app.extensions["tinytags.totals"] = CachedTotals(store, state.app.config["REFRESH_SECONDS"])


@dataclass(frozen=True)
class RunFacts:
    """Everything known about a run, for its page and for the API."""

    run: Run
    state: dict[str, Any]  # as in /api/runs
    board: dict[str, Any]
    created: str | None
    totals: RunTotals | None
    totals_error: str | None
    histogram: dict[int, int]  # images by the whole percent of confidence
    corpus: Corpus | None  # None where the store has none with the run's hash
    bad_first: str | None
    card: dict[str, Any] | None  # of the model; None where the store has none with the run's hash
    threshold: cards.Threshold | None  # what was measured of the model at the run's minimum confidence


@blueprint.get("/runs/<run>")
def run_page(run: str) -> str:
    """The page of a run."""
    facts, state = _facts(run), SearchState({"run": (run,)})
    published = facts.state["published"]
    index = facts.state["index"]
    complete = bool(index) and index["done"] == facts.run.partitions
    return render_template(
        "run.html",
        facts=facts,
        run=facts.state,
        name=run,
        totals=facts.totals,
        bars=_bars(facts, state),
        tag_urls={tag: state.toggle("tag", tag).url() for tag in facts.totals.tags}
        if published and facts.totals
        else {},
        exports=facets.exports(state),
        complete=complete,
        publishable=complete and not published and may_train(),
        replaced=_replaced(facts.run),
        duration=duration,
        versions=_versions(facts.card),
        times={key: _time(value) for key, value in _moments(facts.totals).items()},
        hosts=facts.totals.hosts if facts.totals and are_public() else [],
    )


@blueprint.get("/api/runs/<run>")
def api_run(run: str) -> Response:
    """The data of the page of a run."""
    facts = _facts(run)
    totals = facts.totals
    answer: api.RunDetails = {
        "run": run,
        "url": f"/runs/{run}",
        "created": facts.created,
        "classes": facts.run.classes,
        "state": cast(api.RunState, facts.state),
        "totals": _api_totals(totals, facts.histogram) if totals else None,
        "versions": _versions(facts.card),
    }
    return jsonify(answer)


def _api_totals(totals: RunTotals, histogram: dict[int, int]) -> api.RunTotals:
    counts, moments = totals.counts, _moments(totals)
    return {
        "partitions": totals.done,
        "partitions_read": totals.read,
        "images": counts["images"],
        "tagged": counts["tagged"],
        "dropped": counts["dropped"],
        "bad": counts["bad"],
        "labelled": counts["labelled"],
        "right": counts["right"],
        "trained": counts["trained"],
        "tags": totals.tags,
        "confidence": [{"percent": at, "images": images} for at, images in histogram.items()],
        "seconds": round(totals.seconds, 3),
        "images_per_second": _rate(totals),
        "first": _time(moments["first"]),
        "last": _time(moments["last"]),
    }


def _facts(name: str) -> RunFacts:
    """Return everything known about a run; abort with 404 where there is no such run or it can't be read."""
    until = time.monotonic() + WAIT_SECONDS
    library = sources().library
    board = public_board(sources().board.now(until))
    state = next((one for one in board["runs"] if one["run"] == name), None)
    made = library.run(name)
    if state is None and not board["store_seen"]:
        raise StoreUnavailableError(board["store_error"] or "the store does not answer")
    if state is None:
        abort(404, f"There is no run {quote_value(name)}; the page Runs lists those that there are.")
    if "error" in state or made is None:
        abort(404, state.get("error") or f"The manifest of run {quote_value(name)} can't be read.")
    totals, error = current_app.extensions["tinytags.totals"].get(made, until)
    corpus = library.corpus(made.corpus)
    if corpus is not None and corpus.hash != made.corpus_hash:
        corpus = None
    of_corpus: dict[str, Any] = next((one for one in board["corpora"] if one["corpus"] == made.corpus), {})
    card = _card(made, until)
    return RunFacts(
        run=made,
        state=state,
        board=board,
        created=_created(library.store, name),
        totals=totals,
        totals_error=public(error) if error else None,
        histogram=_histogram(made, totals),
        corpus=corpus,
        bad_first=of_corpus.get("bad_first") if corpus else None,
        card=card,
        threshold=_threshold(made, card),
    )


def _card(run: Run, until: float) -> dict[str, Any] | None:
    with contextlib.suppress(StoreUnavailableError):  # the page is useful without
        card = models().cards(until).get(run.model, {})
        return card if card.get("hash") == run.model_hash else None
    return None


def _threshold(run: Run, card: dict[str, Any] | None) -> cards.Threshold | None:
    quality = cards.read_quality(card) if card else None
    rows = quality.thresholds if quality else []
    return next((row for row in rows if row.confidence >= run.min_confidence - 1e-9), None)


def _versions(card: dict[str, Any] | None) -> dict[str, str]:
    versions = (card or {}).get("versions")
    return (
        {str(key): str(value) for key, value in versions.items() if value}
        if isinstance(versions, dict)
        else {}
    )


def _created(store: Store, name: str) -> str | None:
    """Return when the manifest was written, which is when the run began."""
    with contextlib.suppress(TinyTagsError):
        return _time(store.times(layout.run_folder(name)).get(layout.MANIFEST))
    return None


def _histogram(run: Run, totals: RunTotals | None) -> dict[int, int]:
    """Return the images by whole percent of confidence, dropped ones too.

    The statistics of a network have no votes: Solr has counted its tags where the run is published.
    """
    if run.trees and totals:
        images = {percent(votes, run.trees): 0 for votes in range(run.trees + 1)}
        for votes, count in totals.votes.items():
            images[percent(votes, run.trees)] += count
        least = next((at for at, count in images.items() if count), 0)
        return {at: count for at, count in images.items() if at >= least}
    state = SearchState({"run": (run.name,)})
    with contextlib.suppress(SolrError):
        return sources().published.now().of(state).counts.by_percent(state)
    return {}


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram; ``url`` is the search for its tags, where the run is published."""

    percent: int
    count: int
    height: float  # percent of the highest
    kept: bool  # whether its images have a tag
    url: str | None


def _bars(facts: RunFacts, state: SearchState) -> list[Bar]:
    most = max(facts.histogram.values(), default=0) or 1
    least = round(100 * facts.run.min_confidence, 6)
    return [
        Bar(
            at,
            count,
            round(100 * count / most, 1),
            at >= least,
            state.with_confidence(at, at).url() if facts.state["published"] and at >= least else None,
        )
        for at, count in facts.histogram.items()
    ]


def _replaced(run: Run) -> list[str]:
    """Return the published runs that this one would replace: those of its corpus."""
    with contextlib.suppress(SolrError):
        sources_now = sources().published.now().counts.sources
        return [one.run for one in sources_now if one.value("corpus") == run.corpus and one.run != run.name]
    return []


def _rate(totals: RunTotals) -> float | None:
    return round(totals.counts["images"] / totals.seconds, 1) if totals.seconds else None


def _moments(totals: RunTotals | None) -> dict[str, float | None]:
    return {"first": totals.first if totals else None, "last": totals.last if totals else None}


def _time(seconds: float | None) -> str | None:
    """Return a time in seconds since 1970 in ISO 8601."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
