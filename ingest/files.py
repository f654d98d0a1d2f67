"""Source files wherever they are: a local path, or hdfs://HOST:PORT/PATH through WebHDFS."""

import contextlib
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from conf.errors import TinyTagsError
from storage import hdfs_client

BUFFER_BYTES = 1 << 17
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


def absolute(path: str) -> str:
    """Return ``path`` so that it means the same from every folder; raises `TinyTagsError` for none and for other systems."""
    if is_hdfs(path):
        return path
    local = path.removeprefix("file://")
    if not local or "://" in local:
        raise TinyTagsError(f"path {path!r} is neither a local path nor hdfs://HOST:PORT/PATH")
    return os.path.abspath(local)


def join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if path else name


def base_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def status(path: str, webhdfs: str | None = None) -> Entry | None:
    """Return what there is at ``path``, or None; raises `TinyTagsError` for what is neither file nor folder."""
    if is_hdfs(path):
        found = _ask(path, webhdfs, lambda client, at: client.status(at, strict=False))
        return found and _hdfs_entry(base_name(path), found)
    with _errors(path):
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:  # a NUL byte in the path
            raise TinyTagsError(f"{path!r}: {error}") from None
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise TinyTagsError(
            f"{path}: is a device or pipe; only files and folders can be read again at any place"
        )
    return Entry(base_name(path), found.st_size, found.st_mtime, stat.S_ISDIR(found.st_mode))


def exists(path: str, webhdfs: str | None = None) -> bool:
    return status(path, webhdfs) is not None


def is_dir(path: str, webhdfs: str | None = None) -> bool:
    found = status(path, webhdfs)
    return found is not None and found.is_dir


def size(path: str, webhdfs: str | None = None) -> int:
    """Return the bytes of the file ``path``; raises `TinyTagsError` where there is none."""
    return file_status(path, webhdfs).size


def file_status(path: str, webhdfs: str | None = None) -> Entry:
    """Return size and time of change of the file ``path``; raises `TinyTagsError` for no file, a folder and 0 bytes."""
    found = status(path, webhdfs)
    if found is None:
        raise TinyTagsError(f"{path}: no such file")
    if found.is_dir:
        raise TinyTagsError(f"{path}: is a folder where a file is needed")
    if found.size == 0:
        raise TinyTagsError(f"{path}: is empty (0 bytes; was it ever downloaded?)")
    return found


def list_dir(path: str, webhdfs: str | None = None) -> list[Entry]:
    """Return what is in the folder ``path``, sorted by name."""
    if is_hdfs(path):
        listed = _ask(path, webhdfs, lambda client, at: client.list(at, status=True))
        found = [_hdfs_entry(name, entry) for name, entry in listed]
    else:
        with _errors(path), os.scandir(path) as entries:
            found = [entry for entry in map(_local_entry, entries) if entry]
    return sorted(found, key=lambda entry: entry.name)


def walk_files(path: str, webhdfs: str | None = None) -> Iterator[Entry]:
    """Yield the files in the folder ``path`` and below, named relative to it, in no order.

    Names that begin with a dot are left out, folders that are links are entered; a link back to a folder above is an error.
    """
    pending = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        full = join(path, folder) if folder else path
        if not is_hdfs(path):
            with _errors(full):
                itself = os.stat(full)
            if (itself.st_dev, itself.st_ino) in above:
                raise TinyTagsError(f"{full}: links back to a folder that it lies in; remove the link")
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


def open_file(path: str, webhdfs: str | None = None, offset: int = 0, length: int | None = None) -> BinaryIO:
    """Open the file ``path`` for reading, at byte ``offset``; seeks and offsets count from the start of the file.

    In HDFS one request fetches everything from the current position to ``offset + length`` (default: the end of the
    file), as a stream; a seek costs a new request. A connection that breaks is taken up again where it broke.
    """
    if is_hdfs(path):
        end = size(path, webhdfs) if length is None else offset + length
        return io.BufferedReader(_HdfsFile(path, webhdfs, offset, end), BUFFER_BYTES)
    with _errors(path):
        file = open(path, "rb", buffering=BUFFER_BYTES)  # noqa: SIM115 - the caller closes it
        file.seek(offset)
    return file


def read_into(file: BinaryIO, buffer, path: str) -> None:
    """Fill ``buffer`` from ``file``; raises `TinyTagsError`, naming ``path``, where the file ends too early."""
    view = memoryview(buffer).cast("B")
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
def open_gzip(path: str, webhdfs: str | None = None) -> Iterator[BinaryIO]:
    """Open the gzipped file ``path`` for reading what is in it, as a stream.

    What is wrong with the compression becomes a `TinyTagsError` where it is met.
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


def skip(file: BinaryIO, count: int) -> int:
    """Read and forget up to ``count`` bytes of the stream ``file``; return how many there were."""
    done = 0
    while done < count:
        block = file.read(min(1 << 20, count - done))
        if not block:
            break
        done += len(block)
    return done


def identity(paths: list[str], webhdfs: str | None = None, names: list[str] | None = None) -> dict:
    """Return what says whether files are still the same: {"bytes", "sha256"}, or beyond 1 GiB {"bytes", "modified"}.

    The hash of one file is the one `sha256sum` prints; that of several is over each one's name, size and content.
    ``names`` are what they are called there, where it is not only the last part of their path.
    """
    found = [file_status(path, webhdfs) for path in paths]
    total = sum(entry.size for entry in found)
    if total > HASHED_BYTES:
        return {"bytes": total, "modified": max(entry.modified for entry in found)}
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    for path, name, entry in zip(paths, names or map(base_name, paths), found, strict=True):
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
        self._stream = None

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
            self._hang_up()
        self._position = position
        return position

    def readinto(self, buffer) -> int:
        view = memoryview(buffer)[: max(self._end - self._position, 0)]
        if not len(view):
            return 0

        def read(client, at: str) -> int:
            try:
                if self._stream is None:
                    request = client.read(at, offset=self._position, length=self._end - self._position)
                    self._stream = self._response.enter_context(request)
                count = self._stream.readinto(view)
                if not count and (there := client.status(at)["length"]) < self._end:
                    raise TinyTagsError(
                        f"{self._path}: holds {there:,} bytes where {self._end:,} were expected; was it changed since it was opened?"
                    )
                if not count:
                    raise OSError(f"the connection ended at byte {self._position:,} of {self._end:,}")
                return count
            except BaseException:
                self._hang_up()
                raise

        count = _ask(self._path, self._webhdfs, read)
        self._position += count
        return count

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        self._stream = None
        with contextlib.suppress(Exception):
            self._response.close()


def _ask(path: str, address: str | None, action):
    """Return ``action(client, path in HDFS)``."""
    address = address or hdfs_client.default_address(path)
    # Everything after the host is the path: '?', '#' and '%' are letters of a file's name like others.
    at = "/" + path.removeprefix("hdfs://").partition("/")[2].rstrip("/")
    client = hdfs_client.client(address, hdfs_client.user())
    return hdfs_client.retry(path, address, lambda: action(client, at))


def _hdfs_entry(name: str, found: dict) -> Entry:
    return Entry(name, found["length"], found["modificationTime"] / 1000, found["type"] == "DIRECTORY")


def _local_entry(entry: os.DirEntry) -> Entry | None:
    try:
        found = entry.stat()
    except FileNotFoundError:  # a link to nothing; says so where it is opened
        found = entry.stat(follow_symlinks=False)
    if (
        not stat.S_ISREG(found.st_mode)
        and not stat.S_ISDIR(found.st_mode)
        and not stat.S_ISLNK(found.st_mode)
    ):
        return None  # sockets and pipes hold no images
    return Entry(entry.name, found.st_size, found.st_mtime, stat.S_ISDIR(found.st_mode))


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Turn what the operating system says of ``path`` into one line."""
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
