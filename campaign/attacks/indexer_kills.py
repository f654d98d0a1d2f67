"""Kills `tinytags index` at random moments; the same command again completes the index."""

import time

from campaign.attack import Outcome
from campaign.place import ALIAS, Place


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a run that is shown while documents of it are missing, or that is not complete after the second command."""
    outcome, run = Outcome(progress=place.progress), place.make_run("indexer")
    seconds = place.must("index", run.name).seconds
    for _ in outcome.attempts(tries):
        place.drop(run)
        indexing = place.start("index", run.name)
        time.sleep(place.moment(seconds))
        if not indexing.kill():
            continue  # too late: it had ended
        outcome.count()
        if place.client.alias(ALIAS) and (difference := place.difference(run)):
            outcome.lost(f"shown too early: {difference}")
        again = place.run("index", run.name)
        if again.code or again.traceback:
            outcome.lost(f"the second command ends with {again.code}: {again.last_line}")
        elif difference := place.difference(run):
            outcome.lost(difference)
        elif place.client.alias(ALIAS) != [run.name]:
            outcome.lost("complete, but not shown")
    place.drop(run)
    return outcome
