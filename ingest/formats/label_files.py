"""Files of names and labels beside pictures: CSV, and lines with tabs or a space between name and label."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt")
_NAME_COLUMNS = {"id", "image", "image_id", "img", "file", "filename", "file_name", "name", "path"}
_LABEL_COLUMNS = {"label", "labels", "class", "class_name", "category", "target", "breed", "species"}
_FILE_BYTES = 256 << 20
# Of a file that is not used only the beginning is read, and only some of many: each is a request where they are remote.
_HEAD_BYTES, _HEAD_ROWS, _MOST_READ, _MOST_NOTED = 1 << 16, 50, 20, 5


def pictures_by_name(pictures: list[str]) -> dict[str, list[str]]:
    """Return the pictures by what a file may call them: path or file name, with the ending or without."""
    by_name: dict[str, list[str]] = {}
    for name in pictures:
        base = files.base_name(name)
        for key in {name, name.rpartition(".")[0], base, base.rpartition(".")[0]}:
            by_name.setdefault(key, []).append(name)
    return by_name


def read_labels(at: str, webhdfs: str | None, required: bool) -> list[tuple[str, str]]:
    """Return name and label of the rows of a file; none of one that is not ``required`` and is too large, no CSV in UTF-8, or without a column of labels.

    Raises `TinyTagsError` for a ``required`` file that has no labels, or where it isn't clear which column they are.
    """
    entry = files.file_status(at, webhdfs) if required else files.status(at, webhdfs)
    size = entry.size if entry else 0
    if not size:  # of one that is not required
        return []
    if size > _FILE_BYTES:
        if not required:
            return []
        raise TinyTagsError(f"{at}: has {size:,} bytes; a file of labels has at most {_FILE_BYTES:,}")
    try:
        rows = _rows(bytes(files.read_range(at, 0, size, webhdfs)).decode("utf-8-sig"))
    except (UnicodeDecodeError, csv.Error) as error:
        if not required:
            return []
        raise TinyTagsError(f"{at}: is no CSV file in UTF-8 ({error})") from None
    return _pairs(at, rows, required)


def _rows(text: str) -> list[list[str]]:
    """Return the rows that aren't empty, separated by commas, or where the first has none by semicolons, tabs or its only space."""
    first = text.lstrip().partition("\n")[0].strip()
    other = " " if first.count(" ") == 1 else ","
    separator = next((one for one in ",;\t" if one in first), other)
    lines = io.StringIO(text, newline="")
    return [row for row in csv.reader(lines, delimiter=separator) if row]


def _pairs(at: str, rows: list[list[str]], required: bool) -> list[tuple[str, str]]:
    header = [column.strip().lower() for column in rows[0]] if rows else []
    name = next((place for place, column in enumerate(header) if column in _NAME_COLUMNS), None)
    label = next((place for place, column in enumerate(header) if column in _LABEL_COLUMNS), None)
    if label is None and not required:
        return []
    if required and any(len(row) < 2 for row in rows):
        raise TinyTagsError(f"{at}: a row has no label; a file of labels has two columns, name and label")
    if label is None and name is not None and len(header) > 2:  # a column for each class, for example
        raise TinyTagsError(
            f"{at}: none of its columns ({', '.join(rows[0][:5])}{', ...' if len(header) > 5 else ''}) is called label; "
            "give that name to the one with the labels"
        )
    begin = 0 if name is None and label is None else 1
    name = name if name is not None else int(label == 0)
    label = label if label is not None else int(name == 0)
    return [
        (row[name].strip(), row[label].strip())
        for row in rows[begin:]
        if len(row) > max(name, label) and row[label].strip()
    ]


def note_unused(
    path: str, beside: list[files.Entry], candidates: Callable[[str], list[str]], webhdfs: str | None
) -> None:
    """Note which of the files ``beside`` the pictures of ``path`` may hold labels, and how to use each.

    ``candidates`` returns the pictures that a file may name.
    These are the files with "label" in their name, and those whose rows begin with names of pictures.
    """
    likely = sorted(
        filter(lambda entry: entry.size, beside), key=lambda entry: (not _is_named(entry.name), entry.name)
    )
    known: dict[tuple[int, str], dict[str, list[str]]] = {}
    noted = 0
    for entry in likely[:_MOST_READ]:
        at = files.join(path, entry.name)
        try:
            head = bytes(files.read_range(at, 0, min(entry.size, _HEAD_BYTES), webhdfs))
        except files.UnreadableError:
            continue
        lines = head.decode("utf-8-sig", "replace").splitlines(keepends=True)
        lines = lines[:-1] if len(head) < entry.size and len(lines) > 1 else lines  # the last one is cut off
        pictures = candidates(at)
        key = len(pictures), pictures[0]  # all, or those of a split: a million names take seconds
        by_name = known.get(key) or known.setdefault(key, pictures_by_name(pictures))
        usable = _names_pictures(at, lines[:_HEAD_ROWS], by_name)
        if usable is None and not _is_named(entry.name):
            continue
        noted += 1
        if noted > _MOST_NOTED:
            note(f"{path}: more files like these may hold labels")
            return
        if not usable:
            how = "--labels takes a CSV file with the columns name and label"
        elif entry.size > _FILE_BYTES:
            how = f"it has {entry.size:,} bytes, and --labels takes a file of at most {_FILE_BYTES:,}"
        elif any("\N{REPLACEMENT CHARACTER}" in line for line in lines):
            how = f"save it in UTF-8, then --labels {at} takes it"
        else:
            how = f"--labels {at} takes it"
        note(f"{path}: {entry.name} may hold labels and is not used: {how}")


def _is_named(name: str) -> bool:
    return "label" in files.base_name(name).lower()


def _names_pictures(at: str, lines: list[str], by_name: Mapping[str, list[str]]) -> bool | None:
    """Return whether a file that begins with ``lines`` can be given by --labels; None where its rows don't begin with pictures."""
    if at.lower().endswith(".jsonl"):
        return None if not any(_objects_name(line, by_name) for line in lines) else False
    if at.lower().endswith(".json"):
        strings = (text for line in lines for text in re.findall(r'"([^"]+)"', line))
        return None if not any(text in by_name for text in strings) else False
    try:
        rows = _rows("".join(lines))
    except csv.Error:
        return None
    several = [row for row in rows if len(row) > 1]
    named = sum(row[0].strip() in by_name for row in several)
    try:
        if any(len(by_name.get(name, ())) == 1 for name, _ in _pairs(at, rows, required=True)):
            return True
    except TinyTagsError:
        pass
    return False if named and 2 * named >= len(several) - 1 else None


def _objects_name(line: str, by_name: Mapping[str, list[str]]) -> bool:
    try:
        values = json.loads(line)
    except ValueError:
        return False
    return isinstance(values, dict) and any(
        value in by_name for value in values.values() if isinstance(value, str)
    )
