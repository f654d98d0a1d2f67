"""One slow question whose answer is kept for a moment and shared by all who ask, so that nobody waits long for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from conf.errors import TinyTagsError


@dataclass(frozen=True)
class Answer:
    """The newest answer there is (None before the first), when it was given, and why there is none newer, if so."""

    value: object = None
    at: float | None = None  # seconds since 1970
    error: str | None = None


class Cached:
    """Asks ``ask()`` in a thread of its own, never twice at once, and not again for ``seconds`` after an answer.

    A question that raises `TinyTagsError` leaves the answer before it, with the reason; anything else it raises is a
    mistake, raised for whoever asked.
    """

    def __init__(self, what: str, ask: Callable[[], object], seconds: float) -> None:
        self.what, self._ask, self.seconds = what, ask, seconds
        self._lock = threading.Condition()
        self._answer = Answer()
        self._mistake: Exception | None = None
        self._asked: float | None = None  # since when a question is on its way
        self._answered = float("-inf")

    def get(self, wait: float, forever: bool = False) -> Answer:
        """Return an answer no older than `seconds`, or after up to ``wait`` seconds the last one there is.

        With ``forever`` an answer is never too old, and only a question that failed is asked again.
        """
        with self._lock:
            if forever and self._answer.value is not None:
                return self._answer
            if self._asked is None and time.monotonic() - self._answered > self.seconds:
                self._asked = time.monotonic()
                self._mistake = None
                threading.Thread(target=self._run, name=self.what, daemon=True).start()
            if (asked := self._asked) is not None:
                # Who comes when others have waited in vain need not wait as well.
                left = wait - (time.monotonic() - asked)
                self._lock.wait_for(lambda: self._asked != asked, timeout=max(left, 0))
            if self._mistake:
                raise self._mistake
            if self._asked is not None and self._asked == asked:
                return Answer(self._answer.value, self._answer.at, f"{self.what} does not answer")
            return self._answer

    def _run(self) -> None:
        answer, mistake = None, None
        try:
            answer = Answer(self._ask(), time.time())
        except TinyTagsError as error:
            answer = Answer(self._answer.value, self._answer.at, str(error))
        except Exception as error:
            mistake = error
        with self._lock:
            self._answer, self._mistake = answer or self._answer, mistake
            self._asked, self._answered = None, time.monotonic()
            self._lock.notify_all()
