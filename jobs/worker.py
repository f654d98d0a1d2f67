"""A worker process of `jobs.processes`: runs one task for the partitions that its parent sends, until the parent is gone."""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [root, *connection.recv()]
    from jobs.runner import attempt

    messages: queue.SimpleQueue[bytes | int] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    signal.signal(signal.SIGTERM, _interrupt)  # so that what is half-written is removed
    task = b""
    try:
        while True:
            message = messages.get()
            if isinstance(message, bytes):
                task = message
            else:
                connection.send(attempt(task, message))
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        os._exit(1)


def _receive(connection: Connection, messages: "queue.SimpleQueue[bytes | int]") -> None:
    """Pass on what the parent sends; when it has closed the connection, or was killed, end this process at once."""
    try:
        while True:
            messages.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
