"""Adds two runs to the alias at once; neither may be lost when both commands report success."""

from campaign.attack import Outcome
from campaign.place import ALIAS, Place


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a run that a command reports as shown, and that the alias does not have."""
    runs = [place.make_run(name, 1, 300) for name in ("race-a", "race-b")]
    outcome, refused = Outcome(progress=place.progress), 0
    for run in runs:
        place.must("index", run.name, "--no-publish")
    for _ in range(tries):
        if place.client.alias(ALIAS):
            place.client.delete_alias(ALIAS)
        both = [place.start("index", run.name, "--beside") for run in runs]
        ended = [command.wait() for command in both]
        outcome.count()
        published = place.client.alias(ALIAS)
        for run, one in zip(runs, ended, strict=True):
            if one.code:
                refused += 1
            elif run.name not in published:
                outcome.lost(
                    f"{run.name} is not behind the alias, which has {', '.join(published) or 'nothing'}"
                )
            if one.traceback:
                outcome.lost(f"traceback: {one.last_line}")
    outcome.notes.append(f"{refused} commands ended with an error")
    for run in runs:
        place.drop(run)
    return outcome
