"""Tag a corpus with a model: one task a partition, which gets a path, writes JSON lines and returns only counts.

spark-submit --py-files dist/tinytags.zip jobs/tag_images.py --corpus tiny --model forest-10 --store hdfs://HOST:8020/tinytags
"""

import functools
import hashlib
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import (
    json_option,
    note,
    partition_option,
    report,
    run,
    settings_options,
)
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted
from storage import layout

if TYPE_CHECKING:
    from storage.runs import Run
    from storage.store import Store
    from tagging.model import Model
    from tagging.tags import Winners
    from tagging.voting import Voted

# Documents are made this many images at a time, so that memory doesn't grow with the partition.
CHUNK_IMAGES = 20_480
# Fewer where these are more votes: 32 MB of them as uint16, for models of thousands of classes.
CHUNK_VOTES = 1 << 24
MIN_CONFIDENCE = 0.4


def _check_share(_context, _option, value: float | None) -> float | None:
    if value is None or 0 <= value <= 1:
        return value
    hint = f"; {value:g} % is {value / 100:g}" if 1 < value <= 100 else ""
    raise click.BadParameter(f"{value:g} is not a number from 0 to 1{hint}.")


@click.command("tag")
@click.option("--corpus", required=True, metavar="NAME", help="The corpus to tag.")
@click.option("--model", required=True, metavar="NAME", help="The model that says what an image shows.")
@click.option(
    "--min-confidence",
    type=float,
    callback=_check_share,
    help=f"Tags of a lower confidence, 0 to 1, are dropped, and counted.  [default: {MIN_CONFIDENCE}]",
)
@click.option(
    "--min-precision",
    type=float,
    callback=_check_share,
    help="Instead: the lowest threshold at which this share of tags, 0 to 1, was right on the images the model was measured on.",
)
@click.option(
    "--similar",
    is_flag=True,
    help="Describe each image too, by 60 numbers, so that the page can show what looks alike.",
)
@partition_option
@settings_options("store", "webhdfs", "master")
@json_option
def main(corpus, model, min_confidence, min_precision, similar, partition, settings, as_json):
    """Tag every image of a corpus with a model.

    Writes a run: JSON lines, one file a partition, that `tinytags index` indexes in Solr. Its name follows from corpus,
    model, threshold and --similar: the same inputs give the same run. Stopped or killed, the same command goes on where
    it was. A corrupt partition is reported and does not stop the others.
    """  # fmt: skip
    from jobs.partitions import partitions_error, rate_summary

    if min_confidence is not None and min_precision is not None:
        raise click.UsageError(
            "--min-confidence and --min-precision both set the threshold; give one of them."
        )
    if min_confidence is None:
        min_confidence = MIN_CONFIDENCE
    result = tag_images(settings, corpus, model, min_confidence, partition, similar, min_precision)
    kept = result["tagged"] / max(result["tagged"] + result["dropped"], 1)
    summary = (
        f"run {result['run']}: {result['tagged']:,} tagged ({kept:.0%}), {result['dropped']:,} dropped below "
        f"{result['min_confidence']:.0%}, in {counted(result['partitions'], 'partition')}"
    )
    summary += rate_summary("tagged", result["partitions_tagged"], result)
    if result["labelled"]:
        summary += f"; {result['right'] / result['labelled']:.1%} of {result['labelled']:,} tags with a known label are right"
    if result["trained"]:
        summary += (
            f"; {result['trained']:,} more labelled images are not counted: the model was trained on them"
        )
    report(result, summary, as_json)
    if result["failed"]:
        raise partitions_error("tagged", result["failed"], result["partitions"])


def tag_images(
    settings: Settings,
    corpus: str,
    model: str,
    min_confidence: float = MIN_CONFIDENCE,
    redo: Sequence[tuple[int, int]] = (),
    similar: bool = False,
    min_precision: float | None = None,
) -> dict:
    """Tag what is not tagged yet, and ``redo``; return the counts of the whole run, with what failed under "failed".

    ``similar`` puts a descriptor of the image into each document; such a run is another one than that without.
    With ``min_precision`` the model's card gives the threshold, by `tagging.evaluations.threshold_for`, instead of
    ``min_confidence``.
    """
    from ingest.corpus import open_corpus
    from jobs.environment import check_start
    from jobs.partitions import check_written, choose_pending, record_failed
    from jobs.runner import open_runner
    from storage import runs
    from storage.finished import record_finished
    from storage.lease import lease
    from storage.store import store_of
    from tagging import descriptor
    from tagging.evaluations import threshold_for
    from tagging.models import load_model, read_card
    from tagging.quality import wilson

    store = store_of(settings)
    source = open_corpus(store, corpus)
    tagger = load_model(store, model)
    if min_precision is not None:
        row = threshold_for(read_card(store, model), min_precision)
        min_confidence = row["confidence"]
        low, high = wilson(row["right"], row["images"])
        note(
            f"tag: minimum confidence {min_confidence:g}; {row['precision']:.1%} of {row['images']:,} such tags were right where "
            f"the model was measured (95 % interval {low:.1%} to {high:.1%})"
        )
    made = runs.Run(
        corpus, source.hash, model, tagger.hash, min_confidence, list(tagger.classes), source.images, source.partitions,
        tagger.voters, descriptor=descriptor.NAME if similar else None,
        min_precision=min_precision,
    )  # fmt: skip
    if redo or len(runs.done_partitions(store, made)) < made.partitions:
        check_start(settings.master, "tag")
    began = time.monotonic()
    with lease(store, layout.run_lease(made.name), f"run {made.name!r}"):
        runs.remove_temporary(store, made)
        runs.create_run(store, made)
        write_readme(store, made)
        done = runs.done_partitions(store, made)
        pending = choose_pending(
            store,
            f"run {made.name!r}",
            made.partitions,
            done,
            redo,
            lambda p: layout.run_statistics(made.name, p),
        )
        results: list[dict[str, Any]] = []
        errors: dict[int, TinyTagsError] = {}
        tagging = 0.0
        if pending:
            task = functools.partial(tag_partition, store, source, made, kind=type(tagger))
            with open_runner(settings.master, f"tag {made.name}") as runner:
                total = sum(stop - start for start, stop in map(source.rows, pending))
                results, errors, tagging = runner.run("tag", pending, task, total=total)
        seconds = time.monotonic() - began
        check_written(store, results, runs.done_partitions(store, made))
        now = {result["partition"] for result in results}
        record_failed(store, lambda p: layout.run_failed(made.name, p), errors, now)
        runs.remove_temporary(store, made)  # of executors that were lost
        tagged_now = sum(result["images"] for result in results)
        rate = tagged_now / tagging if pending else None
        record_finished(store, layout.run_folder(made.name), "tag", tagged_now, "images", seconds, rate)
        results += [runs.read_statistics(store, made, p) for p in sorted(set(done) - set(pending))]
    totals = {
        key: sum(result.get(key, 0) for result in results)  # version 0.1 did not count "trained"
        for key in ("tagged", "dropped", "bad", "labelled", "right", "trained")
    }
    return {
        "run": made.name, "corpus": corpus, "model": model, "min_confidence": min_confidence, "partitions": made.partitions,
        "partitions_tagged": len(now), "already_done": len(set(done) - set(pending)), "images": made.images, **totals,
        "failed": {p: str(error) for p, error in sorted(errors.items())},
        "seconds": round(seconds, 3), "images_per_second": None if rate is None else round(rate, 1),
    }  # fmt: skip


def write_readme(store: "Store", run: "Run") -> None:
    """Write the README.md of a run, unless it is there; runs of earlier versions have none."""
    from tagging.dataset_card import dataset_card

    if not store.exists(path := layout.run_readme(run.name)):
        store.write_bytes(path, dataset_card(run).encode())


def tag_partition(store, corpus, run, partition: int, kind: "type[Model] | None" = None) -> dict:
    """Tag one partition: write its JSON lines, then its statistics, the marker that it is done; return these.

    ``kind`` is the class of the model; the card names it otherwise. A job sends it to its workers, whose registry may lack it.
    """
    from tagging.descriptor import describe
    from tagging.models import load_exact_model
    from tagging.tags import documents
    from tagging.trained import are_hashes_among
    from tagging.voting import vote_blocks

    began = time.monotonic()
    tagger = load_exact_model(store, run.model, run.model_hash, kind)
    trained, names = _trained(store, corpus, run), _names(store, corpus, partition)
    statistics: dict[str, Any] = {
        "partition": partition,
        "images": 0,
        "tagged": 0,
        "dropped": 0,
        "bad": 0,
        "labelled": 0,
        "right": 0,
        "trained": 0,
    }
    counters: dict[str, Counter] = {"tags": Counter(), "votes": Counter()}
    digest, size = hashlib.sha256(), 0
    with store.writer(layout.run_tags(run.name, partition)) as file:
        blocks = vote_blocks(
            store, corpus, partition, tagger, pixels=bool(run.descriptor), hashed=trained is not None
        )
        seen = None if trained is None else functools.partial(are_hashes_among, trained=trained)
        for rows, best, labels, descriptors, among in _winners(
            blocks, describe if run.descriptor else None, seen
        ):
            lines, counts = documents(
                run, partition, best, labels, corpus.classes, rows, descriptors, among, names
            )
            file.write(lines)
            digest.update(lines)
            size += len(lines)
            for key in ("images", "tagged", "dropped", "labelled", "right", "trained"):
                statistics[key] += counts[key]
            counters["tags"].update(counts["tags"])
            counters["votes"].update(dict(enumerate(counts.get("votes", []))))
    start, stop = corpus.rows(partition)
    assert statistics["images"] == statistics["tagged"] + statistics["dropped"] <= stop - start
    statistics["bad"] = stop - start - statistics["images"]
    statistics["images"] = stop - start
    statistics |= {
        name: {str(key): n for key, n in sorted(counter.items()) if n} for name, counter in counters.items()
    }
    statistics |= {"bytes": size, "sha256": digest.hexdigest(), "seconds": round(time.monotonic() - began, 4),
                   "host": socket.gethostname()}  # fmt: skip
    store.write_json(layout.run_statistics(run.name, partition), statistics)
    return statistics


def _names(store, corpus, partition: int) -> list[str | None] | None:
    """Return the names of a partition's images; None where there are none, as in dumps of nothing but pixels."""
    from ingest.formats import record_offset
    from ingest.partition import read_names

    if record_offset(corpus.format, 0) is not None:
        return None
    names = read_names(store, corpus, partition)
    return names if any(names) else None


def _trained(store, corpus, run) -> np.ndarray | None:
    """Return the hashes of the images that a model was trained on; None where they aren't known, or without labels."""
    from storage.store import DamagedFileError
    from tagging.models import read_card
    from tagging.trained import read_trained

    try:
        return read_trained(store, read_card(store, run.model)) if corpus.classes else None
    except DamagedFileError:  # `tinytags evaluate` reports it; tags don't depend on it
        return None


def _winners(
    blocks: "Iterable[Voted]",
    describe: Callable[[np.ndarray], np.ndarray] | None = None,
    seen: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "Iterator[tuple[np.ndarray, Winners, np.ndarray, np.ndarray | None, np.ndarray | None]]":
    """Yield rows (n,), winners, labels (n,) and the results of ``describe`` and ``seen`` for up to `CHUNK_IMAGES` images at a time.

    Each block of 256 images is voted on as it arrives, still in the processor's cache. Bad records are left out.
    """
    from tagging.tags import winners

    count = 0
    rows: list[np.ndarray] = []
    votes: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    descriptors: list[np.ndarray] = []
    among: list[np.ndarray] = []

    def chunk():
        described = np.concatenate(descriptors) if describe else None
        trained = np.concatenate(among) if seen else None
        best = winners(np.concatenate(votes))
        return np.concatenate(rows), best, np.concatenate(labels), described, trained

    for block in blocks:
        good = slice(None) if block.bad is None else ~block.bad
        votes.append(block.votes[good])
        labels.append(block.labels[good])
        rows.append(np.arange(block.row, block.row + len(block.votes))[good])
        if describe and block.images is not None:
            descriptors.append(describe(block.images[good]))
        if seen and block.hashes is not None:
            among.append(seen(block.hashes[good]))
        count += len(rows[-1])
        if count >= min(CHUNK_IMAGES, CHUNK_VOTES // votes[0].shape[1]):
            yield chunk()
            count, rows, votes, labels, descriptors, among = 0, [], [], [], [], []
    if votes:
        yield chunk()


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.tag_images import main

    run(main)
