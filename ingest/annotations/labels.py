"""Labels of annotations to train on and to measure by: which of some chosen classes each image has."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conf.errors import TinyTagsError
from conf.wording import counted, listed
from ingest.annotations.classes import Classes
from ingest.annotations.manifest import Annotations, open_annotations
from ingest.formats.dump import check_classes
from storage.documents import done_partitions, read_documents
from storage.store import Store


@dataclass(frozen=True)
class ChosenClasses:
    """Classes by name, and the ids that stand for each."""

    names: list[str]
    labels: list[frozenset[str]]

    def among(self, labels: Sequence[str]) -> list[int]:
        """Return which of the classes (their places) some ids stand for."""
        given = frozenset(labels)
        return [place for place, ids in enumerate(self.labels) if given & ids]


def choose_classes(classes: Classes, names: Sequence[str], descendants: bool = False) -> ChosenClasses:
    """Return the classes of these names, in any case, or ids; with ``descendants`` a kind of a class counts as the class.

    Raises `TinyTagsError` for a name that no class has, and for one that is given twice.
    """
    chosen, ids = [], []
    for name in names:
        labels = classes.labels(name)
        if classes.names and labels == [name] and name not in classes.names and not name.startswith("/"):
            close = difflib.get_close_matches(name, classes.names.values(), 3)
            raise TinyTagsError(
                f"class {name!r} is in no class file of these annotations"
                + (f"; there are {listed(close, 3)}" if close else "")
            )
        chosen.append(classes.name(labels[0]))
        ids.append(frozenset(classes.with_kinds(labels) if descendants else labels))
    return ChosenClasses(check_classes(chosen) or [], ids)


def open_complete(store: Store, name: str) -> Annotations:
    """Return annotations all of whose documents are written. Raises `TinyTagsError` for others."""
    annotations = open_annotations(store, name)
    missing = annotations.partitions - len(done_partitions(store, annotations.documents("images")))
    if missing:
        raise TinyTagsError(
            f"annotations {name!r} lack {counted(missing, 'partition')} of {annotations.partitions:,}; "
            f"`tinytags annotations {annotations.folder} --name {name}` writes what is missing"
        )
    return annotations


def read_images(store: Store, annotations: Annotations, partition: int) -> Iterator[dict[str, Any]]:
    """Return the images of a partition with their ``id``, ``classes`` (present), ``absent`` and ``machine``, where they have any.

    Raises `StoreError` where they aren't as they were written.
    """
    return read_documents(store, annotations.documents("images"), partition)
