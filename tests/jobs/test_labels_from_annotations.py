"""Tests of labels that pictures get from annotations, by the ids in their names."""

import pytest
from labelled_pictures import make_annotations, write_pictures
from small_world import error_line, run, write_tiny_images

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import open_corpus
from ingest.formats import ingest_command
from ingest.partition import read_partition
from jobs.split_dump import split_dump
from storage import layout
from storage.store import open_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels-from")
    settings, truth = make_annotations(folder, images=200)
    names = [f"{image}.png" for image in sorted(truth)[:60]] + ["unknown.png"]
    write_pictures(folder / "pictures", names)
    return settings, truth, folder / "pictures"


def labels_of(store, name):
    """Return the class of each labelled picture by its name."""
    corpus = open_corpus(store, name)
    return {
        picture.removesuffix(".png"): corpus.classes[label]
        for partition in range(corpus.partitions)
        for block in read_partition(store, corpus, partition, names=True)
        for picture, label in zip(block.names, block.labels.tolist(), strict=True)
        if label >= 0
    }


def test_an_image_with_exactly_one_of_the_classes_has_it_as_its_label(made):
    settings, truth, pictures = made
    out, _ = run(
        "ingest", pictures, "--corpus", "two", "--labels-from", "made", "--classes", "Cat,boat", "--partition-images", 25,
        "--store", settings.store,
    )  # fmt: skip
    store = open_store(settings.store)
    classes = [labels["present"] & {"Cat", "Boat"} for _, labels in sorted(truth.items())[:60]]
    wanted = {image: one.pop() for image, one in zip(sorted(truth), classes, strict=False) if len(one) == 1}
    assert labels_of(store, "two") == wanted and 10 < len(wanted) < 60
    corpus = open_corpus(store, "two")
    assert (corpus.classes, corpus.images, corpus.labels) == (["Cat", "Boat"], 61, "annotations:made")
    assert f"{len(wanted)} labelled" in out
    words = ingest_command(corpus)
    assert run(*words[1:], "--store", settings.store)[0].startswith("corpus two: 61 images in 3 partitions")
    files = [store.read_bytes(layout.corpus_images("two", p)) for p in range(3)]
    split_dump(settings, str(pictures), "two", "folder", 25, corpus.labels, corpus.classes, redo=[(0, 2)])
    assert [store.read_bytes(layout.corpus_images("two", p)) for p in range(3)] == files


def test_other_classes_are_another_corpus(made):
    settings, _, pictures = made
    split_dump(settings, str(pictures), "same", labels="annotations:made", classes=["Cat", "Boat"])
    with pytest.raises(TinyTagsError):
        split_dump(settings, str(pictures), "same", labels="annotations:made", classes=["Cat", "x, y"])
    with pytest.raises(TinyTagsError):
        split_dump(settings, str(pictures), "same")


def test_what_cannot_be_labelled_is_one_line(made, tmp_path):
    settings, _, pictures = made
    words = ["--corpus", "none", "--store", settings.store, "--labels-from", "made"]
    assert "--classes" in error_line(run("ingest", pictures, *words, code=1)[1])
    assert "'Bota'" in error_line(run("ingest", pictures, *words, "--classes", "Bota", code=1)[1])
    assert "--labels" in error_line(run("ingest", pictures, *words, "--labels", "x", code=1)[1])
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 5)
    assert "tiny-images" in error_line(run("ingest", dump, *words, "--classes", "Cat", code=1)[1])
    write_pictures(tmp_path / "others", ["a.png"])
    assert "no picture" in error_line(
        run("ingest", tmp_path / "others", *words, "--classes", "Cat", code=1)[1]
    )
    with pytest.raises(TinyTagsError):
        split_dump(
            Settings(store=settings.store),
            str(pictures),
            "none",
            labels="annotations:missing",
            classes=["Cat"],
        )
