"""Verification of a run, with every repair that there is: of the index, the tags and the corpus."""

from typing import Any

from conf.command import note
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted
from indexing.solr import Solr
from storage import layout
from storage.store import Store


def verify(settings: Settings, run_name: str, repair: bool) -> dict[str, Any]:
    """Return the result of `verify_run`; with ``repair``, after ingesting, tagging and indexing again what needs it."""
    from indexing.index_annotations import verify_annotations
    from indexing.verify import verify_run
    from storage.store import store_of

    store = store_of(settings)
    solr = Solr(settings.solr)
    if store.exists(layout.annotations_manifest(run_name)) and not store.exists(
        layout.run_manifest(run_name)
    ):
        return verify_annotations(store, run_name, solr, repair)
    before: dict[str, Any] = verify_run(store, run_name, solr, repair)
    if not repair or not (before["needs_ingest"] or before["needs_tagging"]):
        return before
    for step in (_ingest_again, _tag_again, _index_again):
        try:
            step(settings, store, solr, run_name, before)
        except TinyTagsError as error:  # the next steps repair what they can
            note(f"verify: {error}")
    after: dict[str, Any] = verify_run(store, run_name, solr)
    left = {_key(problem) for problem in after["problems"]}
    for problem in before["problems"]:
        problem["mended"] = _key(problem) not in left
    known = {_key(problem) for problem in before["problems"]}
    new = [problem for problem in after["problems"] if _key(problem) not in known]
    return after | {"problems": before["problems"] + new}


def _key(problem: dict[str, Any]) -> tuple[str, int | None]:
    return problem["kind"], problem["partition"]


def _ingest_again(
    settings: Settings, store: Store, _solr: Solr | None, run_name: str, result: dict[str, Any]
) -> None:
    from ingest.corpus import open_corpus
    from jobs.partitions import partitions_error
    from jobs.split_dump import split_dump
    from storage.runs import open_run

    if not result["needs_ingest"]:
        return
    corpus = open_corpus(store, open_run(store, run_name).corpus)
    note(f"verify: splitting {counted(len(result['needs_ingest']), 'partition')} of {corpus.dump} again")
    split = split_dump(
        settings, corpus.dump, corpus.name, corpus.format, corpus.partition_images, corpus.labels,
        corpus.classes, redo=[(p, p) for p in result["needs_ingest"]],
    )  # fmt: skip
    if split["failed"]:
        raise partitions_error("split", split["failed"], corpus.partitions)


def _tag_again(settings: Settings, store: Store, _solr: Solr, run_name: str, result: dict[str, Any]) -> None:
    from ingest.corpus import open_corpus
    from jobs.tag_images import tag_images
    from storage.runs import open_run
    from tagging import descriptor
    from tagging.models import load_model

    if not result["needs_tagging"]:
        return
    run = open_run(store, run_name)
    hashes = open_corpus(store, run.corpus).hash, load_model(store, run.model).hash
    if hashes != (run.corpus_hash, run.model_hash):
        raise TinyTagsError(
            f"corpus {run.corpus!r} or model {run.model!r} is not the one of run {run_name}; "
            f"`tinytags tag --corpus {run.corpus} --model {run.model}` makes a new run"
        )
    if run.descriptor not in (None, descriptor.NAME):
        raise TinyTagsError(
            f"run {run_name} has descriptors {run.descriptor!r}, this version computes {descriptor.NAME!r}; "
            f"`tinytags tag --similar` makes a new run"
        )
    note(f"verify: tagging {counted(len(result['needs_tagging']), 'partition')} of {run.corpus} again")
    tag_images(settings, run.corpus, run.model, run.min_confidence, similar=run.descriptor is not None)


def _index_again(
    _settings: Settings, store: Store, solr: Solr, run_name: str, _result: dict[str, Any]
) -> None:
    from indexing.index import index_run

    index_run(store, run_name, solr, "", publication="no")
