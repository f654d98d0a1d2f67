"""The whole scale once, for real: a dump's worth of documents into Solr and onto the page, and millions of images to tags.

``python -m bench.full [--documents N] [--images N] [--out DIR]``
"""

import dataclasses
import itertools
import json
import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import load, machine, made, report, scale
from bench.harness import UnequalError, told
from bench.place import ROOT, Place
from bench.rows.page import Client
from bench.rows.search import never_asked
from bench.sizes import FULL, QUICK
from conf.command import note, run
from conf.errors import TinyTagsError
from conf.progress import Progress, duration
from ingest import corpus as corpora
from ingest import runs
from ingest.image import IMAGE_BYTES
from search_ui.search_state import SearchState

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
USERS = (1, 20)
PAGES = 400
EXPORTED = 1_000_000


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

    Takes an hour at most and about 40 GB of disk, which it checks first and gives back. At full size it also writes
    what it found, and what follows from it, into docs/scale.md.
    """
    results = measure(documents, images)
    path = out / "scale.json"
    report.write_json(path, results)
    for row in results["rows"]:
        click.echo(report.line(row))
    note(f"bench: {duration(results['seconds'])}; figures in {path}")
    if documents >= DOCUMENTS and images >= IMAGES:
        scale.write(out)
    raise click.exceptions.Exit(1 if any(row["failed"] for row in results["rows"]) else 0)


def measure(documents: int, images: int, folder: str | None = None) -> dict:
    """Do all of it and return what was found, fit for JSON."""
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
    }
    say(machine.words(results["machine"]))
    with Place(sizes, folder, say) as place:
        place.check_disk(
            max(documents * DOCUMENT_BYTES, images * PIXELS_BYTES) + (0 if small else SPARE_BYTES)
        )
        results["real_images"] = place.real
        results["index"], run_made = _index(place, documents)
        results["page"] = _ask_pages(place, run_made, PAGES if not small else 40)
        place.solr.stop()
        place.store.remove_tree("runs")
        _remove_solr(place)
        results["images"] = _images_to_tags(place, images)
    results["rows"] = rows(results)
    results["seconds"] = round(time.monotonic() - began, 1)
    return results


# Documents


def _index(place, documents: int) -> tuple[dict, runs.Run]:
    """Draw a run and bring it into Solr by ``tinytags index``; return what that took."""
    kept = float((place.votes.max(axis=1) >= 4).mean())
    images = round(documents / kept)
    place.told(f"writing a run of {images:,} images, {documents:,} documents")
    with Progress("draw", images, "images") as progress:
        made_run, count = made.drawn_run(place.store, "tiny", place.votes, images, told=progress.add)
    size = sum(runs.read_statistics(place.store, made_run, p)["bytes"] for p in range(made_run.partitions))
    place.solr = place.start_solr(HEAP)
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
        "solr_peak_bytes": _peak_bytes(place.solr.pid),
    }
    place.store.remove_tree(f"{runs.run_path(made_run.name)}/tags")
    return found, made_run


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


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


def _remove_solr(place) -> None:
    import shutil

    shutil.rmtree(place.folder / "solr", ignore_errors=True)


# The page


def _ask_pages(place, made_run, count: int) -> dict:
    """Ask for first, filtered and deep pages as one user and as many; and for an export where the page has one."""
    found = {}
    with place.page(ALIAS) as url:
        client = Client(url)
        began = time.perf_counter()
        client.get("/")
        found["counting_seconds"] = (
            time.perf_counter() - began
        )  # the page counts what there is when first asked
        searches = never_asked(made_run.classes, seed=5)
        asked = {
            "first": itertools.repeat("/"),
            "filtered": (state.url() for state in searches),
            "page 1,000": (state.with_page(1000).url() for state in searches),
        }
        load.ask(url, 1, asked["filtered"], max(count // 4, 1))  # warms Solr up
        for users in USERS:
            for name, paths in asked.items():
                place.told(f"{count} pages for {users} users: {name}")
                found[f"{name}, {users}"] = load.ask(url, users, paths, count)
        found["export"] = _export(place, client, url, made_run)
    return found


def _export(place, client: Client, url: str, made_run) -> dict | None:
    """Export about a million hits; None where the page has no link that does."""
    state = _about_a_million(place, made_run)
    links = re.findall(r'href="([^"]*(?:export|\.csv|\.jsonl)[^"]*)"', client.get(state.url()).decode())
    if not links:
        place.told("the page has no export")
        return None
    place.told(f"exporting: {links[0]}")
    import http.client as http
    from urllib.parse import urlsplit

    connection = http.HTTPConnection(urlsplit(url).netloc)
    began = time.perf_counter()
    connection.request("GET", links[0].replace("&amp;", "&"))
    answer = connection.getresponse()
    lines = size = 0
    while block := answer.read(1 << 20):
        lines, size = lines + block.count(b"\n"), size + len(block)
    seconds = time.perf_counter() - began
    return {
        "status": answer.status,
        "lines": lines,
        "bytes": size,
        "seconds": seconds,
        "lines_per_second": lines / seconds,
    }


def _about_a_million(place, made_run) -> SearchState:
    """Return the search for one tag at 40 %, or for several, that comes nearest to a million hits."""
    from indexing.solr import Solr

    facet = {"tags": {"type": "terms", "field": "tag", "limit": -1}}
    answer = Solr(place.solr.url).select(
        made_run.name, {"q": "votes:[4 TO 4]", "rows": 0, "json.facet": json.dumps(facet)}
    )
    chosen, total = [], 0
    for bucket in answer["facets"].get("tags", {}).get("buckets", []):
        if not chosen or total + bucket["count"] <= 1.2 * EXPORTED:
            chosen, total = [*chosen, bucket["val"]], total + bucket["count"]
    return SearchState(tags=tuple(sorted(chosen)), confidence=(40, 40))


# Images


def _images_to_tags(place, images: int) -> dict:
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
        marker = corpora.statistics_path if step == "ingest" else runs.statistics_path
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


def rows(results: dict) -> list[dict]:
    """Return the rows of the table in docs/scale.md."""
    index, page, images = results["index"], results["page"], results["images"]
    found = [
        told("full/index", f"index {index['documents']:,} documents", "with commits", index["documents_per_second"], "documents/s"),
        _even("full/index-even", "index", index["parts_per_second"]),
        told("full/index-size", "size of the index", "bytes a document", index["index_bytes"] / index["documents"], "bytes"),
        told("full/heap", f"Solr's memory, heap {index['heap']}", "most heap in use", index["heap_used_bytes"] / 1e6, "MB"),
        told("full/memory", f"Solr's memory, heap {index['heap']}", "most of the process", index["solr_peak_bytes"] / 1e6, "MB"),
        told("full/counting", "first page of a new index", "counts included", page["counting_seconds"], "s"),
    ]  # fmt: skip
    for name, limits in {"first": (15, 60), "filtered": (15, 60), "page 1,000": (None, None)}.items():
        for users in USERS:
            asked = page[f"{name}, {users}"]
            words = f"{name} page" if name != "page 1,000" else "page 1,000, filtered"
            crowd = "1 user" if users == 1 else f"{users} users, {asked['pages_per_second']:.0f} pages/s"
            for percent, limit in zip((50, 99), limits, strict=True):
                label = f"full/{name.replace(' ', '-')}-{users}-p{percent}"
                target = limit if users == 1 else None
                found.append(
                    told(
                        label,
                        words,
                        f"p{percent}, {crowd}",
                        asked[f"p{percent}_ms"],
                        "ms",
                        target,
                        at_most=True,
                    )
                )
    answers = [asked for asked in page.values() if isinstance(asked, dict) and "failed" in asked]
    failed = sum(asked["failed"] for asked in answers)
    note = next((asked["failure"] for asked in answers if asked["failed"]), "")
    found.append(
        told("full/failed", "pages that were not answered", f"of {sum(a['pages'] for a in answers):,}", failed, "pages", 0,
             at_most=True, note=note)
    )  # fmt: skip
    if page["export"]:
        export = page["export"]
        found.append(
            told(
                "full/export",
                f"export of {export['lines']:,} lines",
                "streamed",
                export["lines_per_second"],
                "lines/s",
            )
        )
    for step in ("ingest", "tag"):
        done = images[step]
        found += [
            told(f"full/{step}", f"{step} {done['images']:,} images", "all cores, local", done["images_per_second"], "images/s"),
            _even(f"full/{step}-even", step, done["parts_per_second"]),
        ]  # fmt: skip
    return found


def _even(name: str, step: str, parts: list[float]) -> dict:
    """How the rate at the end stands to that at the start."""
    return told(
        name,
        f"{step}: rate at the end",
        "rate at the start, a tenth of the work each",
        parts[-1] / parts[0],
        "x",
        0.7,
    )


if __name__ == "__main__":
    run(main)
