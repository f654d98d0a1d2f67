"""Files in HDFS, read through WebHDFS.

Not through fsspec, whose WebHDFS neither resumes a broken connection nor streams a range in one request.
"""

import contextlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from conf.errors import TinyTagsError
from ingest.files.entry import Entry, base_name
from storage import hdfs_client
from storage.hdfs_client import PositionedFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")


def status(path: str, webhdfs: str | None) -> Entry | None:
    """Return what there is at ``path``, or None; raises `TinyTagsError` where HDFS doesn't answer."""
    answer = _request(path, webhdfs, lambda client, at: client.status(at, strict=False))
    return _entry(base_name(path), answer) if answer else None


def list_dir(path: str, webhdfs: str | None) -> list[Entry]:
    """Return what is in a folder, in any order; raises `TinyTagsError` where it can't be listed."""
    answer = _request(path, webhdfs, lambda client, at: client.list(at, status=True))
    return [_entry(name, info) for name, info in answer]


class HdfsFile(PositionedFile):
    """The bytes of a file in HDFS from the current position to ``end``."""

    def __init__(self, path: str, webhdfs: str | None, position: int, end: int) -> None:
        super().__init__(end, position)
        self._path, self._webhdfs = path, webhdfs
        self._response = contextlib.ExitStack()
        self._stream: Any = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        before = self._position
        if super().seek(offset, whence) != before:
            self._disconnect()
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")[: max(self._end - self._position, 0)]
        if not len(view):
            return 0

        def read(client: Any, at: str) -> int:
            try:
                if self._stream is None:
                    request = client.read(at, offset=self._position, length=self._end - self._position)
                    self._stream = self._response.enter_context(request)
                count: int = self._stream.readinto(view)
                if not count and (there := client.status(at)["length"]) < self._end:
                    raise TinyTagsError(
                        f"{self._path}: holds {there:,} bytes where {self._end:,} were expected; was it changed since it was opened?"
                    )
                if not count:
                    raise OSError(f"the connection ended at byte {self._position:,} of {self._end:,}")
                return count
            except BaseException:
                self._disconnect()
                raise

        count = _request(self._path, self._webhdfs, read)
        self._position += count
        return count

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _disconnect(self) -> None:
        self._stream = None
        with contextlib.suppress(Exception):
            self._response.close()


def _request(path: str, address: str | None, action: Callable[[Any, str], T]) -> T:
    """Return ``action(client, path in HDFS)``, repeated where HDFS does not answer."""
    address = address or hdfs_client.default_address(path)
    # Everything after the host is the path: '?', '#' and '%' are ordinary characters of a file's name.
    at = "/" + path.removeprefix("hdfs://").partition("/")[2].rstrip("/")
    client = hdfs_client.client(address, hdfs_client.user())
    return hdfs_client.retry(path, address, lambda: action(client, at))


def _entry(name: str, info: dict[str, Any]) -> Entry:
    return Entry(name, info["length"], info["modificationTime"] / 1000, info["type"] == "DIRECTORY")
