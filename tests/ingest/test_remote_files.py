"""Dumps at addresses that fsspec reads: a real HTTP server, and fsspec's own files in memory."""

import builtins
import contextlib
import gzip
import http.server
import io
import os
import re
import threading

import fsspec
import numpy as np
import pytest
from dumps import (
    error_of,
    make_cifar,
    make_cifar_100,
    make_images,
    make_mnist,
    write_files,
    write_tar,
    write_tiny_images,
)

from ingest import files
from ingest.formats import open_dump

CONTENT = bytes(np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files as they are, or ranges of them, and keeps the ranges in the server's list."""

    ranges = True

    def send_head(self):
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            return super().send_head()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not self.ranges or not wanted:
            return super().send_head()
        size = os.path.getsize(path)
        first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
        self.server.requested.append((first, last + 1))
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        content = file.read()[first : last + 1]
        file.close()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def log_message(self, *args):
        pass


class WithoutRanges(Handler):
    ranges = False


@contextlib.contextmanager
def serving(folder, handler):
    def make(*args):
        return handler(*args, directory=str(folder))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make)
    server.requested = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path, Handler) as server:
        yield server


def url(server, name):
    return f"http://127.0.0.1:{server.server_address[1]}/{name}"


def test_a_file_on_a_web_server_is_read_from_any_byte_to_any_other(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT * 40)
    address = url(server, "file")
    os.utime(tmp_path / "file", (7, 7))
    assert files.status(address) == files.Entry("file", 12_000_000, 7.0, False)
    assert files.read_range(address, 8_000_000, 1000) == (CONTENT * 40)[8_000_000:8_001_000]
    assert all(first >= 8_000_000 for first, _ in server.requested), "only what is needed is fetched"
    assert sum(stop - first for first, stop in server.requested) <= 1000 + files.BUFFER_BYTES
    with files.open_file(address) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == CONTENT[-3:] and file.tell() == 12_000_000
    assert files.status(url(server, "gone")) is None
    assert error_of(open_dump, url(server, "gone")) == f"{url(server, 'gone')}: no such file or folder"


def test_a_server_that_does_not_answer_is_one_line():
    message = error_of(open_dump, "http://127.0.0.1:1/tiny_images.bin")
    assert message.startswith("http://127.0.0.1:1/tiny_images.bin: ") and "connect" in message.lower()


def test_a_server_without_ranges_is_one_clear_line(tmp_path):
    write_tiny_images(tmp_path / "tiny_images.bin", make_images(3000))
    with serving(tmp_path, WithoutRanges) as server:
        dump = open_dump(url(server, "tiny_images.bin"))
        assert error_of(dump.read, 2000, 2001) == (
            f"{dump.path}: its server does not support range requests, which reading a part of a file needs; download it first"
        )
        assert len(dump.read(0, 10).images) == 10, "from the start it needs none"


def make_dumps(folder):
    """Write a dump in each format there is into ``folder``; return their names."""
    from test_hugging_face import FEATURES, png, write

    write_tiny_images(folder / "tiny_images.bin", make_images(600))
    write_files(folder / "cifar-10", make_cifar(form="py")[0])
    write_tar(folder / "cifar-10.tar.gz", make_cifar()[0])
    write_files(folder / "cifar-100", make_cifar_100()[0])
    write_files(folder / "mnist", make_mnist()[0])
    write(folder / "parquet" / "train.parquet", make_images(20), [0] * 20, FEATURES)
    write(folder / "parquet" / "test.parquet", make_images(5), [1] * 5, FEATURES)
    write_files(folder / "pictures" / "cat", {"a.png": png(make_images(1)[0])})
    return sorted(os.listdir(folder))


def assert_same(theirs, ours, start, stop):
    assert (theirs.format, theirs.images, theirs.classes, theirs.splits) == (
        ours.format,
        ours.images,
        ours.classes,
        ours.splits,
    )
    theirs, ours = theirs.read(start, stop), ours.read(start, stop)
    np.testing.assert_array_equal(theirs.images, ours.images)
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    assert theirs.names == ours.names


def test_every_format_in_memory_gives_what_it_gives_locally(tmp_path):
    memory = fsspec.filesystem("memory")
    names = make_dumps(tmp_path)
    memory.put(f"{tmp_path}/", "/dumps", recursive=True)
    try:
        for name in names:
            ours, theirs = open_dump(str(tmp_path / name)), open_dump(f"memory://dumps/{name}")
            assert_same(theirs, ours, 0, ours.images)
            assert_same(theirs, ours, ours.images // 2, ours.images)
            assert theirs.identity == ours.identity
            assert None not in theirs.status()
    finally:
        memory.rm("/dumps", recursive=True)


def test_files_on_a_web_server_give_what_they_give_locally(server, tmp_path):
    make_dumps(tmp_path)
    for name in ("tiny_images.bin", "cifar-10.tar.gz", "cifar-100/train.bin", "parquet/train.parquet",
                 "mnist/t10k-images-idx3-ubyte.gz"):  # fmt: skip
        ours, theirs = open_dump(str(tmp_path / name)), open_dump(url(server, name))
        assert_same(theirs, ours, 1, ours.images)


def test_a_file_that_changed_is_noticed(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/changing", make_images(2).tobytes())
    dump = open_dump("memory://changing")
    before = dump.status()
    memory.pipe("/changing", make_images(3).tobytes())
    assert dump.status() != before
    memory.pipe("/changing", make_images(1).tobytes())
    assert "ends 3,072 bytes too early" in error_of(dump.read, 0, 2)
    memory.rm("/changing")
    assert dump.status() == [None]


def test_damaged_gzip_on_a_web_server_is_one_line(server, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"hello" * 1000)[:30])
    assert "the gzip stream ends too early" in error_of(open_dump, url(server, "a.tar.gz"))


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("hf", "huggingface_hub")])
def test_a_missing_driver_is_named_with_what_to_install(monkeypatch, scheme, package):
    original = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    monkeypatch.setattr("importlib.import_module", lambda name, package=None: fail(name))
    message = error_of(open_dump, f"{scheme}://bucket/tiny_images.bin")
    assert package in message and "pip install 'tinytags[remote]'" in message


def test_a_missing_fsspec_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    message = error_of(open_dump, "https://host/tiny_images.bin")
    assert message == (
        "https://host/tiny_images.bin: reading https:// needs the package fsspec: pip install 'tinytags[remote]'"
    )
