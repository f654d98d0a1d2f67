"""The ``tinytags`` command: a verb for each step from a dump of images to a page of results."""

import importlib
import os
import sys

import click

# Our folders come first: a conf.py in the current folder or on PYTHONPATH (every Sphinx project has one) is not ours.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from conf.command import (
    REJECTED,
    json_option,
    note,
    partition_option,
    report,
    run,
    select_partitions,
    setting_option,
    settings_options,
)
from conf.errors import TinyTagsError
from conf.wording import counted, duration

# Verbs that are defined in modules of their own, some because they are jobs of spark-submit, too; loaded on use.
ELSEWHERE = {
    "ingest": ("jobs.split_dump", "Split a dump into the partitions of a corpus."),
    "train": ("jobs.train_forest", "Train a model on a labelled corpus."),
    "tag": ("jobs.tag_images", "Tag every image of a corpus with a model."),
    "features": ("jobs.compute_features", "Compute the features of a corpus and keep them in the store."),
    "sample": (
        "jobs.sample_annotations",
        "Draw a training set from annotations: so many images of each class, in three parts without an image in common.",
    ),
    "evaluate": ("jobs.evaluate_model", "Measure a model on a labelled corpus."),
    "compare": ("jobs.compare_models", "Compare models of the store on the same labelled images."),
    "import": ("jobs.import_model", "Import a network from elsewhere: ONNX, or TensorFlow Lite."),
    "export": ("jobs.export_model", "Write a network as a file for other programs."),
    "corrections": ("operations.corrections", "List, import, undo or restore what people corrected."),
    "delete": ("operations.delete", "Delete a corpus, a model or a run, with all its files."),
    "retrain": ("operations.retrain", "Make the next model from the labels given on the page."),
}
ORDER = [
    "demo",
    "ingest",
    "features",
    "train",
    "tag",
    "index",
    "publish",
    "retire",
    "status",
    "verify",
    "annotations",
    "sample",
    "evaluate",
    "compare",
    "import",
    "export",
    "corrections",
    "retrain",
    "delete",
    "serve",
    "doctor",
]


class Verbs(click.Group):
    """The verbs in the order in which one needs them, those of ``ELSEWHERE`` loaded on use."""

    def list_commands(self, context) -> list[str]:
        return ORDER

    def get_command(self, context, name):
        if name in ELSEWHERE:
            return importlib.import_module(ELSEWHERE[name][0]).main
        return super().get_command(context, name)

    def format_commands(self, context, formatter) -> None:
        rows = [
            (name, ELSEWHERE[name][1] if name in ELSEWHERE else self.commands[name].get_short_help_str(90))
            for name in ORDER
        ]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)

    def resolve_command(self, context, args):
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            line = f"{error.message.rstrip('.')}; there are {', '.join(ORDER)}"
            raise click.UsageError(line, error.ctx) from None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@setting_option("store")
@setting_option("webhdfs")
@setting_option("solr")
@setting_option("alias")
@setting_option("master")
@setting_option("database")
@click.version_option(package_name="tinytags", prog_name="tinytags")
@click.pass_context
def command(context, /, **options):
    """Turn a dump of tens of millions of small images into a page that is searched by tag and confidence.

    \b
      tinytags ingest tiny_images.bin --corpus tiny        the dump becomes partitions of Parquet
      tinytags ingest cifar-10-binary.tar.gz --corpus cifar-10
      tinytags train --corpus cifar-10 --model forest-10   a random forest, measured on held-out images
      tinytags tag --corpus tiny --model forest-10         every image gets a tag and a confidence
      tinytags index tiny-forest-10-3f9a2c1d               the run's tags go into Solr, and the page shows them
      tinytags serve                                       http://127.0.0.1:8000

    Every step can be stopped or killed, and goes on where it was when the same command is given again. Settings come
    from options, TINYTAGS_* variables, tinytags.toml or the defaults, in this order.

    Exit codes: 0 done; 1 a clear error; 2 usage; 3 done, but some records, documents or rows of an import are bad; 75 another process is writing
    the same thing; 130 interrupted.
    """
    context.obj = {name: value for name, value in options.items() if value}


run_argument = click.argument("run_name", metavar="RUN")
host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where the page listens; 0.0.0.0 for all addresses. With the setting `password`, changes need a password.",
)
port_option = click.option(
    "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The page's port."
)


@command.command()
@click.option(
    "--data",
    metavar="PATH",
    envvar="TINYTAGS_DATA",
    help="Images to show it on: anything ingest reads. [TINYTAGS_DATA]",
)
@click.option(
    "--engine",
    type=click.Choice(["mllib", "scikit-learn"]),
    default="mllib",
    show_default=True,
    help="What trains; scikit-learn is quicker here.",
)
@host_option
@port_option
@click.option("--no-serve", is_flag=True, help="Stop before the page is served.")
@click.option(
    "--annotations", is_flag=True, help="Also show annotations of pictures that are made of four images each."
)
@settings_options("store", "webhdfs", "solr", "alias", "master", "database")
def demo(data, engine, host, port, no_serve, annotations, settings):
    """Do all of it on a small real data set, and serve the page.

    Images: --data, else a CIFAR-10 in the store's folder, else CIFAR-10 from its official page, else the digits that
    come with scikit-learn. The images to be tagged are written as a tiny_images.bin first, so that they go the way that
    a dump of 80 million goes. Ctrl-C stops all that it started.
    """  # fmt: skip
    from operations.demo import demo as run_demo

    run_demo(settings, data, host, port, not no_serve, engine, annotations)


@command.command()
@run_argument
@click.option(
    "--live",
    "publish",
    flag_value="live",
    help="Move the alias first: the page shows the run while it is indexed.",
)
@click.option(
    "--beside", "publish", flag_value="beside", help="Keep what the alias shows and add this run to it."
)
@click.option(
    "--no-publish", "publish", flag_value="no", help="Leave the alias; `tinytags publish` moves it later."
)
@click.option("--shards", type=click.IntRange(1, 1000), help="Shards of a new collection; 1 by default.")
@partition_option
@click.option("--dry-run", is_flag=True, help="Say what would be done and write nothing.")
@settings_options("store", "webhdfs", "solr", "alias")
@json_option
def index(run_name, publish, shards, partition, dry_run, settings, as_json):
    """Index a run's tags in Solr; the page shows the run when it is complete.

    The index is its own ledger: Solr is queried for what it holds, and what is missing is posted. Killed at any moment, the
    same command completes it. Documents that Solr rejects are in the run's rejected/ with the reason; the exit code is 3 then.
    """
    from indexing.index import index_run

    store, solr = _store(settings), _solr(settings)
    chosen = _chosen(store, run_name, partition)
    result = index_run(store, run_name, solr, settings.alias, publish or "publish", shards, chosen, dry_run)
    if dry_run:
        what = f"{len(result['post']):,} of {counted(result['partitions'], 'partition')}, {counted(result['documents'], 'document')}"
        then = f"; alias {settings.alias!r} would then show {run_name}" if result["publish"] else ""
        report(result, f"would index {what} of run {run_name}{then}", as_json)
        return
    published_as = (
        f"alias {settings.alias!r} shows it"
        if result["published"]
        else f"alias {settings.alias!r} does not show it"
    )
    summary = (
        f"run {run_name}: {counted(result['documents'], 'document')} in {solr.url}, "
        f"{counted(len(result['posted']), 'partition')} posted "
        f"now in {duration(result['seconds'])}; {result['rejected']:,} rejected; {published_as}"
    )
    report(result, summary, as_json)
    if not result["complete"]:
        raise TinyTagsError(f"run {run_name} is not complete: {'; '.join(_reasons(result))}")
    if result["rejected"]:
        note(
            f"tinytags: Solr rejected {counted(result['rejected'], 'document')}: see {store.url(f'runs/{run_name}/rejected')}"
        )
        raise click.exceptions.Exit(REJECTED)


@command.command()
@run_argument
@settings_options("store", "webhdfs", "solr", "alias")
@json_option
def publish(run_name, settings, as_json):
    """Let the page show a run that is in Solr: move the alias to it, in one step."""
    from indexing.publishing import publish as publish_run

    result = publish_run(_store(settings), run_name, _solr(settings), settings.alias)
    before = ", ".join(result["previous"]) or "nothing"
    report(result, f"alias {settings.alias!r} shows {run_name} (before: {before})", as_json)


@command.command()
@run_argument
@click.option("--force", is_flag=True, help="Even if the alias shows it.")
@settings_options("store", "webhdfs", "solr", "alias")
@json_option
def retire(run_name, force, settings, as_json):
    """Drop a run's collection from Solr. Its files stay, and `tinytags index` indexes it again."""
    from indexing.publishing import retire as retire_run

    result = retire_run(_store(settings), run_name, _solr(settings), settings.alias, force)
    report(
        result, f"run {run_name} is removed from Solr; `tinytags index {run_name}` indexes it again", as_json
    )


@command.command()
@settings_options("store", "webhdfs", "solr", "alias")
@json_option
def status(settings, as_json):
    """Show every corpus, model and run, and how far each step is. Writes nothing."""
    from operations.status import describe, read_status

    result = read_status(settings)
    report(result, describe(result), as_json)


@command.command()
@run_argument
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@settings_options("store", "webhdfs", "solr", "master")
@json_option
def verify(run_name, repair, settings, as_json):
    """Check a run from its images to its documents, or annotations from their rows, and name what differs.

    RUN is the name of a run or of annotations.

    Images in = tagged + dropped + bad; tagged = documents + rejected; every file as it was written. Exit code 1 where
    something differs that is not repaired.
    """
    from operations.repair import verify as verify_all

    result = verify_all(settings, run_name, repair)
    lines = [
        f"{problem['what']}{' (repaired)' if problem['mended'] else ''}" for problem in result["problems"]
    ]
    left = sum(not problem["mended"] for problem in result["problems"])
    what = f"annotations {run_name}" if "annotations" in result else f"run {run_name}"
    lines.append(
        f"{what}: {len(result['problems']):,} differences, {left:,} left"
        if lines
        else f"{what}: no differences"
    )
    report(result, "\n".join(lines), as_json)
    if left:
        fix = (
            "`tinytags annotations` on the same files writes what is missing"
            if repair and "annotations" in result
            else "they can't be repaired from here"
            if repair
            else f"`tinytags verify {run_name} --repair` repairs what can be repaired"
        )
        raise TinyTagsError(f"{what} differs in {counted(left, 'place')}; {fix}")


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--name", required=True, metavar="NAME", help="What to call the annotations.")
@click.option("--no-index", is_flag=True, help="Read into the store only, and leave Solr alone.")
@settings_options("store", "webhdfs", "solr", "master")
@json_option
def annotations(folder, name, no_index, settings, as_json):
    """Read labels and relations of images into the store and index them in Solr.

    DIR is a folder, local or at hdfs://, https:// or s3:// (the last two need tinytags[remote]), with the CSV files of Open
    Images or of its layouts: class descriptions, image labels, relations, and the hierarchy as JSON. Files are known by their
    header. Bad rows are counted, listed with their place, and don't stop the others. At the end it counts once what is slow to
    count on the pages. Stopped or killed, the same command does what is left.
    """
    from indexing.index_annotations import index_annotations
    from jobs import read_annotations as job

    result = job.read_annotations(settings, folder, name)
    summary = job.summary(result)
    failed = any(result["failed"].values())
    if not no_index and not failed:
        result["index"] = index = index_annotations(_store(settings), name, _solr(settings))
        summary += f"\n{counted(index['documents'], 'document')} in {_solr(settings).url} in {duration(index['seconds'])}; {index['rejected']:,} rejected"
    report(result, summary, as_json)
    job.check(result)
    if not no_index:
        if not index["complete"]:
            raise TinyTagsError(f"annotations {name} are not complete in Solr: {'; '.join(_reasons(index))}")
        if index["rejected"]:
            note(
                f"tinytags: Solr rejected {counted(index['rejected'], 'document')}: see rejected/ in {_store(settings).url(f'annotations/{name}')}"
            )
            raise click.exceptions.Exit(REJECTED)


@command.command()
@host_option
@port_option
@settings_options(
    "store",
    "webhdfs",
    "solr",
    "alias",
    "database",
    "retention_days",
    "delete_history",
    "page_jobs",
    "details",
    "correction_rate",
    "classify_rate",
    "vision",
    "hosts",
    "proxy",
    "read_only",
    "user_header",
)
def serve(host, port, settings):
    """Serve the search page until Ctrl-C."""
    from search_ui import serve as serve_page

    serve_page(settings, host, port)


@command.command()
@settings_options("store", "webhdfs", "solr", "alias", "master")
@json_option
def doctor(settings, as_json):
    """Check Java, Spark, Solr, HDFS, disk and versions: what is missing, and how to fix it."""
    from operations.doctor import describe, examine

    result = examine(settings)
    report(result, describe(result), as_json)
    if not result["healthy"]:
        raise click.exceptions.Exit(1)


def _store(settings):
    from storage.store import store_of

    return store_of(settings)


def _solr(settings):
    from indexing.solr import Solr

    return Solr(settings.solr)


def _chosen(store, run_name: str, ranges) -> list[int] | None:
    from storage.runs import open_run

    return (
        select_partitions(ranges, open_run(store, run_name).partitions, f"run {run_name!r}")
        if ranges
        else None
    )


def _reasons(result: dict) -> list[str]:
    return result["left"] + [failed["error"] for failed in result["failed"][:3]]


def main(argv: list[str] | None = None) -> None:
    """Run the command with ``argv`` (default: the process's own) and exit."""
    run(command, argv, "tinytags")


if __name__ == "__main__":
    main()
