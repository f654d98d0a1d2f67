"""Read annotations into the store: the rows of a range of bytes a task, then the documents of a partition of images a task.

spark-submit --py-files dist/tinytags.zip jobs/read_annotations.py open-images/ --name v7 --store hdfs://HOST:8020/tinytags
"""

import contextlib
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.settings import Settings
from conf.wording import counted, duration
from storage import layout

# Bad rows that a summary lists.
LISTED = 20


@click.command("annotations")
@click.argument("folder", metavar="DIR")
@click.option("--name", required=True, metavar="NAME", help="What to call the annotations.")
@settings_options("store", "webhdfs", "master")
@json_option
def main(folder, name, settings, as_json):
    """Read the labels and relations in DIR into the store; `tinytags annotations` also indexes them."""
    result = read_annotations(settings, folder, name)
    report(result, summary(result), as_json)
    check(result)


def read_annotations(
    settings: Settings, folder: str, name: str, partition_bytes: int | None = None
) -> dict[str, Any]:
    """Read what is not read yet; return the counts of all, the bad rows, and what failed under "failed".

    Raises `TinyTagsError` for a folder without annotations, and for other files than those of this name.
    """
    from ingest.annotations.classes import write_classes
    from ingest.annotations.documents import write_documents
    from ingest.annotations.manifest import PARTITION_BYTES, create_annotations, scan
    from ingest.annotations.rows import read_range
    from jobs.environment import check_start
    from jobs.runner import open_runner
    from storage.finished import record_finished
    from storage.lease import lease
    from storage.store import store_of

    began = time.monotonic()
    webhdfs = settings.webhdfs or None
    store = store_of(settings)
    scanned = scan(folder, name, partition_bytes or PARTITION_BYTES, webhdfs)
    made = scanned.annotations
    for line in scanned.notes:
        note(f"annotations: {line}")
    images, _ = made.sets
    rows_folder = layout.annotations_rows_folder(name)
    failed: dict[str, dict[int, str]] = {}
    done = {}
    if len(_done(store, rows_folder)) < made.ranges or len(_done(store, images.folder)) < made.partitions:
        check_start(settings.master, "annotations")
    with lease(store, layout.annotations_lease(name), f"annotations {name!r}"):
        _remove_temporary(store, made)
        create_annotations(store, made)
        write_classes(store, name, scanned.classes)
        with contextlib.ExitStack() as stack:
            # Started for the first step that has something to do: Spark takes seconds.
            runner = functools.cache(
                lambda: stack.enter_context(open_runner(settings.master, f"annotations {name}"))
            )
            tasks: tuple[tuple[str, str, int, Callable[[int], dict[str, Any]]], ...] = (
                ("rows", rows_folder, made.ranges, functools.partial(read_range, store, made, scanned.classes, webhdfs)),
                ("documents", images.folder, made.partitions, functools.partial(write_documents, store, made, scanned.classes)),
            )  # fmt: skip
            for step, at, partitions, task in tasks:
                failed[step], done[step] = _step(
                    store, f"annotations {name!r}", step, at, partitions, task, runner
                )
                if failed[step]:
                    break
        _remove_temporary(store, made)
        seconds, written = time.monotonic() - began, done.get("documents", 0)
        record_finished(store, layout.annotations_folder(name), "annotations", written, "partitions", seconds)
    return _summarise(store, made, failed, done) | {"seconds": round(seconds, 3)}


def _step(store, what, step, folder, partitions, task, runner) -> tuple[dict[int, str], int]:
    """Do the partitions of a step that are not done; return why some failed, and how many were done now."""
    from jobs.partitions import check_written, choose_pending, record_failed

    def marker(p: int) -> str:
        return layout.statistics(folder, p)

    pending = choose_pending(store, f"{step} of {what}", partitions, _done(store, folder), (), marker)
    if not pending:
        return {}, 0
    results, errors, _ = runner().run(step, pending, task, unit="partitions")
    check_written(store, results, _done(store, folder))
    record_failed(
        store, lambda p: layout.failed(folder, p), errors, {result["partition"] for result in results}
    )
    return {p: str(error) for p, error in sorted(errors.items())}, len(results)


def _done(store, folder: str) -> list[int]:
    return layout.partitions_in(store.list(layout.statistics_folder(folder)))


def _remove_temporary(store, made) -> None:
    folders = [layout.annotations_folder(made.name), layout.annotations_rows_folder(made.name)]
    folders += [one for part in made.sets for one in (part.folder, part.documents_folder)]
    for folder in folders:
        store.remove_temporary(folder)
    for folder in [layout.annotations_rows_folder(made.name), *(part.folder for part in made.sets)]:
        store.remove_temporary_below(folder)


def _summarise(store, made, failed: dict[str, dict[int, str]], done: dict[str, int]) -> dict[str, Any]:
    """Return the sums of the statistics of all ranges and partitions."""
    rows = _statistics(store, layout.annotations_rows_folder(made.name))
    parts = _statistics(store, made.documents("images").folder)
    relations = _statistics(store, made.documents("relations").folder)
    return {
        "annotations": made.name, "hash": made.hash, "files": len(made.sources), "ranges": made.ranges,
        "partitions": made.partitions, "ranges_read": done.get("rows", 0), "partitions_written": done.get("documents", 0),
        "label_rows": sum(one["rows"] for one in rows if one["kind"] == "labels"),
        "relation_rows": sum(one["rows"] for one in rows if one["kind"] == "relations"),
        "bad": sum(one["bad"] for one in rows), "bad_rows": list(itertools.islice(bad_rows(store, made, rows), LISTED)),
        "unknown": sum(one["unknown"] for one in rows),
        "unknown_classes": sorted({label for one in rows for label in one["unknown_classes"]})[:LISTED],
        "duplicate_labels": sum(one["duplicate_labels"] for one in parts),
        "duplicate_relations": sum(one["duplicate_relations"] for one in parts),
        "images": sum(one["documents"] for one in parts), "relations": sum(one["documents"] for one in relations),
        "failed": failed,
    }  # fmt: skip


def bad_rows(store, made, statistics: list[dict[str, Any]]):
    """Yield the bad rows of all ranges with their places: file, line (from 1), byte, reason and the row's beginning."""
    lines: dict[str, int] = {}
    for one in sorted(statistics, key=lambda one: one["partition"]):
        source = made.range(one["partition"])[0]
        before = lines.setdefault(source.path, 1)  # the header; a file of labels or relations has one
        if one["bad"]:
            for line in store.read_bytes(layout.annotations_bad(made.name, one["partition"])).splitlines():
                row = json.loads(line)
                yield {"file": source.path, **row, "line": before + row["line"]}
        lines[source.path] += one["lines"]


def _statistics(store, folder: str) -> list[dict[str, Any]]:
    return [store.read_json(layout.statistics(folder, p)) for p in _done(store, folder)]


def summary(result: dict[str, Any]) -> str:
    """Return the counts for people."""
    lines = [
        f"{row['file']}:{row['line']} (byte {row['byte']:,}): {row['reason']}" for row in result["bad_rows"]
    ]
    if result["bad"] > len(lines):
        lines.append(f"... {result['bad'] - len(lines):,} more bad rows")
    if result["unknown"]:
        names = ", ".join(result["unknown_classes"])
        lines.append(
            f"{counted(result['unknown'], 'class id')} in rows without a name in the class files: {names}"
        )
    duplicates = result["duplicate_labels"] + result["duplicate_relations"]
    lines.append(
        f"annotations {result['annotations']}: {counted(result['label_rows'], 'row')} of labels and "
        f"{result['relation_rows']:,} of relations in {counted(result['files'], 'file')}, {counted(result['bad'], 'bad row')}, "
        f"{duplicates:,} twice; {counted(result['images'], 'image')}, {counted(result['relations'], 'relation')}; "
        f"{counted(result['ranges_read'], 'range')} read and {counted(result['partitions_written'], 'partition')} written "
        f"now in {duration(result['seconds'])}"
    )
    return "\n".join(lines)


def check(result: dict[str, Any]) -> None:
    """Raise `TinyTagsError` where a range or a partition failed."""
    from jobs.partitions import partitions_error

    for step, errors in result["failed"].items():
        if errors:
            total = result["ranges" if step == "rows" else "partitions"]
            raise partitions_error("read" if step == "rows" else "written", errors, total)


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.read_annotations import main

    run(main)
