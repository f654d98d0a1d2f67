"""When a job of a step finished last, how much it did and how long that took: for people only, no step depends on it."""

from datetime import UTC, datetime
from typing import TypedDict

from conf.command import note
from storage import layout
from storage.store import Store, StoreError


class Finished(TypedDict):
    """The last job of a step that did something. A job that continues another one counts only what it did itself."""

    step: str
    ended: str  # ISO 8601, UTC
    count: int
    unit: str  # images, documents or partitions
    seconds: float  # from its start to its end
    per_second: float | None  # while it worked, without the start of Spark


def record_finished(
    store: Store,
    folder: str,
    step: str,
    count: int,
    unit: str,
    seconds: float,
    per_second: float | None = None,
) -> None:
    """Write that a job has just finished; for the holder of the lease. One that did nothing leaves what is there.

    Where that fails there is a note, and no error: what the job did is in the store.
    """
    if count:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        finished: Finished = {
            "step": step, "ended": ended, "count": count, "unit": unit, "seconds": round(seconds, 3),
            "per_second": per_second and round(per_second, 1),
        }  # fmt: skip
        path = layout.finished(folder, step)
        try:
            store.write_json(path, dict(finished))
        except StoreError as error:
            note(f"{step}: when it finished is not recorded: {error}")
