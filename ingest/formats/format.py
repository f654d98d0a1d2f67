"""The description of a format: its name, how to recognise it, and how to open a dump in it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Protocol

from ingest import files
from ingest.formats.dump import Dump

_HEAD_BYTES = 512
_SAMPLE_FILES = 10_000


class Match(IntEnum):
    """How well a source fits a format; the best match decides."""

    NO = 0
    NAME = 1  # only its name fits: probably damaged
    SIZE = 2  # only its size fits
    CONTENT = 3  # its content or the names of its files fit
    CERTAIN = 4  # its header shows it


@dataclass(frozen=True)
class Source:
    """What there is at a path: the little that formats are recognised from, each part read once and only when needed."""

    path: str
    entry: files.Entry
    webhdfs: str | None = None

    @property
    def is_dir(self) -> bool:
        return self.entry.is_dir

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def name(self) -> str:
        return files.base_name(self.path)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes of the file from ``offset`` on; none of a folder."""
        length = 0 if self.is_dir else max(min(length, self.size - offset), 0)
        return bytes(files.read_range(self.path, offset, length, self.webhdfs)) if length else b""

    @cached_property
    def head(self) -> bytes:
        """The first 512 bytes of a file."""
        return self.read(0, _HEAD_BYTES)

    @cached_property
    def unpacked(self) -> bytes:
        """The same of what is in a compressed file; raises `TinyTagsError` where that is damaged."""
        if not self.head.startswith(files.PACKED_MAGICS):
            return self.head
        with files.open_packed(self.path, self.webhdfs) as file:
            return file.read(_HEAD_BYTES)

    @property
    def first_member(self) -> str | None:
        """The path of the first file or folder in a tar archive, compressed or not; None for anything else."""
        if self.unpacked[257:262] != b"ustar":
            return None
        return self.unpacked[:100].rstrip(b"\0").decode("utf-8", "replace")

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the files in a folder, without those below it."""
        entries = files.list_dir(self.path, self.webhdfs) if self.is_dir else []
        return frozenset(entry.name for entry in entries if not entry.is_dir)

    @cached_property
    def sample(self) -> tuple[str, ...]:
        """The names, without folders, of up to 10,000 files in a folder and below it."""
        entries = files.walk_files(self.path, self.webhdfs) if self.is_dir else iter(())
        return tuple(files.base_name(entry.name) for entry in itertools.islice(entries, _SAMPLE_FILES))


class Open(Protocol):
    """Opens the dump at an absolute path.

    ``labels`` is the value of --labels, ``classes`` are names for the classes in place of the dump's own. Raises
    `TinyTagsError`, one line, for what is malformed, as far as can be seen without reading all of it.
    """

    def __call__(
        self,
        path: str,
        labels: str | None = None,
        classes: list[str] | None = None,
        webhdfs: str | None = None,
    ) -> Dump: ...


def _own_names(classes: list[str], labels: str | None) -> bool:
    return True


@dataclass(frozen=True)
class Format:
    """A format of dumps.

    ``example`` is a path as people write it, ``content`` describes what is there; both are in the help of
    `tinytags ingest`. ``labels`` describes the values of --labels (None: the format has no such option). ``has_own``
    returns, for the classes of a corpus and its --labels, whether the dump has these names without --classes.
    """

    name: str
    example: str
    content: str
    recognise: Callable[[Source], Match]
    open: Open
    labels: str | None = None
    has_own: Callable[[list[str], str | None], bool] = _own_names
    archive_folders: tuple[str, ...] = ()  # that its official archives unpack to
    usual_names: tuple[str, ...] = ()  # of its file or folder, to suggest where it is one folder down
    record_bytes: int | None = None  # where a file is nothing but records of that size
