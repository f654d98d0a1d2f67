"""Import a network from elsewhere, ONNX or TensorFlow Lite, and measure it on labelled images."""

import functools
import os
import sys
from pathlib import Path

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options, split_names
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, listed
from storage import layout as paths
from tagging.network.inputs import LARGEST_SIZE, LAYOUTS, ORDERS, SCALES
from tagging.training import HOLDOUT, SEED

# Labelled images on which the ways to give an image to a network are tried; others are for measuring the best of them.
TRIED_IMAGES = 500
UNMEASURED = "nothing (imported with --unmeasured)"


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="NAME", help="What to call the model.")
@click.option(
    "--corpus",
    metavar="LABELLED",
    help="Labelled images to try the network on, and to measure its accuracy on.",
)
@click.option(
    "--unmeasured", is_flag=True, help="Import it without measuring its accuracy; its page then says so."
)
@click.option("--classes", metavar="A,B,...", help="Its classes in the order of its output.")
@click.option(
    "--size", type=click.IntRange(1, LARGEST_SIZE), help="The width and height of the pictures it takes."
)
@click.option(
    "--scale",
    type=click.Choice(list(SCALES)),
    help="What pixels of 0 to 255 become; imagenet: with torchvision's means.",
)
@click.option("--channel-order", "order", type=click.Choice(ORDERS), help="The order of its colours.")
@click.option(
    "--layout", type=click.Choice(LAYOUTS), help="Whether its colours come last (nhwc) or first (nchw)."
)
@settings_options("store", "webhdfs")
@json_option
def main(file, model, corpus, unmeasured, classes, size, scale, order, layout, settings, as_json):
    """Import a network from elsewhere: ONNX, or TensorFlow Lite.

    Nothing in such a file says how it takes images, and a wrong scale of the pixels alone makes a good network useless.
    What is not given is tried on labelled images, and the accuracy is measured on others of the same corpus. Without
    labelled images give everything, and --unmeasured. Classes are by default those in the file (TensorFlow Lite), else
    those of the corpus.
    """
    names = split_names("--classes", classes) if classes else None
    card = import_model(settings, file, model, corpus, unmeasured, names, size, scale, order, layout)
    parameters = card["parameters"]
    summary = (
        f"model {model}: kind {card['kind']}, {len(card['classes']):,} classes; takes {parameters['takes']}"
    )
    if card.get("quality"):
        from tagging.quality import describe

        summary += f"\n{describe(card['quality'])}"
    else:
        summary += "; its accuracy is not measured"
    report(card, summary, as_json)


def import_model(
    settings: Settings,
    file: Path,
    model: str,
    corpus: str | None = None,
    unmeasured: bool = False,
    classes: list[str] | None = None,
    size: int | None = None,
    scale: str | None = None,
    order: str | None = None,
    layout: str | None = None,
) -> dict:
    """Import a network and return its card.

    Raises `tagging.network.NetworkError` for a file that is no network of one picture, and `TinyTagsError` where it can't
    be measured and ``unmeasured`` is not set, where the way it takes images is neither given nor can be tried, and where no
    way of those tried is better than guessing.
    """
    from ingest.corpus import open_corpus
    from storage import lease as leases
    from storage.store import check_name, store_of
    from tagging.models import model_exists, save_model
    from tagging.network import named
    from tagging.network.foreign import choose, choose_classes, open_foreign, ways
    from tagging.training import held_out_blocks, measure_model

    check_name("model", model)
    store = store_of(settings)
    if not corpus and not unmeasured:
        raise TinyTagsError(
            f"{file}: the accuracy of this network is not known; give labelled images by --corpus NAME, or --unmeasured"
        )
    source = open_corpus(store, corpus) if corpus else None
    if source is not None and not source.classes:
        raise TinyTagsError(
            f"corpus {corpus!r} has no labels to measure by; give one that has, like CIFAR-10"
        )
    if model_exists(store, model):
        raise TinyTagsError(
            f"model {model!r} is there already; give this one another name, or remove {store.url(paths.model_folder(model))}"
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise TinyTagsError(f"{file}: {error.strerror}") from None
    with named(str(file)):
        foreign = open_foreign(data)
        names = choose_classes(foreign, classes, source.classes if source else None)
        taken = ways(foreign, size, scale, order, layout)
    if source is not None:
        unknown = [name for name in source.classes or [] if name not in names]
        if unknown:
            raise TinyTagsError(
                f"corpus {corpus!r} has labels {listed(unknown, 5)}, the network has only {listed(names, 10)}; give the "
                "network's classes, in its order and under the corpus' names, by --classes"
            )
    card: dict = {"engine": "imported"}
    images = labels = None
    if source is not None:
        images, labels = examples(store, source, names)
    with named(str(file)):
        network, takes, tried = choose(foreign, taken, names, images, labels)
    card["parameters"] = {"takes": takes, "file": file.name, "file_sha256": foreign.sha256}
    if images is not None and len(tried) > 1:
        card["tried"] = [{"takes": one, "accuracy": accuracy} for one, accuracy in tried]
        ways_tried = [f"{one}: {accuracy:.1%}" for one, accuracy in tried]
        best_and_worst = [*ways_tried[:3], *(["..."] if len(tried) > 4 else []), *ways_tried[3:][-1:]]
        note(
            f"import: tried {len(tried)} input formats, on {counted(len(images), 'labelled image')}: {'; '.join(best_and_worst)}"
        )
    if source is not None:
        quality = measure_model(network, renumbered(held_out_blocks(store, source), source.classes, names))
        card |= {
            "quality": quality,
            "measured_on": {"corpus": corpus, "corpus_hash": source.hash, "images": quality["images"],
                            "part": "test" if source.splits else f"held out, {HOLDOUT:.0%}"},
        }  # fmt: skip
    else:
        card["measured_on"] = UNMEASURED
    with leases.lease(store, paths.model_lease(model), f"model {model!r}"):
        return save_model(store, model, network, card)


def examples(store, corpus, classes):
    """Return up to `TRIED_IMAGES` images (n, 3072) and labels (n,), places in ``classes``, that are not measured on."""
    from tagging.tags import renumbering
    from tagging.training import choose, labelled_part

    part = functools.partial(choose, corpus, SEED, HOLDOUT, train=True)
    images, labels = labelled_part(store, corpus, part, most=TRIED_IMAGES)
    if not len(labels):
        raise TinyTagsError(f"corpus {corpus.name!r} has no labelled image to try the network on")
    return images, renumbering(corpus.classes, classes)[labels]


def renumbered(blocks, names, classes):
    """Yield blocks of images and labels with the labels of a corpus turned into places in a network's ``classes``."""
    from tagging.tags import renumbering

    numbers = renumbering(names, classes)
    for images, labels in blocks:
        yield images, numbers[labels]


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.import_model import main

    run(main)
