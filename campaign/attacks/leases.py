"""Lets processes acquire one lease again and again, some of them killed while they hold it; two never hold it at once.

This module is also the program of these processes: ``python -m campaign.attacks.leases STORE WEBHDFS FOLDER SEED``.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from campaign.attack import Outcome
from campaign.place import ROOT, Place
from conf.errors import LeaseHeldError, TinyTagsError
from storage.lease import lease
from storage.store import open_store

PROCESSES = 4
# So many holders in a thousand are killed.
KILLED = 50
# An acquisition takes no longer than this, the takeover of a dead holder's lease included.
SECONDS_EACH = 15.0
LEASE = "campaign.lease"


def attack(place: Place, tries: int, store: str = "", webhdfs: str = "") -> Outcome:
    """Lost: two holders at once, a lease that stays unavailable, or a traceback."""
    outcome = Outcome(progress=place.progress)
    folder = place.folder / ("leases-hdfs" if webhdfs else "leases")
    folder.mkdir()
    store = store or str(folder / "store")
    running: list[subprocess.Popen[bytes]] = []
    until, began, killed = time.monotonic() + 30 + SECONDS_EACH * tries, time.monotonic(), 0
    entries = folder / "entries"
    entries.touch()
    try:
        while (done := _lines(entries)) < tries and time.monotonic() < until:
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                if process.returncode == -signal.SIGKILL:
                    killed += 1
                else:
                    outcome.lost(f"a process ends with {process.returncode}; see its message above")
            while len(running) < PROCESSES:
                words = [
                    "-m",
                    "campaign.attacks.leases",
                    store,
                    webhdfs,
                    str(folder),
                    str(place.random.randrange(1 << 30)),
                ]
                running.append(subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True))
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
    outcome.tried = done
    overlaps = _lines(folder / "overlaps") if (folder / "overlaps").exists() else 0
    for _ in range(overlaps):
        outcome.lost("two processes held the lease at once")
    if done < tries:
        outcome.lost(f"only {done:,} of {tries:,} acquisitions in {time.monotonic() - began:.0f} s")
    outcome.notes.append(f"{killed} holders killed")
    return outcome


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def contend(address: str, webhdfs: str, folder: Path, seed: int) -> None:
    """Acquire the lease again and again until killed, by itself now and then."""
    chance, store, inside = random.Random(seed), open_store(address, webhdfs or None), folder / "inside"
    while True:
        try:
            with lease(store, LEASE, "the lease of the campaign"):
                _mark(folder / "entries")
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    _mark(folder / "overlaps")
                time.sleep(chance.uniform(0, 0.01))
                inside.unlink(missing_ok=True)
                if chance.randrange(1000) < KILLED:
                    os.kill(os.getpid(), signal.SIGKILL)
        except LeaseHeldError:
            time.sleep(chance.uniform(0, 0.02))
        except TinyTagsError as error:
            print(f"campaign: {error}", file=sys.stderr)
            sys.exit(1)


def _mark(path: Path) -> None:
    """Add a line to a file that several processes write."""
    with open(path, "ab", buffering=0) as file:
        file.write(b".\n")


if __name__ == "__main__":
    contend(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
