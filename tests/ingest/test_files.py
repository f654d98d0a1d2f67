"""Source files, local and in HDFS."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from dumps import (
    error_of,
    make_cifar,
    make_images,
    make_labels,
    make_mnist,
    write_files,
    write_tar,
    write_tiny_images,
)
from PIL import Image

from ingest import files
from ingest.formats import open_dump
from storage import hdfs_client

CONTENT = bytes(np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8))


def test_a_file_is_read_from_any_byte_to_any_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert files.size(str(path)) == len(CONTENT)
    assert files.read_range(str(path), 1000, 200_000) == CONTENT[1000:201_000]
    with files.open_file(str(path), offset=5, length=10) as file:
        assert file.read(10) == CONTENT[5:15] and file.tell() == 15
        file.seek(-3, io.SEEK_END)
        assert file.read() == CONTENT[-3:]


def test_the_status_of_a_path_is_its_size_and_time_of_change(tmp_path):
    (tmp_path / "file").write_bytes(b"123")
    os.utime(tmp_path / "file", (7, 7))
    assert files.status(str(tmp_path / "file")) == files.Entry("file", 3, 7.0, False)
    assert files.status(str(tmp_path / "gone")) is None and not files.exists(str(tmp_path / "gone"))
    assert files.is_dir(str(tmp_path)) and not files.is_dir(str(tmp_path / "file"))
    assert files.status(str(tmp_path / "file" / "below")) is None


def test_a_missing_file_a_folder_an_empty_file_and_a_pipe_are_refused(tmp_path):
    path = tmp_path / "it"
    assert error_of(files.file_status, str(path)) == f"{path}: no such file"
    path.mkdir()
    assert error_of(files.file_status, str(path)) == f"{path}: is a folder where a file is needed"
    path.rmdir()
    path.write_bytes(b"")
    assert error_of(files.file_status, str(path)).startswith(f"{path}: is empty")
    path.unlink()
    os.mkfifo(path)
    assert error_of(files.file_status, str(path)).startswith(f"{path}: is a device or pipe")
    assert "scheme gopher:// is unknown; give a local path, hdfs://" in error_of(
        files.absolute, "gopher://x/y"
    )
    assert error_of(files.absolute, "") == error_of(files.absolute, "file://").replace("file://", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0)
    assert "may not be read by this user" in error_of(files.open_file, str(tmp_path / "file"))


def test_reading_beyond_the_end_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    message = error_of(files.read_range, str(tmp_path / "file"), 3, 4)
    assert message == f"{tmp_path / 'file'}: ends 2 bytes too early; was it changed since it was opened?"


def test_all_files_below_a_folder_are_listed_by_path_without_hidden_ones(tmp_path):
    for name in ("b/2", "b/1", "a", "c/d/e", ".hidden", "b/.git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 3)
    entries = files.list_files(str(tmp_path))
    assert [entry.name for entry in entries] == ["a", "b/1", "b/2", "c/d/e"]
    assert {entry.size for entry in entries} == {3}
    assert [entry.name for entry in files.list_dir(str(tmp_path))] == [".hidden", "a", "b", "c"]


def test_folders_that_are_links_are_entered_and_circles_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "link").symlink_to(tmp_path / "real")
    assert [entry.name for entry in files.list_files(str(tmp_path / "dump"))] == ["link/file"]
    (tmp_path / "real" / "back").symlink_to(tmp_path / "dump")
    assert "links back to a folder that contains it" in error_of(files.list_files, str(tmp_path / "dump"))


def test_the_identity_of_one_file_is_what_sha256sum_prints(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(b"b")
    one = {"bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert files.identity([str(tmp_path / "a")]) == one
    both = files.identity([str(tmp_path / "a"), str(tmp_path / "b")])
    assert both["bytes"] == len(CONTENT) + 1 and both["sha256"] != one["sha256"]


def test_a_file_beyond_a_gigabyte_is_known_by_size_time_and_a_sample(tmp_path):
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate((1 << 30) + 1)  # sparse: takes no space
    os.utime(large, (9, 9))
    identity = files.identity([str(large)])
    zeros = hashlib.sha256(bytes(files.SAMPLE_BLOCKS * files.SAMPLE_BYTES)).hexdigest()
    assert identity == {"bytes": (1 << 30) + 1, "modified": 9.0, "sample": zeros}
    for at in (0, 1 << 30):
        with open(large, "r+b") as file:
            file.seek(at)
            file.write(b"x")
        os.utime(large, (9, 9))
        assert files.identity([str(large)]) != identity
        identity = files.identity([str(large)])


def test_a_sample_covers_all_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SAMPLE_BLOCKS", 5)
    monkeypatch.setattr(files, "SAMPLE_BYTES", 2)
    content = [b"0123", b"", b"456789", b"ab"]
    paths = [tmp_path / str(number) for number in range(4)]
    for path, data in zip(paths, content, strict=True):
        path.write_bytes(data)
    sizes = list(map(len, content))
    # At 0, 2, 5, 7 and 10 of the twelve bytes.
    assert (
        files.sample(list(map(str, paths)), sizes)
        == hashlib.sha256(b"0123" + b"56" + b"78" + b"ab").hexdigest()
    )
    assert files.sample([], []) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "ends too early (truncated copy?)"),
        (lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "is damaged"),
        (lambda data: data[:20] + b"\xff\xff\xff" + data[23:], "is damaged"),
        (lambda data: b"no gzip stream", "is damaged"),
    ],
)
def test_a_damaged_gzip_stream_is_one_line(tmp_path, damage, words):
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(CONTENT)))
    message = error_of(unpack, path)
    assert message.startswith(f"{path}: the gzip stream") and words in message


@pytest.mark.parametrize(("name", "compress"), [("bzip2", bz2.compress), ("xz", lzma.compress)])
def test_other_compression_is_read_and_its_damage_is_one_line(tmp_path, name, compress):
    path, whole = tmp_path / "file", compress(CONTENT)
    path.write_bytes(whole)
    assert (unpack(path), files.packing(str(path))) == (CONTENT, name)
    for data, words in (
        (whole[:-1], "ends too early (truncated copy?)"),
        (whole[: len(whole) // 2] + b"\xff\xff\xff" + whole[len(whole) // 2 + 3 :], "is damaged"),
    ):
        path.write_bytes(data)
        message = error_of(unpack, path)
        assert message.startswith(f"{path}: the {name} stream") and words in message


def unpack(path) -> bytes:
    content = bytearray(len(CONTENT))
    with files.open_packed(str(path)) as file:
        files.read_into(file, content, str(path))
        files.skip(file, 1 << 30)
    return bytes(content)


def test_an_hdfs_that_is_not_there_is_one_line_in_bounded_time(monkeypatch):
    waits = []
    monkeypatch.setattr(hdfs_client, "time", SimpleNamespace(sleep=waits.append))
    started = time.monotonic()
    message = error_of(open_dump, "hdfs://127.0.0.1:1/tiny_images.bin", webhdfs="http://127.0.0.1:1")
    assert (
        message.startswith("hdfs://127.0.0.1:1/tiny_images.bin: ")
        and "WebHDFS at http://127.0.0.1:1" in message
    )
    assert time.monotonic() - started + sum(waits) < 60 and len(waits) == hdfs_client.ATTEMPTS - 1
    assert "write hdfs://HOST" in error_of(files.status, "hdfs:///tiny_images.bin")


@pytest.fixture(scope="module")
def remote(hdfs):
    """A function that puts a local file or folder into HDFS and returns (its address, WebHDFS)."""
    from hdfs import InsecureClient

    client = InsecureClient(hdfs.webhdfs, user=hdfs_client.user(), timeout=(15, 60))

    def upload(path):
        client.upload(f"/test-files/{path.name}", str(path))
        return f"{hdfs.url}/test-files/{path.name}", hdfs.webhdfs

    client.makedirs("/test-files")
    yield upload
    client.delete("/test-files", recursive=True)


@pytest.mark.services
def test_a_file_in_hdfs_is_read_from_any_byte_to_any_other(remote, tmp_path):
    (tmp_path / "a file%20#1").write_bytes(CONTENT)
    url, webhdfs = remote(tmp_path / "a file%20#1")
    assert files.size(url, webhdfs) == len(CONTENT)
    assert files.read_range(url, 1000, 200_000, webhdfs) == CONTENT[1000:201_000]
    with files.open_file(url, webhdfs) as file:
        assert file.read() == CONTENT
        file.seek(-3, io.SEEK_END)
        assert file.read() == CONTENT[-3:]
        file.seek(150_000)
        assert file.read(7) == CONTENT[150_000:150_007] and file.tell() == 150_007
    assert files.identity([url], webhdfs)["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    message = error_of(files.read_range, url, 299_999, 5, webhdfs)
    assert (
        message
        == f"{url}: holds 300,000 bytes where 300,004 were expected; was it changed since it was opened?"
    )


@pytest.mark.services
def test_a_missing_or_empty_file_in_hdfs_is_an_error(remote, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    url, webhdfs = remote(tmp_path / "empty")
    assert error_of(open_dump, url, webhdfs=webhdfs).startswith(f"{url}: is empty")
    gone = url.replace("empty", "gone")
    assert files.status(gone, webhdfs) is None
    assert error_of(open_dump, gone, webhdfs=webhdfs) == f"{gone}: no such file or folder"


@pytest.mark.services
@pytest.mark.parametrize("format", ["tiny-images", "cifar-10", "cifar-10 archive", "mnist", "folder"])
def test_a_dump_in_hdfs_gives_what_the_same_dump_gives_locally(remote, tmp_path, format):
    path = tmp_path / format.replace(" ", "-")
    labels = None
    if format == "tiny-images":
        write_tiny_images(path, make_images(600))
        labels = tmp_path / "labels"
        labels.write_bytes(make_labels(600).tobytes())
    elif format == "cifar-10":
        write_files(path, make_cifar(form="py")[0])
    elif format == "cifar-10 archive":
        write_tar(path, make_cifar()[0])
    elif format == "mnist":
        write_files(path, make_mnist()[0])
    else:
        for name in ("cat/a b.png", "cat/b.jpg", "dog/c.png"):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (50, 40), (len(name), 100, 200)).save(path / name)
    local = open_dump(str(path), labels=labels and str(labels))
    url, webhdfs = remote(path)
    there = open_dump(url, labels=labels and remote(labels)[0], webhdfs=webhdfs)
    assert (there.format, there.images, there.classes, there.splits) == (
        local.format,
        local.images,
        local.classes,
        local.splits,
    )
    for start, stop in [(0, local.images), (1, local.images - 1)]:
        ours, theirs = local.read(start, stop), there.read(start, stop)
        np.testing.assert_array_equal(theirs.images, ours.images)
        np.testing.assert_array_equal(theirs.labels, ours.labels)
        assert theirs.names == ours.names
    if format != "folder":
        assert there.identity == local.identity
    assert there.identity["bytes"] == local.identity["bytes"]


@pytest.mark.services
def test_reading_goes_on_when_a_datanode_was_killed_and_comes_back(remote, hdfs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "storage.hdfs_client.ATTEMPTS", 6
    )  # a JVM that starts on a busy machine takes longer than four
    content = CONTENT * 100
    (tmp_path / "long").write_bytes(content)
    url, webhdfs = remote(tmp_path / "long")
    with files.open_file(url, webhdfs) as file:
        begin = file.read(1000)
        hdfs.daemons[1].kill()
        back = threading.Timer(1, hdfs.start)
        back.start()
        try:
            assert begin + file.read() == content
        finally:
            back.join()


@pytest.mark.services
def test_a_datanode_that_stays_down_is_one_line(remote, hdfs, tmp_path):
    write_tiny_images(tmp_path / "tiny_images.bin", make_images(600))
    url, webhdfs = remote(tmp_path / "tiny_images.bin")
    dump = open_dump(url, webhdfs=webhdfs)
    hdfs.daemons[1].kill()
    try:
        message = error_of(dump.read, 0, 600)
    finally:
        hdfs.start()
    assert message.startswith(f"{url}: ") and "are the NameNode and a DataNode up?" in message
    assert len(dump.read(0, 600).images) == 600
