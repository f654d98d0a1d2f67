"""Tests of `tinytags corrections`: listing names, undoing all by one of them, and restoring."""

import json

import pytest

import tinytags
from conf.errors import TinyTagsError
from records.corrections import BadCorrectionError, open_corrections


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
