"""Labelled images to try things on: some of CIFAR-10 where it is at hand, else scikit-learn's handwritten digits."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ingest.formats.cifar_10 import CLASSES
from ingest.image import IMAGE_BYTES, SIDE, decode_picture

Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

# CIFAR-10 as JPEGs, train|test/CLASS/N.jpg, in the order of the classes, and how many there are.
ARCHIVE = "cifar10-jpeg.tar.xz"
PARTS = {"train": 50_000, "test": 8_000}


def shared_archive() -> Path | None:
    """Return CIFAR-10 as JPEGs in the folder TINYTAGS_SHARED_DATA; None without it."""
    archive = Path(os.environ.get("TINYTAGS_SHARED_DATA", ""), ARCHIVE)
    return archive if archive.is_file() else None


def read_jpegs(archive: Path, wanted: dict[str, int]) -> dict[str, Labelled]:
    """Return at most so many images of each part, drawn evenly from the classes: (n, 3072) uint8 and (n,) int64."""
    every = {part: -(-PARTS[part] // count) for part, count in wanted.items()}
    images: dict[str, list[npt.NDArray[np.uint8]]] = {part: [] for part in wanted}
    labels: dict[str, list[int]] = {part: [] for part in wanted}
    with tarfile.open(archive) as files:
        for count, member in enumerate(member for member in files if member.isfile()):
            part, name, _ = member.name.split("/")
            if count % every[part] == 0 and (file := files.extractfile(member)):
                images[part].append(decode_picture(io.BytesIO(file.read()), ("JPEG",)))
                labels[part].append(CLASSES.index(name))
    return {part: (np.stack(images[part]), np.array(labels[part])) for part in wanted}


def read_digits() -> Labelled:
    """Return the 1,797 digits, of 8x8 grey levels 0 to 16, enlarged to images, (1797, 3072) uint8, and their numbers (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = (digits.images * (255 / 16)).astype(np.uint8).repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    return np.repeat(grey[:, None], 3, axis=1).reshape(-1, IMAGE_BYTES), digits.target
