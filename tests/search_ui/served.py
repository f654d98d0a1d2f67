"""The page on a real port: an application for a browser, or the server as people start it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict

from flask import Flask
from werkzeug.serving import make_server

from conf.settings import Settings
from operations.services import free_port

CODE = """
import json, sys
from conf.settings import Settings
from search_ui import serve
serve(Settings(**json.loads(sys.argv[1])), "127.0.0.1", int(sys.argv[2]))
print("stopped")
"""


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an application while the block runs; give its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def started(settings: Settings, stderr: int = subprocess.DEVNULL) -> Iterator[tuple[subprocess.Popen, int]]:
    """Start the server as a process of its own; give it, once it says where it is, and its port.

    ``stderr`` is where its complaints go, as `subprocess` has it.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, json.dumps(asdict(settings)), str(port)],
        stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    try:
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        yield process, port
    finally:
        process.kill()
        process.communicate()
