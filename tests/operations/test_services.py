"""Tests of `operations.services`: real servers are started, stopped and killed, and errors when they cannot start."""

import getpass
import io
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
import urllib3
from hdfs import InsecureClient

from conf.errors import TinyTagsError
from conf.java import MissingToolError, java_command
from operations.services import (
    CONF,
    Hdfs,
    PostgreSql,
    Solr,
    configured_services,
    fetch_jars,
    free_port,
    jars_folder,
)
from operations.services.java import archive_options, class_archive
from operations.services.process import failure_line

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


def request(method, url, body=None, content_type="application/json", status=200):
    """Return a server's JSON after a check of its status."""
    response = urllib3.request(
        method, url, body=body, headers={"Content-Type": content_type}, timeout=60, retries=False
    )
    assert response.status == status, response.data[:500]
    return response.json()


def make_collection(solr, name):
    """A collection with the project's own configset."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (CONF / "solr" / "tags").iterdir():
            archive.write(path, path.name)
    upload = f"{solr.url}/admin/configs?action=UPLOAD&name={name}&overwrite=true"
    request("POST", upload, packed.getvalue(), "application/octet-stream")
    request(
        "GET",
        f"{solr.url}/admin/collections?action=CREATE&name={name}&collection.configName={name}"
        "&numShards=1&replicationFactor=1&waitForFinalState=true",
    )
    return f"{solr.url}/{name}"


@pytest.fixture
def settings(tmp_path):
    """The environment of a `scripts/services` with a folder, with a space in its name, and a Solr port of its own."""
    return {
        **os.environ,
        "TINYTAGS_SERVICES_DIR": str(tmp_path / "a folder"),
        "TINYTAGS_SOLR_PORT": str(free_port(1000)),
        "TINYTAGS_SOLR_HEAP": "512m",
        "TINYTAGS_SOLR_LIGHT": "yes",
    }


def services(settings, *arguments):
    """Run `scripts/services` and return its output."""
    done = subprocess.run([SCRIPT, *arguments], env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.services
def test_solr_starts_once_keeps_its_documents_when_killed_and_stops(settings):
    solr = configured_services(settings)["solr"]
    assert not solr.usable()
    ups = [
        subprocess.Popen([SCRIPT, "up"], env=settings, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        outputs = sorted(up.communicate()[1].partition(",")[0] for up in ups)
        assert outputs[0].startswith("solr: up after")
        assert outputs[1] == "solr: up already"
        assert [up.returncode for up in ups] == [0, 0]
        assert solr.usable()
        assert not solr.start(), "a later start does nothing"

        status = json.loads(services(settings, "status", "--json"))
        states = {name: service["state"] for name, service in status.items()}
        assert states == {"solr": "usable"} | dict.fromkeys(
            ["hdfs", "yarn", "postgresql", "mariadb", "cassandra"], "stopped"
        )
        assert status["solr"]["servers"][0]["pid"] == solr.pid
        assert str(status["solr"]["servers"][0]["ports"][0]) == settings["TINYTAGS_SOLR_PORT"]
        assert f"process {solr.pid}" in services(settings, "status")

        other_port = settings | {"TINYTAGS_SOLR_PORT": str(free_port(1000))}
        with pytest.raises(TinyTagsError, match=f"runs on port {settings['TINYTAGS_SOLR_PORT']}, not"):
            configured_services(other_port)["solr"].start()

        collection = make_collection(solr, "kept")
        request("POST", f"{collection}/update", json.dumps([DOCUMENT]))
        hits = request("GET", f"{collection}/select?q=*:*")
        assert hits["response"]["numFound"] == 0, "visible before the commit"
        request("POST", f"{collection}/update?commit=true", "{}")

        solr.kill()
        assert solr.pid is None
        assert solr.start()
        hits = request("GET", f"{collection}/select?q=tag:frog&fq=votes:[5 TO 10]&fq=confidence:[0.6 TO 1]")
        hit = hits["response"]["docs"][0]
        hit.pop("_version_")
        assert hit == DOCUMENT

        assert services(settings, "down") == "stopped: solr\n"
        assert solr.pid is None
        assert services(settings, "down") == "stopped: nothing was running\n"
    finally:
        solr.stop()


@pytest.mark.services
def test_solr_uses_the_archive_of_its_classes(solr):
    path = class_archive(java_command(), jars_folder(solr.pom, solr.profile))
    assert path.exists(), "scripts/setup makes it"
    assert str(path) in Path(f"/proc/{solr.pid}/maps").read_text()


def test_without_an_archive_of_classes_java_starts_as_usual(tmp_path):
    (tmp_path / "bin").mkdir()
    java, jars = tmp_path / "bin" / "java", tmp_path / "jars"
    (tmp_path / "release").write_text("JAVA_VERSION=17")
    assert archive_options(str(java), jars) == []
    path = class_archive(str(java), jars)
    path.touch()
    assert f"-XX:SharedArchiveFile={path}" in archive_options(str(java), jars)
    (tmp_path / "release").write_text("JAVA_VERSION=21")
    assert archive_options(str(java), jars) == [], "each Java has its own"


@pytest.mark.services
def test_solr_refuses_a_field_that_the_schema_does_not_name(solr):
    collection = make_collection(solr, "services-fields")
    body = json.dumps([DOCUMENT | {"colour": "green"}])
    response = request("POST", f"{collection}/update", body, status=400)
    assert "unknown field 'colour'" in response["error"]["msg"]
    request("GET", f"{solr.url}/admin/collections?action=DELETE&name=services-fields")


def test_a_port_in_use_is_reported_with_its_process(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TinyTagsError, match=rf"^solr: port {port} is taken by process \d+ \(.*\); stop it"
        ) as error:
            Solr(tmp_path, port=port).start()
    assert "\n" not in str(error.value)


@pytest.mark.services
def test_a_jvm_that_ends_is_reported_with_its_reason_and_log(tmp_path):
    solr = Solr(tmp_path, port=free_port(1000), heap="1k")
    with pytest.raises(
        TinyTagsError, match=rf"^solr ended while starting: .*heap.*; log: {tmp_path}/logs/solr.out$"
    ):
        solr.start()
    assert solr.pid is None


@pytest.mark.services
def test_a_solr_whose_container_fails_is_reported_soon_with_its_reason_and_ended(tmp_path):
    solr = Solr(tmp_path, port=free_port(1000), heap="256m", light=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "zoo_data").write_text("no folder")
    began = time.monotonic()
    with pytest.raises(TinyTagsError) as caught:
        solr.start()
    assert time.monotonic() - began < 90
    assert str(caught.value).endswith(f"; log: {tmp_path}/logs/solr.out")
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
        assert not service.usable()
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
def test_a_folder_that_hadoop_cannot_use_is_refused(tmp_path):
    with pytest.raises(
        TinyTagsError, match=r"^hdfs: Hadoop cannot use the folder '.*/a folder' because of the ' '"
    ):
        Hdfs(tmp_path / "a folder", free_port(), free_port(), datanode_port=free_port(-2, 1)).start()


def test_an_unusable_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TinyTagsError, match=r"^solr: Not a directory: '.*/file/solr'$"):
        Solr(tmp_path / "file" / "solr", port=free_port(1000)).start()


def test_another_process_with_the_same_pid_gets_no_signal(tmp_path):
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
        MissingToolError, match=r"^no java on the PATH: .* Java 17 or newer; sudo apt-get install"
    ) as error:
        java_command({"PATH": str(tmp_path)})
    assert error.value.fix.endswith("default-jre-headless")
    with pytest.raises(MissingToolError, match=r"^JAVA_HOME '/nowhere' has no bin/java: "):
        java_command({"PATH": os.environ["PATH"], "JAVA_HOME": "/nowhere"})


def test_an_old_java_is_reported_with_its_version(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    with pytest.raises(MissingToolError, match=rf"^{java} is Java 11: the servers need Java 17 or newer"):
        java_command({"PATH": str(tmp_path)})


def test_a_missing_package_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("operations.services.packaged.shutil.which", lambda name, path: None)
    with pytest.raises(MissingToolError) as error:
        PostgreSql(tmp_path, free_port()).start()
    assert error.value.fix == "sudo apt-get install --no-install-recommends postgresql"


def test_a_missing_maven_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"^no mvn on the PATH.*; sudo apt-get install .* maven$"):
        fetch_jars(CONF / "solr" / "pom.xml", directory=tmp_path / "jars")


@pytest.mark.services
def test_a_failed_fetch_is_reported_and_leaves_no_folder(tmp_path):
    pom = tmp_path / "odd" / "pom.xml"
    pom.parent.mkdir()
    what = "<groupId>tinytags</groupId><artifactId>no-such-thing</artifactId><version>1</version>"
    text = f"<modelVersion>4.0.0</modelVersion>{what}<dependencies><dependency>{what}</dependency></dependencies>"
    pom.write_text(f"<project>{text.replace('no-such-thing', 'odd', 1)}</project>")
    with pytest.raises(
        TinyTagsError, match=r"^Maven could not fetch the jars of odd: .*no-such-thing"
    ) as error:
        fetch_jars(pom, directory=tmp_path / "jars")
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["lock"]


def test_the_reason_is_found_in_a_servers_output():
    trace = (
        "INFO starting\njava.net.BindException: Address in use\n\tat java.base/x.y(Z.java:1)\n\t... 12 more\n"
    )
    assert failure_line(trace) == "java.net.BindException: Address in use"
    assert failure_line("") == "no output"


def test_an_invalid_setting_is_named_and_quoted():
    with pytest.raises(
        TinyTagsError, match=r"^TINYTAGS_SOLR_PORT is '80x'; it has to be a whole number from 1024"
    ):
        configured_services({"TINYTAGS_SOLR_PORT": "80x"})


@pytest.mark.services
def test_ctrl_c_during_up_stops_what_it_started(settings, tmp_path):
    pid_file = tmp_path / "a folder" / "solr" / "logs" / "solr.pid"
    with subprocess.Popen([SCRIPT, "up"], env=settings, stderr=subprocess.PIPE, text=True) as up:
        until = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        pid = json.loads(pid_file.read_text())["pid"]
        up.send_signal(signal.SIGINT)
        output = up.communicate(timeout=60)[1]
    assert up.returncode == 130
    assert output == "services: interrupted; what this command started is stopped again\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.services
def test_a_server_in_the_foreground_ends_with_its_command_and_the_command_with_it():
    with tempfile.TemporaryDirectory(prefix="tinytags-") as folder:  # pytest's own are only for root
        os.chmod(folder, 0o755)
        settings = os.environ | {
            "TINYTAGS_SERVICES_DIR": folder,
            "TINYTAGS_POSTGRESQL_PORT": str(free_port()),
        }
        server = configured_services(settings)["postgresql"]
        for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
            with subprocess.Popen(
                [SCRIPT, "run", "postgresql"], env=settings, stderr=subprocess.PIPE, text=True
            ) as run:
                assert "up after" in run.stderr.readline()
                if number == signal.SIGTERM:
                    run.send_signal(number)
                else:
                    os.kill(server.pid, number)
                output = run.communicate(timeout=60)[1]
            assert run.returncode == code and server.pid is None
        assert output == f"tinytags: postgresql has ended; log: {server.daemons[0].output}\n"
