"""A small corpus, two forests, a network's answers and the runs of them, written into a store as the jobs do, and what a
search of them should find."""

import hashlib
import json
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from conf.wording import percent
from indexing.query.cells import COUNTED, PER_RUN, Cells, Column, IndexedRun
from ingest.corpus import Corpus, create_corpus, open_corpus
from ingest.formats import open_dump
from ingest.image import IMAGE_BYTES, SIDE
from ingest.partition import read_partition, write_partition
from storage import layout
from storage.runs import Run, create_run
from tagging import descriptor
from tagging.forest import Tree, pack
from tagging.models import save_model
from tagging.tags import documents, winners

# One tag holds what separates tags elsewhere, one what HTML is made of.
ALIAS = "search-ui"
CLASSES = ["cat, tabby", "<b>deer</b>", "frog", "ship"]
IMAGES, PARTITION_IMAGES = 700, 300
UPRIGHT = 417  # the record that is a picture with a top and a bottom, a left and a right


def upright_picture() -> np.ndarray:
    """Return a (32, 32, 3) picture: red in its upper left quarter, green in the upper right, blue below, one white pixel."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:16, :16, 0] = picture[:16, 16:, 1] = picture[16:, :, 2] = 255
    picture[3, 20] = 255
    return picture


def make_corpus(store, folder, name="small", pictures: np.ndarray | None = None) -> Corpus:
    """Write a tiny-images dump of shades, some of them labelled, and split it into a corpus of ragged partitions.

    ``pictures`` (700, 32, 32, 3) uint8 are taken instead where given, but for one of their bytes.
    """
    random = np.random.default_rng(1)
    labels = random.integers(0, len(CLASSES), IMAGES).astype(np.uint8)
    shades = random.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    pictures = shades if pictures is None else pictures.copy()
    pictures[np.arange(IMAGES), 0, 0, 0] = labels * 50 + random.integers(
        0, 50, IMAGES
    )  # something to learn from
    pictures[UPRIGHT] = upright_picture()
    # The format keeps planes, and columns one after another.
    dump = pictures.transpose(0, 3, 2, 1).reshape(IMAGES, IMAGE_BYTES)
    labels[random.random(IMAGES) < 0.4] = 255
    (folder / "small.bin").write_bytes(dump.tobytes())
    (folder / "small.labels").write_bytes(labels.tobytes())
    opened = open_dump(str(folder / "small.bin"), "tiny-images", str(folder / "small.labels"), CLASSES)
    corpus = Corpus(
        name, opened.format, opened.path, opened.identity, IMAGES, PARTITION_IMAGES, classes=CLASSES
    )
    create_corpus(store, corpus)
    for p in range(corpus.partitions):
        write_partition(store, corpus, p, opened)
    return open_corpus(store, name)


def make_run(store, corpus: Corpus, model: str, trees: int, seed: int, similar: bool = False) -> Run:
    """Write a forest of stumps and the run of it over the corpus; ``similar`` as `tinytags tag --similar` does."""
    random = np.random.default_rng(seed)
    forest = pack([_stump(random) for _ in range(trees)], CLASSES)
    card = save_model(store, model, forest, {})
    run = Run(
        corpus.name,
        corpus.hash,
        model,
        card["hash"],
        0.4,
        CLASSES,
        corpus.images,
        corpus.partitions,
        trees=trees,
        descriptor=descriptor.NAME if similar else None,
    )
    _tag(store, corpus, run, forest.votes)
    return run


def make_network_run(store, corpus: Corpus, model: str, seed: int) -> Run:
    """Write the run of a network over the corpus: probabilities, some of them half way between two percentages."""
    random = np.random.default_rng(seed)
    run = Run(
        corpus.name, corpus.hash, model, "0" * 64, 0.4, CLASSES, corpus.images, corpus.partitions, trees=None
    )

    def probabilities(images: np.ndarray) -> np.ndarray:
        answers = random.dirichlet(np.full(len(CLASSES), 0.6), len(images))
        halves = np.arange(0, len(images), 5)  # 0.595 and its like
        high = random.integers(40, 100, len(halves)) / 100 + 0.005
        answers[halves] = ((1 - high) / (len(CLASSES) - 1))[:, None]
        answers[halves, random.integers(0, len(CLASSES), len(halves))] = high
        return answers.astype(np.float32)

    _tag(store, corpus, run, probabilities)
    return run


def _tag(store, corpus: Corpus, run: Run, votes) -> None:
    create_run(store, run)
    for p in range(corpus.partitions):
        blocks = list(read_partition(store, corpus, p))
        images, labels = (
            np.concatenate([getattr(block, name) for block in blocks]) for name in ("images", "labels")
        )
        described = descriptor.describe(images) if run.descriptor else None
        lines, counts = documents(
            run, p, winners(votes(images)), labels, corpus.classes, descriptors=described
        )
        store.write_bytes(layout.run_tags(run.name, p), lines)
        digest = {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}
        store.write_json(
            layout.run_statistics(run.name, p),
            {"partition": p, "bad": 0, **counts, **digest, "seconds": 0.1, "host": "here"}
            | _histograms(counts),
        )


def _histograms(counts: dict) -> dict:
    """Return the numbers of images by tag and by votes as the job writes them: without zeros."""
    tables = {"tags": counts["tags"], "votes": dict(enumerate(counts.get("votes", [])))}
    return {name: {str(key): n for key, n in table.items() if n} for name, table in tables.items()}


def _stump(random) -> Tree:
    """Return a tree that tells labels by the one byte that has them, not too well."""
    classes = np.where(random.random(4) < 0.5, range(4), random.integers(0, 4, 4))
    thresholds = random.integers(80, 120), random.integers(20, 80), random.integers(120, 180)
    return Tree(
        feature=np.zeros(7),
        threshold=np.array([*thresholds, 0, 0, 0, 0]),
        left=np.array([1, 3, 5, -1, -1, -1, -1]),
        right=np.array([2, 4, 6, -1, -1, -1, -1]),
        leaf_class=np.array([-1, -1, -1, *classes]),
    )


def read_documents(store, run: Run) -> list[dict]:
    """Return what the run's tags files say, without fields that are null, as Solr has it."""
    lines = b"".join(
        store.read_bytes(layout.run_tags(run.name, p)) for p in range(run.partitions)
    ).splitlines()
    return [{name: value for name, value in json.loads(line).items() if value is not None} for line in lines]


def with_agreement(documents: list[dict]) -> list[dict]:
    """Return documents of several runs of a corpus with what comparing these gives: agree or disagree, where several have a tag."""
    tags: dict[tuple, list[str]] = {}
    for document in documents:
        tags.setdefault((document["partition"], document["row"]), []).append(document["tag"])
    compared = {
        place: "agree" if len(set(some)) == 1 else "disagree" for place, some in tags.items() if some[1:]
    }
    places = ((document["partition"], document["row"]) for document in documents)
    return [
        document | ({"agreement": compared[place]} if place in compared else {})
        for document, place in zip(documents, places, strict=True)
    ]


def shares(document: dict) -> int:
    if "trees" not in document:
        return int((100 * Decimal(str(document["confidence"]))).quantize(Decimal(1), ROUND_HALF_UP))
    return percent(document["votes"], document["trees"])


def count_cells(documents: list[dict]) -> list[Cells]:
    """Return the cells of documents, counted one by one."""
    sources = {}
    for document in documents:
        source = IndexedRun(tuple(document[name] for name in PER_RUN))
        cells = sources.setdefault((source, document.get("trees")), {})
        key = (*(document.get(name) for name in COUNTED), document.get("votes", shares(document)))
        cells[key] = cells.get(key, 0) + 1
    return [
        make_cells(list(cells), list(cells.values()), trees, source)
        for (source, trees), cells in sources.items()
    ]


def make_cells(keys: list[tuple], documents: list[int], trees: int | None, source: IndexedRun) -> Cells:
    """Return cells with the values of facets and the votes of ``keys``."""
    *values, votes = map(Column.of, zip(*keys, strict=True))
    return Cells(source, trees, dict(zip(COUNTED, values, strict=True)), votes, np.array(documents))


def matches(
    document: dict, tags=(), confidence=(0, 100), answer=None, runners_up=(), models=(), labels=()
) -> bool:
    """Say, the slow way, whether a document is among the hits of a search."""
    right = document["tag"] == document["label"] if "label" in document else None
    return (
        (not tags or document["tag"] in tags)
        and confidence[0] <= shares(document) <= confidence[1]
        and (answer is None or right is (answer == "right"))
        and (not runners_up or document.get("runner_up") in runners_up)
        and (not models or document["model"] in models)
        and (not labels or document.get("label") in labels)
    )


ORDERS = {
    "confidence": lambda document: (-document["confidence"], document["id"]),
    "confidence-low": lambda document: (document["confidence"], document["id"]),
    "corpus": lambda document: (document["partition"], document["row"], document["id"]),
}


def exported(text):
    """Return the documents of an export as JSON lines: without what they lack, and where they are in the dump."""
    beside = ("record", "offset")
    return [
        {name: value for name, value in json.loads(line).items() if value is not None and name not in beside}
        for line in text.splitlines()
    ]
