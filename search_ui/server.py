"""The HTTP server: Waitress with deadlines, limits for connections, and own threads for probes and exports.

Waitress receives and sends in one thread that never blocks; other threads only handle requests that have arrived
whole. Slow connections therefore cost memory but no thread, and these limits bound the memory and the time.
"""

import copy
import resource
import time
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import MultiSocketServer, TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import logger

from search_ui import BODY_BYTES, UPLOAD_BYTES
from search_ui.clients import PEER, client_of, is_loopback
from search_ui.errors import HEADERS
from search_ui.views.export import EXPORTS

CONNECTIONS = 2_000
# Of one client, but not of this machine or a proxy: 30 browsers behind one address keep 6 connections each.
CONNECTIONS_OF_CLIENT = 200
# Open files other than connections: listening, to Solr and to the store, temporary files of large responses.
OTHER_FILES = 200
# A connection is closed when the headers of its next request take longer than this, and then its body.
HEADER_SECONDS = 20
BODY_SECONDS = 15
# A request with files, by its path: 32 MiB in this time are 4 Mbit/s. The view may have a lower limit.
UPLOAD_SECONDS = 60
UPLOAD_PATHS = ("/classify", "/api/classify", "/api/label-detection", "/corrections/import")
# A connection is closed when its client reads less than this in this time, while something is left to send.
SLOW_SECONDS, SLOW_BYTES = 20, 80_000
HEADER_BYTES = 64 * 1024
# More than this is not buffered for a slow client: an export waits.
BUFFER_BYTES = 1 << 20
# How many connections are accepted before the others are served again.
ACCEPTED_AT_ONCE = 128
# Threads by the beginning of the path; the first that fits. An export beyond the last place is refused, by a thread as well.
THREADS = {
    "/healthz": 1,
    "/readyz": 1,
    "/metrics": 1,
    "/export.": EXPORTS + 1,
    "/history.": EXPORTS + 1,
    "/classify": 3,
    "/api/classify": 3,
    "/api/label-detection": 3,
    "/corrections/import": 2,
    "": 8,
}


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The response to a request that never reaches the application, with the headers of every other response."""

    def execute(self) -> None:
        self.response_headers.extend(HEADERS.items())
        super().execute()


class Task(WSGITask):  # type: ignore[misc]
    """A request, with the address that its connection comes from."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[PEER] = self.channel.addr[0]
        return environ


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses requests whose end a proxy may see elsewhere, and large bodies but for uploads."""

    uploads = False

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # Waitress removes Transfer-Encoding where it follows it, and otherwise ignores it: in HTTP/1.0.
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding with Content-Length, or in HTTP/1.0")
        self.uploads = self.path in UPLOAD_PATHS
        if not self.uploads:
            self.adj: Adjustments = self.adj.small


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection, which knows when it is overdue."""

    task_class = Task
    error_task_class = Refusal
    parser_class = Parser

    def __init__(self, server: "Server", sock: Any, addr: Any, adj: Adjustments, map: Any = None) -> None:
        self.waiting_since = time.monotonic()  # for a request, since the connection or the last response
        self.bytes_sent = 0
        self._slow: tuple[float, int] | None = (
            None  # since when it has something left to send, and bytes_sent then
        )
        super().__init__(server, sock, addr, adj, map=map)
        self.client = client_of(addr[0])
        server.make_room_for(self)

    @property
    def waits(self) -> bool:
        """Whether it only waits for a request."""
        return not (self.requests or self.total_outbufs_len)

    def is_overdue(self, now: float) -> bool:
        """Return whether the client takes too long to send a request or to read a response."""
        if self.total_outbufs_len:
            since, sent = self._slow = self._slow or (now, self.bytes_sent)
            if now - since < SLOW_SECONDS:
                return False
            self._slow = None
            return self.bytes_sent - sent < SLOW_BYTES
        self._slow = None
        more = 0
        if self.request is not None and self.request.headers_finished:  # in the body
            more = UPLOAD_SECONDS if self.request.uploads else BODY_SECONDS
        return self.waits and now - self.waiting_since > HEADER_SECONDS + more

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        self.bytes_sent += sent
        self.waiting_since = time.monotonic()
        return sent

    def service(self) -> None:
        super().service()
        self.waiting_since = time.monotonic()


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Listens on one address, and closes connections that wait, the oldest first, where there are too many."""

    channel_class = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._dropped: list[Channel] = []
        self._accepted = 0
        super().__init__(*args, **kwargs)

    def readable(self) -> bool:
        # Called before the sockets are polled. Those of dropped channels are closed only now: before, a new connection could
        # get the number of one, and with it the events that were polled for the old one.
        for channel in self._dropped:
            channel.handle_close()
        self._dropped.clear()
        return bool(super().readable())

    def handle_accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            before = self._accepted
            super().handle_accept()
            if self._accepted == before:
                break

    def maintenance(self, now: float) -> None:
        moment = time.monotonic()
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(moment):
                self.drop(channel)

    def drop(self, channel: Channel) -> None:
        """Close a connection; it gets no more events. Called by the thread that receives and sends."""
        channel.del_channel()
        self._dropped.append(channel)

    def make_room_for(self, channel: Channel) -> None:
        """Close an old connection, or this new one where none of its client's can be closed."""
        self._accepted += 1
        if len(self.active_channels) > self.adj.connection_limit - OTHER_FILES:
            self._drop_oldest(list(self.active_channels.values()))
        address = channel.addr[0]
        if is_loopback(address) or self.adj.trusted_proxy in ("*", address):
            return
        same = [other for other in self.active_channels.values() if other.client == channel.client]
        if len(same) > CONNECTIONS_OF_CLIENT and not self._drop_oldest(same[:-1]):
            self.drop(channel)

    def _drop_oldest(self, channels: list[Channel]) -> bool:
        """Close the channel that has waited longest for a request; return whether any waits."""
        waiting = [channel for channel in channels if channel.waits]
        if waiting:
            self.drop(min(waiting, key=lambda channel: channel.waiting_since))
        return bool(waiting)


class Dispatcher:
    """Threads for each kind of request in `THREADS`, so that none waits for those of another kind."""

    def __init__(self) -> None:
        self._pools = {beginning: ThreadedTaskDispatcher() for beginning in THREADS}
        for beginning, threads in THREADS.items():
            self._pools[beginning].set_thread_count(threads)

    def add_task(self, channel: Channel) -> None:
        """Let a thread handle the first request of a channel."""
        path = getattr(channel.requests[0], "path", "")  # one that isn't HTTP has none
        next(pool for beginning, pool in self._pools.items() if path.startswith(beginning)).add_task(channel)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> None:
        """End all threads, within ``timeout`` seconds."""
        until = time.monotonic() + timeout
        for pool in self._pools.values():
            pool.set_thread_count(0)
        for pool in self._pools.values():
            pool.shutdown(cancel_pending, max(0, until - time.monotonic()))


def make_server(app: Flask, host: str, port: int, proxy: str = "") -> MultiSocketServer:
    """Return a server that listens on an address, for ``run()``. ``proxy`` is the address of one whose X-Forwarded-For, -Proto and -Host are used.

    Raises `OSError` or `ValueError` where it can't listen there.
    """
    trusted: dict[str, Any] = {"clear_untrusted_proxy_headers": True}
    if proxy:
        trusted |= {
            "trusted_proxy": proxy,
            "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto x-forwarded-host",
        }
    settings = Adjustments(
        host=host, port=port, ident="tinytags", server_name="localhost", asyncore_use_poll=True, cleanup_interval=1, backlog=CONNECTIONS,
        connection_limit=_connections() + OTHER_FILES, max_request_header_size=HEADER_BYTES,
        max_request_body_size=UPLOAD_BYTES, outbuf_high_watermark=BUFFER_BYTES, **trusted,
    )  # fmt: skip
    settings.small = copy.copy(settings)
    settings.small.max_request_body_size = BODY_BYTES
    sockets: dict[int, wasyncore.dispatcher] = {}
    dispatcher = Dispatcher()
    servers = [
        Server(app, sockets, dispatcher=dispatcher, adj=settings, sockinfo=where) for where in settings.listen
    ]
    listen = [(server.effective_host, server.effective_port) for server in servers]
    return MultiSocketServer(sockets, settings, listen, dispatcher, logger.info)


def _connections() -> int:
    """Return how many connections there may be; raises this process' limit of open files where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - OTHER_FILES, soft // 2)
    return CONNECTIONS
