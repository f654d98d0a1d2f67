"""Source files wherever they are: a local path, hdfs://HOST:PORT/PATH through WebHDFS, or any address that fsspec reads."""

import bisect
import bz2
import contextlib
import gzip
import hashlib
import io
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from ingest.files import hdfs, local, remote
from ingest.files.entry import Entry as Entry
from ingest.files.entry import base_name as base_name
from ingest.files.junk import is_junk
from ingest.files.local import UnreadableError as UnreadableError

# How compressed files begin, each with its name and with what unpacks it.
_PACKED: dict[bytes, tuple[str, Callable[[io.BufferedReader], io.BufferedIOBase]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\0": ("xz", lzma.LZMAFile),
}
PACKED_MAGICS = tuple(_PACKED)
_MAGIC_BYTES = max(map(len, PACKED_MAGICS))
PACKED_ENDINGS = (".gz", ".bz2", ".xz")
BUFFER_BYTES = 1 << 17
# Hashing costs a second a gigabyte: beyond this a file is known by its size, its time of change and a sample of its blocks.
HASHED_BYTES = 1 << 30
# Each block is a request where the file is remote, eight at a time.
SAMPLE_BLOCKS, SAMPLE_BYTES = 32, 64 << 10


def is_hdfs(path: str) -> bool:
    """Return whether a path is in HDFS."""
    return path.startswith("hdfs://")


def is_local(path: str) -> bool:
    """Return whether a path is on this machine: not a URL."""
    return "://" not in path


def absolute(path: str) -> str:
    """Return ``path`` so that it means the same in every folder; raises `TinyTagsError` for none and for unknown schemes."""
    if is_hdfs(path):
        return path
    plain = path.removeprefix("file://")
    plain = plain.removeprefix("file:") if plain.startswith("file:/") else plain
    if not plain:
        raise TinyTagsError(f"path {path!r} is empty")
    if is_local(plain):
        return os.path.abspath(plain)
    remote.find_filesystem(path)
    return path


def join(path: str, name: str) -> str:
    """Return the path of ``name``, which may have folders in it, in the folder ``path``."""
    return f"{path.rstrip('/')}/{name}" if path else name


def status(path: str, webhdfs: str | None = None) -> Entry | None:
    """Return what there is at ``path``, or None; raises `TinyTagsError` for what is neither file nor folder."""
    if is_hdfs(path):
        return hdfs.status(path, webhdfs)
    return local.status(path) if is_local(path) else remote.status(path)


def exists(path: str, webhdfs: str | None = None) -> bool:
    """Return whether there is a file or folder at ``path``; raises as `status` does."""
    return status(path, webhdfs) is not None


def is_dir(path: str, webhdfs: str | None = None) -> bool:
    """Return whether ``path`` is a folder; raises as `status` does."""
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
    """Return what is in the folder ``path``, sorted by name, but for what systems leave there (`ingest.files.junk`)."""
    if is_hdfs(path):
        listed = hdfs.list_dir(path, webhdfs)
    else:
        listed = local.list_dir(path) if is_local(path) else remote.list_dir(path)
    return sorted((entry for entry in listed if not is_junk(entry.name)), key=lambda entry: entry.name)


def walk_files(path: str, webhdfs: str | None = None) -> Iterator[Entry]:
    """Yield the files in the folder ``path`` and below, named relative to it, in no order.

    Names that begin with a dot are left out, folders that are links are entered; a link back to a folder above is an error.
    """
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        full = join(path, folder) if folder else path
        if is_local(path):
            with local.errors(full):
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
        return _buffered(hdfs.HdfsFile(path, webhdfs, offset, end))
    with local.errors(path):
        file = _buffered(io.FileIO(path) if is_local(path) else remote.RemoteFile(path, length))
        if offset:
            file.seek(offset)
    return file


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, BUFFER_BYTES)


def read_into(file: io.BufferedIOBase, buffer: bytearray | NDArray[np.uint8], path: str) -> None:
    """Fill ``buffer`` from ``file``; raises `TinyTagsError`, naming ``path``, where the file ends too early."""
    view = memoryview(cast(bytearray, buffer)).cast("B")
    done = 0
    with local.errors(path):
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
def open_packed(path: str, webhdfs: str | None = None) -> Iterator[io.BufferedIOBase]:
    """Open the file ``path``, compressed by gzip, bzip2 or xz, for reading what is in it, as a stream.

    Damaged compression, and a file that isn't compressed, raise a `TinyTagsError` where it is read.
    """
    with open_file(path, webhdfs) as file:
        with local.errors(path):
            head = file.read(_MAGIC_BYTES)
            file.seek(0)  # within the buffer, so it costs no request
        name, unpack = _PACKED[_magic(head) or PACKED_MAGICS[0]]
        try:
            with unpack(file) as unpacked:
                yield unpacked
        except EOFError:
            raise TinyTagsError(
                f"{path}: the {name} stream ends too early (truncated copy?); fetch it again"
            ) from None
        except (OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the operating system
                raise
            raise TinyTagsError(f"{path}: the {name} stream is damaged ({error}); fetch it again") from None


def packing(path: str, webhdfs: str | None = None) -> str | None:
    """Return by what the file ``path`` is compressed: gzip, bzip2 or xz; None where it isn't."""
    magic = _magic(bytes(read_range(path, 0, min(size(path, webhdfs), _MAGIC_BYTES), webhdfs)))
    return _PACKED[magic][0] if magic else None


def _magic(head: bytes) -> bytes | None:
    return next((magic for magic in PACKED_MAGICS if head.startswith(magic)), None)


def skip(file: io.BufferedIOBase, count: int) -> int:
    """Read and discard up to ``count`` bytes of the stream ``file``; return how many there were."""
    done = 0
    while done < count:
        block = file.read(min(1 << 20, count - done))
        if not block:
            break
        done += len(block)
    return done


def identity(
    paths: list[str],
    webhdfs: str | None = None,
    names: list[str] | None = None,
    entries: list[Entry] | None = None,
) -> dict[str, Any]:
    """Return what shows whether files have changed: {"bytes", "sha256"}, or beyond 1 GiB {"bytes", "modified", "sample"}.

    The hash of one file is the one `sha256sum` prints; that of several is over each one's name, size and content.
    ``names`` are their names in that hash, where these are not only the last part of their path. For "sample" see `sample`.
    With ``entries``, their status as it is known, files may be empty, or such that they can't be opened.
    """
    unreadable = () if entries is None else (UnreadableError,)
    entries = entries or [file_status(path, webhdfs) for path in paths]
    total = sum(entry.size for entry in entries)
    if total > HASHED_BYTES:
        return {
            "bytes": total,
            "modified": max(entry.modified for entry in entries),
            "sample": sample(paths, [entry.size for entry in entries], webhdfs),
        }
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    for path, name, entry in zip(paths, names or map(base_name, paths), entries, strict=True):
        if len(paths) > 1:
            digest.update(f"{name}\0{entry.size}\0".encode("utf-8", "surrogateescape"))
        with contextlib.suppress(*unreadable), open_file(path, webhdfs) as file, local.errors(path):
            while count := file.readinto(block):
                digest.update(block[:count])
    return {"bytes": total, "sha256": digest.hexdigest()}


def sample(paths: list[str], sizes: list[int], webhdfs: str | None = None) -> str:
    """Return the sha256 of 32 blocks of up to 64 KiB, evenly spaced from the first to the last byte of all files in order."""
    starts = [0, *itertools.accumulate(sizes)]
    last = max(starts[-1] - SAMPLE_BYTES, 0)

    def read(number: int) -> bytearray:
        at = last * number // (SAMPLE_BLOCKS - 1)
        file = bisect.bisect_right(starts, at) - 1
        offset = at - starts[file]
        return read_range(paths[file], offset, min(sizes[file] - offset, SAMPLE_BYTES), webhdfs)

    digest = hashlib.sha256()
    if starts[-1]:
        with ThreadPoolExecutor(8) as pool:
            for block in pool.map(read, range(SAMPLE_BLOCKS)):
                digest.update(block)
    return digest.hexdigest()
