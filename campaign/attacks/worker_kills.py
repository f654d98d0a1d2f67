"""Kills a worker of `tinytags tag`; the command or its repetition ends with the same files."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from campaign.attack import Outcome
from campaign.place import Place, snapshot
from storage import layout


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a traceback, a repetition that fails, or files that differ from those of a command without a kill."""
    outcome = Outcome(progress=place.progress)
    corpus, run = place.make_tagged("worker")
    folder = place.folder / "store" / layout.run_folder(run)
    words = "tag", "--corpus", corpus, "--model", f"{corpus}-forest", "--min-confidence", "0.2"
    reference = snapshot(folder)
    for _ in range(3 * tries + 10):
        if outcome.tried == tries:
            break
        shutil.rmtree(folder)
        tagging = place.start(*words)
        workers: list[int] = []
        while not workers and tagging.process.poll() is None:
            workers = _children(tagging.process.pid)
            time.sleep(0.01)
        time.sleep(place.moment(1))
        if tagging.process.poll() is None and workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(place.random.choice(workers), signal.SIGKILL)
                outcome.count()
        ended = tagging.wait()
        if ended.traceback:
            outcome.lost(f"traceback: {ended.last_line}")
        if ended.code:
            ended = place.run(*words)
        if ended.code:
            outcome.lost(f"the second command ends with {ended.code}: {ended.last_line}")
        if snapshot(folder) != reference:
            outcome.lost("the files differ")
    return outcome


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
