"""The store: the local folder or HDFS directory that holds corpora, models and runs, written a whole file at a time.

Every file appears under its final name complete or not at all: it is written under a temporary name and renamed.
Paths are relative to the store's root and use forward slashes.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from conf.errors import TinyTagsError
from storage import hdfs_client

if TYPE_CHECKING:
    import pyarrow

# Mapping saves a fifth of the time it takes to read a partition, but what is mapped counts as the worker's memory.
MAPPED_BYTES = 128 << 20
# A file goes to the disk in pieces of this size, and to HDFS in smaller ones, which stay in the processor's cache.
PIECE_BYTES = 4 << 20
UPLOAD_BYTES = 1 << 20
# What is smaller is gathered before it is written.
SMALL_BYTES = 64 * 1024
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_SYNC_WRITE = 2  # SYNC_FILE_RANGE_WRITE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A run's name is those of its corpus and its model, and a hash.
_LONGEST = {"run": 210}
# Whoever tries for a lease that another holds has such a temporary file for a moment.
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
    can't be read or written.
    """

    def url(self, path: str = "") -> str:
        """Return the full address of ``path``, for messages and for people."""
        ...

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return up to ``length`` bytes of ``path`` from ``offset``; all of the rest by default."""
        ...

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object in ``path``. Raises `StoreError` for a file that holds anything else."""
        ...

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
        ...

    def write_in_steps(self, path: str, write: Callable[[Any], Iterator[None]]) -> int:
        """Write ``path`` by ``write(file)``, a generator that yields after every few megabytes; return the size.

        The file is never in memory as a whole. ``write`` is called again, with a new file, where the store starts the
        upload anew. ``file`` has ``write`` and ``tell`` and is what `pyarrow.parquet.ParquetWriter` takes.
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
            f"{kind} name {name!r} won't do: up to {longest} letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return name


def open_store(url: str, webhdfs: str | None = None) -> Store:
    """Return the store at ``url``: a local folder, or ``hdfs://HOST:PORT/PATH`` spoken to by WebHDFS at ``webhdfs``."""
    if url.startswith("hdfs://"):
        default = hdfs_client.default_address(url)
        return HdfsStore(
            url.rstrip("/"), urlsplit(url).path.rstrip("/"), webhdfs or default, hdfs_client.user()
        )
    if "://" in url and not url.startswith("file://"):
        raise TinyTagsError(f"store {url!r} is neither a local folder nor hdfs://HOST:PORT/PATH")
    return LocalStore(os.path.abspath(url.removeprefix("file://")))


class _Json:
    """JSON files on top of a store's bytes."""

    def read_json(self, path: str) -> dict:
        data = self.read_bytes(path)
        try:
            value = json.loads(data)
        except ValueError as error:
            raise StoreError(f"{self.url(path)}: is not JSON ({error}); was it edited by hand?") from None
        if not isinstance(value, dict):
            raise StoreError(f"{self.url(path)}: holds JSON, but not an object; was it edited by hand?")
        return value

    def write_json(self, path: str, value: dict) -> None:
        self.write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")


class _EarlyFile(io.FileIO):
    """A file that starts on its way to the disk while more of it is written: a third less time for a large one."""

    _written = _started = 0

    def write(self, data) -> int:
        count = super().write(data)
        self._written += count
        self._started = _start(self.fileno(), self._started, self._written)
        return count


def _start(fileno: int, started: int, written: int) -> int:
    """Start what was ``written`` since ``started`` on its way to the disk, where that is much; return what is started.

    By Linux's sync_file_range(2), which only starts; elsewhere all of it waits for the fsync at the end.
    """
    if written - started < PIECE_BYTES or not _SYNC_FILE_RANGE:
        return started
    _SYNC_FILE_RANGE(fileno, ctypes.c_int64(started), ctypes.c_int64(written - started), _SYNC_WRITE)
    return written


@dataclass(frozen=True)
class LocalStore(_Json):
    """A store in a local folder."""

    root: str

    def url(self, path: str = "") -> str:
        return str(Path(self.root, path))

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._errors(path), open(self.url(path), "rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def open_arrow(self, path: str):
        """Return a pyarrow file to read ``path`` from, mapped rather than copied where it is of the usual size."""
        import pyarrow

        with self._errors(path):
            size = self.size(path)
            if size == 0:  # mmap refuses these with a message of its own
                return pyarrow.BufferReader(b"")
            return (
                pyarrow.memory_map(self.url(path)) if size <= MAPPED_BYTES else pyarrow.OSFile(self.url(path))
            )

    open_ranged = open_arrow

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """Give a file to write; it becomes ``path`` when the block ends, and nothing when it fails."""
        with self._becoming(path) as temporary, io.BufferedWriter(_EarlyFile(temporary, "wb")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def write_bytes(self, path: str, data: bytes) -> None:
        with self.writer(path) as file:
            file.write(data)

    def write_in_steps(self, path: str, write: Callable[[BinaryIO], Iterator[None]]) -> int:
        """Write ``path`` by ``write(file)``, a generator that yields whenever some megabytes are written; return its size.

        So nothing is in memory as a whole. A store that is far away may begin again: then ``write`` is called once more.
        The file is one of pyarrow, which would copy what it writes to one of Python.
        """
        import pyarrow

        started = 0
        with self._becoming(path) as temporary:
            plain = pyarrow.OSFile(str(temporary), "wb")
            with pyarrow.BufferedOutputStream(plain, SMALL_BYTES) as file, open(temporary, "rb") as same:
                for _ in write(file):
                    started = _start(same.fileno(), started, file.tell())
                file.flush()
                os.fsync(same.fileno())
                return file.tell()

    @contextlib.contextmanager
    def _becoming(self, path: str) -> Iterator[Path]:
        """Give a temporary path; it is renamed to ``path`` when the block ends, and removed when it fails."""
        final = Path(self.root, path)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.tmp")
        with self._errors(path):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                os.replace(temporary, final)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create ``path`` holding ``data`` unless it exists; return whether it was created."""
        final = Path(self.root, path)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.tmp")
        with self._errors(path):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            try:
                os.link(temporary, final)  # unlike O_EXCL and a write, never seen half-written
                return True
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return Path(self.root, path).exists()

    def size(self, path: str) -> int:
        with self._errors(path):
            return os.path.getsize(self.url(path))

    def list(self, path: str) -> list[str]:
        """Return the sorted names in the folder ``path``, without temporary files; empty where there is no such folder."""
        try:
            return sorted(name for name in os.listdir(self.url(path)) if not name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.url(path)}: {error.strerror}") from None

    def times(self, path: str) -> dict[str, float]:
        """Return what `list` does, each with when it was last written (a folder: when a file came into it or went), in
        seconds since 1970 by the clock of the store."""
        found = {}
        try:
            with os.scandir(self.url(path)) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        with contextlib.suppress(FileNotFoundError):  # it went since
                            found[entry.name] = entry.stat().st_mtime
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"{self.url(path)}: {error.strerror}") from None
        return dict(sorted(found.items()))

    def remove(self, path: str) -> None:
        with self._errors(path):
            Path(self.root, path).unlink(missing_ok=True)

    def remove_tree(self, path: str) -> None:
        with self._errors(path):
            if Path(self.root, path).exists():
                shutil.rmtree(self.url(path))

    def remove_temporary(self, path: str) -> None:
        """Remove what killed writers left in the folder ``path``; only for the holder of its lease."""
        with self._errors(path):
            for left in Path(self.root, path).glob(".*.tmp"):
                if not _LEASE.match(left.name):
                    left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise FileMissingError(f"{self.url(path)}: no such file", path) from None
        except OSError as error:
            if error.errno is None:
                raise
            raise StoreError(f"{self.url(path)}: {error.strerror}") from error


@dataclass(frozen=True)
class HdfsStore(_Json):
    """A store in HDFS, through WebHDFS with bounded timeouts and retries."""

    root_url: str
    root: str
    webhdfs: str
    user: str

    def url(self, path: str = "") -> str:
        return f"{self.root_url}/{path}".rstrip("/")

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        def read() -> bytes:
            with self._client.read(self._full(path), offset=offset, length=length) as response:
                return response.read()

        return self._retry(path, read)

    def open_arrow(self, path: str):
        """Return a pyarrow file to read ``path`` from, fetched whole."""
        import pyarrow

        return pyarrow.BufferReader(self.read_bytes(path))

    def open_ranged(self, path: str):
        """Return a pyarrow file that fetches of ``path`` only the ranges that are read."""
        import pyarrow

        return pyarrow.PythonFile(_RangedFile(self, path, self.size(path)), mode="r")

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """Give a buffer to write; it is uploaded as ``path`` when the block ends, and nothing when it fails."""
        buffer = io.BytesIO()
        yield buffer
        self.write_bytes(path, buffer.getbuffer())

    def write_bytes(self, path: str, data: bytes) -> None:
        # Sent with its length, it is written whole or refused, and need not be looked at.
        self._upload(path, lambda temporary: self._client.write(temporary, data=_Sized(data), overwrite=True))

    def write_in_steps(self, path: str, write: Callable[[BinaryIO], Iterator[None]]) -> int:
        """Write ``path`` by ``write(file)``, a generator that yields whenever some megabytes are written; return its size."""

        def pieces() -> Iterator[bytes]:
            file = _Pieces()
            for _ in write(file):
                yield from file.take()
            yield from file.take()

        def send(temporary: str) -> int:
            sent = 0

            def count() -> Iterator[bytes]:
                nonlocal sent
                for piece in pieces():
                    sent += len(piece)
                    yield piece

            self._client.write(temporary, data=count(), overwrite=True)
            length = self._client.status(temporary)["length"]
            if length != sent:
                raise StoreError(
                    f"{self.url(path)}: {length:,} of {sent:,} bytes arrived; is a DataNode failing?"
                )
            return sent

        return self._upload(path, send)

    def _upload(self, path: str, send: Callable[[str], object]):
        """Write ``path`` by ``send(temporary path)``, called anew for each attempt; return what it returns."""
        full = self._full(path)
        folder, name = full.rsplit("/", 1)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:12]}.tmp"

        def write():
            sent = send(temporary)
            # HdfsCLI's own rename fails where the name is taken.
            self._client._rename(temporary, destination=full, renameoptions="OVERWRITE")
            return sent

        try:
            return self._retry(path, write)
        except BaseException:
            with contextlib.suppress(Exception):
                # A DataNode that was only just asked may create it a moment after we gave up.
                for _ in range(3):
                    if self._client.delete(temporary):
                        break
                    time.sleep(0.3)
            raise

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create ``path`` holding ``data`` unless it exists; return whether it was created."""
        full = self._full(path)
        folder, name = full.rsplit("/", 1)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:12]}.tmp"

        def create() -> bool:
            self._client.write(temporary, data=data, overwrite=True)
            done = self._client._rename(temporary, destination=full).json()[
                "boolean"
            ]  # refuses a name that is taken
            if not done:
                self._client.delete(temporary)
            return done

        return self._retry(path, create)

    def exists(self, path: str) -> bool:
        return self._retry(path, lambda: self._client.status(self._full(path), strict=False)) is not None

    def size(self, path: str) -> int:
        return self._retry(path, lambda: self._client.status(self._full(path)))["length"]

    def list(self, path: str) -> list[str]:
        """Return the sorted names in the folder ``path``, without temporary files; empty where there is no such folder."""
        return list(self.times(path))

    def times(self, path: str) -> dict[str, float]:
        """Return what `list` does, each with when it was last written (a folder: when a file came into it or went), in
        seconds since 1970 by the clock of the store."""
        found = {name: status["modificationTime"] / 1000 for name, status in self._entries(path)}
        return {name: found[name] for name in sorted(found) if not name.startswith(".")}

    def _entries(self, path: str) -> Sequence[tuple[str, dict]]:
        """Return what is in a folder with what HDFS says of it, by one request; nothing where there is no such folder."""
        from hdfs.util import HdfsError

        def entries() -> Sequence[tuple[str, dict]]:
            try:
                return self._client.list(self._full(path), status=True)
            except HdfsError as error:
                if error.exception == "FileNotFoundException":
                    return []
                raise

        return self._retry(path, entries)

    def remove(self, path: str) -> None:
        self._retry(path, lambda: self._client.delete(self._full(path)))

    def remove_tree(self, path: str) -> None:
        self._retry(path, lambda: self._client.delete(self._full(path), recursive=True))

    def remove_temporary(self, path: str) -> None:
        """Remove what killed writers left in the folder ``path``; only for the holder of its lease."""
        for name, _ in self._entries(path):
            if name.startswith(".") and name.endswith(".tmp") and not _LEASE.match(name):
                self.remove(f"{path}/{name}")

    @property
    def _client(self):
        return hdfs_client.client(self.webhdfs, self.user)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/") or "/"

    def _retry(self, path: str, action):
        return hdfs_client.ask(
            self.url(path), self.webhdfs, action, StoreError, FileUnavailableError, StoreUnavailableError
        )


class _Sized:
    """Bytes to send in pieces, announced with their length."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._data[at : at + UPLOAD_BYTES] for at in range(0, len(self), UPLOAD_BYTES))


class _Pieces(io.RawIOBase):
    """A file that is written into, and taken from in pieces."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> Iterator[bytes]:
        """Yield what was written since the last time, small parts joined."""
        parts, self._parts = self._parts, []
        small: list[bytes] = []
        for part in parts:
            if len(part) < UPLOAD_BYTES // 4:
                small.append(part)
                continue
            if small:
                yield b"".join(small)
                small = []
            yield part
        if small:
            yield b"".join(small)


class _RangedFile(io.RawIOBase):
    """A file of an HDFS store to read from anywhere, one request a read."""

    def __init__(self, store: HdfsStore, path: str, size: int) -> None:
        self._store, self._path, self._size, self._position = store, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length == 0:
            return b""
        data = self._store.read_bytes(self._path, self._position, length)
        self._position += len(data)
        return data
