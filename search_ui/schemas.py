"""Types with keywords of JSON schema: numbers with limits, and documents by the table of fields."""

from collections.abc import Callable
from typing import Annotated, Any

from indexing.fields import HIT_FIELDS, Field

Schema = dict[str, Any]


class Keywords:
    """Adds keywords to the JSON schema of a type."""

    def __init__(self, **keywords: object) -> None:
        self.keywords = keywords

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Schema]) -> Schema:
        return handler(core_schema) | self.keywords


class DocumentKeywords:
    """Makes the JSON schema of a dict that of a document with more keys."""

    def __init__(self, **more: Schema) -> None:
        self.more = more

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Schema]) -> Schema:
        return document_schema(**self.more)


def document_schema(**more: Schema) -> Schema:
    """Return the JSON schema of a document, by the table of fields, with ``more`` keys that are always there."""
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in HIT_FIELDS} | more,
        "required": [*(field.name for field in HIT_FIELDS if field.presence == "all"), *more],
        "additionalProperties": False,
    }


def _field_schema(field: Field) -> Schema:
    keywords = {"minimum": field.minimum, "maximum": field.maximum, "pattern": field.pattern}
    return {
        "type": {str: "string", int: "integer", float: "number", list: "array"}[field.python_type],
        "description": field.description,
        **{name: value for name, value in keywords.items() if value is not None},
    }


Count = Annotated[int, Keywords(minimum=0)]
Percent = Annotated[int, Keywords(minimum=0, maximum=100)]
Share = Annotated[float, Keywords(minimum=0, maximum=1)]
Time = Annotated[str, Keywords(format="date-time")]
Positive = Annotated[float, Keywords(minimum=0)]

_TEXT = {"type": "string"}
_URLS = {"url": _TEXT, "png": _TEXT}
Hit = Annotated[dict[str, Any], DocumentKeywords(**_URLS)]
Similar = Annotated[dict[str, Any], DocumentKeywords(**_URLS, distance={"type": "number", "minimum": 0})]
Tagged = Annotated[
    dict[str, Any],
    DocumentKeywords(
        class_votes={"type": ["object", "null"], "additionalProperties": {"type": "number", "minimum": 0}},
        min_confidence={"type": ["number", "null"], "minimum": 0, "maximum": 1},
        expected_precision={"type": ["number", "null"], "minimum": 0, "maximum": 1},
        trained={"type": ["boolean", "null"]},
    ),
]
