"""The start-up time of commands without Spark, and of the kernel's first use in a new process."""

import subprocess
import sys
import time
from statistics import median

import numpy as np

from bench import made
from bench.harness import Comparison, Figure, Latencies, UnequalError, Way, single
from bench.place import ROOT
from ingest.image import IMAGE_BYTES
from storage.store import open_store


def measured(place):
    run, _ = made.drawn_run(place.store, "startup", place.votes, 2_000)
    solr, rounds = ("--solr", place.solr.url), place.sizes.rounds
    nothing = Way("Python that does nothing", lambda: _exit_code([sys.executable, "-c", "pass"]), 1)

    def compared(
        name: str, step: str, ours: Way, unit: str, target: float | None, rounds: int, note: str = ""
    ):
        figure = Figure("seconds", lambda ours, _: median(ours.seconds), target, at_most=True, unit="s")
        return Comparison(
            f"startup/{name}", step, ours, nothing, unit, figures=(figure,), rounds=rounds, note=note
        )

    for name, step, words in (
        ("help", "--help", ("--help",)),
        ("status", "status", ("status", *solr)),
        ("index-dry-run", "index --dry-run", ("index", run.name, "--dry-run", *solr)),
    ):
        ours = Way("the command", lambda words=words: _exit_code(place.tinytags(*words)), 1)
        yield compared(name, f"tinytags {step}", ours, "commands", 0.5, 2 * rounds - 1)
    note = "nothing is compiled: checked"
    ours = Way("first votes, numba's import included", lambda: _first_votes_of_a_process(place), 1)
    yield compared("kernel", "first votes in a new process", ours, "processes", None, rounds, note)
    place.stop_spark()
    store, model = place.store.url(), place.model
    workers = place.spark.sparkContext.parallelize([0], 1).map(lambda _: first_votes(store, model)).collect()
    step, seconds = "first votes in a new Spark worker", _seconds(*workers[0])
    yield single("startup/executor", step, "numba's import included", seconds, "s", note=note)


def _exit_code(command: list[str]) -> int:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode


def first_votes(store: str, model: str) -> tuple[float, int]:
    """Return the seconds of this process' first votes by the kernel, and how often the kernel was compiled for them."""
    from tagging.forest import compiled_kernel
    from tagging.models import load_model

    forest = load_model(open_store(store), model)
    began = time.perf_counter()
    kernel = compiled_kernel()  # so few images alone are voted on without it
    forest.votes(np.zeros((256, IMAGE_BYTES), np.uint8))
    return time.perf_counter() - began, sum(kernel.walk_narrow.stats.cache_misses.values())


def _first_votes_of_a_process(place) -> Latencies:
    program = "import sys; from bench.rows.startup import first_votes; print(*first_votes(*sys.argv[1:]))"
    command = [sys.executable, "-c", program, place.store.url(), place.model]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Latencies([_seconds(*map(float, output.split()))], 0)


def _seconds(seconds: float, compiled: float) -> float:
    """Return the seconds; raises `UnequalError` where the kernel was compiled."""
    if compiled:
        raise UnequalError("a new process compiles the kernel, which should be in the cache")
    return seconds
