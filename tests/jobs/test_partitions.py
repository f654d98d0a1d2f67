"""Tests of `jobs.partitions`: which partitions are done, and what is recorded and said of those that failed."""

import pytest

from conf.errors import TinyTagsError
from ingest.partition import PartitionDamagedError
from jobs.partitions import check_written, choose_pending, partitions_error, rate_summary, record_failed
from storage.local import LocalStore
from storage.store import StoreError


def test_pending_are_those_not_done_or_those_named_whose_markers_go(tmp_path, capsys):
    store = LocalStore(str(tmp_path))
    for p in (0, 1, 3):
        store.write_json(f"markers/{p}", {})
    chosen = choose_pending(store, "corpus 'c'", 5, [0, 1, 3], [], lambda p: f"markers/{p}")
    assert chosen == [2, 4]
    assert capsys.readouterr().err == "corpus 'c': 3 of 5 partitions done already\n"
    chosen = choose_pending(store, "corpus 'c'", 5, [0, 1, 3], [(1, 2)], lambda p: f"markers/{p}")
    assert chosen == [1, 2]
    assert store.list("markers") == ["0", "3"]


def test_why_a_partition_failed_is_kept_until_it_succeeds_and_the_remedy_where_there_is_one(tmp_path):
    store = LocalStore(str(tmp_path))

    def path(p):
        return f"failed/{p:05d}.json"

    errors = {3: PartitionDamagedError("is corrupt", "tiny", 3), 4: StoreError("disk full")}
    record_failed(store, path, errors, set())
    assert store.read_json(path(3)) == {"partition": 3, "error": "is corrupt", "remedy": "ingest"}
    assert store.read_json(path(4)) == {"partition": 4, "error": "disk full"}
    record_failed(store, path, {}, {3, 5})
    assert store.list("failed") == ["00004.json"]


def test_failed_partitions_are_named_and_the_first_one_is_explained():
    error = partitions_error("tagged", {7: "is corrupt", 2: StoreError("is missing")}, 60)
    assert str(error) == "2 of 60 partitions not tagged: 2, 7; the first: is missing"
    many = partitions_error("split", dict.fromkeys(range(30), "x"), 60)
    assert str(many).startswith("30 of 60 partitions not split: 0, 1, ") and ", 19, ...; " in str(many)


def test_partitions_that_went_to_disks_of_other_machines_are_an_error(tmp_path):
    store = LocalStore(str(tmp_path))
    check_written(store, [{"partition": 1}], [0, 1])
    with pytest.raises(
        TinyTagsError, match=r"^1 partition written, but not to .*: --store hdfs://HOST:8020/PATH$"
    ):
        check_written(store, [{"partition": 1}, {"partition": 2}], [0, 1])


def test_a_summary_ends_with_the_rate():
    result = {"images_per_second": 1234.5, "seconds": 3.2}
    assert (
        rate_summary("split", 2, result)
        == "; 2 partitions split now in 3 s, start-up included (1,234 images/s)"
    )
    assert rate_summary("split", 0, result) == "; all done already"
    assert rate_summary("split", 0, result | {"failed": {3: "x"}}) == ""
