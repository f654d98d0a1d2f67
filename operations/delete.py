"""Deletes a corpus, a model or a run from the store, and a run from Solr, once it is clear what refers to it."""

from collections.abc import Callable
from typing import Any, Literal

import click

from conf.command import json_option, report, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import listed
from storage import layout
from storage.store import Store

Kind = Literal["corpus", "model", "run"]

# The folder of each kind, its manifest, and the lease of its writer.
_PLACES: dict[Kind, tuple[Callable[[str], str], Callable[[str], str], Callable[[str], str]]] = {
    "corpus": (layout.corpus_folder, layout.corpus_manifest, layout.corpus_lease),
    "model": (layout.model_folder, layout.model_card, layout.model_lease),
    "run": (layout.run_folder, layout.run_manifest, layout.run_lease),
}
_NAMED = 5


@click.command("delete")
@click.argument("kind", type=click.Choice(["corpus", "model", "run"]))
@click.argument("name")
@click.option(
    "--force",
    is_flag=True,
    help="Even where runs refer to it, or the page shows it, or Solr does not answer.",
)
@settings_options("store", "webhdfs", "solr")
@json_option
def main(kind: Kind, name: str, force: bool, settings: Settings, as_json: bool) -> None:
    """Delete a corpus, a model or a run, with all its files.

    A run is deleted from Solr, too. Nothing is deleted while something refers to it: runs to a corpus or a model, an alias to a run. The references are named;
    with --force it is deleted nevertheless. Models that were trained on a corpus stay usable, and are named. Labels that people gave stay in the database.
    """
    result = delete(settings, kind, name, force)
    lines = [f"{kind} {name} is deleted"]
    if result["left_in_solr"]:
        lines[0] += f" from the store, and may still be in Solr ({result['left_in_solr']})"
        lines.append(f"`tinytags retire {name}` removes it there once Solr answers")
    if result["refer"]:
        lines.append(f"{listed(result['refer'], _NAMED)} referred to it")
    if result["models"]:
        lines.append(_trained(result["models"]))
    report(result, "; ".join(lines), as_json)


def delete(settings: Settings, kind: Kind, name: str, force: bool = False) -> dict[str, Any]:
    """Delete a corpus, a model or a run; return {"kind", "name", "refer", "models", "left_in_solr"}.

    "refer" are the names of the runs or aliases that referred to it, "models" those that were trained on a corpus, and "left_in_solr" is
    why it isn't known whether a run is still in Solr, or None.

    Raises `TinyTagsError` for a name that the store doesn't have, and without ``force`` where something refers to it; `LeaseHeldError`
    while it is being written.
    """
    from storage.lease import lease
    from storage.store import check_name, store_of

    store = store_of(settings)
    check_name(kind, name)
    folder, manifest, writer = (place(name) for place in _PLACES[kind])
    # One that was deleted in part, or whose manifest is damaged, can be deleted, too.
    if not store.list(folder):
        raise TinyTagsError(f"no {kind} {name!r} in {store.url()}; `tinytags status` lists what there is")
    refer = _published(settings, name, force) if kind == "run" else _runs(store, kind, name)
    models = _models(store, name) if kind == "corpus" else []
    if refer and not force:
        what = "is shown by alias" if kind == "run" else "is that of"
        fix = (
            "`tinytags publish` another run first"
            if kind == "run"
            else "`tinytags delete run RUN` deletes these first"
        )
        trained = f"; {_trained(models)}" if models else ""
        raise TinyTagsError(f"{kind} {name!r} {what} {listed(refer, _NAMED)}{trained}; {fix}, or use --force")
    left_in_solr = None
    with lease(store, writer, f"{kind} {name!r}"):
        if kind == "run":
            left_in_solr = _drop_from_solr(settings, store, name, refer, force)
        store.remove(manifest)  # first: without it the rest is not read
        if kind == "corpus":
            store.remove_tree(layout.comparisons(name))
        store.remove_tree(folder)
    return {"kind": kind, "name": name, "refer": refer, "models": models, "left_in_solr": left_in_solr}


def _trained(models: list[str]) -> str:
    """Say what models lose without the corpus that they were trained on."""
    return (
        f"{listed(models, _NAMED)} {'was' if len(models) == 1 else 'were'} trained on it, and "
        f"{'stays' if len(models) == 1 else 'stay'} usable, but can't be trained or measured on it again"
    )


def _models(store: Store, corpus: str) -> list[str]:
    """Return the models that were trained on a corpus. Raises `StoreError` where a card can't be read now."""
    from storage.store import DamagedFileError, StoreError
    from tagging.models import list_models, read_card

    models = []
    for model in list_models(store):
        try:
            trained_on = read_card(store, model).get("trained_on") or {}
        except TinyTagsError as error:
            if isinstance(error, StoreError) and not isinstance(error, DamagedFileError):
                raise
            continue  # damaged: `tinytags status` reports it
        if trained_on.get("corpus") == corpus:
            models.append(model)
    return models


def _runs(store: Store, kind: Kind, name: str) -> list[str]:
    """Return the runs of a corpus or of a model. Raises `StoreError` where a run can't be read now: it may be one of them."""
    from storage.runs import list_runs, open_run
    from storage.store import DamagedFileError, StoreError

    runs = []
    for run_name in list_runs(store):
        try:
            run = open_run(store, run_name)
        except TinyTagsError as error:
            if isinstance(error, StoreError) and not isinstance(error, DamagedFileError):
                raise
            continue  # damaged: `tinytags status` reports it
        if name == (run.corpus if kind == "corpus" else run.model):
            runs.append(run_name)
    return runs


def _published(settings: Settings, run_name: str, force: bool) -> list[str]:
    """Return the aliases that show a run; without an answer of Solr none, by ``force``. Raises `TinyTagsError`."""
    from indexing.solr import Solr
    from indexing.solr_errors import SolrError

    try:
        aliases = Solr(settings.solr).aliases()
    except SolrError as error:
        if force:
            return []
        raise TinyTagsError(
            f"whether run {run_name!r} is published is not known: {error} (or use --force)"
        ) from error
    return [alias for alias, runs in aliases.items() if run_name in runs]


def _drop_from_solr(
    settings: Settings, store: Store, run_name: str, aliases: list[str], force: bool
) -> str | None:
    """Drop a run's collection; with ``force`` return why Solr could not do it, where it could not."""
    from indexing.publishing import retire
    from indexing.solr import Solr
    from indexing.solr_errors import SolrError

    solr = Solr(settings.solr)
    try:
        if solr.exists(run_name):
            retire(store, run_name, solr, aliases[0] if aliases else settings.alias, force)
    except SolrError as error:
        if not force:
            raise
        return str(error)
    return None
