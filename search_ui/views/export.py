"""All hits of a search as a file, streamed."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from indexing.fields import HIT_FIELDS
from indexing.query.search import TooBusyError, documents, export
from indexing.query.search_state import SearchState
from search_ui.sources import sources

blueprint = Blueprint("export", __name__)

# An export occupies a thread of the server until it ends; the other threads are for pages.
_EXPORTS = threading.BoundedSemaphore(2)
EXPORTED = {"csv": "text/csv", "jsonl": "application/x-ndjson"}
# Spreadsheets execute a cell that begins with one of these.
FORMULAS = tuple("=+-@\t\r\n|%＝＋－＠")


@blueprint.get("/export.<any(csv, jsonl):ending>")
def export_hits(ending: str) -> Response:
    """All hits of a search as CSV or JSON lines, streamed; the header X-Total-Count is their number."""
    state = SearchState.parse(request.args)
    if not _EXPORTS.acquire(blocking=False):
        raise TooBusyError("two exports are running; try again when one has finished")
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


def _json_lines(batches: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    for found in batches:
        yield "".join(json.dumps(hit, ensure_ascii=False) + "\n" for hit in documents(found))


def _csv_lines(batches: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    header = [field.name for field in HIT_FIELDS]
    yield ",".join(header) + "\r\n"
    for found in batches:
        text = io.StringIO()
        writer = csv.DictWriter(text, header, restval="")
        writer.writerows({key: _cell(value) for key, value in hit.items()} for hit in documents(found))
        yield text.getvalue()


def _cell(value: object) -> object:
    """Return a value that a spreadsheet reads as text where it would execute it as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
