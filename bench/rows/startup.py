"""How long commands that need no Spark take to start, and what the first use of the kernel costs in a new process."""

import subprocess
import sys
import time
from statistics import median

import numpy as np

from bench import made
from bench.harness import Comparison, Figure, Latencies, UnequalError, Way, told
from bench.place import ROOT
from ingest.image import IMAGE_BYTES
from storage.store import open_store


def measured(place):
    run, _ = made.drawn_run(place.store, "startup", place.votes, 2_000)
    solr = ("--solr", place.solr.url)
    for name, words in {
        "help": ("--help",),
        "status": ("status", *solr),
        "index-dry-run": ("index", run.name, "--dry-run", *solr),
    }.items():
        yield Comparison(
            f"startup/{name}",
            f"tinytags {'index --dry-run' if name == 'index-dry-run' else words[0]}",
            Way("the command", lambda words=words: _ended(place.tinytags(*words)), 1),
            Way("Python that does nothing", lambda: _ended([sys.executable, "-c", "pass"]), 1),
            "commands",
            figures=(Figure("seconds", lambda ours, _: median(ours.seconds), 0.5, at_most=True, unit="s"),),
            rounds=2 * place.sizes.rounds - 1,
        )
    yield Comparison(
        "startup/kernel",
        "first votes in a new process",
        Way("first votes, numba's import included", lambda: _first_votes_of_a_process(place), 1),
        Way("Python that does nothing", lambda: _ended([sys.executable, "-c", "pass"]), 1),
        "processes",
        figures=(Figure("seconds", lambda ours, _: median(ours.seconds), unit="s"),),
        rounds=place.sizes.rounds,
        note="nothing is compiled: checked",
    )
    place.stop_spark()
    store, model = place.store.url(), place.model
    workers = place.spark.sparkContext.parallelize([0], 1).map(lambda _: first_votes(store, model)).collect()
    yield told(
        "startup/executor", "first votes in a new Spark worker", "numba's import included",
        _without_compiling(*workers[0]), "s", note="nothing is compiled: checked",
    )  # fmt: skip


def _ended(command: list[str]) -> int:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode


def first_votes(store: str, model: str) -> tuple[float, int]:
    """Return the seconds until the first votes of this process are there, and how often the kernel was compiled for it."""
    from tagging.models import load_model

    forest = load_model(open_store(store), model)
    began = time.perf_counter()
    forest.votes(np.zeros((256, IMAGE_BYTES), np.uint8))
    seconds = time.perf_counter() - began
    from tagging.forest import compiled_kernel

    return seconds, sum(compiled_kernel().walk_narrow.stats.cache_misses.values())


def _first_votes_of_a_process(place) -> Latencies:
    program = "import sys; from bench.rows.startup import first_votes; print(*first_votes(*sys.argv[1:]))"
    command = [sys.executable, "-c", program, place.store.url(), place.model]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Latencies([_without_compiling(*map(float, said.split()))], 0)


def _without_compiling(seconds: float, compiled: float) -> float:
    if compiled:
        raise UnequalError("a new process compiles the kernel, which should come ready from the cache")
    return seconds
