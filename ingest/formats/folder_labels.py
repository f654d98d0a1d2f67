"""The labels and splits of a folder's pictures: from the names of their folders, or from a CSV file of names and labels."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conf.command import note
from conf.errors import TinyTagsError
from ingest import files
from ingest.formats.dump import MOST_CLASSES, check_classes
from ingest.formats.label_files import note_unused, pictures_by_name, read_labels
from ingest.formats.splits import ORDER, split_of, split_ranges

# The values of --labels beside a path.
NONE, FOLDERS = "none", "folders"


@dataclass(frozen=True)
class Labelled:
    """Names in the order of the rows, and what is known of each: its split and the number of its class, -1 for none."""

    names: list[str]
    splits: dict[str, tuple[int, int]]
    classes: list[str] | None
    numbers: npt.NDArray[np.int32]
    file: str | None  # the file of labels


def label_pictures(
    path: str,
    pictures: list[str],
    others: list[str],
    labels: str | None,
    classes: list[str] | None,
    webhdfs: str | None,
    beside: list[files.Entry],
) -> Labelled:
    """Decide the order, splits and labels of the ``pictures`` of the folder ``path``, names relative to it.

    ``others`` are files that are no pictures, which have no label. ``labels`` is ``none``, ``folders`` (the first folder of each
    path) or a file of names and labels; by default the folders are the classes where most pictures lie exactly one folder deep, else
    a CSV file that names pictures: the first of those ``beside`` them, files of lines at the top or one folder below. Train, validation and test folders above these are splits.
    What is not used though it may be labels is noted. Raises `TinyTagsError` for classes that don't fit.
    """
    classes = check_classes(classes)
    split = _splits(pictures)
    names = sorted(pictures + others, key=lambda name: (ORDER.index(split(name)), name))
    counts = Counter(map(split, names))
    splits = split_ranges((one, counts[one]) for one in ORDER if counts[one])
    known: dict[str, str] = {}
    file = None
    if labels == NONE:
        pass
    elif labels not in (None, FOLDERS):
        assert labels is not None
        file = files.absolute(labels)
        known = _from_file(path, file, pictures, split, webhdfs)
    else:
        inner = {name: name.partition("/")[2] if split(name) else name for name in pictures}
        known = {
            name: rest.partition("/")[0]
            for name, rest in inner.items()
            if rest.count("/") == 1 or (labels == FOLDERS and "/" in rest)
        }
        if not labels and not _most(known, pictures, split):
            folders = sorted({rest.partition("/")[0] for rest in inner.values() if "/" in rest})
            known = {}
            noted: set[str] = set()
            for entry in beside:
                at = files.join(path, entry.name)
                if known or "/" in entry.name or not entry.name.lower().endswith(".csv"):
                    continue
                if known := _from_file(path, at, pictures, split, webhdfs, noted):
                    file = at
            if not known:
                unused = [entry for entry in beside if entry.name not in noted]
                note_unused(path, unused, lambda at: _candidates(at, pictures, split), webhdfs)
            if not known and len(folders) > 1:
                note(
                    f"{path}: no labels, since most pictures don't lie exactly one folder deep; --labels {FOLDERS} takes the first folder of "
                    f"each ({', '.join(folders[:3])}, ...)"
                )
    if known and len(known) < len(pictures):
        unlabelled = set(pictures) - known.keys()
        first = next(name for name in names if name in unlabelled)
        source = (
            f"{file} has no label for" if file else "in no folder of a class, and so without a label, are"
        )
        note(
            f"{path}: {source} {len(pictures) - len(known):,} of {len(pictures):,} pictures ({printable(first)}, ...)"
        )
    return _numbered(path, names, splits, known, classes, file)


def _numbered(
    path: str,
    names: list[str],
    splits: dict[str, tuple[int, int]],
    known: dict[str, str],
    classes: list[str] | None,
    file: str | None,
) -> Labelled:
    if not known:
        if classes:
            raise TinyTagsError(
                f"{path}: classes are given, but the pictures aren't in a folder for each class"
            )
        return Labelled(names, splits, None, np.full(len(names), -1, np.int32), None)
    distinct = sorted(set(known.values()))
    if classes and (unknown := [name for name in distinct if name not in classes]):
        where = file or files.join(path, unknown[0])
        raise TinyTagsError(
            f"{where}: {unknown[0]!r}, the name of a class, isn't among the {len(classes)} classes given"
        )
    if len(distinct) > MOST_CLASSES:
        raise TinyTagsError(
            f"{path}: has {len(distinct):,} classes; there can be {MOST_CLASSES:,} (--labels {NONE} ingests it without labels)"
        )
    try:
        used = classes or check_classes(distinct) or []
    except TinyTagsError as error:
        raise TinyTagsError(
            f"{file or path}: {error}; rename it, or leave labels out with --labels {NONE}"
        ) from None
    numbers = {name: number for number, name in enumerate(used)}
    labels = np.array([numbers[known[name]] if name in known else -1 for name in names], np.int32)
    return Labelled(names, splits, used, labels, file)


def _splits(pictures: list[str]) -> Callable[[str], str]:
    """Return the function that returns the split of a name: by its first folder, where all of these are splits and one is train."""
    tops = {name.partition("/")[0] for name in pictures if "/" in name}
    by_folder = {top: split_of(top, whole=True) for top in tops}
    if len(tops) < 2 or not all(by_folder.values()) or "train" not in by_folder.values():
        by_folder = {}
    return lambda name: by_folder.get(name.partition("/")[0], "") if "/" in name else ""


def _most(known: dict[str, str], pictures: list[str], split: Callable[[str], str]) -> bool:
    """Return whether most pictures have a label; where there are splits, most of those to train on."""
    trained = [name for name in pictures if split(name) == "train"] or pictures
    return 2 * sum(name in known for name in trained) > len(trained)


def _candidates(at: str, pictures: list[str], split: Callable[[str], str]) -> list[str]:
    """Return the pictures that a file of labels may name: those of the split with which its own name begins, else all."""
    own = split_of(files.base_name(at).replace("Labels", "_labels"))
    return ([name for name in pictures if split(name) == own] if own else []) or pictures


def _from_file(
    path: str,
    at: str,
    pictures: list[str],
    split: Callable[[str], str],
    webhdfs: str | None,
    noted: set[str] | None = None,
) -> dict[str, str]:
    """Return the label of each picture that a file names: by path, or by file name, with its ending or without.

    Where several pictures have a name, those of the split with which the file's own name begins (``trainLabels.csv``) are named.
    With ``noted`` the file was found, not given: it needs a column called label or class, and must name half of these pictures;
    the name of one that is not used, and was noted, is added to ``noted``.
    """
    required = noted is None
    candidates = _candidates(at, pictures, split)
    by_name = pictures_by_name(candidates)
    labels: dict[str, str] = {}
    rows = 0
    for key, label in read_labels(at, webhdfs, required):
        rows += 1
        named = by_name.get(key, ())
        if len(named) == 1:
            labels[named[0]] = label
        elif named and required:
            raise TinyTagsError(
                f"{at}: {key!r} names {len(named)} pictures ({', '.join(map(printable, named[:2]))}, ...)"
            )
    if required and not labels:
        raise TinyTagsError(f"{at}: none of its {rows:,} rows names a picture in {path}")
    if noted is not None and 2 * len(labels) < len(candidates):
        if rows:
            noted.add(files.base_name(at))
            note(
                f"{path}: {files.base_name(at)} is not used, as it names {len(labels):,} of {len(candidates):,} pictures"
            )
        return {}
    if not required:
        note(
            f"{path}: labels of {len(labels):,} pictures from {files.base_name(at)} (--labels {NONE} leaves them out)"
        )
    return labels


def printable(name: str) -> str:
    """Return the name with bytes that are no UTF-8 (Linux allows them) replaced, as Parquet and JSON need it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
