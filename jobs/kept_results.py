"""Results of tasks that stay in the store, each under a name that is derived from what decides it."""

import hashlib
import json
from typing import Any

from conf.command import note
from conf.settings import Settings
from conf.wording import counted
from jobs.partitions import check_written
from jobs.runner import Task, open_runner
from storage import layout
from storage.store import Store

# Another result of the same command needs another number, or those of an earlier version are used in its place.
VERSION = 1


def kept_results(
    settings: Settings, store: Store, corpus: str, what: str, facts: list[dict[str, Any]], task: Task
) -> list[dict[str, Any]]:
    """Return a result for each of ``facts``: the one that the store has, else that of ``task`` for its number.

    The name of a result's file is derived from its facts, so that other facts never get it; a task writes the file whole.
    Two processes that fit the same write the same file.
    """
    there = set(store.list(layout.comparisons(corpus)))
    paths = [result_path(corpus, fact) for fact in facts]
    pending = [number for number, path in enumerate(paths) if path.rpartition("/")[2] not in there]
    if len(pending) < len(facts):
        note(f"compare: {len(facts) - len(pending):,} of {counted(len(facts), 'result')} kept from before")
    if pending:
        with open_runner(settings.master, f"compare {corpus}") as runner:
            outcomes = runner.run("compare", pending, task, unit=what, total=len(pending))
        if outcomes.errors:
            raise outcomes.errors[min(outcomes.errors)]
        done = [number for number, path in enumerate(paths) if store.exists(path)]
        check_written(store, outcomes.results, done)
    return [store.read_json(path)["result"] for path in paths]


def result_path(corpus: str, facts: dict[str, Any]) -> str:
    """Return the path of the result of these facts."""
    key = hashlib.sha256(json.dumps([VERSION, facts], sort_keys=True).encode()).hexdigest()[:32]
    return layout.comparison(corpus, key)
