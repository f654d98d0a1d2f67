"""Tests of `storage.finished`: what it records, and that a job whose work is done doesn't fail by it."""

from storage import layout
from storage.finished import record_finished
from storage.store import open_store


def test_a_record_that_cannot_be_written_is_a_note_and_no_error(tmp_path, capsys):
    store = open_store(str(tmp_path))
    (tmp_path / "runs").touch()  # a file where a folder should be
    record_finished(store, layout.run_folder("r"), "tag", 400, "images", 2.5)
    line = capsys.readouterr().err
    assert line.startswith("tag: when it finished is not recorded: ") and line.count("\n") == 1


def test_a_job_that_did_nothing_leaves_the_record_of_the_last_one(tmp_path):
    store, folder = open_store(str(tmp_path)), layout.run_folder("r")
    record_finished(store, folder, "tag", 400, "images", 2.5, 200.04)
    record_finished(store, folder, "tag", 0, "images", 0.1)
    record = store.read_json(layout.finished(folder, "tag"))
    assert (record["count"], record["per_second"]) == (400, 200.0)
