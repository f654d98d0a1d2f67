"""The routes: from a request to what a template prints or to JSON."""

import contextlib
import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from flask import Blueprint, Response, abort, current_app, jsonify, redirect, render_template, request
from werkzeug.datastructures import MultiDict

from conf.settings import Settings
from indexing.query.counts import percent_of
from indexing.query.published import PublishedIndex
from indexing.query.search import (
    FIELDS,
    SearchResult,
    TooBusyError,
    documents,
    export,
    find_image,
    neighbours,
    search,
)
from indexing.query.search_state import NUMBERED_ROWS, WORDS, SearchState, parse_form, parse_position
from indexing.solr import Solr, SolrError
from ingest.corpus import Block, Corpus
from ingest.image import to_png
from records.corrections import Corrections
from search_ui import facets, images, pictures
from search_ui.expected import Expected, expected
from search_ui.images import Library, image_url
from search_ui.metrics import Metrics
from search_ui.similar import similar_images
from search_ui.views import correcting
from storage.store import StoreError, StoreUnavailableError

blueprint = Blueprint("pages", __name__)

# An export keeps a thread of the server to its end; the others are for pages.
_EXPORTS = threading.BoundedSemaphore(2)
EXPORTED = {"csv": "text/csv", "jsonl": "application/x-ndjson"}
# What a cell begins with that spreadsheets execute.
FORMULAS = tuple("=+-@\t\r\n|%＝＋－＠")


@dataclass(frozen=True)
class Sources:
    """What the pages are made from."""

    settings: Settings
    solr: Solr
    published: PublishedIndex
    library: Library
    corrections: Corrections
    metrics: Metrics


def sources() -> Sources:
    return current_app.extensions["tinytags"]


# Search


@blueprint.get("/")
def index():
    """The search page."""
    if "min" in request.args or "max" in request.args:
        return redirect(parse_form(request.args).url())
    state = SearchState.parse(request.args)
    found = search(sources().solr, sources().published, state)
    counts = found.searched.counts
    return render_template(
        "search.html",
        found=found,
        state=state,
        milliseconds=_milliseconds(found),
        answers=facets.answer_values(counts, state),
        tags=facets.tag_values(counts, state),
        runners_up=facets.runner_up_values(counts, state),
        places=facets.source_values(found.published.counts, state),
        expected=_expected(found),
        bars=facets.histogram(counts, state),
        range=facets.range_box(counts, state),
        filters=facets.filters(counts, state),
        ways_out=facets.ways_out(found.published.counts, state) if not found.total else [],
        sorts=facets.sorts(state),
        sizes=facets.sizes(state),
        thumbnail_sizes=facets.thumbnail_sizes(state),
        pages=facets.pages(found),
        last_page=facets.last_page(found),
        previous_url=facets.previous_url(found),
        next_url=facets.next_url(found),
        api_url=state.url("/api/search"),
        exports={
            name: state.with_page(1).url(f"/export.{ending}")
            for name, ending in (("CSV", "csv"), ("JSON lines", "jsonl"))
        },
        thumbnails=list(_thumbnails(found)),
    )


def _thumbnails(found: SearchResult):
    """Yield what the page shows of each hit. Asks nothing of the store but manifests, which are kept."""
    query = found.state.with_page(1).url("")
    join = "&" if query else "?"
    versions = _versions(found.hits)
    for place, hit in enumerate(found.hits, found.state.start):
        at = f"{query}{join}at={place}" if found.state.after is None and place < NUMBERED_ROWS else ""
        yield {
            "url": image_url(hit["corpus"], hit["partition"], hit["row"]) + at,
            "png": png_url(hit["corpus"], hit["partition"], hit["row"], versions[hit["corpus"]]),
            "tag": hit["tag"],
            "percent": percent_of(hit),
            "label": hit.get("label"),
            "right": hit["tag"] == hit["label"] if "label" in hit else None,
        }


def _versions(hits: list[dict]) -> dict[str, str | None]:
    """Return for the corpora of the hits what the URLs of their pixels say of their contents."""
    versions = dict.fromkeys(hit["corpus"] for hit in hits)
    with contextlib.suppress(StoreUnavailableError):  # what was found can be told without
        for name in versions:
            versions[name] = _version(sources().library.corpus(name))
    return versions


def _version(manifest: Corpus | None) -> str | None:
    return manifest.hash[:8] if manifest is not None else None


def _expected(found: SearchResult) -> list[Expected]:
    with contextlib.suppress(StoreUnavailableError):  # what was found can be told without
        return expected(sources().library, found.searched.counts, found.state)
    return []


def _milliseconds(found: SearchResult) -> int:
    return max(1, round(found.seconds * 1000))


@blueprint.get("/export.<any(csv, jsonl):ending>")
def export_hits(ending: str):
    """All hits of a search as CSV or JSON lines, streamed; the header X-Total-Count says how many."""
    state = SearchState.parse(request.args)
    if not _EXPORTS.acquire(blocking=False):
        raise TooBusyError("two exports are running; try again when one has ended")
    try:
        total, batches = export(sources().solr, sources().published, state)
    except BaseException:
        _EXPORTS.release()
        raise

    lines = _csv_lines(batches) if ending == "csv" else _json_lines(batches)
    headers = {"X-Total-Count": str(total), "Content-Disposition": f"attachment; filename=tinytags.{ending}"}
    response = Response(lines, mimetype=EXPORTED[ending], headers=headers)
    response.call_on_close(_EXPORTS.release)
    return sources().metrics.watch_export(response)


def _json_lines(batches: Iterator[list[dict]]) -> Iterator[str]:
    for found in batches:
        yield "".join(json.dumps(hit, ensure_ascii=False) + "\n" for hit in documents(found))


def _csv_lines(batches: Iterator[list[dict]]) -> Iterator[str]:
    header = FIELDS.split(",")
    yield ",".join(header) + "\r\n"
    for found in batches:
        text = io.StringIO()
        writer = csv.DictWriter(text, header, restval="")
        writer.writerows({key: _cell(value) for key, value in hit.items()} for hit in documents(found))
        yield text.getvalue()


def _cell(value: object) -> object:
    """Return what a spreadsheet takes for text, where it would take it for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


@blueprint.get("/api/search")
def api_search():
    """The search page's own data."""
    state = SearchState.parse(request.args)
    found = search(sources().solr, sources().published, state)
    counts = found.searched.counts
    answers = counts.by_answer(state)
    versions = _versions(found.hits)
    following = facets.next_url(found)
    return jsonify(
        total=found.total,
        milliseconds=_milliseconds(found),
        collections=found.searched.collections,
        page=state.page,
        pages=facets.last_page(found),
        per_page=state.per_page,
        sort=state.sort,
        tags=[
            {
                "tag": value.value,
                "count": value.count,
                "selected": value.selected,
                "toggle": f"/api/search{value.toggle_url[1:]}",
            }
            for value in facets.tag_values(counts, state)
        ],
        confidence=[
            {"percent": bar.percent, "count": bar.count, "selected": bar.selected}
            for bar in facets.histogram(counts, state)
        ],
        labelled={"known": sum(answers.values()), **answers},
        runners_up=_api_values(facets.runner_up_values(counts, state)),
        **{
            WORDS[name]: _api_values(values)
            for name, values in facets.source_values(found.published.counts, state).items()
        },
        expected=[asdict(entry) for entry in _expected(found)],
        hits=[
            hit
            | {
                "url": image_url(hit["corpus"], hit["partition"], hit["row"]),
                "png": png_url(hit["corpus"], hit["partition"], hit["row"], versions[hit["corpus"]]),
            }
            for hit in documents(found.hits)
        ],
        next=f"/api/search{following[1:]}" if following else None,
    )


def _api_values(values: list[facets.Value]) -> list[dict]:
    return [
        {
            "value": v.value,
            "count": v.count,
            "selected": v.selected,
            "toggle": f"/api/search{v.toggle_url[1:]}",
        }
        for v in values
    ]


# Images


def png_url(corpus: str, partition: int, row: int, version: str | None) -> str:
    """Return the URL of the pixels; with the corpus' version in it, so that browsers may keep them for good."""
    return f"{image_url(corpus, partition, row)}.png" + (f"?v={version}" if version else "")


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>")
def image(corpus: str, partition: int, row: int):
    """One image's own page."""
    facts = _describe(corpus, partition, row)
    args = MultiDict((key, value) for key, value in request.args.items(multi=True) if key != "at")
    at = parse_position(request.args.get("at"))
    state = SearchState.parse(args)
    back = around = total = None
    if at is not None:
        back = state.with_page(at // state.per_page + 1).url()
        around = _around_in_search(state, at, (corpus, partition, row))
        total = sources().published.now().of(state).counts.total(state) if around else None
    manifest = facts["manifest"]
    if around is None:
        steps = {
            "previous": images.step(manifest, partition, row, -1),
            "next": images.step(manifest, partition, row, 1),
        }
        around = {name: image_url(corpus, *place) if place else None for name, place in steps.items()}
    return render_template(
        "image.html",
        **facts,
        corpus=corpus,
        partition=partition,
        row=row,
        png=png_url(corpus, partition, row, _version(manifest)),
        api_url=f"/api{image_url(corpus, partition, row)}",
        around=around,
        back=back,
        at=at,
        total=total,
        classes=correcting.classes(manifest) if correcting.wanted() and not facts["unreadable"] else [],
        correct_url=f"{image_url(corpus, partition, row)}/corrections",
        query=f"?{request.query_string.decode('latin-1')}" if request.query_string else "",
        by=correcting.name(),
    )


def _around_in_search(
    state: SearchState, at: int, place: tuple[str, int, int]
) -> dict[str, str | None] | None:
    """Return the links to the hits before and after; None where the search has moved on and this image isn't there."""
    before, here, behind = neighbours(sources().solr, sources().published, state, at)
    if here is None or (here["corpus"], here["partition"], here["row"]) != place:
        return None
    links = {}
    for name, hit, position in (("previous", before, at - 1), ("next", behind, at + 1)):
        known = hit is not None and position < NUMBERED_ROWS
        links[name] = (
            state.with_page(1).url(image_url(hit["corpus"], hit["partition"], hit["row"]), at=position)
            if known
            else None
        )
    return links


@blueprint.get("/api/images/<corpus>/<int:partition>/<int:row>")
def api_image(corpus: str, partition: int, row: int):
    """The image page's own data."""
    facts = _describe(corpus, partition, row)
    manifest = facts.pop("manifest")
    said = facts.pop("corrections")
    tags = [
        tag["document"] | {"class_votes": tag["class_votes"], "min_confidence": tag["min_confidence"]}
        for tag in facts.pop("tags")
    ]
    return jsonify(
        corpus=corpus,
        partition=partition,
        row=row,
        **facts,
        corrections=said
        and [{"label": c.label, "by": c.by, "at": c.at.isoformat(), "number": c.number} for c in said],
        tags=tags,
        png=png_url(corpus, partition, row, _version(manifest)),
    )


def _describe(corpus: str, partition: int, row: int) -> dict:
    """Return all that is known of an image; 404 where there is no such image. A partition that can't be read is told."""
    library = sources().library
    manifest = library.corpus(corpus)
    if missing := images.no_image(corpus, partition, row, manifest):
        abort(404, missing)
    unreadable = block = None
    try:
        block = library.image(manifest, partition, row)
    except StoreError as error:
        unreadable = str(error)
    tags = []
    for document in documents(find_image(sources().solr, sources().published, corpus, partition, row)):
        run = library.run(document["run"])
        votes = library.votes(run, block) if run is not None and block is not None else None
        tags.append(
            {
                "document": document,
                "class_votes": votes,
                "min_confidence": run.min_confidence if run is not None else None,
            }
        )
    said, unsaid = correcting.corrections(manifest, partition, row)
    return {
        "manifest": manifest,
        "tags": tags,
        "corrections": said,
        "corrections_error": unsaid,
        "label": images.label(manifest, block),
        "source": images.source(manifest, partition, row, block),
        "similar": _similar(block, (corpus, partition, row)),
        "unreadable": unreadable,
    }


def _similar(block: Block | None, place: tuple[str, int, int]) -> list[dict] | None:
    """Return what looks like an image; None where that can't be told: the page is worth having without."""
    if block is None:
        return None
    try:
        found = similar_images(sources().solr, sources().published, sources().library, block.images, place)
    except SolrError as error:
        current_app.logger.warning("similar images: %s", error)
        return None
    versions = _versions(found or [])
    return found and [
        hit
        | {
            "url": image_url(hit["corpus"], hit["partition"], hit["row"]),
            "png": png_url(hit["corpus"], hit["partition"], hit["row"], versions[hit["corpus"]]),
        }
        for hit in found
    ]


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>.png")
def png(corpus: str, partition: int, row: int):
    """The pixels, each ``scale`` x ``scale`` large. A partition that can't be read gives a placeholder and 503."""
    scale = pictures.parse_scale(1)
    manifest = sources().library.corpus(corpus)
    if missing := images.no_image(corpus, partition, row, manifest):
        abort(404, missing)
    version = _version(manifest)

    def draw() -> bytes:
        return to_png(sources().library.image(manifest, partition, row).images[0], scale)

    try:
        return pictures.answer(f"{version}-{partition}-{row}-{scale}", version, draw)
    except StoreError as error:
        current_app.logger.warning("%s", error)
        sources().metrics.unreadable.inc()
        placeholder = current_app.send_static_file("unreadable.png")
        placeholder.status_code = 503
        placeholder.headers["Cache-Control"] = "no-store"
        return placeholder


# About, and whether all is well


@blueprint.get("/about")
def about():
    """What TinyTags is, and what is searched now."""
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


@blueprint.get("/healthz")
def healthz():
    """The process lives, whatever else does."""
    return jsonify(status="alive")


@blueprint.get("/readyz")
def readyz():
    """A search would be answered."""
    try:
        shown = sources().published.now(fresh=True)
    except SolrError as error:
        sources().metrics.solr_failures.inc()
        return jsonify(status="not ready", reason=str(error)), 503
    return jsonify(status="ready", collections=shown.collections)


@blueprint.get("/metrics")
def metrics():
    """What the page has counted of itself since it was started, for Prometheus."""
    return sources().metrics.text()


@blueprint.get("/favicon.ico")
def favicon():
    return current_app.send_static_file("icon.svg")
