"""A page behind a reverse proxy: below a path of it, and reached by HTTPS.

Views and templates write links from the root, ``/runs``. The path is the header X-Forwarded-Prefix of the proxy. It is added
to all links here, in the response, so that no view or template handles it.
"""

import functools
import re
from collections.abc import Iterable
from typing import Any

from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wsgi import ClosingIterator

from search_ui.clients import PEER

# The attributes of HTML, and the members of JSON, that are links from the root. A " in a text is escaped in both.
_HTML = re.compile(rb'( (?:href|src|action|formaction|data-next|data-suggest)=")(?=/(?!/))')
_JSON = re.compile(rb'("(?:url|png|next|toggle)": ?")(?=/(?!/))')
_LINKS = {"text/html": _HTML, "application/json": _JSON, "application/x-ndjson": _JSON}
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class _Session(SecureCookieSessionInterface):
    """Cookies that a browser sends by HTTPS alone, where the request came by HTTPS."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def register(app: Flask, proxy: str) -> None:
    """Let an application use the headers of the reverse proxy at the address ``proxy``; "*" is any, "" none."""
    app.session_interface = _Session()
    if proxy:
        app.wsgi_app = _behind(app.wsgi_app, proxy)  # type: ignore[method-assign]  # as Flask's documentation has it
    app.after_request(_add_prefix)


def _behind(inner: Any, proxy: str) -> Any:
    """Return a WSGI application that takes the prefix of its links from the proxy's requests alone."""
    with_prefix = ProxyFix(inner, x_for=0, x_proto=0, x_host=0, x_prefix=1)

    def outer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        prefix = "/" + environ.get("HTTP_X_FORWARDED_PREFIX", "").strip("/")
        from_proxy = proxy in ("*", environ.get(PEER, environ.get("REMOTE_ADDR")))
        if not from_proxy or not _PREFIX.fullmatch(prefix):
            return inner(environ, start_response)  # type: ignore[no-any-return]
        return with_prefix(environ | {"HTTP_X_FORWARDED_PREFIX": prefix}, start_response)

    return outer


def _add_prefix(response: Response) -> Response:
    prefix = request.script_root
    if not prefix:
        return response
    location = response.headers.get("Location", "")
    if location.startswith("/"):
        response.headers["Location"] = prefix + location
    links = _LINKS.get(response.mimetype or "")
    if links:
        with_prefix = functools.partial(links.sub, lambda match: match[1] + prefix.encode())
        if response.is_streamed:  # whole lines
            close = getattr(response.response, "close", None)
            response.response = ClosingIterator(map(with_prefix, response.iter_encoded()), close)
        else:
            response.set_data(with_prefix(response.get_data()))
    return response
