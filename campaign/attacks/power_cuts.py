"""Tags on a disk of its own and copies the disk while that runs: what a power cut would leave; the copy can be worked on."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from campaign.attack import NotRunError, Outcome
from campaign.place import Place, snapshot
from storage import layout

MEGABYTES = 256


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a copy on which the same command fails or ends with other files, or that lacks what a finished command reported."""
    outcome = Outcome(progress=place.progress)
    if os.geteuid() != 0:
        raise NotRunError("only root can mount the image of a disk")
    corpus, run = place.make_tagged("cut", 3_000, 500)
    original = place.folder / "store"
    reference = snapshot(original / layout.run_folder(run))
    words = "tag", "--corpus", corpus, "--model", f"{corpus}-forest", "--min-confidence", "0.2"
    image, mounted = place.folder / "disk.img", place.folder / "disk"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(MEGABYTES << 20)
    _do("mkfs.ext4", "-q", "-F", str(image))
    _do("mount", "-o", "loop", str(image), str(mounted))
    try:
        for name in (layout.corpus_folder(corpus), layout.model_folder(f"{corpus}-forest")):
            shutil.copytree(original / name, mounted / name)
        _do("sync", "-f", str(mounted))
        seconds = 0.0
        for number in range(tries):
            shutil.rmtree(mounted / layout.RUNS, ignore_errors=True)
            _do("sync", "-f", str(mounted))
            if not seconds:
                seconds = place.must(*words, store=str(mounted)).seconds
                shutil.rmtree(mounted / layout.RUNS)
                _do("sync", "-f", str(mounted))
            tagging = place.start(*words, store=str(mounted))
            time.sleep(place.moment(1.2 * seconds))
            finished = tagging.process.poll() == 0
            copy = place.folder / f"cut-{number}.img"
            # What has been written to the device so far; what only the memory has is lost.
            _do("cp", "--sparse=always", str(image), str(copy))
            tagging.kill()
            outcome.count()
            _check(place, copy, words, reference, run, finished, outcome)
            copy.unlink()
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
    return outcome


def _check(
    place: Place,
    image: Path,
    words: tuple[str, ...],
    reference: dict[str, object],
    run: str,
    finished: bool,
    outcome: Outcome,
) -> None:
    mounted = image.with_suffix("")
    mounted.mkdir()
    _do("mount", "-o", "loop", str(image), str(mounted))  # replays the journal
    folder = mounted / layout.run_folder(run)
    try:
        if finished and snapshot(folder) != reference:
            outcome.lost("files that a finished command reported are not on the disk")
        ended = place.run(*words, store=str(mounted))
        if ended.code or ended.traceback:
            outcome.lost(f"the command ends with {ended.code}: {ended.last_line}")
        elif snapshot(folder) != reference:
            outcome.lost("the files differ")
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotRunError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
