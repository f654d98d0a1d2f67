"""Changes valid dumps in many ways; each is read, or one clear error."""

import gzip
import io
import pickle
import shutil
import struct
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from campaign.attack import Outcome
from campaign.place import CLASSES, Place
from conf.errors import TinyTagsError
from ingest.formats import open_dump

SECONDS = 20.0  # a small dump that takes longer hangs
IMAGES = 20


def attack(place: Place, tries: int) -> Outcome:
    """Lost: an exception that is no `TinyTagsError`, images that are not 3,072 bytes, or a dump that takes too long."""
    outcome = Outcome(progress=place.progress)
    folder = place.folder / "dumps"
    valid = [write(folder / write.__name__, np.random.default_rng(1)) for write in FORMATS]
    refused = 0
    for number in range(tries):
        dump = valid[number % len(valid)]
        changed = place.folder / "changed" / dump.name
        shutil.rmtree(changed.parent, ignore_errors=True)
        changed.parent.mkdir()
        (shutil.copytree if dump.is_dir() else shutil.copyfile)(dump, changed)
        victim = (
            changed
            if changed.is_file()
            else place.random.choice(sorted(p for p in changed.rglob("*") if p.is_file()))
        )
        how = place.random.choice(CHANGES)
        victim.write_bytes(how(victim.read_bytes(), place))
        outcome.count()
        began = time.monotonic()
        try:
            _read(str(changed))
        except TinyTagsError as error:
            refused += 1
            if "\n" in str(error):
                outcome.lost(f"{dump.name}, {how.__name__}: an error of several lines")
        except Exception as error:
            outcome.lost(f"{dump.name}, {how.__name__}: {type(error).__name__}: {str(error)[:100]}")
        if time.monotonic() - began > SECONDS:
            outcome.lost(f"{dump.name}, {how.__name__}: takes {time.monotonic() - began:.0f} s")
    outcome.notes.append(f"{refused} refused, the others read")
    return outcome


def _read(path: str) -> None:
    dump = open_dump(path)
    count = min(dump.images, 1_000)
    batch = dump.read(0, count)
    if batch.images.shape != (count, 3072) or batch.images.dtype != np.uint8:
        raise ValueError(f"images of shape {batch.images.shape}")


# Valid dumps


def tiny_images(folder: Path, chance: np.random.Generator) -> Path:
    folder.mkdir(parents=True)
    path = folder / "tiny_images.bin"
    path.write_bytes(_pixels(chance).tobytes())
    return path


def cifar_10_binary(folder: Path, chance: np.random.Generator) -> Path:
    inner = folder / "cifar-10-batches-bin"
    inner.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        labels = chance.integers(0, 10, (IMAGES, 1), np.uint8)
        (inner / f"{name}.bin").write_bytes(np.concatenate([labels, _pixels(chance)], axis=1).tobytes())
    (inner / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
    return inner


def cifar_10_archive(folder: Path, chance: np.random.Generator) -> Path:
    inner = cifar_10_binary(folder, chance)
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(inner, inner.name)
    return path


def cifar_10_python(folder: Path, chance: np.random.Generator) -> Path:
    inner = folder / "cifar-10-batches-py"
    inner.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        batch = {b"data": _pixels(chance), b"labels": [0] * IMAGES}
        (inner / name).write_bytes(pickle.dumps(batch, protocol=2))
    (inner / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [name.encode() for name in CLASSES]}, protocol=2)
    )
    return inner


def mnist(folder: Path, chance: np.random.Generator) -> Path:
    folder.mkdir(parents=True)
    for name in ("train", "t10k"):
        grey = chance.integers(0, 256, (IMAGES, 28, 28), np.uint8)
        images = struct.pack(">4I", 2051, IMAGES, 28, 28) + grey.tobytes()
        labels = struct.pack(">2I", 2049, IMAGES) + bytes(IMAGES)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


def pictures(folder: Path, chance: np.random.Generator) -> Path:
    for number, kind in enumerate(("png", "jpeg", "gif", "bmp", "webp")):
        (folder / CLASSES[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = chance.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / CLASSES[number % 2] / f"{number}.{kind}")
    return folder


def hugging_face(folder: Path, chance: np.random.Generator) -> Path:
    folder.mkdir(parents=True)
    encoded = []
    for image in _pixels(chance):
        file = io.BytesIO()
        Image.fromarray(image.reshape(32, 32, 3)).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": "x.png"})
    table = pyarrow.table({"image": encoded, "label": pyarrow.array([0] * IMAGES, pyarrow.int64())})
    path = folder / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(table, path)
    return path


def _pixels(chance: np.random.Generator) -> np.ndarray:
    return chance.integers(0, 256, (IMAGES, 3072), np.uint8)


FORMATS = (tiny_images, cifar_10_binary, cifar_10_archive, cifar_10_python, mnist, pictures, hugging_face)

# Changes


def truncated(data: bytes, place: Place) -> bytes:
    return data[: place.random.randrange(len(data))]


def flipped(data: bytes, place: Place) -> bytes:
    changed = bytearray(data)
    for _ in range(place.random.choice((1, 4, 64))):
        changed[place.random.randrange(len(changed))] ^= 1 << place.random.randrange(8)
    return bytes(changed)


def flipped_header(data: bytes, place: Place) -> bytes:
    changed = bytearray(data)
    changed[place.random.randrange(min(len(changed), 64))] = place.random.randrange(256)
    return bytes(changed)


def repeated(data: bytes, place: Place) -> bytes:
    at = place.random.randrange(len(data))
    return data[:at] + data[: place.random.randrange(len(data))] + data[at:]


def empty(data: bytes, place: Place) -> bytes:
    return b""


def noise(data: bytes, place: Place) -> bytes:
    return place.random.randbytes(place.random.choice((1, 100, len(data))))


def zeros(data: bytes, place: Place) -> bytes:
    at = place.random.randrange(len(data))
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


CHANGES: tuple[Callable[[bytes, Place], bytes], ...] = (
    truncated,
    flipped,
    flipped_header,
    repeated,
    empty,
    noise,
    zeros,
)
