"""What every command line of TinyTags shares: settings as options, a summary or JSON, and errors as one line and an exit code."""

import csv
import functools
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields

import click

from conf.errors import TinyTagsError
from conf.settings import HELP, Settings, load_settings

INTERRUPTED = 130


def settings_options(*names: str):
    """Decorate a click command: add an option for each named setting and pass the lot as ``settings``."""

    def decorate(function):
        @functools.wraps(function)
        @click.pass_context
        def wrapper(context, *args, **options):
            given = dict(context.obj or {})  # what stood before the verb: tinytags --store X tag ...
            given |= {name: value for name in names if (value := options.pop(name))}
            return function(*args, settings=load_settings(given), **options)

        for name in reversed(names):
            wrapper = setting_option(name)(wrapper)
        return wrapper

    return decorate


def setting_option(name: str):
    default = {field.name: field.default for field in fields(Settings)}[name]
    told = f"  [TINYTAGS_{name.upper()}{f'; default: {default}' if default else ''}]"
    return click.option(f"--{name}", metavar="NAME" if name == "alias" else "URL", help=HELP[name] + told)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of the summary."
)


class _Partitions(click.ParamType):
    name = "N|N-M"

    def convert(self, value, parameter, context) -> tuple[int, int]:
        first, dash, last = str(value).partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            self.fail(f"{value!r} is neither a partition like 12 nor a range like 40-60", parameter, context)
        return int(first), int(last)


partition_option = click.option(
    "--partition",
    multiple=True,
    type=_Partitions(),
    help="Redo only this partition or range, done or not; repeatable.",
)


def select_partitions(ranges: Sequence[tuple[int, int]], partitions: int, what: str) -> list[int]:
    """Return the partitions in ``ranges`` of first and last; raise `TinyTagsError` for one that ``what`` doesn't have."""
    for _, last in ranges:
        if last >= partitions:
            raise TinyTagsError(f"{what} has no partition {last}; it has 0 to {partitions - 1}")
    return sorted({p for first, last in ranges for p in range(first, last + 1)})


def report(result: dict, summary: str, as_json: bool) -> None:
    """Print what a verb did: for people, or as one JSON object."""
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else summary)


def split_names(option: str, line: str) -> list[str]:
    """Return the names in a line of CSV; raises `TinyTagsError` naming ``option`` for what isn't one."""
    try:
        return [name.strip() for name in next(csv.reader([line], skipinitialspace=True))]
    except csv.Error as error:
        raise TinyTagsError(f"{option} {line!r} can't be read ({error}); write A,B,...") from None


def join_names(names: Sequence[str]) -> str:
    """Return the line that `split_names` reads."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def note(line: str) -> None:
    """Tell the person who waits something on stderr."""
    print(line, file=sys.stderr, flush=True)


def run(command: click.Command, argv: list[str] | None = None) -> None:
    """Run ``command`` and exit: 0 done, 1 a clear error, 2 usage, 75 somebody else holds the lease, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that whoever is asked to stop gives its lease back
    try:
        status = command.main(argv, standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.UsageError as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        note("tinytags: interrupted; what is done stays done, the same command goes on from there")
        status = INTERRUPTED
    except TinyTagsError as error:
        note(f"tinytags: {error}")
        status = error.exit_code
    except BrokenPipeError:  # `tinytags status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt
