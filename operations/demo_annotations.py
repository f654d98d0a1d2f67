"""The pictures of the demo of annotations: scenes of four labelled images each, with their labels and relations."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ingest.corpus import Corpus, open_corpus
from ingest.image import SIDE, Pixels
from storage.store import Store
from tagging.model import Model
from tagging.models import load_model
from tagging.training import held_out_blocks

SCENES = 300
TILES = 4  # of a scene, in two rows
SEED = 1
# A guess of the model below this share is not written.
LEAST_GUESS = 0.3
# Relations of the tiles 0 1 / 2 3.
PLACES = ((0, "left_of", 1), (2, "left_of", 3), (0, "above", 2), (1, "above", 3))
# The kinds of classes that are known by name: those of CIFAR-10, and digits.
KINDS = {
    "Animal": {"bird", "cat", "deer", "dog", "frog", "horse"},
    "Vehicle": {"airplane", "automobile", "ship", "truck"},
    "Odd digit": {"1", "3", "5", "7", "9"},
    "Even digit": {"0", "2", "4", "6", "8"},
}


def write_scenes(store: Store, name: str, model: str, folder: Path) -> tuple[Path, Path]:
    """Write pictures of scenes of images of corpus ``name``, and their annotations; return both folders.

    The images are those that the model was not trained on. What is in a scene and where follows from their labels; one class
    that is not in it is verified absent; guesses are the model's of each tile. The same corpus gives the same files.
    """
    pictures, annotations = folder / "pictures", folder / "annotations"
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        for made in (temporary / "pictures", temporary / "annotations"):
            made.mkdir(parents=True)
        _write(store, open_corpus(store, name), load_model(store, model), temporary)
        temporary.rename(folder)
    return pictures, annotations


def _write(store: Store, corpus: Corpus, model: Model, folder: Path) -> None:
    from PIL import Image

    blocks = list(held_out_blocks(store, corpus))
    images, known = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
    classes = list(corpus.classes or [])
    ids = [f"demo/{number}" for number in range(len(classes))]
    random = np.random.default_rng(SEED)
    labels: list[tuple[object, ...]] = []
    relations: list[tuple[object, ...]] = []
    for chosen in random.integers(len(images), size=(SCENES, TILES)):
        tiles, there = images[chosen], known[chosen].tolist()
        image = f"scene-{hashlib.blake2b(tiles.tobytes(), digest_size=6).hexdigest()}"
        Image.fromarray(_scene(tiles)).save(folder / "pictures" / f"{image}.png")
        labels += [(image, "verification", ids[one], 1) for one in sorted(set(there))]
        absent = [one for one in range(len(classes)) if one not in there]
        if absent:
            labels.append((image, "verification", ids[int(random.choice(absent))], 0))
        labels += [(image, "machine", ids[one], guess) for one, guess in _guesses(model, tiles, classes)]
        relations += [(image, ids[there[one]], place, ids[there[other]]) for one, place, other in PLACES]
    tables: dict[str, tuple[tuple[str, ...], Iterable[tuple[object, ...]]]] = {
        "class-descriptions": (("LabelName", "DisplayName"), [*zip(ids, classes, strict=True), *((kind, kind) for kind in _kinds(classes))]),
        "image-labels": (("ImageID", "Source", "LabelName", "Confidence"), labels),
        "relations": (("ImageId", "Label1", "Relation", "Label2"), relations),
    }  # fmt: skip
    for name, (header, rows) in tables.items():
        with open(folder / "annotations" / f"{name}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    tree = [
        {"LabelName": kind, "Subcategory": [{"LabelName": ids[classes.index(one)]} for one in members]}
        for kind, members in _kinds(classes).items()
    ]
    (folder / "annotations" / "hierarchy.json").write_text(
        json.dumps({"LabelName": "demo", "Subcategory": tree})
    )


def _scene(tiles: Pixels) -> Pixels:
    """Return four images (4, 3072) as one of two rows (64, 64, 3)."""
    squares = tiles.reshape(2, 2, 3, SIDE, SIDE)
    return np.ascontiguousarray(squares.transpose(0, 3, 1, 4, 2).reshape(2 * SIDE, 2 * SIDE, 3))


def _guesses(model: Model, tiles: Pixels, classes: list[str]) -> list[tuple[int, float]]:
    """Return the classes that the model gives a tile, with its highest share of each, 0.00-1.00."""
    votes = model.votes(tiles) / (model.voters or 1)
    best = votes.max(axis=0)
    return [
        (classes.index(name), round(float(share), 2))
        for name, share in zip(model.classes, best, strict=True)
        if share >= LEAST_GUESS
    ]


def _kinds(classes: list[str]) -> dict[str, list[str]]:
    by_kind = {kind: sorted(members.intersection(classes)) for kind, members in KINDS.items()}
    return {kind: members for kind, members in by_kind.items() if members}
