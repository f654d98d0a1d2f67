"""Many users at once, each with an address and a connection of its own."""

import http.client
import threading
import time
from collections.abc import Callable

USERS = 50
# The seconds between two requests of a person.
PAUSE_SECONDS = 1.0

# What a user does: a request over the connection, by its number, which differs between all requests of all users.
Request = Callable[[http.client.HTTPConnection, int], None]


def use(seconds: float, request: Request, host: str, users: int = USERS) -> tuple[list[float], list[str]]:
    """Return the seconds of each request of all users, and the failures as lines: each `OSError` of a request.

    Every user sends a request, waits for the answer, and pauses for `PAUSE_SECONDS` seconds.
    """
    waited: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds

    def use_page(user: int) -> None:
        source = f"127.0.2.{user + 1}", 0  # each user has an address of the loopback
        connection, number = http.client.HTTPConnection(host, timeout=30, source_address=source), user
        time.sleep(PAUSE_SECONDS * user / users)
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                request(connection, number)
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{type(error).__name__}: {error}")
                connection.close()
            waited.append(time.monotonic() - began)
            number += users
            time.sleep(PAUSE_SECONDS)
        connection.close()

    threads = [threading.Thread(target=use_page, args=[user]) for user in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waited, failed


def read(connection: http.client.HTTPConnection, accepted: tuple[int, ...] = (200,)) -> bytes:
    """Return the answer to a request that was sent; `OSError` for a status that isn't accepted."""
    answer = connection.getresponse()
    data = answer.read()
    if answer.status not in accepted:
        raise OSError(f"status {answer.status}")
    return data
