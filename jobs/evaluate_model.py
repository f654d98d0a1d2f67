"""Measure a model on a labelled corpus: how often its tags are right, at every threshold of confidence.

spark-submit --py-files dist/tinytags.zip jobs/evaluate_model.py --model forest-10 --corpus cifar-10-test
"""

import functools
import os
import sys

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, listed


@click.command("evaluate")
@click.option("--model", required=True, metavar="NAME", help="The model to measure.")
@click.option(
    "--corpus", required=True, metavar="LABELLED", help="The corpus whose labels count as the truth."
)
@settings_options("store", "webhdfs", "master")
@json_option
def main(model, corpus, settings, as_json):
    """Measure a model on a labelled corpus.

    Prints accuracy and, for each threshold of confidence, how many tags would be kept and how many of these are right.
    Changes nothing. Measure on images that the model was not trained on: on its training corpus the result is too good,
    and a note says so. `tinytags train` has measured the model on held-out images of that corpus: the result is in its
    card, and on the page /models.
    """
    result = evaluate_model(settings, model, corpus)
    from tagging.quality import describe

    report(
        result,
        f"model {model} on {counted(result['images'], 'image')} of {corpus}\n{describe(result['quality'])}",
        as_json,
    )


def evaluate_model(settings: Settings, model: str, corpus: str) -> dict:
    """Return the quality of a model on the labelled images of a corpus.

    Raises `TinyTagsError` for a corpus without labels, classes that the model does not have, partitions that can't be read.
    """
    from ingest.corpus import open_corpus
    from jobs.partitions import partitions_error
    from jobs.runner import open_runner
    from storage.store import open_store
    from tagging.models import load_model, read_card
    from tagging.quality import quality, total

    store = open_store(settings.store, settings.webhdfs or None)
    source = open_corpus(store, corpus)
    tagger = load_model(store, model)
    if not source.classes:
        raise TinyTagsError(
            f"corpus {corpus!r} has no labels to measure by; ingest one that has, like CIFAR-10"
        )
    unknown = [name for name in source.classes if name not in tagger.classes]
    if unknown:
        raise TinyTagsError(
            f"corpus {corpus!r} has labels {listed(unknown, 5)}, model {model!r} has only "
            f"{listed(tagger.classes, 10)}; measure it on a corpus of the same classes"
        )
    trained_on = read_card(store, model).get("trained_on") or {}
    if trained_on.get("corpus_hash") == source.hash:
        note(
            f"model {model!r} was trained on {trained_on.get('images', 0):,} images of {corpus!r}: the result is too good; its card "
            "has the quality on held-out images"
        )
    task = functools.partial(count, store, source, tagger)
    with open_runner(settings.master, f"evaluate {model}") as runner:
        partitions = list(range(source.partitions))
        results, errors, seconds = runner.run("evaluate", partitions, task, total=source.images)
    if errors:
        raise partitions_error("read", errors, source.partitions)
    measured = quality(total(result["tally"] for result in results), tagger.classes)
    if not measured["images"]:
        raise TinyTagsError(f"corpus {corpus!r} has no labelled image")
    return {"model": model, "model_hash": tagger.hash, "corpus": corpus, "corpus_hash": source.hash,
            "images": measured["images"], "seconds": round(seconds, 3), "quality": measured}  # fmt: skip


def count(store, corpus, tagger, partition: int) -> dict:
    """Return the number of images of a partition, and its `tagging.quality.Tally`."""
    from ingest.corpus import read_partition
    from tagging.quality import tally, total
    from tagging.tags import renumbering

    start, stop = corpus.rows(partition)
    numbers = renumbering(corpus.classes, tagger.classes)
    tallies = [
        tally(tagger.votes(block.images), numbers[block.labels], tagger.voters)
        for block in read_partition(store, corpus, partition)
    ]
    return {"images": stop - start, "tally": total(tallies)}


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.evaluate_model import main

    run(main)
