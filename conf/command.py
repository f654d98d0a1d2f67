"""What all commands share: settings as options, a summary or JSON, and errors as one line and an exit code."""

import csv
import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

import click

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from conf.notes import take_notes
from conf.settings import HELP, Settings, load_settings

# Exit codes: done, but Solr rejected some documents, or rows of a file can't be used; and interrupted.
REJECTED, INTERRUPTED = 3, 130
# What stands for the value of a setting in --help, where it isn't a URL.
METAVARS = {
    "alias": "NAME",
    "details": "yes|no",
    "retention_days": "DAYS",
    "delete_history": "yes|no",
    "page_jobs": "yes|no",
    "correction_rate": "RATES",
    "classify_rate": "RATES",
    "hosts": "NAMES",
    "proxy": "ADDRESS",
    "read_only": "yes|no",
    "user_header": "NAME",
}

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a click command: add an option for each named setting and pass all settings as ``settings``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        @click.pass_context
        def wrapper(context: click.Context, *args: Any, **options: Any) -> Any:
            given = dict(context.obj or {})  # options before the verb: tinytags --store X tag ...
            given |= {name: value for name in names if (value := options.pop(name))}
            return function(*args, settings=load_settings(given), **options)

        decorated: Callable[..., Any] = wrapper
        for name in reversed(names):
            decorated = setting_option(name)(decorated)
        return decorated

    return decorate


def setting_option(name: str) -> Callable[[F], F]:
    """Return the decorator that adds the option for one setting."""
    default = {field.name: field.default for field in fields(Settings)}[name]
    source = f"  [TINYTAGS_{name.upper()}{f'; default: {default}' if default else ''}]"
    return click.option(
        f"--{name.replace('_', '-')}", metavar=METAVARS.get(name, "URL"), help=HELP[name] + source
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of the summary."
)


class _Partitions(click.ParamType[tuple[int, int]]):
    name = "N|N-M"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
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


def report(result: dict[str, Any], summary: str, as_json: bool) -> None:
    """Print the result of a command: a summary for people, or one JSON object."""
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
    """Print a line for the user on stderr; addresses in it are without their passwords."""
    print(without_passwords(line), file=sys.stderr, flush=True)


def run(command: click.Command, argv: list[str] | None = None, name: str | None = None) -> NoReturn:
    """Run ``command``, called ``name``, and exit: 0 done, 1 a clear error, 2 usage, 75 another process holds the lease, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that a stopped process releases its lease
    take_notes()
    try:
        status = command.main(argv, name, standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.UsageError as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        note("tinytags: interrupted; finished work is kept, and the same command continues it")
        status = INTERRUPTED
    except TinyTagsError as error:
        note(f"tinytags: {error}")
        status = error.exit_code
    except BrokenPipeError:  # `tinytags status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    for line in take_notes():
        note(f"note: {line}")
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
