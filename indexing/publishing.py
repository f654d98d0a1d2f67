"""The alias, which the page searches: a run is published by it until another one is, or the run is retired."""

import contextlib
from typing import Any

from conf.errors import TinyTagsError
from indexing.expected import read_expected
from indexing.solr import Solr
from storage import layout
from storage.lease import lease
from storage.runs import open_run
from storage.store import Store


def publish(store: Store, run_name: str, solr: Solr, alias: str) -> dict[str, Any]:
    """Point the alias to a run, in one step. Raises `TinyTagsError` unless the index holds all of it."""
    run = open_run(store, run_name)
    if not solr.exists(run.name):
        raise TinyTagsError(
            f"run {run.name!r} is not in Solr at {solr.url}; index it with `tinytags index {run.name}`"
        )
    solr.commit(run.name)
    left = read_expected(store, run).differences(solr.counts(run.name))
    if left:
        raise TinyTagsError(
            f"run {run.name!r} is not complete: {'; '.join(left)}; complete and publish it with `tinytags index {run.name}`"
        )
    previous = solr.alias(alias)
    point_alias(solr, alias, run.name)
    return {"run": run.name, "alias": alias, "previous": previous, "published": True}


def retire(store: Store, run_name: str, solr: Solr, alias: str, force: bool = False) -> dict[str, Any]:
    """Drop a run's collection; its files stay in the store. Works too when the store no longer has the run.

    Raises `TinyTagsError` for a collection that doesn't exist or isn't TinyTags', and, unless ``force``, for one that is
    published; with ``force`` it is removed from the alias.
    """
    if not solr.exists(run_name):
        names = [name for name in solr.collections() if _is_ours(solr, name)]
        known = f"there are {', '.join(names)}" if names else "there is none"
        raise TinyTagsError(f"no run {run_name!r} in Solr at {solr.url}; {known}")
    if not _is_ours(solr, run_name):
        raise TinyTagsError(
            f"collection {run_name!r} of Solr at {solr.url} was not created by TinyTags, so it is not dropped"
        )
    targets = solr.alias(alias)
    if run_name in targets and not force:
        raise TinyTagsError(
            f"run {run_name!r} is published as alias {alias!r}; `tinytags publish` another one first, or use --force"
        )
    in_store = store.exists(layout.run_manifest(run_name))
    writing = lease(store, layout.run_index_lease(run_name), f"the index of run {run_name!r}")
    with writing if in_store else contextlib.nullcontext():
        others = [name for name in targets if name != run_name]
        if run_name in targets:
            solr.set_alias(alias, others) if others else solr.delete_alias(alias)
        solr.delete(run_name)
    return {"run": run_name, "alias": alias, "shown": others, "retired": True}


def point_alias(solr: Solr, alias: str, name: str, beside: bool = False) -> None:
    targets = solr.alias(alias)
    wanted = [*targets, *([name] if name not in targets else [])] if beside else [name]
    if targets != wanted:
        solr.set_alias(alias, wanted)


def _is_ours(solr: Solr, collection: str) -> bool:
    return str(solr.describe(collection)["configName"]).startswith("tags-")
