"""Compute the features of a corpus once and keep them in the store, for training and tagging: one task a partition.

spark-submit --py-files dist/tinytags.zip jobs/compute_features.py --corpus tiny --features pretrained
"""

import functools
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, partition_option, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from storage import layout
from tagging.features import FEATURES, Features
from tagging.training import HOLDOUT, SEED, choose

if TYPE_CHECKING:
    from ingest.corpus import Corpus
    from storage.store import Store
    from tagging.features.kept import Fit


@click.command("features")
@click.option("--corpus", required=True, metavar="NAME", help="The corpus whose features are computed.")
@click.option("--features", metavar="NAME", help=f"Which features: {', '.join(FEATURES)}.")
@click.option("--model", metavar="NAME", help="Instead: the features of this model.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=SEED, show_default=True,
    help="Decides what chance decides, where features are fitted to images (pca, kmeans).",
)  # fmt: skip
@click.option(
    "--holdout", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=HOLDOUT, show_default=True,
    help="Share of the images that they are not fitted to, where the corpus has no test part; as in `tinytags train`.",
)  # fmt: skip
@partition_option
@settings_options("store", "webhdfs", "master")
@json_option
def main(corpus, features, model, seed, holdout, partition, settings, as_json):
    """Compute the features of a corpus and keep them in the store.

    `tinytags train`, `tinytags tag` and `tinytags evaluate` then use them, so that training after corrections and tagging with another model take
    seconds. Stopped or killed, the same command continues.
    """  # fmt: skip
    from jobs.partitions import partitions_error, rate_summary

    result = compute_features(settings, corpus, features, model, seed, holdout, partition)
    size = result["bytes"] / 1e6
    summary = f"features {result['features']} of corpus {corpus}: {result['images']:,} images, {result['length']:,} bytes each, {size:,.1f} MB"
    report(result, summary + rate_summary("computed", result["partitions_computed"], result), as_json)
    if result["failed"]:
        raise partitions_error("computed", result["failed"], result["partitions"])


def compute_features(
    settings: Settings, corpus: str, features: str | None = None, model: str | None = None, seed: int = SEED,
    holdout: float = HOLDOUT, redo: Sequence[tuple[int, int]] = (),
) -> dict:  # fmt: skip
    """Compute what is not kept yet, and ``redo``; return counts of all, with what failed under "failed".

    The features of a name, or those of a model. Raises `TinyTagsError` where neither or both are given, and for a model without features.
    """
    from ingest.corpus import open_corpus
    from jobs.environment import check_master, check_start
    from jobs.partitions import check_written, choose_pending, record_failed
    from jobs.runner import open_runner
    from storage.finished import record_finished
    from storage.lease import lease
    from storage.store import store_of
    from tagging.features import kept
    from tagging.features.pixels import Pixels
    from tagging.training import make_features

    if bool(features) == bool(model):
        raise TinyTagsError("give --features NAME or --model NAME")
    store = store_of(settings)
    source = open_corpus(store, corpus)
    fit = kept.Fit(seed, None if source.splits else holdout)
    part = functools.partial(choose, source, seed, holdout, train=True)
    if not store.list(layout.corpus_features_folder(corpus)):
        check_master(settings.master)  # before features are fitted
    if model:
        chosen, fit = features_of(store, model, source)
    else:
        chosen = make_features(store, source, str(features), part, seed, holdout)
    if isinstance(chosen, Pixels):
        raise TinyTagsError(f"features {chosen.name!r} are the pixels, which the corpus has")
    name = kept.folder_name(chosen)
    if redo or len(kept.done_partitions(store, source, chosen)) < source.partitions:
        check_start(settings.master, "features")
    began = time.monotonic()
    with lease(store, layout.features_lease(corpus, name), f"features {name!r} of corpus {corpus!r}"):
        for folder in layout.features_folders(corpus, name):
            store.remove_temporary(folder)
        kept.keep_features(store, source, chosen, fit)
        done = kept.done_partitions(store, source, chosen)
        pending = choose_pending(
            store, f"features {name!r}", source.partitions, done, redo,
            lambda p: layout.features_statistics(corpus, name, p),
        )  # fmt: skip
        results: list[dict] = []
        errors: dict[int, TinyTagsError] = {}
        computing = 0.0
        if pending:
            task = functools.partial(kept.write_codes, store, source, chosen)
            with open_runner(settings.master, f"features {corpus}") as runner:
                total = sum(stop - start for start, stop in map(source.rows, pending))
                results, errors, computing = runner.run("features", pending, task, total=total)
        done = kept.done_partitions(store, source, chosen)
        check_written(store, results, done)
        now = {result["partition"] for result in results}
        record_failed(store, lambda p: layout.features_failed(corpus, name, p), errors, now)
        seconds = time.monotonic() - began
        computed = sum(result["images"] for result in results)
        rate = computed / computing if pending else None
        record_finished(
            store, layout.features_folder(corpus, name), "features", computed, "images", seconds, rate
        )
    images = sum(stop - start for start, stop in map(source.rows, done))
    return {
        "features": chosen.name, "folder": layout.features_folder(corpus, name), "hash": chosen.hash, "length": chosen.length,
        "corpus": corpus, "images": images, "bytes": images * chosen.length, "partitions": source.partitions,
        "partitions_computed": len(now), "failed": {p: str(error) for p, error in sorted(errors.items())},
        "seconds": round(seconds, 3), "images_per_second": None if rate is None else round(rate, 1),
    }  # fmt: skip


def features_of(store: "Store", model: str, corpus: "Corpus") -> "tuple[Features, Fit]":
    """Return the features of a model, and what they were fitted to: that of the ``corpus`` only where it is the one trained on."""
    from tagging.features.kept import Fit
    from tagging.model import OnFeatures
    from tagging.models import load_model, read_card

    loaded = load_model(store, model)
    if not isinstance(loaded, OnFeatures):
        raise TinyTagsError(f"model {model!r} votes on the pixels: it has no features to keep")
    card = read_card(store, model)
    parameters = card.get("parameters") or {}
    trained_here = (card.get("trained_on") or {}).get("corpus_hash") == corpus.hash
    seed = parameters.get("seed", SEED) if trained_here else -1  # no seed: not to train other models on
    return loaded.features, Fit(seed, parameters.get("holdout"))


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.compute_features import main

    run(main)
