"""Write a network of the store as a file for other programs: ONNX, ONNX in int8, Keras, HDF5 or TensorFlow Lite."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, report, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings

FORMATS = ("onnx", "onnx-int8", "keras", "h5", "tflite")
# The training images from which the ranges of int8 are computed.
CALIBRATION_IMAGES = 1_000


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", required=True, metavar="NAME", help="The network to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="onnx",
    show_default=True,
    help="onnx-int8 is the same graph with weights and activations of one byte.",
)
@settings_options("store", "webhdfs")
@json_option
def main(file, model, form, settings, as_json):
    """Write a network as a file for other programs.

    Every format takes images as the store has them, (n, 3072) uint8, and gives a probability a class. h5, tflite and
    onnx-int8 need tinytags[train]; the ranges of int8 come from 1,000 images that the model was trained on.
    """
    size = export_model(settings, model, form, file)
    report(
        {"model": model, "format": form, "file": str(file), "bytes": size},
        f"{file}: model {model} as {form}, {size:,} bytes",
        as_json,
    )


def export_model(settings: Settings, model: str, form: str, file: Path) -> int:
    """Write a network of the store into ``file`` in one of `FORMATS`; return the size in bytes.

    Raises `TinyTagsError` for a model that is no network, for a format that it can't be written in, and where a package is
    missing.
    """
    from storage.store import store_of
    from tagging.model import AsOnnx
    from tagging.models import load_model, read_card

    store = store_of(settings)
    card, network = read_card(store, model), load_model(store, model)
    if not isinstance(network, AsOnnx):
        raise TinyTagsError(
            f"model {model!r} is of kind {card.get('kind')}; only networks are written in other formats"
        )
    data = FORMS[form](store, model, card, network)
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TinyTagsError(f"{file}: {error.strerror}") from None
    return len(data)


def _onnx(store, model: str, card: dict, network) -> bytes:
    return network.graph


def _int8(store, model: str, card: dict, network) -> bytes:
    from tagging.network.export import to_int8

    return to_int8(network.graph, training_images(store, model, card))


def _keras(store, model: str, card: dict, network) -> bytes:
    from storage import layout
    from tagging.network.export import KERAS_FILE

    path = layout.model_file(model, KERAS_FILE)
    if not store.exists(path):
        raise TinyTagsError(
            f"model {model!r} was not trained with engine keras: it can be written as onnx only"
        )
    return store.read_bytes(path)


def _converted(function: str, store, model: str, card: dict, network) -> bytes:
    from tagging.network import export

    loaded = export.from_keras(_keras(store, model, card, network), f"model {model!r}")
    return getattr(export, function)(loaded)


FORMS: dict[str, Callable[..., bytes]] = {
    "onnx": _onnx,
    "onnx-int8": _int8,
    "keras": _keras,
    "h5": functools.partial(_converted, "to_h5"),
    "tflite": functools.partial(_converted, "to_tflite"),
}


def training_images(store, model: str, card: dict):
    """Return up to `CALIBRATION_IMAGES` images (n, 3072) that a model was trained on, as its card says.

    Raises `TinyTagsError` where these are not in the store.
    """
    from ingest.corpus import open_corpus
    from tagging.training import HOLDOUT, SEED, choose, labelled_part

    trained_on, parameters = card.get("trained_on") or {}, card.get("parameters") or {}
    if not isinstance(trained_on, dict) or "corpus" not in trained_on:
        raise TinyTagsError(
            f"the card of model {model!r} has no corpus that it was trained on, whose images int8 needs"
        )
    corpus = open_corpus(store, trained_on["corpus"])
    if corpus.hash != trained_on.get("corpus_hash"):
        raise TinyTagsError(
            f"corpus {corpus.name!r} is not the one that model {model!r} was trained on: its hash is {corpus.hash}, the "
            f"card has {trained_on.get('corpus_hash')}"
        )
    part = functools.partial(
        choose, corpus, parameters.get("seed", SEED), parameters.get("holdout", HOLDOUT), train=True
    )
    images, _ = labelled_part(store, corpus, part, most=CALIBRATION_IMAGES)
    if not len(images):
        raise TinyTagsError(f"corpus {corpus.name!r} has no labelled image")
    return images


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.export_model import main

    run(main)
