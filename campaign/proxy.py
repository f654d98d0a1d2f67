"""A proxy before Solr that fails in a chosen way, and can keep what it was sent."""

import contextlib
import http.client
import random
import socket
import socketserver
import struct
import threading
import time
from dataclasses import dataclass

# How a request fails. In half of those of the last five Solr gets it all the same, and only the answer is lost.
MODES = (
    "refuse", "reset at once", "reset in the middle", "duplicate", "delay", "stall", "cut the answer", "500", "503",
    "garbage", "error as 200",
)  # fmt: skip
REFUSE_SECONDS = 1.0
STALL_SECONDS = 20.0
GARBAGE = b"<html><body>Welcome to nginx!</body></html>"
ERROR_AS_200 = b'{"responseHeader":{"status":500},"error":{"msg":"no leader","code":500}}'


@dataclass(frozen=True)
class Request:
    """A request as Solr gets it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Proxy:
    """A port of this machine in front of Solr's; a context manager.

    The first ``faults`` chances, one request in three, end as ``mode`` says; None lets everything through. Requests with
    ``hold`` in their body are kept in ``held`` instead, and their connection is closed, but for repetitions of them.
    """

    def __init__(
        self, port: int, mode: str | None = None, faults: int = 4, seed: int = 0, hold: bytes | None = None
    ) -> None:
        self.mode, self.faults, self.hold = mode, faults, hold
        self.held: list[Request] = []
        self.seen: list[Request] = []
        self.recording = self._closed = False
        self._target, self._random, self._lock = port, random.Random(seed), threading.Lock()
        self._server = self._listen(0)
        self.port = int(self._server.server_address[1])
        self.address = f"http://127.0.0.1:{self.port}/solr"

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
        self._server.shutdown()
        self._server.server_close()

    def deliver(self) -> int:
        """Send Solr what was held, and return how many requests that were."""
        with self._lock:
            held, self.held = self.held, []
        for request in held:
            self.forward(request)
        return len(held)

    def forward(self, request: Request) -> tuple[int, str, bytes]:
        """Send a request to Solr; return status, content type and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._target, timeout=600)
        try:
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("host", "connection", "content-length")
            }
            connection.request(request.method, request.target, request.body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", "application/json"), answer.read()
        finally:
            connection.close()

    def refuse(self) -> None:
        """Refuse connections for a moment, as a server that restarts does."""
        self._server.shutdown()
        self._server.server_close()
        time.sleep(REFUSE_SECONDS)
        with self._lock:
            if not self._closed:
                self._server = self._listen(self.port)

    def fails(self, request: Request) -> bool:
        """Return whether this request is to fail, which counts as one of the faults."""
        with self._lock:
            if self.mode is None or not self.faults or self._random.random() > 1 / 3:
                return False
            self.faults -= 1
            return True

    def holds(self, request: Request) -> bool:
        """Return whether to keep this request instead of sending it on; it is kept then."""
        with self._lock:
            if (
                self.hold is None
                or self.hold not in request.body
                or any(one.body == request.body for one in self.held)
            ):
                return False
            self.held.append(request)
            return True

    def chance(self) -> bool:
        with self._lock:
            return self._random.random() < 0.5

    def record(self, request: Request) -> None:
        if self.recording:
            with self._lock:
                self.seen.append(request)

    def _listen(self, port: int) -> "_Server":
        server = _Server(("127.0.0.1", port), _Connection)
        server.proxy = self
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy


class _Connection(socketserver.StreamRequestHandler):
    """One connection of a client, which may send several requests."""

    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while request := self._read():
                if not self._answer(request):
                    return

    def _read(self) -> Request | None:
        line = self.rfile.readline(65536)
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip()] = value.strip()
        lower = {name.lower(): value for name, value in headers.items()}
        body = self.rfile.read(int(lower.get("content-length", 0)))
        return Request(method, target, headers, body)

    def _answer(self, request: Request) -> bool:
        """Answer a request; return whether the connection goes on."""
        proxy = self.server.proxy
        proxy.record(request)
        if proxy.holds(request):
            return False
        if not proxy.fails(request):
            self._send(*proxy.forward(request))
            return True
        mode = proxy.mode
        if mode == "refuse":
            threading.Thread(target=proxy.refuse, daemon=True).start()
            return False
        if mode == "reset at once":
            self._reset()
            return False
        if mode == "reset in the middle":
            half = Request(request.method, request.target, request.headers, request.body)
            _, _, body = proxy.forward(half)
            self._head(200, "application/json", len(body))
            self.wfile.write(body[: len(body) // 2])
            self._reset()
            return False
        if mode == "duplicate":
            proxy.forward(request)
            self._send(*proxy.forward(request))
            return True
        if mode == "delay":
            time.sleep(1)
            self._send(*proxy.forward(request))
            return True
        if mode == "stall":
            time.sleep(STALL_SECONDS)
            return False
        if mode == "cut the answer":
            status, kind, body = proxy.forward(request)
            self._head(status, kind, len(body))
            self.wfile.write(body[:7])
            return False
        if proxy.chance():
            proxy.forward(request)
        if mode in ("500", "503"):
            self._send(int(mode), "text/html", b"<html>try later</html>")
        else:
            self._send(200, "application/json", GARBAGE if mode == "garbage" else ERROR_AS_200)
        return True

    def _head(self, status: int, kind: str, length: int) -> None:
        self.wfile.write(
            f"HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()
        )

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset instead of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
