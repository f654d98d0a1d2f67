"""Kills the page while it classifies pictures; each prediction that an answer gave a number is in the database, and whole."""

import io
import threading
import time

import numpy as np
import requests
from PIL import Image

from campaign.attack import Outcome
from campaign.attacks.prediction_kills import check_stored, image_of
from campaign.place import PATIENCE, Place
from ingest.image import SIDE

CLIENTS = 4
# A kill comes so many seconds after the first answer, at random.
SECONDS = 0.5


def attack(place: Place, tries: int, kinds: tuple[str, ...] = ("sqlite", "postgresql")) -> Outcome:
    """Lost: a prediction whose number was in an answer and that is missing, or has another's name or image."""
    outcome, total = Outcome(progress=place.progress), 0
    place.make_tagged("page-kills", images=1_000)
    for first, kind in enumerate(kinds):
        database = place.database(kind)
        confirmed: dict[int, str] = {}
        for number in range(first, tries, len(kinds)):
            with place.page(database=database, classify_rate="none") as url:
                clients = [
                    threading.Thread(target=_classify, args=(url, f"{number}-{client}", confirmed))
                    for client in range(CLIENTS)
                ]
                before, until = len(confirmed), time.monotonic() + PATIENCE
                for client in clients:
                    client.start()
                while len(confirmed) == before and time.monotonic() < until:
                    time.sleep(0.01)
                time.sleep(place.moment(SECONDS))
            # The end of the block has killed the page.
            for client in clients:
                client.join()
            outcome.count()
        check_stored(database, confirmed, outcome)
        total += len(confirmed)
    outcome.notes.append(f"{total:,} predictions confirmed")
    return outcome


def _classify(url: str, name: str, confirmed: dict[int, str]) -> None:
    """Have pictures classified, and note the number and name of each that is recorded, until the page answers no more."""
    count = 0
    while True:
        count += 1
        picture = f"{name}-{count}.png"
        planes = np.frombuffer(image_of(picture), np.uint8).reshape(3, SIDE, SIDE)
        file = io.BytesIO()
        Image.fromarray(planes.transpose(1, 2, 0)).save(file, "PNG")
        try:
            answer = requests.post(
                f"{url}/api/classify", files={"files": (picture, file.getvalue())}, timeout=PATIENCE
            )
            (result,) = answer.json()["results"]
        except requests.RequestException:
            return
        if result["record"] is not None:
            confirmed[result["record"]] = picture
