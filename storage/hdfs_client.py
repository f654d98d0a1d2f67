"""Asking HDFS over WebHDFS: every request with a time limit, and again after a moment where a node may be away."""

import functools
import os
import time
from urllib.parse import urlsplit

from conf.errors import TinyTagsError
from conf.settings import user_name

# Seconds to connect and to wait for an answer. Connecting waits more than 10 s: urllib3 applies that limit while sending,
# and the first large upload to a DataNode that has just started takes longer than a second or two.
TIMEOUT = (15, 60)
ATTEMPTS = 4

# What HDFS throws for one file alone; anything else means that it is ill.
_ONE_FILE = {
    "FileNotFoundException": "no such file",
    "AccessControlException": "may not be accessed by this user; set HADOOP_USER_NAME to one who may",
    "InvalidPathException": "is no path of HDFS",
    "ParentNotDirectoryException": "lies below a file, not a folder",
}


def user() -> str:
    return os.environ.get("HADOOP_USER_NAME") or user_name()


def default_address(url: str) -> str:
    """Return where WebHDFS listens by default on the host of an ``hdfs://`` URL; raises `TinyTagsError` for one without."""
    try:
        parts = urlsplit(url)
        host = parts.port != 0 and parts.hostname
    except ValueError:  # a port that is no number, or brackets that enclose no address
        host = None
    if not host:
        raise TinyTagsError(f"{url!r} won't do: write hdfs://HOST:8020/PATH")
    return f"http://{host}:9870"


@functools.lru_cache(maxsize=8)
def client(address: str, user: str):
    """Return HdfsCLI's client for a WebHDFS address."""
    from hdfs import InsecureClient

    return InsecureClient(address, user=user, timeout=TIMEOUT)


def ask(
    url: str, address: str, action, one_file=TinyTagsError, away=TinyTagsError, unreachable=TinyTagsError
):  # fmt: skip
    """Return ``action()``, tried up to four times; ``url`` and ``address`` are for the message.

    Raises ``one_file`` for what concerns this file alone, ``away`` where the NameNode knows it but nobody has all of its
    blocks, and ``unreachable`` where HDFS as a whole does not answer.
    """
    import requests
    import urllib3
    from hdfs.util import HdfsError

    broke_off = 0
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            return action()
        except HdfsError as error:
            if error.exception in _ONE_FILE:
                raise one_file(f"{url}: {_ONE_FILE[error.exception]}") from None
            if error.exception == "BlockMissingException":  # a DataNode may come back: the file isn't broken
                raise away(f"{url}: no DataNode that is up has all of it") from None
            reason = str(error).splitlines()[0]
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            broke_off += isinstance(error, urllib3.exceptions.ProtocolError)
            request = getattr(error, "request", None)
            # What urllib3 says of a connection holds its whole URL twice.
            reason = f"{urlsplit(request.url).netloc} doesn't answer" if request else str(error)
            reason = " ".join(f"{reason} ({type(error).__name__})".split())
    if broke_off == ATTEMPTS:  # each time it was there, and came no further: a damaged block
        raise away(f"{url}: {reason}, {ATTEMPTS} tries; `hdfs fsck` tells whether a block is damaged")
    raise unreachable(
        f"{url}: {reason} (WebHDFS at {address}, {ATTEMPTS} tries; are the NameNode and a DataNode up?)"
    )
