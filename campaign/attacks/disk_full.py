"""Ingests and tags on a disk that fills up; both say so in one line, and continue on a larger one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from campaign.attack import NotRunError, Outcome
from campaign.place import CLASSES, Place
from ingest.image import IMAGE_BYTES
from storage import layout
from storage.store import open_store
from tagging.forest import Tree, pack
from tagging.models import save_model

IMAGES, PARTITION = 3_000, 500
# Sizes between nothing and all of what is written: 9.2 MB of images, and their tags.
LEAST_KB, MOST_KB = 200, 9_800


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a traceback, an error that does not name the full disk, or a repetition that does not complete the run."""
    outcome = Outcome(progress=place.progress)
    dump = place.folder / "full.bin"
    dump.write_bytes(
        np.random.default_rng(place.seed).integers(0, 256, IMAGES * IMAGE_BYTES, np.uint8).tobytes()
    )
    tree = Tree(np.zeros(1), np.zeros(1), np.full(1, -1), np.full(1, -1), np.zeros(1))
    for number in range(tries):
        with _tmpfs(place.folder / f"full-{number}", place.random.randrange(LEAST_KB, MOST_KB)) as disk:
            store = str(disk / "store")
            steps: list[tuple[object, ...]] = [
                (
                    "ingest",
                    dump,
                    "--corpus",
                    "full",
                    "--partition-images",
                    PARTITION,
                    "--format",
                    "tiny-images",
                ),
                ("tag", "--corpus", "full", "--model", "forest"),
            ]
            outcome.count()
            for words in steps:
                ended = place.run(*words, store=store)
                if ended.traceback:
                    outcome.lost(f"{words[0]}: traceback: {ended.last_line}")
                if ended.code:
                    if "No space left" not in ended.err and "full" not in ended.last_line:
                        outcome.lost(f"{words[0]}: does not name the full disk: {ended.last_line}")
                    _resize(disk, 4 * MOST_KB)
                    ended = place.run(*words, store=store)
                    if ended.code:
                        outcome.lost(
                            f"{words[0]}: ends with {ended.code} on a larger disk: {ended.last_line}"
                        )
                if words[0] == "ingest" and not ended.code:
                    _resize(disk, 4 * MOST_KB)
                    save_model(open_store(store), "forest", pack([tree] * 10, CLASSES), {})
                    used = int(
                        subprocess.run(
                            ["du", "-sk", str(disk)], capture_output=True, text=True, check=True
                        ).stdout.split()[0]
                    )
                    _resize(disk, used + place.random.randrange(0, 400))
            runs = list(
                (disk / "store" / layout.RUNS).glob(f"*/statistics/{IMAGES // PARTITION - 1:05}.json")
            )
            if len(runs) != 1:
                outcome.lost("the run is not complete")
    return outcome


@contextlib.contextmanager
def _tmpfs(folder: Path, kilobytes: int) -> Iterator[Path]:
    if os.geteuid() != 0:
        raise NotRunError("only root can mount a small disk")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if done := subprocess.run(command, capture_output=True, text=True).stderr:
        raise NotRunError(f"a small disk can't be mounted here: {done.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _resize(folder: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(folder)], check=True)
