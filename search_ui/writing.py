"""What every request that changes something has to pass: sent by our own pages or by a program, and not too often."""

from flask import abort, request
from werkzeug.exceptions import TooManyRequests

from conf.wording import duration
from search_ui.clients import this_client
from search_ui.rates import Rates

# The value of the setting database that turns corrections and the history off.
NONE = "none"


def check_site() -> None:
    """Refuse a request that a page of another site has sent, 403: a browser sends it with the cookies of this one.

    Browsers say where a request comes from (Fetch metadata: the header Sec-Fetch-Site, older ones Origin), and no page can
    change that. Programs such as curl send neither.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = (f"{scheme}://{request.host}" for scheme in ("http", "https"))
    if site not in ("same-origin", "none") if site else origin and origin not in ours:
        abort(403, "This was sent from another site. Do it on the pages of TinyTags.")


def check_rate(rates: Rates, what: str, count: int = 1) -> None:
    """Count ``count`` of ``what`` by the client of this request; 429 where that is more than it may send."""
    if seconds := rates.seconds_to_wait(this_client(), count):
        raise TooManyRequests(
            f"Too many {what} from your address; try again in {duration(seconds)}.", retry_after=seconds
        )
