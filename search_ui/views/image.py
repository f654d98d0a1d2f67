"""One image: its page, the same as JSON, and its pixels as a PNG."""

from flask import Blueprint, abort, current_app, jsonify, render_template, request
from werkzeug.datastructures import MultiDict

from indexing.query.search import documents, find_image, neighbours
from indexing.query.search_state import NUMBERED_ROWS, SearchState, parse_position
from indexing.solr import SolrError
from ingest.corpus import Block
from ingest.image import to_png
from search_ui import png
from search_ui.library import image_url, image_urls, label, no_image, png_url, source, step, version_of
from search_ui.similar import similar_images
from search_ui.sources import sources
from search_ui.views import corrections
from storage.store import StoreError

blueprint = Blueprint("image", __name__)


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>")
def image(corpus: str, partition: int, row: int):
    """The page of one image."""
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
            "previous": step(manifest, partition, row, -1),
            "next": step(manifest, partition, row, 1),
        }
        around = {name: image_url(corpus, *place) if place else None for name, place in steps.items()}
    return render_template(
        "image.html",
        **facts,
        corpus=corpus,
        partition=partition,
        row=row,
        png=png_url(corpus, partition, row, version_of(manifest)),
        api_url=f"/api{image_url(corpus, partition, row)}",
        around=around,
        back=back,
        at=at,
        total=total,
        classes=corrections.classes(manifest) if corrections.wanted() and not facts["unreadable"] else [],
        correct_url=f"{image_url(corpus, partition, row)}/corrections",
        query=f"?{request.query_string.decode('latin-1')}" if request.query_string else "",
        by=corrections.name(),
    )


def _around_in_search(
    state: SearchState, at: int, place: tuple[str, int, int]
) -> dict[str, str | None] | None:
    """Return the links to the hits before and after; None where the results have changed and this image isn't at that place."""
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
    """The data of the image page."""
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
        png=png_url(corpus, partition, row, version_of(manifest)),
    )


def _describe(corpus: str, partition: int, row: int) -> dict:
    """Return everything known about an image; 404 where there is no such image. "unreadable" is the reason where its
    partition can't be read.
    """
    library = sources().library
    manifest = library.corpus(corpus)
    if missing := no_image(corpus, partition, row, manifest):
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
    said, unsaid = corrections.corrections_of(manifest, partition, row)
    return {
        "manifest": manifest,
        "tags": tags,
        "corrections": said,
        "corrections_error": unsaid,
        "label": label(manifest, block),
        "source": source(manifest, partition, row, block),
        "similar": _similar(block, (corpus, partition, row)),
        "unreadable": unreadable,
    }


def _similar(block: Block | None, place: tuple[str, int, int]) -> list[dict] | None:
    """Return the images most similar to one; None where they are unavailable: the page is useful without them."""
    if block is None:
        return None
    try:
        found = similar_images(sources().solr, sources().published, sources().library, block.images, place)
    except SolrError as error:
        current_app.logger.warning("similar images: %s", error)
        return None
    versions = sources().library.versions(found or [])
    return found and [hit | image_urls(hit, versions[hit["corpus"]]) for hit in found]


@blueprint.get("/images/<corpus>/<int:partition>/<int:row>.png")
def pixels(corpus: str, partition: int, row: int):
    """The pixels, each ``scale`` x ``scale`` large. Where its partition can't be read: a placeholder and 503."""
    scale = png.parse_scale(1)
    manifest = sources().library.corpus(corpus)
    if missing := no_image(corpus, partition, row, manifest):
        abort(404, missing)
    version = version_of(manifest)

    def draw() -> bytes:
        return to_png(sources().library.image(manifest, partition, row).images[0], scale)

    try:
        return png.answer(f"{version}-{partition}-{row}-{scale}", version, draw)
    except StoreError as error:
        current_app.logger.warning("%s", error)
        sources().metrics.unreadable.inc()
        placeholder = current_app.send_static_file("unreadable.png")
        placeholder.status_code = 503
        placeholder.headers["Cache-Control"] = "no-store"
        return placeholder
