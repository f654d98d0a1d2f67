"""The formats of dumps that can be read, and opening a dump in the one that its content fits.

To add a format, write its module and add its name to `MODULES`; CONTRIBUTING.md has an example.
"""

import importlib
import itertools

from conf.command import join_names
from conf.errors import TinyTagsError
from ingest import files
from ingest.corpus import PARTITION_IMAGES, Corpus
from ingest.formats.dump import Batch, Dump
from ingest.formats.format import Format, Match, Source

__all__ = ["FORMATS", "Batch", "Dump", "Format", "ingest_command", "open_dump", "record_offset"]

# The modules of this folder that have a ``FORMAT``, in the order of the help.
MODULES = (
    "tiny_images",
    "cifar_10",
    "cifar_100",
    "mnist",
    "emnist",
    "hugging_face",
    "folder",
)
_formats: list[Format] = [importlib.import_module(f"ingest.formats.{name}").FORMAT for name in MODULES]
FORMATS = {format.name: format for format in _formats}
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive; unpack it and give its folder",
    b"(\xb5/\xfd": "a zstd archive; unpack it first",
    **dict.fromkeys(files.PACKED_MAGICS, "compressed, but holds neither MNIST nor a tar archive"),
    b"\x89PNG": "one picture; give the folder that it is in",
    b"\xff\xd8\xff": "one picture; give the folder that it is in",
    b"GIF8": "one picture; give the folder that it is in",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
    b"\x89HDF": "an HDF5 file; write its images as pictures or Parquet",
    b"\x93NUMPY": "a numpy array; write its images as pictures or Parquet",
    b"\xd0\xcf\x11\xe0": "a document or database of Windows",
    b"OggS": "a sound or film",
    b"ID3": "a sound",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it and give its folder",
    b"Rar!": "a RAR archive; unpack it and give its folder",
}


def open_dump(
    path: str,
    format: str | None = None,
    labels: str | None = None,
    classes: list[str] | None = None,
    webhdfs: str | None = None,
) -> Dump:
    """Open the dump at ``path``, local or remote, in ``format`` or in the one that its content fits best.

    ``labels`` is the value of --labels, whose meaning depends on the format; ``classes`` are names for the classes in place of the dump's own.
    Raises `TinyTagsError`, one line, for a path that is missing, empty or unreadable, for a format that doesn't fit, and
    for anything malformed that can be seen without reading it all.
    """
    path = files.absolute(path)
    if format is not None and format not in FORMATS:
        raise TinyTagsError(f"format {format!r} is unknown; there are {', '.join(FORMATS)}")
    entry = files.status(path, webhdfs)
    if entry is None:
        raise TinyTagsError(f"{path}: no such file or folder")
    if entry.is_dir:
        path = _inner_folder(path, webhdfs)
    else:
        files.check_file(path, entry)
    source = Source(path, entry, webhdfs)
    chosen = FORMATS[format] if format else _recognise(source)
    if format and not chosen.recognise(source) and (better := _best_matches(source)[1]):
        raise TinyTagsError(f"{path}: is not {format}: it looks like {' or '.join(better)}")
    if labels and not chosen.labels:
        raise TinyTagsError(f"{path}: {chosen.name} has its own labels; leave --labels {labels!r} out")
    return chosen.open(path, labels, classes, webhdfs)


def ingest_command(corpus: Corpus) -> list[str]:
    """Return the words of the command that ingests ``corpus`` again."""
    words = ["tinytags", "ingest", corpus.dump, "--corpus", corpus.name]
    if corpus.labels:
        words += ["--labels", corpus.labels]
    format = FORMATS.get(corpus.format)
    if format and format.record_bytes:  # without a header it may have been recognised by --format alone
        words += ["--format", format.name]
    if corpus.classes and not (format and format.has_own(corpus.classes, corpus.labels)):
        words += ["--classes", join_names(corpus.classes)]
    if corpus.partition_images != PARTITION_IMAGES:
        words += ["--partition-images", str(corpus.partition_images)]
    return words


def record_offset(format: str, record: int) -> int | None:
    """Return the byte of the dump's file at which ``record`` begins, in a format that is nothing but records of one size."""
    known = FORMATS.get(format)
    return record * known.record_bytes if known and known.record_bytes else None


def _recognise(source: Source) -> Format:
    best, matches = _best_matches(source)
    # Nothing but the name would do where the size is right: --format has to confirm it.
    if best == Match.NAME and any(_has_whole_records(source, FORMATS[name]) for name in matches):
        matches = []
    if not matches:
        known = "; ".join(f"{format.name}: {format.content}" for format in FORMATS.values())
        raise TinyTagsError(f"{source.path}: {_unknown(source)}. These formats can be read: {known}")
    if len(matches) > 1:
        raise TinyTagsError(f"{source.path}: could be {' or '.join(matches)}; choose one with --format")
    return FORMATS[matches[0]]


def _has_whole_records(source: Source, format: Format) -> bool:
    return bool(format.record_bytes and source.size and source.size % format.record_bytes == 0)


def _best_matches(source: Source) -> tuple[Match, list[str]]:
    """Return how well the formats fit ``source`` that fit it best, and their names."""
    matches = {name: format.recognise(source) for name, format in FORMATS.items()}
    best = max(matches.values())
    # An archive or a picture may have any size and name.
    if best == Match.NO or (best < Match.CERTAIN and source.head.startswith(tuple(_OTHER_FILES))):
        return best, []
    return best, [name for name, match in matches.items() if match == best]


def _inner_folder(path: str, webhdfs: str | None) -> str:
    """Return the folder that an official archive or torchvision made in ``path`` where there is no other, or ``path`` itself."""
    folders = [entry.name for entry in files.list_dir(path, webhdfs) if entry.is_dir and entry.name[0] != "."]
    if len(folders) == 1 and any(folders[0] in format.archive_folders for format in FORMATS.values()):
        return _inner_folder(files.join(path, folders[0]), webhdfs)
    return path


def _unknown(source: Source) -> str:
    """Describe a source that no format fits."""
    if source.is_dir:
        inside = {entry.name for entry in files.list_dir(source.path, source.webhdfs)}
        usual = itertools.chain.from_iterable(
            format.archive_folders + format.usual_names for format in FORMATS.values()
        )
        paths = [files.join(source.path, name) for name in usual if name in inside]
        hint = f" (did you mean {' or '.join(paths)}?)" if paths else ""
        return f"is a folder without pictures or batches in it{hint}"
    for magic, kind in _OTHER_FILES.items():
        if source.head.startswith(magic):
            return f"is {kind}"
    for format in FORMATS.values():
        if _has_whole_records(source, format):
            return (
                f"its size is a whole number of {format.record_bytes:,}-byte records, but they are no pictures; if it is {format.name} "
                f"all the same, give --format {format.name}"
            )
    return f"its {source.size:,} bytes are in no known format"
