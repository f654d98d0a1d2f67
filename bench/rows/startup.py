"""The start-up time of commands without Spark, and of the kernel's first use in a new process."""

import functools
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from bench import made
from bench.harness import Comparison, Latencies, UnequalError, Way, single
from bench.place import ROOT, removed
from ingest.formats.cifar_10 import LAYOUT
from ingest.image import IMAGE_BYTES
from jobs.spark import SparkRunner
from storage import layout
from storage.store import open_store


def measured(place):
    run, _ = made.drawn_run(place, "startup", 2_000)
    solr, rounds = ("--solr", place.solr.url), place.sizes.rounds

    def compared(name: str, ours, rounds: int, before=None) -> Comparison:
        nothing = Way(functools.partial(_exit_code, [sys.executable, "-c", "pass"]))
        figures = {f"startup/{name}": lambda ours, _: median(ours.seconds)}
        ours = Way(ours, before=before)
        return Comparison(f"startup/{name}", ours, nothing, figures=figures, rounds=rounds)

    commands = {
        "help": ("--help",),
        "status": ("status", *solr),
        "index-dry-run": ("index", run.name, "--dry-run", *solr),
    }
    for name, words in commands.items():
        yield compared(name, functools.partial(_exit_code, place.tinytags(*words)), 2 * rounds - 1)
    for name, words, before in _sixty(place):
        yield compared(name, functools.partial(_exit_code, place.tinytags(*words)), rounds, before)
    yield compared("kernel", functools.partial(_first_votes_of_a_process, place), rounds)
    place.stop_spark()
    store, model = place.store.url(), place.model
    # As the jobs do it: the depth of the stack counts. At some, CPython maps memory at every call and unmaps it again.
    task = functools.partial(_first_votes_of_a_worker, store, model)
    (result,) = SparkRunner(place.spark).run("first votes", [0], task).results
    yield single("startup/executor", result["seconds"])


def _sixty(place):
    """Yield the verbs of a chain of 60 images without a JVM, with what removes the results of the time before."""
    images, labels = (some[:60] for some in place.labelled)
    folder, corpora = place.folder / "sixty", Path(place.store.url(layout.CORPORA))
    folder.mkdir(exist_ok=True)
    records = np.concatenate([labels[:, None].astype(np.uint8), images], axis=1)
    for name, batch in zip(LAYOUT.batches, np.array_split(records, len(LAYOUT.batches)), strict=True):
        batch.tofile(folder / f"{name}.bin")
    corpus, alone = ("--corpus", "sixty"), ("--master", "processes")
    yield "ingest-60", ("ingest", str(folder), *corpus, *alone), removed(corpora / "sixty")
    # A partition that is named is tagged again.
    yield "tag-60", ("tag", *corpus, "--model", place.model, "--partition", "0", *alone), None
    yield "evaluate-60", ("evaluate", *corpus, "--model", place.model, *alone), None


def _exit_code(command: list[str]) -> int:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode


def first_votes(store: str, model: str) -> float:
    """Return the seconds of this process' first votes by the kernel; raises `UnequalError` where it was compiled for them."""
    from tagging.forest import compiled_kernel
    from tagging.models import load_model

    forest = load_model(open_store(store), model)
    began = time.perf_counter()
    kernel = compiled_kernel()  # so few images alone are voted on without it
    forest.votes(np.zeros((256, IMAGE_BYTES), np.uint8))
    seconds = time.perf_counter() - began
    if any(kernel.walk_narrow.stats.cache_misses.values()):
        raise UnequalError("a new process compiles the kernel, which should be in the cache")
    return seconds


def _first_votes_of_a_worker(store: str, model: str, partition: int) -> dict[str, float]:
    return {"images": 256, "seconds": first_votes(store, model)}


def _first_votes_of_a_process(place) -> Latencies:
    program = "import sys; from bench.rows.startup import first_votes; print(first_votes(*sys.argv[1:]))"
    command = [sys.executable, "-c", program, place.store.url(), place.model]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Latencies([float(output)], 0)
