"""Requests to HDFS over WebHDFS: each with a time limit, and repeated after a moment where a node may be restarting."""

import functools
import io
import os
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from conf.settings import user_name
from conf.wording import first_line

T = TypeVar("T")
Kind = Literal["missing", "file", "file unavailable", "unavailable"]

# Seconds to connect and to wait for an answer. Connecting waits more than 10 s: urllib3 applies that limit while sending,
# and the first large upload to a DataNode that has just started takes longer than a second or two.
TIMEOUT = (15, 60)
ATTEMPTS = 4

# Exceptions of HDFS that concern one file; after any other the request is repeated.
_FILE_ERRORS = {
    "FileNotFoundException": "no such file",
    "AccessControlException": "may not be accessed by this user; set HADOOP_USER_NAME to one who may",
    "InvalidPathException": "is no path of HDFS",
    "ParentNotDirectoryException": "is below a file, not a folder",
}


class WebHdfsError(TinyTagsError):
    """A request to HDFS failed; ``kind`` says what that means.

    ``missing``: there is no such file. ``file``: this file alone can't be read or written. ``file unavailable``: the
    NameNode knows the file, but not all of its blocks can be read now. ``unavailable``: HDFS as a whole does not answer.
    """

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return without_passwords(str(self.args[0]))


def user() -> str:
    """Return the user to HDFS: HADOOP_USER_NAME, or the one who runs this."""
    return os.environ.get("HADOOP_USER_NAME") or user_name()


def default_address(url: str) -> str:
    """Return the default address of WebHDFS on the host of an ``hdfs://`` URL; raises `TinyTagsError` for one without."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:  # a port that is no number, or brackets that enclose no address
        host = None
    if not host:
        raise TinyTagsError(f"{url!r} is not valid: write hdfs://HOST:8020/PATH")
    return f"http://{host}:9870"


@functools.lru_cache(maxsize=8)
def client(address: str, user: str) -> Any:
    """Return HdfsCLI's client for a WebHDFS address."""
    import requests
    from hdfs import InsecureClient

    session = requests.Session()
    # For every file that is created: DataNodes sync its blocks before they confirm them, so that it survives a power cut.
    # HdfsCLI has no argument for it; other requests ignore it.
    session.params = {"createflag": "CREATE,SYNC_BLOCK"}
    return InsecureClient(address, user=user, timeout=TIMEOUT, session=session)


def retry(url: str, address: str, action: Callable[[], T]) -> T:
    """Return ``action()``, tried up to four times; raise `WebHdfsError`, its message with ``url`` and ``address``."""
    import requests
    import urllib3
    from hdfs.util import HdfsError

    broken_off = 0
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            return action()
        except HdfsError as error:
            if error.exception in _FILE_ERRORS:
                kind: Kind = "missing" if error.exception == "FileNotFoundException" else "file"
                raise WebHdfsError(f"{url}: {_FILE_ERRORS[error.exception]}", kind) from None
            if error.exception == "BlockMissingException":  # a DataNode may return: the file isn't broken
                raise WebHdfsError(
                    f"{url}: no DataNode that is up has all of it", "file unavailable"
                ) from None
            reason = first_line(error)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            broken_off += isinstance(error, urllib3.exceptions.ProtocolError)
            request = getattr(error, "request", None)
            # urllib3's message of a failed connection holds the whole URL twice.
            reason = (
                f"{urlsplit(request.url).netloc.rpartition('@')[2]} doesn't answer" if request else str(error)
            )
            reason = " ".join(f"{reason} ({type(error).__name__})".split())
    if broken_off == ATTEMPTS:  # every attempt connected and broke off: a damaged block
        raise WebHdfsError(
            f"{url}: {reason}, {ATTEMPTS} tries; `hdfs fsck` shows whether a block is damaged",
            "file unavailable",
        )
    raise WebHdfsError(
        f"{url}: {reason} (WebHDFS at {address}, {ATTEMPTS} tries; are the NameNode and a DataNode up?)",
        "unavailable",
    )


class PositionedFile(io.RawIOBase):
    """The position in a file of ``end`` bytes, from which a subclass reads."""

    def __init__(self, end: int, position: int = 0) -> None:
        self._end, self._position = end, position

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
        self._position = position
        return position
