"""A relay between the page and Solr that forwards everything, refuses connections, or accepts them and never answers."""

import contextlib
import socket
import threading


class Relay:
    """A port in front of another one; ``mode`` is "pass", "refuse" or "silent" and may change at any time."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.mode = "pass"
        threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def become(self, mode: str) -> None:
        """Change the mode; "refuse" closes open connections, as a killed process does."""
        before, self.mode = self.mode, mode
        if mode == "refuse":
            self._stop_listening()
            self._close_connections()
        elif before == "refuse":
            self._listening = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def close(self) -> None:
        self.mode = "refuse"
        self._stop_listening()
        self._close_connections()

    def _stop_listening(self) -> None:
        _shut(self._listening)  # wakes the thread that waits in accept
        self._listening.close()

    def _close_connections(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for connection in pairs:
            _shut(connection)
            connection.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            if self.mode == "refuse":
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._pairs |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=[source, sink], daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.mode == "pass":
                    sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other end may have closed it
        connection.shutdown(socket.SHUT_RDWR)
