"""Kills `tinytags index --partition` of a run that is shown; nothing of it may be missing then, or meanwhile."""

import time

from campaign.attack import Outcome
from campaign.place import Place


def attack(place: Place, tries: int) -> Outcome:
    """Lost: fewer documents than before, while the command runs or after what comes next: a commit, as any command makes."""
    outcome, run = Outcome(progress=place.progress), place.make_run("redo")
    words = "index", run.name, "--partition", f"0-{run.partitions - 1}"
    place.must("index", run.name)
    whole, seconds = place.visible(run), place.must(*words).seconds
    for _ in outcome.attempts(tries):
        indexing, until, least = place.start(*words), time.monotonic() + place.moment(seconds), whole
        while time.monotonic() < until:
            least = min(least, place.visible(run))
            time.sleep(0.02)
        if not indexing.kill():
            continue  # too late: it had ended
        outcome.count()
        place.client.commit(run.name)
        after = place.visible(run)
        if min(least, after) < whole:
            outcome.lost(
                f"{whole - least:,} of {whole:,} documents gone meanwhile, {whole - after:,} after a commit"
            )
        if after != whole or outcome.tried == tries:
            again = place.run("index", run.name)
            difference = place.difference(run)
            if again.code or difference:
                outcome.lost(f"`index` ends with {again.code}: {difference or again.last_line}")
    place.drop(run)
    return outcome
