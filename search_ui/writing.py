"""What every request that changes something has to pass, whatever its view does: sent by our own pages or by a program, allowed
by the settings ``read_only``, ``password`` and ``user_header``, and not too often.
"""

from flask import Flask, abort, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, TooManyRequests, Unauthorized

from conf.wording import duration
from search_ui.clients import this_client
from search_ui.hosts import is_ours
from search_ui.login import check_basic, user
from search_ui.rates import Rates
from search_ui.sources import sources

# Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS")
# Views of other methods that answer everyone: a picture that is classified is only recorded where `may_write`.
OPEN = frozenset({"classify.classify_form", "classify.api_classify", "login.login", "login.logout"})
READ_ONLY = "This page is read-only."
LOG_IN = "Log in first: only people who are logged in may change or record something here."


def register(app: Flask) -> None:
    """Let an application check every request that is not `SAFE`, before its view: a new view needs no code for it."""
    app.before_request(_check)
    app.add_template_global(may_write)
    app.add_template_global(may_log_in)


def _check() -> None:
    if request.method in SAFE or request.url_rule is None:
        return
    check_site()
    check_basic()
    if request.endpoint not in OPEN and (error := refusal()):
        raise error


def refusal() -> HTTPException | None:
    """Return why the person who sends this request may not change anything; None where they may."""
    if sources().settings.read_only == "yes":
        return Forbidden(READ_ONLY)
    if sources().access.required and not user():
        # Not "basic": browsers would open a dialog of their own.
        return Unauthorized(LOG_IN, www_authenticate=WWWAuthenticate("form", {"realm": "TinyTags"}))
    return None


def may_write() -> bool:
    """Return whether the person who sends this request may change something; pages hide the forms where not."""
    return refusal() is None


def may_log_in() -> bool:
    """Return whether a person who may change nothing now may do so when they log in."""
    return isinstance(refusal(), Unauthorized)


def check_site() -> None:
    """Refuse a request that a page of another site has sent, 403: a browser sends it with the cookies of this one.

    Browsers say where a request comes from (Fetch metadata: the header Sec-Fetch-Site, older ones Origin), and no page can
    change that. Programs such as curl send neither.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = (f"{scheme}://{request.host}" for scheme in ("http", "https"))
    if site:
        other = site not in ("same-origin", "none")
    else:
        other = bool(origin and origin not in ours and not is_ours(origin, sources().settings.hosts))
    if other:
        abort(403, "This was sent from another site. Do it on the pages of TinyTags.")


def check_rate(rates: Rates, what: str, count: int = 1) -> None:
    """Count ``count`` of ``what`` by the client of this request; 429 where that is more than it may send."""
    if seconds := rates.seconds_to_wait(this_client(), count):
        raise TooManyRequests(
            f"Too many {what} from your address; try again in {duration(seconds)}.", retry_after=seconds
        )
