"""The verb ``tinytags corrections``: lists, imports, undoes and restores what people corrected."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TextIO, TypeVar

import click

from conf.command import REJECTED, json_option, note, report, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings, user_name
from conf.wording import counted
from records.corrections import open_corrections, parse_time
from records.importing import import_labels
from storage.store import store_of


@click.group("corrections")
def main() -> None:
    """List, import, undo or restore what people corrected.

    \b
      tinytags corrections list
      tinytags corrections import labels.csv --by Ada
      tinytags corrections undo --by Eve --since 2026-11-26T14:00
      tinytags corrections restore --by Eve

    What is undone stays in the database with the time and your name, and can be restored.
    """


F = TypeVar("F", bound=Callable[..., Any])

by_option = click.option("--by", metavar="NAME", help="Only those by this name.")


def time_option(name: str, help: str) -> Callable[[F], F]:
    """Return the decorator that adds an option for a time, which the command gets as a datetime."""

    def parse(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
        return parse_time(value) if value else None

    return click.option(name, metavar="TIME", callback=parse, help=help)


@main.command("list")
@settings_options("database")
@json_option
def list_corrections(settings: Settings, as_json: bool) -> None:
    """List the names under which corrections were made, the newest first."""
    names = open_corrections(settings.database).names()
    lines = [
        f"{one.name}: {one.corrections:,} in effect, {one.undone:,} undone, {one.first:%Y-%m-%d %H:%M} to {one.last:%Y-%m-%d %H:%M} UTC"
        for one in names
    ]
    result = [vars(one) | {"first": one.first.isoformat(), "last": one.last.isoformat()} for one in names]
    report({"names": result}, "\n".join(lines) or "There are no corrections.", as_json)


@main.command("import")
@click.argument("file", type=click.File(encoding="utf-8-sig", errors="replace"))
@click.option("--by", metavar="NAME", required=True, help="The person whose labels these are.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and write nothing.")
@settings_options("store", "webhdfs", "database")
@json_option
def import_corrections(file: TextIO, by: str, dry_run: bool, settings: Settings, as_json: bool) -> None:
    """Import labels from a CSV file with the columns image and label.

    An image is CORPUS/PARTITION/ROW or the id of a document, in the column image or id; or it is in the columns corpus, partition and
    row, as in exports, whose column people_label is imported then. Rows without a label are left out. Rows that can't be used
    are listed with their line and stop nothing else; the exit code is 3 then.
    """
    done = import_labels(
        file,
        store_of(settings),
        open_corrections(settings.database),
        by,
        dry_run,
    )
    for line, reason in done.bad:
        note(f"{file.name}: line {line}: {reason}")
    bad = [{"line": line, "error": reason} for line, reason in done.bad]
    result = {"rows": done.rows, "good": done.good, "added": len(done.added), "bad": bad, "dry_run": dry_run}
    what = f"{counted(done.rows, 'row')}: {done.good:,} good, {len(done.bad):,} bad"
    end = "nothing written" if dry_run else f"{counted(len(done.added), 'correction')} added"
    report(result, f"{what}; {end}", as_json)
    if done.bad:
        raise click.exceptions.Exit(REJECTED)


@main.command("undo")
@by_option
@time_option("--since", "Only those made at this time (UTC, as 2026-11-26T14:30) or later.")
@time_option("--until", "Only those made before this time.")
@settings_options("database")
@json_option
def undo_corrections(
    by: str | None, since: datetime | None, until: datetime | None, settings: Settings, as_json: bool
) -> None:
    """Undo the corrections by a name, or of a time; they stay in the database."""
    _check_selected(by, since, until)
    number = open_corrections(settings.database).undo_all(by, since, until, user_name())
    report({"undone": number}, f"{counted(number, 'correction')} undone", as_json)


@main.command("restore")
@by_option
@time_option("--since", "Only those undone at this time (UTC, as 2026-11-26T14:30) or later.")
@settings_options("database")
@json_option
def restore_corrections(by: str | None, since: datetime | None, settings: Settings, as_json: bool) -> None:
    """Restore corrections that were undone, by a name or since a time."""
    _check_selected(by, since)
    number = open_corrections(settings.database).restore(by, since)
    report({"restored": number}, f"{counted(number, 'correction')} restored", as_json)


def _check_selected(*selections: object) -> None:
    if not any(selections):
        raise TinyTagsError("which corrections? Give --by NAME, --since TIME or both")
