"""Labels an unlabelled corpus in a browser, trains on the labels from the page and measures the model: ``python -m studies.labelling --source STORE``."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench import sizes
from bench.place import Place
from conf.command import note, run
from ingest.corpus import Corpus, open_corpus
from ingest.image import from_column_major
from operations.chromium import find_chromium
from storage.store import Store, open_store
from tagging.quality import wilson
from tagging.training import labelled_part

ALIAS = "labelling"
WAIT_MS = 600_000


@click.command("labelling")
@click.option("--source", required=True, metavar="STORE", help="The store of the labelled corpus.")
@click.option("--corpus", default="cifar-10", show_default=True, help="A labelled corpus with a test part.")
@click.option(
    "--images", default=8000, show_default=True, help="Training images, which become a corpus without labels."
)
@click.option("--labels", default=50, show_default=True, help="Labels given of each class.")
@click.option(
    "--partition-images", default=1000, show_default=True, help="Images of a partition of that corpus."
)
@click.option("--show", default="random", show_default=True, help="What the page suggests to label.")
def main(source, corpus, images, labels, partition_images, show):
    """Start from images without labels, label them by keys in Chromium, train, compare and publish, all on the page.

    The labels are the true ones. The seconds count from the first page to the published run; the accuracy is measured on the test part.
    """
    labelled = open_corpus(open_store(source), corpus)
    with Place(sizes.QUICK) as place:
        truth = make_unlabelled(open_store(source), labelled, place, images, partition_images)
        shutil.copytree(Path(source, "corpora", corpus), place.store.url(f"corpora/{corpus}"))
        os.environ["TINYTAGS_DATABASE"] = f"sqlite:///{place.folder}/labels.db"
        with place.page(ALIAS) as (address, _):
            times = label_and_train(
                address, truth, partition_images, list(labelled.classes or []), labels, show
            )
        measured = place.run_tinytags(
            "--master", "processes", "evaluate", "--model", "labels-1", "--corpus", corpus
        )
    images_measured, accuracy = measured["quality"]["images"], measured["quality"]["accuracy"]
    low, high = wilson(round(accuracy * images_measured), images_measured)
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times.items() if name != "all")
    click.echo(
        f"accuracy {accuracy:.1%} ({low:.1%} to {high:.1%}) of {images_measured:,} test images with {labels} labels a class; "
        f"{times['all']:.0f} s from the first page to the published run of {images:,} images: {steps}"
    )


def make_unlabelled(
    source: Store, labelled: Corpus, place: Place, images: int, partition_images: int
) -> NDArray[np.int32]:
    """Ingest training images as the corpus "unlabelled", in random order; return their labels (n,) int32."""
    first, last = labelled.splits["train"]

    def training(partition: int) -> NDArray[np.bool_]:
        start, stop = labelled.rows(partition)
        return (np.arange(start, stop) >= first) & (np.arange(start, stop) < last)

    pixels, labels = labelled_part(source, labelled, training)
    chosen = np.random.default_rng(0).permutation(len(labels))[:images]
    dump = place.folder / "unlabelled.bin"
    dump.write_bytes(from_column_major(pixels[chosen]).tobytes())  # a transpose is its own inverse
    place.run_tinytags(
        "--master",
        "processes",
        "ingest",
        str(dump),
        "--corpus",
        "unlabelled",
        "--partition-images",
        str(partition_images),
    )
    return labels[chosen]


def label_and_train(
    address: str, truth: NDArray[np.int32], partition_images: int, classes: list[str], labels: int, show: str
) -> dict[str, float]:
    """Do all of it in a browser; return the seconds of each step."""
    from playwright.sync_api import sync_playwright

    times: dict[str, float] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(base_url=address)
        page.set_default_timeout(WAIT_MS)
        began = last = time.monotonic()
        page.goto(f"/label?corpus=unlabelled&per_page=120&show={show}")
        page.get_by_label("Classes, one a line").fill("\n".join(classes))
        page.get_by_role("button", name="Start").click()
        page.get_by_label("Your name").fill("bench")
        page.get_by_label("Your name").blur()
        given = Counter[int]()
        while True:
            label_page(page, truth, partition_images, given, labels)
            if min(given[label] for label in range(len(classes))) >= labels:
                break
            url = page.url
            page.keyboard.press("Enter")
            page.wait_for_function(
                "url => location.href !== url && document.querySelector('#label.live')", arg=url
            )
        times["label"] = time.monotonic() - last
        note(f"labelling: {sum(given.values())} labels given")
        last = time.monotonic()
        page.get_by_role("button", name="Train on these").click()
        page.get_by_role("link", name="See what changes").click()
        times["train and tag"] = time.monotonic() - last
        last = time.monotonic()
        page.get_by_role("button", name="Publish").click()
        page.wait_for_url("**/")
        page.locator("#total").wait_for()
        assert page.locator("#total strong").inner_text().replace(",", "") == str(len(truth))
        times["compare and publish"] = time.monotonic() - last
        times["all"] = time.monotonic() - began
        browser.close()
    return times


def label_page(
    page: Any, truth: NDArray[np.int32], partition_images: int, given: Counter[int], most: int
) -> None:
    """Give the images of one page their labels, up to ``most`` of each class."""
    keys = page.locator("#classes button").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-keyshortcuts'))"
    )
    places = page.locator("#to-label > li").evaluate_all(
        "all => all.map(one => [Number(one.dataset.partition), Number(one.dataset.row)])"
    )
    for partition, row in places:
        label = int(truth[partition * partition_images + row])
        if given[label] < most:
            page.keyboard.press(keys[label])
            given[label] += 1
        else:
            page.keyboard.press("ArrowRight")


if __name__ == "__main__":
    run(main)
