"""Documents of a partition of images: one an image, with its labels, and one a relation."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from conf.garbage import no_collection
from ingest.annotations.classes import Classes
from ingest.annotations.manifest import Annotations, DocumentsOf
from ingest.annotations.rows import MACHINE, Row, read_rows
from storage import layout
from storage.documents import documents_file
from storage.store import Store

# Lower than all characters of an image's id, so that relations in the order of their ids are in that of images. Not 1F, by which
# ids are separated in a request to Solr.
BEFORE_NUMBER = "\x1e"


@dataclass
class _Image:
    """What is known of an image."""

    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    machine: dict[str, float] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    relations: set[Row] = field(default_factory=set)


@no_collection()
def write_documents(
    store: Store, annotations: Annotations, classes: Classes, partition: int
) -> dict[str, Any]:
    """Write the documents of a partition, then their statistics, those of images last; return these.

    A row that is there twice counts as a duplicate and makes one label, or one relation.
    """
    began = time.monotonic()
    images: defaultdict[str, _Image] = defaultdict(_Image)
    duplicates = {"labels": 0, "relations": 0}
    seen: set[Row] = set()
    rows = 0
    for row in read_rows(store, annotations, "labels", partition):
        rows += 1
        if row in seen:
            duplicates["labels"] += 1
            continue
        seen.add(row)
        _add_label(images[row[0]], row)
    for row in read_rows(store, annotations, "relations", partition):
        rows += 1
        known = images[row[0]].relations
        duplicates["relations"] += row in known
        known.add(row)
    of_images, of_relations = annotations.sets
    ordered = sorted(images.items())
    relations = (
        line
        for image, known in ordered
        for line in _relation_lines(image, known.relations, classes, partition)
    )
    made = {
        "rows": rows,
        "duplicate_labels": duplicates["labels"],
        "duplicate_relations": duplicates["relations"],
    }
    written = _write(store, of_relations, partition, relations, began, {})
    lines = (_image_line(image, known, partition) for image, known in ordered)
    return (
        made | {"relations": written["documents"]} | _write(store, of_images, partition, lines, began, made)
    )


def _add_label(image: _Image, row: Row) -> None:
    _, label, source, confidence = row
    if source:
        image.sources.add(source)
    if source.lower() == MACHINE:
        image.machine[label] = max(confidence, image.machine.get(label, 0.0))
    else:
        (image.present if confidence else image.absent).add(label)


def _image_line(image: str, known: _Image, partition: int) -> bytes:
    values: dict[str, Any] = {
        "id": image,
        "partition": partition,
        "classes": _sorted(known.present),
        "absent": _sorted(known.absent),
        "machine": _sorted(f"{confidence!r} {label}" for label, confidence in known.machine.items()),
        "sources": _sorted(known.sources),
        "relations": _sorted({row[2] for row in known.relations}),
    }
    return _line({key: value for key, value in values.items() if value != []})


def _relation_lines(image: str, rows: set[Row], classes: Classes, partition: int) -> Iterable[bytes]:
    """Yield the relations of an image as they are shown: by the names of their classes."""

    def order(row: Row) -> Row:
        return classes.name(row[1]), row[2], classes.name(row[3]), row

    for number, row in enumerate(sorted(rows, key=order)):
        _, class1, relation, class2, _ = row
        yield _line(
            {
                "id": f"{image}{BEFORE_NUMBER}{number:06d}",
                "partition": partition,
                "image": image,
                "class1": class1,
                "relation": relation,
                "class2": class2,
                "lower1": classes.name(class1).lower(),
                "lower_relation": relation.lower(),
                "lower2": classes.name(class2).lower(),
            }
        )


def _write(
    store: Store,
    documents: DocumentsOf,
    partition: int,
    lines: Iterable[bytes],
    began: float,
    more: dict[str, int],
) -> dict[str, Any]:
    digest, size, count = hashlib.sha256(), 0, 0
    with store.writer(documents_file(documents, partition)) as file:
        for line in lines:
            file.write(line)
            digest.update(line)
            size += len(line)
            count += 1
    statistics = {
        "partition": partition, "documents": count, **more, "bytes": size, "sha256": digest.hexdigest(),
        "seconds": round(time.monotonic() - began, 4),
    }  # fmt: skip
    store.write_json(layout.statistics(documents.folder, partition), statistics)
    return statistics


def _sorted(values: Iterable[str]) -> list[str]:
    """Return values in the order in which Solr returns them: that of their bytes in UTF-8."""
    return sorted(values, key=str.encode)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
