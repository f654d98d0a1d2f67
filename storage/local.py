"""A store in a folder of this machine, or of a file system that it mounts."""

import contextlib
import ctypes
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from storage.store import FileMissingError, Store, StoreError, temporary_path

if TYPE_CHECKING:
    import pyarrow

# Mapping saves a fifth of the time that reading a partition takes, but mapped memory counts as the worker's.
MAPPED_BYTES = 128 << 20
# Write-back starts after this many bytes.
PIECE_BYTES = 4 << 20
# Smaller writes are buffered.
SMALL_BYTES = 64 * 1024
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_SYNC_WRITE = 2  # SYNC_FILE_RANGE_WRITE
# The folders whose names are to be synced before the next file gets its name.
_unsynced: set[str] = set()


def open_local(url: str, address: str | None = None) -> "LocalStore":
    """Return the store in the folder ``url``, a path or a ``file://`` URL."""
    return LocalStore(os.path.abspath(url.removeprefix("file://")))


# What file systems without hard links answer: exFAT, SMB, FUSE of object stores.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
# How often the creation of a file is tried where its temporary file is removed before it is complete.
_ATTEMPTS = 3


@dataclass(frozen=True)
class LocalStore(Store):
    """A store in the folder ``root``."""

    root: str

    def url(self, path: str = "") -> str:
        return str(Path(self.root, path))

    def read_bytes(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._errors(path), open(self.url(path), "rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def open_arrow(self, path: str) -> "pyarrow.NativeFile":
        """Map a file of the usual size rather than copy it."""
        import pyarrow

        with self._errors(path):
            size = self.size(path)
            if size == 0:  # mmap doesn't take empty files
                return pyarrow.BufferReader(b"")
            open_file = pyarrow.memory_map if size <= MAPPED_BYTES else pyarrow.OSFile
            return open_file(self.url(path))

    def open_ranged(self, path: str) -> "pyarrow.NativeFile":
        return self.open_arrow(path)

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        with self._replacing(path) as temporary, io.BufferedWriter(_WriteBackFile(temporary, "wb")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def write_bytes(self, path: str, data: bytes | memoryview) -> None:
        with self.writer(path) as file:
            file.write(data)

    def write_in_steps(self, path: str, write: Callable[[Any], Iterator[None]]) -> int:
        """Give ``write`` a file of pyarrow's, which would copy what it writes to one of Python's."""
        import pyarrow

        started = 0
        with self._replacing(path) as temporary:
            unbuffered = pyarrow.OSFile(temporary, "wb")
            with pyarrow.BufferedOutputStream(unbuffered, SMALL_BYTES) as file, open(temporary, "rb") as same:
                for _ in write(file):
                    started = _start_write_back(same.fileno(), started, file.tell())
                file.flush()
                os.fsync(same.fileno())
                return int(file.tell())

    def create_exclusive(self, path: str, data: bytes) -> bool:
        with self._errors(path):
            for _ in range(_ATTEMPTS - 1):
                # The holder of the lease may have removed our temporary file.
                with contextlib.suppress(FileNotFoundError):
                    return self._create(path, data)
            return self._create(path, data)

    def _create(self, path: str, data: bytes) -> bool:
        temporary = self.url(temporary_path(path))
        folders = _make_folder(os.path.dirname(temporary))
        try:
            _write(temporary, data, "wb")
            try:
                os.link(temporary, self.url(path))  # unlike O_EXCL and a write, never seen half-written
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # Here alone the file may be seen while it is half-written.
                _write(self.url(path), data, "xb")
            _sync_folders(folders)
            return True
        except FileExistsError:
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return Path(self.root, path).exists()

    def size(self, path: str) -> int:
        with self._errors(path):
            return os.path.getsize(self.url(path))

    def list(self, path: str) -> list[str]:
        with contextlib.suppress(FileMissingError), self._errors(path):
            return sorted(name for name in os.listdir(self.url(path)) if not name.startswith("."))
        return []

    def times(self, path: str) -> dict[str, float]:
        times: dict[str, float] = {}
        with contextlib.suppress(FileMissingError), self._errors(path), os.scandir(self.url(path)) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        times[entry.name] = entry.stat().st_mtime
        return dict(sorted(times.items()))

    def remove(self, path: str) -> None:
        with self._errors(path):
            Path(self.root, path).unlink(missing_ok=True)

    def remove_tree(self, path: str) -> None:
        with self._errors(path):
            if Path(self.root, path).exists():
                shutil.rmtree(self.url(path))

    def temporary(self, path: str) -> dict[str, float]:
        times: dict[str, float] = {}
        with contextlib.suppress(FileMissingError), self._errors(path):
            for file in Path(self.root, path).glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                    times[file.name] = file.stat().st_mtime
        return times

    def sync(self, path: str) -> None:
        with contextlib.suppress(FileMissingError), self._errors(path):
            _sync_names()
            with os.scandir(self.url(path)) as entries:
                _sync_folders([self.url(path), *(entry.path for entry in entries if entry.is_dir())])

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[str]:
        """Give the address of a temporary file, renamed to ``path`` when the block ends and removed when it fails.

        The block syncs the file's contents. The names of the files before it are synced then: what the sync of the contents
        wrote already costs next to nothing again, and no marker survives a power cut that its data doesn't.
        """
        temporary = self.url(temporary_path(path))
        with self._errors(path):
            folders = _make_folder(os.path.dirname(temporary))
            try:
                yield temporary
                _sync_names()
                os.replace(temporary, self.url(path))
                _unsynced.update(folders)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn what the system raises into errors that name ``path``."""
        try:
            yield
        except FileNotFoundError:
            raise FileMissingError(f"{self.url(path)}: no such file", path) from None
        except OSError as error:
            if error.errno is None:
                raise
            raise StoreError(f"{self.url(path)}: {error.strerror}", path) from error


def _write(path: str, data: bytes, mode: str) -> None:
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: str) -> list[str]:
    """Create a folder and those above it; return which to sync so that the path of a file in it survives a power cut."""
    if os.path.isdir(folder):
        return [folder]
    above = _make_folder(os.path.dirname(folder))
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    return [folder, *above]


def _sync_names() -> None:
    """Write the names of the files to disk that this process has written."""
    folders = set(_unsynced)
    _sync_folders(folders)
    _unsynced.difference_update(folders)


def _sync_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # removed meanwhile
            continue
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (
                errno.EINVAL,
                errno.ENOTSUP,
            ):  # some network file systems can't, and need not
                raise
        finally:
            os.close(descriptor)


class _WriteBackFile(io.FileIO):
    """A file whose write-back starts while more of it is written, which takes a third less time for a large one."""

    _written = _started = 0

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._written += count
        self._started = _start_write_back(self.fileno(), self._started, self._written)
        return count


def _start_write_back(fileno: int, started: int, written: int) -> int:
    """Start the write-back of bytes ``started`` to ``written`` if they are at least 4 MiB; return where the next call starts.

    Linux's sync_file_range(2) does not wait; on other systems the fsync at the end writes all of the file.
    """
    if written - started < PIECE_BYTES or not _SYNC_FILE_RANGE:
        return started
    _SYNC_FILE_RANGE(fileno, ctypes.c_int64(started), ctypes.c_int64(written - started), _SYNC_WRITE)
    return written
