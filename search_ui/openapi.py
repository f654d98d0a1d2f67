"""The OpenAPI document of the routes for programs, made from the names, choices and patterns that the routes go by."""

from functools import cache

from flask import Flask, jsonify

from indexing.fields import FACETS, HIT_FIELDS, RANGES, Field
from indexing.query.search_state import (
    AFTER,
    ANSWERS,
    LONGEST_VALUE,
    MOST_PAGE,
    MOST_SEED,
    MOST_VALUES,
    NUMBERED_ROWS,
    PER_PAGE,
    RANGE,
    SIZES,
    SORTS,
)

PATH = "/api/openapi.json"


def register(app: Flask) -> None:
    app.add_url_rule(PATH, "openapi", lambda: jsonify(document()))


@cache
def document() -> dict:
    """Return the document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TinyTags",
            "version": "1",
            "description": "What the pages of TinyTags show, for programs. All of it is read; nothing here writes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {path: {"get": operation} for path, operation in _operations().items()},
        "components": {"schemas": _schemas()},
    }


# What is asked


def _operations() -> dict[str, dict]:
    search = search_parameters()
    total = {"X-Total-Count": {"description": "How many hits there are.", "schema": COUNT, "required": True}}
    lines = {"content": {"application/x-ndjson": {"schema": TEXT}}, "headers": total}
    table = {"content": {"text/csv": {"schema": TEXT}}, "headers": total}
    place = [
        _in_path("corpus", NAME, "The corpus that the image is in."),
        _in_path("partition", COUNT, "The partition of the corpus, from 0."),
        _in_path("row", COUNT, "The row in the partition, from 0."),
    ]
    return {
        "/api/search": _operation(
            "search", "One page of a search, with its counts.", _json("Search"), [400, 503], search
        ),
        "/export.jsonl": _operation(
            "exportLines", "All hits of a search, streamed: a line each, which is a Document.", lines, [400, 503], search
        ),
        "/export.csv": _operation(
            "exportTable",
            "All hits of a search, streamed: a row each below one of names. What a spreadsheet would execute begins with '.",
            table, [400, 503], search,
        ),
        "/api/images/{corpus}/{partition}/{row}": _operation(
            "image", "All that is known of one image.", _json("Image"), [404, 503], place
        ),
        "/api/runs": _operation(
            "runs", "Every step of every corpus and run: partitions pending, done, failed.", _json("Runs")
        ),
        "/api/models": _operation("models", "The models that there are.", _json("Models"), [503]),
        "/api/models/{name}": _operation(
            "model", "A model's card, what follows from it, and its runs.", _json("Model"), [404, 503],
            [_in_path("name", NAME, "The model.")],
        ),
        PATH: _operation("openapi", "This document.", {"content": {"application/json": {"schema": {"type": "object"}}}}),
        "/healthz": _operation("healthz", "The process lives, whatever else does.", _json("Alive")),
        "/readyz": _operation("readyz", "Whether a search would be answered.", _json("Ready"), {503: _json("NotReady")}),
    }  # fmt: skip


def search_parameters() -> list[dict]:
    """Return the parameters of a search: what `SearchState.parse` takes, an empty one being as good as none."""
    repeated = {
        name: {"type": "array", "items": WORD, "maxItems": MOST_VALUES, "description": facet.description}
        for name, facet in FACETS.items()
    }
    single = {
        **{
            name: {
                "type": "string",
                "pattern": f"^{RANGE.pattern}$",
                "description": range.description,
                "examples": ["60-100"],
            }
            for name, range in RANGES.items()
        },
        "answer": {
            "type": "string",
            "enum": list(ANSWERS),
            "description": "Of images whose label is known, those whose tag is right or wrong.",
        },
        "sort": {"type": "string", "enum": list(SORTS), "default": next(iter(SORTS))},
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": MOST_SEED,
            "default": 0,
            "description": "Of the random order; goes with sort=random alone. The same seed gives the same order.",
        },
        "per_page": {"type": "integer", "enum": list(PER_PAGE), "default": PER_PAGE[0]},
        "size": {
            "type": "string",
            "enum": list(SIZES),
            "default": "m",
            "description": "Of the page's thumbnails; changes nothing here.",
        },
        "page": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_PAGE,
            "default": 1,
            "description": f"Up to {NUMBERED_ROWS // PER_PAGE[0]:,}, and as far as {NUMBERED_ROWS:,} hits go; "
            "beyond, it goes with after.",
        },
        "after": {
            "type": "string",
            "pattern": f"^{AFTER.pattern}$",
            "description": "Where a page far back goes on; comes from the next of the page before. Not with sort=random.",
        },
    }
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.pop("description", None) or _TITLES[name],
            "schema": schema,
        }
        # An array holds an empty word as it is.
        | ({"allowEmptyValue": True} if name in single else {})
        for name, schema in (repeated | single).items()
    ]


_TITLES = {"sort": "The order of the hits.", "per_page": "How many hits a page has."}


def _operation(
    name: str, summary: str, answer: dict, failures=(), parameters: list[dict] | None = None
) -> dict:
    """Return a GET; ``failures`` are statuses, or statuses with answers of their own."""
    if not isinstance(failures, dict):
        failures = {status: _json("Error") for status in failures}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": {"description": "This."} | answer}
        | {str(status): {"description": _FAILURES[status]} | answer for status, answer in failures.items()},
    }


_FAILURES = {
    400: "A parameter is unknown or can't be; error says which.",
    404: "There is no such thing; error says what there is.",
    503: "Solr or the store doesn't answer, or too much is asked for at once; try again later.",
}


def _json(name: str) -> dict:
    return {"content": {"application/json": {"schema": _ref(name)}}}


def _in_path(name: str, schema: dict, description: str) -> dict:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


# What is answered

TEXT, WHOLE, YES_NO = ({"type": name} for name in ("string", "integer", "boolean"))
COUNT = {"type": "integer", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
TIME = {"type": "string", "format": "date-time"}
# What corpora, models and runs may be called: `storage.store.check_name`.
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"}
# Of characters that can be printed: no control, format or unassigned ones, and of all spaces the plain one.
WORD = {"type": "string", "maxLength": LONGEST_VALUE, "pattern": r"^(?:[^\p{C}\p{Z}]| )*$"}


# The fields of a document, which is a tagged image.
def _field_schema(field: Field) -> dict:
    schema = {
        "type": {str: "string", int: "integer", float: "number"}[field.python_type],
        "description": field.description,
        "minimum": field.minimum,
        "maximum": field.maximum,
        "pattern": field.pattern,
    }
    return {key: value for key, value in schema.items() if value is not None}


FIELDS = {field.name: _field_schema(field) for field in HIT_FIELDS}


def _schemas() -> dict[str, dict]:
    always = [field.name for field in HIT_FIELDS if field.presence == "all"]
    urls = {"url": TEXT, "png": TEXT}
    similar = urls | {"distance": {"type": "number", "minimum": 0}}
    tagged = {
        "class_votes": _or_null({"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}),
        "min_confidence": _or_null(SHARE),
    }
    states = {"pending": COUNT, "done": COUNT, "failed": COUNT}
    working = {"type": "array", "items": _ref("Working")}
    work = {
        "images": COUNT, "partitions": COUNT, "writer": _or_null({"type": "object"}),
        "problems": _list({"step": TEXT, "partition": COUNT, "error": TEXT}),
        "redo": {"type": "array", "items": TEXT}, "working": working,
    }  # fmt: skip
    return {
        "Error": _object({"error": TEXT, "status": WHOLE}),
        "Document": _object(FIELDS, always),
        "Hit": _object(FIELDS | urls, [*always, *urls]),
        "Value": _object({"value": TEXT, "count": COUNT, "selected": YES_NO, "toggle": TEXT}),
        "Search": _object(
            {
                "total": COUNT, "milliseconds": COUNT, "collections": {"type": "array", "items": TEXT},
                "page": COUNT, "pages": COUNT, "per_page": {"enum": list(PER_PAGE)}, "sort": {"enum": list(SORTS)},
                "tags": _list({"tag": TEXT, "count": COUNT, "selected": YES_NO, "toggle": TEXT}),
                "confidence": _list({"percent": PERCENT, "count": COUNT, "selected": YES_NO}),
                "labelled": _object({"known": COUNT, "right": COUNT, "wrong": COUNT}),
                **{facet.plural: _list_of("Value") for name, facet in FACETS.items() if name != "tag"},
                "expected": _list({
                    "model": TEXT, "low": PERCENT, "high": PERCENT, "images": COUNT, "precision": SHARE, "kept": SHARE,
                }),
                "hits": _list_of("Hit"), "next": _or_null(TEXT),
            },
            # Where all that is searched is of one corpus, model or run there is nothing to choose from.
            optional=[facet.plural for facet in FACETS.values() if facet.per_run],
        ),
        "Image": _object({
            "corpus": TEXT, "partition": COUNT, "row": COUNT, "label": _or_null(TEXT),
            "source": _object({
                "dump": TEXT, "format": TEXT, "record": COUNT, "offset": _or_null(COUNT), "split": _or_null(TEXT),
                "name": _or_null(TEXT),
            }),
            "unreadable": _or_null(TEXT),
            "corrections": _or_null(_list({"label": TEXT, "by": TEXT, "at": TIME, "number": COUNT})),
            "corrections_error": _or_null(TEXT),
            "tags": {"type": "array", "items": _object(FIELDS | tagged, [*always, *tagged])},
            "similar": _or_null({"type": "array", "items": _object(FIELDS | similar, [*always, *similar])}),
            "png": TEXT,
        }),
        "Runs": _object({
            "version": TEXT, "ask_again_seconds": COUNT, "store_seen": _or_null(TIME), "solr_seen": _or_null(TIME),
            "store": TEXT, "store_error": _or_null(TEXT), "solr": TEXT, "solr_error": _or_null(TEXT), "alias": TEXT,
            "published": {"type": "array", "items": TEXT}, "working": YES_NO,
            "corpora": _list_of("Corpus"), "runs": _list_of("Run"),
        }),
        "Corpus": {"oneOf": [
            _object({"corpus": TEXT, "error": TEXT}),
            _object({
                "corpus": TEXT, "format": TEXT, "classes": _or_null({"type": "array", "items": TEXT}), "hash": TEXT,
                "ingest": _object(states), **work,
            }),
        ]},
        "Run": {"oneOf": [
            _object({"run": TEXT, "error": TEXT}),
            _object(
                {
                    "run": TEXT, "corpus": TEXT, "model": TEXT, "model_hash": TEXT, "trees": _or_null(COUNT),
                    "min_confidence": SHARE, "similar": YES_NO, "tag": _object(states), "published": YES_NO,
                    "index": _or_null(_object(states | {"documents": COUNT, "rejected": COUNT})), **work,
                    "statistics_read": COUNT,
                },
                optional=["statistics_read"],
            ),
        ]},
        "Working": {
            "type": "object", "description": "Who works at a step, how fast, and for how long still where that is known.",
            "properties": {
                "step": {"enum": ["ingest", "tag", "index"]}, "unit": TEXT,
                "per_second": _or_null({"type": "number"}), "seconds_left": _or_null({"type": "number"}),
            },
            "required": ["step", "unit"],
        },
        "Models": _object({"models": {"type": "array", "items": {"oneOf": [
            _object({"model": TEXT, "error": TEXT}),
            _object({
                "model": TEXT, "kind": _or_null(TEXT), "engine": _or_null(TEXT), "hash": TEXT, "classes": COUNT,
                "trees": _or_null(COUNT), "trained_on": {}, "measured_on": {}, "accuracy": _or_null(SHARE),
                "created": _or_null(TIME), "url": TEXT,
            }),
        ]}}}),
        "Model": _object({
            "model": TEXT, "url": TEXT, "card": {"type": "object", "description": "As it stands in the store."},
            "calibration": _or_null(_list({
                "confidence": {"type": "array", "items": PERCENT, "minItems": 2, "maxItems": 2}, "images": COUNT,
                "right": COUNT, "share": SHARE, "interval": {"type": "array", "items": SHARE, "minItems": 2, "maxItems": 2},
            })),
            "thresholds": _or_null(_list({
                "percent": PERCENT, "votes": _or_null(COUNT), "images": COUNT, "right": COUNT, "kept": SHARE,
                "precision": _or_null(SHARE), "url": _or_null(TEXT),
            })),
            "mistakes": _or_null(_list({"label": TEXT, "tag": TEXT, "images": COUNT, "share": SHARE})),
            "pixels": _or_null({"type": "object", "additionalProperties": TEXT}),
            "channels": _or_null({"type": "object", "additionalProperties": SHARE}),
            "top_pixels": _list({"row": COUNT, "column": COUNT, "channel": {"enum": ["red", "green", "blue"]}, "share": SHARE}),
            "runs": _list({"run": TEXT, "published": YES_NO}),
        }),
        "Alive": _object({"status": {"const": "alive"}}),
        "Ready": _object({"status": {"const": "ready"}, "collections": {"type": "array", "items": TEXT}}),
        "NotReady": _object({"status": {"const": "not ready"}, "reason": TEXT}),
    }  # fmt: skip


def _object(fields: dict[str, dict], required: list[str] | None = None, optional=()) -> dict:
    """Return the schema of an object of exactly these fields."""
    if required is None:
        required = [field for field in fields if field not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _list(fields: dict[str, dict]) -> dict:
    return {"type": "array", "items": _object(fields)}


def _list_of(name: str) -> dict:
    return {"type": "array", "items": _ref(name)}


def _or_null(schema: dict) -> dict:
    return {"oneOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}
