"""How many changes one client may make in a time."""

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from conf.errors import TinyTagsError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import SlidingWindowCounterRateLimiter

# The value of the setting that turns the limit off.
NONE = "none"


class Rates:
    """The rates of the setting ``name``, such as ``60/minute, 2000/day``, counted in memory. Thread-safe.

    The library `limits` is imported on first use, so that it delays neither tests nor the start of the page.
    """

    def __init__(self, setting: str, name: str) -> None:
        self.setting, self.name = setting, name
        self._lock = threading.Lock()

    @cached_property
    def limits(self) -> "list[RateLimitItem]":
        """The parsed rates. Raises `TinyTagsError` for a setting that is none."""
        if self.setting == NONE:
            return []
        import limits

        try:
            return limits.parse_many(self.setting)
        except ValueError:
            raise TinyTagsError(
                f"setting {self.name} is {self.setting!r}; write it as 60/minute, 2000/day, or none"
            ) from None

    def seconds_to_wait(self, client: str, count: int = 1) -> int:
        """Count ``count`` changes by a client and return 0; or count nothing and return after how many seconds it may try again.

        Where ``count`` is larger than what a rate allows in its time, it counts as that.
        """
        costs = [(limit, min(count, limit.amount)) for limit in self.limits]
        with self._lock:
            refused = [limit for limit, cost in costs if not self._counter.test(limit, client, cost=cost)]
            for limit, cost in costs if not refused else ():
                self._counter.hit(limit, client, cost=cost)
        return self._wait(refused, client)

    def seconds_left(self, client: str) -> int:
        """Return after how many seconds a client that has used up its rate may try again; 0 for others. Counts nothing."""
        return self._wait([limit for limit in self.limits if not self._counter.test(limit, client)], client)

    def _wait(self, refused: "list[RateLimitItem]", client: str) -> int:
        if not refused:
            return 0
        until = max(self._counter.get_window_stats(limit, client).reset_time for limit in refused)
        return max(1, round(until - time.time()))

    @cached_property
    def _counter(self) -> "SlidingWindowCounterRateLimiter":
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        return SlidingWindowCounterRateLimiter(MemoryStorage())
