"""Which partitions a job does, the records of those that failed, and the lines that sum a job up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conf.command import note, select_partitions
from conf.errors import TinyTagsError
from conf.wording import counted, duration, listed
from storage.store import Store


def choose_pending(
    store: Store,
    what: str,
    partitions: int,
    done: list[int],
    redo: Sequence[tuple[int, int]],
    marker: Callable[[int], str],
) -> list[int]:
    """Return the partitions to do: those not ``done``, or those in ``redo``, whose markers are removed first."""
    chosen = select_partitions(redo, partitions, what)
    for partition in chosen:
        store.remove(marker(partition))
    if done and not chosen:
        note(f"{what}: {len(done):,} of {counted(partitions, 'partition')} done already")
    return chosen or sorted(set(range(partitions)) - set(done))


def check_written(store: Store, results: list[dict[str, Any]], done: list[int]) -> None:
    """Raise `TinyTagsError` where tasks wrote partitions that are not ``done`` here: each to a disk of its own machine."""
    lost = {result["partition"] for result in results} - set(done)
    if lost:
        raise TinyTagsError(
            f"{counted(len(lost), 'partition')} written, but not to {store.url()} as it is seen here; executors on other "
            "machines need a store that all of them see: --store hdfs://HOST:8020/PATH"
        )


def record_failed(
    store: Store, path: Callable[[int], str], errors: Mapping[int, TinyTagsError], succeeded: set[int]
) -> None:
    """Write why partitions failed, for `tinytags status`, and remove the records of those that succeeded since.

    A record is {"partition", "error"}, and "remedy" where the error has one: the verb that helps, "ingest" for a
    partition file that is damaged or missing.
    """
    for partition, error in errors.items():
        record = {"partition": partition, "error": str(error)}
        if error.remedy:
            record["remedy"] = error.remedy
        store.write_json(path(partition), record)
    folder = path(0).rsplit("/", 1)[0]
    for name in set(store.list(folder)) & {path(partition).rsplit("/", 1)[1] for partition in succeeded}:
        store.remove(f"{folder}/{name}")


def partitions_error(what: str, errors: Mapping[int, object], partitions: int) -> TinyTagsError:
    """Return the error for partitions that failed: which, and why the first one did."""
    first = min(errors)
    return TinyTagsError(
        f"{len(errors):,} of {counted(partitions, 'partition')} not {what}: {listed(sorted(errors), 20)}; the first: {errors[first]}"
    )


def rate_summary(done: str, partitions: int, result: Mapping[str, Any]) -> str:
    """Return how many partitions were ``done`` now and how fast, as the end of a summary."""
    if not partitions:
        return "" if result.get("failed") else "; all done already"
    rate = f"{result['images_per_second']:,.0f} images/s"
    return f"; {counted(partitions, 'partition')} {done} now in {duration(result['seconds'])}, start-up included ({rate})"
