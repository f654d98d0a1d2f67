"""The alias, which the page searches: a run is published by it until another one is, or the run is retired."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from conf.errors import LeaseHeldError, TinyTagsError
from indexing.expected import read_expected
from indexing.solr import Solr
from storage import layout
from storage.lease import lease
from storage.runs import open_run
from storage.store import Store, check_name

# Seconds that a command waits for others that move the same alias: each needs a moment, a retirement longer.
ALIAS_SECONDS = 60
# So often an alias is moved that a program without the lease moves at the same time.
ATTEMPTS = 3


def publish(
    store: Store, run_name: str, solr: Solr, alias: str, instead_of: Collection[str] | None = None
) -> dict[str, Any]:
    """Point the alias to a run, in one step; with ``instead_of`` only these runs leave the alias, by default all others.

    Raises `TinyTagsError` unless the index holds all of it.
    """
    run = open_run(store, run_name)
    check_names(store, solr, run.name, alias)
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
    previous = point_alias(store, solr, alias, run.name, instead_of=instead_of)
    return {"run": run.name, "alias": alias, "previous": previous, "published": True}


def retire(store: Store, run_name: str, solr: Solr, alias: str, force: bool = False) -> dict[str, Any]:
    """Drop a run's collection; its files stay in the store. Works too when the store no longer has the run.

    Raises `TinyTagsError` for a collection that doesn't exist or isn't TinyTags', for one that another alias points to,
    and, unless ``force``, for one that is published; with ``force`` it is removed from the alias.
    """
    check_names(store, solr, run_name, alias)
    if not solr.exists(run_name):
        names = [name for name in solr.collections() if _is_ours(solr, name)]
        known = f"there are {', '.join(names)}" if names else "there is none"
        raise TinyTagsError(f"no run {run_name!r} in Solr at {solr.url}; {known}")
    if not _is_ours(solr, run_name):
        raise TinyTagsError(
            f"collection {run_name!r} of Solr at {solr.url} was not created by TinyTags, so it is not dropped"
        )
    in_store = store.exists(layout.run_manifest(run_name))
    writing = lease(store, layout.run_index_lease(run_name), f"the index of run {run_name!r}")
    with writing if in_store else contextlib.nullcontext(), _alias_lease(store, alias) as check_lease:
        pointing = [name for name, targets in solr.aliases().items() if run_name in targets]
        others = [name for name in pointing if name != alias]
        if others:
            raise TinyTagsError(
                f"run {run_name!r} is also published as alias {others[0]!r}; retire it with --alias {others[0]}"
            )
        if pointing and not force:
            raise TinyTagsError(
                f"run {run_name!r} is published as alias {alias!r}; `tinytags publish` another one first, or use --force"
            )
        left = [name for name in solr.alias(alias) if name != run_name]
        if pointing:
            _move(solr, alias, lambda targets: [name for name in targets if name != run_name], check_lease)
        check_lease()
        solr.delete(run_name)
    return {"run": run_name, "alias": alias, "shown": left, "retired": True}


def check_names(store: Store, solr: Solr, run_name: str, alias: str = "") -> None:
    """Raise `TinyTagsError` where an alias has the name of a run or a collection: Solr would confuse the two.

    For every command that writes to Solr, before it does; an empty ``alias`` is none.
    """
    if alias:
        check_name("alias", alias)
        if alias == run_name or store.exists(layout.run_manifest(alias)):
            raise TinyTagsError(f"alias {alias!r} is the name of a run; give another one as --alias")
        if alias in solr.collections():
            raise TinyTagsError(
                f"alias {alias!r} is the name of a collection in Solr at {solr.url}; give another one as --alias"
            )
    if run_name in solr.aliases():
        raise TinyTagsError(
            f"run {run_name!r} has the name of an alias in Solr; delete the alias: "
            f"{solr.url}/admin/collections?action=DELETEALIAS&name={run_name}"
        )


def point_alias(
    store: Store,
    solr: Solr,
    alias: str,
    name: str,
    check_lease: Callable[[], None] | None = None,
    beside: bool = False,
    instead_of: Collection[str] | None = None,
) -> list[str]:
    """Point the alias to a run, with ``beside`` to this one too; return what it pointed to before.

    With ``instead_of`` only these leave it.

    One step: others that move the alias wait, or are waited for. ``check_lease`` raises where the caller may no longer
    write. Raises `LeaseHeldError` after a minute of waiting, and `TinyTagsError` where a program that doesn't wait moves
    the alias again and again.
    """
    with _alias_lease(store, alias) as check_alias_lease:

        def check() -> None:
            check_alias_lease()
            if check_lease:
                check_lease()
            check_names(store, solr, name, alias)

        def wanted(targets: list[str]) -> list[str]:
            leave = () if beside else targets if instead_of is None else instead_of
            kept = [target for target in targets if target not in leave or target == name]
            return kept if name in kept else [*kept, name]

        return _move(solr, alias, wanted, check)


def _move(
    solr: Solr, alias: str, wanted: Callable[[list[str]], list[str]], check: Callable[[], None]
) -> list[str]:
    """Point the alias to ``wanted(its targets)``, and read it again; return its first targets."""
    first = targets = solr.alias(alias)
    for _ in range(ATTEMPTS):
        names = wanted(targets)
        if targets == names:
            return first
        check()
        if names:
            solr.set_alias(alias, names)
        else:
            solr.delete_alias(alias)
        targets = solr.alias(alias)
    if targets != wanted(targets):
        raise TinyTagsError(
            f"alias {alias!r} of Solr at {solr.url} points to {', '.join(targets) or 'nothing'} after it was moved; is "
            "another program moving it?"
        )
    return first


@contextlib.contextmanager
def _alias_lease(store: Store, alias: str) -> Iterator[Callable[[], None]]:
    """Hold the lease of an alias, once others have released it."""
    until = time.monotonic() + ALIAS_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                check = stack.enter_context(lease(store, layout.alias_lease(alias), f"alias {alias!r}"))
                break
            except LeaseHeldError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)
        yield check


def _is_ours(solr: Solr, collection: str) -> bool:
    return str(solr.describe(collection)["configName"]).startswith(("tags-", "annotations-"))
