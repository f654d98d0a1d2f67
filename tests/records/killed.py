"""Processes that add predictions to a database until they are killed."""

import hashlib
import itertools
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime

from test_predictions import made

from records.predictions import open_predictions

# All predictions have one of a few times, so that numbers collide.
NOW = datetime.now(UTC)


def add_until_killed(url, confirmed):
    predictions, names = open_predictions(url), itertools.count()
    while True:
        name = f"{os.getpid()}-{next(names)}"
        image = hashlib.sha256(name.encode()).digest() * 96
        number = predictions.add(replace(made(name=name), image=image, at=NOW))
        os.write(confirmed, f"{number} {name}\n".encode())


def kill_writers(url, kills, each=4):
    """Kill writers, of which two run at a time, each after so many confirmed predictions; return these by number."""
    fork, running, confirmed = multiprocessing.get_context("fork"), [], {}
    for _ in range(kills + 1):
        ends = os.pipe()
        process = fork.Process(target=add_until_killed, args=(url, ends[1]))
        process.start()
        os.close(ends[1])
        running.append((process, ends[0]))
        if len(running) == 2:
            kill(*running.pop(0), each, confirmed)
    kill(*running.pop(), each, confirmed)
    return confirmed


def kill(process, end, each, confirmed):
    with os.fdopen(end) as lines:
        for _ in range(each):
            number, name = lines.readline().split()
            confirmed[int(number)] = name
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        # What it confirmed before it was killed; a line is written at once.
        confirmed.update((int(line.split()[0]), line.split()[1]) for line in lines)


def assert_all_there(url, confirmed):
    stored = {one.number: one for one in open_predictions(url).every()}
    assert confirmed and len(set(confirmed.values())) == len(confirmed), "each has a number of its own"
    for number, name in confirmed.items():
        assert stored[number].name == name
        assert stored[number].image == hashlib.sha256(name.encode()).digest() * 96
