"""The pages of annotations: what `search_ui.views.annotations` answers as JSON, with facets, suggestions and links."""

from typing import Any

from flask import Blueprint, render_template, request

from indexing.annotation_counts import FACETS, LISTED, SUGGESTED
from indexing.query import annotations as query
from indexing.query import relations as relation_query
from indexing.query.search_state import check_parameters
from search_ui import annotations
from search_ui.annotations import (
    LONG_PAGE,
    PER_PAGE,
    ImageSearch,
    Opened,
    Page,
    RelationSearch,
    by_name,
    describe_image,
    open_named,
    parse_sort,
    relation_rows,
)
from search_ui.graph import draw
from search_ui.sources import sources
from search_ui.views.annotations import RELATION_SORTS, SORTS, class_counts, cut, relation_counts

blueprint = Blueprint("annotations", __name__)

Facet = dict[str, Any]


@blueprint.get("/annotations")
def index() -> str:
    """All annotations in the store."""
    library = sources().library
    kept = [(name, library.annotations(name)) for name in library.annotation_names()]
    return render_template(
        "annotations/index.html",
        kept=[Opened(name, classes) for name, classes in kept if classes is not None],
    )


@blueprint.get("/annotations/<name>/classes")
def classes(name: str) -> str:
    """Every class with the number of images that have it."""
    opened, page = open_named(name), Page.parse(request.args, LONG_PAGE)
    counts = class_counts(opened)
    return _render(
        "classes",
        opened,
        len(counts),
        page,
        {"sort": request.args.get("sort")},
        rows=cut(counts, page),
        sort=parse_sort(request.args, SORTS),
    )


@blueprint.get("/annotations/<name>/tree")
def tree(name: str) -> str:
    """The hierarchy of classes, as a tree."""
    check_parameters(request.args, ())
    opened = open_named(name)
    counts = annotations.class_counts(opened)
    return render_template("annotations/tree.html", opened=opened, counts=counts, page="tree")


@blueprint.get("/annotations/<name>/relations")
def relations(name: str) -> str:
    """Every type of relation with the number of images that contain it."""
    opened = open_named(name)
    rows = relation_counts(opened)
    return render_template(
        "annotations/relations.html",
        opened=opened,
        page="relations",
        rows=rows,
        sort=parse_sort(request.args, RELATION_SORTS),
        sorts=RELATION_SORTS,
    )


@blueprint.get("/annotations/<name>/images")
def images(name: str) -> str:
    """Images by classes."""
    opened, search, page = (
        open_named(name),
        ImageSearch.parse(request.args),
        Page.parse(request.args, PER_PAGE),
    )
    # A click on a class shows images with all classes: its count is that only where now all match, too.
    narrows = (search.every or len(search.classes) < 2) and not search.descendants
    narrowed = narrows and bool(search.classes or search.relation)
    facets = {tag: facet for tag, facet in FACETS.items() if narrowed or tag != "class"}
    hits = search.find(opened, page.start, page.limit or PER_PAGE, facets)
    # Without a class it is one of all images, whose counts the page of classes has.
    narrowed_counts = hits.facets.get("class")
    if narrowed_counts is None and narrows:
        narrowed_counts = query.most_frequent(annotations.class_counts(opened), SUGGESTED)
    counts = by_name(opened.classes, narrowed_counts or {})
    others = [(one, count) for one, count in counts.items() if one not in search.classes]
    more = [
        {"name": one, "count": count, "url": opened.url("images", **search.parameters(**{"class": [*search.classes, one], "match": "all"}))}
        for one, count in others[:LISTED]
    ]  # fmt: skip
    types = [
        {
            "name": one, "count": count, "selected": one == search.relation,
            "url": opened.url("images", **search.parameters(relation=None if one == search.relation else one)),
        }
        for one, count in hits.facets["relation"].items()
    ]  # fmt: skip
    chips = [
        (
            one,
            opened.url(
                "images",
                **search.parameters(**{"class": [other for other in search.classes if other != one]}),
            ),
        )
        for one in search.classes
    ]
    return _render(
        "images", opened, hits.total, page, search.parameters(), rows=list(search.hits(opened, hits.documents)), search=search,
        facets=[_facet("Also in these images", more), _facet("Relations", types)], chips=chips,
        suggestions=list(counts) if narrows else annotations.frequent_classes(opened),
    )  # fmt: skip


@blueprint.get("/annotations/<name>/relation-search")
def relation_search(name: str) -> str:
    """Relations by a pattern of each part."""
    opened, search, page = (
        open_named(name),
        RelationSearch.parse(request.args),
        Page.parse(request.args, PER_PAGE),
    )
    facets = {part: query.CountedFacet(part, SUGGESTED) for part in relation_query.PARTS}
    hits = search.find(opened, page.start, page.limit or PER_PAGE, facets)
    headings = {"class1": "First class", "relation": "Relation", "class2": "Second class"}
    listed, suggestions = [], {}
    for part, counts in hits.facets.items():
        named = counts if part == "relation" else by_name(opened.classes, counts)
        suggestions[part] = list(named)
        values = [
            {
                "name": one, "count": count, "selected": search.is_value(part, one),
                "url": opened.url("relation-search", **search.parameters(**{part: None if search.is_value(part, one) else one})),
            }
            for one, count in list(named.items())[:LISTED]
        ]  # fmt: skip
        listed.append(_facet(headings[part], values))
    return _render(
        "relation-search", opened, hits.total, page, search.parameters(), rows=list(relation_rows(opened, hits.documents)),
        search=search, sorts=list(relation_query.RELATION_SORTS), facets=listed, suggestions=suggestions, headings=headings,
    )  # fmt: skip


@blueprint.get("/annotations/<name>/images/<image>")
def image(name: str, image: str) -> str:
    """One image: its labels, its relations as a graph, and what other images share."""
    check_parameters(request.args, ())
    opened = open_named(name)
    described = describe_image(opened, image)
    return render_template(
        "annotations/image.html",
        opened=opened,
        page="images",
        described=described,
        graph=draw(described["relations"]),
    )


def _facet(heading: str, values: list[Any]) -> Facet:
    return {"heading": heading, "values": values}


def _render(
    kind: str, opened: Opened, total: int, page: Page, parameters: dict[str, Any], **more: Any
) -> str:
    """Return a page of rows, with links to the pages beside it and to its JSON and CSV."""
    limit = page.limit or PER_PAGE
    given = parameters | {"limit": request.args.get("limit")}
    own = opened.url(kind, **given)
    query_part = own.partition("?")[2]
    return render_template(
        f"annotations/{kind.replace('-', '_')}.html", opened=opened, page=kind, total=total, limit=limit, number=page.page,
        previous=opened.url(kind, **given, page=page.page - 1) if page.page > 1 else None,
        following=opened.url(kind, **given, page=page.page + 1) if page.start + limit < total else None,
        first=min(page.start + 1, total), last=min(page.start + limit, total),
        json_url=f"/api{own}", csv_url=opened.url(f"{kind}.csv") + (f"?{query_part}" if query_part else ""), **more,
    )  # fmt: skip
