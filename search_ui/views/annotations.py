"""Annotations: classes, relations, images by classes, relations by patterns and single images, as JSON and CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, jsonify, request

from conf.spreadsheets import guarded
from indexing.query import annotations as query
from indexing.query.search_state import BadSearchError, check_parameters, quote_value
from search_ui import annotations
from search_ui import api_annotations as api
from search_ui.annotations import (
    PER_PAGE,
    ImageSearch,
    Opened,
    Page,
    RelationSearch,
    describe_image,
    open_named,
    parse_sort,
    relation_rows,
    solr,
    suggest,
    text_of,
)
from search_ui.sources import sources
from search_ui.views.export import exported

blueprint = Blueprint("annotations_api", __name__)

SORTS = ("name", "images")
PARTS = ("class", "relation")  # that names are suggested for
RELATION_SORTS = (*SORTS, "rows")


@blueprint.get("/api/annotations")
def api_list() -> Response:
    """All annotations in the store."""
    library = sources().library
    summaries: list[api.AnnotationsSummary] = []
    for name in library.annotation_names():
        classes = library.annotations(name)
        if classes is not None:
            summaries.append(
                {
                    "annotations": name,
                    "classes": len(classes.names),
                    "url": Opened(name, classes).url("classes"),
                }
            )
    answer: api.AnnotationsList = {"annotations": summaries}
    return jsonify(answer)


def class_counts(opened: Opened) -> list[api.ClassCount]:
    """Return the classes that images have, in the order of ``sort``."""
    check_parameters(request.args, ("sort", "limit", "page"))
    sort = parse_sort(request.args, SORTS)
    counts = annotations.class_counts(opened)
    rows: list[api.ClassCount] = [
        {"class": opened.classes.name(label), "label": label, "images": count}
        for label, count in counts.items()
    ]
    rows.sort(key=lambda one: (one["class"].lower(), one["class"], one["label"]))
    if sort == "images":
        rows.sort(key=lambda one: -one["images"])
    return rows


def relation_counts(opened: Opened) -> list[api.RelationCount]:
    """Return the types of relations with their counts, in the order of ``sort``."""
    check_parameters(request.args, ("sort",))
    sort = parse_sort(request.args, RELATION_SORTS)
    listed: list[api.RelationCount] = [
        {"relation": relation, "images": images, "rows": rows}
        for relation, images, rows in annotations.relation_counts(opened)
    ]
    if sort != "name":
        listed.sort(key=lambda one: -(one["images"] if sort == "images" else one["rows"]))
    return listed


def cut(rows: list[Any], page: Page) -> list[Any]:
    """Return the rows of a page."""
    return rows if page.limit is None else rows[page.start : page.start + page.limit]


@blueprint.get("/api/annotations/<name>/classes")
def api_classes(name: str) -> Response:
    """Every class with the number of images that have it."""
    counts = class_counts(open_named(name))
    answer: api.ClassCounts = {"total": len(counts), "classes": cut(counts, Page.parse(request.args, None))}
    return jsonify(answer)


@blueprint.get("/annotations/<name>/classes.csv")
def csv_classes(name: str) -> Response:
    """The same as CSV."""
    counts = class_counts(open_named(name))
    return _exported(
        "classes",
        ("class", "label", "images"),
        iter([cut(counts, Page.parse(request.args, None))]),
        len(counts),
    )


@blueprint.get("/api/annotations/<name>/relations")
def api_relations(name: str) -> Response:
    """Every type of relation with the number of images that contain it, and of its rows."""
    answer: api.RelationCounts = {"relations": relation_counts(open_named(name))}
    return jsonify(answer)


@blueprint.get("/annotations/<name>/relations.csv")
def csv_relations(name: str) -> Response:
    """The same as CSV."""
    counts = relation_counts(open_named(name))
    return _exported("relations", ("relation", "images", "rows"), iter([counts]), len(counts))


@blueprint.get("/api/annotations/<name>/images")
def api_images(name: str) -> Response:
    """Images with at least one of several classes, or with all, those with most of them first."""
    opened, search = open_named(name), ImageSearch.parse(request.args)
    page = Page.parse(request.args, PER_PAGE)
    hits = search.find(opened, page.start, page.limit or PER_PAGE, {})
    answer: api.AnnotatedImages = {"total": hits.total, "images": list(search.hits(opened, hits.documents))}
    return jsonify(answer)


@blueprint.get("/annotations/<name>/images.csv")
def csv_images(name: str) -> Response:
    """All of them as CSV, or the first ``limit``."""
    opened, search = open_named(name), ImageSearch.parse(request.args)
    params = search.params(opened.classes)
    batches = (search.hits(opened, documents) for documents in _pages(opened.images, params))

    total = query.find(solr(), opened.images, params, 0, 0).total
    return _exported("images", ("image", "matching", "classes"), batches, total)


@blueprint.get("/api/annotations/<name>/relation-search")
def api_relation_search(name: str) -> Response:
    """Relations by a pattern of each part; ``%`` stands for any characters."""
    opened, search = open_named(name), RelationSearch.parse(request.args)
    page = Page.parse(request.args, PER_PAGE)
    hits = search.find(opened, page.start, page.limit or PER_PAGE, {})
    answer: api.RelationRows = {"total": hits.total, "rows": list(relation_rows(opened, hits.documents))}
    return jsonify(answer)


@blueprint.get("/annotations/<name>/relation-search.csv")
def csv_relation_search(name: str) -> Response:
    """All of them as CSV, or the first ``limit``."""
    opened, params = open_named(name), RelationSearch.parse(request.args).params()
    batches = (relation_rows(opened, documents) for documents in _pages(opened.relations, params))

    total = query.find(solr(), opened.relations, params, 0, 0).total
    return _exported("relations", ("image", "class1", "relation", "class2"), batches, total)


@blueprint.get("/api/annotations/<name>/suggestions")
def api_suggestions(name: str) -> Response:
    """Names of classes, or types of relations, with a text in them."""
    opened = open_named(name)
    check_parameters(request.args, ("part", "text"))
    part = request.args.get("part") or PARTS[0]
    if part not in PARTS:
        raise BadSearchError(f"part is {quote_value(part)}; it can be class or relation")
    answer: api.Suggestions = {
        "suggestions": suggest(opened, part, text_of("text", request.args.get("text") or ""))
    }
    return jsonify(answer)


@blueprint.get("/api/annotations/<name>/images/<image>")
def api_image(name: str, image: str) -> Response:
    """One image: its labels and relations."""
    check_parameters(request.args, ())
    return jsonify(describe_image(open_named(name), image))


@blueprint.get("/annotations/<name>/images/<image>.csv")
def csv_image(name: str, image: str) -> Response:
    """The same as CSV: a row a label or relation."""
    check_parameters(request.args, ())
    described = describe_image(open_named(name), image)
    rows: list[dict[str, Any]] = [{"kind": "present", "class1": one} for one in described["present"]]
    rows += [{"kind": "absent", "class1": one} for one in described["absent"]]
    rows += [
        {"kind": "machine", "class1": one["class"], "confidence": one["confidence"]}
        for one in described["machine"]
    ]
    rows += [{"kind": "relation", **one} for one in described["relations"]]
    columns = ("kind", "class1", "relation", "class2", "confidence")
    return _exported("image", columns, iter([rows]), len(rows))


def _pages(alias: str, params: query.Params) -> Iterator[list[query.Document]]:
    """Yield what a CSV holds: all, or the rows of ``limit`` and ``page``."""
    page = Page.parse(request.args, None)
    if page.limit is None:
        return query.every(solr(), alias, params)
    if page.page == 1:
        return query.every(solr(), alias, params, page.limit)
    return iter([query.find(solr(), alias, params, page.start, page.limit).documents])


def _exported(name: str, columns: tuple[str, ...], batches: Iterator[Iterable[Any]], total: int) -> Response:
    """Return a CSV file; ``total`` is how many rows the search has. A cell with several values has ``;`` between them."""

    def lines() -> Iterator[str]:
        yield ",".join(columns) + "\r\n"
        for rows in batches:
            text = io.StringIO()
            writer = csv.writer(text)
            for row in rows:
                values = (row.get(column, "") for column in columns)
                writer.writerow(
                    [guarded(";".join(value) if isinstance(value, list) else value) for value in values]
                )
            yield text.getvalue()

    return exported(f"{name}.csv", lambda: (total, lines()))
