"""Ports of this machine, and what a server answers."""

import contextlib
import os
import random
import socket
from pathlib import Path

import urllib3

from conf.errors import TinyTagsError

LOOPBACK = "127.0.0.1"


def free_port(*beside: int) -> int:
    """A port of the loopback address on which nobody listens, and nor on those so far from it (`free_port(1000)`)."""
    # Below 32768, from where the kernel takes the near ends of connections.
    for port in random.sample(range(12000, 30000), 1000):
        if all(is_free(LOOPBACK, port + step) for step in (0, *beside)):
            return port
    raise TinyTagsError("no free port between 12000 and 30000")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def listener(port: int) -> str:
    """Who listens on a port, as words for a message; "another program" where the system does not tell."""
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


def get_json(url: str) -> dict | None:
    """What a server answers there, or None when it does not, or not with 200 and JSON."""
    try:
        answer = urllib3.request("GET", url, timeout=5, retries=False)
        return answer.json() if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
