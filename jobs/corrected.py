"""The corrections that a model is trained on, beside the rows of a corpus."""

import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from conf.command import note
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted
from ingest.corpus import Corpus
from ingest.image import IMAGE_BYTES
from storage.store import Store
from tagging.training import Part
from tagging.types import LabelledBlock


class Corrected(NamedTuple):
    """Corrected images, for training beside the rows of a corpus."""

    images: np.ndarray  # (n, 3072) uint8
    labels: np.ndarray  # (n,) int32

    @classmethod
    def nothing(cls) -> "Corrected":
        return cls(np.empty((0, IMAGE_BYTES), np.uint8), np.empty(0, np.int32))


def with_corrections(
    settings: Settings,
    store: Store,
    corpus: Corpus,
    part: Part,
    held_out: Iterable[LabelledBlock],
    classes: list[str],
) -> tuple[Part, Corrected, dict[str, Any]]:
    """Return ``part`` without the corrected rows, the corrected images with the labels that most people give, and what a card says of them.

    Pictures of the history whose answer a person corrected come after the images. Labels are places in ``classes``; corrections to others are left out. An image in the ``held_out`` blocks is never used for training, whichever corpus it was corrected in. Prints a note on
    the corrections that are left out, with the reasons.
    """
    from records.corrections import open_corrections
    from records.majority import peoples_labels
    from records.predictions import Filters, open_predictions
    from records.training import read_corrected, read_pictures

    corrections = open_corrections(settings.database)
    given = peoples_labels(corrections.newest())
    usable, images, labels, reasons = read_corrected(store, given, classes)
    history = list(open_predictions(settings.database).every(Filters(corrected=True)))
    pictures, of_pictures, more = read_pictures(history, classes)
    images, labels = np.concatenate([images, pictures]), np.concatenate([labels, of_pictures])
    reasons += more
    measured = {image.tobytes() for image in images}
    measured &= {image.tobytes() for block, _ in held_out for image in block} if measured else set()
    kept = [n for n, image in enumerate(images) if image.tobytes() not in measured]
    if len(kept) < len(images):
        reasons.append(
            f"{len(images) - len(kept):,} of images that corpus {corpus.name!r} keeps for measuring"
        )
    if reasons and kept:
        left_out = len(given) + len({one.image for one in history}) - len(kept)
        note(f"train: without {counted(left_out, 'correction')}: {'; '.join(reasons)}")
    if not kept:
        raise TinyTagsError(
            f"database {corrections.address!r} has no correction to learn from{''.join(f'; {reason}' for reason in reasons)}; "
            "leave --corrections out, or correct tags on the pages of images"
        )
    used = [usable[n] for n in kept if n < len(usable)]
    learnt_pictures = [n for n in kept if n >= len(usable)]
    own: dict[int, list[int]] = {}
    for correction in used:
        if correction.corpus_hash == corpus.hash:
            own.setdefault(correction.partition, []).append(correction.row)
    facts: list[list[Any]] = [[one.corpus_hash, one.partition, one.row, one.label] for one in used]
    facts += [[hashlib.sha256(images[n]).hexdigest(), classes[labels[n]]] for n in learnt_pictures]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    about = {
        "corrections": len(kept), "corrections_hash": digest, "corrections_of": sorted({one.corpus_hash for one in used}),
    }  # fmt: skip
    return functools.partial(_others, part, own), Corrected(images[kept], labels[kept]), about


def corrected_classes(settings: Settings, corpus: Corpus) -> list[str]:
    """Return the classes of a corpus, then the other labels that people gave its images, sorted.

    Its own come first, so that their numbers, which are the labels of its rows, stay. A corpus without any classes or labels gets the labels of all corpora.
    """
    from records.corrections import open_corrections
    from records.majority import peoples_labels

    newest = peoples_labels(open_corrections(settings.database).newest())
    labels = [(one.corpus_hash, one.label) for one in newest if one.label is not None]
    given = {label for corpus_hash, label in labels if corpus_hash == corpus.hash}
    own = corpus.classes or []
    return [*own, *sorted(given - {*own})] if own or given else sorted({label for _, label in labels})


def _others(part: Part, own: dict[int, list[int]], partition: int) -> np.ndarray:
    """Return the rows in ``part`` without the partition's ``own``."""
    chosen = part(partition).copy()
    chosen[own.get(partition, [])] = False
    return chosen
