"""Kills `tinytags tag`, on processes and now and then on Spark; the same command again ends with the same files."""

import shutil
import time

from campaign.attack import Outcome
from campaign.place import Place, snapshot
from storage import layout

# One try in so many is on Spark, which takes ten times as long.
SPARK_EVERY = 5


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a second command that fails, or files that differ from those of a command that was not killed."""
    outcome = Outcome(progress=place.progress)
    corpus, run = place.make_tagged("driver")
    folder = place.folder / "store" / layout.run_folder(run)
    words = "tag", "--corpus", corpus, "--model", f"{corpus}-forest", "--min-confidence", "0.2"
    reference, seconds = snapshot(folder), {}
    for _ in outcome.attempts(tries):
        spark = outcome.tried % SPARK_EVERY == SPARK_EVERY - 1
        master = "local[2]" if spark else "processes[2]"
        shutil.rmtree(folder)
        if master not in seconds:
            seconds[master] = place.must(*words, master=master).seconds
            shutil.rmtree(folder)
        tagging = place.start(*words, master=master)
        time.sleep(place.moment(seconds[master]))
        if not tagging.kill():
            continue  # too late: it had ended
        outcome.count()
        again = place.run(*words, master=master)
        if again.code or again.traceback:
            outcome.lost(f"{master}: the second command ends with {again.code}: {again.last_line}")
        if snapshot(folder) != reference:
            outcome.lost(f"{master}: the files differ")
    outcome.notes.append(f"{outcome.tried // SPARK_EVERY} on Spark")
    return outcome
