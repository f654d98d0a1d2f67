"""The OpenAPI document of the API: parameters from the table of fields and `SearchState`, responses from `search_ui.api`.

The operations are written here: flask-smorest, spectree and apispec take parameters from a model for each view, which would be
a second list of the fields.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from flask import Flask, jsonify

from indexing.fields import FACETS, RANGES
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
from ingest.picture import FORMATS, MOST_BYTES
from search_ui import api, api_models, api_runs, openapi_annotations
from search_ui.schemas import document_schema
from search_ui.uploads import MOST_FILES
from search_ui.views.label import MOST_LABELS

PATH = "/api/openapi.json"
# The types that are responses.
RESPONSES = (
    api.Error, api.Search, api.Image, api.Classified, api.DetectedLabels, api.History, api.Contributors, api.Labels, api_runs.Runs, api_runs.RunDetails, api_models.Models, api_models.Model, api.Alive, api.Ready, api.NotReady
)  # fmt: skip

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
# The names of corpora, models and runs: `storage.store.check_name`.
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"}
# `conf.names.is_one_line`: no control character, line break or override of the direction.
WORD = {
    "type": "string",
    "maxLength": LONGEST_VALUE,
    "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$",
}


def register(app: Flask) -> None:
    """Serve the document at `PATH`."""
    app.add_url_rule(PATH, "openapi", lambda: jsonify(document()))


@cache
def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TinyTags",
            "version": "1",
            "description": "The data of the pages of TinyTags. It is read-only, but for pictures that are classified and recorded, and labels.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {path: {_method(operation): operation} for path, operation in _operations().items()},
        "components": {"schemas": _schemas()},
    }


def _operations() -> dict[str, dict[str, Any]]:
    search = search_parameters()
    total = {"X-Total-Count": {"description": "The number of hits.", "schema": COUNT, "required": True}}
    lines = {"content": {"application/x-ndjson": {"schema": TEXT}}, "headers": total}
    table = {"content": {"text/csv": {"schema": TEXT}}, "headers": total}
    ids = {"content": {"text/plain": {"schema": TEXT}}, "headers": total}
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
            "exportLines",
            "All hits of a search, streamed: one Document a line, with null for a field that it lacks, the number of its `record` in the dump, "
            "and the byte `offset` where all records have one size.",
            lines, [400, 429, 503], search
        ),
        "/export.csv": _operation(
            "exportTable",
            "All hits of a search, streamed: a header and one row a hit. A cell that a spreadsheet would execute begins with '.",
            table, [400, 429, 503], search,
        ),
        "/export.txt": _operation(
            "exportIds", "The ids of all hits of a search, streamed: one a line.", ids, [400, 429, 503], search
        ),
        "/api/images/{corpus}/{partition}/{row}": _operation(
            "image", "Everything known about one image.", _json("Image"), [404, 503], place
        ),
        "/api/classify": _operation(
            "classify", "Classify pictures by a model, and record the predictions.",
            _json("Classified"), [400, 401, 403, 404, 413, 415, 429, 503],
        ) | {"requestBody": _pictures()},
        "/api/label-detection": _operation(
            "detectLabels", "Send pictures to Google Cloud Vision, outside this machine, and return its labels.",
            _json("DetectedLabels"), [400, 401, 403, 413, 415, 429, 503],
        ) | {"requestBody": _pictures(model=False)},
        "/api/history": _operation(
            "history", "Predictions, newest first.", _json("History"), [400, 403, 503], _history_parameters()
        ),
        "/history.jsonl": _operation(
            "historyLines", "All predictions of a filter, streamed: one Record a line.",
            {"content": {"application/x-ndjson": {"schema": TEXT}}}, [400, 403, 429, 503], _history_parameters()[:-2],
        ),
        "/history.csv": _operation(
            "historyTable", "All predictions of a filter, streamed: a header and one row each.",
            {"content": {"text/csv": {"schema": TEXT}}}, [400, 403, 429, 503], _history_parameters()[:-2],
        ),
        "/api/corrections": _operation(
            "corrections", "The names under which corrections were made.", _json("Contributors"), [403, 503]
        ),
        "/api/label": _operation(
            "label", "Label images, or undo the newest label by a name where it is null.", _json("Labels"),
            [400, 403, 404, 429, 503],
        ) | {"requestBody": _labels()},
        "/api/runs": _operation(
            "runs", "Every step of every corpus and run: partitions pending, done, failed.", _json("Runs")
        ),
        "/api/runs/{run}": _operation(
            "run", "A run: what went in, its counts and its state.", _json("RunDetails"), [404, 503],
            [_in_path("run", NAME, "The run.")],
        ),
        "/api/models": _operation("models", "All models.", _json("Models"), [503]),
        "/api/models/{name}": _operation(
            "model", "A model's card, what follows from it, and its runs.", _json("Model"), [404, 503],
            [_in_path("name", NAME, "The model.")],
        ),
        **{
            path: _operation(one.name, one.summary, _json(one.answer), one.failures, one.parameters)
            for path, one in openapi_annotations.OPERATIONS.items()
        },
        PATH: _operation("openapi", "This document.", {"content": {"application/json": {"schema": {"type": "object"}}}}),
        "/healthz": _operation("healthz", "Whether the process runs.", _json("Alive")),
        "/readyz": _operation("readyz", "Whether a search can be answered.", _json("Ready"), {503: _json("NotReady")}),
    }  # fmt: skip


def _method(operation: dict[str, Any]) -> str:
    return "post" if "requestBody" in operation else "get"


def _pictures(*, model: bool = True) -> dict[str, Any]:
    """Return the body of a request to classify pictures, by a model of the store or without one to choose."""
    chosen = {"model": NAME | {"description": "The model; by default that of the first published run."}}
    common = {
        **(chosen if model else {}),
        "min_confidence": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0,
            "description": "Classes with less are left out of predictions.",
        },
    }
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MOST_FILES,
        "description": f"Pictures ({', '.join(FORMATS)}) of up to {MOST_BYTES >> 20} MiB each.",
    }
    image = {"type": "string", "contentEncoding": "base64", "description": "A picture in base64."}

    def body(**fields: dict[str, Any]) -> dict[str, Any]:
        properties = fields | common
        required = [name for name in fields if name != "filename"]
        return {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }
        }

    return {
        "required": True,
        "content": {
            "multipart/form-data": body(files=files),
            "application/json": body(
                image=image, filename={"type": "string", "description": "Its name, only shown."}
            ),
        },
    }


def _labels() -> dict[str, Any]:
    """Return the body of a request to label images."""
    properties = {
        "corpus": NAME,
        "partition": COUNT,
        "row": COUNT,
        "label": WORD | {"type": ["string", "null"], "description": "The class; null to undo."},
    }
    one = {"type": "object", "properties": properties, "required": list(properties)}
    body = {
        "by": WORD | {"description": "Who labels."},
        "labels": {"type": "array", "items": one, "maxItems": MOST_LABELS},
    }
    schema = {"type": "object", "properties": body, "required": list(body)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _history_parameters() -> list[dict[str, Any]]:
    time = {"type": "string", "format": "date-time"}
    number = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    schemas: dict[str, tuple[dict[str, Any], str]] = {
        "answer": (TEXT, "The class that the model answered with."),
        "model": (TEXT, "The model."),
        "since": (time, "Made at or after this time; UTC where it has no zone."),
        "until": (time, "Made before this time; of a date without a time, on this day too."),
        "corrected": ({"type": "string", "enum": ["yes", "no"]}, "Whether a person gave a label."),
        "before": (number, "Predictions older than this number."),
        "after": (number, "The page before: predictions newer than this number."),
    }
    return [
        {"name": name, "in": "query", "description": description, "schema": schema, "allowEmptyValue": True}
        for name, (schema, description) in schemas.items()
    ]


def search_parameters() -> list[dict[str, Any]]:
    """Return the parameters of a search: those of `SearchState.parse`. An empty value is the same as none."""
    repeated = {
        name: {"type": "array", "items": WORD, "maxItems": MOST_VALUES, "description": facet.description}
        for name, facet in FACETS.items()
    }
    single: dict[str, dict[str, Any]] = {
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
            "description": "Of the random order, only with sort=random. The same seed gives the same order.",
        },
        "per_page": {"type": "integer", "enum": list(PER_PAGE), "default": PER_PAGE[0]},
        "size": {
            "type": "string",
            "enum": list(SIZES),
            "default": "m",
            "description": "The size of the page's thumbnails; no effect here.",
        },
        "page": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_PAGE,
            "default": 1,
            "description": f"Up to {NUMBERED_ROWS // PER_PAGE[0]:,}, within the first {NUMBERED_ROWS:,} hits; "
            "beyond them only with after.",
        },
        "after": {
            "type": "string",
            "pattern": f"^{AFTER.pattern}$",
            "description": "Where a page beyond those continues; from next of the page before. Not with sort=random.",
        },
    }
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.pop("description", None) or _TITLES[name],
            "schema": schema,
        }
        # An empty value in an array is valid by its schema.
        | ({"allowEmptyValue": True} if name in single else {})
        for name, schema in (repeated | single).items()
    ]


_TITLES = {"sort": "The order of the hits.", "per_page": "How many hits a page has."}


def _operation(
    name: str,
    summary: str,
    answer: dict[str, Any],
    failures: Iterable[int] | Mapping[int, dict[str, Any]] = (),
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return a GET; ``failures`` are statuses with an `api.Error`, or a mapping of statuses to responses of their own."""
    if not isinstance(failures, Mapping):
        failures = {status: _json("Error") for status in failures}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": {"description": "Success."} | answer}
        | {str(status): {"description": _FAILURES[status]} | answer for status, answer in failures.items()},
    }


_FAILURES = {
    400: "A parameter is unknown or invalid; error says which.",
    401: "A wrong password.",
    403: "The request was sent by another site, or what it asks for is turned off.",
    404: "Not found; error says what there is.",
    413: "Too many bytes or pictures.",
    415: "Neither multipart/form-data nor JSON.",
    429: "Too many requests; try again after Retry-After seconds.",
    503: "Solr, the store or the database is unavailable or too busy; try again later.",
}


def _json(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": _ref(name)}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _in_path(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of the responses. Imports pydantic, which no other request needs and which takes 0.3 s."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        """Objects have no more keys than their types, and fields no titles, which only repeat their names."""

        def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
            return super().typed_dict_schema(schema) | {"additionalProperties": False}

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    _, document = TypeAdapter.json_schemas(
        [
            (answer, "serialization", TypeAdapter(answer))
            for answer in (*RESPONSES, *openapi_annotations.RESPONSES)
        ],
        ref_template="#/components/schemas/{model}",
        schema_generator=Generator,
    )
    schemas: dict[str, dict[str, Any]] = document["$defs"]
    # The lists of facets' values are named by the table of fields. "tags" has a form of its own. Those of runs are only there with several values.
    lists = {facet.plural: facet.per_run for name, facet in FACETS.items() if name != "tag"}
    values = {"type": "array", "items": _ref("Value")}
    schemas["Search"]["properties"] |= dict.fromkeys(lists, values)
    schemas["Search"]["required"] += [plural for plural, per_run in lists.items() if not per_run]
    value = TypeAdapter(api.Value).json_schema(schema_generator=Generator)
    return schemas | {"Value": value, "Document": document_schema()}
