"""An endpoint on this machine that answers as Google Cloud Vision does, and the file of a service account."""

import base64
import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

LABELS = [
    {"mid": "/m/0bt9lr", "description": "Dog", "score": 0.61},
    {"mid": "/m/01yrx", "description": "Cat", "score": 0.875},
    {"mid": "", "description": "Whiskers", "score": 0.4},
]  # in no order
CAT = {"responses": [{"labelAnnotations": LABELS}]}


@contextlib.contextmanager
def endpoint() -> Iterator[SimpleNamespace]:
    """Serve the answers in turn, the last one again and again; keep what was sent. Give both, and the address."""
    state = SimpleNamespace(answers=[(200, CAT)], pictures=[], headers=[], features=[])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            (sent,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["requests"]
            state.pictures.append(base64.b64decode(sent["image"]["content"]))
            state.headers.append(self.headers)
            state.features.append(sent["features"])
            status, body = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            data = json.dumps(body).encode()
            self.send_response(status if self.path.startswith("/v1/images:annotate") else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def write_account(file: Path) -> Path:
    """Write the file of a service account as Google issues it, with a key of its own; return the file."""
    from cryptography.hazmat.primitives import serialization  # Google's client brings it
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account", "project_id": "labels", "private_key_id": "1", "private_key": key.decode(),
        "client_email": "labels@labels.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }  # fmt: skip
    file.write_text(json.dumps(account))
    return file
