"""Who is logged in: a person whom the reverse proxy names in a header, or who has given the password of the page.

There are no accounts: everyone with the password has the same rights, and the name that a person gives is theirs.
"""

import hashlib
import hmac
import logging
import re
from datetime import timedelta
from urllib.parse import urlencode, urlsplit

from flask import Flask, abort, g, request, session
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from conf.settings import Settings
from conf.wording import duration
from records.corrections import BadCorrectionError, check_name
from search_ui.clients import PEER, this_client
from search_ui.rates import Rates
from search_ui.sources import sources

# Wrong passwords of one address.
TRIES = "10/minute, 100/day"
DAYS = 30
USER = "user"  # in the session, and in `flask.g`
WRONG = "The password is wrong."
log = logging.getLogger(__name__)


class Login:
    """What the settings ``password`` and ``user_header`` ask of those who change something."""

    def __init__(self, settings: Settings) -> None:
        self.has_password = bool(settings.password)
        self.required = bool(settings.password or settings.user_header)
        self._password = settings.password.encode()
        self._header, self._proxy = settings.user_header, settings.proxy
        self._tries = Rates(TRIES, "tries")

    def user_of_proxy(self) -> str:
        """Return the name in the header of the proxy; "" where there is none, or another client has sent it."""
        peer = request.environ.get(PEER, request.remote_addr)
        if not self._header or self._proxy not in ("*", peer):
            return ""
        # WSGI decodes the bytes of headers as latin-1.
        return valid_name(
            request.headers.get(self._header, "").encode("latin-1", "replace").decode("utf-8", "replace")
        )

    def is_password(self, given: str) -> bool:
        """Return whether this is the password. Raises `TooManyRequests` for a client with too many wrong ones before."""
        client = this_client()
        if seconds := self._tries.seconds_left(client):
            raise TooManyRequests(
                f"Too many wrong passwords from your address; try again in {duration(seconds)}.",
                retry_after=seconds,
            )
        if self.has_password and hmac.compare_digest(given.encode(), self._password):
            return True
        self._tries.seconds_to_wait(client)
        log.warning("wrong password from %s", client)
        return False


def register(app: Flask, settings: Settings) -> None:
    """Let an application sign the cookies of those who log in, and its templates know who is logged in.

    The key is made from the password, so that all processes of a page have the same one, and a new password logs everyone out.
    """
    if settings.password:
        app.secret_key = hashlib.scrypt(
            settings.password.encode(), salt=b"tinytags session", n=1 << 14, r=8, p=1
        )
    app.config.update(
        SESSION_COOKIE_NAME="tinytags",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(days=DAYS),
    )
    app.add_template_global(user)
    app.add_template_global(lambda: sources().login.required, "login_required")
    app.add_template_global(login_url)


def user() -> str:
    """Return the name of the person who is logged in; "" for none."""
    if USER not in g:
        login = sources().login
        g.user = login.user_of_proxy() or (str(session.get(USER, "")) if login.has_password else "")
    return str(g.user)


def given_name(field: str = "by") -> str:
    """Return the name of the person who sends a form: the one who is logged in, else what its ``field`` has."""
    return user() or request.form.get(field, "")


def check_basic() -> None:
    """Log a program in for one request by its name and the password (basic auth); 401 where the password is wrong."""
    login, given = sources().login, request.authorization
    if not login.has_password or user() or given is None or given.type != "basic":
        return
    if not login.is_password(given.password or ""):
        raise Unauthorized(WRONG, www_authenticate=WWWAuthenticate("basic", {"realm": "TinyTags"}))
    g.user = valid_name(given.username or "") or abort(
        400, "The user of basic auth is your name, which is missing or too long."
    )


def log_in(name: str) -> None:
    """Let the browser keep, signed, that this person has given the password."""
    session.permanent = True
    session[USER] = g.user = name


def log_out() -> None:
    """Let the browser forget it."""
    if sources().login.has_password:  # else there is no key that signs a session
        session.clear()
    g.user = ""


def login_url() -> str:
    """Return the URL of the form, which leads back to this page; or to that of the form that was refused."""
    here = request.full_path.rstrip("?")
    if request.method != "GET":
        try:
            parts = urlsplit(request.referrer or "/")
        except ValueError:  # it can hold anything
            parts = urlsplit("/")
        here = parts.path + (f"?{parts.query}" if parts.query else "")
    return here if here.partition("?")[0] == "/login" else f"/login?{urlencode({'next': here})}"


def local(path: str) -> str:
    """Return a path on this page as it is, and "/" for anything else, which could lead to another site."""
    return path if re.fullmatch(r"/(?![/\\])[!-~]*", path) else "/"


def valid_name(text: str) -> str:
    """Return a name as it is stored, and "" for what can't be one."""
    try:
        return check_name("the user", text)
    except BadCorrectionError:
        return ""
