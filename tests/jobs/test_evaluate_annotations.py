"""Tests of a run measured against annotations: its counts are those of a plain loop over all that people verified."""

import json

import numpy as np
import pytest
from labelled_pictures import make_annotations, write_pictures
from small_world import error_line, run, run_json, write_tiny_images

from conf.errors import TinyTagsError
from ingest.corpus import open_corpus
from ingest.partition import read_partition
from jobs.evaluate_annotations import evaluate_annotations
from jobs.split_dump import split_dump
from jobs.tag_images import tag_images
from storage import layout
from storage.runs import open_run
from storage.store import open_store
from tagging.forest.scikit_learn import train
from tagging.models import save_model
from tagging.multi_label import multi_label_quality
from tagging.quality import wilson
from tagging.trained import hash_blocks

CLASSES = ["Boat", "cat", "Animal", "elsewhere"]
TRAINED = 7
BROKEN = 12  # a picture that can't be decoded


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Settings, what people verified, and a run of a forest over pictures, of the first of which it has learnt."""
    folder = tmp_path_factory.mktemp("against-annotations")
    settings, truth = make_annotations(folder, images=200)
    ids = sorted(truth)[:90]
    write_pictures(folder / "pictures", [f"{image}.png" for image in ids] + ["zz.png"])
    (folder / "pictures" / f"{ids[BROKEN]}.png").write_bytes(b"no picture")
    split_dump(settings, str(folder / "pictures"), "pictures", partition_images=30)
    store = open_store(settings.store)
    corpus = open_corpus(store, "pictures")
    images = np.concatenate([block.images for p in range(4) for block in read_partition(store, corpus, p)])
    labels = np.random.default_rng(1).integers(0, 4, len(images)).astype(np.uint8)
    forest, parameters = train(images, labels, CLASSES, trees=5, depth=3)
    about = {"engine": "scikit-learn", "parameters": parameters}
    save_model(store, "forest", forest, about, hash_blocks([images[:TRAINED]]))
    return settings, truth, tag_images(settings, "pictures", "forest", 0.3)["run"], ids


def expected(world, kinds: dict[str, set[str]], training_data_too=False):
    """Return counts of each class by the files and what people verified, and how many images were measured."""
    settings, truth, run_name, ids = world
    store = open_store(settings.store)
    tags = {}
    for p in range(open_run(store, run_name).partitions):
        for line in store.read_bytes(layout.run_tags(run_name, p)).splitlines():
            one = json.loads(line)
            tags[30 * p + one["row"]] = one["tag"]
    counts = {name: dict.fromkeys(("present", "absent", "right", "wrong", "unverified"), 0) for name in kinds}
    measured = 0
    for row, image in enumerate(ids):
        if row < TRAINED and not training_data_too:
            continue
        state = {}
        for name, ones in kinds.items():
            if truth[image]["present"] & ones:
                state[name] = "present"
            elif truth[image]["absent"] & {name.title()}:
                state[name] = "absent"
        if row == BROKEN:
            assert "present" in state.values() and row not in tags
            continue
        measured += bool(state)
        for name, value in state.items():
            counts[name][value] += 1
        if state and tags.get(row) in kinds:
            value = {"present": "right", "absent": "wrong"}.get(state.get(tags[row]), "unverified")
            counts[tags[row]][value] += 1
    return counts, measured


@pytest.mark.parametrize(("descendants", "too"), [(False, False), (True, False), (False, True)])
def test_each_class_is_counted_where_people_verified_it(world, descendants, too):
    settings, _, run_name, _ = world
    kinds = {"Boat": {"Boat"}, "cat": {"Cat"}, "Animal": {"Animal", "Cat"} if descendants else {"Animal"}}
    report = evaluate_annotations(settings, run_name, "made", descendants, too)
    counts, measured = expected(world, kinds, too)
    assert {
        name: {key: one[key] for key in counts[name]} for name, one in report["classes"].items()
    } == counts
    assert report["images"] == measured and report["not_measured"] == ["elsewhere"]
    assert (report["left_out"] > 0) == (not too)
    for name, one in counts.items():
        row, tagged = report["classes"][name], one["right"] + one["wrong"]
        assert row["precision"] == (round(one["right"] / tagged, 6) if tagged else None)
        assert row["recall"] == round(one["right"] / one["present"], 6)
    assert sum(one["right"] for one in counts.values()) > 0 < sum(one["wrong"] for one in counts.values())


def test_shares_of_nothing_are_none_and_means_leave_them_out():
    quality = multi_label_quality(
        np.array([[4, 3, 2, 1, 9], [0, 5, 0, 0, 2], [2, 0, 0, 0, 0]]), ["a", "b", "c"]
    )
    assert (
        quality["classes"]["a"]["precision"] == round(2 / 3, 6) and quality["classes"]["a"]["recall"] == 0.5
    )
    assert quality["classes"]["a"]["recall_interval"] == [round(end, 6) for end in wilson(2, 4)]
    assert quality["classes"]["b"]["precision"] is None is quality["classes"]["b"]["recall"]
    assert (quality["classes"]["c"]["precision"], quality["classes"]["c"]["recall"]) == (None, 0.0)
    assert quality["micro"]["recall"] == round(2 / 6, 6) and quality["macro"] == {
        "precision": round(2 / 3, 6),
        "recall": 0.25,
    }


def test_the_command_prints_a_table_or_json(world):
    settings, _, run_name, _ = world
    words = ["evaluate", "--run", run_name, "--annotations", "made", "--store", settings.store]
    out, err = run(*words)
    assert out.startswith(f"run {run_name} on ") and "Boat" in out and "mean of the classes" in out
    assert "elsewhere" in err
    assert {**run_json(*words), "seconds": 0} == {
        **evaluate_annotations(settings, run_name, "made"),
        "seconds": 0,
    }
    run(*words, "--model", "forest", code=2)
    run("evaluate", "--run", run_name, code=2)
    run("evaluate", "--model", "forest", code=2)


def test_what_cannot_be_measured_is_one_line(world, tmp_path):
    settings, _, run_name, _ = world
    store = open_store(settings.store)
    words = ["evaluate", "--run", run_name, "--store", settings.store, "--annotations"]
    assert "'missing'" in error_line(run(*words, "missing", code=1)[1])
    names, marker = layout.corpus_names("pictures"), layout.run_statistics(run_name, 1)
    for path, wanted in ((names, "names"), (marker, "lacks 1 partition")):
        data = store.read_bytes(path)
        store.remove(path)
        try:
            assert wanted in error_line(run(*words, "made", code=1)[1])
        finally:
            store.write_bytes(path, data)
    write_tiny_images(tmp_path / "tiny_images.bin", 40)
    split_dump(settings, str(tmp_path / "tiny_images.bin"), "tiny")
    tagged = tag_images(settings, "tiny", "forest", 0.3)["run"]
    with pytest.raises(TinyTagsError):
        evaluate_annotations(settings, tagged, "made")
