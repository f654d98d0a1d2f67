"""The images and labels that a model can learn from corrections."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.corpus import Corpus, list_corpora, open_corpus
from ingest.image import IMAGE_BYTES
from ingest.partition import read_image
from records.majority import PeoplesLabel
from records.predictions import Prediction
from storage.store import FileUnavailableError, Store, StoreUnavailableError


def read_corrected(
    store: Store, corrections: Iterable[PeoplesLabel], classes: list[str]
) -> tuple[list[PeoplesLabel], npt.NDArray[np.uint8], npt.NDArray[np.int32], list[str]]:
    """Return the corrections that can be learnt, their images (n, 3072) uint8 and labels (n,) int32, and why others can't be.

    A label is an index into ``classes``. Raises `FileUnavailableError` and `StoreUnavailableError` where an image can't
    be read now: a model must not learn less because a server is down.
    """
    corpora: dict[str, Corpus | None] = dict.fromkeys(list_corpora(store))
    usable, images, labels, reasons = [], [], [], Counter[str]()
    for correction in corrections:
        name = correction.corpus
        if correction.label is None:
            reasons["of images whose label is disputed: as many people give another"] += 1
            continue
        if correction.label not in classes:
            reasons[f"{correction.label!r}, which is none of the classes"] += 1
            continue
        if name not in corpora:
            reasons[f"of corpus {name!r}, which is not in {store.url()}"] += 1
            continue
        try:
            corpus = corpora[name] = corpora[name] or open_corpus(store, name)
            if corpus.hash != correction.corpus_hash:
                reasons[f"of a corpus {name!r} that had other contents"] += 1
                continue
            images.append(read_image(store, corpus, correction.partition, correction.row).images[0])
        except (FileUnavailableError, StoreUnavailableError):
            raise
        except TinyTagsError:
            reasons[f"of images of corpus {name!r} that can't be read"] += 1
            continue
        labels.append(classes.index(correction.label))
        usable.append(correction)
    pixels = np.array(images, np.uint8).reshape(-1, IMAGE_BYTES)
    return usable, pixels, np.array(labels, np.int32), [f"{n:,} {reason}" for reason, n in reasons.items()]


def read_pictures(
    predictions: Iterable[Prediction], classes: list[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], list[str]]:
    """Return the pictures of corrected predictions (n, 3072) uint8, their labels (n,) int32, and why others can't be learnt.

    ``predictions`` are newest first; of several of one picture the first counts. A label is an index into ``classes``.
    """
    given: dict[bytes, str] = {}
    for prediction in predictions:
        if prediction.correction is not None:
            given.setdefault(prediction.image, prediction.correction)
    learnt = {image: classes.index(label) for image, label in given.items() if label in classes}
    others = Counter(label for label in given.values() if label not in classes)
    pixels = np.frombuffer(b"".join(learnt), np.uint8).reshape(-1, IMAGE_BYTES)
    reasons = [f"{n:,} {label!r} of the history, which is none of the classes" for label, n in others.items()]
    return pixels, np.array(list(learnt.values()), np.int32), reasons
