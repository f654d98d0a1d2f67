"""The whole scale once: all documents of a dump in Solr and on the page, and millions of images from dump to tags.

``python -m bench.full [--documents N] [--images N] [--out DIR]``
"""

import dataclasses
import itertools
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import load, machine, made, report, scale
from bench.__main__ import out_option, timed_note
from bench.harness import UnequalError, problems_of, single
from bench.place import Place
from bench.sizes import FULL, QUICK
from conf.command import note, run
from conf.progress import Progress
from conf.wording import duration
from ingest.corpus import open_corpus
from ingest.image import IMAGE_BYTES
from storage import layout, runs

# The documents of the 79,302,017 images of 80 Million Tiny Images at a confidence of 40 %.
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
PARTS = 10  # whose rates show whether work slows down


@click.command("bench-full")
@click.option("--documents", type=click.IntRange(min=100), default=DOCUMENTS, show_default=True)
@click.option("--images", type=click.IntRange(min=100), default=IMAGES, show_default=True)
@out_option
def main(documents, images, out):
    """Index as many documents as 80 million images have, request pages of them, and tag 5 million images from a dump.

    Takes about half an hour and about 40 GB of disk, which it checks first and frees at the end. At full size it also
    writes the measured and derived figures into docs/scale.md.
    """
    path = out / "scale.json"
    results = measure(documents, images, save=lambda so_far: report.write_json(path, so_far))
    for row in results["rows"]:
        click.echo(report.line(row))
    for problem in results["problems"]:
        click.echo(problem)
    note(f"bench: {duration(results['seconds'])}; figures in {path}")
    if results["problems"] or any(row["failed"] for row in results["rows"]):
        raise click.exceptions.Exit(1)
    if documents >= DOCUMENTS and images >= IMAGES:
        scale.write(out)


def measure(documents: int, images: int, folder: str | None = None, save=lambda so_far: None) -> dict:
    """Do all of it and return the results, fit for JSON; errors are in ``problems``, and the other parts still run.

    ``save`` gets the results after each part.
    """
    began, note = time.monotonic(), timed_note()
    small = documents < DOCUMENTS // 50
    sizes = dataclasses.replace(QUICK if small else FULL, images=images, thumbnail_partition=0)
    results = {
        "version": 1, "began": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe(),
        "rows": [], "problems": [],
    }  # fmt: skip

    def part(name: str, measured, rows_of) -> None:
        with problems_of(name, results, note):
            results[name] = measured()
            results["rows"] += rows_of(results[name])
        results["seconds"] = round(time.monotonic() - began, 1)
        save(results)

    note(machine.words(results["machine"]))
    with Place(sizes, folder, note) as place:
        needed = max(documents * DOCUMENT_BYTES, images * PIXELS_BYTES)
        place.check_disk(needed + (0 if small else SPARE_BYTES))
        results["real_images"] = place.real
        place.solr = place.start_solr(HEAP)
        part("index", lambda: index_documents(place, documents), index_rows)
        if "index" in results:
            run_name, count = results["index"]["run"], load.PAGES // 10 if small else load.PAGES
            part("page", lambda: load.measure_page(place, run_name, ALIAS, count), load.page_rows)
        place.solr.stop()
        for folder in (place.store.url(layout.RUNS), place.solr.directory):
            shutil.rmtree(folder, ignore_errors=True)
        part("images", lambda: images_to_tags(place, images), image_rows)
    return results


def index_documents(place, documents: int) -> dict:
    """Draw a run and index it by ``tinytags index``; return the measurements."""
    images = made.images_for(documents, place.votes)
    place.note(f"writing a run of {images:,} images, {documents:,} documents")
    with Progress("draw", images, "images") as progress:
        drawn, count = made.drawn_run(place.store, "tiny", place.votes, images, progress=progress.add)
    size = sum(runs.read_statistics(place.store, drawn, p)["bytes"] for p in range(drawn.partitions))
    place.note(f"indexing {count:,} documents, {size / 1e9:.1f} GB")
    samples, done = [], threading.Event()
    sampler = threading.Thread(target=_sample, args=(place.solr, drawn.name, samples, done))
    sampler.start()
    began = time.time()
    try:
        indexed = place.run_tinytags("index", drawn.name, "--solr", place.solr.url, "--alias", ALIAS)
    finally:
        done.set()
        sampler.join()
    if indexed["documents"] != count:
        raise UnequalError(f"{count:,} documents were drawn, {indexed['documents']:,} are in Solr")
    seconds = indexed["seconds"]
    points = [(began, 0), *((when, added) for when, added, _ in samples), (began + seconds, count)]
    cores = place.solr_client.read("admin/cores", {"action": "STATUS"})["status"].items()
    place.store.remove_tree(layout.run_tags_folder(drawn.name))
    return {
        "run": drawn.name,
        "images": images,
        "documents": count,
        "kept": count / images,
        "line_bytes": size / count,
        "seconds": seconds,
        "documents_per_second": count / seconds,
        "parts_per_second": rates(points, count, PARTS),
        "index_bytes": sum(
            core["index"]["sizeInBytes"] for name, core in cores if name.startswith(f"{drawn.name}_")
        ),
        "heap": HEAP,
        "heap_used_bytes": max((heap for _, _, heap in samples), default=0),
        "solr_peak_bytes": machine.peak_bytes(place.solr.pid),
    }


def _sample(solr, collection: str, samples: list, done: threading.Event) -> None:
    """Sample the number of documents that Solr has accepted, and the heap that it uses."""
    from operations.services import get_json

    name = "UPDATE.updateHandler.cumulativeAdds"
    url = f"{solr.url}/admin/metrics?group=core,jvm&prefix={name},memory.heap.used&compact=true"
    while not done.wait(SAMPLE_SECONDS):
        metrics = (get_json(url) or {}).get("metrics", {})
        core = next((metrics[key] for key in metrics if key.startswith(f"solr.core.{collection}.")), {})
        if name in core:
            added = core[name]["count"] if isinstance(core[name], dict) else core[name]
            samples.append((time.time(), added, metrics.get("solr.jvm", {}).get("memory.heap.used", 0)))


def rates(points: list[tuple[float, float]], total: float, parts: int) -> list[float]:
    """Return the rate in each of ``parts`` equal parts of ``total``.

    ``points`` are (time, amount done by then), both ascending; between two of them the rate is constant.
    """
    import numpy as np

    when, done = (np.array(values, float) for values in zip(*points, strict=True))
    done = np.maximum.accumulate(done)
    # Where nothing was done for a while, the next part starts at the end of that while.
    last = np.append(np.diff(done) > 0, True)
    ends = np.interp(np.linspace(0, total, parts + 1), done[last], when[last])
    ends[0] = when[0]
    return (total / parts / np.diff(ends)).tolist()


def images_to_tags(place, images: int) -> dict:
    """Ingest and tag a dump by the commands; return the rates, also of each tenth of the work."""
    place.note(f"writing a dump of {images:,} images, {images * IMAGE_BYTES / 1e9:.1f} GB")
    path = place.folder / "tiny_images.bin"
    with Progress("write", images, "images") as progress:
        made.write_dump(path, place.pool, images, progress.add)
    master = ("--master", f"local[{place.cores}]")
    results = {}
    for step, words in {
        "ingest": (str(path), "--format", "tiny-images", "--corpus", "tiny"),
        "tag": ("--corpus", "tiny", "--model", place.model),
    }.items():
        done = place.run_tinytags(step, *words, *master)
        corpus = open_corpus(place.store, "tiny")
        statistics = layout.corpus_statistics if step == "ingest" else layout.run_statistics
        name = "tiny" if step == "ingest" else done["run"]
        ended = sorted(
            (Path(place.store.url(statistics(name, p))).stat().st_mtime, stop - start)
            for p, (start, stop) in enumerate(map(corpus.rows, range(corpus.partitions)))
        )
        times, amounts = zip(*ended, strict=True)
        began = times[-1] - images / done["images_per_second"]
        points = [(began, 0), *zip(times, itertools.accumulate(amounts), strict=True)]
        results[step] = {
            "images": images,
            "seconds": done["wall"],
            "images_per_second": done["images_per_second"],
            "parts_per_second": rates(points, images, PARTS),
        }
        if step == "tag":
            results[step] |= {"tagged": done["tagged"], "dropped": done["dropped"]}
            if not done["tagged"] + done["dropped"] == done["images"] == images:
                raise UnequalError(f"{images:,} images, but {done['tagged'] + done['dropped']:,} results")
    return results


def index_rows(index: dict) -> list[dict]:
    """Return the rows of indexing."""
    memory = f"Solr's memory, heap {index['heap']}"
    return [
        single("full/index", f"index {index['documents']:,} documents", "with commits", index["documents_per_second"], "documents/s"),
        _even("full/index-even", "index", index["parts_per_second"]),
        single("full/index-size", "size of the index", "bytes a document", index["index_bytes"] / index["documents"], "bytes"),
        single("full/heap", memory, "most heap in use", index["heap_used_bytes"] / 1e6, "MB"),
        single("full/memory", memory, "most of the process", index["solr_peak_bytes"] / 1e6, "MB"),
    ]  # fmt: skip


def image_rows(images: dict) -> list[dict]:
    """Return the rows from a dump to tags."""
    rows = []
    for step, done in images.items():
        what, rate = f"{step} {done['images']:,} images", done["images_per_second"]
        rows.append(single(f"full/{step}", what, "all cores, local", rate, "images/s"))
        rows.append(_even(f"full/{step}-even", step, done["parts_per_second"]))
    return rows


def _even(name: str, step: str, parts: list[float]) -> dict:
    against = "rate at the start, a tenth of the work each"
    return single(name, f"{step}: rate at the end", against, parts[-1] / parts[0], target=0.7)


if __name__ == "__main__":
    run(main)
