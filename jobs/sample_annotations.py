"""Draw a training set from annotations: some images of each class, in three parts, as the CSV file that AutoML reads.

spark-submit --py-files dist/tinytags.zip jobs/sample_annotations.py --annotations v7 --classes Apple,Boat --per-class 100
"""

import csv
import functools
import hashlib
import heapq
import io
import itertools
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

if __name__ == "__main__":  # our folders first, before those of PYTHONPATH
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conf.command import json_option, note, report, run, settings_options, split_names
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted

SPLITS = ("TRAIN", "VALIDATION", "TEST")
Drawn = list[tuple[int, str]]  # images in the order in which they are drawn, each with its number


class _Shares(click.ParamType[tuple[int, int, int]]):
    name = "N/N/N"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split("/")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts) or sum(map(int, parts)) != 100:
            self.fail(
                f"{value!r} is not three whole percents that make 100, like 80/10/10", parameter, context
            )
        return int(parts[0]), int(parts[1]), int(parts[2])


@click.command("sample")
@click.option("--annotations", required=True, metavar="NAME", help="The annotations.")
@click.option(
    "--classes", required=True, metavar="A,B,...", help="Names of classes, quoted where they hold a comma."
)
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Images of each class.",
)
@click.option(
    "--split",
    "shares",
    type=_Shares(),
    default="80/10/10",
    show_default=True,
    help="Percents of each class for training, validation and test.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed draws other images.")
@click.option(
    "--several",
    type=click.Choice(["neither", "both"]),
    default="neither",
    show_default=True,
    help="An image with several of the classes is in neither, or in both, then in one part.",
)
@click.option("--descendants", is_flag=True, help="A kind of a class counts as the class.")
@click.option("--corpus", metavar="NAME", help="Only images with a picture of their name in this corpus.")
@click.option(
    "--links",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also make links here, DIR/SPLIT/CLASS/ID.jpg, to the pictures that the corpus was split from.",
)
@click.option(
    "--copies",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write the 32x32 images of the corpus here, as PNG.",
)
@click.option("--uri", metavar="PREFIX", help="What the addresses in the CSV begin with, as gs://bucket/.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write the CSV here.  [default: stdout]",
)
@settings_options("store", "webhdfs", "master")
@json_option
def main(annotations, classes, output, settings, as_json, **options):
    """Draw a training set from annotations: so many images of each class, in three parts without an image in common.

    Writes rows SPLIT,URI,LABEL without a header, as AutoML reads them. An image counts for a class that people verified as
    present. The same annotations, options and seed give the same rows.
    """  # fmt: skip
    result = sample(settings, annotations, split_names("--classes", classes), **options)
    rows = result["rows"]
    if output:
        try:
            output.write_text(csv_of(rows), encoding="utf-8", newline="")
        except OSError as error:
            raise TinyTagsError(f"{output}: can't be written ({error.strerror})") from None
        result["rows"] = len(rows)
        report(result, summary(result), as_json)
    elif as_json:
        report(result, "", True)
    else:
        click.echo(csv_of(rows), nl=False)
        note(summary(result))


def sample(
    settings: Settings, name: str, classes: list[str], per_class: int = 100, shares: tuple[int, int, int] = (80, 10, 10),
    seed: int = 1, several: str = "neither", descendants: bool = False, corpus: str | None = None, links: Path | None = None,
    copies: Path | None = None, uri: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the sample: "rows" of (split, address, class), and "classes" with the images that there are, and those drawn.

    Writes ``links`` or ``copies`` first. Raises `TinyTagsError` for a class that no image has.
    """
    from ingest.annotations.classes import read_classes
    from ingest.annotations.labels import choose_classes, open_complete
    from ingest.corpus import open_corpus
    from ingest.names import check_names
    from jobs.drawn_pictures import find_pictures, write_copies, write_links
    from jobs.partitions import partitions_error
    from jobs.runner import open_runner
    from storage.store import store_of

    if links and copies:
        raise TinyTagsError("--links and --copies: give one of them")
    if (links or copies) and not corpus:
        raise TinyTagsError(
            f"{'--links' if links else '--copies'} needs --corpus NAME, where the pictures are"
        )
    store = store_of(settings)
    made = open_complete(store, name)
    chosen = choose_classes(read_classes(store, name), classes, descendants)
    source = open_corpus(store, corpus) if corpus else None
    if source is not None:
        check_names(store, source)
    task = functools.partial(draw, store, made, chosen, per_class, seed, several == "both", source)
    with open_runner(settings.master, f"sample {name}") as runner:
        results, errors, _ = runner.run("sample", list(range(made.partitions)), task, unit="partitions")
    if errors:
        raise partitions_error("read", errors, made.partitions)
    drawn, counts = [], {}
    for place, one in enumerate(chosen.names):
        images: Drawn = heapq.nsmallest(
            per_class, itertools.chain(*(part["drawn"][place] for part in results))
        )
        available = sum(part["available"][place] for part in results)
        if not images:
            where = f"with a picture in {corpus!r} " if corpus else ""
            others = "" if several == "both" else " and none of the others"
            raise TinyTagsError(f"class {one!r}: no image {where}has it{others}")
        drawn.append([image for _, image in images])
        counts[one] = {"images": available, "drawn": len(images)}
    splits = assign(drawn, shares)
    ordered = sorted(
        (place, SPLITS.index(splits[image]), image) for place, images in enumerate(drawn) for image in images
    )
    places = [(SPLITS[split], chosen.names[place], image) for place, split, image in ordered]
    files, base = {}, uri or ""
    if source is not None and (folder := links or copies):
        pictures = find_pictures(store, source, list(splits))
        files = (write_links if links else write_copies)(store, source, pictures, places, folder)
        base = f"{folder.absolute()}/" if uri is None else uri
    return {
        "annotations": name, "seed": seed, "classes": counts, "images": len(splits),
        "splits": dict(Counter(splits.values())), "files": len(files),
        "rows": [(place[0], base + files.get(place, f"{place[2]}.jpg"), place[1]) for place in places],
    }  # fmt: skip


def draw(store, annotations, chosen, per_class: int, seed: int, both: bool, corpus, partition: int) -> dict:
    """Return of each class the images of a partition that come first in the order of the seed, and how many have it.

    With a ``corpus`` only images that have a picture there which could be decoded.
    """
    from ingest.annotations.labels import read_images
    from ingest.bad import read_bad_records
    from ingest.names import read_index, records_of

    by_class: list[Drawn] = [[] for _ in chosen.names]
    known = read_index(store, corpus.name) if corpus else None
    bad = read_bad_records(store, corpus) if corpus else frozenset()
    for document in read_images(store, annotations, partition):
        places = chosen.among(document.get("classes", ()))
        if not places or (len(places) > 1 and not both):
            continue
        if known is not None and bad.issuperset(records_of(known, document["id"])):
            continue
        numbered = number_of(document["id"], seed), document["id"]
        for place in places:
            by_class[place].append(numbered)
    return {
        "partition": partition,
        "available": [len(one) for one in by_class],
        "drawn": [heapq.nsmallest(per_class, one) for one in by_class],
    }


def number_of(image: str, seed: int) -> int:
    """Return the number by which images are in the order of a seed: whatever their files and partitions, 64 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{image}".encode(), digest_size=8).digest(), "big")


def assign(drawn: list[list[str]], shares: tuple[int, int, int]) -> dict[str, str]:
    """Return the part of each image. Of each class the parts have their shares, as far as images of several classes allow."""
    splits: dict[str, str] = {}
    for images in drawn:
        left = sizes(len(images), shares)
        for image in images:
            if image in splits:
                left[SPLITS.index(splits[image])] -= 1
        rest = iter([image for image in images if image not in splits])
        for split, count in zip(SPLITS, left, strict=True):
            splits.update((image, split) for image in itertools.islice(rest, max(count, 0)))
    return splits


def sizes(count: int, shares: tuple[int, int, int]) -> list[int]:
    """Return whole numbers with the sum ``count`` that are nearest to the shares, in percent: by largest remainders."""
    whole = [count * share // 100 for share in shares]
    order = sorted(range(3), key=lambda place: (-(count * shares[place] % 100), place))
    for place in order[: count - sum(whole)]:
        whole[place] += 1
    return whole


def csv_of(rows: list[tuple[str, str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def summary(result: dict[str, Any]) -> str:
    """Return the counts for people."""
    lines = [
        f"class {name}: {one['drawn']:,} of {counted(one['images'], 'image')}"
        for name, one in result["classes"].items()
    ]
    parts = ", ".join(f"{result['splits'].get(split, 0):,} {split}" for split in SPLITS)
    files = f"; {counted(result['files'], 'file')} written" if result["files"] else ""
    lines.append(
        f"{counted(result['images'], 'image')} of {result['annotations']} by seed {result['seed']}: {parts}{files}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    # By its name, under which workers can import what they are sent.
    from jobs.sample_annotations import main

    run(main)
