"""The store: the folder, local or remote, that holds corpora, models and runs, written a whole file at a time.

A backend is one file beside this one, with one line in `BACKENDS`.
"""

import contextlib
import json
import pkgutil
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from conf.errors import TinyTagsError

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
# A process that tries for a lease that another holds has such a temporary file for a moment.
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


class FileUnavailableError(StoreError):
    """HDFS knows the file but can't give all of it now, which doesn't mean that the file is broken."""


class StoreUnavailableError(StoreError):
    """The store as a whole does not answer: no other file of it can be read or written either."""


class Store(Protocol):
    """A folder of files, local or remote, each written whole: under a temporary name that is then renamed.

    Paths are relative to the store's root and use forward slashes. Many threads and processes may use one store at
    once. Every method raises `StoreUnavailableError` where the store does not answer and `StoreError` for a file that
    can't be read or written. A backend inherits from this class and writes every method but those for JSON.
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
        """Return the JSON object in ``path``. Raises `StoreError` for a file that holds anything else."""
        data = self.read_bytes(path)
        try:
            value = json.loads(data)
        except ValueError as error:
            raise StoreError(
                f"{self.url(path)}: is not JSON ({error}); was it edited by hand?", path
            ) from None
        if not isinstance(value, dict):
            raise StoreError(f"{self.url(path)}: holds JSON, but not an object; was it edited by hand?", path)
        return value

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
        """Write ``value`` as ``path``: UTF-8, one line a key, a newline at the end."""
        self.write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")

    def write_in_steps(self, path: str, write: Callable[[Any], Iterator[None]]) -> int:
        """Write ``path`` by ``write(file)``, a generator that yields after every few megabytes; return the size.

        The file is never in memory as a whole. ``write`` is called again, with a new file, where the store restarts
        the upload. ``file`` has ``write`` and ``tell`` and is what `pyarrow.parquet.ParquetWriter` takes.
        """
        ...

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create ``path`` holding ``data`` unless it exists; return whether it was created. Never half-written."""
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

    def remove_temporary(self, path: str) -> None:
        """Remove what killed writers left in the folder ``path``; only for the holder of its lease."""
        ...


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


def temporary_path(path: str) -> str:
    """Return a new temporary name for a file that will be renamed to ``path``, in the same folder; `is_leftover` is true for it."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{uuid.uuid4().hex[:12]}.tmp"


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is a killed writer's, to be removed by the holder of the folder's lease."""
    return name.startswith(".") and name.endswith(".tmp") and not _LEASE.match(name)
