"""The store: the folder, local or remote, that holds corpora, models and runs, written a whole file at a time.

A backend is one file beside this one, with one line in `BACKENDS`.
"""

import contextlib
import pkgutil
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from conf.errors import TinyTagsError
from conf.notes import note_at_end
from conf.settings import Settings
from storage import checked_json

if TYPE_CHECKING:
    import pyarrow

# The function that opens a store, by the scheme of its URL: called with the URL and the setting webhdfs, or None.
# As a name, so that a backend and its libraries are only imported where they are used.
BACKENDS = {
    "file": "storage.local:open_local",
    "hdfs": "storage.hdfs:open_hdfs",
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A run's name is those of its corpus and its model, and a hash.
_LONGEST = {"run": 210}
# The temporary file of a process that tries for a lease, which `storage.lease` removes.
_LEASE = re.compile(r"\.[a-z-]*lease\.json\.")


class StoreError(TinyTagsError):
    """A file of the store can't be read or written; ``path`` is the file's, relative to the store's root, where known."""

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.path)


class FileMissingError(StoreError):
    """There is no such file."""


class DamagedFileError(StoreError):
    """The file holds something else than what was written."""


class FileUnavailableError(StoreError):
    """HDFS knows the file but can't give all of it now, which doesn't mean that the file is broken."""


class StoreUnavailableError(StoreError):
    """The store as a whole does not answer: no other file of it can be read or written either."""


class Store(Protocol):
    """A folder of files, local or remote, each written whole: under a temporary name that is then renamed.

    Paths are relative to the store's root and use forward slashes. Many threads and processes may use one store at
    once. Every method raises `StoreUnavailableError` where the store does not answer and `StoreError` for a file that
    can't be read or written. A backend inherits from this class and writes every method but those for JSON
    and for removing temporary files.
    """

    def __hash__(self) -> int:
        """Return a hash that is the same for equal stores: models and footers are cached by their store."""
        return super().__hash__()

    def url(self, path: str = "") -> str:
        """Return the full address of ``path``, for messages."""
        ...

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return up to ``length`` bytes of ``path`` from ``offset``; all of the rest by default."""
        ...

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object in ``path``. Raises `DamagedFileError` for a file that isn't as `write_json` wrote it.

        A file without a checksum, by version 0.1, is read as it is; the command then prints a note at its end.
        """
        try:
            value, checked = checked_json.decode(self.read_bytes(path))
        except checked_json.DamagedError as error:
            raise DamagedFileError(
                f"{self.url(path)}: {error}; remove it and repeat the command that wrote it", path
            ) from None
        if not checked:
            self._note_unchecked()
        return value

    def write_lines(self, path: str, lines: bytes) -> None:
        """Write JSON lines to ``path``, with their checksum on a last line."""
        self.write_bytes(path, checked_json.encode_lines(lines))

    def read_lines(self, path: str) -> list[bytes]:
        """Return the lines that `write_lines` wrote. Raises `DamagedFileError` for a file that isn't as it was written.

        A file without a checksum is read as `read_json` does.
        """
        try:
            lines, checked = checked_json.decode_lines(self.read_bytes(path))
        except checked_json.DamagedError as error:
            raise DamagedFileError(f"{self.url(path)}: {error}", path) from None
        if not checked:
            self._note_unchecked()
        return lines

    def _note_unchecked(self) -> None:
        note_at_end(
            f"{self.url()}: some files are from an earlier version and have no checksum, so damage to them isn't found; "
            "`tinytags verify RUN --repair` adds checksums"
        )

    def open_arrow(self, path: str) -> "pyarrow.NativeFile":
        """Return a pyarrow file for reading all of ``path``."""
        ...

    def open_ranged(self, path: str) -> "pyarrow.NativeFile":
        """Return a pyarrow file for reading small parts of ``path``: only the ranges read are fetched."""
        ...

    def writer(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Return a context manager that gives a file to write; it becomes ``path`` unless the block fails."""
        ...

    def write_bytes(self, path: str, data: bytes | memoryview) -> None:
        """Write ``data`` as ``path``, replacing the file that is there."""
        ...

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write ``value`` as ``path`` with a checksum; the same value gives the same bytes."""
        self.write_bytes(path, checked_json.encode(value))

    def add_checksum(self, path: str) -> None:
        """Write the JSON object or lines in ``path`` again where they have no checksum; nothing happens to a damaged file."""
        data = self.read_bytes(path)
        with contextlib.suppress(checked_json.DamagedError):
            if path.endswith(".jsonl"):
                if not checked_json.decode_lines(data)[1]:
                    self.write_lines(path, data)
            elif not checked_json.has_checksum(data):
                self.write_json(path, checked_json.decode(data)[0])

    def write_in_steps(self, path: str, write: Callable[[Any], Iterator[None]]) -> int:
        """Write ``path`` by ``write(file)``, a generator that yields after every few megabytes; return the size.

        The file is never in memory as a whole. ``write`` is called again, with a new file, where the store restarts
        the upload. ``file`` has ``write`` and ``tell`` and is what `pyarrow.parquet.ParquetWriter` takes.
        """
        ...

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create ``path`` holding ``data`` unless it exists; return whether it was created. Never half-written.

        When it returns, the file survives a power cut.
        """
        ...

    def sync(self, path: str) -> None:
        """Let the files in the folder ``path`` and in the folders in it survive a power cut, also what other processes wrote.

        Without it, files of one process survive in the order in which they were written: no marker without its data.
        """
        ...

    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder ``path``."""
        ...

    def size(self, path: str) -> int:
        """Return the size of ``path`` in bytes."""
        ...

    def list(self, path: str) -> list[str]:
        """Return the sorted names in the folder ``path`` without temporary files; empty where there is no such folder."""
        ...

    def times(self, path: str) -> dict[str, float]:
        """Return the names that `list` does, each with its time of writing in seconds since 1970 by the store's clock.

        A folder's time is that of the last file created in it, renamed into it or removed from it.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove the file ``path``; nothing happens where there is none."""
        ...

    def remove_tree(self, path: str) -> None:
        """Remove the folder ``path`` with everything in it; nothing happens where there is none."""
        ...

    def temporary(self, path: str) -> dict[str, float]:
        """Return the temporary files in the folder ``path``, whose names begin with a dot, with times as `times` does."""
        ...

    def remove_temporary(self, path: str) -> None:
        """Remove what killed writers left in the folder ``path``; only for the holder of its lease."""
        for name in self.temporary(path):
            if is_leftover(name):
                self.remove(f"{path}/{name}")

    def remove_temporary_below(self, path: str) -> None:
        """Remove what killed writers left in the folders in ``path``; only for the holder of its lease.

        Folders that hold nothing else may be left out.
        """
        for name in self.list(path):
            self.remove_temporary(f"{path}/{name}")


def check_name(kind: str, name: str) -> str:
    """Return ``name`` if it may name a corpus, model or run (it becomes a folder and a Solr collection)."""
    longest = _LONGEST.get(kind, 100)
    if not _NAME.fullmatch(name) or len(name) > longest:
        raise TinyTagsError(
            f"{kind} name {name!r} is not valid: up to {longest} letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return name


def open_store(url: str, webhdfs: str | None = None) -> Store:
    """Return the store at ``url``: a local folder, or a URL whose scheme `BACKENDS` has.

    ``webhdfs`` is the address of an HDFS store's WebHDFS where it isn't the default one. Raises `TinyTagsError` for a
    URL that no backend opens.
    """
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme not in BACKENDS:
        schemes = ", ".join(f"{name}://" for name in BACKENDS)
        raise TinyTagsError(
            f"store {url!r}: no store has URLs of {scheme}://; write a local folder or one of {schemes}"
        )
    store: Store = pkgutil.resolve_name(BACKENDS[scheme])(url, webhdfs)
    return store


def store_of(settings: Settings) -> Store:
    """Return the store that the settings name, as `open_store` does."""
    return open_store(settings.store, settings.webhdfs or None)


def temporary_path(path: str) -> str:
    """Return a new temporary name for a file that will be renamed to ``path``, in the same folder; `is_leftover` is true for it."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{uuid.uuid4().hex[:12]}.tmp"


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is a killed writer's, to be removed by the holder of the folder's lease."""
    return name.startswith(".") and name.endswith(".tmp") and not _LEASE.match(name)
