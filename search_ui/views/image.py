"""One image: its page, the same as JSON, and its pixels as a PNG."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, render_template, request
from werkzeug.datastructures import MultiDict

from indexing.query.published import PublishedIndex
from indexing.query.search import documents, find_image, image_of, neighbours
from indexing.query.search_state import NUMBERED_ROWS, SearchState, parse_position
from indexing.solr_errors import SolrError
from ingest.corpus import Corpus
from ingest.image import to_png
from ingest.partition import Block, NoImageError
from records.corrections import OF_IMAGE, Correction
from records.majority import majority
from search_ui import api, details, png
from search_ui.library import image_url, image_urls, known_corpus, label, png_url, source, step, version_of
from search_ui.similar import similar_images
from search_ui.sources import sources
from search_ui.views import corrections
from search_ui.writing import may_write
from storage.runs import Run
from storage.store import StoreError
from tagging.calibration import expected_precision
from tagging.cards import TABLE_CLASSES

blueprint = Blueprint("image", __name__)

Place = tuple[str, int, int]  # corpus, partition, row


@dataclass(frozen=True)
class Facts:
    """Everything known about an image, for its page and for the API."""

    corpus: Corpus
    # Documents, with "class_votes", "min_confidence", "expected_precision" and "trained".
    tags: list[dict[str, Any]]
    corrections: list[Correction] | None
    corrections_error: str | None
    label: str | None
    source: api.Source
    similar: list[dict[str, Any]] | None
    unreadable: str | None  # why its pixels can't be read


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>")
def image(corpus: str, partition: int, row: int) -> str:
    """The page of one image."""
    args = MultiDict((key, value) for key, value in request.args.items(multi=True) if key != "at")
    at = parse_position(request.args.get("at"))
    state = SearchState.parse(args)
    facts = _facts(corpus, partition, row, sources().index(state))
    back = around = total = None
    if at is not None:
        back = f"{state.with_page(at // state.per_page + 1).url()}#image-{at}"
        around = _around_in_search(state, at, (corpus, partition, row))
        total = sources().index(state).now().of(state).counts.total(state) if around else None
    if around is None:
        steps = {
            "previous": step(facts.corpus, partition, row, -1),
            "next": step(facts.corpus, partition, row, 1),
        }
        around = {name: image_url(corpus, *place) if place else None for name, place in steps.items()}
    correctable = corrections.enabled() and may_write() and not facts.unreadable
    given = corrections.given_labels(facts.corpus) if correctable and not facts.corrections_error else []
    choices = corrections.choices(facts.corpus, given) if correctable else []
    free = correctable and not choices  # nothing knows the classes yet
    latest = {one.by: one.label for one in reversed(facts.corrections or [])}
    if len(facts.corrections or []) == OF_IMAGE:  # there may be more
        newest = sources().corrections.latest_of_image(facts.corpus, partition, row)
        latest = {one.by: one.label for one in newest}
    return render_template(
        "image.html",
        facts=facts,
        corpus=corpus,
        partition=partition,
        row=row,
        png=png_url(corpus, partition, row, version_of(facts.corpus)),
        api_url=f"/api{image_url(corpus, partition, row)}",
        most_classes=TABLE_CLASSES,
        around=around,
        back=back,
        at=at,
        total=total,
        choices=choices,
        free=free,
        given=given if free else [],
        correct_url=f"{image_url(corpus, partition, row)}/corrections",
        query=f"?{request.query_string.decode('latin-1')}" if request.query_string else "",
        by=corrections.name(),
        people=len(latest),
        peoples_label=majority(latest.values()),
    )


def _around_in_search(state: SearchState, at: int, place: Place) -> dict[str, str | None] | None:
    """Return the links to the hits before and after; None where the results have changed and this image is not at ``at``."""
    before, here, after = neighbours(sources().solr, sources().index(state), state, at)
    if here is None or image_of(here[1]) != place:
        return None
    links: dict[str, str | None] = {"previous": None, "next": None}
    for name, neighbour in (("previous", before), ("next", after)):
        if neighbour is not None and neighbour[0] < NUMBERED_ROWS:
            links[name] = state.with_page(1).url(image_url(*image_of(neighbour[1])), at=neighbour[0])
    return links


@blueprint.get("/api/images/<corpus>/<int:partition>/<int:row>")
def api_image(corpus: str, partition: int, row: int) -> Response:
    """The data of the image page."""
    facts = _facts(corpus, partition, row, sources().published)
    answer: api.Image = {
        "corpus": corpus,
        "partition": partition,
        "row": row,
        "label": facts.label,
        "source": facts.source,
        "unreadable": facts.unreadable,
        "corrections": None
        if facts.corrections is None
        else [
            {"label": one.label, "by": one.by, "at": one.at.isoformat(), "number": one.number}
            for one in facts.corrections
        ],
        "corrections_error": facts.corrections_error,
        "tags": facts.tags,
        "similar": facts.similar,
        "png": png_url(corpus, partition, row, version_of(facts.corpus)),
    }
    return jsonify(answer)


def _facts(corpus: str, partition: int, row: int, index: PublishedIndex) -> Facts:
    """Return everything known about an image, with its tags in an index; 404 where there is no such image."""
    library = sources().library
    manifest = known_corpus(library, corpus, partition, row)
    unreadable = block = None
    try:
        block = library.image(manifest, partition, row)
    except StoreError as error:
        current_app.logger.warning("%s", error)
        unreadable = details.reason(error)
    tags = []
    for document in documents(find_image(sources().solr, index, corpus, partition, row)):
        run = library.run(document["run"])
        votes = library.votes(run, block) if run is not None and block is not None else None
        least = run.min_confidence if run is not None else None
        expected = _expected(run, document) if run is not None else None
        trained = library.is_trained_on(run, block) if run is not None and block is not None else None
        tags.append(
            document
            | {
                "class_votes": votes,
                "min_confidence": least,
                "expected_precision": None if trained else expected,
                "trained": trained,
            }
        )
    known, corrections_error = corrections.corrections_of(manifest, partition, row)
    origin = source(manifest, partition, row, block)
    return Facts(
        manifest,
        tags,
        known,
        corrections_error,
        label(manifest, block),
        origin | {"dump": details.public(origin["dump"])},
        _similar(block, (corpus, partition, row)),
        unreadable,
    )


def _expected(run: Run, document: dict[str, Any]) -> float | None:
    """Return the share of such tags of this confidence that were right where the model was measured; None where unknown."""
    measured = sources().library.measured(run.model)
    if measured is None or measured.model_hash != run.model_hash or measured.quality.calibration is None:
        return None
    return expected_precision(measured.quality.calibration, document["confidence"], document["tag"])


def _similar(block: Block | None, place: Place) -> list[dict[str, Any]] | None:
    """Return the images most similar to one; None where they are unavailable: the page is useful without them."""
    if block is None:
        return None
    try:
        hits = similar_images(sources().solr, sources().published, sources().library, block.images, place)
    except SolrError as error:
        current_app.logger.warning("similar images: %s", error)
        return None
    if hits is None:
        return None
    versions = sources().library.versions(hits)
    return [hit | image_urls(hit, versions[hit["corpus"]]) for hit in hits]


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>.png")
def pixels(corpus: str, partition: int, row: int) -> Response:
    """The pixels, each ``scale`` x ``scale`` large. A placeholder and 404 for a bad record, 503 where the partition can't be read."""
    scale = png.parse_scale(1)
    manifest = known_corpus(sources().library, corpus, partition, row)
    version = version_of(manifest)

    def draw() -> bytes:
        return to_png(sources().library.image(manifest, partition, row).images[0], scale)

    try:
        return png.answer(f"{version}-{partition}-{row}-{scale}", version, draw)
    except StoreError as error:
        current_app.logger.warning("%s", error)
        sources().metrics.unreadable.inc()
        placeholder = current_app.send_static_file("unreadable.png")
        placeholder.status_code = 404 if isinstance(error, NoImageError) else 503
        placeholder.headers["Cache-Control"] = "no-store"
        return placeholder
