"""Delivers every delete of a redo once more after the command has ended, as a network does that repeats a request late."""

import json
from urllib.parse import urlsplit

from campaign.attack import Outcome
from campaign.place import Place
from campaign.proxy import Proxy


def attack(place: Place, tries: int) -> Outcome:
    """Lost: documents of the run that are gone after the late delivery."""
    outcome, run = Outcome(progress=place.progress), place.make_run("delayed")
    place.must("index", run.name)
    late = 0
    for _ in range(tries):
        # Documents too many, so that there is something to delete.
        surplus = [{"id": f"{run.prefix}:{p}:{10**6}", "partition": p, "row": 10**6, "run": run.name, "corpus": run.corpus,
                    "tag": "frog", "confidence": 0.5, "model": run.model} for p in range(run.partitions)]  # fmt: skip
        place.client.update(run.name, json.dumps(surplus).encode())
        place.client.commit(run.name)
        with Proxy(urlsplit(place.solr.url).port or 0, hold=b'"delete"') as proxy:
            ended = place.run("index", run.name, "--partition", f"0-{run.partitions - 1}", solr=proxy.address)
            outcome.count()
            if ended.code or (difference := place.difference(run)):
                outcome.lost(
                    f"the redo ends with {ended.code}: {ended.last_line if ended.code else difference}"
                )
            late += proxy.deliver()
        place.client.commit(run.name)
        if difference := place.difference(run):
            outcome.lost(f"after the late delivery: {difference}")
            place.must("index", run.name)
    outcome.notes.append(f"{late} deletes delivered late")
    place.drop(run)
    return outcome
