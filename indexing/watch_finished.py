"""The last job of each step of a corpus, run, features or annotations, as its folder has them."""

from indexing.folder_cache import FolderCache
from storage import layout
from storage.finished import Finished
from storage.store import StoreError, StoreUnavailableError


def finished_jobs(folder: FolderCache, *steps: str) -> list[Finished]:
    """Return what is known of the last job of each of these steps; nothing of one that an earlier version did.

    Raises `StoreUnavailableError`. A file that is damaged only hides a time, so it counts as missing.
    """
    jobs = []
    for step in steps:
        path = layout.finished(folder.path, step)
        written = folder.written(path.rpartition("/")[2])
        finished = None if written is None else folder.read(path, written, lambda path: _read(folder, path))
        if finished is not None:
            jobs.append(finished)
    return jobs


def _read(folder: FolderCache, path: str) -> Finished | None:
    try:
        record = folder.store.read_json(path)
        return {key: record[key] for key in Finished.__annotations__}  # type: ignore[return-value]  # all its keys
    except StoreUnavailableError:
        raise
    except (StoreError, KeyError):
        return None
