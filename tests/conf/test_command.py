"""Tests of `conf.command`: exit codes, options that become settings, ranges of partitions."""

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from conf.command import partition_option, report, run, select_partitions, settings_options
from conf.errors import LeaseHeldError, TinyTagsError


def exit_code(function, *words) -> int:
    """Run ``function`` as a command and return its exit code; the signal handlers stay as they were."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit:
            run(click.command()(function), list(words))
    finally:
        signal.signal(signal.SIGTERM, before)
    return exit.value.code


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TinyTagsError("x.bin: is empty"), 1, "tinytags: x.bin: is empty"),
        (LeaseHeldError("run 'r' is being written"), 75, "tinytags: run 'r' is being written"),
        (
            KeyboardInterrupt(),
            130,
            "tinytags: interrupted; finished work is kept, and the same command continues it",
        ),
        (
            click.Abort(),
            130,
            "tinytags: interrupted; finished work is kept, and the same command continues it",
        ),
    ],
)
def test_an_error_becomes_one_line_and_its_exit_code(capsys, error, code, line):
    assert exit_code(raising(error)) == code
    printed = capsys.readouterr()
    assert printed.err.strip() == line
    assert printed.out == ""


def test_a_successful_command_exits_with_0(capsys):
    assert exit_code(lambda: report({"a": 1}, "one a", as_json=False)) == 0
    assert capsys.readouterr().out == "one a\n"


def test_a_command_may_choose_its_exit_code():
    def function():
        raise click.exceptions.Exit(3)

    assert exit_code(function) == 3


def test_wrong_usage_exits_with_2_and_a_message(capsys):
    assert exit_code(lambda: None, "--colour", "green") == 2
    assert "No such option" in capsys.readouterr().err


def test_json_is_one_line_with_unescaped_letters(capsys):
    report({"name": "Käse", "images": 3}, "three", as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "Käse", "images": 3}
    assert "Käse" in out and out.count("\n") == 1


def test_a_closed_pipe_is_no_traceback():
    code = "import click; from conf.command import run\n"
    code += "run(click.command()(lambda: [click.echo('x' * 1000) for _ in range(1000)]))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_options_before_the_verb_apply_unless_the_verb_has_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYTAGS_SOLR", "http://environment:1/solr")
    settings_used = []

    @click.group()
    @click.pass_context
    def group(context):
        context.obj = {"store": "before", "alias": "before"}

    @group.command()
    @settings_options("store", "solr")
    def verb(settings):
        settings_used.append((settings.store, settings.solr, settings.alias))

    group.main(["verb"], standalone_mode=False)
    group.main(["verb", "--store", "own", "--solr", "http://own:2/solr"], standalone_mode=False)
    assert settings_used == [
        ("before", "http://environment:1/solr", "before"),
        ("own", "http://own:2/solr", "before"),
    ]


@pytest.fixture
def ranges():
    @click.command()
    @partition_option
    def command(partition):
        return partition

    return lambda *words: command.main(list(words), standalone_mode=False)


def test_partitions_are_numbers_or_ranges(ranges):
    partitions = ranges("--partition", "12", "--partition", "3-5", "--partition", "4")
    assert select_partitions(partitions, 13, "corpus 'tiny'") == [3, 4, 5, 12]
    assert select_partitions((), 13, "corpus 'tiny'") == []


@pytest.mark.parametrize("value", ["", "-", "a", "5-3", "-1", "1-", "1.5", "1-2-3", "²"])
def test_other_values_are_no_partitions(ranges, value):
    with pytest.raises(click.UsageError, match="neither a partition like 12 nor a range like 40-60"):
        ranges(f"--partition={value}")


def test_the_error_of_a_missing_partition_names_the_existing_ones():
    with pytest.raises(TinyTagsError, match=r"^corpus 'tiny' has no partition 13; it has 0 to 12$"):
        select_partitions([(3, 13)], 13, "corpus 'tiny'")
