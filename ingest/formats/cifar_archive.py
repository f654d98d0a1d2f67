"""Reads the archives of CIFAR, tar files that may be compressed, as a stream that is limited in what it unpacks to."""

import contextlib
import io
import tarfile
from collections.abc import Iterator

from conf.errors import TinyTagsError
from ingest import files

# The official archives hold 185 MB; what unpacks to far more is an attack.
ARCHIVE_BYTES = 256 << 20


def is_archive(path: str, webhdfs: str | None = None) -> bool:
    """Return whether ``path`` begins as a compressed or plain tar archive does."""
    length = min(files.size(path, webhdfs), 512)
    with open_unpacked(path, webhdfs, length) as stream:
        return stream.read(512)[257:262] == b"ustar"


@contextlib.contextmanager
def open_archive(path: str, webhdfs: str | None) -> Iterator[tarfile.TarFile]:
    """Open the archive as a stream of members, each to be read before the next one; bounded in what it unpacks."""
    with open_unpacked(path, webhdfs) as stream:
        try:
            limited = _Limited(stream, ARCHIVE_BYTES, path)
            with tarfile.open(fileobj=limited, mode="r|") as archive:  # type: ignore[call-overload]  # it only reads
                yield archive
            # tarfile stops at the archive's end marker; the checksum over all of it comes after that.
            while limited.read(1 << 20):
                pass
        except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
            raise TinyTagsError(
                " ".join(f"{path}: is a damaged tar archive ({error}); fetch it again".split())
            ) from None


@contextlib.contextmanager
def open_unpacked(path: str, webhdfs: str | None, length: int | None = None) -> Iterator[io.BufferedIOBase]:
    """Open what is in the file ``path``, compressed or not, as a stream; of a plain file only ``length`` bytes are needed."""
    if files.packing(path, webhdfs):
        with files.open_packed(path, webhdfs) as unpacked:
            yield unpacked
    else:
        with files.open_file(path, webhdfs, length=length) as file:
            yield file


class _Limited:
    """A stream that refuses to give more than ``limit`` bytes."""

    def __init__(self, stream: io.BufferedIOBase, limit: int, path: str) -> None:
        self._stream, self._left, self._limit, self._path = stream, limit, limit, path

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TinyTagsError(
                f"{self._path}: unpacks to more than {self._limit >> 20} MiB, more than CIFAR's archives do"
            )
        return data
