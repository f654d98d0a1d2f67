"""Annotations made for the tests: every layout, odd names, duplicates, bad rows, and the rows that a plain reader reads of them."""

import csv
import io
import random
from pathlib import Path

# What breaks parsers, queries and pages, as names of classes.
ODD = [
    "Apple", "apple pie", "Bat (Animal)", "O'Hara", 'Said "no"', "x,y", "50% off", "under_score", "Äpfel", "a*b?", "C:\\temp\\x",
    "two  spaces", "AND", "OR NOT", "+plus -minus", "naïve <b>bold</b>", "日本 語", "{!terms f=id}x", "${solr.home}", "[1 TO 5]",
    "~fuzzy^2", "a&b=c#d", "😀 face", "Jaguar", "Jaguar", "/slash/", "-", "&&||", "İstanbul",
]  # fmt: skip
RELATIONS = ["at", "holds", "inside_of", "is", "Wears", "a%b"]
BAD_ROWS = [
    "0000000000000001,verification,/m/00,1.5",
    "0000000000000001,verification,/m/00,-0.1",
    "0000000000000001,verification,/m/00,nan",
    "0000000000000001,verification,/m/00,yes",
    "0000000000000001,verification,/m/00,0.5",
    "0000000000000001,verification,/m/00",
    "0000000000000001,verification,/m/00,1,1",
    ",verification,/m/00,1",
    "0000000000000001,verification,,1",
    '0000000000000001,verification,"/m/00',
    'ends here",1',
    "0000000000000001,verification,/m/00,1\r0000000000000002",
    "0000000000000001\x1f000000,verification,/m/00,1",
]


def label_of(number: int) -> str:
    return f"/m/{number:02x}"


def make(folder: Path, images: int = 300, seed: int = 1) -> int:
    """Write all layouts into a folder; return how many bad rows they have."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{draw.getrandbits(64):016x}" for _ in range(images)]
    # Also ids that begin with another one, before and after it by what follows.
    ids[:6] = ["0" * 16, "0" * 15 + "7", *("f" * 16 + more for more in ("", "!", " 1", "0"))]
    labels = [label_of(number) for number in range(len(ODD))]
    unknown = "/m/unknown"
    _write(folder / "class-descriptions.csv", zip(labels, ODD, strict=True))
    official = ["ImageID", "Source", "LabelName", "Confidence"]

    def labelled(source: list[str], count: int, confidences: list[str]) -> list[list[str]]:
        rows = [
            [draw.choice(ids), draw.choice(source), draw.choice([*labels, unknown]), draw.choice(confidences)]
            for _ in range(count)
        ]
        return rows + draw.sample(rows, count // 20)  # the same row twice

    human = labelled(["verification", "crowdsource-verification"], 3 * images, ["0", "1", "1", "1.0"])
    text = _lines([official, *human], "\r\n", bom=True).decode().splitlines(keepends=True)
    for row in BAD_ROWS:
        text.insert(draw.randrange(2, len(text)), row + draw.choice(["\n", "\r\n"]))
    (folder / "train-human-imagelabels.csv").write_bytes("".join(text).encode())
    (folder / "empty.csv").write_bytes(b"")
    machine = labelled(["machine"], images, ["0", "0.1", "0.25", "0.7", "1.0"])
    _write(folder / "sub" / "machine-imagelabels.csv", [official, *machine])
    simple = [[draw.choice(ids), draw.choice(labels)] for _ in range(images)]
    _write(folder / "image-labels.csv", [["ImageId", "Label"], *simple])
    vrd = "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationshipLabel"
    boxed = [
        [draw.choice(ids), draw.choice(labels[:6]), draw.choice([*labels[6:9], unknown]), *(f"0.{draw.randint(0, 1)}" for _ in range(8)), draw.choice(RELATIONS)]
        for _ in range(2 * images)
    ]  # fmt: skip
    _write(folder / "train-annotations-vrd.csv", [vrd.split(","), *boxed, *boxed[:10]])
    plain = [
        ["0" * 14 + f"{n:02x}", draw.choice(labels), draw.choice(RELATIONS), draw.choice(labels)]
        for n in range(20, 60)
    ]
    _write(folder / "relations.csv", [["ImageId", "Label1", "Relation", "Label2"], *plain])
    (folder / "hierarchy.json").write_text(
        '{"LabelName": "/m/root", "Subcategory": [{"LabelName": "/m/00", "Subcategory": [{"LabelName": "/m/01"}, {"LabelName":'
        ' "/m/02"}], "Part": [{"LabelName": "/m/05"}]}, {"LabelName": "/m/03", "Subcategory": [{"LabelName": "/m/01"}, {"LabelName": "/m/04"}]}]}'
    )
    (folder / "boxes.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,xclick,/m/00,1,0,1,0,1\n"
    )
    return len(BAD_ROWS)


def _lines(rows, end: str = "\n", bom: bool = False) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    return (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()


def _write(path: Path, rows) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_lines(rows))
