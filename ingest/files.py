"""Source files wherever they are: a local path, hdfs://HOST:PORT/PATH through WebHDFS, or any address that fsspec reads.

HDFS does not go through fsspec, whose WebHDFS neither resumes a broken connection nor streams a range in one request; nor do
local paths, where links in a circle, pipes and unreadable files are to be reported.
"""

import contextlib
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from storage import hdfs_client

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 1 << 17
# Read by one request at a remote address, where requests are slow.
REMOTE_BYTES = 4 << 20
# Hashing costs a second a gigabyte: beyond this a file is known by its size and its time of change.
HASHED_BYTES = 1 << 30


@dataclass(frozen=True)
class Entry:
    """A file or folder: its name, size in bytes and time of change in seconds since 1970."""

    name: str
    size: int
    modified: float
    is_dir: bool


def is_hdfs(path: str) -> bool:
    return path.startswith("hdfs://")


def is_local(path: str) -> bool:
    return "://" not in path


def absolute(path: str) -> str:
    """Return ``path`` so that it means the same in every folder; raises `TinyTagsError` for none and for unknown schemes."""
    if is_hdfs(path):
        return path
    local = path.removeprefix("file://")
    if not local:
        raise TinyTagsError(f"path {path!r} is empty")
    if is_local(local):
        return os.path.abspath(local)
    _filesystem(path)
    return path


def join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if path else name


def base_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def status(path: str, webhdfs: str | None = None) -> Entry | None:
    """Return what there is at ``path``, or None; raises `TinyTagsError` for what is neither file nor folder."""
    if is_hdfs(path):
        answer = _ask(path, webhdfs, lambda client, at: client.status(at, strict=False))
        return _hdfs_entry(base_name(path), answer) if answer else None
    if not is_local(path):
        return _remote_status(path)
    with _errors(path):
        try:
            info = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:  # a NUL byte in the path
            raise TinyTagsError(f"{path!r}: {error}") from None
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
        raise TinyTagsError(
            f"{path}: is a device or pipe; only files and folders can be read again at any place"
        )
    return Entry(base_name(path), info.st_size, info.st_mtime, stat.S_ISDIR(info.st_mode))


def exists(path: str, webhdfs: str | None = None) -> bool:
    return status(path, webhdfs) is not None


def is_dir(path: str, webhdfs: str | None = None) -> bool:
    entry = status(path, webhdfs)
    return entry is not None and entry.is_dir


def size(path: str, webhdfs: str | None = None) -> int:
    """Return the bytes of the file ``path``; raises `TinyTagsError` where there is none."""
    return file_status(path, webhdfs).size


def file_status(path: str, webhdfs: str | None = None) -> Entry:
    """Return size and time of change of the file ``path``; raises `TinyTagsError` for no file, a folder and 0 bytes."""
    entry = status(path, webhdfs)
    if entry is None:
        raise TinyTagsError(f"{path}: no such file")
    check_file(path, entry)
    return entry


def check_file(path: str, entry: Entry) -> None:
    """Raise `TinyTagsError` where ``entry``, the status of ``path``, is that of a folder or of 0 bytes."""
    if entry.is_dir:
        raise TinyTagsError(f"{path}: is a folder where a file is needed")
    if entry.size == 0:
        raise TinyTagsError(f"{path}: is empty (0 bytes; was it ever downloaded?)")


def list_dir(path: str, webhdfs: str | None = None) -> list[Entry]:
    """Return what is in the folder ``path``, sorted by name."""
    if is_hdfs(path):
        answer = _ask(path, webhdfs, lambda client, at: client.list(at, status=True))
        listed = [_hdfs_entry(name, entry) for name, entry in answer]
    elif is_local(path):
        with _errors(path), os.scandir(path) as entries:
            listed = [entry for entry in map(_local_entry, entries) if entry]
    else:
        listed = _remote_list(path)
    return sorted(listed, key=lambda entry: entry.name)


def walk_files(path: str, webhdfs: str | None = None) -> Iterator[Entry]:
    """Yield the files in the folder ``path`` and below, named relative to it, in no order.

    Names that begin with a dot are left out, folders that are links are entered; a link back to a folder above is an error.
    """
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        full = join(path, folder) if folder else path
        if is_local(path):
            with _errors(full):
                itself = os.stat(full)
            if (itself.st_dev, itself.st_ino) in above:
                raise TinyTagsError(f"{full}: links back to a folder that contains it; remove the link")
            above |= {(itself.st_dev, itself.st_ino)}
        for entry in list_dir(full, webhdfs):
            name = join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir:
                pending.append((name, above))
            else:
                yield Entry(name, entry.size, entry.modified, False)


def list_files(path: str, webhdfs: str | None = None) -> list[Entry]:
    """Return what `walk_files` yields, sorted by name."""
    return sorted(walk_files(path, webhdfs), key=lambda entry: entry.name)


def open_file(
    path: str, webhdfs: str | None = None, offset: int = 0, length: int | None = None
) -> io.BufferedReader:
    """Open the file ``path`` for reading, at byte ``offset``; seeks and offsets count from the start of the file.

    In HDFS one request fetches everything from the current position to ``offset + length`` (default: the end of the
    file), as a stream; a seek costs a new request. A broken connection is resumed where it broke. At other remote
    addresses each request fetches 128 KiB and ``length`` bytes more, at most 4 MiB more.
    """
    if is_hdfs(path):
        end = size(path, webhdfs) if length is None else offset + length
        return _buffered(_HdfsFile(path, webhdfs, offset, end))
    with _errors(path):
        file = _buffered(io.FileIO(path) if is_local(path) else _RemoteFile(path, length))
        if offset:
            file.seek(offset)
    return file


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, BUFFER_BYTES)


def read_into(file: io.BufferedIOBase, buffer: bytearray | NDArray[np.uint8], path: str) -> None:
    """Fill ``buffer`` from ``file``; raises `TinyTagsError`, naming ``path``, where the file ends too early."""
    view = memoryview(cast(bytearray, buffer)).cast("B")
    done = 0
    with _errors(path):
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise TinyTagsError(
                    f"{path}: ends {len(view) - done:,} bytes too early; was it changed since it was opened?"
                )
            done += count


def read_range(path: str, offset: int, length: int, webhdfs: str | None = None) -> bytearray:
    """Return ``length`` bytes of the file ``path`` from byte ``offset`` on."""
    data = bytearray(length)
    with open_file(path, webhdfs, offset, length) as file:
        read_into(file, data, path)
    return data


@contextlib.contextmanager
def open_gzip(path: str, webhdfs: str | None = None) -> Iterator[gzip.GzipFile]:
    """Open the gzipped file ``path`` for reading what is in it, as a stream.

    Damaged compression raises a `TinyTagsError` where it is read.
    """
    with open_file(path, webhdfs) as file, gzip.GzipFile(fileobj=file) as unpacked:
        try:
            yield unpacked
        except EOFError:
            raise TinyTagsError(
                f"{path}: the gzip stream ends too early (truncated copy?); fetch it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise TinyTagsError(f"{path}: the gzip stream is damaged ({error}); fetch it again") from None


def is_gzip(path: str, webhdfs: str | None = None) -> bool:
    """Return whether the file ``path`` begins as a gzip stream does."""
    return bytes(read_range(path, 0, min(size(path, webhdfs), 2), webhdfs)) == GZIP_MAGIC


def skip(file: io.BufferedIOBase, count: int) -> int:
    """Read and discard up to ``count`` bytes of the stream ``file``; return how many there were."""
    done = 0
    while done < count:
        block = file.read(min(1 << 20, count - done))
        if not block:
            break
        done += len(block)
    return done


def identity(paths: list[str], webhdfs: str | None = None, names: list[str] | None = None) -> dict[str, Any]:
    """Return what shows whether files have changed: {"bytes", "sha256"}, or beyond 1 GiB {"bytes", "modified"}.

    The hash of one file is the one `sha256sum` prints; that of several is over each one's name, size and content.
    ``names`` are their names in that hash, where these are not only the last part of their path.
    """
    entries = [file_status(path, webhdfs) for path in paths]
    total = sum(entry.size for entry in entries)
    if total > HASHED_BYTES:
        return {"bytes": total, "modified": max(entry.modified for entry in entries)}
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    for path, name, entry in zip(paths, names or map(base_name, paths), entries, strict=True):
        if len(paths) > 1:
            digest.update(f"{name}\0{entry.size}\0".encode("utf-8", "surrogateescape"))
        with open_file(path, webhdfs) as file, _errors(path):
            while count := file.readinto(block):
                digest.update(block[:count])
    return {"bytes": total, "sha256": digest.hexdigest()}


class _HdfsFile(io.RawIOBase):
    """The bytes of a file in HDFS from the current position to ``end``."""

    def __init__(self, path: str, webhdfs: str | None, position: int, end: int) -> None:
        self._path, self._webhdfs, self._position, self._end = path, webhdfs, position, end
        self._response = contextlib.ExitStack()
        self._stream: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        if position != self._position:
            self._disconnect()
        self._position = position
        return position

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

        count = _ask(self._path, self._webhdfs, read)
        self._position += count
        return count

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _disconnect(self) -> None:
        self._stream = None
        with contextlib.suppress(Exception):
            self._response.close()


class _RemoteFile(io.RawIOBase):
    """The bytes of a file that fsspec opens, its errors as `TinyTagsError`."""

    def __init__(self, path: str, length: int | None) -> None:
        self._path = path
        # How much each request fetches beyond what is read; 0 would mean a stream without seeks.
        ahead = REMOTE_BYTES if length is None else min(max(length, 1), REMOTE_BYTES)
        filesystem, at = _filesystem(path)
        with _remote_errors(path):
            self._file = filesystem.open(at, "rb", block_size=ahead, cache_type="readahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        with _remote_errors(self._path):
            return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _remote_errors(self._path):
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        with _remote_errors(self._path):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            with contextlib.suppress(Exception):
                self._file.close()
        super().close()


def _filesystem(path: str) -> tuple[Any, str]:
    """Return fsspec's filesystem for the address ``path`` and what the path is called there."""
    scheme = path.partition("://")[0]
    try:
        import fsspec
        import fsspec.core
    except ImportError:
        raise TinyTagsError(
            f"{path}: reading {scheme}:// needs the package fsspec: pip install 'tinytags[remote]'"
        ) from None
    if scheme not in fsspec.available_protocols():
        raise TinyTagsError(
            f"{path}: scheme {scheme}:// is unknown; give a local path, hdfs://, https://, s3://, hf:// or another that fsspec reads"
        )
    try:
        filesystem, at = fsspec.core.url_to_fs(path)
    except ImportError as error:
        raise TinyTagsError(
            f"{path}: {error}: pip install 'tinytags[remote]' has the packages for https://, s3:// and hf://"
        ) from None
    except Exception as error:  # each driver has its own for an address or credentials that are wrong
        raise TinyTagsError(_one_line(path, error)) from error
    return filesystem, at


def _remote_status(path: str) -> Entry | None:
    filesystem, at = _filesystem(path)
    with _remote_errors(path):
        filesystem.invalidate_cache()  # or a changed file has the size and time that it had when it was first listed
        try:
            info = filesystem.info(at)
        except FileNotFoundError as error:
            # HTTP drivers raise it for a server that does not answer, too.
            cause = error.__cause__
            if cause is None or getattr(cause, "status", None) == 404:
                return None
            raise TinyTagsError(_one_line(path, cause)) from error
    return _remote_entry(path, base_name(path), info)


def _remote_list(path: str) -> list[Entry]:
    filesystem, at = _filesystem(path)
    with _remote_errors(path):
        listed = filesystem.ls(at, detail=True)
    # An object store may list the folder itself as an empty file.
    return [
        _remote_entry(path, base_name(info["name"]), info)
        for info in listed
        if info["name"].rstrip("/") != at.rstrip("/")
    ]


def _remote_entry(path: str, name: str, info: dict[str, Any]) -> Entry:
    is_dir = info.get("type") == "directory"
    if info.get("size") is None and not is_dir:
        raise TinyTagsError(f"{path}: its server does not report the file's size; download it first")
    return Entry(name, 0 if is_dir else int(info["size"]), _modified(info), is_dir)


def _modified(info: dict[str, Any]) -> float:
    """Return the time of change in what a driver reports of a file, in seconds since 1970; 0 where it reports none."""
    for key in ("LastModified", "last_modified", "mtime", "modified", "updated", "created", "Last-Modified"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                parse = parsedate_to_datetime if key == "Last-Modified" else datetime.fromisoformat
                return parse(value).timestamp()
    return 0.0


@contextlib.contextmanager
def _remote_errors(path: str) -> Iterator[None]:
    """Turn what a driver of fsspec raises for ``path`` into one line."""
    try:
        yield
    except TinyTagsError:
        raise
    except FileNotFoundError:
        raise TinyTagsError(f"{path}: no such file or folder") from None
    except ValueError as error:
        if path.startswith(("http://", "https://")):  # what fsspec raises for an answer that is not a range
            raise TinyTagsError(
                f"{path}: its server does not support range requests, which reading a part of a file needs; download it first"
            ) from error
        raise TinyTagsError(_one_line(path, error)) from error
    except Exception as error:  # each driver has its own
        raise TinyTagsError(_one_line(path, error)) from error


def _one_line(path: str, error: BaseException) -> str:
    return f"{path}: {' '.join(str(error).split())[:300] or type(error).__name__}"


T = TypeVar("T")


def _ask(path: str, address: str | None, action: Callable[[Any, str], T]) -> T:
    """Return ``action(client, path in HDFS)``."""
    address = address or hdfs_client.default_address(path)
    # Everything after the host is the path: '?', '#' and '%' are ordinary characters of a file's name.
    at = "/" + path.removeprefix("hdfs://").partition("/")[2].rstrip("/")
    client = hdfs_client.client(address, hdfs_client.user())
    return hdfs_client.retry(path, address, lambda: action(client, at))


def _hdfs_entry(name: str, info: dict[str, Any]) -> Entry:
    return Entry(name, info["length"], info["modificationTime"] / 1000, info["type"] == "DIRECTORY")


def _local_entry(entry: os.DirEntry[str]) -> Entry | None:
    try:
        info = entry.stat()
    except FileNotFoundError:  # a link to nothing, which is reported where it is opened
        info = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode) and not stat.S_ISLNK(info.st_mode):
        return None  # sockets and pipes hold no images
    return Entry(entry.name, info.st_size, info.st_mtime, stat.S_ISDIR(info.st_mode))


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Turn the operating system's errors for ``path`` into one line."""
    try:
        yield
    except FileNotFoundError:
        raise TinyTagsError(f"{path}: no such file or folder") from None
    except PermissionError:
        raise TinyTagsError(f"{path}: may not be read by this user; change its permissions (chmod)") from None
    except gzip.BadGzipFile:  # an OSError too, but not of the operating system
        raise
    except OSError as error:
        raise TinyTagsError(f"{path}: {error.strerror or error}") from error
