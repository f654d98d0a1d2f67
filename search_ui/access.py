"""Who may change something, as the settings ``password`` and ``user_header`` have it."""

import hmac
import logging

from flask import request
from werkzeug.exceptions import TooManyRequests

from conf.settings import Settings
from conf.wording import duration
from records.corrections import BadCorrectionError, check_name
from search_ui.clients import PEER, this_client
from search_ui.rates import Rates

# Wrong passwords of one address.
TRIES = "10/minute, 100/day"
log = logging.getLogger(__name__)


class Access:
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


def valid_name(text: str) -> str:
    """Return a name as it is stored, and "" for what can't be one."""
    try:
        return check_name("the user", text)
    except BadCorrectionError:
        return ""
