"""Kills Solr while `tinytags index` runs, and starts it again; the command waits for it and completes the index."""

import time

from campaign.attack import Outcome
from campaign.place import Place


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a command that does not complete the index, or an index that differs from the files."""
    outcome, run = Outcome(progress=place.progress), place.make_run("solr")
    seconds = place.must("index", run.name).seconds
    for _ in outcome.attempts(tries):
        place.drop(run)
        indexing = place.start("index", run.name)
        time.sleep(place.moment(seconds))
        if indexing.process.poll() is not None:
            continue  # too late: it had ended
        place.solr.kill()
        place.solr.start()
        ended = indexing.wait()
        outcome.count()
        if ended.traceback:
            outcome.lost(f"traceback: {ended.last_line}")
        if ended.code:  # one clear error is allowed where Solr was not there when the command began
            outcome.notes.append(f"ended with {ended.code}: {ended.last_line}")
            ended = place.run("index", run.name)
        if ended.code:
            outcome.lost(f"the command ends with {ended.code}: {ended.last_line}")
        elif difference := place.difference(run):
            outcome.lost(difference)
    place.drop(run)
    return outcome
