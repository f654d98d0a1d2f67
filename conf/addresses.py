"""Addresses with a user and a password: what is printed of them, and what is sent to the server."""

import base64
import re
from urllib.parse import unquote, urlsplit, urlunsplit

# In user:password@host the password ends at the last @: a person may not have quoted one in it, or a slash.
_LOGIN = re.compile(r"(\w[\w+.-]*://[^\s/?#:@]*):\S+@")
# Some databases and stores take it as a parameter.
_PARAMETER = re.compile(
    r"([?&;][^\s=&;]*(?:password|passwd|pwd|secret|token|signature)[^\s=&;]*=)[^\s&;#]+", re.IGNORECASE
)


def without_passwords(text: str) -> str:
    """Return an address, or a message that quotes some, with ``***`` for every password."""
    return _PARAMETER.sub(r"\1***", _LOGIN.sub(r"\1:***@", text))


def split_login(address: str) -> tuple[str, dict[str, str]]:
    """Return an ``http://`` address without user and password, and the header that sends them (basic auth), if any."""
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets that enclose no address: its user reports that
        return address, {}
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, {}
    encoded = base64.b64encode(unquote(login if ":" in login else f"{login}:").encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {encoded}"}
