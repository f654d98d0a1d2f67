"""Opens a dump in whichever format it is, recognised from its content."""

from conf.errors import TinyTagsError
from ingest import files
from ingest.formats import cifar, mnist, pictures
from ingest.formats.cifar import open_cifar
from ingest.formats.dump import Batch, Dump
from ingest.formats.mnist import open_mnist
from ingest.formats.pictures import open_pictures
from ingest.formats.tiny_images import open_tiny_images
from ingest.image import IMAGE_BYTES

__all__ = ["FORMATS", "Batch", "Dump", "open_dump"]

# Each format with what it needs.
FORMATS = {
    "tiny-images": "a file of 3,072-byte records",
    "cifar-10": "data_batch_1 ... test_batch (or with .bin), their folder, or the .tar.gz",
    "mnist": "train-images-idx3-ubyte[.gz] and its like, or their folder",
    "folder": "a folder of pictures (PNG, JPEG, WebP, GIF, BMP, TIFF, PPM)",
}
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive; unpack it and give its folder",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"(\xb5/\xfd": "a zstd archive; unpack it first",
    b"PAR1": "a Parquet file, which isn't a dump",
    b"\x89PNG": "one picture; give the folder it lies in",
    b"\xff\xd8\xff": "one picture; give the folder it lies in",
    b"GIF8": "one picture; give the folder it lies in",
}


def open_dump(
    path: str,
    format: str | None = None,
    labels: str | None = None,
    classes: list[str] | None = None,
    webhdfs: str | None = None,
) -> Dump:
    """Open the dump at ``path``, a local path or hdfs://HOST:PORT/PATH, in ``format`` or in the one that it looks like.

    ``labels`` is the file of labels that a tiny-images dump or a single MNIST images file brings beside it; ``classes``
    are the labels' names where the dump's own won't do. Raises `TinyTagsError`, one line, for a path that isn't there,
    empty or unreadable, for a format that it isn't, and for anything malformed that can be seen without reading it all.
    """
    path, labels = files.absolute(path), labels and files.absolute(labels)
    if format is not None and format not in FORMATS:
        raise TinyTagsError(f"format {format!r} isn't known; there are {', '.join(FORMATS)}")
    found = files.status(path, webhdfs)
    if found is None:
        raise TinyTagsError(f"{path}: no such file or folder")
    if found.is_dir:
        path = _inner_folder(path, webhdfs)
        likely = _recognise_folder(path, webhdfs)
    elif format == "tiny-images" and found.size and found.size % IMAGE_BYTES == 0:
        likely = []  # it has no header: its first pixels may look like anything
    else:
        files.file_status(path, webhdfs)
        likely = _recognise_file(path, found.size, webhdfs)
    if format is None:
        if not likely:
            needs = "; ".join(f"{name}: {needed}" for name, needed in FORMATS.items())
            raise TinyTagsError(f"{path}: {_other(path, found, webhdfs)}. What can be read: {needs}")
        if len(likely) > 1:
            raise TinyTagsError(f"{path}: could be {' or '.join(likely)}; say which with --format")
        format = likely[0]
    elif found.is_dir and format == "tiny-images":
        raise TinyTagsError(f"{path}: is a folder; tiny-images is one file (tiny_images.bin)")
    elif not found.is_dir and format == "folder":
        raise TinyTagsError(f"{path}: is not folder: it is a file{_looks(likely)}")
    elif likely and format not in likely:
        raise TinyTagsError(f"{path}: is not {format}: it looks like {' or '.join(likely)}")
    if labels and format in ("cifar-10", "folder"):
        raise TinyTagsError(f"{path}: {format} brings its own labels; leave {labels!r} out")
    if format == "tiny-images":
        return open_tiny_images(path, labels, classes, webhdfs)
    if format == "cifar-10":
        return open_cifar(path, classes, webhdfs)
    if format == "mnist":
        return open_mnist(path, labels, classes, webhdfs)
    return open_pictures(path, classes, webhdfs)


def _inner_folder(path: str, webhdfs: str | None) -> str:
    """Return the folder that the official archive unpacked into ``path`` where there is no other, or ``path`` itself."""
    there = [entry.name for entry in files.list_dir(path, webhdfs) if entry.is_dir and entry.name[0] != "."]
    if len(there) == 1 and there[0] in (cifar.BINARY_FOLDER, cifar.PYTHON_FOLDER):
        return files.join(path, there[0])
    return path


def _recognise_folder(path: str, webhdfs: str | None) -> list[str]:
    entries = files.list_dir(path, webhdfs)
    there = {entry.name for entry in entries if not entry.is_dir}
    cifar_names = {name + ending for name in cifar.BATCHES for ending in ("", ".bin")}
    mnist_names = {name for split in ("train", "t10k") for name in mnist.file_names(split, "images")}
    likely = []
    # CIFAR-100 counts as CIFAR-10 here: its reader knows it, and says that it isn't read.
    if cifar_names & there or cifar.is_cifar_100(there):
        likely.append("cifar-10")
    if mnist_names & there:
        likely.append("mnist")
    if any(pictures.is_picture_name(name) for name in there):
        likely.append("folder")
    # Below the top only where there is nothing else, for that can mean looking through all.
    if not likely and any(
        pictures.is_picture_name(files.base_name(entry.name)) for entry in files.walk_files(path, webhdfs)
    ):
        likely.append("folder")
    return likely


def _recognise_file(path: str, size: int, webhdfs: str | None) -> list[str]:
    name = files.base_name(path)
    head = bytes(files.read_range(path, 0, min(size, 16), webhdfs))
    if head[:2] == b"\x1f\x8b":
        return _recognise_gzip(path, webhdfs)
    if cifar.is_archive(path, webhdfs):
        return ["cifar-10"]
    if head[:4] in (mnist.IMAGES_MAGIC.to_bytes(4), mnist.LABELS_MAGIC.to_bytes(4)):
        return ["mnist"]
    tail = bytes(files.read_range(path, size - 1, 1, webhdfs))
    if name in cifar.BATCHES or (head[:1] == b"\x80" and b"\x02" <= head[1:2] <= b"\x05" and tail == b"."):
        return ["cifar-10"]
    if any(head.startswith(magic) for magic in _OTHER_FILES):
        return []
    if size % cifar.RECORD_BYTES == 0:
        if size % IMAGE_BYTES:
            return ["cifar-10"]
        if _has_cifar_labels(path, size, webhdfs):
            return ["cifar-10", "tiny-images"] if "tiny" in name else ["cifar-10"]
    if size % IMAGE_BYTES == 0 or "tiny" in name:
        return ["tiny-images"]
    return ["cifar-10"] if name.startswith(("data_batch", "test_batch")) or cifar.is_cifar_100({name}) else []


def _recognise_gzip(path: str, webhdfs: str | None) -> list[str]:
    with files.open_gzip(path, webhdfs) as unpacked:
        head = unpacked.read(512)
    if head[:4] in (mnist.IMAGES_MAGIC.to_bytes(4), mnist.LABELS_MAGIC.to_bytes(4)):
        return ["mnist"]
    return ["cifar-10"] if head[257:262] == b"ustar" else []


def _has_cifar_labels(path: str, size: int, webhdfs: str | None) -> bool:
    try:
        cifar.check_first_labels(path, size, webhdfs)
    except TinyTagsError:
        return False
    return True


def _other(path: str, found: files.Entry, webhdfs: str | None) -> str:
    """Return what there is to say of something that no format fits."""
    if found.is_dir:
        names = {entry.name for entry in files.list_dir(path, webhdfs)}
        inside = sorted(
            names & {cifar.BINARY_FOLDER, cifar.PYTHON_FOLDER, "mnist", "MNIST", "tiny_images.bin"}
        )
        hint = f" (did you mean {' or '.join(files.join(path, name) for name in inside)}?)" if inside else ""
        return f"is a folder without pictures or batches of its own{hint}"
    head = bytes(files.read_range(path, 0, min(found.size, 16), webhdfs))
    for magic, what in _OTHER_FILES.items():
        if head.startswith(magic):
            return f"is {what}"
    if head[:2] == b"\x1f\x8b":
        return "is gzipped, but neither MNIST nor a tar archive"
    return f"its {found.size:,} bytes are in no format that is known"


def _looks(likely: list[str]) -> str:
    return f" that looks like {' or '.join(likely)}" if likely else ""
