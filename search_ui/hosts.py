"""Which host names the page answers to: a name that an attacker points at this machine is none (DNS rebinding)."""

import functools
import ipaddress
import socket
from urllib.parse import urlsplit, urlunsplit

from flask import Flask, Response, request
from werkzeug.exceptions import SecurityError
from werkzeug.sansio.utils import host_is_trusted

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"
# Stands for each IP address in a set of hosts; it is none itself.
_ANY_ADDRESS = "0.0.0.0/0"


def accepted_hosts(names: str, listening: str = "") -> frozenset[str] | None:
    """Return the accepted names as in a URL: of loopback, of ``names`` (comma-separated) and of the address ``listening``.

    None where ``names`` has ``*``: any. A server that listens on all addresses also accepts each IP address, because a
    browser has connected to just that one, and the name of the machine.
    """
    given = _names(names)
    if ANY in given:
        return None
    if listening and _is_unspecified(listening):
        own = {socket.gethostname().lower(), _ANY_ADDRESS}
    else:
        own = {_in_url(listening.lower())} if listening else set()
    return frozenset({*LOOPBACK, *given, *own})


def register(app: Flask, hosts: frozenset[str] | None) -> None:
    """Let an application refuse requests to all other hosts, before anything else is done."""

    def check() -> None:
        # HTTP/1.0 may leave it out; browsers never do.
        header = request.headers.get("Host")
        if hosts is not None and header is not None and not is_accepted(header, hosts):
            raise SecurityError(f"Host {header[:200]!r} is not one that this page is served on.")

    def relative(response: Response) -> Response:
        # Those of Werkzeug's routes, such as from /api//runs to /api/runs, begin with the header Host.
        if "://" in (location := response.headers.get("Location", "")).partition("?")[0]:
            parts = urlsplit(location)
            response.headers["Location"] = urlunsplit(("", "", f"/{parts.path.lstrip('/')}", parts.query, ""))
        return response

    app.before_request(check)
    app.after_request(relative)


@functools.lru_cache(maxsize=1000)
def is_accepted(header: str, hosts: frozenset[str]) -> bool:
    """Return whether the header Host, with or without a port, names one of ``hosts``."""
    if not host_is_trusted(header):  # its form
        return False
    name = header.lower()
    host, colon, port = name.rpartition(":")
    if colon and port.isdecimal():
        name = host
    if name in hosts or (_ANY_ADDRESS in hosts and _is_address(name.strip("[]"))):
        return True
    return any(host.startswith(".") and f".{name}".endswith(host) for host in hosts)


def is_ours(origin: str, names: str) -> bool:
    """Return whether a page of ``origin``, such as https://tags.example.org, is of one of ``names``, the setting ``hosts``.

    A proxy may put another name into the header Host. Loopback names are none of them: other programs have pages there.
    """
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return False
    return is_accepted(host, frozenset(_names(names) - {ANY}))


def _names(names: str) -> set[str]:
    return {_in_url(name.strip().lower()) for name in names.split(",") if name.strip()}


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _is_unspecified(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_unspecified


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
