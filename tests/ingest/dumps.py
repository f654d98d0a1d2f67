"""Small dumps in each format's exact bytes, made from pictures that show whether they were turned or their colours exchanged."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from conf.errors import TinyTagsError
from ingest.formats.cifar_10 import CLASSES
from ingest.formats.cifar_100 import COARSE_CLASSES, FINE_CLASSES


def asymmetric_picture() -> np.ndarray:
    """Return (32, 32, 3) uint8, rows from the top: red at the top left, green at the top right, blue at the bottom left."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[..., 0] = np.arange(32)[:, None] * 3  # each row and column differs from all others
    picture[..., 1] = np.arange(32)[None, :] * 2
    picture[:8, :12] = (255, 0, 0)
    picture[:8, -4:] = (0, 255, 0)
    picture[-4:, :6] = (0, 0, 255)
    return picture


def make_images(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 3072) uint8 canonical images, no two alike; the first one is the asymmetric picture."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    images[0] = asymmetric_picture().transpose(2, 0, 1).reshape(3072)
    return images


def make_labels(count: int) -> np.ndarray:
    return (np.arange(count) * 7 % 10).astype(np.uint8)


def assert_upright(image: np.ndarray) -> None:
    """Assert that the canonical ``image`` is the asymmetric picture, its corners where they belong."""
    planes = image.reshape(3, 32, 32)
    assert planes[:, 0, 0].tolist() == [255, 0, 0], "red belongs at the top left"
    assert planes[:, 0, 31].tolist() == [0, 255, 0], "green belongs at the top right"
    assert planes[:, 31, 0].tolist() == [0, 0, 255], "blue belongs at the bottom left"
    np.testing.assert_array_equal(planes.transpose(1, 2, 0), asymmetric_picture())


def error_of(action, *args, **kwargs) -> str:
    """Return the message of the `TinyTagsError` that ``action`` raises, after checking that it is one line."""
    with pytest.raises(TinyTagsError) as caught:
        action(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    return message


def assert_refused(open_it, path: Path, content: bytes, words: str) -> None:
    """Assert that ``open_it`` raises one line with the path and ``words`` where ``path`` has this content."""
    path.write_bytes(content)
    message = error_of(open_it, str(path))
    assert message.startswith(f"{path}: ") and words in message


def write_tiny_images(path: Path, images: np.ndarray) -> Path:
    column_major = images.reshape(-1, 3, 32, 32).transpose(0, 1, 3, 2)
    path.write_bytes(np.ascontiguousarray(column_major).tobytes())
    return path


def cifar_records(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels[:, None], images], axis=1).tobytes()


def cifar_pickle(images: np.ndarray, labels, names: list[bytes] | None = None, /, **more: bytes) -> bytes:
    """Return the batch as the official files hold it: a pickle as Python 2 wrote them; ``more`` are pickled values to add."""
    rows, columns = images.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + pickled_string(b"b") + b"tR"
        b"(K\x01(" + pickled_int(rows) + pickled_int(columns) + b"t"
        b"cnumpy\ndtype\n(" + pickled_string(b"u1") + b"K\x00K\x01tR(K\x03" + pickled_string(b"|") + b"NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + pickled_string(images.tobytes()) + b"tb"
    )
    items = {b"batch_label": pickled_string(b"a batch"), b"data": array}
    if labels is not None:
        items[b"labels"] = pickled_ints(labels)
    if names:
        items[b"filenames"] = b"](" + b"".join(map(pickled_string, names)) + b"e"
    items |= {name.encode(): value for name, value in more.items()}
    return b"\x80\x02}(" + b"".join(pickled_string(name) + value for name, value in items.items()) + b"u."


def pickled_string(value: bytes) -> bytes:
    return (
        b"U" + bytes([len(value)]) + value
        if len(value) < 256
        else b"T" + struct.pack("<i", len(value)) + value
    )


def pickled_int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def pickled_ints(values) -> bytes:
    return b"](" + b"".join(pickled_int(int(value)) for value in values) + b"e"


def pickled_meta(names: dict[str, list[str]]) -> bytes:
    lists = [
        pickled_string(key.encode())
        + b"]("
        + b"".join(pickled_string(name.encode()) for name in classes)
        + b"e"
        for key, classes in names.items()
    ]
    return b"\x80\x02}(" + b"".join(lists) + b"u."


def make_cifar(per_batch: int = 7, form: str = "bin") -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Return {file name: content} of all six batches and the class names, with all images and labels in their order."""
    images, labels = make_images(6 * per_batch), make_labels(6 * per_batch)
    content = {}
    for index, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        part = slice(index * per_batch, (index + 1) * per_batch)
        if form == "bin":
            content[name + ".bin"] = cifar_records(images[part], labels[part])
        else:
            names = [b"%s_%d.png" % (name.encode(), row) for row in range(per_batch)]
            content[name] = cifar_pickle(images[part], labels[part], names)
    if form == "bin":
        content["batches.meta.txt"] = ("\n".join(CLASSES) + "\n\n").encode()
    else:
        content["batches.meta"] = pickled_meta({"label_names": CLASSES})
    return content, images, labels


def make_cifar_100(
    count: int = 9, form: str = "bin"
) -> tuple[dict[str, bytes], np.ndarray, np.ndarray, np.ndarray]:
    """Return {file name: content} of CIFAR-100, ``count`` training images and half as many to test, then all images, fine and coarse labels."""
    total = count + count // 2
    images = make_images(total, seed=100)
    fine = (np.arange(total) * 37 % 100).astype(np.uint8)
    coarse = (np.arange(total) * 3 % 20).astype(np.uint8)
    content = {}
    for name, part in (("train", slice(0, count)), ("test", slice(count, total))):
        if form == "bin":
            records = np.concatenate([coarse[part, None], fine[part, None], images[part]], axis=1)
            content[f"{name}.bin"] = records.tobytes()
        else:
            lists = {
                key: pickled_ints(labels[part])
                for key, labels in (("fine_labels", fine), ("coarse_labels", coarse))
            }
            names = [b"%s_%d.png" % (name.encode(), row) for row in range(part.stop - part.start)]
            content[name] = cifar_pickle(images[part], None, names, **lists)
    if form == "bin":
        content |= {
            f"{kind}_label_names.txt": "\n".join(classes).encode()
            for kind, classes in (("fine", FINE_CLASSES), ("coarse", COARSE_CLASSES))
        }
    else:
        metas = {"fine_label_names": FINE_CLASSES, "coarse_label_names": COARSE_CLASSES}
        content["meta"] = pickled_meta(metas)
    return content, images, fine, coarse


def write_files(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(
    path: Path, content: dict[str, bytes], folder: str = "cifar-10-batches-bin", mode: str = "w:gz"
) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_digits(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 28, 28) uint8 grey pictures; the first is bright at the top left only."""
    digits = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    digits[0] = np.arange(28)[:, None] + 2 * np.arange(28)[None, :]
    digits[0, :5, :9] = 255
    return digits


def idx_images(digits: np.ndarray) -> bytes:
    return struct.pack(">4I", 2051, len(digits), *digits.shape[1:]) + digits.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + labels.astype(np.uint8).tobytes()


def make_mnist(
    train: int = 9, test: int = 4, zipped: bool = True
) -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Return {file name: content} of the four official files, with all pictures and labels in their order."""
    digits, labels = make_digits(train + test), make_labels(train + test)
    content = {
        "train-images-idx3-ubyte": idx_images(digits[:train]),
        "train-labels-idx1-ubyte": idx_labels(labels[:train]),
        "t10k-images-idx3-ubyte": idx_images(digits[train:]),
        "t10k-labels-idx1-ubyte": idx_labels(labels[train:]),
    }
    if zipped:
        content = {name + ".gz": gzip.compress(data) for name, data in content.items()}
    return content, digits, labels
