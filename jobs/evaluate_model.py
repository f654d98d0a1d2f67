"""Measure a model on a labelled corpus: how often its tags are right, at every threshold of confidence.

spark-submit --py-files dist/tinytags.zip jobs/evaluate_model.py --model forest-10 --corpus cifar-10-test
"""

import functools
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options
from conf.errors import LeaseHeldError, TinyTagsError
from conf.settings import Settings
from conf.wording import counted, listed
from storage.store import StoreError

# Of images that the model was trained on, up to so many are left out of a measurement; with more it is refused.
LEFT_OUT = 0.01


class TrainingDataError(TinyTagsError):
    """The images to measure on are those that the model was trained on: ``trained`` of ``images``; None where not counted."""

    def __init__(self, message: str, trained: int | None, images: int | None) -> None:
        super().__init__(message)
        self.trained, self.images = trained, images


@click.command("evaluate")
@click.option("--model", metavar="NAME", help="The model to measure.")
@click.option("--corpus", metavar="LABELLED", help="The corpus whose labels count as the truth.")
@click.option("--run", "run_name", metavar="RUN", help="Measure this run against --annotations instead.")
@click.option(
    "--annotations",
    metavar="NAME",
    help="Labels of the run's pictures, several an image, by the ids in their names.",
)
@click.option(
    "--descendants", is_flag=True, help="With --annotations: an image with a kind of a class has the class."
)
@click.option(
    "--training-data-too",
    is_flag=True,
    help="Measure on all images of the corpus, those that the model was trained on, too; such figures are too good, and marked.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also write the result to this HTML file, with plots and pictures.",
)
@settings_options("store", "webhdfs", "master")
@json_option
def main(
    corpus, model, run_name, annotations, descendants, training_data_too, report_file, settings, as_json
):
    """Measure a model on a labelled corpus.

    Prints accuracy, precision and recall of each class, and for each threshold of confidence how many tags would be kept
    and how many of these are right, with 95 % intervals. The result also goes into the model's card, and on its page.

    A corpus that says which images are for testing is measured by these. Measuring on images that the model was
    trained on is refused; a few of them in another corpus are left out.

    With --run and --annotations in place of --model and --corpus: precision and recall of each class of a run, where
    people verified classes of its pictures as present and absent.
    """
    if run_name or annotations:
        if not (run_name and annotations) or model or corpus or report_file:
            raise click.UsageError(
                "--run and --annotations go together, without --model, --corpus and --report"
            )
        _evaluate_run(settings, run_name, annotations, descendants, training_data_too, as_json)
        return
    if not (model and corpus) or descendants:
        raise click.UsageError("give --model and --corpus, or --run and --annotations")
    result = evaluate_model(settings, model, corpus, training_data_too, report_file)
    report(result, summary(result), as_json)


def _evaluate_run(settings, run_name, annotations, descendants, training_data_too, as_json) -> None:
    from jobs import evaluate_annotations as job

    result = job.evaluate_annotations(settings, run_name, annotations, descendants, training_data_too)
    report(result, job.summary(result), as_json)


def summary(result: dict) -> str:
    """Return the result of an evaluation as lines for people."""
    from tagging.evaluations import warning
    from tagging.quality import describe_all

    part = "the test part of " if result["part"] == "test" else ""
    lines = [f"model {result['model']} on {counted(result['images'], 'image')} of {part}{result['corpus']}"]
    if result["left_out"]:
        lines.append(f"{counted(result['left_out'], 'image')} that it was trained on left out")
    if mark := warning(result):
        lines.append(mark)
    lines.append(describe_all(result["quality"]))
    mistakes = result["confident_mistakes"][:5]
    if mistakes:
        lines.append("most confident mistakes (partition:row, label -> tag)")
        lines += [
            f"   {one['partition']}:{one['row']} {one['label']} -> {one['tag']} {one['confidence']:.0%}"
            for one in mistakes
        ]
    return "\n".join(lines)


def evaluate_model(
    settings: Settings, model: str, corpus: str, training_data_too: bool = False, report_file: Path | None = None
) -> dict:  # fmt: skip
    """Return the quality of a model on the labelled images of a corpus; add it to the model's card and write the report.

    Raises `TinyTagsError` for a corpus without labels, classes that the model does not have, partitions that can't be
    read, and `TrainingDataError` for images that the model was trained on, unless ``training_data_too``.
    """
    from ingest.corpus import open_corpus
    from jobs.partitions import partitions_error
    from jobs.runner import open_runner
    from storage.store import store_of
    from tagging.evaluations import record
    from tagging.mistakes import most_confident
    from tagging.models import load_model, read_card
    from tagging.quality import quality
    from tagging.report import html_report
    from tagging.tallies import total
    from tagging.trained import read_trained

    if report_file and not report_file.parent.is_dir():  # not after minutes of measuring
        raise TinyTagsError(f"there is no folder {report_file.parent} for the report {report_file.name}")
    store = store_of(settings)
    source = open_corpus(store, corpus)
    tagger, card = load_model(store, model), read_card(store, model)
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
    part = "test" if "test" in source.splits and not training_data_too else "all"
    same = (card.get("trained_on") or {}).get("corpus_hash") == source.hash
    if same and part == "all" and not training_data_too:
        raise _refused(model, corpus, None, None)
    if part == "test":
        note(f"evaluate: the test part of {corpus!r}, {counted(_rows(source.splits['test']), 'image')}")
    if read_trained(store, card) is None and not same:
        note(
            f"evaluate: model {model!r} has no hashes of its training images, so it isn't known whether {corpus!r} has some of them"
        )
    about = {key: card[key] for key in ("name", "hash", "trained_images") if key in card}
    task = functools.partial(count, store, source, about, part, training_data_too, kind=type(tagger))
    with open_runner(settings.master, f"evaluate {model}") as runner:
        partitions = [p for p in range(source.partitions) if rows_of(source, p, part).any()]
        results, errors, seconds = runner.run("evaluate", partitions, task, total=source.images)
    if errors:
        raise partitions_error("read", errors, source.partitions)
    tallies = [result["tally"] for result in results if result["tally"] is not None]
    trained = sum(result["trained"] for result in results)
    measured = quality(total(tallies), tagger.classes) if tallies else {"images": 0}
    if trained > LEFT_OUT * (measured["images"] + trained) and not training_data_too:
        raise _refused(model, corpus, trained, measured["images"] + trained)
    if not measured["images"]:
        raise TinyTagsError(
            f"corpus {corpus!r} has no labelled image" + (" in its test part" if part == "test" else "")
        )
    evaluation = {
        "corpus": corpus, "corpus_hash": source.hash, "part": part, "images": measured["images"],
        # None: some, but how many isn't known of a model without hashes.
        "training_images": (None if same and "trained_images" not in card else trained) if training_data_too else 0,
        "left_out": 0 if training_data_too else trained,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 3),
        "quality": measured,
        "confident_mistakes": most_confident(result["mistakes"] for result in results),
    }  # fmt: skip
    try:
        record(store, model, tagger.hash, evaluation)
    except (StoreError, LeaseHeldError) as error:  # the figures are worth their minutes without it
        note(f"evaluate: not added to the card of model {model!r}: {error}")
    if report_file:
        _write_report(report_file, html_report(store, source, card, evaluation))
        note(f"evaluate: the report is in {report_file}")
    return {"model": model, "model_hash": tagger.hash, **evaluation}


def _write_report(file: Path, html: str) -> None:
    try:
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise TinyTagsError(f"{file}: the report can't be written ({error.strerror})") from None


def _refused(model: str, corpus: str, trained: int | None, images: int | None) -> TrainingDataError:
    some = f"{trained:,} of the {images:,} labelled images" if images else "images"
    return TrainingDataError(
        f"model {model!r} was trained on {some} of {corpus!r}, so the figures would be too good; measure it on other images (its "
        "card has the quality on held-out ones), or add --training-data-too",
        trained,
        images,
    )


def _rows(split: tuple[int, int]) -> int:
    return split[1] - split[0]


def rows_of(corpus, partition: int, part: str) -> np.ndarray:
    """Return which rows of a partition are in a part of its corpus: (n,) bool."""
    rows = np.arange(*corpus.rows(partition))
    if part == "all":
        return np.ones(len(rows), bool)
    first, last = corpus.splits[part]
    return (rows >= first) & (rows < last)


def count(store, corpus, card: dict, part: str, training_data_too: bool, partition: int, kind=None) -> dict:
    """Return the `tagging.tallies.Tally` of a part's labelled images in a partition, and its most confident mistakes.

    Images that the model was trained on are counted as "trained" and, unless ``training_data_too``, not measured on.
    """
    from ingest.partition import read_partition
    from tagging.mistakes import find_mistakes, most_confident
    from tagging.models import load_exact_model
    from tagging.tags import renumbering, winners
    from tagging.tallies import count_winners, total
    from tagging.trained import are_among, read_trained
    from tagging.voting import kept_codes, votes_on

    tagger = load_exact_model(store, card["name"], card["hash"], kind)
    trained = read_trained(store, card)
    numbers = renumbering(corpus.classes, tagger.classes)
    chosen = rows_of(corpus, partition, part)
    codes = kept_codes(store, corpus, partition, tagger)
    tallies, mistakes, seen = [], [], 0
    for block in read_partition(store, corpus, partition):
        rows = np.flatnonzero(chosen[block.row : block.row + len(block.images)] & (block.labels >= 0))
        if trained is not None and len(rows):
            among = are_among(block.images[rows], trained)
            seen += int(among.sum())
            rows = rows if training_data_too else rows[~among]
        if not len(rows):
            continue
        labels = numbers[block.labels[rows]]
        own = None if codes is None else codes[block.row + rows]
        best = winners(votes_on(tagger, block.images[rows], own))
        tallies.append(count_winners(best, labels, len(tagger.classes), tagger.voters))
        mistakes.append(
            find_mistakes(best, labels, tagger.classes, tagger.voters, partition, block.row + rows)
        )
    return {
        "images": int(chosen.sum()),
        "tally": total(tallies) if tallies else None,
        "trained": seen,
        "mistakes": most_confident(mistakes),
    }


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.evaluate_model import main

    run(main)
