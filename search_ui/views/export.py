"""All hits of a search as a file, streamed; each export has one of a few places."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import TooManyRequests

from conf.spreadsheets import guarded
from indexing.fields import HIT_FIELDS
from indexing.query.search import documents, export
from indexing.query.search_state import SearchState
from search_ui.clients import this_client
from search_ui.sources import sources

blueprint = Blueprint("export", __name__)

# An export occupies a thread of the server until it ends; the server has threads of their own for them.
EXPORTS = 8
RETRY_SECONDS = 10
_lock = threading.Lock()
_running: set[str] = set()  # their clients
EXPORTED = {"csv": "text/csv", "jsonl": "application/x-ndjson"}


@blueprint.get("/export.<any(csv, jsonl):ending>")
def export_hits(ending: str) -> Response:
    """All hits of a search as CSV or JSON lines, streamed; the header X-Total-Count is their number."""
    state = SearchState.parse(request.args)

    def begin() -> tuple[int, Iterator[str]]:
        total, batches = export(sources().solr, sources().published, state)
        return total, _csv_lines(batches) if ending == "csv" else _json_lines(batches)

    return exported(f"tinytags.{ending}", begin)


def exported(name: str, begin: Callable[[], tuple[int | None, Iterator[str]]]) -> Response:
    """Return the file ``name``, streamed; ``begin`` returns the number of its lines, None where unknown, and the lines.

    Raises `TooManyRequests` where the client has an export already, or all places are taken.
    """
    client = this_client()
    _begin(client)
    try:
        total, lines = begin()
    except BaseException:
        _running.discard(client)
        raise
    headers = {"Content-Disposition": f"attachment; filename={name}"}
    if total is not None:
        headers["X-Total-Count"] = str(total)
    response = Response(lines, mimetype=EXPORTED[name.rpartition(".")[2]], headers=headers)
    response.call_on_close(lambda: _running.discard(client))
    return sources().metrics.watch_export(response)


def _begin(client: str) -> None:
    """Give a client a place for an export; raises `TooManyRequests` where it has one, or none is left."""
    with _lock:
        if client in _running:
            reason = "an export to your address is running"
        elif len(_running) >= EXPORTS:
            reason = f"{EXPORTS} exports are running"
        else:
            _running.add(client)
            return
    raise TooManyRequests(f"{reason}; try again later", retry_after=RETRY_SECONDS)


def _json_lines(batches: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    for found in batches:
        yield "".join(json.dumps(hit, ensure_ascii=False) + "\n" for hit in documents(found))


def _csv_lines(batches: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    header = [field.name for field in HIT_FIELDS]
    yield ",".join(header) + "\r\n"
    for found in batches:
        text = io.StringIO()
        writer = csv.DictWriter(text, header, restval="")
        writer.writerows({key: guarded(value) for key, value in hit.items()} for hit in documents(found))
        yield text.getvalue()
