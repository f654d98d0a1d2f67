"""Files of this machine.

Not through fsspec: links in a circle, pipes and unreadable files are to be reported.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from conf.errors import TinyTagsError
from ingest.files.entry import Entry, base_name


def status(path: str) -> Entry | None:
    """Return what there is at ``path``, or None; raises `TinyTagsError` for what is neither file nor folder."""
    with errors(path):
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


def list_dir(path: str) -> list[Entry]:
    """Return the files and folders in a folder, in any order; raises `TinyTagsError` where it can't be listed."""
    with errors(path), os.scandir(path) as entries:
        return [entry for entry in map(_entry, entries) if entry]


class UnreadableError(TinyTagsError):
    """A file that is there, but can't be opened: without permission, or a link to nothing; ``reason`` is without its path."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


@contextlib.contextmanager
def errors(path: str) -> Iterator[None]:
    """Turn the operating system's errors for ``path`` into one line."""
    try:
        yield
    except FileNotFoundError:
        if os.path.islink(path):
            raise UnreadableError(path, "is a link to nothing; remove or repair it") from None
        raise TinyTagsError(f"{path}: no such file or folder") from None
    except PermissionError:
        raise UnreadableError(path, "may not be read by this user; change its permissions (chmod)") from None
    except OSError as error:
        if error.errno is None:  # of what unpacks a file, not of the operating system
            raise
        raise TinyTagsError(f"{path}: {error.strerror or error}") from error


def _entry(entry: os.DirEntry[str]) -> Entry | None:
    try:
        info = entry.stat()
    except FileNotFoundError:  # a link to nothing, which is reported where it is opened
        info = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode) and not stat.S_ISLNK(info.st_mode):
        return None  # sockets and pipes hold no images
    return Entry(entry.name, info.st_size, info.st_mtime, stat.S_ISDIR(info.st_mode))
