"""The whole scale once: ``python -m bench.full [--documents N] [--images N] [--annotated N] [--out DIR]``."""

import dataclasses

import click

from bench import report
from bench.__main__ import finish, measure, out_option
from bench.place import ROOT, Place
from bench.sizes import FULL, QUICK
from conf.command import run

DOCUMENT = ROOT / "docs" / "scale.md"
# On disk: a document's line, its place in the index three times over while segments merge, and Solr's log; and an image in
# the dump, in Parquet, and its line.
DOCUMENT_BYTES, IMAGE_BYTES, SPARE_BYTES = 450, 6_500, 8_000_000_000
# Of an image with labels and relations: its rows as CSV and Parquet, its documents, and their places in the index.
ANNOTATED_BYTES = 2_500
IMAGES = 5_000_000
GROUPS = ("full", "whole", "annotations")
COUNT = click.IntRange(min=100)


@click.command("bench-full")
@click.option("--documents", type=COUNT, default=FULL.documents, show_default=True)
@click.option("--images", type=COUNT, default=IMAGES, show_default=True)
@click.option(
    "--annotated", type=COUNT, default=FULL.annotated, show_default=True, help="Images with labels."
)
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="Only this group; repeatable.")
@out_option
def main(documents, images, annotated, only, out):
    """Index as many documents as 80 million images have, request pages of them, tag 5 million images from a dump, and explore the
    labels and relations of as many images as Open Images has.

    Takes about half an hour, 10 minutes of it for the labels and relations, and about 40 GB of disk, which it checks first and
    frees at the end. At full size it also writes the measured figures into docs/scale.md.
    """
    full = documents >= FULL.documents and images >= IMAGES and annotated >= FULL.annotated and not only
    # As many pages as a figure for 99 % needs.
    pages = FULL.annotation_pages if annotated > QUICK.annotated else QUICK.annotation_pages
    sizes = dataclasses.replace(
        FULL if full else QUICK, documents=documents, whole=images, annotated=annotated, annotation_pages=pages, heap="2g"
    )  # fmt: skip
    needed = max(documents * DOCUMENT_BYTES, images * IMAGE_BYTES, annotated * ANNOTATED_BYTES)
    with Place(sizes, needed=needed + full * SPARE_BYTES) as place:
        results = measure(place, [name for name in GROUPS if name in (only or GROUPS)])
    report.write_json(out / "scale.json", results)
    if full:
        report.write_section(DOCUMENT, "bench-full", report.section(results))
    finish(results)


if __name__ == "__main__":
    run(main)
