"""TCP ports of this machine, and JSON over HTTP."""

import contextlib
import os
import random
import socket
from pathlib import Path
from typing import Any

import urllib3

from conf.addresses import split_login
from conf.errors import TinyTagsError

LOOPBACK = "127.0.0.1"


# Where `free_port` looks: below 32768, where the kernel's range for outgoing connections starts.
FREE_PORTS = range(12000, 30000)
_given: set[int] = set()


def free_port(*offsets: int) -> int:
    """Return a free port of the loopback address; the ports at these offsets from it are free too.

    It returns no port twice, nor one at the offsets of an earlier one: a server may take long until it listens.
    """
    for port in random.sample(FREE_PORTS, 1000):
        ports = {port + offset for offset in (0, *offsets)}
        if not ports & _given and all(is_free(LOOPBACK, each) for each in ports):
            _given.update(ports)
            return port
    raise TinyTagsError(f"no free port between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def listener(port: int) -> str:
    """Return the process that listens on a port, for a message; "another program" where the system hides it."""
    with contextlib.suppress(OSError):
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        rows = [line.split() for line in tables.splitlines() if ":" in line.split()[0]]
        # Column 1 is the address in hexadecimal, 3 the state (0A: listening), 9 the socket's inode.
        rows = [row for row in rows if row[0] != "sl" and row[3] == "0A" and row[1].endswith(f":{port:04X}")]
        sockets = {f"socket:[{row[9]}]" for row in rows}
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if os.readlink(link) in sockets:
                    pid = link.parts[2]
                    return f"process {pid} ({Path('/proc', pid, 'comm').read_text().strip()})"
    return "another program"


def get_status(url: str) -> int | None:
    """Return the status of the answer at a URL; None without an answer."""
    try:
        return urllib3.request("GET", url, timeout=5, retries=False).status
    except urllib3.exceptions.HTTPError:
        return None


def get_json(url: str) -> Any:
    """Return the JSON at a URL, or None without an answer, with another status than 200 or with something else.

    A user and a password in the URL are sent as basic auth.
    """
    url, login = split_login(url)
    try:
        response = urllib3.request("GET", url, headers=login, timeout=5, retries=False)
        return response.json() if response.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
