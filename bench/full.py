"""The whole scale once: ``python -m bench.full [--documents N] [--images N] [--out DIR]``."""

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
IMAGES = 5_000_000


@click.command("bench-full")
@click.option("--documents", type=click.IntRange(min=100), default=FULL.documents, show_default=True)
@click.option("--images", type=click.IntRange(min=100), default=IMAGES, show_default=True)
@out_option
def main(documents, images, out):
    """Index as many documents as 80 million images have, request pages of them, and tag 5 million images from a dump.

    Takes about half an hour and about 40 GB of disk, which it checks first and frees at the end. At full size it also
    writes the measured figures into docs/scale.md.
    """
    full = documents >= FULL.documents and images >= IMAGES
    sizes = dataclasses.replace(FULL if full else QUICK, documents=documents, whole=images, heap="2g")
    needed = max(documents * DOCUMENT_BYTES, images * IMAGE_BYTES) + full * SPARE_BYTES
    with Place(sizes, needed=needed) as place:
        results = measure(place, ["full", "whole"])
    report.write_json(out / "scale.json", results)
    if full:
        report.write_section(DOCUMENT, "bench-full", report.section(results))
    finish(results)


if __name__ == "__main__":
    run(main)
