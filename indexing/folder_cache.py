"""A cache of one folder of the store: its manifest, its numbered files and what was read of them, until they change."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from storage import layout
from storage.store import Store

# A file may come into a folder within one tick of the store's clock after a listing, and the folder's time stay the same.
STABLE_SECONDS = 2.0

T = TypeVar("T")


@dataclass
class _Listing:
    """The numbered files of a folder with their times, and the folder's own time when it was listed."""

    written: float
    first: float  # when the folder was first seen with this time
    last: float  # when it was listed
    numbers: dict[int, float]


class FolderCache:
    """The folder of a corpus or run; call `refresh` before each use. For one thread at a time."""

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path
        self._times: dict[str, float] = {}
        self._manifest_written: float | None = None
        self._files: dict[str, tuple[float, Any]] = {}
        self._listings: dict[str, _Listing] = {}

    def refresh(self) -> None:
        """List the folder. With another manifest it is another corpus or run, and nothing is kept."""
        self._times = self.store.times(self.path)
        written = self._times.get(layout.MANIFEST)
        if written != self._manifest_written:
            self._manifest_written = written
            self._files.clear()
            self._listings.clear()

    def has(self, name: str) -> bool:
        """Whether the folder has a file or folder of this name."""
        return name in self._times

    def written(self, name: str) -> float | None:
        """Return the time of a file or folder of this name; None where there is none."""
        return self._times.get(name)

    def manifest(self, read: Callable[[], T]) -> T | None:
        """Return the manifest, by ``read``; None where there is none."""
        if self._manifest_written is None:
            return None
        return self.read(layout.MANIFEST, self._manifest_written, lambda path: read())

    def numbers(self, name: str, ending: str = ".json") -> dict[int, float]:
        """Return the numbered files of a folder in this one with their times; listed only after it has changed."""
        written = self._times.get(name)
        if written is None:
            return {}
        now, known = time.monotonic(), self._listings.get(name)
        if known and known.written == written and known.last - known.first >= STABLE_SECONDS:
            return known.numbers
        numbers = {
            int(file.removesuffix(ending)): at
            for file, at in self.store.times(f"{self.path}/{name}").items()
            if file.endswith(ending) and file.removesuffix(ending).isdecimal()
        }
        first = known.first if known and known.written == written else now
        self._listings[name] = _Listing(written, first, now, dict(sorted(numbers.items())))
        return self._listings[name].numbers

    def is_read(self, path: str, written: float) -> bool:
        return path in self._files and self._files[path][0] == written

    def read(self, path: str, written: float, read: Callable[[str], T]) -> T:
        """Return what ``read`` returns for a file, called once for each time at which the file was ``written``."""
        if not self.is_read(path, written):
            self._files[path] = (written, read(path))
        value: T = self.known(path)
        return value

    def known(self, path: str) -> Any:
        """Return what was read of a file."""
        return self._files[path][1]
