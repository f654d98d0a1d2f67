"""A folder of pictures whose labels come from annotations: a picture's name is the id of its image."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from ingest.annotations import PREFIX
from ingest.annotations.labels import ChosenClasses, read_images
from ingest.annotations.manifest import Annotations
from ingest.formats.dump import Dump
from ingest.formats.folder import Folder
from ingest.names import hash_of, stem
from storage.store import Store


@dataclass(frozen=True, kw_only=True)
class LabelledFolder(Folder):
    """A folder whose labels are from annotations; ``annotations`` is their hash."""

    annotations: str

    @cached_property
    def identity(self) -> dict[str, Any]:
        """That of the folder, and of its labels."""
        digest = hashlib.sha256(zlib.decompress(self.numbers)).hexdigest()
        return self.identity_of_pictures | {"labels": {"annotations": self.annotations, "sha256": digest}}


def unlabelled_folder(dump: Dump) -> Folder:
    """Return a dump as a folder of pictures. Raises `TinyTagsError` for one in another format."""
    if not isinstance(dump, Folder):
        raise TinyTagsError(
            f"{dump.path}: is {dump.format}; labels from annotations are for a folder of pictures named IMAGEID.jpg"
        )
    return dump


def name_hashes(folder: Folder) -> NDArray[np.uint64]:
    """Return the hashes (n,) of the names of a folder's pictures, as `ingest.names` has them, sorted."""
    return np.unique(np.array([hash_of(stem(name)) for name in folder.names(0, folder.images)], np.uint64))


def single_labels(
    store: Store, annotations: Annotations, chosen: ChosenClasses, wanted: NDArray[np.uint64], partition: int
) -> dict[str, Any]:
    """Return under "labels" those images of a partition that have exactly one of the chosen classes, with its place.

    Only of images whose hash is in ``wanted`` (n,), sorted.
    """
    labels = {}
    for document in read_images(store, annotations, partition):
        places = chosen.among(document.get("classes", ()))
        if len(places) == 1:
            number = np.uint64(hash_of(document["id"]))
            at = int(np.searchsorted(wanted, number))
            if at < len(wanted) and wanted[at] == number:
                labels[document["id"]] = places[0]
    return {"partition": partition, "labels": labels}


def with_labels(
    folder: Folder, annotations: Annotations, names: list[str], labels: Mapping[str, int]
) -> LabelledFolder:
    """Return a folder with the label of each picture by the id in its name; the others have none.

    Raises `TinyTagsError` where no picture has a label.
    """
    numbers = np.array([labels.get(stem(name), -1) for name in folder.names(0, folder.images)], "<i4")
    if not (numbers >= 0).any():
        raise TinyTagsError(
            f"{folder.path}: no picture's name is the id of an image with exactly one of the classes {', '.join(names)} "
            f"in annotations {annotations.name!r}"
        )
    values = {one.name: getattr(folder, one.name) for one in fields(Folder)}
    return LabelledFolder(
        **values | {
            "classes": names, "labels": PREFIX + annotations.name, "numbers": zlib.compress(numbers.tobytes()),
            "label_file": None,
        },
        annotations=annotations.hash,
    )  # fmt: skip
