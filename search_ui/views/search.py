"""The search page, and the same search as JSON."""

import contextlib
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue

from indexing.fields import FACETS
from indexing.query.levels import percent_of
from indexing.query.search import SearchResult, documents, image_of, other_tags, search
from indexing.query.search_state import NUMBERED_ROWS, SearchState, parse_form
from indexing.solr_errors import SolrError
from search_ui import api, facets
from search_ui.library import image_urls
from search_ui.precision_estimate import PrecisionEstimate, precision_estimates
from search_ui.sources import sources
from search_ui.views.corrections import enabled
from search_ui.writing import may_write
from storage.store import StoreUnavailableError

blueprint = Blueprint("search", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The search page."""
    if "min" in request.args or "max" in request.args:
        return redirect(parse_form(request.args).url())
    state = SearchState.parse(request.args)
    index = sources().index(state)
    result = search(sources().solr, index, state)
    counts = result.searched.counts
    return render_template(
        "search.html",
        result=result,
        state=state,
        preview=None if index is sources().published else state.values("run")[0],
        milliseconds=_milliseconds(result),
        answers=facets.answer_values(counts, state) if result.total or state.answer else [],
        facets=facets.facet_values(result, zeros=result.total > 0),
        estimates=_estimates(result),
        trained=_trained(result),
        several=_several(result),
        bars=facets.histogram(counts, state),
        range=facets.range_box(counts, state),
        filters=facets.filters(state),
        wider_searches=facets.wider_searches(result.published.counts, state) if not result.total else [],
        sorts=facets.sorts(state),
        sizes=facets.sizes(state),
        thumbnail_sizes=facets.thumbnail_sizes(state),
        pages=facets.pages(result),
        last_page=facets.last_page(result),
        previous_url=facets.previous_url(result),
        next_url=facets.next_url(result),
        api_url=state.url("/api/search"),
        label_url=state.url("/label", show="search") if enabled() and may_write() and result.total else None,
        exports=facets.exports(state),
        thumbnails=list(_thumbnails(result)),
    )


def _thumbnails(result: SearchResult) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each image, with its tags by all models that are searched.

    An image whose tags are several hits of the page is shown once, at the place of the first. Reads nothing from the store but
    manifests, which are cached.
    """
    query = result.state.with_page(1).url("")
    join = "&" if query else "?"
    versions = sources().library.versions(result.hits)
    places = {hit["id"]: place for place, hit in enumerate(result.hits, result.state.start)}
    tags: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for hit in (*result.hits, *_other_tags(result)):
        tags.setdefault(image_of(hit), []).append(hit)
    for hit, *others in tags.values():
        place = places[hit["id"]]
        urls = image_urls(hit, versions[hit["corpus"]])
        at = f"{query}{join}at={place}" if result.state.after is None and place < NUMBERED_ROWS else ""
        yield {
            "place": place,
            "url": urls["url"] + at,
            "png": urls["png"],
            "tag": hit["tag"],
            "percent": percent_of(hit),
            "mark": facets.label_mark(hit),
            "others": [
                {
                    "tag": one["tag"],
                    "percent": percent_of(one),
                    "model": one["model"],
                    "mark": facets.label_mark(one),
                    "place": places.get(one["id"]),
                }
                for one in others
            ],
            "model": hit["model"],
        }


def _other_tags(result: SearchResult) -> list[dict[str, Any]]:
    """Return the tags by other models of the images of a page."""
    if _several(result):
        with contextlib.suppress(SolrError):  # the results are useful without
            return other_tags(sources().solr, result.searched, result.hits)
    return []


def _estimates(result: SearchResult) -> list[PrecisionEstimate]:
    with contextlib.suppress(StoreUnavailableError):  # the results are useful without
        return precision_estimates(sources().library, result.searched.counts, result.state)
    return []


def _several(result: SearchResult) -> bool:
    """Return whether several runs of one corpus are searched: an image is then found once for each that gave it a tag."""
    collections = result.searched.counts.sources
    return len({source.value("corpus") for source in collections}) < len(collections)


def _trained(result: SearchResult) -> list[str]:
    """Return the models that were trained on images of what is searched."""
    runs = {source.run: source.model for source in result.searched.counts.sources}
    return sorted({model for run, model in runs.items() if sources().library.was_trained_on(run)})


def _milliseconds(result: SearchResult) -> int:
    return max(1, round(result.seconds * 1000))


@blueprint.get("/api/search")
def api_search() -> Response:
    """The data of the search page."""
    state = SearchState.parse(request.args)
    result = search(sources().solr, sources().index(state), state)
    counts = result.searched.counts
    answers, values = counts.by_answer(state), facets.facet_values(result)
    versions = sources().library.versions(result.hits)
    following = facets.next_url(result)
    answer: api.Search = {
        "total": result.total,
        "images": result.images,
        "milliseconds": _milliseconds(result),
        "collections": list(result.searched.collections),
        "page": state.page,
        "pages": facets.last_page(result),
        "per_page": state.per_page,
        "sort": state.sort,
        "tags": [
            {"tag": v.value, "count": v.count, "selected": v.selected, "toggle": _api_url(v.toggle_url)}
            for v in (values["tag"].values if "tag" in values else [])
        ],
        "confidence": [
            {"percent": bar.percent, "count": bar.count, "selected": bar.selected}
            for bar in facets.histogram(counts, state)
        ],
        "labelled": {
            "known": sum(answers.values()),
            "right": answers["right"],
            "wrong": answers["wrong"],
            "trained": _trained(result),
        },
        "expected": [_api_estimate(entry) for entry in _estimates(result)],
        "hits": [hit | image_urls(hit, versions[hit["corpus"]]) for hit in documents(result.hits)],
        "next": _api_url(following) if following else None,
    }
    lists = {
        facet.plural: _api_values(values[name].values if name in values else [])
        for name, facet in FACETS.items()
        if name != "tag" and (name in values or not facet.per_run)
    }
    return jsonify(answer | lists)


def _api_url(url: str) -> str:
    """Return the URL of a search in the API."""
    return f"/api/search{url[1:]}"


def _api_values(values: list[facets.Value]) -> list[api.Value]:
    return [
        {"value": v.value, "count": v.count, "selected": v.selected, "toggle": _api_url(v.toggle_url)}
        for v in values
    ]


def _api_estimate(entry: PrecisionEstimate) -> api.PrecisionEstimate:
    return {
        "model": entry.model,
        "tags": list(entry.tags),
        "low": entry.low,
        "high": entry.high,
        "images": entry.images,
        "precision": entry.precision,
        "interval": [round(end, 6) for end in entry.interval],
        "kept": entry.kept,
    }
