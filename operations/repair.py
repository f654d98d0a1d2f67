"""Verifying a run with all that can mend it: the index, the tagging and the dump."""

from conf.command import note
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted


def verify(settings: Settings, run_name: str, repair: bool) -> dict:
    """Return what `verify_run` finds; with ``repair``, after ingesting, tagging and indexing again what needs it."""
    from indexing.solr import Solr
    from indexing.verify import verify_run
    from storage.store import open_store

    store = open_store(settings.store, settings.webhdfs or None)
    solr = Solr(settings.solr)
    found = verify_run(store, run_name, solr, repair)
    if not repair or not (found["needs_ingest"] or found["needs_tagging"]):
        return found
    for step in (_ingest_again, _tag_again, _index_again):
        try:
            step(settings, store, solr, run_name, found)
        except (
            TinyTagsError
        ) as error:  # what one step can't mend must not keep the next from mending the rest
            note(f"verify: {error}")
    after = verify_run(store, run_name, solr)
    left = {(problem["kind"], problem["partition"]) for problem in after["problems"]}
    for problem in found["problems"]:
        problem["mended"] = (problem["kind"], problem["partition"]) not in left
    known = {(problem["kind"], problem["partition"]) for problem in found["problems"]}
    new = [problem for problem in after["problems"] if (problem["kind"], problem["partition"]) not in known]
    return after | {"problems": found["problems"] + new}


def _ingest_again(settings: Settings, store, _solr, run_name: str, found: dict) -> None:
    from ingest.corpus import open_corpus
    from jobs.session import failed_partitions
    from jobs.split_dump import split_dump
    from storage.runs import open_run

    if not found["needs_ingest"]:
        return
    corpus = open_corpus(store, open_run(store, run_name).corpus)
    note(f"verify: splitting {counted(len(found['needs_ingest']), 'partition')} of {corpus.dump} again")
    result = split_dump(
        settings, corpus.dump, corpus.name, corpus.format, corpus.partition_images, corpus.labels,
        corpus.classes, redo=[(p, p) for p in found["needs_ingest"]],
    )  # fmt: skip
    if result["failed"]:
        raise failed_partitions("split", result["failed"], corpus.partitions)


def _tag_again(settings: Settings, store, _solr, run_name: str, found: dict) -> None:
    from ingest.corpus import open_corpus
    from jobs.tag_images import tag_images
    from storage.runs import open_run
    from tagging import descriptor
    from tagging.models import load_model

    if not found["needs_tagging"]:
        return
    run = open_run(store, run_name)
    hashes = open_corpus(store, run.corpus).hash, load_model(store, run.model).hash
    if hashes != (run.corpus_hash, run.model_hash):
        raise TinyTagsError(
            f"corpus {run.corpus!r} or model {run.model!r} is not the one that made run {run_name}; "
            f"`tinytags tag --corpus {run.corpus} --model {run.model}` makes a run of these"
        )
    if run.descriptor not in (None, descriptor.NAME):
        raise TinyTagsError(
            f"run {run_name} describes its images by {run.descriptor!r}, this version by {descriptor.NAME!r}; "
            f"`tinytags tag --similar` makes a run that it can mend"
        )
    note(f"verify: tagging {counted(len(found['needs_tagging']), 'partition')} of {run.corpus} again")
    tag_images(settings, run.corpus, run.model, run.min_confidence, similar=run.descriptor is not None)


def _index_again(_settings: Settings, store, solr, run_name: str, _found: dict) -> None:
    from indexing.index import index_run

    index_run(store, run_name, solr, "", publication="no")
