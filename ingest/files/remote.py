"""Files at the addresses that fsspec reads, such as https://, s3:// and hf://."""

import contextlib
import io
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from conf.errors import TinyTagsError
from ingest.files.entry import Entry, base_name

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Fetched by one request, because requests are slow.
REMOTE_BYTES = 4 << 20


def find_filesystem(path: str) -> tuple[Any, str]:
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


def status(path: str) -> Entry | None:
    """Return what there is at a URL, or None; raises `TinyTagsError`, one line, where the server doesn't answer."""
    filesystem, at = find_filesystem(path)
    with _errors(path):
        filesystem.invalidate_cache()  # or a changed file has the size and time that it had when it was first listed
        try:
            info = filesystem.info(at)
        except FileNotFoundError as error:
            # HTTP drivers raise it for a server that does not answer, too.
            cause = error.__cause__
            if cause is None or getattr(cause, "status", None) == 404:
                return None
            raise TinyTagsError(_one_line(path, cause)) from error
    return _entry(path, base_name(path), info)


def list_dir(path: str) -> list[Entry]:
    """Return what is in a folder, in any order; raises `TinyTagsError`, one line, where it can't be listed."""
    filesystem, at = find_filesystem(path)
    with _errors(path):
        listed = filesystem.ls(at, detail=True)
    # An object store may list the folder itself as an empty file.
    return [
        _entry(path, base_name(info["name"]), info)
        for info in listed
        if info["name"].rstrip("/") != at.rstrip("/")
    ]


class RemoteFile(io.RawIOBase):
    """The bytes of a file that fsspec opens, its errors as `TinyTagsError`."""

    def __init__(self, path: str, length: int | None) -> None:
        self._path = path
        # How much each request fetches beyond what is read; 0 would mean a stream without seeks.
        ahead = REMOTE_BYTES if length is None else min(max(length, 1), REMOTE_BYTES)
        filesystem, at = find_filesystem(path)
        with _errors(path):
            self._file = filesystem.open(at, "rb", block_size=ahead, cache_type="readahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        with _errors(self._path):
            return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _errors(self._path):
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        with _errors(self._path):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            with contextlib.suppress(Exception):
                self._file.close()
        super().close()


def _entry(path: str, name: str, info: dict[str, Any]) -> Entry:
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
def _errors(path: str) -> Iterator[None]:
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
