"""Runs `tinytags index` through a proxy that fails in one way; it completes the index, or ends with one clear error."""

from urllib.parse import urlsplit

from campaign.attack import Outcome
from campaign.place import Place
from campaign.proxy import MODES, Proxy

# How often a mode fails in one command, where that isn't 4 times.
FAULTS = {"stall": 1}


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a traceback, a success with an index that differs from the files, or a repetition that does not complete it."""
    outcome, run = Outcome(progress=place.progress), place.make_run("faults")
    port, first, clean = urlsplit(place.solr.url).port or 0, place.random.randrange(len(MODES)), 0
    for number in range(tries):
        mode = MODES[(first + number) % len(MODES)]
        place.drop(run)
        with Proxy(port, mode, FAULTS.get(mode, 4), place.random.randrange(1 << 30)) as proxy:
            ended = place.run("index", run.name, solr=proxy.address)
        outcome.count()
        if ended.traceback:
            outcome.lost(f"{mode}: traceback: {ended.last_line}")
        if ended.code:
            clean += 1
            ended = place.run("index", run.name)
        if ended.code:
            outcome.lost(f"{mode}: the second command ends with {ended.code}: {ended.last_line}")
        elif difference := place.difference(run):
            outcome.lost(f"{mode}: {difference}")
    outcome.notes.append(f"{clean} ended with an error, and the next command completed them")
    place.drop(run)
    return outcome
