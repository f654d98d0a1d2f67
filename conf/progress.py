"""Progress, rate and time left of long work, on stderr: a bar on a terminal, otherwise a line every ten seconds."""

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from conf.wording import duration

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_SECONDS = 10


class Progress:
    """Counts finished work towards a total; a context manager.

    ``with Progress("tag", 80_000, "images") as progress: ... progress.add(20_000)``. ``done`` starts it with what an
    earlier attempt did, which counts towards the total but not towards the rate.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0, stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.stream = stream or sys.stderr
        self.start, self.done = done, done
        self.began = self.printed = time.monotonic()
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> "Progress":
        if self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.total, initial=self.done, desc=self.what, unit=f" {self.unit}", unit_scale=True,
                dynamic_ncols=True, file=self.stream, leave=False,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def add(self, count: int) -> None:
        """Count ``count`` more as done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.printed >= LINE_SECONDS:
            self.printed = time.monotonic()
            print(self.line(), file=self.stream, flush=True)

    def line(self) -> str:
        """Return the progress as one line: ``tag: 40,000 of 80,000 images (50%), 21,000 images/s, 2 s left``."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate = (self.done - self.start) / seconds
        share = self.done / self.total if self.total else 1
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 else ""
        number = f"{rate:,.0f}" if rate >= 1 or not rate else f"{rate:.2g}"
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit} ({share:.0%}), {number} {self.unit}/s{left}"
