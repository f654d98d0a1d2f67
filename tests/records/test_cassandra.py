"""Tests of `records.cassandra` without a server: URLs and a database that is down; the rest is in `test_servers`."""

import time

import pytest

from records.corrections import DatabaseError
from records.predictions import Filters, open_predictions


@pytest.mark.parametrize(
    "url",
    [
        "cassandra://ada:secret@127.0.0.1",
        "cassandra://ada:secret@127.0.0.1/a-b",
        "cassandra://ada:secret@/keyspace",
        "cassandra://ada:secret@127.0.0.1:port/keyspace",
        "cassandra://ada:secret@127.0.0.1:1/keyspace",
        "cassandra://ada:secret@nowhere.invalid/keyspace",
    ],
)
def test_a_database_that_can_not_be_used_is_named_without_its_password(url):
    with pytest.raises(DatabaseError) as error:
        open_predictions(url).page()
    assert "cassandra://ada:***@" in str(error.value) and "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_after_a_failure_reads_fail_at_once():
    predictions = open_predictions("cassandra://127.0.0.1:1/keyspace")
    with pytest.raises(DatabaseError):
        predictions.count(Filters(answer="cat"))  # imports the driver
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(DatabaseError):
            predictions.count(Filters(answer="cat"))
    assert time.monotonic() - began < 3
