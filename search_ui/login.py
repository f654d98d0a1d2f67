"""Who is logged in: a person whom the reverse proxy names in a header, or who has given the password of the page.

There are no accounts: everyone with the password has the same rights, and the name that a person gives is theirs.
"""

import hashlib
import re
from datetime import timedelta
from urllib.parse import urlencode, urlsplit

from flask import Flask, abort, g, request, session
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from conf.settings import Settings
from search_ui.access import valid_name
from search_ui.sources import sources

DAYS = 30
USER = "user"  # in the session, and in `flask.g`
WRONG = "The password is wrong."


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
    app.add_template_global(lambda: sources().access.required, "login_required")
    app.add_template_global(login_url)


def user() -> str:
    """Return the name of the person who is logged in; "" for none."""
    if USER not in g:
        access = sources().access
        g.user = access.user_of_proxy() or (str(session.get(USER, "")) if access.has_password else "")
    return str(g.user)


def given_name(field: str = "by") -> str:
    """Return the name of the person who sends a form: the one who is logged in, else what its ``field`` has."""
    return user() or request.form.get(field, "")


def check_basic() -> None:
    """Log a program in for one request by its name and the password (basic auth); 401 where the password is wrong."""
    access, given = sources().access, request.authorization
    if not access.has_password or user() or given is None or given.type != "basic":
        return
    if not access.is_password(given.password or ""):
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
    if sources().access.has_password:  # else there is no key that signs a session
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
        here = parts.path.removeprefix(request.script_root) + (f"?{parts.query}" if parts.query else "")
    return here if here.partition("?")[0] == "/login" else f"/login?{urlencode({'next': here})}"


def local(path: str) -> str:
    """Return a path on this page as it is, and "/" for anything else, which could lead to another site."""
    return path if re.fullmatch(r"/(?![/\\])[!-~]*", path) else "/"
