"""Writes an evaluation as one HTML file with its plots and pictures in it, which a browser shows without a network."""

import base64
from typing import Any

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from ingest.image import to_png
from ingest.partition import read_image
from storage.store import Store
from tagging import cards, plots
from tagging.calibration import ENOUGH_IMAGES


def html_report(store: Store, corpus: Corpus, card: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Return the report of one evaluation of a card's model on ``corpus``; an image that can't be read has no picture.

    Raises `TinyTagsError` for an evaluation that is not as `tinytags evaluate` writes it.
    """
    from jinja2 import Environment, PackageLoader

    read = cards.read_evaluations(card | {"evaluations": [evaluation]})
    if not read:
        raise TinyTagsError(f"the evaluation of model {card.get('name')!r} has no quality to report")
    (one,), quality = read, read[0].quality
    environment = Environment(
        loader=PackageLoader("tagging"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda n: f"{n:,}"
    classes = quality.classes
    if len(classes) > cards.TABLE_CLASSES:
        classes = sorted(classes, key=lambda row: -row.images)[: cards.TABLE_CLASSES]
    facts = [
        ("model", str(card["name"])),
        ("model's hash", str(card["hash"])),
        ("corpus", corpus.name),
        ("corpus' hash", corpus.hash),
        ("measured on", one.measured_on),
        ("measured", str(evaluation.get("measured", ""))),
    ]
    return environment.get_template("report.html").render(
        name=card["name"],
        evaluation=one,
        quality=quality,
        calibration=plots.calibration([(card["name"], quality)]),
        coverage=plots.coverage([(card["name"], quality)]),
        plots=plots,
        thresholds=cards.few(quality.thresholds),
        classes=classes,
        left_out=len(quality.classes) - len(classes),
        enough=ENOUGH_IMAGES,
        darkest=max((cell.share for row in quality.confusion or [] for cell in row), default=0),
        mistakes=[mistake | {"png": _picture(store, corpus, mistake)} for mistake in one.mistakes],
        facts=facts,
    )


def _picture(store: Store, corpus: Corpus, mistake: dict[str, Any]) -> str | None:
    """Return an image as a PNG in a data: URI."""
    try:
        image = read_image(store, corpus, mistake["partition"], mistake["row"]).images[0]
    except TinyTagsError:
        return None
    return f"data:image/png;base64,{base64.b64encode(to_png(image)).decode()}"
