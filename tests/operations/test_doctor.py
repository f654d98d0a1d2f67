"""Tests of `operations.doctor`: each check, and the fix for what is missing."""

import http.server
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from small_world import run, run_json

from conf.settings import Settings
from operations import doctor
from operations.doctor import describe, examine
from operations.services import free_port

NO_SOLR = "http://127.0.0.1:1/solr"


def check(settings: Settings, name: str) -> dict:
    """Return the check of a name."""
    (result,) = [check for check in examine(settings)["checks"] if check["name"] == name]
    return result


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path / "store"), solr=NO_SOLR)


@pytest.mark.services
def test_with_everything_installed_all_checks_pass(tmp_path, solr, hdfs):
    words = [
        "--store",
        f"{hdfs.url}/x",
        "--webhdfs",
        hdfs.webhdfs,
        "--solr",
        solr.url,
        "--master",
        "local[*]",
    ]
    result = run_json("doctor", *words)
    assert result["healthy"] is True
    assert {check["name"]: check["state"] for check in result["checks"]} == dict.fromkeys(
        ["Python", "packages", "Java", "Spark", "Solr", "HDFS", "store", "disk"], "good"
    )
    out, _ = run("doctor", *words)
    assert out.splitlines()[-1] == "all checks passed"
    assert f"HDFS: 1 live DataNode at {hdfs.webhdfs}" in out


@pytest.mark.spark
def test_a_stopped_solr_is_missing_but_not_bad(settings):
    result = examine(settings)
    assert result["healthy"] is True
    assert (
        "missing Solr: no answer at http://127.0.0.1:1/solr\n        -> scripts/services up solr"
        in describe(result)
    )


def test_a_bad_check_makes_the_exit_code_1(tmp_path):
    words = ["doctor", "--solr", NO_SOLR, "--store", tmp_path, "--master", "local[*]"]
    out, err = run(*words, code=1, JAVA_HOME="/nowhere")
    assert err == ""
    assert "BAD     Java: JAVA_HOME '/nowhere' has no bin/java" in out
    assert out.splitlines()[-1] == "some steps can't run; see above"


def test_an_old_or_missing_java_is_bad_with_the_fix(settings, tmp_path, monkeypatch):
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    result = check(settings, "Java")
    assert (result["state"], result["what"].split(":")[0]) == ("bad", f"{java} is Java 11")
    assert "apt-get install" in result["fix"]
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = check(settings, "Java")
    assert missing["what"].startswith("no java on the PATH") and "--master processes" in missing["fix"]
    for master in ("processes", "processes[2]"):
        processes = replace(settings, master=master)
        assert [check(processes, name)["state"] for name in ("Java", "Spark")] == ["missing", "good"]


def test_spark_needs_a_python_and_yarn_its_configuration(settings, monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", "/no/python")
    assert check(settings, "Spark")["what"] == "PYSPARK_PYTHON '/no/python' is no program"
    monkeypatch.delenv("PYSPARK_PYTHON")
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    result = check(Settings(store=settings.store, master="yarn"), "Spark")
    assert result["state"] == "bad"
    assert "yarn-site.xml" in result["what"] and "HADOOP_CONF_DIR" in result["fix"]


@pytest.fixture
def answering():
    """A function that returns the check of a Solr that answers everything so: a status and a body."""
    answer = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer[0] if self.path.startswith("/solr/admin/") else 404)
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def examine(settings, status, body, path="/solr"):
        answer[:] = status, body
        address = f"http://127.0.0.1:{server.server_port}{path}"
        return check(Settings(store=settings.store, solr=address), "Solr") | {"address": address}

    yield examine
    server.shutdown()
    server.server_close()


def _system_info(**info) -> bytes:
    return json.dumps(info).encode()


def test_an_old_solr_is_bad_with_the_reason(settings, answering):
    result = answering(settings, 200, _system_info(lucene={"solr-spec-version": "9.7.0"}))
    assert (result["state"], result["what"]) == ("bad", f"9.7.0 at {result['address']}")
    assert "CVE-" in result["fix"]


def test_an_address_that_is_not_solrs_is_bad_and_a_slash_at_its_end_is_none(settings, answering):
    good = _system_info(lucene={"solr-spec-version": "9.10.1"}, mode="solrcloud")
    assert answering(settings, 200, good, "/solr/")["state"] == "good"
    for status, body, path, words in (
        (200, b"<html>hello", "/solr", "not an answer of Solr"),
        (401, b"<html>no", "/solr", "401"),
        (200, good, "", "404"),
        (200, _system_info(lucene={"solr-spec-version": "9.10.1"}, mode="std"), "/solr", "SolrCloud"),
    ):
        result = answering(settings, status, body, path)
        assert result["state"] == "bad" and words in result["what"] and result["fix"]
    assert "http://USER:PASSWORD@HOST" in answering(settings, 401, b"")["fix"]


@pytest.mark.slow
def test_an_hdfs_without_a_namenode_is_bad(tmp_path):
    webhdfs = f"http://127.0.0.1:{free_port()}"
    result = check(Settings(store="hdfs://127.0.0.1:1/x", webhdfs=webhdfs, solr=NO_SOLR), "HDFS")
    assert (result["state"], result["what"]) == ("bad", f"no NameNode answers at {webhdfs}")
    assert result["fix"] == "scripts/services up hdfs"


def test_a_store_that_is_a_file_is_bad(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    result = check(Settings(store=str(tmp_path / "file"), solr=NO_SOLR), "store")
    assert result["state"] == "bad" and "Not a directory" in result["what"]
    assert "TINYTAGS_STORE" in result["fix"]


def test_a_full_disk_is_bad(settings, monkeypatch):
    assert check(settings, "disk")["state"] == "good"
    monkeypatch.setattr(doctor, "DISK_BYTES", shutil.disk_usage("/").total * 2)
    result = check(settings, "disk")
    assert result["state"] == "bad" and " GB free at " in result["what"]


def test_a_store_in_a_folder_that_may_not_be_entered_is_no_traceback(settings, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)  # as for another user than root
    assert check(replace(settings, store="/proc/1/nothing/data"), "disk")["what"].endswith("free at /proc/1")


def test_examining_writes_nothing(settings, tmp_path):
    examine(settings)
    assert list(tmp_path.iterdir()) == []
