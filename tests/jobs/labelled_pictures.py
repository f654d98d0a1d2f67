"""Annotations of a few classes, and pictures of some of their images, for the tests of what is learnt and measured with them."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

from conf.settings import Settings
from jobs.read_annotations import read_annotations

NAMES = {"/m/a": "Animal", "/m/b": "Boat", "/m/c": "Cat", "/m/q": "x, y"}
Truth = dict[str, dict[str, set[str]]]  # image: present and absent, names


def make_annotations(folder: Path, images: int = 300, seed: int = 5) -> tuple[Settings, Truth]:
    """Read made annotations "made" into a store in ``folder``; return its settings and what people verified."""
    draw = random.Random(seed)
    truth: Truth = {}
    rows = ["ImageID,Source,LabelName,Confidence"]
    for number in range(images):
        image = f"{number:016x}"
        truth[image] = {"present": set(), "absent": set()}
        for label in draw.sample(sorted(NAMES), draw.choice([1, 1, 1, 2, 3])):
            present = draw.random() < 0.7
            truth[image]["present" if present else "absent"].add(NAMES[label])
            rows.append(f"{image},verification,{label},{int(present)}")
        rows.append(f"{image},machine,/m/b,0.9")
    source = folder / "csv"
    source.mkdir(parents=True)
    (source / "labels.csv").write_text("\n".join(rows))
    names = [f'{label},"{name}"' for label, name in NAMES.items()]
    (source / "names.csv").write_text("\n".join(["LabelName,DisplayName", *names]))
    (source / "tree.json").write_text('{"LabelName": "/m/a", "Subcategory": [{"LabelName": "/m/c"}]}')
    settings = Settings(store=str(folder / "store"), master="processes[1]")
    result = read_annotations(settings, str(source), "made", 2_000)
    assert result["partitions"] > 3 and not result["bad"]
    return settings, truth


def write_pictures(folder: Path, names: list[str], seed: int = 6) -> None:
    """Write pictures of noise, none like another."""
    noise = np.random.default_rng(seed).integers(0, 256, (len(names), 32, 32, 3), np.uint8)
    for name, pixels in zip(names, noise, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
