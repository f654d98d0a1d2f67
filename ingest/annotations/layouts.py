"""Layouts of CSV files of annotations: recognised by the names of their columns, not by their order or the file's name."""

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from conf.errors import TinyTagsError

Kind = Literal["classes", "labels", "relations"]

# The corners of the boxes of both classes: relations of the same classes in other boxes are other relations.
BOXES = ("xmin1", "xmax1", "ymin1", "ymax1", "xmin2", "xmax2", "ymin2", "ymax2")
# A column of another name that is as similar as this is read as the one that is missing: a release has a misspelt one.
SIMILAR = 0.8


class BadRowError(TinyTagsError):
    """A row that can't be read; it is counted and listed, and the others are read."""


@dataclass(frozen=True)
class TableLayout:
    """What a file holds, and the place of each of its columns that are read."""

    kind: Kind
    columns: Mapping[str, int]
    width: int  # fields of a row
    header: bool = True
    # Columns that are read as another one: theirs -> ours.
    renamed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """The names of a layout's columns in lower case, by what they are read as."""

    kind: Kind
    required: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)


_KNOWN = (
    _Known(
        "relations",
        {
            "imageid": "image", "labelname1": "class1", "labelname2": "class2", "relationshiplabel": "relation",
            **{name: name for name in BOXES},
        },
    ),
    _Known("relations", {"imageid": "image", "label1": "class1", "relation": "relation", "label2": "class2"}),
    _Known(
        "labels",
        {"imageid": "image", "source": "source", "labelname": "class", "confidence": "confidence"},
    ),
    _Known(
        "labels", {"imageid": "image", "label": "class"}, {"source": "source", "confidence": "confidence"}
    ),
    _Known("classes", {"labelname": "class", "displayname": "name"}),
    _Known("classes", {"label": "class", "description": "name"}),
)  # fmt: skip
# Files of Open Images that hold something else: boxes, where the pictures are, masks, and labels of points.
_OTHERS = ({"xmin", "xmax"}, {"originalurl"}, {"maskpath"}, {"boxid"}, {"estimatedyesno"})
# Names that only a header has, by which a file is known to lack a column rather than to hold something else.
_KNOWN_COLUMNS = {
    "labelname",
    "labelname1",
    "labelname2",
    "label1",
    "label2",
    "relationshiplabel",
    "displayname",
}


def recognise(first: str, path: str) -> TableLayout | None:
    """Return the layout of a file by its first line, without a line end; None for a file that holds something else.

    Raises `TinyTagsError` for a file of a known layout that lacks one of its columns.
    """
    try:
        fields = split_row(first)
    except BadRowError:
        return None
    names = [name.strip().lower() for name in fields]
    best: tuple[int, _Known, dict[str, int], dict[str, str]] | None = None
    if any(other <= set(names) for other in _OTHERS):
        return None
    if {"labelname1", "labelname2"} <= set(names) and not any("image" in name for name in names):
        return None  # which relations there can be
    for known in _KNOWN:
        columns, renamed = _match(known, names, fields)
        missing = len(known.required) - len(columns)
        if not missing:
            columns |= {ours: names.index(name) for name, ours in known.optional.items() if name in names}
            return TableLayout(known.kind, columns, len(fields), renamed=renamed)
        if best is None or missing < best[0]:
            best = missing, known, columns, renamed
    if len(fields) >= 2 and fields[0].startswith(("/m/", "/g/", "/t/")):
        return TableLayout("classes", {"class": 0, "name": 1}, 2, header=False)
    assert best is not None
    if _KNOWN_COLUMNS & set(names):
        _, known, columns, _ = best
        lacking = [name for name, ours in known.required.items() if ours not in columns]
        raise TinyTagsError(
            f"{path}: is a file of {known.kind} by its header, but lacks the column {lacking[0]!r} "
            f"(it has {', '.join(fields)})"
        )
    return None


def _match(known: _Known, names: list[str], fields: list[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Return the place of each column of a layout that a header has, and those that are misspelt there."""
    columns = {ours: names.index(name) for name, ours in known.required.items() if name in names}
    renamed = {}
    for name, ours in known.required.items():
        left = [other for at, other in enumerate(names) if at not in columns.values()]
        if ours not in columns and len(columns) * 2 >= len(known.required):
            for close in difflib.get_close_matches(name, left, 1, SIMILAR):
                columns[ours] = names.index(close)
                renamed[fields[columns[ours]]] = name
    return columns, renamed


def split_row(line: str) -> list[str]:
    """Return the fields of a line. Raises `BadRowError` for a quotation mark that isn't closed in it."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration):
        raise BadRowError(
            "a quotation mark is not closed on this line; a field can't have a line break"
        ) from None
