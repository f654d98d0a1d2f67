"""Tests of training sets drawn from annotations: what is drawn, into which part, and its pictures."""

import csv
import io
from collections import Counter

import numpy as np
import pytest
from labelled_pictures import make_annotations, write_pictures
from PIL import Image
from small_world import error_line, run, run_json

from conf.errors import TinyTagsError
from ingest.annotations.manifest import open_annotations
from jobs.sample_annotations import SPLITS, assign, sample, sizes
from jobs.split_dump import split_dump
from storage import layout
from storage.store import open_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Settings, what people verified, and a corpus "some" with pictures of every third image, in folders."""
    folder = tmp_path_factory.mktemp("sample")
    settings, truth = make_annotations(folder)
    write_pictures(
        folder / "pictures", [f"train/{n % 2}/{image}.png" for n, image in enumerate(sorted(truth)[::3])]
    )
    split_dump(settings, str(folder / "pictures"), "some", partition_images=40)
    return settings, truth, folder / "pictures"


def having(truth, names, one):
    """Return the images that have a class and none of the other ones."""
    return {image for image, labels in truth.items() if labels["present"] & set(names) == {one}}


def test_each_class_has_its_images_in_three_parts_that_share_none(made):
    settings, truth, _ = made
    names = ["Boat", "x, y", "Cat"]
    drawn = sample(settings, "made", ["boat", "x, y", "/m/c"], per_class=20, seed=7)
    rows = drawn["rows"]
    for name in names:
        images = [uri.removesuffix(".jpg") for _, uri, label in rows if label == name]
        assert len(images) == len(set(images)) == 20 and set(images) <= having(truth, names, name)
        assert Counter(split for split, _, label in rows if label == name) == {
            "TRAIN": 16,
            "VALIDATION": 2,
            "TEST": 2,
        }
        assert drawn["classes"][name] == {"images": len(having(truth, names, name)), "drawn": 20}
    assert len({uri for _, uri, _ in rows}) == 60 == drawn["images"]
    assert sample(settings, "made", names, per_class=20, seed=7)["rows"] == rows
    assert sample(settings, "made", names, per_class=20, seed=8)["rows"] != rows
    more = sample(settings, "made", names, per_class=25, seed=7)["rows"]
    assert {row[1:] for row in rows} < {row[1:] for row in more}


def test_fewer_images_than_wanted_are_all_drawn_and_an_image_with_two_classes_is_in_one_part(made):
    settings, truth, _ = made
    names = ["Boat", "Cat"]
    drawn = sample(settings, "made", names, per_class=10_000, several="both")
    parts = {}
    for split, uri, label in drawn["rows"]:
        parts.setdefault(uri, set()).add(split)
        assert label in truth[uri.removesuffix(".jpg")]["present"]
    for name in names:
        images = {image for image, labels in truth.items() if name in labels["present"]}
        assert drawn["classes"][name] == {"images": len(images), "drawn": len(images)}
    assert all(len(one) == 1 for one in parts.values()) and len(drawn["rows"]) > len(parts) == drawn["images"]


def test_a_kind_of_a_class_counts_as_the_class_by_option(made):
    settings, truth, _ = made
    kinds = {image for image, labels in truth.items() if labels["present"] & {"Animal", "Cat"}}
    drawn = sample(settings, "made", ["Animal"], per_class=10_000, descendants=True)
    assert {uri for _, uri, _ in drawn["rows"]} == {f"{image}.jpg" for image in kinds}


@pytest.mark.parametrize(
    ("count", "shares", "wanted"),
    [(100, (80, 10, 10), [80, 10, 10]), (7, (80, 10, 10), [5, 1, 1]), (1, (80, 10, 10), [1, 0, 0]), (3, (34, 33, 33), [1, 1, 1]), (5, (100, 0, 0), [5, 0, 0])],
)  # fmt: skip
def test_the_parts_are_the_whole_numbers_nearest_to_the_shares(count, shares, wanted):
    assert sizes(count, shares) == wanted


def test_images_of_several_classes_leave_the_shares_of_each_class_as_near_as_they_can():
    drawn = [[f"a{n}" for n in range(10)], [f"a{n}" for n in range(5)] + [f"b{n}" for n in range(5)]]
    splits = assign(drawn, (60, 20, 20))
    assert Counter(splits[image] for image in drawn[1]) == {"TRAIN": 6, "VALIDATION": 2, "TEST": 2}
    splits = assign(drawn[::-1], (20, 40, 40))
    assert set(splits) == set(drawn[0]) | set(drawn[1]) and set(splits.values()) == set(SPLITS)


def test_links_and_copies_are_a_folder_that_ingest_reads(made, tmp_path):
    settings, _, pictures = made
    there = {image: path for path in pictures.rglob("*.png") if (image := path.stem)}
    links = sample(settings, "made", ["Boat", "Cat"], per_class=8, corpus="some", links=tmp_path / "links")
    copies = sample(settings, "made", ["Boat", "Cat"], per_class=8, corpus="some", copies=tmp_path / "copies")
    again = sample(settings, "made", ["Boat", "Cat"], per_class=8, corpus="some", links=tmp_path / "links")
    assert links == again and links["files"] == len(links["rows"]) > 10
    for (split, uri, label), (_, copy, _) in zip(links["rows"], copies["rows"], strict=True):
        image = uri.rpartition("/")[2].removesuffix(".png")
        assert uri == str(tmp_path / "links" / split / label / f"{image}.png")
        with Image.open(uri) as one, Image.open(there[image]) as other, Image.open(copy) as third:
            assert np.array_equal(one, other) and np.array_equal(one, third)
    split_dump(settings, str(tmp_path / "links" / "TRAIN"), "train")
    with pytest.raises(TinyTagsError):  # another sample's files
        sample(settings, "made", ["Boat"], per_class=3, corpus="some", links=tmp_path / "links", seed=9)


def test_a_picture_that_cannot_be_decoded_is_not_drawn(made, tmp_path):
    settings, truth, _ = made
    images = sorted(having(truth, ["Boat"], "Boat"))[:6]
    write_pictures(tmp_path / "pictures", [f"{image}.png" for image in images])
    (tmp_path / "pictures" / f"{images[2]}.png").write_bytes(b"no picture")
    split_dump(settings, str(tmp_path / "pictures"), "broken")
    drawn = sample(settings, "made", ["Boat"], corpus="broken", copies=tmp_path / "copies")
    assert {path.stem for path in (tmp_path / "copies").rglob("*.png")} == {*images} - {images[2]}
    assert drawn["classes"]["Boat"] == {"images": 5, "drawn": 5}


def test_the_command_writes_what_automl_reads(made, tmp_path):
    settings, _, _ = made
    words = [
        "sample",
        "--annotations",
        "made",
        "--classes",
        'Boat,"x, y"',
        "--per-class",
        5,
        "--store",
        settings.store,
    ]
    out, err = run(*words, "--uri", "gs://bucket/")
    rows = list(csv.reader(io.StringIO(out)))
    assert len(rows) == 10 and all(len(row) == 3 and row[1].startswith("gs://bucket/") for row in rows)
    assert "class x, y: 5 of" in err
    result = run_json(*words, "--output", tmp_path / "sample.csv", "--split", "60/20/20", "--seed", 3)
    assert result["rows"] == 10 and result["splits"] == {"TRAIN": 6, "VALIDATION": 2, "TEST": 2}
    assert (tmp_path / "sample.csv").read_text().count("\n") == 10
    run(*words, "--split", "80/10/5", code=2)
    run(*words, "--links", tmp_path, code=1)


def test_a_class_that_there_is_not_and_annotations_that_lack_a_partition_are_one_line(made, tmp_path):
    settings, _, _ = made
    words = ["sample", "--annotations", "made", "--store", settings.store]
    assert "'Bota'" in error_line(run(*words, "--classes", "Bota", code=1)[1])
    assert "given 2 times" in error_line(run(*words, "--classes", "Boat,boat", code=1)[1])
    assert "/m/none" in error_line(run(*words, "--classes", "/m/none", code=1)[1])
    store = open_store(settings.store)
    marker = layout.statistics(open_annotations(store, "made").documents("images").folder, 1)
    data = store.read_bytes(marker)
    store.remove(marker)
    try:
        assert "tinytags annotations" in error_line(run(*words, "--classes", "Boat", code=1)[1])
    finally:
        store.write_bytes(marker, data)
