"""A slow call whose last answer is cached for a moment and shared by all callers, so that none of them waits long."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from conf.errors import TinyTagsError

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The last value (None before the first), when it was computed, and the error since then, if any."""

    value: T | None = None
    at: float | None = None  # seconds since 1970
    error: str | None = None


class Cached(Generic[T]):
    """Runs ``compute`` in a thread of its own, never twice at once, and not again within ``seconds`` of its end.

    After a `TinyTagsError` the previous value stays, with the error; any other exception is a bug and is raised by `get`.
    ``name`` is what the error of an answer that is late begins with.
    """

    def __init__(self, name: str, compute: Callable[[], T], seconds: float) -> None:
        self.name, self._compute, self.seconds = name, compute, seconds
        self._lock = threading.Condition()
        self._answer: Answer[T] = Answer()
        self._bug: Exception | None = None
        self._started: float | None = None  # when the running call started
        self._ended = float("-inf")

    def get(self, wait: float, forever: bool = False) -> Answer[T]:
        """Return an answer no older than `seconds`, or after up to ``wait`` seconds the last one there is.

        With ``forever`` a value never expires; only a failed call is repeated.
        """
        with self._lock:
            if forever and self._answer.value is not None:
                return self._answer
            if self._started is None and time.monotonic() - self._ended > self.seconds:
                self._started = time.monotonic()
                self._bug = None
                threading.Thread(target=self._run, name=self.name, daemon=True).start()
            if (started := self._started) is not None:
                # The time that earlier callers have waited counts for later ones too.
                left = wait - (time.monotonic() - started)
                self._lock.wait_for(lambda: self._started != started, timeout=max(left, 0))
            if self._bug:
                raise self._bug
            if self._started is not None and self._started == started:
                return Answer(self._answer.value, self._answer.at, f"{self.name} does not answer")
            return self._answer

    def expire(self) -> None:
        """Let the next `get` compute a new answer."""
        with self._lock:
            self._ended = float("-inf")

    def _run(self) -> None:
        answer, bug = None, None
        try:
            answer = Answer(self._compute(), time.time())
        except TinyTagsError as error:
            answer = Answer(self._answer.value, self._answer.at, str(error))
        except Exception as error:
            bug = error
        with self._lock:
            self._answer, self._bug = answer or self._answer, bug
            self._started, self._ended = None, time.monotonic()
            self._lock.notify_all()
