"""The pictures of a sample as files: links to those that a corpus was split from, or copies of its 32x32 images."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conf.errors import TinyTagsError
from conf.wording import counted
from ingest import files
from ingest.bad import read_bad_records
from ingest.corpus import Corpus
from ingest.image import to_png
from ingest.names import read_index, records_of, stem
from ingest.partition import read_image, read_names
from storage.store import Store

Place = tuple[str, str, str]  # split, class, image
Pictures = Mapping[str, tuple[int, str]]  # record and name, by image


def find_pictures(store: Store, corpus: Corpus, images: Sequence[str]) -> Pictures:
    """Return the record and the name of the picture of each image. Raises `TinyTagsError` where one has none that could be decoded."""
    index, bad = read_index(store, corpus.name), read_bad_records(store, corpus)
    possible: dict[int, list[tuple[int, str]]] = defaultdict(list)  # by partition, whose names are read once
    for image in images:
        for record in records_of(index, image):
            if record not in bad:
                possible[record // corpus.partition_images].append((record, image))
    places: dict[str, tuple[int, str]] = {}
    for partition, records in sorted(possible.items()):
        names = read_names(store, corpus, partition)
        for record, image in records:
            name = names[record % corpus.partition_images]
            if name and stem(name) == image:
                places.setdefault(image, (record, name))
    if missing := [image for image in images if image not in places]:
        raise TinyTagsError(f"image {missing[0]!r} has no picture in corpus {corpus.name!r}")
    return places


def write_links(
    store: Store, corpus: Corpus, pictures: Pictures, places: Sequence[Place], folder: Path
) -> dict[Place, str]:
    """Make links to the pictures that a corpus was split from; return their paths in ``folder``.

    Raises `TinyTagsError` for a corpus that isn't from a local folder of pictures, and for a picture that is no longer there.
    """
    if corpus.format != "folder" or not files.is_local(corpus.dump):
        raise TinyTagsError(
            f"corpus {corpus.name!r} was not split from a local folder of pictures; --copies writes its images of 32x32"
        )
    targets = {image: os.path.join(corpus.dump, name) for image, (_, name) in pictures.items()}
    for target in targets.values():
        if not os.path.exists(target):
            raise TinyTagsError(f"{target}: is no longer there; --copies writes the images of 32x32")

    def write(path: Path, image: str) -> None:
        if not path.is_symlink():
            path.symlink_to(targets[image])
        elif os.readlink(path) != targets[image]:
            raise TinyTagsError(f"{path}: links to another picture; give another folder")

    paths = {place: _path(place, Path(pictures[place[2]][1]).suffix) for place in places}
    return _write(paths, folder, write)


def write_copies(
    store: Store, corpus: Corpus, pictures: Pictures, places: Sequence[Place], folder: Path
) -> dict[Place, str]:
    """Write the 32x32 images as PNG; return their paths in ``folder``."""

    def write(path: Path, image: str) -> None:
        record, _ = pictures[image]
        block = read_image(store, corpus, *divmod(record, corpus.partition_images))
        path.write_bytes(to_png(block.images[0], 1))

    return _write({place: _path(place, ".png") for place in places}, folder, write)


def _path(place: Place, suffix: str) -> str:
    split, name, image = place
    if "/" in name or "\0" in name or name.startswith("."):
        raise TinyTagsError(f"class {name!r} can't be the name of a folder; leave --links and --copies out")
    return f"{split}/{name}/{image}{suffix}"


def _write(paths: dict[Place, str], folder: Path, write: Callable[[Path, str], None]) -> dict[Place, str]:
    """Write each file; one that is there already is kept, so that a stopped command can be repeated."""
    there = {
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    if others := sorted(there - set(paths.values())):
        raise TinyTagsError(
            f"{folder / others[0]}: is not of this sample, as {counted(len(others), 'file')} there; give another folder"
        )
    try:
        for place, path in paths.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write(folder / path, place[2])
    except OSError as error:
        raise TinyTagsError(f"{folder}: can't be written ({error.strerror})") from None
    return paths
