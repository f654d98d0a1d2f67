"""The whole scale once, for real: a dump's worth of documents into Solr and onto the page, and millions of images to tags.

``python -m bench.full [--documents N] [--images N] [--out DIR]``
"""

import dataclasses
import itertools
import json
import shutil
import subprocess
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import load, machine, made, report, scale
from bench.harness import UnequalError, told
from bench.place import ROOT, Place
from bench.sizes import FULL, QUICK
from conf.command import note, run
from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import duration
from ingest import corpus as corpora
from ingest.image import IMAGE_BYTES
from storage import layout, runs

# What the 79,302,017 images of 80 Million Tiny Images give at a confidence of 40 %.
DOCUMENTS = 56_000_000
IMAGES = 5_000_000
# On disk: a document's line, its place in the index three times over while segments merge, and Solr's log.
DOCUMENT_BYTES = 450
# A record in the dump, the same in Parquet, and its line.
PIXELS_BYTES = 2 * IMAGE_BYTES + 300
SPARE_BYTES = 8_000_000_000
HEAP = "2g"
ALIAS = "bench"
SAMPLE_SECONDS = 2.0
PARTS = 10  # in which evenness is looked at


@click.command("bench-full")
@click.option("--documents", type=click.IntRange(min=100), default=DOCUMENTS, show_default=True)
@click.option("--images", type=click.IntRange(min=100), default=IMAGES, show_default=True)
@click.option(
    "--out",
    default=ROOT / "bench" / "results",
    type=click.Path(path_type=Path),
    help="Folder of the results.",
)
def main(documents, images, out):
    """Index as many documents as 80 million images give, ask the page for them, and bring 5 million images to tags.

    Takes about half an hour and about 40 GB of disk, which it checks first and gives back. At full size it also writes
    what it found, and what follows from it, into docs/scale.md.
    """
    path = out / "scale.json"
    results = measure(documents, images, keep=lambda so_far: report.write_json(path, so_far))
    for row in results["rows"]:
        click.echo(report.line(row))
    for problem in results["problems"]:
        click.echo(problem)
    note(f"bench: {duration(results['seconds'])}; figures in {path}")
    if results["problems"] or any(row["failed"] for row in results["rows"]):
        raise click.exceptions.Exit(1)
    if documents >= DOCUMENTS and images >= IMAGES:
        scale.write(out)


def measure(documents: int, images: int, folder: str | None = None, keep=lambda so_far: None) -> dict:
    """Do all of it and return what was found, fit for JSON; what fails is told under ``problems``, and the rest goes on.

    ``keep`` is given the results each time that some are there.
    """
    began = time.monotonic()

    def say(line: str) -> None:
        note(f"{time.monotonic() - began:6.0f} s  {line}")

    small = documents < DOCUMENTS // 50
    sizes = dataclasses.replace(QUICK if small else FULL, images=images, thumbnail_partition=0)
    results = {
        "version": 1,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "rows": [],
        "problems": [],
    }

    def part(name: str, measured, rows_of) -> None:
        try:
            results[name] = measured()
            results["rows"] += rows_of(results[name])
        except Exception as error:
            traceback.print_exc()
            results["problems"].append(f"{name}: {type(error).__name__}: {error}")
        results["seconds"] = round(time.monotonic() - began, 1)
        keep(results)

    say(machine.words(results["machine"]))
    with Place(sizes, folder, say) as place:
        place.check_disk(
            max(documents * DOCUMENT_BYTES, images * PIXELS_BYTES) + (0 if small else SPARE_BYTES)
        )
        results["real_images"] = place.real
        place.solr = place.start_solr(HEAP)
        part("index", lambda: index_documents(place, documents), index_rows)
        if "index" in results:
            count = load.PAGES // 10 if small else load.PAGES
            part("page", lambda: load.ask_pages(place, results["index"]["run"], ALIAS, count), load.page_rows)
        place.solr.stop()
        for used in (place.store.url(layout.RUNS), place.solr.directory):
            shutil.rmtree(used, ignore_errors=True)
        part("images", lambda: images_to_tags(place, images), image_rows)
    return results


# Documents


def index_documents(place, documents: int) -> dict:
    """Draw a run and bring it into Solr by ``tinytags index``; return what that took."""
    kept = float((place.votes.max(axis=1) >= 4).mean())
    images = round(documents / kept)
    place.told(f"writing a run of {images:,} images, {documents:,} documents")
    with Progress("draw", images, "images") as progress:
        made_run, count = made.drawn_run(place.store, "tiny", place.votes, images, told=progress.add)
    size = sum(runs.read_statistics(place.store, made_run, p)["bytes"] for p in range(made_run.partitions))
    place.told(f"indexing {count:,} documents, {size / 1e9:.1f} GB")
    samples, done = [], threading.Event()
    sampler = threading.Thread(target=_sample, args=(place.solr, made_run.name, samples, done))
    sampler.start()
    began = time.time()
    try:
        words = ("index", made_run.name, "--solr", place.solr.url, "--alias", ALIAS, "--json")
        command = subprocess.run(place.tinytags(*words), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    finally:
        done.set()
        sampler.join()
    if command.returncode:
        raise TinyTagsError(f"tinytags index ends with {command.returncode}, see above")
    said = json.loads(command.stdout)
    if said["documents"] != count:
        raise UnequalError(f"{count:,} documents were drawn, {said['documents']:,} are in Solr")
    points = [(began, 0), *((when, added) for when, added, _ in samples), (began + said["seconds"], count)]
    found = {
        "run": made_run.name,
        "images": images,
        "documents": count,
        "kept": count / images,
        "line_bytes": size / count,
        "seconds": said["seconds"],
        "documents_per_second": count / said["seconds"],
        "parts_per_second": rates(points, count, PARTS),
        "index_bytes": _index_bytes(place, made_run.name),
        "heap": HEAP,
        "heap_used_bytes": max((heap for _, _, heap in samples), default=0),
        "solr_peak_bytes": machine.peak_bytes(place.solr.pid),
    }
    place.store.remove_tree(layout.run_tags_folder(made_run.name))
    return found


def _sample(solr, collection: str, samples: list, done: threading.Event) -> None:
    """Note again and again how many documents Solr has taken so far, and the heap it uses."""
    from operations.services import get_json

    name = "UPDATE.updateHandler.cumulativeAdds"
    url = f"{solr.url}/admin/metrics?group=core,jvm&prefix={name},memory.heap.used&compact=true"
    while not done.wait(SAMPLE_SECONDS):
        metrics = (get_json(url) or {}).get("metrics", {})
        core = next(
            (values for key, values in metrics.items() if key.startswith(f"solr.core.{collection}.")), {}
        )
        if name in core:
            adds = core[name]
            added = adds["count"] if isinstance(adds, dict) else adds
            samples.append((time.time(), added, metrics.get("solr.jvm", {}).get("memory.heap.used", 0)))


def rates(points: list[tuple[float, float]], total: float, parts: int) -> list[float]:
    """Return how many a second were done in each of ``parts`` equal parts of ``total``.

    ``points`` are (when, how many were done by then), both ascending; between two of them work is taken as even.
    """
    import numpy as np

    when, done = (np.array(values, float) for values in zip(*points, strict=True))
    done = np.maximum.accumulate(done)
    # Where nothing was done for a while, the end of that while is when the next began.
    last = np.append(np.diff(done) > 0, True)
    ends = np.interp(np.linspace(0, total, parts + 1), done[last], when[last])
    ends[0] = when[0]
    return (total / parts / np.diff(ends)).tolist()


def _index_bytes(place, collection: str) -> int:
    from indexing.solr import Solr

    cores = Solr(place.solr.url).read("admin/cores", {"action": "STATUS"})["status"]
    return sum(
        core["index"]["sizeInBytes"] for name, core in cores.items() if name.startswith(f"{collection}_")
    )


# Images


def images_to_tags(place, images: int) -> dict:
    """Bring a dump to tags by the commands; return what that took, and how even it was."""
    place.told(f"writing a dump of {images:,} images, {images * IMAGE_BYTES / 1e9:.1f} GB")
    path = place.folder / "tiny_images.bin"
    with Progress("write", images, "images") as progress:
        made.write_dump(path, place.pool, images, progress.add)
    master = ("--master", f"local[{place.cores}]")
    found = {}
    for step, words in {
        "ingest": ("ingest", str(path), "--format", "tiny-images", "--corpus", "tiny", *master),
        "tag": ("tag", "--corpus", "tiny", "--model", place.model, *master),
    }.items():
        place.told(f"tinytags {step}")
        began = time.time()
        command = subprocess.run(
            place.tinytags(*words, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        if command.returncode:
            raise TinyTagsError(f"tinytags {step} ends with {command.returncode}, see above")
        said = json.loads(command.stdout)
        corpus = corpora.open_corpus(place.store, "tiny")
        marker = layout.corpus_statistics if step == "ingest" else layout.run_statistics
        name = "tiny" if step == "ingest" else said["run"]
        ended = sorted(
            (Path(place.store.url(marker(name, p))).stat().st_mtime, stop - start)
            for p, (start, stop) in enumerate(map(corpus.rows, range(corpus.partitions)))
        )
        job = images / said["images_per_second"]
        points = [
            (ended[-1][0] - job, 0),
            *zip((when for when, _ in ended), itertools.accumulate(n for _, n in ended), strict=True),
        ]
        found[step] = {
            "images": images,
            "seconds": time.time() - began,
            "images_per_second": said["images_per_second"],
            "parts_per_second": rates(points, images, PARTS),
        }
        if step == "tag":
            found[step] |= {"tagged": said["tagged"], "dropped": said["dropped"]}
            if said["tagged"] + said["dropped"] != images or said["images"] != images:
                raise UnequalError(
                    f"{images:,} images went in, {said['tagged'] + said['dropped']:,} came out"
                )
    return found


# What it comes to


def index_rows(index: dict) -> list[dict]:
    """Return what is told of indexing."""
    memory = f"Solr's memory, heap {index['heap']}"
    return [
        told("full/index", f"index {index['documents']:,} documents", "with commits", index["documents_per_second"], "documents/s"),
        _even("full/index-even", "index", index["parts_per_second"]),
        told("full/index-size", "size of the index", "bytes a document", index["index_bytes"] / index["documents"], "bytes"),
        told("full/heap", memory, "most heap in use", index["heap_used_bytes"] / 1e6, "MB"),
        told("full/memory", memory, "most of the process", index["solr_peak_bytes"] / 1e6, "MB"),
    ]  # fmt: skip


def image_rows(images: dict) -> list[dict]:
    """Return what is told of the way from a dump to tags."""
    found = []
    for step, done in images.items():
        what = f"{step} {done['images']:,} images"
        found += [
            told(f"full/{step}", what, "all cores, local", done["images_per_second"], "images/s"),
            _even(f"full/{step}-even", step, done["parts_per_second"]),
        ]
    return found


def _even(name: str, step: str, parts: list[float]) -> dict:
    """How the rate at the end stands to that at the start."""
    against = "rate at the start, a tenth of the work each"
    return told(name, f"{step}: rate at the end", against, parts[-1] / parts[0], target=0.7)


if __name__ == "__main__":
    run(main)
