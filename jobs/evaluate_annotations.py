"""Measure a run against annotations: precision and recall of each class where an image may have several labels."""

import functools
from collections import defaultdict
from typing import Any

import numpy as np

from conf.command import note
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, listed

TEXT_CLASSES = 20
# A record of the corpus, the id of its image, and the places of the classes that are present and absent.
Fact = tuple[int, str, list[int], list[int]]


def evaluate_annotations(
    settings: Settings, run_name: str, name: str, descendants: bool = False, training_data_too: bool = False
) -> dict[str, Any]:
    """Return precision and recall of a run's tags on the images of its corpus whose names are ids of annotations.

    Of the run's classes those count that annotations have, by name in any case. With ``descendants`` an image with a kind of a
    class has the class. Images that the model was trained on are left out, unless ``training_data_too``. Raises
    `TinyTagsError` for a run that isn't complete, classes that have nothing in common, and images that haven't.
    """
    from ingest.annotations.classes import read_classes
    from ingest.annotations.labels import choose_classes, open_complete
    from ingest.corpus import open_corpus
    from ingest.names import check_names
    from jobs.partitions import partitions_error
    from jobs.runner import open_runner
    from storage.documents import done_partitions
    from storage.runs import open_run
    from storage.store import store_of
    from tagging.multi_label import multi_label_quality

    store = store_of(settings)
    run, annotations = open_run(store, run_name), open_complete(store, name)
    corpus = open_corpus(store, run.corpus)
    if missing := run.partitions - len(done_partitions(store, run)):
        raise TinyTagsError(
            f"run {run_name!r} lacks {counted(missing, 'partition')}; `tinytags tag` writes what is missing"
        )
    if corpus.hash != run.corpus_hash:
        raise TinyTagsError(f"corpus {run.corpus!r} is not the one of run {run_name!r}; tag it again")
    check_names(store, corpus)
    classes = read_classes(store, name)
    known = [one for one in run.classes if one in classes.names or classes.labels(one) != [one]]
    if not known:
        raise TinyTagsError(
            f"annotations {name!r} have none of the classes of run {run_name!r}: {listed(run.classes, 10)}"
        )
    if others := [one for one in run.classes if one not in known]:
        note(f"evaluate: not in annotations {name!r}, and not measured: {listed(others, 10)}")
    own, wide = choose_classes(classes, known), choose_classes(classes, known, descendants)
    card = None if training_data_too else _card(store, run)
    with open_runner(settings.master, f"evaluate {run_name}") as runner:
        task = functools.partial(verified, store, annotations, own, wide, corpus.name)
        results, errors, first = runner.run(
            "labels", list(range(annotations.partitions)), task, unit="partitions"
        )
        if errors:
            raise partitions_error("read", errors, annotations.partitions)
        facts: dict[int, list[Fact]] = defaultdict(list)
        for result in results:
            for fact in result["facts"]:
                facts[fact[0] // corpus.partition_images].append(fact)
        task = functools.partial(compare, store, run, corpus, dict(facts), known, card)
        results, errors, second = runner.run("evaluate", sorted(facts), task, unit="partitions")
    if errors:
        raise partitions_error("read", errors, corpus.partitions)
    images, left_out = (sum(result[key] for result in results) for key in ("measured", "left_out"))
    if not images:
        raise TinyTagsError(
            f"corpus {corpus.name!r} has no picture whose name is the id of an image in annotations {name!r} with a verified class"
            + (f", but for {counted(left_out, 'image')} that the model was trained on" if left_out else "")
        )
    total = np.array([result["counts"] for result in results], np.int64).sum(axis=0)
    return {
        "run": run_name, "model": run.model, "model_hash": run.model_hash, "annotations": name, "annotations_hash": annotations.hash,
        "images": images, "left_out": left_out, "descendants": descendants, "training_data_too": training_data_too,
        "not_measured": others, "seconds": round(first + second, 3), **multi_label_quality(total, known),
    }  # fmt: skip


def _card(store, run) -> dict[str, Any] | None:
    """Return of a model's card what names the images it was trained on; None, with a note, where that isn't known."""
    from storage.store import FileUnavailableError, StoreUnavailableError
    from tagging.models import read_card

    try:
        card = read_card(store, run.model)
    except (FileUnavailableError, StoreUnavailableError):
        raise
    except TinyTagsError:
        card = {}
    if card.get("hash") != run.model_hash or "trained_images" not in card:
        note(
            f"evaluate: it isn't known which images model {run.model!r} was trained on, so none of them is left out"
        )
        return None
    return {key: card[key] for key in ("name", "hash", "trained_images")}


def verified(store, annotations, own, wide, corpus: str, partition: int) -> dict:
    """Return under "facts" what people verified of the images of a partition that a corpus has pictures of."""
    from ingest.annotations.labels import read_images
    from ingest.names import read_index, records_of

    index = read_index(store, corpus)
    facts: list[Fact] = []
    for document in read_images(store, annotations, partition):
        present = wide.among(document.get("classes", ()))
        # A class that is present by one and absent by another is present.
        absent = sorted(set(own.among(document.get("absent", ()))) - set(present))
        if present or absent:
            facts += [
                (record, document["id"], present, absent) for record in records_of(index, document["id"])
            ]
    return {"partition": partition, "facts": facts}


def compare(store, run, corpus, facts: dict[int, list[Fact]], names: list[str], card, partition: int) -> dict:
    """Return the counts of a partition, (classes, 5) by `tagging.multi_label.COLUMNS`, as lists; bad records are not counted."""
    from ingest.names import stem
    from ingest.partition import read_partition
    from storage.documents import read_documents
    from tagging.trained import are_among, read_trained

    first = corpus.rows(partition)[0]
    by_row = {fact[0] - first: fact for fact in facts[partition]}
    tags = {
        one["row"]: names.index(one["tag"])
        for one in read_documents(store, run, partition)
        if one["tag"] in names
    }
    trained = read_trained(store, card) if card else None
    counts = np.zeros((len(names), 5), np.int64)
    measured = left_out = 0
    for block in read_partition(store, corpus, partition, names=True):
        for row in range(block.row, block.row + len(block.images)):
            if row not in by_row:
                continue
            _, image, present, absent = by_row[row]
            at = row - block.row
            if not block.good[at] or not block.names or stem(block.names[at] or "") != image:
                continue
            if trained is not None and are_among(block.images[at : at + 1], trained)[0]:
                left_out += 1
                continue
            measured += 1
            counts[present, 0] += 1
            counts[absent, 1] += 1
            if (tag := tags.get(row)) is not None:
                counts[tag, 2 if tag in present else 3 if tag in absent else 4] += 1
    return {"partition": partition, "measured": measured, "left_out": left_out, "counts": counts.tolist()}


def summary(result: dict[str, Any]) -> str:
    """Return the result as lines for people."""
    from tagging.multi_label import describe

    lines = [
        f"run {result['run']} on {counted(result['images'], 'image')} with verified classes in {result['annotations']}"
    ]
    if result["left_out"]:
        lines.append(f"{counted(result['left_out'], 'image')} that the model was trained on left out")
    if result["training_data_too"]:
        lines.append("images that the model was trained on are among them: these figures are too good")
    return "\n".join([*lines, describe(result, TEXT_CLASSES)])
