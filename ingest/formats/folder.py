"""A folder of pictures of any size: one 32x32 image each, labelled by its sub-folder or by a CSV file."""

import functools
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from ingest import files
from ingest.formats import label_files
from ingest.formats.dump import Batch, FileDump, check_rows
from ingest.formats.folder_labels import FOLDERS, NONE, label_pictures, printable
from ingest.formats.format import Format, Match, Source
from ingest.image import IMAGE_BYTES, PictureError, decode_picture

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "PPM")
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".avif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
# Files beside pictures that are ignored. Any other is a bad record: a picture in an unknown format must not be left out
# silently.
IGNORED_SUFFIXES = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".md", ".rst", ".html"),
    *(".htm", ".log", ".ini", ".db", ".py", ".sh", ".md5", ".sha1", ".sha256"),
}
IGNORED_NAMES = {"LICENSE", "LICENCE", "README", "COPYING", "NOTICE", "MD5SUMS", "SHA256SUMS", "_SUCCESS"}
_MAGICS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    *(b"P%d" % n for n in range(1, 7)),
)


@dataclass(frozen=True, kw_only=True)
class Folder(FileDump):
    """A folder of pictures, in the order of their splits and paths.

    ``listing`` holds the names of a million pictures in some 5 MB, and ``numbers`` their labels, so that every worker sees the folder as
    it was when it was opened. ``label_file`` is the CSV file that they are from.
    """

    listing: bytes
    numbers: bytes
    label_file: str | None
    format: ClassVar[str] = "folder"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """That of the pictures, and "labels" where the folders' names alone don't decide these."""
        if self.label_file:
            return self.identity_of_pictures | {"labels": files.identity([self.label_file], self.webhdfs)}
        return self.identity_of_pictures | ({"labels": self.labels} if self.labels else {})

    @cached_property
    def identity_of_pictures(self) -> dict[str, Any]:
        """{"bytes", "sha256" over names and contents}; beyond 1 GiB and in HDFS {"bytes", "modified", "names", "sample"}.

        "names" is the hash of names and sizes.
        """
        names = _names(self.listing)
        there = self._pictures()
        entries = [entry for entry in there if entry]
        if len(entries) < len(names):
            missing = next(name for name, entry in zip(names, there, strict=True) if not entry)
            raise TinyTagsError(f"{files.join(self.path, missing)}: no such file")
        total = sum(entry.size for entry in entries)
        # A request a picture would take longer than ingesting them all.
        if total <= files.HASHED_BYTES and not files.is_hdfs(self.path):
            # The names include the folder, which is the label.
            return files.identity(
                [files.join(self.path, name) for name in names], names=names, entries=entries
            )
        listing = "".join(f"{entry.name}\0{entry.size}\0" for entry in entries)
        return {
            "bytes": total,
            "modified": max(entry.modified for entry in entries),
            "names": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest(),
            "sample": files.sample(
                [files.join(self.path, name) for name in names],
                [entry.size for entry in entries],
                self.webhdfs,
            ),
        }

    def status(self) -> list[files.Entry | None]:
        return self._pictures() + ([files.status(self.label_file, self.webhdfs)] if self.label_file else [])

    def _pictures(self) -> list[files.Entry | None]:
        there = {entry.name: entry for entry in files.walk_files(self.path, self.webhdfs)}
        return [there.get(name) for name in _names(self.listing)]

    def read(self, start: int, stop: int) -> Batch:
        """Return the pictures ``start`` to ``stop``; raises `TinyTagsError` for one that is gone."""
        check_rows(self, start, stop)
        names = _names(self.listing)[start:stop]
        images = np.empty((len(names), IMAGE_BYTES), np.uint8)
        bad = {}
        for row, name in enumerate(names):
            path = files.join(self.path, name)
            try:
                with files.open_file(path, self.webhdfs) as file:
                    images[row] = decode_picture(file, PILLOW_FORMATS)
            except PictureError as error:
                bad[row] = str(error)
            except files.UnreadableError as error:
                bad[row] = error.reason
        labels = _numbers(self.numbers)[start:stop]
        return Batch(images, labels, self.names(start, stop), bad)

    def names(self, start: int, stop: int) -> list[str]:
        """Return the names of the pictures ``start`` to ``stop``."""
        return [printable(name) for name in _names(self.listing)[start:stop]]


def open_folder(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Folder:
    """Open the pictures in the folder ``path`` and below: whatever Pillow reads of PNG, JPEG, WebP, GIF, BMP, AVIF, TIFF and PPM.

    The classes are sorted, or in the order of ``classes``; `label_pictures` describes where labels and splits are from, and
    ``labels``. Hidden files and notes (.txt, .json, .csv, ...) are ignored; a file that is neither picture nor note is a bad record.
    Raises `TinyTagsError` for no picture at all, and for more than 65,535 classes.
    """
    entries = files.list_files(path, webhdfs)
    pictures, others = _sort_out(path, entries, webhdfs)
    if not pictures:
        raise TinyTagsError(f"{path}: holds no picture ({', '.join(PILLOW_FORMATS)})")
    beside = [
        entry
        for entry in entries
        if entry.name.count("/") <= 1 and _suffix(entry.name) in label_files.SUFFIXES
    ]
    names = [entry.name for entry in pictures]
    labelled = label_pictures(path, names, others, labels, classes, webhdfs, beside)
    return Folder(
        path=path,
        images=len(labelled.names),
        classes=labelled.classes,
        labels=labels if labels in (None, NONE, FOLDERS) else labelled.file,
        splits=labelled.splits,
        webhdfs=webhdfs,
        listing=_pack(labelled.names),
        numbers=zlib.compress(labelled.numbers.tobytes()),
        label_file=labelled.file,
    )


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    if any(map(is_picture_name, source.names)):
        return Match.CONTENT
    return Match.SIZE if any(map(is_picture_name, source.sample)) else Match.NO


def is_picture_name(name: str) -> bool:
    """Return whether a file is a picture by its ending; hidden ones are not."""
    return _suffix(name) in SUFFIXES and not name.startswith(".")


def _sort_out(
    path: str, entries: list[files.Entry], webhdfs: str | None
) -> tuple[list[files.Entry], list[str]]:
    """Return the pictures among the files ``entries``, and the names of those that are neither pictures nor notes."""
    pictures, others = [], []
    for entry in entries:
        name = files.base_name(entry.name)
        if _suffix(name) in SUFFIXES:
            pictures.append(entry)
        elif _suffix(name) not in IGNORED_SUFFIXES and name.upper() not in IGNORED_NAMES:
            try:
                head = files.read_range(files.join(path, entry.name), 0, min(entry.size, 12), webhdfs)
            except files.UnreadableError:
                head = bytearray()
            named = (head[:4] == b"RIFF" and head[8:] == b"WEBP") or head[4:] == b"ftypavif"
            if head.startswith(_MAGICS) or named:
                pictures.append(entry)
            else:
                others.append(entry.name)
    return pictures, others


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _pack(names: list[str]) -> bytes:
    return zlib.compress("\0".join(names).encode("utf-8", "surrogateescape"))


@functools.lru_cache(maxsize=4)
def _names(listing: bytes) -> list[str]:
    return zlib.decompress(listing).decode("utf-8", "surrogateescape").split("\0")


@functools.lru_cache(maxsize=4)
def _numbers(numbers: bytes) -> NDArray[np.int32]:
    return np.frombuffer(zlib.decompress(numbers), np.int32)


FORMAT = Format(
    name="folder",
    example="pictures/",
    content="any pictures (PNG, JPEG, WebP, GIF, BMP, AVIF, TIFF, PPM); a folder a class gives labels",
    recognise=recognise,
    open=open_folder,
    labels="none, folders (the first folder of each path), or a file of names and labels, as CSV or with tabs",
    # With labels from annotations it has the classes that were chosen.
    has_own=lambda classes, labels: not labels and classes == sorted(classes),
)
