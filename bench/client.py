"""A bare HTTP client."""

import http.client
import threading
from urllib.parse import urlsplit

from bench.harness import UnequalError

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


class Client:
    """Sends requests over one kept connection a thread."""

    def __init__(self, url: str) -> None:
        self._url, self._of_thread = urlsplit(url), threading.local()

    def send(self, path: str, body: bytes | None = None, kind: str = FORM) -> bytes:
        """Return the response, to a POST where there is a body; raises `UnequalError` where its status is not 200."""
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = http.client.HTTPConnection(self._url.netloc)
        connection, headers = self._of_thread.connection, {"Content-Type": kind} if body else {}
        try:
            try:
                connection.request("POST" if body else "GET", self._url.path + path, body, headers)
                response = connection.getresponse()
            except http.client.RemoteDisconnected:
                if body:
                    raise
                # A server closes a connection that was idle for long.
                connection.close()
                connection.request("GET", self._url.path + path)
                response = connection.getresponse()
            data = response.read()
        except OSError:
            connection.close()  # the next request opens another
            raise
        if response.status != 200:
            raise UnequalError(f"{path} has status {response.status}")
        return data
