"""The part of the OpenAPI document about annotations."""

from typing import Any, NamedTuple

from indexing.query.annotations import IMAGE_SORTS
from indexing.query.relations import RELATION_SORTS
from search_ui import api_annotations as api
from search_ui.annotations import LONGEST, MOST_CLASSES, MOST_LIMIT

RESPONSES = (
    api.AnnotationsList, api.ClassCounts, api.RelationCounts, api.AnnotatedImages, api.RelationRows, api.ImageAnnotations,
    api.Suggestions,
)  # fmt: skip

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "maxLength": LONGEST}


class Described(NamedTuple):
    """A route: the name of its operation, what it does, the type of its answer, its failures and its parameters."""

    name: str
    summary: str
    answer: str
    failures: list[int]
    parameters: list[Schema]


def _in_query(name: str, schema: Schema, description: str) -> Schema:
    empty = {} if schema["type"] == "array" else {"allowEmptyValue": True}
    return {"name": name, "in": "query", "schema": schema, "description": description} | empty


def _in_path(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


_NAME = _in_path("name", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"}, "The annotations.")
_LIMIT = _in_query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT},
    "At most so many rows: those of a page.",
)
_PAGE = _in_query(
    "page", {"type": "integer", "minimum": 1}, "The page, from 1; with limit, up to row 1,000,000."
)
_ONE = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}

OPERATIONS = {
    "/api/annotations": Described("annotations", "All annotations.", "AnnotationsList", [503], []),
    "/api/annotations/{name}/classes": Described(
        "annotationClasses", "Every class with the number of images that have it.", "ClassCounts", [400, 404, 503],
        [_NAME, _in_query("sort", {"type": "string", "enum": ["name", "images"]}, "The order."), _LIMIT, _PAGE],
    ),
    "/api/annotations/{name}/relations": Described(
        "annotationRelations", "Every type of relation with its images and rows.", "RelationCounts", [400, 404, 503],
        [_NAME, _in_query("sort", {"type": "string", "enum": ["name", "images", "rows"]}, "The order.")],
    ),
    "/api/annotations/{name}/images": Described(
        "annotatedImages", "Images by classes: those with most of them first, then by id.", "AnnotatedImages",
        [400, 404, 503],
        [
            _NAME,
            _in_query(
                "class", {"type": "array", "items": TEXT, "maxItems": MOST_CLASSES}, "Names of classes, or ids without a name."
            ),
            _in_query("match", {"type": "string", "enum": ["any", "all"]}, "Images with any class, or with all."),
            _in_query("descendants", {"type": "string", "enum": ["0", "1"]}, "1: a kind of a class counts as the class."),
            _in_query("relation", TEXT, "A type of relation that the image has."),
            _in_query("sort", {"type": "string", "enum": list(IMAGE_SORTS)}, "The order: most matching classes first, or by id."),
            _LIMIT, _PAGE,
        ],
    ),
    "/api/annotations/{name}/relation-search": Described(
        "relationSearch", "Relations by a pattern of each part, by image.", "RelationRows", [400, 404, 503],
        [
            _NAME,
            *(
                _in_query(part, TEXT | {"default": "%"}, "% stands for any number of characters; case is ignored.")
                for part in ("class1", "relation", "class2")
            ),
            _in_query(
                "escape", {"type": "string", "pattern": "^[^%]$"}, "A character after which any, % too, stands for itself."
            ),
            _in_query("sort", {"type": "string", "enum": list(RELATION_SORTS)}, "The order; then by image."),
            _LIMIT, _PAGE,
        ],
    ),
    "/api/annotations/{name}/suggestions": Described(
        "annotationSuggestions", "Names with a text in them: those that begin with it first.", "Suggestions",
        [400, 404, 503],
        [
            _NAME, _in_query("part", {"type": "string", "enum": ["class", "relation"]}, "Names of classes, or types of relations."),
            _in_query("text", TEXT, "The text, in either case."),
        ],
    ),
    "/api/annotations/{name}/images/{image}": Described(
        "imageAnnotations", "One image: its labels and relations.", "ImageAnnotations", [400, 404, 503],
        [_NAME, _in_path("image", _ONE, "The image.")],
    ),
}  # fmt: skip
