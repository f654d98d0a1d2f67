"""Split a dump into a corpus: Parquet partitions in the store, one task each, each reading only its own byte range.

spark-submit --py-files dist/tinytags.zip jobs/split_dump.py tiny_images.bin --corpus tiny --store hdfs://HOST:8020/tinytags
"""

import functools
import itertools
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import (
    REJECTED,
    json_option,
    note,
    partition_option,
    report,
    run,
    select_partitions,
    settings_options,
    split_names,
)
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted
from storage import layout


class _Command(click.Command):
    """A command whose help ends with the formats that are registered."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from ingest.formats import FORMATS

        rows = []
        for format in FORMATS.values():
            labels = f"; --labels: {format.labels}" if format.labels else ""
            rows.append((format.name, f"{format.example}: {format.content}{labels}"))
        with formatter.section("Formats"):
            formatter.write_dl(rows)


@click.command("ingest", cls=_Command)
@click.argument("dump")
@click.option("--corpus", required=True, metavar="NAME", help="What to call the corpus.")
@click.option(
    "--format",
    metavar="F",
    help="One of the formats below; by default the one that the content fits.",
)
@click.option(
    "--partition-images",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    metavar="N",
    help="Images a partition: the unit of work and of resuming.",
)
@click.option(
    "--labels",
    metavar="L",
    help="Where the labels are, or which ones to take; what it can be depends on the format.",
)
@click.option(
    "--classes",
    metavar="A,B,...",
    help="Names of the classes in place of the dump's own, quoted where they hold a comma; for tiny-images CIFAR-10's by default.",
)
@click.option(
    "--labels-from",
    metavar="NAME",
    help="Labels of a folder of pictures named IMAGEID.jpg from these annotations: images with exactly one of --classes.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="A record that can't be decoded fails its partition, instead of being skipped.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the corpus of this name where the dump has changed since; refused while a run was tagged from it.",
)
@partition_option
@settings_options("store", "webhdfs", "master")
@json_option
def main(
    dump,
    corpus,
    format,
    partition_images,
    labels,
    classes,
    labels_from,
    strict,
    replace,
    partition,
    settings,
    as_json,
):
    """Split DUMP into the partitions of a corpus.

    DUMP is a file, a folder or a .tar.gz (or .tar.bz2, .tar.xz), local or at hdfs://, https://, s3:// or hf:// (the last three need
    tinytags[remote]), in one of the formats below.

    Stopped or killed, the same command continues with the partitions that are left.

    A record that can't be decoded (a truncated or empty file) is skipped, counted and listed with its reason in the corpus' folder bad/; exit
    code 3. Where pictures were repaired or added since, --replace takes them.
    """  # fmt: skip
    from ingest.annotations import PREFIX
    from jobs.partitions import partitions_error, rate_summary

    if labels and labels_from:
        raise TinyTagsError("--labels and --labels-from: give one of them")
    result = split_dump(
        settings, dump, corpus, format=format, partition_images=partition_images,
        labels=PREFIX + labels_from if labels_from else labels,
        classes=split_names("--classes", classes) if classes else None, redo=partition, strict=strict, replace=replace,
    )  # fmt: skip
    summary = f"corpus {corpus}: {counted(result['images'], 'image')} in {counted(result['partitions'], 'partition')}, "
    if result["labelled"] or not result["failed"]:  # of partitions that failed nothing is known
        summary += f"{result['labelled']:,} labelled" if result["labelled"] else "no labels"
    else:
        summary += "labels not read"
    summary += rate_summary("split", result["split"], result)
    if result["bad"]:
        summary += f"; {result['bad']:,} bad"
    report(result, summary, as_json)
    if result["failed"]:
        raise partitions_error("split", result["failed"], result["partitions"])
    if result["bad"] == result["images"]:
        raise TinyTagsError(
            f"{dump}: no record can be decoded; the first is {result['bad_first']}; repair them, and start again with --replace"
        )
    if result["bad"]:
        note(
            f"tinytags: {counted(result['bad'], 'record')} can't be decoded, the first is {result['bad_first']}; all are listed in "
            f"{result['bad_folder']}; repaired, `tinytags ingest` with --replace takes them"
        )
        raise click.exceptions.Exit(REJECTED)


def split_dump(
    settings: Settings, dump: str, corpus: str, format: str | None = None, partition_images: int = 20_000,
    labels: str | None = None, classes: list[str] | None = None, redo: Sequence[tuple[int, int]] = (),
    strict: bool = False, replace: bool = False,
) -> dict:  # fmt: skip
    """Split what is not split yet, and ``redo``; return the counts, with what failed under "failed".

    ``labels`` may be "annotations:NAME": images with exactly one of ``classes`` there get it as their label.
    A record that can't be decoded is counted under "bad"; with ``strict`` it fails its partition. With ``replace`` a corpus
    of other contents is replaced. Raises `TinyTagsError` for a dump that can't be read, for a corpus of other
    contents without ``replace``, and for one that a run was tagged from.
    """
    from jobs.environment import check_start
    from storage.store import check_name, store_of

    check_name("corpus", corpus)
    store = store_of(settings)
    if not store.exists(layout.corpus_manifest(corpus)) and ("://" in dump or os.path.exists(dump)):
        check_start(
            settings.master, "ingest"
        )  # before half a second of imports and minutes of listing and hashing

    from ingest.annotations import PREFIX
    from ingest.bad import describe, read_bad
    from ingest.corpus import (
        Corpus,
        create_corpus,
        done_partitions,
        remove_other,
        remove_temporary,
        with_known_identity,
    )
    from ingest.formats import open_dump
    from ingest.names import write_names
    from jobs.partitions import check_written, choose_pending, record_failed
    from jobs.runner import open_runner
    from storage.finished import record_finished
    from storage.lease import lease

    webhdfs = settings.webhdfs or None
    if labels and labels.startswith(PREFIX):
        source = _with_labels(
            settings,
            store,
            open_dump(dump, format=format, webhdfs=webhdfs),
            labels.removeprefix(PREFIX),
            classes,
        )
    else:
        source = open_dump(dump, format=format, labels=labels, classes=classes, webhdfs=webhdfs)
    before = source.status()
    if not source.images:
        raise TinyTagsError(f"{dump}: holds no images")
    made = Corpus(
        corpus,
        source.format,
        source.path,
        source.identity,
        source.images,
        partition_images,
        source.labels,
        source.classes,
        source.splits,
    )
    made = with_known_identity(store, made)
    select_partitions(
        redo, made.partitions, f"corpus {corpus!r}"
    )  # a wrong one is reported before anything is written
    if redo or replace or len(done_partitions(store, made)) < made.partitions:
        check_start(settings.master, "ingest")
    began = time.monotonic()
    with lease(store, layout.corpus_lease(corpus), f"corpus {corpus!r}"):
        remove_temporary(store, corpus)
        if replace:
            remove_other(store, made)
        create_corpus(store, made)
        done = done_partitions(store, made)
        pending = choose_pending(
            store,
            f"corpus {corpus!r}",
            made.partitions,
            done,
            redo,
            lambda p: layout.corpus_statistics(corpus, p),
        )
        results: list[dict[str, Any]] = []
        errors: dict[int, TinyTagsError] = {}
        splitting = 0.0
        if pending:
            task = functools.partial(_split, store, made, source, strict)
            with open_runner(settings.master, f"ingest {corpus}") as runner:
                total = sum(stop - start for start, stop in map(made.rows, pending))
                results, errors, splitting = runner.run("ingest", pending, task, total=total)
        check_written(store, results, done_partitions(store, made))
        if source.status() != before:
            for result in results:
                store.remove(layout.corpus_statistics(corpus, result["partition"]))
            raise TinyTagsError(
                f"{dump}: was changed while it was split; once it is at rest, ingest it under another name than {corpus!r}"
            )
        record_failed(
            store,
            lambda p: layout.corpus_failed(corpus, p),
            errors,
            {result["partition"] for result in results},
        )
        if len(done_partitions(store, made)) == made.partitions:
            write_names(store, made)
        remove_temporary(store, corpus)  # of executors that were lost
        seconds = time.monotonic() - began
        images = sum(result["images"] for result in results)
        rate = images / splitting if pending else None
        record_finished(store, layout.corpus_folder(corpus), "ingest", images, "images", seconds, rate)
    already = sorted(set(done) - set(pending))
    labelled = 0
    if made.classes:
        earlier = (store.read_json(layout.corpus_statistics(corpus, p)) for p in already)
        labelled = sum(result["labelled"] for result in itertools.chain(results, earlier))
    bad = [
        record
        for p in layout.partitions_in(store.list(layout.corpus_bad_folder(corpus)), ".jsonl")
        if p not in errors
        for record in read_bad(store, corpus, p)
    ]
    return {
        "corpus": corpus, "hash": made.hash, "format": made.format, "images": made.images, "labelled": labelled,
        "bad": len(bad), "bad_first": describe(bad[0]) if bad else None, "bad_folder": store.url(layout.corpus_bad_folder(corpus)),
        "partitions": made.partitions,
        "split": len(results), "already_done": len(already), "images_split": images,
        "bytes": sum(result["bytes"] for result in results), "seconds": round(seconds, 3),
        "failed": {p: str(error) for p, error in sorted(errors.items())},
        "images_per_second": None if rate is None else round(rate, 1),
    }  # fmt: skip


def _with_labels(settings: Settings, store, dump, name: str, classes: list[str] | None):
    """Return a folder of pictures with labels from annotations."""
    from ingest.annotations.classes import read_classes
    from ingest.annotations.labelled_folder import name_hashes, single_labels, unlabelled_folder, with_labels
    from ingest.annotations.labels import choose_classes, open_complete
    from jobs.partitions import partitions_error
    from jobs.runner import open_runner

    if not classes:
        raise TinyTagsError(f"--labels-from {name} needs --classes A,B,...: those to tell apart")
    folder = unlabelled_folder(dump)
    annotations = open_complete(store, name)
    chosen = choose_classes(read_classes(store, name), classes)
    task = functools.partial(single_labels, store, annotations, chosen, name_hashes(folder))
    with open_runner(settings.master, f"labels from {name}") as runner:
        results, errors, _ = runner.run(
            "labels", list(range(annotations.partitions)), task, unit="partitions"
        )
    if errors:
        raise partitions_error("read", errors, annotations.partitions)
    labels = {image: place for result in results for image, place in result["labels"].items()}
    return with_labels(folder, annotations, chosen.names, labels)


def _split(store, corpus, source, strict: bool, partition: int) -> dict:
    from ingest.partition import write_partition

    return write_partition(store, corpus, partition, source, strict)


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.split_dump import main

    run(main)
