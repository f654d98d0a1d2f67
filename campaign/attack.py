"""An attack and its outcome."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class NotRunError(Exception):
    """This machine lacks what an attack needs; the message says what."""


@dataclass(frozen=True)
class Attack:
    """One line of the registry: the module below `campaign.attacks`, and how often it tries at ``N=1``.

    Attacks of less than one try at the given N are left out.
    """

    name: str
    figure: str  # what one try is
    rate: float

    def tries(self, n: float) -> int:
        """Return how often to try at ``N=n``."""
        return math.floor(self.rate * n + 1e-9)


@dataclass
class Outcome:
    """How often an attack was tried, and each loss as one line."""

    tried: int = 0
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(
        default_factory=list
    )  # facts beside the losses: times, how many commands failed cleanly
    seconds: float = 0.0
    not_run: str = ""  # why it was not run
    progress: Callable[[int], None] = field(default=lambda tries: None, repr=False, compare=False)

    def attempts(self, tries: int) -> Iterator[None]:
        """Yield until ``tries`` have counted; at most 4 for each and 10 more, because a kill at a random moment can come too late."""
        for _ in range(4 * tries + 10):
            if self.tried >= tries:
                return
            yield

    def count(self) -> None:
        """Count one more try."""
        self.tried += 1
        self.progress(1)

    def lost(self, line: str) -> None:
        self.losses.append(line)

    @property
    def bound(self) -> float | None:
        """The rate of losses that no loss in so many tries excludes at 95 %: 3 / tries (rule of three); None after a loss."""
        return 3 / self.tried if self.tried and not self.losses else None
