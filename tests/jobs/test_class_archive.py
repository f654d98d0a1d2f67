"""Tests of `jobs.class_archive`: a session's JVM uses the archive, and starts without it where there is none."""

import sys
from pathlib import Path

import pytest

from jobs.class_archive import archive_options, class_archive


@pytest.mark.parametrize("folder", ["empty", "with space"])
def test_without_an_archive_java_starts_as_usual(monkeypatch, tmp_path, folder):
    (tmp_path / "release").write_text("JAVA_VERSION=17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / folder))
    path = class_archive()
    assert path.is_relative_to(tmp_path / folder)
    if folder != "empty":  # there is one, at a path that Spark would split
        path.parent.mkdir(parents=True)
        path.touch()
    assert archive_options() == []


def test_without_java_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert class_archive() is None
    assert archive_options() == []


def test_a_session_uses_it(spark):
    assert class_archive().exists(), "scripts/setup makes it"
    maps = Path(f"/proc/{spark.sparkContext._gateway.proc.pid}/maps").read_text()
    assert str(class_archive()) in maps
