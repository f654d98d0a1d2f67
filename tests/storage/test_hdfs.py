"""Tests of `storage.hdfs` and its client: what only HDFS has; the rest is in `test_contract`."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import urllib3
from hdfs.util import HdfsError

from operations.services import free_port
from storage import hdfs, hdfs_client
from storage.store import (
    FileMissingError,
    FileUnavailableError,
    StoreError,
    StoreUnavailableError,
    open_store,
)


@pytest.fixture
def pauses(monkeypatch):
    """The seconds between attempts, recorded instead of waited for."""
    pauses = []
    monkeypatch.setattr(hdfs_client.time, "sleep", pauses.append)
    return pauses


@pytest.mark.services
def test_an_upload_that_breaks_off_in_the_middle_begins_again(hdfs_backend, pauses, monkeypatch):
    """A connection that breaks at a certain byte can't be had otherwise, nor a DataNode that creates its file late."""
    store = open_store(hdfs_backend.url, hdfs_backend.address)
    client = store._client
    create, created, attempts = client.write, [], []

    def recorded(path, **options):
        created.append(path)
        return create(path, **options)

    def write(file):
        attempts.append(0)
        for _ in range(5):
            file.write(b"x" * 1_000_000)
            attempts[-1] += 1
            if attempts == [3]:
                raise ConnectionResetError("broke off")
            if attempts == [3, 3]:
                create(created[0], data=b"late", overwrite=True)
            yield

    monkeypatch.setattr(client, "write", recorded)
    assert store.write_in_steps("folder/x.bin", write) == 5_000_000
    assert attempts == [3, 5]
    assert store.read_bytes("folder/x.bin") == b"x" * 5_000_000
    assert hdfs_backend.names(store, "folder") == ["x.bin"]


def test_an_hdfs_that_does_not_answer_is_unavailable_as_a_whole(pauses):
    store = open_store("hdfs://127.0.0.1:8020/x", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailableError) as error:
        store.read_bytes("a.json")
    assert error.value.path == "a.json"
    assert "\n" not in str(error.value) and "are the NameNode and a DataNode up?" in str(error.value)
    assert pauses == [1, 2, 4]


@pytest.mark.parametrize(
    ("failure", "kind", "attempts"),
    [
        (HdfsError("x", exception="FileNotFoundException"), FileMissingError, 1),
        (HdfsError("x", exception="AccessControlException"), StoreError, 1),
        (HdfsError("x", exception="InvalidPathException"), StoreError, 1),
        (HdfsError("x", exception="BlockMissingException"), FileUnavailableError, 1),
        (HdfsError("x\ny", exception="SafeModeException"), StoreUnavailableError, 4),
        (requests.ConnectionError("x"), StoreUnavailableError, 4),
        (urllib3.exceptions.ProtocolError("x"), FileUnavailableError, 4),
        (OSError("x"), StoreUnavailableError, 4),
    ],
)
def test_errors_of_hdfs_state_whether_the_file_or_the_store_failed(pauses, failure, kind, attempts):
    store = open_store("hdfs://namenode:8020/x")
    calls = []

    def action():
        calls.append(1)
        raise failure

    with pytest.raises(StoreError) as error:
        store._retry("a.json", action)
    assert type(error.value) is kind and error.value.path == "a.json"
    assert "\n" not in str(error.value) and str(error.value).startswith("hdfs://namenode:8020/x/a.json: ")
    assert len(calls) == attempts


def test_an_upload_that_arrives_shorter_is_an_error(monkeypatch, pauses):
    class Client:
        def write(self, path, data, overwrite):
            list(data)

        def status(self, path):
            return {"length": 5}

        def delete(self, path):
            return True

    monkeypatch.setattr(hdfs.HdfsStore, "_client", Client())
    store = open_store("hdfs://namenode:8020/x")
    with pytest.raises(StoreError, match="5 of 10 bytes arrived") as error:
        store.write_in_steps("x.bin", lambda file: iter([file.write(b"0123456789")]))
    assert error.value.path == "x.bin"


@pytest.mark.services
def test_a_damaged_block_makes_only_its_file_unavailable(hdfs, tmp_path, pauses):
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    data = os.urandom(3 << 20)
    store.write_bytes("damaged.bin", data)
    store.write_bytes("whole.bin", b"whole")
    blocks = []
    for path in hdfs.directory.glob("datanode-0/blocks/**/blk_*"):
        with contextlib.suppress(FileNotFoundError):  # of a file that was deleted a moment ago
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                blocks.append(path)
    (block,) = blocks
    block.write_bytes(data[: 2 << 20] + b"XXXX" + data[(2 << 20) + 4 :])
    with pytest.raises(FileUnavailableError) as error:
        store.read_bytes("damaged.bin")
    assert error.value.path == "damaged.bin"
    assert store.url("damaged.bin") in str(error.value) and "\n" not in str(error.value)
    assert store.read_bytes("whole.bin") == b"whole"


@pytest.mark.services
def test_datanodes_get_the_order_to_sync_each_block_of_a_new_file(hdfs, tmp_path, monkeypatch):
    """That they do it is up to them; their own count of syncs is up to ten seconds old."""
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    session, flags = store._client._session, []

    def send(request, **options):
        query = parse_qs(urlsplit(request.url).query)
        if query["op"] == ["CREATE"] and "namenoderpcaddress" in query:
            flags.append(query["createflag"][-1])
        return type(session).send(session, request, **options)

    monkeypatch.setattr(session, "send", send)
    store.write_bytes("a.bin", b"a")
    store.write_in_steps("b.bin", lambda file: iter([file.write(b"b")]))
    store.create_exclusive("c.bin", b"c")
    assert flags == ["CREATE,SYNC_BLOCK"] * 3


def test_another_server_in_the_place_of_webhdfs_is_one_line(pauses):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        store = open_store("hdfs://127.0.0.1:8020/x", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreUnavailableError) as error:
            store.read_bytes("a.json")
        server.shutdown()
    assert "\n" not in str(error.value)
