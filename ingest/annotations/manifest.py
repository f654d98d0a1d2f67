"""The manifest of annotations: the files that they are read from, as ranges of bytes, and the documents they become."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from conf.errors import TinyTagsError
from conf.wording import counted
from ingest import files
from ingest.annotations.classes import Classes, merge, read_hierarchy, read_names
from ingest.annotations.layouts import TableLayout, recognise
from storage import layout
from storage.manifests import list_names, open_manifest
from storage.store import Store, check_name

VERSION = 1
PARTITION_BYTES = 32 << 20
# A header or a row is not longer than this.
MOST_LINE = 1 << 20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class AnnotationFile:
    """A file of labels or relations: the place of each column, and where its rows begin and end."""

    path: str
    kind: Literal["labels", "relations"]
    columns: dict[str, int]
    width: int
    start: int
    size: int

    def partitions(self, partition_bytes: int) -> int:
        return -(-(self.size - self.start) // partition_bytes)


@dataclass(frozen=True)
class DocumentsOf:
    """The images or the relations of annotations, as the indexer knows them: a `storage.documents.DocumentSet`."""

    annotations: str
    kind: Literal["images", "relations"]
    prefix: str
    partitions: int

    configset = "annotations"
    counts = ("documents",)

    @property
    def name(self) -> str:
        return f"{self.annotations}-{self.kind}-{self.prefix}"

    @property
    def alias(self) -> str:
        """The alias that the pages search."""
        return f"{self.annotations}-{self.kind}"

    @property
    def folder(self) -> str:
        return f"{layout.annotations_folder(self.annotations)}/{self.kind}"

    @property
    def documents_folder(self) -> str:
        return f"{self.folder}/documents"

    @property
    def what(self) -> str:
        return f"the {self.kind} of annotations {self.annotations!r}"

    @property
    def make(self) -> str:
        return f"tinytags annotations --name {self.annotations}"

    @property
    def repair(self) -> str:
        return f"tinytags verify {self.annotations} --repair"


@dataclass(frozen=True)
class Annotations:
    """The manifest, frozen once written."""

    name: str
    folder: str  # that was read
    identity: dict[str, Any]  # of the files
    sources: list[AnnotationFile]
    partition_bytes: int
    version: int = VERSION

    @property
    def hash(self) -> str:
        """The sha256 of what decides the documents; not the name, nor where the files are."""
        contents = asdict(self)
        del contents["name"], contents["folder"]
        for source in contents["sources"]:
            source["path"] = files.base_name(source["path"])
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

    @property
    def ranges(self) -> int:
        """How many ranges of bytes the files are read in."""
        return sum(source.partitions(self.partition_bytes) for source in self.sources)

    @property
    def partitions(self) -> int:
        """How many partitions the documents are in: an image is in that of its id."""
        return max(1, self.ranges)

    def range(self, number: int) -> tuple[AnnotationFile, int, int]:
        """Return the file of a range, its first byte and the one after its last."""
        for source in self.sources:
            count = source.partitions(self.partition_bytes)
            if number < count:
                start = source.start + number * self.partition_bytes
                return source, start, min(start + self.partition_bytes, source.size)
            number -= count
        raise IndexError(number)

    def documents(self, kind: Literal["images", "relations"]) -> DocumentsOf:
        return DocumentsOf(self.name, kind, self.hash[:8], self.partitions)

    @property
    def sets(self) -> tuple[DocumentsOf, DocumentsOf]:
        """Both sets of documents: images, then relations."""
        return self.documents("images"), self.documents("relations")


@dataclass(frozen=True)
class Scanned:
    """What a folder holds: the manifest, the classes, and lines for the user."""

    annotations: Annotations
    classes: Classes
    notes: list[str]


def scan(
    folder: str, name: str, partition_bytes: int = PARTITION_BYTES, webhdfs: str | None = None
) -> Scanned:
    """Return the annotations in a folder, local or remote, with its sub-folders.

    Raises `TinyTagsError` for a folder without labels and relations, and for a file that lacks a column.
    """
    check_name("annotations", name)
    folder = files.absolute(folder)
    if not files.is_dir(folder, webhdfs):
        raise TinyTagsError(f"{folder}: is not a folder; give the one that the CSV files are in")
    sources: list[AnnotationFile] = []
    classes: list[Classes] = []
    notes: list[str] = []
    used: list[str] = []
    for entry in files.list_files(folder, webhdfs):
        path = files.join(folder, entry.name)
        ending = entry.name.lower().rpartition(".")[2]
        if ending not in ("csv", "json"):
            if ending in ("gz", "zip", "bz2", "xz"):
                notes.append(f"{path}: is compressed, and not read; unpack it")
            continue
        if not entry.size:
            notes.append(f"{path}: is empty")
            continue
        if ending == "json":
            hierarchy = read_hierarchy(_text(path, entry.size, webhdfs), path)
            if hierarchy:
                classes.append(hierarchy)
                used.append(entry.name)
            continue
        table, start = _recognise(path, entry.size, webhdfs)
        if table is None:
            notes.append(
                f"{path}: is not read; it holds neither classes nor labels nor relations by its header"
            )
            continue
        used.append(entry.name)
        notes += [f"{path}: column {theirs!r} is read as {ours!r}" for theirs, ours in table.renamed.items()]
        if table.kind == "classes":
            names, bad = read_names(_text(path, entry.size, webhdfs), table)
            classes.append(Classes(names))
            notes += [f"{path}:{line}: {reason}" for line, reason in bad[:10]]
            if len(bad) > 10:
                notes.append(f"{path}: {counted(len(bad), 'bad row')} in all")
        else:
            sources.append(
                AnnotationFile(path, table.kind, dict(table.columns), table.width, start, entry.size)
            )
    if not sources:
        raise TinyTagsError(
            f"{folder}: has no CSV file of labels or relations; a header like ImageID,Source,LabelName,Confidence or "
            "ImageId,Label1,Relation,Label2 shows what one is"
        )
    merged = merge(classes)
    if not merged.names:
        notes.append(f"{folder}: has no file of class descriptions, so classes are shown by their ids")
    identity = files.identity([files.join(folder, one) for one in used], webhdfs, used)
    return Scanned(Annotations(name, folder, identity, sources, partition_bytes), merged, notes)


def _recognise(path: str, size: int, webhdfs: str | None) -> tuple[TableLayout | None, int]:
    """Return the layout of a CSV file, and where its rows begin. Raises `TinyTagsError` for line ends that can't be read."""
    head = bytes(files.read_range(path, 0, min(size, MOST_LINE), webhdfs))
    bom = len(BOM) if head.startswith(BOM) else 0
    line, newline, _ = head[bom:].partition(b"\n")
    first, _, more = line.partition(b"\r")
    table = recognise(first.decode(errors="replace"), path)
    if table is not None and more:
        raise TinyTagsError(
            f"{path}: its lines end in a carriage return alone, as on old Macs; convert them: tr '\\r' '\\n' < FILE > NEW"
        )
    if table is None or not table.header:
        return table, bom
    return table, bom + len(line) + len(newline)


def _text(path: str, size: int, webhdfs: str | None) -> str:
    data = bytes(files.read_range(path, 0, size, webhdfs))
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise TinyTagsError(f"{path}: byte {error.start:,} is not UTF-8") from None


def list_annotations(store: Store) -> list[str]:
    """Return the sorted names of the annotations in a store."""
    return list_names(store, "annotations")


def open_annotations(store: Store, name: str) -> Annotations:
    """Read a manifest. Raises `TinyTagsError` for annotations that aren't there or a manifest that was changed."""
    return open_manifest(store, "annotations", name, _parse)


def create_annotations(store: Store, made: Annotations) -> None:
    """Write the manifest, or check that the one there is the same.

    Raises `TinyTagsError`, with both hashes, where others have the name.
    """
    path = layout.annotations_manifest(made.name)
    if store.exists(path):
        there = open_annotations(store, made.name)
        if there.hash != made.hash:
            raise TinyTagsError(
                f"annotations {made.name!r} exist already, of other files ({there.hash[:8]}, not {made.hash[:8]}); give "
                f"these another name, or remove {store.url(layout.annotations_folder(made.name))}"
            )
        return
    store.write_json(path, asdict(made) | {"hash": made.hash})
    store.sync(layout.annotations_folder(made.name))


def _parse(manifest: dict[str, Any]) -> Annotations:
    values = {key.name: manifest[key.name] for key in fields(Annotations)}
    return Annotations(**values | {"sources": [AnnotationFile(**source) for source in values["sources"]]})
