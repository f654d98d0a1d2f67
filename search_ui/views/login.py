"""Log in and out: a name and the password of the page, or what the reverse proxy reports."""

from flask import Blueprint, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue

from records.corrections import BadCorrectionError, check_name
from search_ui.login import WRONG, local, log_in, log_out, user
from search_ui.sources import sources
from search_ui.views.corrections import keep_name, name

blueprint = Blueprint("login", __name__)


@blueprint.get("/login")
def form() -> str:
    """The form, or who is logged in; ``next`` is the page to return to."""
    _check_required()
    return _page(request.args.get("next", "/"))


@blueprint.post("/login")
def login() -> ResponseReturnValue:
    """Log in with ``name`` and ``password``."""
    _check_required()
    after = local(request.form.get("next", "/"))
    try:
        given = check_name("your name", request.form.get("name", ""))
    except BadCorrectionError as error:
        return _page(after, error=str(error)), 400
    if not sources().access.is_password(request.form.get("password", "")):
        return _page(after, given, WRONG), 403
    log_in(given)
    return keep_name(redirect(after, 303), given)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """Log out; the reverse proxy's login stays."""
    _check_required()
    log_out()
    return redirect("/", 303)


def _check_required() -> None:
    if not sources().access.required:
        abort(404, "There is no login here: the settings password and user_header are not set.")


def _page(after: str, given: str = "", error: str = "") -> str:
    return render_template(
        "login.html",
        next=local(after),
        name=given or name(),
        error=error,
        by_proxy=bool(sources().access.user_of_proxy()),
        has_password=sources().access.has_password,
        logged_in=user(),
    )
