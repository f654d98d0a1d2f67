"""Tests of `tinytags corrections`: listing names, importing, undoing all by one name, and restoring."""

import json

import pytest

import tinytags
from conf.errors import TinyTagsError
from ingest.corpus import Corpus, create_corpus, open_corpus
from records.corrections import BadCorrectionError, open_corrections
from records.importing import BadFileError
from storage.runs import Run, create_run, list_runs
from storage.store import open_store


@pytest.fixture
def run(sqlite_url, capsys):
    """Run a verb on the database of the test; return its JSON."""

    def command(*words):
        tinytags.command.main(
            ["corrections", *words, "--database", sqlite_url, "--json"], "tinytags", standalone_mode=False
        )
        return json.loads(capsys.readouterr().out)

    return command


def test_the_corrections_of_a_name_or_a_time_are_undone_and_restored(run, sqlite_url, here):
    assert run("list") == {"names": []}
    corrections = open_corrections(sqlite_url)
    for row, by in enumerate(("Ada", "Eve", "Eve")):
        corrections.add(here, 0, row, "frog", by)
    assert run("undo", "--by", "Eve", "--since", "2999-01-01") == {"undone": 0}
    assert run("undo", "--by", "Eve", "--until", "2999-01-01T00:00Z") == {"undone": 2}
    assert [(one["name"], one["corrections"], one["undone"]) for one in run("list")["names"]] == [
        ("Eve", 0, 2),
        ("Ada", 1, 0),
    ]
    assert run("restore", "--by", "Eve") == {"restored": 2}
    assert run("undo", "--since", "2000-01-01") == {"undone": 3} and corrections.newest() == []


def test_an_undo_of_everything_or_of_no_time_is_refused(run):
    for verb in ("undo", "restore"):
        with pytest.raises(TinyTagsError, match="--by NAME"):
            run(verb)
    with pytest.raises(BadCorrectionError):
        run("undo", "--since", "yesterday")


@pytest.fixture
def store(tmp_path):
    """A store with a corpus of two classes in two partitions, one without classes, and a run of the first."""
    store = open_store(str(tmp_path / "store"))
    for name, classes in (("animals", ["cat", "frog"]), ("plain", None)):
        create_corpus(store, Corpus(name, "x", "x", {"sha256": name}, 50, 30, classes))
    corpus = open_corpus(store, "animals")
    create_run(
        store, Run("animals", corpus.hash, "m", "m" * 64, 0.4, ["cat", "frog", "toad"], 50, 2, trees=10)
    )
    return store


@pytest.fixture
def import_csv(store, sqlite_url, tmp_path, capsys):
    """Import the text of a file; return the exit code, the JSON and the lines of notes."""

    def run_import(text, *words, by="Ada"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        words = ["import", str(path), "--by", by, "--store", store.url(), "--database", sqlite_url, *words]
        code = tinytags.command.main(["corrections", *words, "--json"], "tinytags", standalone_mode=False)
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err.splitlines()

    return run_import


def given(url):
    return [(c.corpus, c.partition, c.row, c.label, c.by) for c in open_corrections(url).newest()]


def test_labels_of_a_file_are_imported_and_bad_rows_are_listed_with_their_lines(
    import_csv, store, sqlite_url
):
    prefix = list_runs(store)[0][-8:]
    text = (
        "﻿image,label\r\n"
        "animals/0/3,frog\r\n"
        f"{prefix}:1:19,toad\r\n"
        "animals/0/3,cat\r\n"
        "plain/1/0,'=owl\r\n"
        "plain/0/0,\r\n"
        "animals/1/20,cat\r\n"
        "animals/2/0,cat\r\n"
        '"animals/0/4","un\r\nicorn"\r\n'
        "gone/0/0,cat\r\n"
        "00000000:0:0,cat\r\n"
        "animals/0,cat\r\n"
        "animals/0/-1\r\n"
    ).encode() + b"plain/0/1,\xff\r\n"
    code, result, notes = import_csv(text, "--dry-run")
    assert code == 3 and given(sqlite_url) == [] and result["dry_run"] and result["added"] == 0
    code, again, notes = import_csv(text)
    assert code == 3 and again == result | {"added": 3, "dry_run": False}
    assert (result["rows"], result["good"]) == (11, 4), "two rows have no label"
    assert [bad["line"] for bad in result["bad"]] == [7, 8, 10, 11, 12, 13, 15]
    assert [f": line {bad['line']}: {bad['error']}" for bad in result["bad"]] == [
        line[line.index(": line") :] for line in notes
    ]
    assert given(sqlite_url) == [
        ("animals", 0, 3, "cat", "Ada"),
        ("animals", 1, 19, "toad", "Ada"),
        ("plain", 1, 0, "=owl", "Ada"),
    ]
    code, result, _ = import_csv(text)
    assert result["added"] == 0, "they are there already"


def test_a_new_class_that_was_given_before_is_imported_again(import_csv, store, sqlite_url):
    open_corrections(sqlite_url).add(open_corpus(store, "animals"), 0, 1, "newt", "Bob")
    text = "image,people_label\nanimals/0/1,newt\nanimals/0/2,newt\nanimals/0/3,nwet\n"
    code, result, _ = import_csv(text)
    assert (code, result["added"], [bad["line"] for bad in result["bad"]]) == (3, 2, [4])


def test_an_export_that_was_filled_in_is_imported(import_csv, sqlite_url):
    text = "id,corpus,partition,row,tag,label,people_label\nx:0:1,animals,0,1,cat,cat,\nx:0:2,animals,0,2,cat,cat,frog\n"
    code, result, _ = import_csv(text)
    assert (code, result["bad"][0]["line"]) == (3, 3), "an id is of a run"
    code, result, _ = import_csv(text.replace("id,", "was,"))
    assert (code, result["rows"], result["added"]) == (None, 1, 1)
    assert given(sqlite_url) == [("animals", 0, 2, "frog", "Ada")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("animals/0/3,frog\n", 1),
        ("image,tag\nanimals/0/3,frog\n", 1),
        ("image,label\nanimals/0/3,frog\nanimals/0/3," + 200_000 * "x", 3),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_an_error(import_csv, text, line):
    with pytest.raises(BadFileError) as error:
        import_csv(text)
    assert error.value.line == line
    with pytest.raises(BadCorrectionError):
        import_csv("image,label\n", by=" ")
