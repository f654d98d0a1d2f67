"""What pages show of the machine: nothing, unless the setting ``details`` is yes. Logs and `tinytags status` have all of it.

Errors name files, folders and addresses, for those who can reach them; on a page that others read, these are left out.
"""

import re
from typing import Any, TypeVar

from conf.errors import TinyTagsError
from indexing.solr_errors import NotNowError, SolrError
from ingest.partition import NoImageError
from records.corrections import DatabaseError
from search_ui.sources import sources
from storage.store import StoreError

T = TypeVar("T")

# A path or URL: what comes before its last part is left out. In quotes it may have spaces.
_URL = r"[a-z][a-z0-9+.-]*://"
_PLACES = [
    (re.compile(rf"""(["'])(?:{_URL}|/)[^"']*?([^"'/]*)/?\1""", re.IGNORECASE), r"\1…/\2\1"),
    (re.compile(rf"""{_URL}[^\s"',;)]*/([^\s"',;:)/]+)(?![\w.-])""", re.IGNORECASE), r"…/\1"),
    (re.compile(rf"""{_URL}[^\s"',;)]*""", re.IGNORECASE), "…"),
    (re.compile(r"""(?<![\w…./])/(?:[^\s"':,;/]+/)+"""), "…/"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "…"),
]
_UNAVAILABLE = "can't be used now; the server's log and `tinytags status` have the details"
_WRITERS = ("user", "host", "pid")


def are_public() -> bool:
    """Return whether the pages show details of the machine."""
    return sources().settings.details == "yes"


def public(text: str) -> str:
    """Return a text without folders and addresses, unless they are shown."""
    if are_public():
        return text
    for place, replacement in _PLACES:
        text = place.sub(replacement, text)
    return text


def reason(error: TinyTagsError) -> str:
    """Return what a page reports of an error; those of servers may have anything in their words."""
    if not are_public() and not isinstance(error, (NotNowError, NoImageError)):
        for kind, what in ((SolrError, "Solr"), (DatabaseError, "the database"), (StoreError, "the store")):
            if isinstance(error, kind):
                return f"{what} {_UNAVAILABLE}"
    return public(str(error))


def public_board(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of `search_ui.board` without folders, addresses and the users who write, unless they are shown."""
    if are_public():
        return state
    errors = {
        key: f"{what} {_UNAVAILABLE}" if state[key] else None
        for key, what in (("store_error", "the store"), ("solr_error", "Solr"))
    }
    cleaned: dict[str, Any] = _public_values(state)
    return cleaned | errors | {"store": None, "solr": None}


def _public_values(value: Any) -> Any:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, list):
        return [_public_values(item) for item in value]
    if isinstance(value, dict):
        return {key: None if key in _WRITERS else _public_values(item) for key, item in value.items()}
    return value
