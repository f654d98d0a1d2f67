"""Tests of `jobs.environment`: what Spark needs is missed before anything is written, and `tinytags doctor` finds it, too."""

import ast
import os
import pwd
import socket
import sys
from pathlib import Path

import made_annotations
import pyspark
import pytest
from small_world import error_line, make_labelled_and_unlabelled, run, write_tiny_images

from conf.settings import Settings
from jobs.archive import PACKAGES
from jobs.environment import (
    EnvironmentFaultError,
    check_master,
    check_start,
    local_folders,
    prepare,
    take_announced,
)
from operations import doctor
from storage.store import open_store

ROOT = Path(__file__).parents[2]


def nameless(_):
    raise KeyError("uid not found")


def old_java(patch, folder):
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    (folder / "bin" / "java").chmod(0o755)
    patch.setenv("JAVA_HOME", str(folder))


FAULTS = {
    "Java 11": old_java,
    "no Java": lambda patch, folder: (patch.delenv("JAVA_HOME", raising=False), patch.setenv("PATH", str(folder))),
    "JAVA_HOME of nothing": lambda patch, folder: patch.setenv("JAVA_HOME", str(folder)),
    "no Python": lambda patch, folder: patch.setenv("PYSPARK_PYTHON", "/no/python"),
    "no folder for Spark's own files": lambda patch, folder: patch.setenv("SPARK_LOCAL_DIRS", "/dev/null/folder"),
    "a user without a name": lambda patch, folder: patch.setattr(pwd, "getpwuid", nameless),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_environment_is_one_line_before_anything_is_written(fault, tmp_path, monkeypatch):
    dump, store = write_tiny_images(tmp_path / "tiny_images.bin", 20), tmp_path / "store"
    FAULTS[fault](monkeypatch, tmp_path)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    words = ["ingest", dump, "--corpus", "c", "--store", store]
    assert error_line(run(*words, code=1, TINYTAGS_MASTER="local[1]")[1]).startswith(
        "tinytags: Spark can't start: "
    )
    assert not store.exists()
    examined = doctor.examine(Settings(store=str(store), master="local[1]", solr="http://127.0.0.1:1/solr"))
    assert not examined["healthy"]
    assert any(check["name"] == "Spark" and check["state"] == "bad" for check in examined["checks"])
    check_master("processes")
    with pytest.raises(EnvironmentFaultError) as caught:
        check_master("local[1]")
    assert caught.value.what and caught.value.fix


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a folder with a store of a labelled corpus, a dump and annotations."""
    folder = tmp_path_factory.mktemp("labelled")
    make_labelled_and_unlabelled(open_store(str(folder / "store")), folder, "c", 40, 20)
    made_annotations.make(folder / "annotations", 20)
    return folder


VERBS = {
    "ingest": "ingest {0}/tiny_images.bin --corpus d",
    "features": "features --corpus c --features hog",
    "train": "train --corpus c --model m",
    "annotations": "annotations {0}/annotations --name a --no-index",
    "compare": "compare --corpus c --classics",
    "retrain": "retrain --corpus c",
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_leaves_the_store_as_it_was_without_java(verb, labelled, tmp_path, monkeypatch):
    old_java(monkeypatch, tmp_path)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    before = sorted((labelled / "store").rglob("*"))
    words = VERBS[verb].format(labelled).split()
    err = run(*words, "--store", labelled / "store", code=1, TINYTAGS_MASTER="local[1]")[1]
    assert error_line(err).startswith(f"tinytags: Spark can't start: {tmp_path}/bin/java is Java 11: ")
    assert sorted((labelled / "store").rglob("*")) == before


def test_that_spark_starts_is_printed_once_before_the_dump_is_read(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "pyspark")
    take_announced()
    for _ in range(2):
        check_start("local[1]", "ingest")
    assert capsys.readouterr().err == "ingest: starting Spark, about 5 s\n"
    assert take_announced() and not take_announced()
    check_start("processes", "ingest")
    assert not capsys.readouterr().err and not take_announced()


def test_folders_that_spark_makes_or_ignores_are_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"/dev/null/folder, {tmp_path}/not/yet,{tmp_path}")
    assert local_folders() == [tmp_path, tmp_path]
    check_master("local[1]")
    assert doctor._spark(Settings(master="local[1]"))["state"] == "good"


def test_the_configuration_of_yarn_is_needed_in_one_of_two_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("YARN_CONF_DIR", str(tmp_path / "yarn"))
    with pytest.raises(EnvironmentFaultError) as caught:
        check_master("yarn")
    assert str(tmp_path) in caught.value.what
    (tmp_path / "yarn").mkdir()
    (tmp_path / "yarn" / "yarn-site.xml").write_text("<configuration/>")
    check_master("yarn")


def test_whatever_an_error_sends_to_doctor_is_checked_by_it(tmp_path, monkeypatch):
    """A message that names doctor belongs here, with what is wrong then."""
    sending = {
        str(path.relative_to(ROOT))
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*.py")
        if "tinytags doctor" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Raise) and "tinytags doctor" in ast.unparse(node)
    }
    assert sending == {"jobs/environment.py", "jobs/session.py"}
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    store = str(tmp_path)

    def spark(master: str) -> str:  # the other checks take longer
        return doctor._spark(Settings(store=store, master=master))["state"]

    for master in ("moon", "spark://127.0.0.1:1", "spark://127.0.0.1", "yarn"):
        assert spark(master) == "bad", master
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert spark(f"spark://127.0.0.1:1,127.0.0.1:{listening.getsockname()[1]}") == "good"
        monkeypatch.setattr(doctor, "DISK_BYTES", 1 << 60)
        assert spark("local[1]") == "bad", "a full disk"


def test_another_spark_and_arguments_without_their_end_do_not_stop_ours(tmp_path, monkeypatch, capsys):
    own = os.path.dirname(pyspark.__file__)
    for home, used in (("/opt/none", own), (own, own)):
        monkeypatch.setenv("SPARK_HOME", home)
        prepare()
        assert os.environ["SPARK_HOME"] == used
        assert ("/opt/none" in capsys.readouterr().err) == (home == "/opt/none")
    for given, used in (
        ("--master local[2]", "--master local[2] pyspark-shell"),
        ("pyspark-shell", "pyspark-shell"),
    ):
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", given)
        prepare()
        assert os.environ["PYSPARK_SUBMIT_ARGS"] == used
