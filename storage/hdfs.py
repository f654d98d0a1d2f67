"""A store in HDFS, through WebHDFS with time limits and retries."""

import contextlib
import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from conf.addresses import split_login
from storage import hdfs_client
from storage.hdfs_client import PositionedFile
from storage.store import (
    FileMissingError,
    FileUnavailableError,
    Store,
    StoreError,
    StoreUnavailableError,
    temporary_path,
)

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

# Pieces of this size stay in the processor's cache.
UPLOAD_BYTES = 1 << 20
THREADS = 8

_ERRORS: dict[str, type[StoreError]] = {
    "missing": FileMissingError,
    "file": StoreError,
    "file unavailable": FileUnavailableError,
    "unavailable": StoreUnavailableError,
}


def open_hdfs(url: str, address: str | None = None) -> "HdfsStore":
    """Return the store at ``url`` (``hdfs://HOST:PORT/PATH``), whose WebHDFS listens at ``address``."""
    default = hdfs_client.default_address(url)
    url = split_login(url)[0]
    return HdfsStore(url.rstrip("/"), urlsplit(url).path.rstrip("/"), address or default, hdfs_client.user())


@dataclass(frozen=True)
class HdfsStore(Store):
    """A store in the folder ``root`` of the HDFS at ``root_url``, as ``user`` through WebHDFS at ``webhdfs``."""

    root_url: str
    root: str
    webhdfs: str = field(repr=False)  # may have a password in it
    user: str

    def url(self, path: str = "") -> str:
        return f"{self.root_url}/{path}".rstrip("/")

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        def read() -> bytes:
            with self._client.read(self._full(path), offset=offset, length=length) as response:
                data: bytes = response.read()
                return data

        return self._retry(path, read)

    def open_arrow(self, path: str) -> "pyarrow.NativeFile":
        """Fetch the file whole."""
        import pyarrow

        return pyarrow.BufferReader(self.read_bytes(path))

    def open_ranged(self, path: str) -> "pyarrow.NativeFile":
        import pyarrow

        return pyarrow.PythonFile(_RangedFile(self, path, self.size(path)), mode="r")

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        self.write_bytes(path, buffer.getbuffer())

    def write_bytes(self, path: str, data: bytes | memoryview) -> None:
        # Sent with its length, it is written whole or rejected, so its size needs no check.
        self._upload(path, lambda temporary: self._client.write(temporary, data=_Sized(data), overwrite=True))

    def write_in_steps(self, path: str, write: Callable[[Any], Iterator[None]]) -> int:
        def send(temporary: str) -> int:
            sent = 0

            def pieces() -> Iterator[bytes]:
                nonlocal sent
                file = _Pieces()
                for _ in itertools.chain(write(file), [None]):  # a last time for what follows the last step
                    for piece in file.take():
                        sent += len(piece)
                        yield piece

            self._client.write(temporary, data=pieces(), overwrite=True)
            length = self._client.status(temporary)["length"]
            if length != sent:
                raise StoreError(
                    f"{self.url(path)}: {length:,} of {sent:,} bytes arrived; is a DataNode failing?", path
                )
            return sent

        return self._upload(path, send)

    def create_exclusive(self, path: str, data: bytes) -> bool:
        full = self._full(path)
        left: list[str] = []

        def create() -> bool:
            left.append(self._full(temporary_path(path)))
            self._client.write(left[-1], data=data, overwrite=True)
            # Without OVERWRITE, a rename to a name that is taken does nothing and returns false.
            created = bool(self._client._rename(left[-1], destination=full).json()["boolean"])
            if created:
                left.pop()
            return created

        try:
            for _ in range(2):
                # The holder of the lease may have removed our temporary file.
                with contextlib.suppress(FileMissingError):
                    return bool(self._retry(path, create))
            return bool(self._retry(path, create))
        finally:
            self._remove_left(left)

    def sync(self, path: str) -> None:
        """Do nothing: the NameNode has synced every name when it answers, and DataNodes sync every block (`hdfs_client.client`)."""

    def exists(self, path: str) -> bool:
        return self._retry(path, lambda: self._client.status(self._full(path), strict=False)) is not None

    def size(self, path: str) -> int:
        return int(self._retry(path, lambda: self._client.status(self._full(path)))["length"])

    def list(self, path: str) -> list[str]:
        return [*self.times(path)]

    def times(self, path: str) -> dict[str, float]:
        times = {name: status["modificationTime"] / 1000 for name, status in self._entries(path)}
        return {name: times[name] for name in sorted(times) if not name.startswith(".")}

    def remove(self, path: str) -> None:
        self._retry(path, lambda: self._client.delete(self._full(path)))

    def remove_tree(self, path: str) -> None:
        self._retry(path, lambda: self._client.delete(self._full(path), recursive=True))

    def temporary(self, path: str) -> dict[str, float]:
        return {
            name: status["modificationTime"] / 1000
            for name, status in self._entries(path)
            if name.startswith(".") and name.endswith(".tmp")
        }

    def remove_temporary_below(self, path: str) -> None:
        """Count the files by one request; only where there are more than folders, list these."""
        try:
            counts = self._retry(path, lambda: self._client.content(self._full(path)))
        except FileMissingError:
            return
        if counts["fileCount"] >= counts["directoryCount"]:  # of which one is the folder itself
            folders = [name for name, status in self._entries(path) if status["type"] == "DIRECTORY"]
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(self.remove_temporary, (f"{path}/{name}" for name in folders)))

    def _entries(self, path: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Return the names in a folder with HDFS's status of each, by one request; none where there is no such folder."""
        try:
            entries: Sequence[tuple[str, dict[str, Any]]]
            entries = self._retry(path, lambda: self._client.list(self._full(path), status=True))
            return entries
        except FileMissingError:
            return []

    def _upload(self, path: str, send: Callable[[str], T]) -> T:
        """Write ``path`` by ``send(temporary path)``, called again for each attempt; return what it returns.

        Each attempt has a temporary file of its own: a DataNode may create that of an attempt that broke off a moment
        after we gave it up, in the middle of the next.
        """
        full = self._full(path)
        left: list[str] = []

        def write() -> T:
            left.append(self._full(temporary_path(path)))
            result = send(left[-1])
            # HdfsCLI's own rename fails where the name is taken.
            self._client._rename(left[-1], destination=full, renameoptions="OVERWRITE")
            left.pop()
            return result

        try:
            return self._retry(path, write)
        finally:
            self._remove_left(left)

    def _remove_left(self, left: Sequence[str]) -> None:
        """Remove temporary files, each of which a DataNode may create a moment later; `remove_temporary` gets what stays."""
        with contextlib.suppress(Exception):
            for temporary in left:
                for _ in range(3):
                    if self._client.delete(temporary):
                        break
                    time.sleep(0.3)

    @property
    def _client(self) -> Any:
        return hdfs_client.client(self.webhdfs, self.user)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/") or "/"

    def _retry(self, path: str, action: Callable[[], T]) -> T:
        try:
            return hdfs_client.retry(self.url(path), self.webhdfs, action)
        except hdfs_client.WebHdfsError as error:
            raise _ERRORS[error.kind](str(error), path) from None


class _Sized:
    """Bytes to send in pieces, with their length announced."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._data[at : at + UPLOAD_BYTES] for at in range(0, len(self), UPLOAD_BYTES))


class _Pieces(io.RawIOBase):
    """A file that one side writes while the other takes what is written in pieces."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> Iterator[bytes]:
        """Yield what was written since the last call, small parts joined."""
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


class _RangedFile(PositionedFile):
    """A file of an HDFS store for reading from anywhere, one request a read."""

    def __init__(self, store: HdfsStore, path: str, size: int) -> None:
        super().__init__(size)
        self._store, self._path = store, path

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._end - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length == 0:
            return b""
        data = self._store.read_bytes(self._path, self._position, length)
        self._position += len(data)
        return data
