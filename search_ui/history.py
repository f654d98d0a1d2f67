"""The history as the pages use it: predictions are recorded where the database answers, and deleted when they are old."""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

from records.corrections import DatabaseError
from records.predictions import NewPrediction, open_predictions

# The value of the setting database that turns corrections and the history off.
NONE = "none"
# How often old predictions are deleted.
EXPIRE_SECONDS = 3600.0
log = logging.getLogger(__name__)


class History:
    """The predictions in the database at ``url``, kept for ``days`` ("": for ever). Thread-safe."""

    def __init__(self, url: str, days: str = "") -> None:
        self.enabled = url != NONE
        self.predictions = open_predictions(url)
        self._days = int(days) if days else None

    def add(self, prediction: NewPrediction) -> int | None:
        """Store a prediction and return its number; None where the database is unavailable, or the history turned off:
        pictures are classified without a database, too.
        """
        if not self.enabled:
            return None
        try:
            return self.predictions.add(prediction)
        except DatabaseError as error:
            log.warning("a prediction was not recorded: %s", error)
            return None

    def expire(self) -> None:
        """Delete predictions that are older than the days they are kept. Raises `DatabaseError`."""
        if not self.enabled or self._days is None:
            return
        deleted = self.predictions.expire(datetime.now(UTC) - timedelta(days=self._days))
        if deleted:
            log.info("%d predictions older than %d days deleted", deleted, self._days)

    def expire_hourly(self) -> None:
        """Call `expire` now and each hour, in a thread of its own."""
        if self.enabled and self._days is not None:
            threading.Thread(target=self._expire_for_ever, name="retention", daemon=True).start()

    def _expire_for_ever(self) -> None:
        while True:
            try:
                self.expire()
            except DatabaseError as error:
                log.warning("old predictions were not deleted: %s", error)
            time.sleep(EXPIRE_SECONDS)
