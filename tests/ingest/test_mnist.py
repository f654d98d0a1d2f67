"""The reader of MNIST's IDX files."""

import bz2
import gzip
import hashlib
import lzma
import os
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from dumps import error_of, idx_images, idx_labels, make_digits, make_labels, make_mnist, write_files

from ingest.formats import open_dump
from ingest.formats.mnist import open_mnist


@pytest.fixture(params=[True, False], ids=["gzipped", "plain"])
def whole(request, tmp_path):
    """The four official files in a folder, as (path, digits, labels)."""
    content, digits, labels = make_mnist(train=9, test=4, zipped=request.param)
    return str(write_files(tmp_path / "mnist", content)), digits, labels


@pytest.mark.parametrize(("ending", "compress"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
def test_files_of_other_compression_are_found_and_read(tmp_path, ending, compress):
    content, digits, labels = make_mnist(train=9, test=4, zipped=False)
    write_files(tmp_path, {name + ending: compress(data) for name, data in content.items()})
    dump = open_dump(str(tmp_path))
    assert (dump.format, dump.splits) == ("mnist", {"train": (0, 9), "test": (9, 13)})
    batch = dump.read(0, 13)
    np.testing.assert_array_equal(batch.images, expected_images(digits))
    np.testing.assert_array_equal(batch.labels, labels)


def expected_images(digits: np.ndarray) -> np.ndarray:
    images = np.zeros((len(digits), 3, 32, 32), np.uint8)
    for plane in range(3):
        images[:, plane, 2:30, 2:30] = digits
    return images.reshape(-1, 3072)


def test_a_digit_comes_out_upright_in_the_middle_and_grey(whole):
    image = open_mnist(whole[0]).read(0, 1).images[0].reshape(3, 32, 32)
    assert (image[:, 2, 2:11] == 255).all(), "the bright block belongs at the top left"
    assert image[:, 29, 2].tolist() == [27] * 3 and image[:, 2, 29].tolist() == [54] * 3
    assert (
        not image[:, :2].any()
        and not image[:, 30:].any()
        and not image[:, :, :2].any()
        and not image[:, :, 30:].any()
    )


def test_records_in_are_records_out_training_images_first(whole):
    path, digits, labels = whole
    dump = open_mnist(path)
    assert (dump.format, dump.images, dump.classes) == ("mnist", 13, [str(digit) for digit in range(10)])
    assert dump.splits == {"train": (0, 9), "test": (9, 13)}
    batch = dump.read(0, 13)
    np.testing.assert_array_equal(batch.images, expected_images(digits))
    np.testing.assert_array_equal(batch.labels, labels)
    assert batch.labels.dtype == np.int32 and batch.names is None


def test_ranges_across_the_border_of_files_equal_the_whole(whole):
    path, digits, labels = whole
    dump = pickle.loads(pickle.dumps(open_mnist(path)))
    for start, stop in [(0, 0), (8, 10), (12, 13), (3, 11), (9, 13)]:
        batch = dump.read(start, stop)
        np.testing.assert_array_equal(batch.images, expected_images(digits)[start:stop])
        np.testing.assert_array_equal(batch.labels, labels[start:stop])
    with pytest.raises(IndexError):
        dump.read(0, 14)


def test_names_with_a_dot_and_one_half_of_the_set_are_enough(tmp_path):
    digits, labels = make_digits(5), make_labels(5)
    write_files(
        tmp_path, {"t10k-images.idx3-ubyte": idx_images(digits), "t10k-labels.idx1-ubyte": idx_labels(labels)}
    )
    dump = open_mnist(str(tmp_path))
    assert dump.splits == {} and dump.read(0, 5).labels.tolist() == labels.tolist()


def test_labels_beside_a_single_images_file_are_found_or_given(tmp_path):
    digits, labels = make_digits(5), make_labels(5)
    write_files(tmp_path, {"train-images-idx3-ubyte": idx_images(digits), "other": idx_labels(labels)})
    path = str(tmp_path / "train-images-idx3-ubyte")
    alone = open_mnist(path)
    assert alone.classes is None and alone.splits == {} and set(alone.read(0, 5).labels.tolist()) == {-1}
    assert open_mnist(path, str(tmp_path / "other")).read(0, 5).labels.tolist() == labels.tolist()
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(labels)))
    assert open_mnist(path).read(0, 5).labels.tolist() == labels.tolist()


@pytest.mark.parametrize("rows", [False, True])
def test_the_labels_of_qmnist_are_used(tmp_path, rows):
    digits, labels = make_digits(5), make_labels(5)
    numbers = np.stack([labels, *np.ones((7, 5))], axis=1) if rows else labels
    header = struct.pack(">3I", 3074, 5, 8) if rows else struct.pack(">2I", 3073, 5)
    content = {
        "train-images-idx3-ubyte": idx_images(digits), "train-labels-idx2-int.gz": gzip.compress(header + numbers.astype(">i4").tobytes()),
    }  # fmt: skip
    write_files(tmp_path, content)
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte"):
        assert open_mnist(str(path)).read(1, 5).labels.tolist() == labels[1:].tolist()


def test_emnist_comes_out_upright_with_its_letters(tmp_path):
    digits, labels = make_digits(26), np.arange(1, 27)
    turned = idx_images(np.ascontiguousarray(digits.transpose(0, 2, 1)))
    folder = tmp_path / "letters"
    for split in ("train", "test"):
        files = {"images-idx3-ubyte.gz": turned, "labels-idx1-ubyte.gz": idx_labels(labels)}
        write_files(
            folder, {f"emnist-letters-{split}-{name}": gzip.compress(data) for name, data in files.items()}
        )
    dump = open_dump(str(folder))
    assert (dump.format, dump.splits) == ("emnist", {"train": (0, 26), "test": (26, 52)})
    assert dump.classes[:2] == ["A", "B"] and dump.read(20, 30).labels.tolist() == [*range(20, 26), *range(4)]
    np.testing.assert_array_equal(dump.read(0, 26).images, expected_images(digits))
    alone = open_dump(str(folder / "emnist-letters-train-images-idx3-ubyte.gz"))
    assert (alone.format, alone.labels, alone.read(0, 3).labels.tolist()) == ("emnist", None, [0, 1, 2])
    (folder / "emnist-balanced-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(turned))
    assert "emnist-balanced-, emnist-letters-" in error_of(open_dump, str(folder))
    # Any file can be read so.
    write_files(tmp_path, {"mine": turned, "mine-labels": idx_labels(labels)})
    mine = open_dump(
        str(tmp_path / "mine"), "emnist", str(tmp_path / "mine-labels"), [f"kind {n}" for n in range(26)]
    )
    assert mine.read(25, 26).labels.tolist() == [25]


def test_labels_that_are_likely_there_and_not_used_are_named(tmp_path, capsys):
    write_files(tmp_path, {"train-images-idx3-ubyte": IMAGES, "my-labels.idx": idx_labels(make_labels(3))})
    assert open_mnist(str(tmp_path)).classes is None
    assert "my-labels.idx may hold them" in capsys.readouterr().err


def test_what_torchvision_made_is_found_from_its_root(tmp_path):
    write_files(tmp_path / "data" / "MNIST" / "raw", make_mnist()[0])
    assert (open_dump(str(tmp_path / "data")).format, open_dump(str(tmp_path / "data")).images) == (
        "mnist",
        13,
    )


def test_classes_rename_the_digits(whole, tmp_path):
    names = [f"garment {number}" for number in range(10)]
    assert open_mnist(whole[0], classes=names).classes == names
    assert "3 classes have labels 0 to 2" in error_of(open_mnist, whole[0], classes=["a", "b", "c"])


def test_the_identity_changes_with_a_byte(whole):
    first = open_mnist(whole[0]).identity
    assert first == open_mnist(whole[0]).identity
    labels = next(Path(whole[0]).glob("t10k-labels*"))
    unpacked = labels.suffix != ".gz"
    labels.write_bytes(idx_labels(np.zeros(4)) if unpacked else gzip.compress(idx_labels(np.zeros(4))))
    assert open_mnist(whole[0]).identity != first


def header(magic: int, count: int, rows: int = 28, columns: int = 28) -> bytes:
    return struct.pack(">4I", magic, count, rows, columns)


IMAGES = idx_images(make_digits(3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (IMAGES[:10], "10 bytes are too few for MNIST images"),
        (header(2052, 3) + IMAGES[16:], "begins with 2052, not with 2051"),
        (b"\x03\x08\0\0" + IMAGES[4:], "begins with 50855936, not with 2051"),
        (idx_labels(np.zeros(2000)), "holds MNIST labels; give the images file"),
        (header(2051, 3, 20, 20) + bytes(1200), "holds pictures of 20 x 20"),
        (header(2051, 0), "holds 0 images"),
        (IMAGES[:-1], "2,367 bytes, but its header says 3 images, which take 2,368"),
        (IMAGES + b"x", "2,369 bytes, but its header says 3 images"),
        (header(2051, 4) + IMAGES[16:], "its header says 4 images"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])
def test_a_malformed_images_file_is_refused(tmp_path, content, words, zipped):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if zipped else content)
    message = error_of(open_mnist, str(path))
    assert message.startswith(f"{path}: ")
    if zipped and not content:
        words = "0 bytes are too few"
    elif zipped and "2,369" in words:
        words = "unpacks to more than 2,368 bytes"
    elif zipped:
        words = words.replace("2,367 bytes", "unpacks to 2,367 bytes")
    assert words in message


@pytest.mark.parametrize("keep", [0.99, 0.5])
def test_a_truncated_or_damaged_gzip_is_refused(tmp_path, keep):
    path = tmp_path / "images.gz"
    whole = gzip.compress(IMAGES)
    path.write_bytes(whole[: int(len(whole) * keep)])
    assert error_of(open_mnist, str(path)).startswith(
        f"{path}: the gzip stream ends too early (truncated copy?)"
    )
    damaged = bytearray(whole)
    damaged[-100] ^= 0xFF
    path.write_bytes(damaged)
    assert error_of(open_mnist, str(path)).startswith(f"{path}: the gzip stream is damaged")
    path.write_bytes(whole + b"more")
    assert error_of(open_mnist, str(path)).startswith(f"{path}: the gzip stream is damaged")


def test_a_zip_bomb_is_refused_in_bounded_memory_and_time(tmp_path):
    path = tmp_path / "images.gz"
    zeros = gzip.compress(bytes(64 << 20))
    for count, words in [
        (3, "unpacks to more than 2,368 bytes"),
        (4_000_000_000, "can't hold"),
    ]:
        path.write_bytes(gzip.compress(header(2051, count)) + 10 * zeros)
        tracemalloc.start()
        started = time.monotonic()
        message = error_of(open_mnist, str(path))
        taken, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert message.startswith(f"{path}: ") and words in message
        assert peak < 8 << 20 and taken < 10


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (idx_labels(make_labels(4)), "4 labels for the 3 images"),
        (idx_labels(np.array([1, 10, 2])), "record 1 has label 10; 10 classes have labels 0 to 9"),
        (idx_labels(make_labels(3))[:-1], "10 bytes, but its header says 3 labels"),
        (idx_labels(make_labels(3)) + b"x", "12 bytes, but its header says 3 labels"),
        (IMAGES, "begins with 2051, not with 2049"),
        (b"", "is empty"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, words):
    write_files(tmp_path, {"train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": labels})
    message = error_of(open_mnist, str(tmp_path))
    assert message.startswith(f"{tmp_path / 'train-labels-idx1-ubyte'}: ") and words in message


def test_a_folder_with_labels_alone_nothing_or_folders_in_the_files_places_is_refused(tmp_path):
    assert "holds neither train-images-idx3-ubyte[.gz]" in error_of(open_mnist, str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    assert "holds neither" in error_of(open_mnist, str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_labels(make_labels(3)))
    assert "but no t10k-images-idx3-ubyte[.gz]" in error_of(open_mnist, str(tmp_path))
    assert "no such file" in error_of(open_mnist, str(tmp_path / "gone"))


def test_classes_without_labels_and_labels_for_a_folder_are_refused(tmp_path):
    write_files(tmp_path, {"train-images-idx3-ubyte": IMAGES, "other": idx_labels(make_labels(3))})
    assert "there are no labels beside the images" in error_of(open_mnist, str(tmp_path), classes=["a"])
    assert "has its own labels" in error_of(open_mnist, str(tmp_path), str(tmp_path / "other"))


@pytest.mark.skipif(not os.environ.get("TINYTAGS_SHARED_DATA"), reason="the original files aren't here")
def test_the_original_files_are_read_to_the_last_pixel():
    dump = open_mnist(os.path.join(os.environ["TINYTAGS_SHARED_DATA"], "mnist"))
    assert dump.splits == {"train": (0, 60000), "test": (60000, 70000)}
    digest = hashlib.md5(struct.pack(">4I", 2051, 10_000, 28, 28))
    batch = dump.read(60_000, 70_000)
    for plane in range(3):
        grey = batch.images.reshape(-1, 3, 32, 32)[:, plane, 2:30, 2:30]
        both = digest.copy()
        both.update(grey.tobytes())
        assert both.hexdigest() == "2646ac647ad5339dbf082846283269ea"
    assert np.bincount(batch.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
