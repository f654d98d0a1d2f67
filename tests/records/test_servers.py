"""The contracts of corrections, predictions and migrations, over real servers of databases: each starts once."""

import os
import signal
import time

import pytest
import sqlalchemy as sa
import test_corrections
import test_migrations
import test_predictions
from killed import assert_all_there, kill_writers

from records import cassandra, cassandra_predictions, sql
from records.cassandra import CassandraDatabase
from records.corrections import DatabaseError, open_corrections
from records.predictions import Count, Filters, open_predictions
from records.sql import VERSION_TABLE, SqlDatabase

# One start of Cassandra takes half a minute, and most of its changes of tables a second.
ON_CASSANDRA = {
    *vars(test_predictions),
    "test_corrections_of_an_image_are_newest_first_with_who_and_when",
    "test_the_newest_of_every_image_and_person_are_sorted_by_place_the_newest_first",
    "test_the_version_changes_with_every_change_and_not_without_one",
    "test_undo_removes_one_correction_whose_number_is_never_used_again",
    "test_labels_of_many_images_are_stored_at_once_and_undone_as_a_whole",
    "test_all_corrections_of_a_name_are_undone_and_restored",
    "test_corrections_are_undone_by_time_and_restored_by_the_time_of_the_undo",
    "test_corrections_of_many_people_at_once_are_all_stored",
}


def pytest_generate_tests(metafunc):
    if "server_url" in metafunc.fixturenames:
        servers = ["postgresql", "mariadb"]
        servers += ["cassandra"] if metafunc.function.__name__ in ON_CASSANDRA else []
        metafunc.parametrize("server_url", servers, indirect=True)


@pytest.fixture
def server_url(request):
    """The URL of a database on each server in turn."""
    return request.getfixturevalue(request.param).url


def clear(url, statement):
    """Execute a statement for each table of a database."""
    if url.startswith("cassandra"):
        database = CassandraDatabase(url)  # its connection ends with it
        session = database.connect(write=True)
        for table in ("corrections", "correction_changes", "predictions", "prediction_days", "numbers"):
            if list(session.execute(f"SELECT * FROM tinytags.{table} LIMIT 1")):
                session.execute(f"TRUNCATE tinytags.{table}", timeout=30)
        return url
    engine = SqlDatabase(url).engine
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            if statement == "DROP TABLE" or table != VERSION_TABLE:
                connection.exec_driver_sql(f"{statement} {table}")
    engine.dispose()
    return url


@pytest.fixture
def url(server_url):
    """The URL of a database without rows."""
    return clear(server_url, "DELETE FROM")


@pytest.fixture
def bare_url(server_url):
    """The URL of a database without tables."""
    return clear(server_url, "DROP TABLE")


@pytest.fixture
def predictions(url):
    return open_predictions(url)


@pytest.fixture
def corrections(url):
    return open_corrections(url)


def contract(*modules):
    """Return the tests of modules that are for any database."""
    tests = {name: value for module in modules for name, value in vars(module).items()}
    ours = {"url", "bare_url", "corrections", "predictions"}
    return {
        name: test
        for name, test in tests.items()
        if name.startswith("test_") and ours & set(test.__code__.co_varnames[: test.__code__.co_argcount])
        if "file" not in test.__code__.co_varnames  # of SQLite
    }


globals().update(contract(test_corrections, test_predictions, test_migrations))


def processes(pid):
    """Return a process and those that it started."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [pid, *map(int, children.read().split())]


def send(number, pids):
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "cassandra"])
def test_a_server_that_hangs_is_an_error_in_time_and_is_used_again_afterwards(name, request, monkeypatch):
    service = request.getfixturevalue(name)
    number = open_predictions(service.url).add(test_predictions.made())
    for module in (sql, cassandra):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 1)
    predictions = open_predictions(service.url)
    assert predictions.get(number), "its connection is open"
    stopped = processes(service.pid)
    send(signal.SIGSTOP, stopped)
    try:
        for database in (predictions, open_predictions(service.url)):
            began = time.monotonic()
            with pytest.raises(DatabaseError):
                database.add(test_predictions.made())
            assert time.monotonic() - began < 5, "a second for an answer, two for a connection"
            seconds = []
            for _ in range(3):  # on a busy machine one may be held up
                began = time.monotonic()
                with pytest.raises(DatabaseError):
                    database.add(test_predictions.made())
                seconds.append(time.monotonic() - began)
            assert min(seconds) < 0.5, "fails at once for a while"
    finally:
        send(signal.SIGCONT, stopped)
    for module in (sql, cassandra):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 30)
    assert open_predictions(service.url).get(number)
    monkeypatch.setattr(predictions, "_failure", None)  # as after some seconds
    assert predictions.get(number)


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_server_that_was_started_again_is_used_at_once(name, request):
    service = request.getfixturevalue(name)
    predictions = open_predictions(service.url)
    number = predictions.add(test_predictions.made())
    service.kill()
    with pytest.raises(DatabaseError):
        open_predictions(service.url).get(number)
    service.start()
    assert predictions.get(number), "what was confirmed is there, over a new connection"


def test_what_was_confirmed_survives_kills_of_two_processes_that_write(url):
    assert_all_there(url, kill_writers(url, kills=3))


@pytest.mark.parametrize("name", ["cassandra"])
def test_filters_of_cassandra_stop_in_time_and_the_next_page_goes_on(name, request, monkeypatch):
    url = clear(request.getfixturevalue(name).url, "TRUNCATE")
    predictions = open_predictions(url)
    for number in range(8):
        predictions.add(test_predictions.made("cat" if number % 4 == 1 else "dog", hours=10 * number))
    cats = Filters(answer="cat")
    monkeypatch.setattr(cassandra_predictions, "SCAN_SECONDS", -1)
    monkeypatch.setattr(cassandra_predictions, "ROWS", 1)
    page = predictions.page(cats)
    assert (page.predictions, page.complete) == ((), False) and page.older
    assert [one.at.hour for one in predictions.every(cats)] == [14, 22]
    oldest = predictions.page(cats, after=0)
    assert not oldest.complete and oldest.newer
    assert predictions.count(cats) == Count(0, complete=False)
