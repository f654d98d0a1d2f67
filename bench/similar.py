"""What similar images cost and how well they are found: ``python -m bench.similar``, into docs/performance.md."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import numpy as np

from bench import machine, report
from bench.harness import Comparison, Way, compare, number, percentile
from bench.place import Place
from bench.rows import index as indexing
from bench.rows import tag as tagging
from bench.sizes import FULL
from conf.command import note, run
from indexing.index import index_run
from indexing.query.published import PublishedIndex
from ingest.corpus import read_partition
from search_ui.library import Library
from search_ui.similar import MOST_SIMILAR, similar_images
from storage import runs
from tagging import descriptor

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
ALIAS = "similar"
ASKED = 500


@click.command("similar")
@click.option("--images", default=160_000, show_default=True, help="To tag, index and look into.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--print", "printed", is_flag=True, help="Leave docs/performance.md as it is.")
def main(images, rounds, printed):
    """Tag and index the same images with and without descriptors, in turn, and look for what is similar to some of them."""
    sizes = replace(FULL, images=images, rounds=rounds, thumbnail_partition=1)
    with Place(sizes, told=note) as place:
        text = section(place, *measure(place))
    if printed:
        click.echo(text)
    else:
        report.write_section(DOCUMENT, "similar", text)


def measure(place: Place) -> tuple[list[dict], dict, dict]:
    """Return the rows of the comparisons, bytes a document, and what was found how soon."""
    corpus, partitions = place.corpus, list(range(place.corpus.partitions))
    plain = tagging.make_run(place.store, corpus, place.model, place.forest)
    described = replace(plain, descriptor=descriptor.NAME)
    runs.create_run(place.store, described)
    rows = compare(
        Comparison(
            "similar/tag",
            "tag job, all cores, Parquet to JSON lines",
            *(
                Way(
                    words,
                    lambda r=r: tagging.tag(place.store, place.spark, corpus, r, partitions),
                    corpus.images,
                    before=lambda r=r: tagging.forget(place.store, r),
                )
                for words, r in (("with descriptors", described), ("without", plain))
            ),
            "images",
            rounds=place.sizes.rounds,
        ),
        place.told,
    )
    place.stop_spark()
    documents = sum(runs.read_statistics(place.store, plain, p)["tagged"] for p in partitions)
    client = place.solr_client
    rows += compare(
        Comparison(
            "similar/index",
            "index, with commits",
            *(
                Way(
                    words,
                    lambda r=r: index_run(place.store, r.name, client, ALIAS, publication="no")["documents"],
                    documents,
                    before=lambda r=r: indexing.renew(client, r.name),
                )
                for words, r in (("with descriptors", described), ("without", plain))
            ),
            "documents",
            rounds=place.sizes.rounds,
            warm_ups=2,
        ),
        place.told,
    )
    sizes = {
        kind: (
            sum(runs.read_statistics(place.store, r, p)["bytes"] for p in partitions) / documents,
            index_bytes(place, r.name) / documents,
        )
        for kind, r in (("with", described), ("without", plain))
    }
    return rows, sizes, look(place, described)


def index_bytes(place: Place, collection: str) -> int:
    """Return what the files of a collection's indexes take."""
    folders = place.solr.directory.glob(f"home/{collection}_*/data/index*")
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())


def look(place: Place, run: runs.Run) -> dict:
    """Ask for what is similar to some images, and compare it with what comparing them with all images gives."""
    client = place.solr_client
    client.set_alias(ALIAS, [run.name])
    published, library = PublishedIndex(client, ALIAS, 3600), Library(place.store)
    blocks = [list(read_partition(place.store, place.corpus, p)) for p in range(run.partitions)]
    images = [np.concatenate([block.images for block in found]) for found in blocks]
    tagged = [kept(place.forest.votes(found), run) for found in images]
    known = np.concatenate(
        [descriptor.describe(found[rows]) for found, rows in zip(images, tagged, strict=True)]
    )
    known = known.astype(np.float32)
    seconds, found_of, squared_norms = [], [], (known**2).sum(axis=1)
    random = np.random.default_rng(1)
    for _ in range(ASKED + 50):  # the first ones warm Solr up
        p = random.integers(len(images))
        row = random.integers(len(images[p]))
        image = images[p][row : row + 1]
        began = time.perf_counter()
        hits = similar_images(client, published, library, image, (run.corpus, int(p), int(row)))
        seconds.append(time.perf_counter() - began)
        asked = descriptor.describe(image)[0].astype(np.float32)
        squared = squared_norms - 2 * known @ asked + asked @ asked
        if row in tagged[p]:
            squared[sum(map(len, tagged[:p])) + np.searchsorted(tagged[p], row)] = np.inf
        least = np.sqrt(np.partition(squared, MOST_SIMILAR - 1)[MOST_SIMILAR - 1])
        found_of.append(sum(hit["distance"] <= least + 0.05 for hit in hits) / MOST_SIMILAR)
    return {
        "documents": len(known),
        "p50": 1000 * median(seconds[50:]),
        "p99": 1000 * percentile(seconds[50:], 99),
        "recall": float(np.mean(found_of[50:])),
    }


def kept(votes: np.ndarray, run: runs.Run) -> np.ndarray:
    """Return the rows that get a tag."""
    return np.flatnonzero(votes.max(axis=1) >= run.min_confidence * run.trees)


def section(place: Place, rows: list[dict], sizes: dict, looked: dict) -> str:
    """Return the section of docs/performance.md."""
    table = [
        (
            row["step"],
            *(f"{report.short(row[side]['rate'])} {row['work_unit']}/s" for side in ("ours", "theirs")),
            report.figure(row),
        )
        for row in rows
    ]
    for place_of, words in ((0, "JSON lines, bytes a document"), (1, "index, bytes a document")):
        with_, without = sizes["with"][place_of], sizes["without"][place_of]
        table.append((words, f"{with_:.0f}", f"{without:.0f}", f"{number(with_ / without)}x"))
    return "\n\n".join(
        [
            f"Measured in one run on {machine.words(machine.describe())}; "
            + ("varied CIFAR-10 images." if place.real else "made images, no real ones."),
            report.markdown(("what", "with", "without", "ratio (least-most of the rounds)"), table),
            f"Of {looked['documents']:,} documents, the 12 that look most like an image, its description included: p50 "
            f"{looked['p50']:.1f} ms, p99 {looked['p99']:.1f} ms; {looked['recall']:.1%} of them are those that comparing with "
            f"all documents gives ({ASKED} images asked, none before).",
        ]
    )


if __name__ == "__main__":
    run(main)
