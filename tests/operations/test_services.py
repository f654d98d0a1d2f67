"""Tests of `operations.services`: the real servers, started, stopped, killed and hindered."""

import getpass
import io
import json
import os
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
import urllib3
from hdfs import InsecureClient

from conf.errors import TinyTagsError
from operations.services import (
    CONF,
    Hdfs,
    Solr,
    configured_services,
    fetch_jars,
    free_port,
    java_command,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "services"
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


@pytest.mark.services
def test_yarn_has_a_node_that_runs_and_knows_hdfs(yarn, hdfs):
    nodes = ask("GET", f"{yarn.url}/ws/v1/cluster/nodes")["nodes"]["node"]
    assert [node["state"] for node in nodes] == ["RUNNING"]
    assert nodes[0]["availMemoryMB"] == 4096
    assert f"<value>{hdfs.url}</value>" in (yarn.conf_dir / "core-site.xml").read_text()


def test_a_folder_that_hadoop_cannot_live_in_is_refused(tmp_path):
    with pytest.raises(TinyTagsError, match=r"^hdfs: Hadoop cannot live in '.*/a folder' because of the ' '"):
        Hdfs(tmp_path / "a folder", free_port(), free_port(), datanode_port=free_port(-2, 1)).start()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TinyTagsError, match=r"^solr: Not a directory: '.*/file/solr'$"):
        Solr(tmp_path / "file" / "solr", port=free_port(1000)).start()


def test_a_process_that_has_only_the_pid_in_common_is_left_alone(tmp_path):
    solr = Solr(tmp_path, port=free_port(1000))
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "logs").mkdir()
        record = {"pid": other.pid, "began": "long ago", "ports": []}
        (tmp_path / "logs" / "solr.pid").write_text(json.dumps(record))
        assert solr.pid is None
        assert not solr.stop()
        assert other.poll() is None
        other.kill()


def test_a_missing_java_gives_the_line_that_installs_one(tmp_path):
    with pytest.raises(
        TinyTagsError, match=r"^no java on the PATH: .* Java 17 or newer; sudo apt-get install"
    ):
        java_command({"PATH": str(tmp_path)})
    with pytest.raises(TinyTagsError, match=r"^JAVA_HOME '/nowhere' has no bin/java: "):
        java_command({"PATH": os.environ["PATH"], "JAVA_HOME": "/nowhere"})


def test_a_java_that_is_too_old_is_told_with_its_version(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    with pytest.raises(TinyTagsError, match=rf"^{java} is Java 11: the servers need 17 or newer"):
        java_command({"PATH": str(tmp_path)})


def test_a_missing_maven_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TinyTagsError, match=r"^no mvn on the PATH.*; sudo apt-get install .* maven$"):
        fetch_jars(CONF / "solr" / "pom.xml", directory=tmp_path / "jars")


def test_what_maven_could_not_fetch_is_told_and_leaves_nothing_that_looks_complete(tmp_path):
    pom = tmp_path / "odd" / "pom.xml"
    pom.parent.mkdir()
    what = "<groupId>tinytags</groupId><artifactId>no-such-thing</artifactId><version>1</version>"
    text = f"<modelVersion>4.0.0</modelVersion>{what}<dependencies><dependency>{what}</dependency></dependencies>"
    pom.write_text(f"<project>{text.replace('no-such-thing', 'odd', 1)}</project>")
    with pytest.raises(
        TinyTagsError, match=r"^Maven could not fetch the jars of odd: .*no-such-thing"
    ) as told:
        fetch_jars(pom, directory=tmp_path / "jars")
    assert "\n" not in str(told.value)
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["lock"]


def test_a_setting_that_cannot_be_is_named_and_quoted():
    with pytest.raises(
        TinyTagsError, match=r"^TINYTAGS_SOLR_PORT is '80x'; it has to be a whole number from 1024"
    ):
        configured_services({"TINYTAGS_SOLR_PORT": "80x"})


@pytest.fixture
def settings(tmp_path):
    """The environment of a `scripts/services` with a folder and a Solr port of its own."""
    port = str(free_port(1000))
    return {
        **os.environ,
        "TINYTAGS_SERVICES_DIR": str(tmp_path),
        "TINYTAGS_SOLR_PORT": port,
        "TINYTAGS_SOLR_HEAP": "512m",
    }


def services(settings, *arguments):
    """Runs `scripts/services` and returns its output."""
    done = subprocess.run([SCRIPT, *arguments], env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.services
def test_two_ups_at_once_start_one_server_and_down_stops_it(settings):
    ups = [
        subprocess.Popen([SCRIPT, "up"], env=settings, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        told = sorted(up.communicate()[1].partition(",")[0] for up in ups)
        assert told[0].startswith("solr: up after")
        assert told[1] == "solr: up already"
        assert [up.returncode for up in ups] == [0, 0]

        status = json.loads(services(settings, "status", "--json"))
        assert {name: service["state"] for name, service in status.items()} == {
            "solr": "usable",
            "hdfs": "stopped",
            "yarn": "stopped",
        }
        assert str(status["solr"]["servers"][0]["ports"][0]) == settings["TINYTAGS_SOLR_PORT"]
        assert f"process {status['solr']['servers'][0]['pid']}" in services(settings, "status")

        elsewhere = settings | {"TINYTAGS_SOLR_PORT": str(free_port(1000))}
        refused = subprocess.run([SCRIPT, "up"], env=elsewhere, capture_output=True, text=True)
        assert refused.returncode == 1
        assert f"runs on port {settings['TINYTAGS_SOLR_PORT']}, not" in refused.stderr
    finally:
        assert services(settings, "down") == "stopped: solr\n"
    assert services(settings, "down") == "stopped: nothing was running\n"


@pytest.mark.services
def test_ctrl_c_during_up_stops_what_it_started(settings, tmp_path):
    pid_file = tmp_path / "solr" / "logs" / "solr.pid"
    with subprocess.Popen([SCRIPT, "up"], env=settings, stderr=subprocess.PIPE, text=True) as up:
        until = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        pid = json.loads(pid_file.read_text())["pid"]
        up.send_signal(signal.SIGINT)
        told = up.communicate(timeout=60)[1]
    assert up.returncode == 130
    assert told == "services: interrupted; what this command started is stopped again\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
