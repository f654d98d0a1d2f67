"""Tests of `operations.services`: the real servers, started, stopped, killed and hindered."""

import getpass
import io
import json
import socket
import zipfile

import pytest
import urllib3
from hdfs import InsecureClient

from conf.errors import TinyTagsError
from operations.services import CONF, Hdfs, Solr, free_port

DOCUMENT = {
    "id": "3f9a2c1d:12:4711",
    "corpus": "tiny",
    "partition": 12,
    "row": 4711,
    "tag": "frog",
    "votes": 6,
    "trees": 10,
    "confidence": 0.6,
    "runner_up": "deer",
    "runner_up_votes": 2,
    "label": "frog",
    "model": "forest-10",
    "run": "tiny-forest-10-3f9a2c1d",
}


def ask(method, url, body=None, content_type="application/json", status=200):
    """What a server answers, as JSON, after checking that its status is the expected one."""
    answer = urllib3.request(
        method, url, body=body, headers={"Content-Type": content_type}, timeout=60, retries=False
    )
    assert answer.status == status, answer.data[:500]
    return answer.json()


def make_collection(solr, name):
    """A collection with the project's own configset."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (CONF / "solr" / "tags").iterdir():
            archive.write(path, path.name)
    upload = f"{solr.url}/admin/configs?action=UPLOAD&name={name}&overwrite=true"
    ask("POST", upload, packed.getvalue(), "application/octet-stream")
    ask(
        "GET",
        f"{solr.url}/admin/collections?action=CREATE&name={name}&collection.configName={name}"
        "&numShards=1&replicationFactor=1&waitForFinalState=true",
    )
    return f"{solr.url}/{name}"


@pytest.mark.services
def test_solr_keeps_its_documents_when_stopped_and_when_killed(tmp_path):
    solr = Solr(tmp_path / "a folder", port=free_port(1000), heap="512m")
    assert not solr.usable()
    try:
        assert solr.start()
        assert solr.usable()
        assert not solr.start(), "a second start finds it running"
        collection = make_collection(solr, "kept")
        ask("POST", f"{collection}/update", json.dumps([DOCUMENT]))
        assert ask("GET", f"{collection}/select?q=*:*")["response"]["numFound"] == 0, "seen before the commit"
        ask("POST", f"{collection}/update?commit=true", "{}")

        assert solr.stop()
        assert solr.pid is None
        assert not solr.stop(), "a second stop finds nothing to do"
        solr.start()
        found = ask("GET", f"{collection}/select?q=tag:frog&fq=votes:[5 TO 10]&fq=confidence:[0.6 TO 1]")
        hit = found["response"]["docs"][0]
        hit.pop("_version_")
        assert hit == DOCUMENT

        solr.kill()
        assert solr.pid is None
        solr.start()
        assert ask("GET", f"{collection}/select?q=*:*")["response"]["numFound"] == 1
    finally:
        solr.stop()


@pytest.mark.services
def test_solr_refuses_a_field_that_the_schema_does_not_name(solr):
    collection = make_collection(solr, "services-fields")
    body = json.dumps([DOCUMENT | {"colour": "green"}])
    answer = ask("POST", f"{collection}/update", body, status=400)
    assert "unknown field 'colour'" in answer["error"]["msg"]
    ask("GET", f"{solr.url}/admin/collections?action=DELETE&name=services-fields")


def test_a_port_that_is_taken_is_named_with_who_has_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TinyTagsError, match=rf"^solr: port {port} is taken by process \d+ \(.*\); stop it"
        ) as told:
            Solr(tmp_path, port=port).start()
    assert "\n" not in str(told.value)


def test_a_jvm_that_dies_is_told_by_its_own_words_and_the_log(tmp_path):
    solr = Solr(tmp_path, port=free_port(1000), heap="1k")
    with pytest.raises(TinyTagsError) as told:
        solr.start()
    assert str(told.value).startswith("solr ended while starting: ")
    assert "heap" in str(told.value)
    assert str(told.value).endswith(f"log: {tmp_path}/logs/solr.out")
    assert "\n" not in str(told.value)
    assert solr.pid is None


@pytest.mark.services
def test_hdfs_keeps_its_files_when_a_datanode_is_killed_and_when_stopped(tmp_path):
    ports = {
        "namenode_port": free_port(),
        "http_port": free_port(),
        "datanode_port": free_port(-2, 1, 8, 10, 11),
    }
    service = Hdfs(tmp_path, **ports, datanodes=2)
    client = InsecureClient(service.webhdfs, user=getpass.getuser(), timeout=30)
    data = bytes(range(256)) * 20_000

    def read():
        with client.read("/folder/data") as file:
            return file.read()

    try:
        assert service.start()
        client.write("/folder/data", data, blocksize=1 << 20)
        assert read() == data
        assert client.status("/folder/data")["replication"] == 2

        service.kill_datanode(0)
        service.kill_datanode(1)
        assert not service.usable()
        service.start_datanode(1)
        service.start_datanode(0)
        assert service.usable()
        assert read() == data

        assert service.stop()
        assert not service.usable()
        assert service.start()
        assert read() == data
    finally:
        service.stop()


@pytest.mark.services
def test_hadoop_clients_find_hdfs_by_its_configuration_folder(hdfs):
    assert f"<value>{hdfs.url}</value>" in (hdfs.conf_dir / "core-site.xml").read_text()
    client = InsecureClient(hdfs.webhdfs, timeout=30)
    client.write("/services/without-a-user-name", b"as the one who started it")
    assert client.status("/services/without-a-user-name")["owner"] == getpass.getuser()


def test_a_folder_that_hadoop_cannot_live_in_is_refused(tmp_path):
    with pytest.raises(TinyTagsError, match=r"^hdfs: Hadoop cannot live in '.*/a folder' because of the ' '"):
        Hdfs(tmp_path / "a folder", free_port(), free_port(), datanode_port=free_port(-2, 1)).start()
