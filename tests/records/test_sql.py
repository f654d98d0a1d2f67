"""Tests of `records.sql`: URLs, files and failures of SQL databases; the rest is in `test_corrections`."""

import os
import sqlite3
import subprocess
import sys

import pytest
from killed import assert_all_there, kill_writers
from test_predictions import made

from records import sql_predictions
from records.corrections import DatabaseError, open_corrections
from records.predictions import Count, Filters, open_predictions
from records.sql_corrections import SqlCorrections


def labels(corrections):
    return [c.label for c in corrections]


def test_a_removed_file_is_created_again(sqlite_url, here):
    corrections = open_corrections(sqlite_url)
    corrections.add(here, 0, 0, "frog", "Ada")
    os.remove(sqlite_url.removeprefix("sqlite:///"))
    assert corrections.of_image(here, 0, 0) == []
    corrections.add(here, 0, 0, "cat", "Ada")
    assert labels(open_corrections(sqlite_url).of_image(here, 0, 0)) == ["cat"]


def test_a_database_that_can_not_be_used_is_named_without_its_password(tmp_path, here):
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    (tmp_path / "file").touch()
    cases = {
        f"sqlite:///{tmp_path}/damaged.db": "file is not a database",
        f"sqlite:///{tmp_path}/file/x.db": "File exists",
        "tinytags.db": "write a URL like sqlite:///",
        "none": "setting database is 'none'",
        "nothing://ada:secret@x/y": "write a URL like sqlite:///",
        "postgres://ada:se/cret@x/y": "write a URL like sqlite:///",
        "postgresql://ada:se:cret@HOST:PORT/y": "write a URL like sqlite:///",
        "": "write a URL like sqlite:///",
        "sqlite://": "in memory, where nothing is kept",
        "sqlite:///:memory:": "in memory, where nothing is kept",
        "mysql+mysqldb://ada:secret@127.0.0.1:1/x": "install its driver",
    }
    for address, message in cases.items():
        with pytest.raises(DatabaseError) as error:
            open_corrections(address).add(here, 0, 0, "frog", "Ada")
        assert message in str(error.value) and "database" in str(error.value), address
        assert "secret" not in str(error.value) and "cret@" not in str(error.value)
        assert "\n" not in str(error.value)


def test_after_a_failure_reads_fail_at_once_and_writes_try_again(sqlite_url, here, monkeypatch):
    corrections, attempts = open_corrections(sqlite_url), []

    def connect(self, engine, stack, write):
        attempts.append(write)
        raise OSError("no answer")

    monkeypatch.setattr(SqlCorrections, "_connect", connect)
    for _ in range(3):
        with pytest.raises(DatabaseError, match="no answer"):
            corrections.of_image(here, 0, 0)
    assert attempts == [False]
    with pytest.raises(DatabaseError, match="no answer"):
        corrections.add(here, 0, 0, "frog", "Ada")
    assert attempts == [False, True]
    monkeypatch.undo()
    corrections.add(here, 0, 0, "frog", "Ada")
    assert labels(corrections.of_image(here, 0, 0)) == ["frog"], (
        "reads try again after a write that succeeded"
    )


def test_a_file_may_be_named_by_a_uri_of_sqlite(tmp_path, here):
    url = f"sqlite:///file:{tmp_path}/x.db?mode=rwc&uri=true"
    open_corrections(url).add(here, 0, 0, "frog", "Ada")
    assert labels(open_corrections(url).of_image(here, 0, 0)) == ["frog"]


def test_a_database_that_stays_locked_is_an_error(sqlite_url, here):
    url = f"{sqlite_url}?timeout=0.1"
    open_corrections(url).add(here, 0, 0, "frog", "Ada")
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="locked"):
            open_corrections(url).add(here, 0, 1, "frog", "Ada")
        other.execute("ROLLBACK")
    open_corrections(url).add(here, 0, 1, "frog", "Ada")


@pytest.mark.slow
def test_opening_imports_no_library_and_reading_no_alembic(sqlite_url, here):
    open_corrections(sqlite_url).add(here, 0, 0, "frog", "Ada")
    script = (
        "import sys; from records.corrections import open_corrections; c = open_corrections(sys.argv[1]);"
        "assert not {'sqlalchemy', 'alembic'} & set(sys.modules); print(len(c.newest()));"
        "assert 'alembic' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, sqlite_url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


@pytest.mark.slow
def test_what_was_confirmed_survives_kills_of_two_processes_that_write(sqlite_url):
    confirmed = kill_writers(sqlite_url, kills=6)
    assert len(confirmed) >= 24
    assert_all_there(sqlite_url, confirmed)
    file = sqlite_url.removeprefix("sqlite:///")
    with sqlite3.connect(file) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_no_more_than_a_million_predictions_are_counted(sqlite_url, monkeypatch):
    predictions = open_predictions(sqlite_url)
    monkeypatch.setattr(sql_predictions, "COUNTED", 2)
    counts = []
    for _ in range(3):
        predictions.add(made())
        counts.append(predictions.count())
    assert counts == [Count(1), Count(2), Count(2, complete=False)]


def test_many_predictions_are_deleted_in_steps(sqlite_url, monkeypatch):
    predictions = open_predictions(sqlite_url)
    monkeypatch.setattr(sql_predictions, "_AT_ONCE", 2)
    for _ in range(5):
        predictions.add(made())
    assert predictions.delete(Filters(answer="cat")) == 5 and predictions.count() == Count(0)
