"""What every database of records has: an address, and a short memory of its last failure."""

import time

from conf.wording import first_line
from records.corrections import DatabaseError

# For so many seconds after a failure, reads fail at once instead of each waiting for the database again.
FAILURE_SECONDS = 5


class Database:
    """The database at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._failure: tuple[float, str] | None = None

    @property
    def address(self) -> str:
        """The database's URL without its password."""
        raise NotImplementedError

    def check_failure(self) -> None:
        """Raise the error of the last access if that failed `FAILURE_SECONDS` ago at most."""
        if self._failure and time.monotonic() < self._failure[0]:
            raise DatabaseError(self._failure[1])

    def succeeded(self) -> None:
        """Forget the last failure."""
        self._failure = None

    def failed(self, error: BaseException) -> DatabaseError:
        """Remember a failure; return the error to raise for it."""
        reason = first_line(error)
        message = f"database {self.address!r} (setting database): {reason}"
        self._failure = time.monotonic() + FAILURE_SECONDS, message
        return DatabaseError(message)
