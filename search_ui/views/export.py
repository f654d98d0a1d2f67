"""All hits of a search as a file, or their ids alone, streamed."""

import contextlib
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import TooManyRequests

from conf.spreadsheets import guarded
from indexing.fields import HIT_FIELDS
from indexing.query.search import documents, export
from indexing.query.search_state import SearchState
from ingest.formats import record_offset
from search_ui.clients import this_client
from search_ui.library import Library
from search_ui.sources import sources
from storage.store import StoreUnavailableError

blueprint = Blueprint("export", __name__)

# An export occupies a thread of the server until it ends; the server has threads of their own for them.
EXPORTS = 8
RETRY_SECONDS = 10
_lock = threading.Lock()
_running: set[str] = set()  # their clients
EXPORTED = {"csv": "text/csv", "jsonl": "application/x-ndjson", "txt": "text/plain"}
# The fields of a line; the last two are where the image is in the dump, which is computed here.
COLUMNS = (*(field.name for field in HIT_FIELDS), "record", "offset")
LONGEST_NAME = 80


@blueprint.get("/export.<any(csv, jsonl, txt):ending>")
def export_hits(ending: str) -> Response:
    """All hits of a search as CSV or JSON lines, or their ids a line each, streamed; the header X-Total-Count is their number."""
    state, library = SearchState.parse(request.args), sources().library

    def begin() -> tuple[int, Iterator[str]]:
        total, batches = export(sources().solr, sources().index(state), state)
        if ending == "txt":
            return total, ("".join(f"{hit['id']}\n" for hit in hits) for hits in batches)
        lines = _csv_lines if ending == "csv" else _json_lines
        return total, lines(_with_records(library, hits) for hits in batches)

    return exported(f"{file_name(state)}.{ending}", begin)


def file_name(state: SearchState) -> str:
    """Return what to call the file of a search, without its ending: by what it is filtered by."""
    words = [
        value
        for name, value in state.with_page(1).parameters()
        if name not in ("sort", "seed", "per_page", "size")
    ]
    name = re.sub(r"[^0-9A-Za-z_]+", "-", "-".join(["tinytags", *words]))
    return name[:LONGEST_NAME].strip("-")


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


def _with_records(library: Library, hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return hits with every one of `COLUMNS`, None for what is not known: without the store, record and offset."""
    corpora = dict.fromkeys(hit["corpus"] for hit in hits)
    with contextlib.suppress(StoreUnavailableError):  # the hits are useful without
        corpora = {name: library.corpus(name) for name in corpora}
    lines = []
    for hit in documents(hits):
        line = dict.fromkeys(COLUMNS) | hit
        if corpus := corpora[hit["corpus"]]:
            record = corpus.partition_images * hit["partition"] + hit["row"]
            line |= {"record": record, "offset": record_offset(corpus.format, record)}
        lines.append(line)
    return lines


def _json_lines(batches: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    for hits in batches:
        yield "".join(json.dumps(hit, ensure_ascii=False) + "\n" for hit in hits)


def _csv_lines(batches: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\r\n"
    for hits in batches:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writerows({key: guarded(value) for key, value in hit.items()} for hit in hits)
        yield text.getvalue()
