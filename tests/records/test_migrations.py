"""Tests of `records.migrations`: databases of every earlier version are upgraded, once, and keep their rows."""

import multiprocessing
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier, Timer
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import Script

from jobs.session import write_zip
from records import migrations, sql
from records.corrections import DatabaseError, open_corrections
from records.sql import SqlDatabase

# What version 0.1 created, word for word.
VERSION_0_1 = """
CREATE TABLE corrections (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	corpus VARCHAR(100) NOT NULL,
	corpus_hash VARCHAR(64) NOT NULL,
	partition INTEGER NOT NULL,
	"row" INTEGER NOT NULL,
	label VARCHAR(200) NOT NULL,
	"by" VARCHAR(80) NOT NULL,
	at DATETIME NOT NULL
);
CREATE INDEX corrections_of_image ON corrections (corpus, partition, "row");
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tinytags.db"


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


@pytest.fixture
def bare_url(url):
    """The URL of a database without tables."""
    return url


def query(file, statement):
    with sqlite3.connect(file) as database:
        return database.execute(statement).fetchall()


def revision(file):
    return [row for (row,) in query(file, f"SELECT version_num FROM {sql.VERSION_TABLE}")]


def make_version_0_1(file, corpus):
    with sqlite3.connect(file) as database:
        database.executescript(VERSION_0_1)
        for number, label in ((1, "frog"), (2, "cat"), (5, "dog")):
            row = (number, corpus.name, corpus.hash, 1, number, label, "Ada", "2026-11-26 00:52:05.000000")
            database.execute("INSERT INTO corrections VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


@pytest.fixture
def next_revision(monkeypatch):
    """A revision 0004 that adds a column, as a later version would."""
    module = ModuleType("r0004_mood")
    module.revision, module.down_revision = "0004", "0003"
    column = sa.Column("mood", sa.String(10), nullable=False, server_default="calm")
    module.upgrade = lambda: op.add_column("corrections", column)
    known = migrations.revisions()
    monkeypatch.setattr(migrations, "revisions", lambda: [*known, Script(module, "0004", "r0004_mood.py")])
    monkeypatch.setattr(sql, "REVISION", "0004")


def differences(url):
    """Return how the tables of a database differ from those that are queried."""
    with SqlDatabase(url).engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": sql.VERSION_TABLE})
        return compare_metadata(context, sql.tables()["corrections"].metadata)


def revisions_of(url):
    with SqlDatabase(url).engine.connect() as connection:
        return connection.execute(sa.text(f"SELECT version_num FROM {sql.VERSION_TABLE}")).scalars().all()


def test_the_last_revision_is_the_tables_that_are_queried(bare_url, here):
    open_corrections(bare_url).add(here, 0, 0, "frog", "Ada")
    assert revisions_of(bare_url) == [sql.REVISION] == [migrations.revisions()[-1].revision]
    assert differences(bare_url) == []


def test_numbers_of_sqlite_are_never_used_again(url, file, here):
    open_corrections(url).add(here, 0, 0, "frog", "Ada")
    assert "AUTOINCREMENT" in query(file, "SELECT sql FROM sqlite_master WHERE name = 'corrections'")[0][0]


@pytest.mark.parametrize("start", ["version 0.1", "0001", "0002"])
def test_every_earlier_revision_is_upgraded_and_keeps_its_rows(bare_url, here, start, monkeypatch):
    engine, known = SqlDatabase(bare_url).engine, migrations.revisions()
    with monkeypatch.context() as patch:
        earlier = [one for one in known if one.revision <= start.replace("version 0.1", "0001")]
        patch.setattr(migrations, "revisions", lambda: earlier)
        migrations.upgrade(engine, sql.VERSION_TABLE)
    row = {
        "corpus": "here",
        "corpus_hash": here.hash,
        "partition": 1,
        "row": 2,
        "label": "chat é",
        "by": "Ada",
    }
    with engine.begin() as connection:
        table = sa.Table("corrections", sa.MetaData(), autoload_with=connection)
        connection.execute(table.insert().values(at=datetime(2026, 11, 26), **row))
        if start == "version 0.1":
            connection.exec_driver_sql(f"DROP TABLE {sql.VERSION_TABLE}")
    engine.dispose()
    assert [(c.label, c.row) for c in open_corrections(bare_url).newest()] == [("chat é", 2)]
    assert revisions_of(bare_url) == [sql.REVISION] and differences(bare_url) == []


def test_a_migration_that_was_interrupted_is_finished_by_the_next_one(bare_url, here, monkeypatch):
    """MySQL and MariaDB keep the half that is done, other databases nothing."""
    create, created = op.create_index, []

    def create_some(name, *arguments):
        created.append(name)
        if len(created) == 5:
            raise OSError("no space left")
        create(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", create_some)
        with pytest.raises(DatabaseError, match="no space left"):
            open_corrections(bare_url).add(here, 0, 0, "frog", "Ada")
    assert len(created) == 5
    open_corrections(bare_url).add(here, 0, 0, "frog", "Ada")
    assert revisions_of(bare_url) == [sql.REVISION] and differences(bare_url) == []


@pytest.mark.parametrize("first", ["read", "write"])
def test_a_database_of_version_0_1_is_upgraded_and_keeps_its_rows(url, file, here, first):
    make_version_0_1(file, here)
    if first == "write":
        open_corrections(url).add(here, 0, 0, "ship", "Bob")
    kept = [(c.number, c.label) for c in open_corrections(url).newest()]
    assert sorted(kept) == [(1, "frog"), (2, "cat"), (5, "dog")] + ([(6, "ship")] if first == "write" else [])
    assert revision(file) == [sql.REVISION]
    assert open_corrections(url).undo_all("Ada") == 3


@pytest.mark.parametrize("start", ["version 0.1", "revision 0001", "nothing"])
@pytest.mark.parametrize("first", ["read", "write"])
def test_a_later_revision_upgrades_every_earlier_one_and_keeps_its_rows(
    url, file, here, start, first, request
):
    if start == "version 0.1":
        make_version_0_1(file, here)
    elif start == "revision 0001":
        open_corrections(url).add(here, 1, 1, "frog", "Ada")
    request.getfixturevalue("next_revision")
    corrections = open_corrections(url)
    if first == "read" and start == "nothing":
        assert corrections.newest() == [] and not file.exists()
        return
    if first == "read":
        assert len(corrections.newest()) == (3 if start == "version 0.1" else 1)
    else:
        corrections.add(here, 0, 0, "ship", "Bob")
    assert revision(file) == ["0004"]
    moods = query(file, "SELECT label, mood FROM corrections ORDER BY number")
    assert set(moods) <= {(label, "calm") for label in ("frog", "cat", "dog", "ship")} and moods


def test_a_database_of_a_later_version_is_an_error_and_stays_as_it_is(url, file, here):
    open_corrections(url).add(here, 0, 0, "frog", "Ada")
    with sqlite3.connect(file) as database:
        database.execute(f"UPDATE {sql.VERSION_TABLE} SET version_num = '0009'")
    before = file.read_bytes()
    for action in (lambda c: c.newest(), lambda c: c.add(here, 0, 0, "cat", "Ada")):
        with pytest.raises(DatabaseError, match="revision '0009', of a later version"):
            action(open_corrections(url))
    assert file.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(url, file, here, monkeypatch):
    make_version_0_1(file, here)

    def fail():
        op.add_column("corrections", sa.Column("mood", sa.String(10)))
        raise OSError("disk full")

    module = ModuleType("r0004_fails")
    module.revision, module.down_revision, module.upgrade = "0004", "0003", fail
    known = migrations.revisions()
    monkeypatch.setattr(migrations, "revisions", lambda: [*known, Script(module, "0004", "r0004.py")])
    monkeypatch.setattr(sql, "REVISION", "0004")
    with pytest.raises(DatabaseError, match="disk full"):
        open_corrections(url).add(here, 0, 0, "ship", "Bob")
    columns = [row[1] for row in query(file, "PRAGMA table_info(corrections)")]
    assert "mood" not in columns and len(query(file, "SELECT * FROM corrections")) == 3


def start_at_once(url, here):
    """Let six processes make the first correction of a database."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(6)

    def start(row):
        corrections = open_corrections(url)
        barrier.wait(30)
        corrections.add(here, 0, row, "frog", "Ada")

    processes = [fork.Process(target=start, args=(row,)) for row in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert revisions_of(url) == [sql.REVISION]
    assert len(open_corrections(url).newest()) == 6


def test_a_process_waits_for_another_ones_migrations_longer_than_for_an_answer(url, file, here, monkeypatch):
    make_version_0_1(file, here)
    monkeypatch.setattr(sql, "ANSWER_SECONDS", 0.1)
    other = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    end = Timer(0.5, other.execute, ["ROLLBACK"])
    end.start()
    open_corrections(url).add(here, 0, 0, "frog", "Ada")
    end.join()
    other.close()
    assert revision(file) == [sql.REVISION] and len(open_corrections(url).newest()) == 4


@pytest.mark.slow
def test_processes_that_start_at_once_create_the_tables_once(bare_url, here):
    start_at_once(bare_url, here)


@pytest.mark.slow
def test_processes_disturb_each_other_without_a_lock_and_try_again(url, file, here, monkeypatch):
    """As on a database that has none here."""
    monkeypatch.setattr(migrations, "LOCKS", {})
    start_at_once(url, here)
    assert file.exists()


def test_threads_that_start_at_once_create_the_tables_once(url, file, here):
    corrections, barrier = open_corrections(url), Barrier(6)

    def start(row):
        barrier.wait(30)
        corrections.add(here, 0, row, "frog", "Ada")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(start, range(6)))
    assert revision(file) == [sql.REVISION] and len(corrections.newest()) == 6


def test_no_migration_runs_after_the_first_write(bare_url, here, monkeypatch):
    upgrades = []
    original = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", lambda *arguments: upgrades.append(1) or original(*arguments))
    corrections = open_corrections(bare_url)
    for row in range(3):
        corrections.add(here, 0, row, "frog", "Ada")
        corrections.of_image(here, 0, row)
        open_corrections(bare_url).newest()
    assert len(upgrades) == 1


@pytest.mark.slow
def test_a_zip_has_the_migrations(url, file, tmp_path):
    write_zip(tmp_path / "tinytags.zip")
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import records; assert 'tinytags.zip' in records.__file__;"
        "from ingest.corpus import Corpus; from records.corrections import open_corrections;"
        "open_corrections(sys.argv[1]).add(Corpus('c', 'x', 'x', {}, 1, 1), 0, 0, 'frog', 'Ada')"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", script, url, str(tmp_path / "tinytags.zip")],
        check=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
    )
    assert revision(file) == [sql.REVISION]
