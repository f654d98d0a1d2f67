"""The labelled images that the notebooks work on: some of CIFAR-10 where it is at hand, else scikit-learn's digits."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # studies/ and bench/ aren't installed

from conf.settings import Settings, load_settings  # noqa: E402
from ingest.corpus import done_partitions, open_corpus  # noqa: E402
from ingest.formats.cifar_10 import CLASSES  # noqa: E402
from ingest.image import SIDE  # noqa: E402
from jobs.split_dump import split_dump  # noqa: E402
from operations.sample import read_digits, read_jpegs, shared_archive  # noqa: E402
from storage import layout  # noqa: E402
from storage.store import Store, store_of  # noqa: E402


def open_sample(images: int, master: str = "processes", store: str = "") -> tuple[Settings, str]:
    """Return settings, and the name of a corpus in their store with up to ``images`` training images and up to half as many others, drawn evenly from the classes.

    The store is ``store``, else that of TINYTAGS_STORE, else the folder data/ of the project. CIFAR-10 is taken from the
    folder TINYTAGS_SHARED_DATA. The corpus is made once; it has a test part.
    """
    place = store or os.environ.get("TINYTAGS_STORE") or str(ROOT / "data")
    settings = replace(load_settings(folder=ROOT), store=place, master=master)
    archive = shared_archive()
    corpus = f"{'cifar-10' if archive else 'digits'}-{images}"
    opened = store_of(settings)
    if not opened.exists(layout.corpus_manifest(corpus)) or not _complete(opened, corpus):
        folder = ROOT / "data" / corpus if "://" in place else Path(place) / "notebooks" / corpus
        write_batches(folder, *(_jpegs(archive, images) if archive else _digits(images)))
        split_dump(settings, str(folder), corpus, partition_images=max(images // 4, 100))
    return settings, corpus


def _complete(store: Store, corpus: str) -> bool:
    opened = open_corpus(store, corpus)
    return len(done_partitions(store, opened)) == opened.partitions


def write_batches(folder: Path, train: tuple[Any, Any], test: tuple[Any, Any], classes: list[str]) -> None:
    """Write images (n, 3072) and labels (n,) to train and to test on in CIFAR-10's binary format."""
    folder.mkdir(parents=True, exist_ok=True)
    records, held_out = (
        np.column_stack([labels.astype(np.uint8), images]) for images, labels in (train, test)
    )
    for number, batch in enumerate(np.array_split(records, 5), 1):
        batch.tofile(folder / f"data_batch_{number}.bin")
    held_out.tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n")


def _jpegs(archive: Path, images: int) -> tuple[Any, ...]:
    """Return images and labels of both parts, and the classes."""
    parts = read_jpegs(archive, {"train": images, "test": max(images // 2, 1)})
    return parts["train"], parts["test"], CLASSES


def _digits(images: int) -> tuple[Any, ...]:
    """Return scikit-learn's digits in two parts, and the names of the classes."""
    parts = slice(0, min(images, 1_200)), slice(1_200, 1_200 + max(images // 2, 1))
    pixels, digits = read_digits()
    return *((pixels[part], digits[part]) for part in parts), [str(digit) for digit in range(10)]


def show(images: Any, titles: list[str], columns: int = 10) -> None:
    """Draw images (n, 3072) uint8, or (n, 32, 32) grey ones, with a title each."""
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(1.2 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        shaped = image.reshape(3, SIDE, SIDE).transpose(1, 2, 0) if image.ndim == 1 else image
        axis.imshow(shaped, cmap="gray")
        axis.set_title(title, fontsize=8)
    plt.show()
