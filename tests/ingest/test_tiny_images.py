"""The reader of the 80 Million Tiny Images format."""

import os
import pickle

import numpy as np
import pytest
from dumps import assert_refused, assert_upright, error_of, make_images, make_labels, write_tiny_images

from ingest.formats.cifar_10 import CLASSES
from ingest.formats.tiny_images import open_tiny_images


@pytest.fixture
def images():
    return make_images(700)


@pytest.fixture
def dump_path(tmp_path, images):
    return str(write_tiny_images(tmp_path / "tiny_images.bin", images))


def test_column_major_records_come_out_upright_with_their_colours(dump_path):
    assert_upright(open_tiny_images(dump_path).read(0, 1).images[0])


def test_records_in_are_records_out(dump_path, images):
    dump = open_tiny_images(dump_path)
    assert (dump.format, dump.images, dump.classes, dump.splits) == ("tiny-images", 700, None, {})
    batch = dump.read(0, 700)
    np.testing.assert_array_equal(batch.images, images)
    assert batch.images.dtype == np.uint8 and batch.images.flags.c_contiguous
    assert batch.names is None
    assert batch.labels.dtype == np.int32 and set(batch.labels.tolist()) == {-1}


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (699, 700), (255, 257), (100, 613), (256, 512)])
def test_a_range_of_records_equals_that_range_of_the_whole(dump_path, images, start, stop):
    dump = pickle.loads(pickle.dumps(open_tiny_images(dump_path)))  # as a worker gets it
    np.testing.assert_array_equal(dump.read(start, stop).images, images[start:stop])


def test_a_range_that_is_not_there_is_refused(dump_path):
    for start, stop in [(-1, 3), (0, 701), (5, 4)]:
        with pytest.raises(IndexError):
            open_tiny_images(dump_path).read(start, stop)


def test_labels_are_one_byte_a_record_and_255_means_no_label(tmp_path, dump_path):
    labels = make_labels(700)
    labels[3] = 255
    (tmp_path / "labels").write_bytes(labels.tobytes())
    dump = open_tiny_images(dump_path, str(tmp_path / "labels"))
    assert dump.classes == CLASSES
    expected = labels.astype(int)
    expected[3] = -1
    assert dump.read(0, 700).labels.tolist() == expected.tolist()
    assert dump.read(2, 6).labels.tolist() == expected[2:6].tolist()
    assert dump.read(2, 6).labels.dtype == np.int32


def test_a_file_of_labels_beside_the_dump_that_is_not_used_is_noted(tmp_path, dump_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing")
    assert open_tiny_images(dump_path).classes is None and not capsys.readouterr().err
    for name, content, how in (
        ("labels.bin", bytes(700), f"--labels {tmp_path}/labels.bin takes it"),
        ("my_Labels.csv", b"0,cat\n", "--labels takes a file of one byte a record"),
    ):
        (tmp_path / name).write_bytes(content)
        assert open_tiny_images(dump_path).classes is None
        assert (
            f"{dump_path}: {name} may hold labels and is not used: {how}"
            in capsys.readouterr().err.splitlines()
        )
    open_tiny_images(dump_path, str(tmp_path / "labels.bin"))
    assert not capsys.readouterr().err


def test_classes_name_the_labels(tmp_path, dump_path):
    (tmp_path / "labels").write_bytes(bytes([0, 1] * 350))
    assert open_tiny_images(dump_path, str(tmp_path / "labels"), ["cat", "dog"]).classes == ["cat", "dog"]


def test_the_identity_changes_with_a_pixel_and_with_a_label(tmp_path, dump_path, images):
    labels = tmp_path / "labels"
    labels.write_bytes(make_labels(700).tobytes())
    first = open_tiny_images(dump_path, str(labels)).identity
    assert first["bytes"] == 700 * 3072 and len(first["sha256"]) == 64
    assert open_tiny_images(dump_path, str(labels)).identity == first
    labels.write_bytes(bytes(700))
    assert open_tiny_images(dump_path, str(labels)).identity != first
    changed = images.copy()
    changed[600, 7] ^= 1
    write_tiny_images(tmp_path / "tiny_images.bin", changed)
    assert open_tiny_images(dump_path).identity["sha256"] != first["sha256"]


def test_a_dump_of_a_terabyte_opens_at_once_and_is_read_anywhere(tmp_path):
    path = tmp_path / "huge.bin"
    last = make_images(1)
    with open(path, "wb") as file:  # a sparse file: takes no space
        file.seek((1 << 40) // 3072 * 3072)
        file.write(last.reshape(3, 32, 32).swapaxes(1, 2).tobytes())
    dump = open_tiny_images(str(path))
    assert dump.images == (1 << 40) // 3072 + 1
    assert_upright(dump.read(dump.images - 1, dump.images).images[0])
    assert set(dump.identity) == {"bytes", "modified", "sample"}
    assert len(pickle.dumps(dump)) < 1000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"x" * 6145,
            "6,145 bytes is not a whole number of 3,072-byte records; the last one starts at byte 6,144",
        ),
        (b"x" * 100, "100 bytes is not a whole number"),
        (b"", "is empty (0 bytes"),
    ],
)
def test_a_file_of_the_wrong_size_is_refused(tmp_path, content, words):
    assert_refused(open_tiny_images, tmp_path / "tiny_images.bin", content, words)


def test_a_missing_file_and_a_directory_in_its_place_are_refused(tmp_path):
    assert error_of(open_tiny_images, str(tmp_path / "gone.bin")) == f"{tmp_path / 'gone.bin'}: no such file"
    assert "is a folder where a file is needed" in error_of(open_tiny_images, str(tmp_path))


def test_labels_that_do_not_fit_are_refused(tmp_path, dump_path):
    labels = tmp_path / "labels"
    labels.write_bytes(bytes(699))
    assert "699 bytes for the 700 records" in error_of(open_tiny_images, dump_path, str(labels))
    labels.write_bytes(bytes(650) + b"\x0b" + bytes(49))
    message = error_of(open_tiny_images, dump_path, str(labels))
    assert message == f"{labels}: record 650 has label 11; 10 classes have labels 0 to 9"
    assert "no such file" in error_of(open_tiny_images, dump_path, str(tmp_path / "gone"))
    assert "classes are given, but no labels" in error_of(open_tiny_images, dump_path, None, ["cat"])


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([], "0 classes given"),
        ([f"class {n}" for n in range(65_536)], "65,536 classes given"),
        (["cat", "cat"], "'cat' is given 2 times"),
        (["cat", " "], "' ' is invalid"),
        (["cat", "a\nb"], "is invalid"),
    ],
)
def test_class_names_that_are_not_distinct_are_refused(tmp_path, dump_path, classes, words):
    (tmp_path / "labels").write_bytes(bytes(700))
    assert words in error_of(open_tiny_images, dump_path, str(tmp_path / "labels"), classes)


def test_a_dump_that_shrinks_after_it_was_opened_is_an_error_and_no_black_images(dump_path):
    dump = open_tiny_images(dump_path)
    os.truncate(dump_path, 400 * 3072)
    assert dump.read(0, 400).images.shape == (400, 3072)
    assert "was it changed since it was opened?" in error_of(dump.read, 300, 700)
