"""Makes labels and relations of images in the distributions of a sample of Open Images, at any size."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE = "openimages"
# Of the whole data set, V7: 59.9 million labels and 3.3 million relations of 9 million images.
LABELS_PER_IMAGE, RELATIONS_PER_IMAGE = 59.9 / 9, 3.3 / 9
# Images are made in blocks of this many.
BLOCK = 100_000


@dataclass(frozen=True)
class Sample:
    """What is drawn from: the names of classes by id, the class of each label, and each relation (class, type, class)."""

    names: dict[str, str]
    classes: list[str]
    relations: list[tuple[str, str, str]]

    @property
    def frequencies(self) -> tuple[list[str], np.ndarray]:
        """The classes of labels with their shares, most frequent first."""
        names, counts = np.unique(self.classes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return names[order].tolist(), counts[order] / counts.sum()


def sample() -> Sample:
    """Return the sample in the folder TINYTAGS_SHARED_DATA; without it one of 600 invented classes (Zipf's law)."""
    folder = Path(os.environ.get("TINYTAGS_SHARED_DATA", ""), SAMPLE)
    if not folder.is_dir():
        return _invented()
    with open(folder / "class-descriptions-boxable.csv", newline="") as file:
        names = {row[0]: row[1] for row in csv.reader(file)}
    with open(folder / "image-labels.csv", newline="") as file:
        classes = [row["LabelName"] for row in csv.DictReader(file)]
    with open(folder / "relations.csv", newline="") as file:
        relations = [(row["Label1"], row["Relation"], row["Label2"]) for row in csv.DictReader(file)]
    return Sample(names, classes, relations)


def _invented() -> Sample:
    random = np.random.default_rng(1)
    names = {f"/m/0{number:03x}": f"Class {number}" for number in range(600)}
    shares = 1 / np.arange(1, len(names) + 1)
    classes = random.choice(list(names), 10_000, p=shares / shares.sum()).tolist()

    def relation() -> tuple[str, str, str]:
        return str(random.choice(classes)), f"relation {random.zipf(2) % 10}", str(random.choice(classes))

    return Sample(names, classes, [relation() for _ in range(3_000)])


def image_id(number: int) -> str:
    """Return the id of an image: 16 hexadecimal digits, different for each number, in no order (Fibonacci hashing)."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def write(folder: Path, images: int, drawn: Sample, seed: int = 1) -> dict[str, int]:
    """Write CSV files of ``images`` images in Open Images' layouts; return how many rows of each kind they have.

    An image has 1 label and more by Poisson's law up to the mean of the whole data set, each of a class by its share in the
    sample; a relation is one of the sample's rows, of any image.
    """
    folder.mkdir(parents=True)
    with open(folder / "class-descriptions.csv", "w", newline="") as file:
        csv.writer(file).writerows(drawn.names.items())
    counts = {"labels": 0, "relations": 0}
    files = folder / "human-imagelabels.csv", folder / "relations.csv"
    with open(files[0], "w") as labels, open(files[1], "w") as relations:
        labels.write("ImageID,Source,LabelName,Confidence\n")
        relations.write("ImageId,Label1,Relation,Label2\n")
        for label_rows, relation_rows in _blocks(images, drawn, seed):
            labels.writelines(label_rows)
            relations.writelines(relation_rows)
            counts["labels"] += len(label_rows)
            counts["relations"] += len(relation_rows)
    return counts


def _blocks(images: int, drawn: Sample, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    classes, shares = drawn.frequencies
    relations = [",".join(relation) for relation in drawn.relations]
    for number, start in enumerate(range(0, images, BLOCK)):
        random = np.random.default_rng([seed, number])
        count = min(BLOCK, images - start)
        ids = [image_id(image) for image in range(start, start + count)]
        of_image = np.repeat(np.arange(count), 1 + random.poisson(LABELS_PER_IMAGE - 1, count)).tolist()
        chosen = random.choice(len(classes), len(of_image), p=shares).tolist()
        labels = [
            f"{ids[image]},verification,{classes[label]},1\n"
            for image, label in zip(of_image, chosen, strict=True)
        ]
        related = random.integers(count, size=round(count * RELATIONS_PER_IMAGE)).tolist()
        rows = random.integers(len(relations), size=len(related)).tolist()
        yield labels, [f"{ids[image]},{relations[row]}\n" for image, row in zip(related, rows, strict=True)]
