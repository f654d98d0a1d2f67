"""Tests of `search_ui.server`: however many connections are slow or silent, a newcomer is served."""

import contextlib
import http.client
import io
import socket
import statistics
import threading
import time

import pytest
from served import started
from werkzeug.test import EnvironBuilder

from conf.settings import Settings
from search_ui import BODY_BYTES, clients, create_app, server
from search_ui.views import health
from search_ui.views.corrections import IMPORT_BYTES

SEARCH = "/?tag=frog&tag=ship&confidence=50-100"


@pytest.fixture(scope="module")
def port(settings):
    """The page as people start it."""
    with started(settings) as (_, port):
        yield port


@contextlib.contextmanager
def running(app, **limits):
    """Serve an application in this process, with limits of the module's constants; give its address."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(server, name, value)
        serving = server.make_server(app, "127.0.0.1", 0)
        thread = threading.Thread(target=serving.run)
        thread.start()
        try:
            yield "127.0.0.1", int(serving.effective_listen[0][1])
        finally:
            serving.close()
            thread.join(10)


@pytest.fixture
def app(tmp_path):
    return create_app(Settings(store=str(tmp_path), solr="http://127.0.0.1:1/solr"))


def status(address, path="/healthz", source="127.0.0.1") -> int:
    client = http.client.HTTPConnection(*address, timeout=60, source_address=(source, 0))
    with contextlib.closing(client):
        client.request("GET", path)
        return client.getresponse().status


def connect(stack, address, source="127.0.0.1", data=b"") -> socket.socket:
    client = stack.enter_context(socket.create_connection(address, timeout=60, source_address=(source, 0)))
    client.sendall(data)
    return client


def is_open(client) -> bool:
    """Return whether the server has left a connection open that has nothing to read."""
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def closes(client) -> bool:
    """Return whether the server closes a connection within its timeout, after whatever it sends."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def dribble(clients, until: threading.Event) -> None:
    """Send a byte of a header on each connection again and again."""
    while not until.wait(0.5):
        for client in clients:
            with contextlib.suppress(OSError):  # the server has closed it
                client.send(b"x")


@pytest.mark.services
def test_a_newcomer_is_served_at_once_beside_silent_and_dribbling_connections_and_browsers(port):
    address, done = ("127.0.0.1", port), threading.Event()
    status(address, SEARCH)
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            connect(stack, address)
        dribbling = [connect(stack, address, data=b"GET / HTTP/1.1\r\nX: ") for _ in range(200)]
        thread = threading.Thread(target=dribble, args=[dribbling, done])
        thread.start()
        stack.callback(thread.join)
        stack.callback(done.set)
        for _ in range(20 * 6):
            connect(stack, address, data=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").recv(65536)
        seconds = []
        for path in (SEARCH, "/healthz", "/metrics") * 5:
            began = time.monotonic()
            assert status(address, path) == 200
            seconds.append(time.monotonic() - began)
    print(f"median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s")
    assert statistics.median(seconds) < 1


def test_above_the_limit_the_connection_that_has_waited_longest_is_closed(app):
    with running(app, CONNECTIONS=20) as address, contextlib.ExitStack() as stack:
        clients = [connect(stack, address) for _ in range(20)]
        assert status(address) == 200
        assert not is_open(clients[0]) and is_open(clients[-1])


def test_an_address_has_its_own_limit_unless_it_is_of_this_machine(app, monkeypatch):
    with running(app, CONNECTIONS_OF_CLIENT=5) as address, contextlib.ExitStack() as stack:
        local = [connect(stack, address) for _ in range(10)]
        assert status(address) == 200 and all(map(is_open, local))
        monkeypatch.setattr(server, "is_loopback", lambda address: False)
        theirs = [connect(stack, address, "127.0.0.2") for _ in range(6)]
        assert status(address, source="127.0.0.2") == 200
        assert [is_open(client) for client in theirs[:2]] == [False, False] and is_open(theirs[-1])
        assert all(map(is_open, local)), "only their own are closed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_so_far",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHo",
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["silent", "headers", "body", "idle"],
)
def test_a_request_that_does_not_arrive_in_time_closes_the_connection(app, request_so_far):
    limits = {"HEADER_SECONDS": 0.2, "BODY_SECONDS": 0.2}
    with running(app, **limits) as address, contextlib.ExitStack() as stack:
        assert closes(connect(stack, address, data=request_so_far))


@pytest.mark.slow
def test_a_response_that_is_read_too_slowly_is_ended_and_gives_its_thread_back(app):
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield b"x" * 100_000
        finally:
            ended.set()

    app.add_url_rule("/export.endless", "endless", lambda: app.response_class(endless()))
    limits = {"SLOW_SECONDS": 0.2, "THREADS": {"/export.": 1, "": 1}}
    with running(app, **limits) as address, contextlib.ExitStack() as stack:
        connect(stack, address, data=b"GET /export.endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(address) == 200, "other requests have other threads"
        assert ended.wait(60)
        assert status(address, "/export.none") == 404, "its thread is free"


def test_probes_wait_for_no_page(app, monkeypatch):
    hang = threading.Event()
    app.add_url_rule("/slow", "slow", lambda: str(hang.wait(20)))
    monkeypatch.setitem(app.view_functions, "health.readyz", lambda: hang.wait(20) and health.readyz())
    with running(app) as address, contextlib.ExitStack() as stack:
        for path in [b"/slow"] * 20 + [b"/readyz"] * 3:
            connect(stack, address, data=b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        try:
            assert [status(address, path) for path in ("/healthz", "/metrics")] == [200, 200]
        finally:
            hang.set()


def test_a_proxy_names_the_client_and_others_can_not(tmp_path):
    seen = []
    for proxy in ("127.0.0.1", "192.0.2.1", ""):
        app = create_app(Settings(store=str(tmp_path)))
        app.add_url_rule("/who", "who", clients.this_client)
        serving = server.make_server(app, "127.0.0.1", 0, proxy)
        thread = threading.Thread(target=serving.run)
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", serving.effective_listen[0][1], timeout=60)
        with contextlib.closing(client):
            client.request("GET", "/who", headers={"X-Forwarded-For": "198.51.100.9"})
            seen.append(client.getresponse().read().decode())
        serving.close()
        thread.join(10)
    assert seen == ["198.51.100.9", "127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(("size", "expected"), [(4 * BODY_BYTES, 200), (IMPORT_BYTES + 1, 413)])
def test_a_file_of_labels_may_be_larger_than_other_requests(tmp_path, size, expected):
    app = create_app(Settings(store=str(tmp_path), database=f"sqlite:///{tmp_path}/labels.db"))
    line = "small/0/0," + 1000 * " " + "\n"  # without a label, which is left out
    file = io.BytesIO(("image,label\n" + (size // len(line) + 1) * line).encode())
    form = {"by": "Ada", "file": (file, "labels.csv")}
    environ = EnvironBuilder("/corrections/import", method="POST", data=form).get_environ()
    with (
        running(app) as address,
        contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client,
    ):
        headers = {"Content-Type": environ["CONTENT_TYPE"]}
        client.request("POST", "/corrections/import", environ["wsgi.input"].read(), headers)
        assert client.getresponse().status == expected
