"""Kills processes while they store predictions; each prediction that was confirmed is in the database, and whole.

This module is also the program of these processes: ``python -m campaign.attacks.prediction_kills URL CONFIRMED``.
"""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from campaign.attack import Outcome
from campaign.place import PATIENCE, ROOT, Place
from conf.java import MissingToolError
from records.predictions import NewPrediction, open_predictions

# A kill comes so many seconds after the first confirmation, at random.
SECONDS = 0.5


def attack(place: Place, tries: int, kinds: tuple[str, ...] = ("sqlite", "postgresql", "mariadb")) -> Outcome:
    """Lost: a confirmed prediction that is missing, or has another's name or image; kinds of databases take turns."""
    outcome, confirmed = Outcome(progress=place.progress), 0
    for first, kind in enumerate(kinds):
        kills = len(range(first, tries, len(kinds)))
        if not kills:
            continue
        try:
            url = place.database(kind)
        except MissingToolError as error:
            outcome.notes.append(f"without {kind}: {error.reason}")
            continue
        confirmed += _kill_writers(place, url, kills, outcome)
    outcome.notes.append(f"{confirmed:,} predictions confirmed")
    return outcome


def _kill_writers(place: Place, url: str, kills: int, outcome: Outcome) -> int:
    """Kill one of two writers again and again; return how many predictions were confirmed."""
    folder = place.folder / url.partition(":")[0]
    folder.mkdir(exist_ok=True)
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for number in range(kills + 1):
            file = folder / f"confirmed-{number}"
            file.touch()
            words = ["-m", "campaign.attacks.prediction_kills", url, str(file)]
            running.append(
                (subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True), file)
            )
            if number and _kill(place, *running.pop(0), outcome):
                outcome.count()
    finally:
        for process, _ in running:
            process.kill()
            process.wait()
    confirmed: dict[int, str] = {}
    for file in folder.glob("confirmed-*"):
        for line in file.read_bytes().split(b"\n")[:-1]:  # the last one may be cut off
            digits, name = line.decode().split()
            if int(digits) in confirmed:
                outcome.lost(f"{url}: two predictions have number {digits}")
            confirmed[int(digits)] = name
    check_stored(url, confirmed, outcome)
    return len(confirmed)


def check_stored(url: str, confirmed: dict[int, str], outcome: Outcome) -> None:
    """Count as lost each of the ``confirmed`` predictions, names by number, that is missing, or has another's name or image."""
    stored = {one.number: one for one in open_predictions(url).every()}
    for number, name in confirmed.items():
        prediction = stored.get(number)
        if prediction is None:
            outcome.lost(f"{url}: prediction {number} is missing")
        elif (prediction.name, prediction.image) != (name, image_of(name)):
            outcome.lost(f"{url}: prediction {number} is {prediction.name}, not {name}")


def _kill(place: Place, process: "subprocess.Popen[bytes]", file: Path, outcome: Outcome) -> bool:
    """Kill a writer some time after its first confirmation; return whether it still ran."""
    until = time.monotonic() + PATIENCE
    while not file.stat().st_size and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(place.moment(SECONDS))
    ran = process.poll() is None
    process.kill()
    process.wait()
    if not ran:
        outcome.lost(f"a writer ends with {process.returncode}; see its message above")
    return ran


def store(url: str, confirmed: str) -> None:
    """Store predictions, and write a line for each that the database has confirmed, until killed."""
    predictions = open_predictions(url)
    with open(confirmed, "ab", buffering=0) as file:
        for count in itertools.count():
            name = f"{os.getpid()}-{count}"
            image = image_of(name)
            number = predictions.add(
                NewPrediction(
                    name=name, size=len(image), sha256=hashlib.sha256(image).hexdigest(), image=image, model="m",
                    model_hash="h", milliseconds=1.0, answer="cat", confidence=1.0, classes=(("cat", 1.0),),
                )
            )  # fmt: skip
            file.write(f"{number} {name}\n".encode())


def image_of(name: str) -> bytes:
    """Return the canonical image, 3,072 bytes, that is stored under a name."""
    return hashlib.sha256(name.encode()).digest() * 96


if __name__ == "__main__":
    store(*sys.argv[1:])
