"""Dumps recognised from their content."""

import gzip
import os
import pickle
import re
from pathlib import Path

import click
import numpy as np
import pytest
from dumps import (
    assert_refused,
    cifar_records,
    error_of,
    idx_labels,
    make_cifar,
    make_cifar_100,
    make_images,
    make_labels,
    make_mnist,
    write_files,
    write_tar,
    write_tiny_images,
)
from PIL import Image

from ingest.corpus import Corpus
from ingest.formats import FORMATS, ingest_command, open_dump, record_offset
from ingest.formats.cifar_10 import CLASSES
from ingest.formats.cifar_100 import COARSE_CLASSES, FINE_CLASSES
from jobs import split_dump


@pytest.fixture
def dumps(tmp_path):
    """A dump in each form there is: {what it is called: (path, format)}."""
    binary, python = make_cifar()[0], make_cifar(form="py")[0]
    fine, pickled = make_cifar_100()[0], make_cifar_100(form="py")[0]
    zipped, plain = make_mnist()[0], make_mnist(zipped=False)[0]
    pictures = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (pictures / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(pictures / name / "a.png")
    return {
        "tiny": (write_tiny_images(tmp_path / "some.bin", make_images(20)), "tiny-images"),
        "binary": (write_files(tmp_path / "binary", binary), "cifar-10"),
        "python": (write_files(tmp_path / "python", python), "cifar-10"),
        "binary batch": (write_files(tmp_path / "b", {"x": binary["test_batch.bin"]}) / "x", "cifar-10"),
        "python batch": (write_files(tmp_path / "p", {"x": python["test_batch"]}) / "x", "cifar-10"),
        "binary archive": (write_tar(tmp_path / "binary.tar.gz", binary), "cifar-10"),
        "python archive": (write_tar(tmp_path / "python.tgz", python, "cifar-10-batches-py"), "cifar-10"),
        "bzip2 archive": (write_tar(tmp_path / "binary.tar.bz2", binary, mode="w:bz2"), "cifar-10"),
        "xz archive": (
            write_tar(tmp_path / "python.tar.xz", python, "cifar-10-batches-py", "w:xz"),
            "cifar-10",
        ),
        "tar": (write_tar(tmp_path / "binary.tar", binary, mode="w"), "cifar-10"),
        "unpacked beside": (
            write_files(tmp_path / "data" / "cifar-10-batches-bin", binary).parent,
            "cifar-10",
        ),
        "cifar-100": (write_files(tmp_path / "100", fine), "cifar-100"),
        "cifar-100 python": (write_files(tmp_path / "100 py", pickled), "cifar-100"),
        "cifar-100 batch": (tmp_path / "100" / "test.bin", "cifar-100"),
        "cifar-100 python batch": (write_files(tmp_path / "q", {"x": pickled["test"]}) / "x", "cifar-100"),
        "cifar-100 archive": (write_tar(tmp_path / "100.tar.gz", fine, "cifar-100-binary"), "cifar-100"),
        "mnist zipped": (write_files(tmp_path / "mnist zipped", zipped), "mnist"),
        "mnist": (write_files(tmp_path / "mnist", plain), "mnist"),
        "digits": (tmp_path / "mnist" / "t10k-images-idx3-ubyte", "mnist"),
        "digits zipped": (tmp_path / "mnist zipped" / "t10k-images-idx3-ubyte.gz", "mnist"),
        "pictures": (pictures, "folder"),
        "pictures of one class": (pictures / "cat", "folder"),
    }


def test_each_format_is_recognised_from_its_content(dumps):
    for path, format in dumps.values():
        dump = open_dump(str(path))
        assert dump.format == format
        assert len(dump.read(0, dump.images).images) == dump.images > 0
        assert open_dump(str(path), format).images == dump.images


def test_every_dump_is_small_and_can_be_sent_to_a_worker(dumps):
    for path, _ in dumps.values():
        dump = open_dump(str(path))
        copy = pickle.loads(pickle.dumps(dump))
        assert len(pickle.dumps(dump)) < 3000
        np.testing.assert_array_equal(copy.read(0, 1).images, dump.read(0, 1).images)
        assert copy.identity == dump.identity and copy.identity["bytes"] > 0


def test_a_wrong_format_is_refused_with_what_it_resembles(dumps):
    for path, right in dumps.values():
        # Files don't show whether their pictures are column by column.
        alike = {"mnist", "emnist"} if right == "mnist" else {right}
        for wrong in set(FORMATS) - alike:
            message = error_of(open_dump, str(path), wrong)
            assert message.startswith(str(path))
            # CIFAR-100's pickles are known for what they are only by their keys.
            refusal = wrong == "cifar-10" and message.endswith("; is it CIFAR-10?")
            assert refusal or message.endswith(f"is not {wrong}: it looks like {right}")
    message = error_of(open_dump, str(dumps["binary"][0]), "cifar")
    assert message == f"format 'cifar' is unknown; there are {', '.join(FORMATS)}"


def test_the_help_and_the_readme_describe_each_format_that_is_registered():
    command = click.Context(split_dump.main)
    help = " ".join(split_dump.main.get_help(command).split())
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for format in FORMATS.values():
        assert f"{format.name} {format.example}: {format.content}" in help
        assert f"| `{format.name}` | {format.content} | " in readme
        assert not format.labels or f"--labels: {format.labels}" in help
    assert len(re.findall(r"(?m)^\| `[a-z0-9-]+` \| .* \| .* \|$", readme.partition("`--format`")[0])) == len(
        FORMATS
    )


def test_the_command_that_ingests_a_corpus_again_has_the_options_that_its_dump_needs():
    def words(format, classes=None, labels=None, images=20_000):
        corpus = Corpus("c", format, "/dump", {}, 9, images, labels, classes)
        return ingest_command(corpus)[5:]

    tiny = ["--format", "tiny-images"]
    assert words("tiny-images") == tiny
    assert words("tiny-images", ["a", "b, c"], "/l") == ["--labels", "/l", *tiny, "--classes", 'a,"b, c"']
    assert words("cifar-10", CLASSES) == []
    assert words("cifar-10", ["x", "y"], images=7) == ["--classes", "x,y", "--partition-images", "7"]
    assert words("cifar-100", FINE_CLASSES) == []
    assert words("cifar-100", COARSE_CLASSES, "coarse") == ["--labels", "coarse"]
    assert words("mnist", list("0123456789"), "/l") == ["--labels", "/l"]
    assert words("folder", ["a", "b"]) == [] and words("folder", ["b", "a"]) == ["--classes", "b,a"]
    assert words("gone", ["a", "b"]) == ["--classes", "a,b"]


def test_a_record_has_an_offset_in_a_format_of_nothing_but_records():
    assert record_offset("tiny-images", 3) == 3 * 3072
    assert record_offset("mnist", 3) is None and record_offset("gone", 3) is None


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"\x00\x00\x08\x03", b"\x89PNG\r\n\x1a\n"])
def test_a_dump_without_a_header_is_opened_in_the_format_given(tmp_path, start):
    images = make_images(4)
    images[0, : len(start)] = list(start)
    path = tmp_path / "tiny_images.bin"
    images.tofile(path)
    assert open_dump(str(path), "tiny-images").images == 4


def test_an_unknown_file_is_refused_with_the_formats_that_can_be_read(tmp_path):
    path = tmp_path / "it"
    for content, words in [
        (b"hello", "its 5 bytes are in no known format"),
        (b"\x80", "its 1 bytes are in no known format"),
        (gzip.compress(b"hello"), "is compressed, but holds neither MNIST nor a tar archive"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it and give its folder"),
        (b"\x89PNG" + bytes(100), "is one picture; give the folder that it is in"),
    ]:
        path.write_bytes(content)
        message = error_of(open_dump, str(path))
        assert message.startswith(f"{path}: {words}")
        for format in FORMATS:
            assert format in message
    path.unlink()
    path.mkdir()
    assert error_of(open_dump, str(path)).startswith(
        f"{path}: is a folder without pictures or batches in it."
    )
    (path / "tiny_images.bin").write_bytes(b"x")
    assert f"(did you mean {path}/tiny_images.bin?)" in error_of(open_dump, str(path))


@pytest.mark.parametrize("format", [None, *FORMATS])
def test_nothing_empty_files_and_pipes_are_one_line_each(tmp_path, format):
    path = tmp_path / "dump"
    assert error_of(open_dump, str(path), format) == f"{path}: no such file or folder"
    path.write_bytes(b"")
    assert error_of(open_dump, str(path), format).startswith(f"{path}: is empty (0 bytes")
    path.unlink()
    os.mkfifo(path)
    assert error_of(open_dump, str(path), format).startswith(f"{path}: is a device or pipe")
    path.unlink()
    path.mkdir()
    assert error_of(open_dump, str(path), format).startswith(f"{path}: ")


def test_damaged_dumps_are_distinguished_from_unknown_ones(tmp_path):
    for name, content, words in [
        ("tiny_images.bin", b"x" * 6145, "6,145 bytes is not a whole number of 3,072-byte records"),
        ("data_batch_1.bin", bytes(3073 * 2 + 5), "6,151 bytes is not a whole number of 3,073-byte records"),
        ("mine.bin", cifar_records(make_images(3), np.array([1, 99, 2], np.uint8)), "record 1 has label 99"),
        ("t10k.idx", idx_labels(make_labels(20)), "holds MNIST labels; give the images file"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + bytes(50), "holds pictures of 0 x 0"),
        ("half.tar.gz", gzip.compress(b"hello" * 1000)[:30], "the gzip stream ends too early"),
        ("batch", b"\x80\x02cos\nsystem\n(U\x04truetR.", "the pickle names os.system"),
    ]:
        assert_refused(open_dump, tmp_path / name, content, words)


def test_a_size_that_both_record_formats_have_is_decided_by_content_and_name(tmp_path):
    count = 3072  # CIFAR records, as many bytes as 3,073 of Tiny Images
    images = make_images(count)
    (tmp_path / "some.bin").write_bytes(cifar_records(images, make_labels(count)))
    assert open_dump(str(tmp_path / "some.bin")).format == "cifar-10"
    smooth = np.sort(make_images(count + 1).reshape(-1, 3, 32, 32), axis=2).reshape(-1, 3072)
    write_tiny_images(tmp_path / "other.bin", smooth)
    assert open_dump(str(tmp_path / "other.bin")).format == "tiny-images"
    dark = tmp_path / "tiny_images.bin"
    dark.write_bytes(bytes(3072 * 3073))
    assert open_dump(str(dark)).format == "cifar-10"
    assert open_dump(str(dark), "tiny-images").images == 3073
    assert open_dump(str(dark), "cifar-10").images == 3072


@pytest.mark.parametrize("name", ["photos.db", "tiny_images.bin"])
def test_a_file_that_only_has_the_size_of_tiny_images_is_not_taken_for_one(tmp_path, name):
    path = tmp_path / name
    noise = make_images(20)[1:].tobytes()
    table = "".join(f"{number},{number * 7 % 10},{number * 13 % 1000}\n" for number in range(5000)).encode()
    for content, words in (
        (
            bytes(3072 * 7),
            "they are no pictures; if it is tiny-images all the same, give --format tiny-images",
        ),
        *([(noise, "they are no pictures")] if name == "photos.db" else []),
        (table[: len(table) // 3072 * 3072], "they are no pictures"),
        (b"SQLite format 3\0" + bytes(3056), "is an SQLite database"),
    ):
        path.write_bytes(content)
        assert words in error_of(open_dump, str(path))
        assert open_dump(str(path), "tiny-images").images == len(content) // 3072


def test_a_folder_with_a_dump_and_pictures_needs_a_format(tmp_path):
    folder = write_files(tmp_path / "mixed", make_mnist()[0])
    Image.new("RGB", (9, 9)).save(folder / "cover.png")
    assert "could be mnist or folder; choose one with --format" in error_of(open_dump, str(folder))
    assert open_dump(str(folder), "mnist").images == 13


def test_labels_and_classes_reach_the_format_that_has_them(tmp_path, dumps):
    labels = tmp_path / "labels"
    labels.write_bytes(make_labels(20).tobytes())
    tiny = open_dump(
        str(dumps["tiny"][0]), labels=str(labels), classes=[f"kind {number}" for number in range(10)]
    )
    assert tiny.classes[3] == "kind 3" and tiny.read(0, 20).labels.tolist() == make_labels(20).tolist()
    assert open_dump(str(dumps["binary"][0]), classes=list("abcdefghij")).classes == list("abcdefghij")
    assert open_dump(str(dumps["pictures"][0]), classes=["dog", "cat"]).read(0, 2).labels.tolist() == [1, 0]
    for name in ("binary", "mnist"):
        assert "has its own labels" in error_of(open_dump, str(dumps[name][0]), labels=str(labels))


def test_a_relative_path_means_the_same_on_a_worker_in_another_folder(dumps, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dump = open_dump("some.bin")
    monkeypatch.chdir("/")
    assert dump.path == str(tmp_path / "some.bin") and len(dump.read(0, 20).images) == 20
    for scheme in ("file:", "file://"):
        assert open_dump(f"{scheme}{tmp_path}/some.bin").path == dump.path
