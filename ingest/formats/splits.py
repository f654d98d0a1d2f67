"""Splits of data sets, by the names that folders and files have: train, validation, test."""

import re
from collections.abc import Iterable

# How files and folders of a split are called.
_SPLITS = re.compile(r"(training|train|validation|valid|val|dev|testing|test)(?![a-z])")
_KINDS = {"training": "train", "train": "train", "testing": "test", "test": "test"}
# In this order they are in a corpus; "" is for what belongs to none.
ORDER = ("train", "", "validation", "test")


def split_of(name: str, whole: bool = False) -> str:
    """Return train, validation or test where a name begins with a word for it, or with ``whole`` is one; "" for none."""
    match = _SPLITS.fullmatch(name.lower()) if whole else _SPLITS.match(name.lower())
    return _KINDS.get(match[1], "validation") if match else ""


def split_ranges(splits: Iterable[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """Return the range of rows of each split from (split, number of rows) in order; none unless there are train and test.

    Where there is no test split, the validation split is used as one.
    """
    rows: dict[str, tuple[int, int]] = {}
    row = 0
    for split, count in splits:
        rows[split] = (rows.get(split, (row, row))[0], row + count)
        row += count
    if "test" not in rows and "validation" in rows:
        rows["test"] = rows.pop("validation")
    rows.pop("", None)
    return rows if "train" in rows and "test" in rows else {}
