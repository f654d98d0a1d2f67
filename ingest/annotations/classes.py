"""The classes of annotations: their names, and the hierarchy of which a class is a kind or a part of another."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from conf.errors import TinyTagsError
from ingest.annotations.layouts import BadRowError, TableLayout, split_row
from storage import layout
from storage.store import Store


@dataclass(frozen=True)
class Classes:
    """Names by id; and of the hierarchy the kinds and the parts of each class, by id."""

    names: dict[str, str]
    kinds: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)

    def name(self, label: str) -> str:
        """Return the name of a class; its id where no file names it."""
        return self.names.get(label, label)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        labels: dict[str, list[str]] = {}
        for label, name in self.names.items():
            labels.setdefault(name, []).append(label)
        return labels

    @cached_property
    def _by_lower(self) -> dict[str, list[str]]:
        labels: dict[str, list[str]] = {}
        for label, name in self.names.items():
            labels.setdefault(name.lower(), []).append(label)
        return labels

    def labels(self, name: str) -> list[str]:
        """Return the ids of the classes of this name, in any case where none has it exactly; the name itself where none has it.

        That one may be the id of a class without a name.
        """
        return self._by_name.get(name) or self._by_lower.get(name.lower()) or [name]

    def with_kinds(self, labels: Iterable[str]) -> set[str]:
        """Return these classes and all kinds of them, at any depth."""
        reached: set[str] = set()
        pending = list(labels)
        while pending:
            label = pending.pop()
            if label not in reached:
                reached.add(label)
                pending += self.kinds.get(label, [])
        return reached


def read_names(text: str, table: TableLayout) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Return the names in a file of classes, and its bad rows as (line, reason)."""
    names: dict[str, str] = {}
    bad = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and table.header):
            continue
        try:
            fields = split_row(line)
            if len(fields) < table.width:
                raise BadRowError(f"{len(fields)} of {table.width} fields")
            if table.width == 2:  # a name with a comma that isn't quoted
                fields = [fields[0], ",".join(fields[1:])]
            label, name = fields[table.columns["class"]].strip(), fields[table.columns["name"]].strip()
            if not label or not name:
                raise BadRowError("an empty id or name")
            if names.setdefault(label, name) != name:
                raise BadRowError(f"class {label} has another name before: {names[label]!r}")
        except BadRowError as error:
            bad.append((number, str(error)))
    return names, bad


def read_hierarchy(text: str, path: str) -> Classes | None:
    """Return the hierarchy in a JSON file, without names; None for a file that holds something else.

    Raises `TinyTagsError` for one that isn't JSON.
    """
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TinyTagsError(f"{path}: is not JSON ({error})") from None
    if not isinstance(root, dict) or not isinstance(root.get("LabelName"), str):
        return None
    classes = Classes({}, roots=[root["LabelName"]])
    pending = [root]
    while pending:
        node = pending.pop()
        for key, children in (("Subcategory", classes.kinds), ("Part", classes.parts)):
            for child in node.get(key) or []:
                if not isinstance(child, dict) or not isinstance(child.get("LabelName"), str):
                    raise TinyTagsError(f"{path}: {node['LabelName']} has a child without a LabelName")
                known = children.setdefault(node["LabelName"], [])
                if child["LabelName"] not in known:
                    known.append(child["LabelName"])
                pending.append(child)
    return classes


def merge(parts: Iterable[Classes]) -> Classes:
    """Return the classes of several files together; the first name of a class counts."""
    merged = Classes({})
    for part in parts:
        for label, name in part.names.items():
            merged.names.setdefault(label, name)
        for ours, theirs in ((merged.kinds, part.kinds), (merged.parts, part.parts)):
            for label, children in theirs.items():
                known = ours.setdefault(label, [])
                known += [child for child in children if child not in known]
        merged.roots.extend(root for root in part.roots if root not in merged.roots)
    return merged


def write_classes(store: Store, name: str, classes: Classes) -> None:
    """Write the classes of the annotations ``name``. Raises `StoreError`."""
    store.write_json(
        layout.annotations_classes(name),
        {"names": classes.names, "kinds": classes.kinds, "parts": classes.parts, "roots": classes.roots},
    )


def read_classes(store: Store, name: str) -> Classes:
    """Return the classes of annotations. Raises `StoreError`."""
    document: dict[str, Any] = store.read_json(layout.annotations_classes(name))
    return Classes(document["names"], document["kinds"], document["parts"], document["roots"])
