"""The cost of descriptors and how well they find similar images: ``python -m bench.similar``, into docs/performance.md."""

import time
from dataclasses import replace
from statistics import median

import click
import numpy as np

from bench import machine, report
from bench.__main__ import DOCUMENT
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

ALIAS = "similar"
QUERIES, WARM_UP = 500, 50
TITLES = {
    "similar/tag": "tag job, all cores, Parquet to JSON lines",
    "similar/index": "index, with commits",
}


@click.command("similar")
@click.option("--images", default=160_000, show_default=True, help="To tag, index and search.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--print", "printed", is_flag=True, help="Leave docs/performance.md as it is.")
def main(images, rounds, printed):
    """Tag and index the same images with and without descriptors, in turn, and search for images similar to some of them."""
    sizes = replace(FULL, images=images, rounds=rounds, thumbnail_partition=1)
    with Place(sizes, note=note) as place:
        text = section(place, *measure(place))
    if printed:
        click.echo(text)
    else:
        report.write_section(DOCUMENT, "similar", text)


def measure(place: Place) -> tuple[list[dict], dict, dict]:
    """Return the rows of the comparisons, the bytes of a document, and the results of the searches."""
    store, corpus, partitions = place.store, place.corpus, list(range(place.corpus.partitions))
    plain = tagging.make_run(store, corpus, place.model, place.forest)
    described = replace(plain, descriptor=descriptor.NAME)
    runs.create_run(store, described)
    kinds = {"with descriptors": described, "without": plain}

    def compared(name: str, unit: str, work: int, action, before, **options) -> list[dict]:
        ways = (
            Way(words, lambda r=r: action(r), work, before=lambda r=r: before(r))
            for words, r in kinds.items()
        )
        return compare(
            Comparison(name, TITLES[name], *ways, unit, rounds=place.sizes.rounds, **options), place.note
        )

    rows = compared(
        "similar/tag", "images", corpus.images,
        lambda r: tagging.tag(store, place.spark, corpus, r, partitions), lambda r: tagging.forget(store, r),
    )  # fmt: skip
    place.stop_spark()
    documents = sum(runs.read_statistics(store, plain, p)["tagged"] for p in partitions)
    client = place.solr_client
    rows += compared(
        "similar/index", "documents", documents,
        lambda r: index_run(store, r.name, client, ALIAS, publication="no")["documents"],
        lambda r: indexing.renew(client, r.name), warm_ups=2,
    )  # fmt: skip
    sizes = {
        kind: (
            sum(runs.read_statistics(store, r, p)["bytes"] for p in partitions) / documents,
            index_bytes(place, r.name) / documents,
        )
        for kind, r in (("with", described), ("without", plain))
    }
    return rows, sizes, search_similar(place, described)


def index_bytes(place: Place, collection: str) -> int:
    """Return the bytes of a collection's index files."""
    folders = place.solr.directory.glob(f"home/{collection}_*/data/index*")
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())


def search_similar(place: Place, run: runs.Run) -> dict:
    """Search for images similar to some, and compare the hits with a comparison of all images."""
    client = place.solr_client
    client.set_alias(ALIAS, [run.name])
    published, library = PublishedIndex(client, ALIAS, 3600), Library(place.store)
    blocks = [list(read_partition(place.store, place.corpus, p)) for p in range(run.partitions)]
    images = [np.concatenate([block.images for block in of_partition]) for of_partition in blocks]
    least_votes = run.min_confidence * run.trees
    tagged = [np.flatnonzero(place.forest.votes(some).max(axis=1) >= least_votes) for some in images]
    vectors = [descriptor.describe(some[rows]) for some, rows in zip(images, tagged, strict=True)]
    known = np.concatenate(vectors).astype(np.float32)
    seconds, recalls, squared_norms = [], [], (known**2).sum(axis=1)
    random = np.random.default_rng(1)
    for _ in range(QUERIES + WARM_UP):
        p = random.integers(len(images))
        row = random.integers(len(images[p]))
        image = images[p][row : row + 1]
        began = time.perf_counter()
        hits = similar_images(client, published, library, image, (run.corpus, int(p), int(row)))
        seconds.append(time.perf_counter() - began)
        query = descriptor.describe(image)[0].astype(np.float32)
        squared = squared_norms - 2 * known @ query + query @ query
        if row in tagged[p]:
            squared[sum(map(len, tagged[:p])) + np.searchsorted(tagged[p], row)] = np.inf
        least = np.sqrt(np.partition(squared, MOST_SIMILAR - 1)[MOST_SIMILAR - 1])
        recalls.append(sum(hit["distance"] <= least + 0.05 for hit in hits) / MOST_SIMILAR)
    return {
        "documents": len(known),
        "p50": 1000 * median(seconds[WARM_UP:]),
        "p99": 1000 * percentile(seconds[WARM_UP:], 99),
        "recall": float(np.mean(recalls[WARM_UP:])),
    }


def section(place: Place, rows: list[dict], sizes: dict, searched: dict) -> str:
    """Return the section of docs/performance.md."""
    table = [
        (row["step"], report.rate(row, "ours"), report.rate(row, "theirs"), report.figure(row))
        for row in rows
    ]
    for i, words in enumerate(("JSON lines, bytes a document", "index, bytes a document")):
        with_, without = sizes["with"][i], sizes["without"][i]
        table.append((words, f"{with_:.0f}", f"{without:.0f}", f"{number(with_ / without)}x"))
    return "\n\n".join(
        [
            report.measured_on({"machine": machine.describe(), "real_images": place.real}),
            report.markdown(("what", "with", "without", "ratio (least-most of the rounds)"), table),
            f"Of {searched['documents']:,} documents, the 12 most similar to an image, its description included: p50 "
            f"{searched['p50']:.1f} ms, p99 {searched['p99']:.1f} ms; {searched['recall']:.1%} of them are those that a "
            f"comparison with all documents finds ({QUERIES} images, each searched once).",
        ]
    )


if __name__ == "__main__":
    run(main)
