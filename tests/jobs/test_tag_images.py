"""Tests of `jobs.tag_images` through the command: the same run stands there at the end, whatever happens in between."""

import hashlib
import json
import os
import random
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_world import (
    CLASSES,
    MASTER,
    PROCESSES,
    alive,
    contents,
    error_line,
    finish,
    make_corpus,
    make_images,
    run,
    run_json,
    start,
    stop_group,
    times,
    wait_until,
    write_tiny_images,
)

from ingest.corpus import open_corpus
from ingest.partition import read_partition
from jobs.tag_images import tag_partition, write_readme
from search_ui.library import Library
from storage import layout, runs
from storage.lease import lease
from storage.store import open_store
from tagging import descriptor
from tagging.forest.scikit_learn import train
from tagging.models import load_model, save_model
from tagging.trained import hash_blocks

# What all of them share takes seconds to make.
pytestmark = pytest.mark.slow

# Commands that are killed, on either kind of workers.
MASTERS = [PROCESSES, pytest.param(MASTER, marks=pytest.mark.spark)]
# The last partition is ragged.
IMAGES, PARTITION_IMAGES, PARTITIONS = 11_950, 200, 60


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store with a corpus with labels, a forest that has learnt other images, and the run of both, made without Spark."""
    folder = tmp_path_factory.mktemp("world")
    store = open_store(str(folder / "store"))
    path = write_tiny_images(folder / "tiny_images.bin", IMAGES)
    corpus = make_corpus(store, "tiny", path, PARTITION_IMAGES, labels=str(folder / "labels.bin"))
    forest, parameters = train(*make_images(3000, seed=1), CLASSES, trees=10, depth=6)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})
    made = runs.Run(
        "tiny",
        corpus.hash,
        "forest",
        forest.hash,
        0.4,
        CLASSES,
        corpus.images,
        corpus.partitions,
        forest.trees,
    )
    runs.create_run(store, made)
    write_readme(store, made)
    for partition in range(corpus.partitions):
        tag_partition(store, corpus, made, partition)
    return store, made


@pytest.fixture(scope="module")
def undisturbed(world):
    """The files of the run."""
    store, made = world
    return contents(Path(store.url(layout.run_folder(made.name))))


@pytest.fixture
def store(world, tmp_path):
    """A store with the same corpus and model, and no run yet."""
    here = tmp_path / "store"
    here.mkdir()
    for name in ("corpora", "models"):
        (here / name).symlink_to(world[0].url(name))
    return open_store(str(here))


@pytest.fixture
def folder(world, store):
    """Where the run will be."""
    return Path(store.url(layout.run_folder(world[1].name)))


@pytest.fixture
def tag(store):
    """The words of the command that makes the run."""
    return ["tag", "--corpus", "tiny", "--model", "forest", "--store", store.url()]


def markers(folder: Path) -> dict[str, int]:
    return times(folder / "statistics")


@pytest.mark.parametrize("master", [PROCESSES, "spark"])
def test_the_run_is_the_same_on_all_workers_and_is_made_once(
    tag, folder, world, undisturbed, master, request
):
    if master == "spark":
        request.getfixturevalue("spark")
        master = MASTER
    result = run_json(*tag, TINYTAGS_MASTER=master)
    assert contents(folder) == undisturbed
    assert (result["run"], result["partitions"], result["partitions_tagged"]) == (
        world[1].name,
        PARTITIONS,
        PARTITIONS,
    )
    before = markers(folder)
    again = run_json(*tag)
    assert markers(folder) == before
    assert (again["partitions_tagged"], again["already_done"]) == (0, PARTITIONS)
    for key in ("images", "tagged", "dropped", "bad", "labelled", "right", "failed"):
        assert again[key] == result[key], "the summary is of the whole run"
    out, _ = run(*tag)
    assert out.startswith(f"run {world[1].name}: {result['tagged']:,} tagged (")
    assert "all done already" in out and "tags with a known label are right" in out


def test_what_the_statistics_have_is_what_the_forest_votes(world):
    store, made = world
    corpus, model = open_corpus(store, "tiny"), load_model(store, "forest")
    images, labels = make_images(IMAGES)
    votes = model.votes(images)
    best, most = votes.argmax(axis=1), votes.max(axis=1)
    kept = most >= 4
    assert 0.2 < kept.mean() < 0.98, "the small world is neither too easy nor too hard"
    statistics = [runs.read_statistics(store, made, p) for p in range(PARTITIONS)]
    assert sum(s["images"] for s in statistics) == IMAGES
    assert sum(s["tagged"] for s in statistics) == kept.sum()
    assert sum(s["dropped"] for s in statistics) == (~kept).sum()
    assert sum(s["right"] for s in statistics) == (best == labels)[kept].sum()
    histogram = sum((Counter(s["votes"]) for s in statistics), Counter())
    assert histogram == {str(k): n for k, n in enumerate(np.bincount(most).tolist()) if n}
    tags = sum((Counter(s["tags"]) for s in statistics), Counter())
    assert tags == {CLASSES[k]: n for k, n in enumerate(np.bincount(best[kept]).tolist()) if n}
    last = statistics[-1]
    assert (last["partition"], last["images"]) == (59, 150)
    data = store.read_bytes(layout.run_tags(made.name, 59))
    assert (last["bytes"], last["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    documents = [json.loads(line) for line in data.splitlines()]
    rows = np.flatnonzero(kept[corpus.rows(59)[0] :])
    assert [document["row"] for document in documents] == rows.tolist()
    assert {document["partition"] for document in documents} == {59}


@pytest.mark.parametrize("master", MASTERS)
def test_killed_at_several_moments_it_ends_the_same_and_redoes_only_what_was_left(
    tag, folder, undisturbed, master
):
    chance = random.Random(1).randint(2, 50)
    moments = [
        ("at the start", lambda: (folder / "lease.json").exists(), kill_driver),
        ("right after the first marker", lambda: len(markers(folder)) >= 1, stop_group),
        ("in the middle", lambda: len(markers(folder)) >= 20, kill_driver),
        (f"after {chance} markers", lambda: len(markers(folder)) >= chance, stop_group),
    ]
    if master == MASTER:  # each start of Spark takes seconds; `ingest` is killed in more moments
        moments = moments[3:]
    done = {}
    for moment, reached, kill in moments:
        process = start(*tag, TINYTAGS_MASTER=master)
        wait_until(lambda reached=reached: reached() or len(markers(folder)) == PARTITIONS)
        kill(process)
        # On a busy machine it may have done all, and ended, before it is killed.
        ended = 0 if len(markers(folder)) == PARTITIONS else -signal.SIGKILL
        assert process.wait() in (-signal.SIGKILL, ended), moment
        wait_until(lambda process=process: not alive(process))  # workers without a driver go by themselves
        process.communicate()
        now = markers(folder)
        assert done.items() <= now.items(), f"what was done before the kill {moment} was done again"
        done = now
    result = run_json(*tag)
    assert (result["already_done"], result["partitions_tagged"]) == (len(done), PARTITIONS - len(done))
    assert done.items() <= markers(folder).items()
    assert contents(folder) == undisturbed, "nothing differs, no temporary file is left, and no lease"


def kill_driver(process):
    os.kill(process.pid, signal.SIGKILL)


def test_interrupted_it_prints_one_line_and_releases_the_lease(tag, folder):
    process = start(*tag, TINYTAGS_MASTER=PROCESSES)  # `ingest` is interrupted on Spark too
    wait_until(lambda: len(markers(folder)) >= 1, process)
    stop_group(process, signal.SIGINT)  # as a terminal does
    out, err = finish(process, 130)
    assert out == ""
    lines = [line for line in err.splitlines() if line and not line.startswith("tag: ")]
    assert lines == ["tinytags: interrupted; finished work is kept, and the same command continues it"]
    assert not (folder / "lease.json").exists()
    wait_until(lambda: not alive(process))


def test_a_second_writer_gets_the_name_of_the_first(tag, store, world):
    with lease(store, layout.run_lease(world[1].name), "run"):
        out, err = run(*tag, code=75)
    assert out == ""
    assert error_line(err).startswith(f"tinytags: run {world[1].name!r} is being written by ")


def test_corrupt_partitions_are_named_and_counted_and_tagged_once_they_are_repaired(
    tag, store, folder, world, undisturbed
):
    Path(store.url("corpora")).unlink()
    shutil.copytree(world[0].url("corpora"), store.url("corpora"))
    flipped, truncated, missing = (Path(store.url(layout.corpus_images("tiny", p))) for p in (7, 20, 59))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    os.truncate(truncated, 1000)
    missing.unlink()

    result = run_json(*tag, code=1)
    assert list(result["failed"]) == ["7", "20", "59"]
    assert (result["partitions_tagged"], result["already_done"]) == (57, 0)
    done = markers(folder)
    assert len(done) == 57
    _, err = run(*tag, code=1)
    line = error_line(err)
    assert line.startswith(
        f"tinytags: 3 of 60 partitions not tagged: 7, 20, 59; the first: {flipped}: is corrupt ("
    )
    assert line.endswith("; `tinytags ingest` with --partition repairs it")
    assert markers(folder) == done, "the others are not tagged again"
    assert sorted(path.name for path in (folder / "failed").iterdir()) == [
        "00007.json",
        "00020.json",
        "00059.json",
    ]
    assert not (folder / "tags" / "00007.jsonl").exists()
    status = run_json("status", "--store", store.url())
    assert status["runs"][0]["tag"] == {"pending": 0, "done": 57, "failed": 3}

    dump = open_corpus(store, "tiny").dump
    mended = run_json(
        "ingest", dump, "--labels", Path(dump).with_name("labels.bin"), "--corpus", "tiny", "--partition-images",
        PARTITION_IMAGES, "--partition", "7", "--partition", 20, "--partition", "59-59", "--store", store.url(),
    )  # fmt: skip
    assert mended["split"] == 3
    assert run_json(*tag)["partitions_tagged"] == 3
    assert done.items() <= markers(folder).items()
    assert contents(folder) == undisturbed


def test_a_partition_that_is_named_is_tagged_again_and_no_other(tag, folder, world, undisturbed):
    shutil.copytree(world[0].url(layout.run_folder(world[1].name)), folder)
    before = markers(folder)
    result = run_json(*tag, "--partition", "3")
    assert (result["partitions_tagged"], result["already_done"]) == (1, 59)
    assert {name for name, at in markers(folder).items() if at != before[name]} == {"00003.json"}
    assert contents(folder) == undisturbed


def test_images_that_the_model_was_trained_on_do_not_count_as_right(store):
    corpus, images = open_corpus(store, "tiny"), make_images(IMAGES)[0]
    forest, parameters = train(*make_images(300, seed=1), CLASSES, trees=4, depth=4)
    shutil.copytree(store.url("models"), store.root + "/own")
    (Path(store.root) / "models").unlink()
    (Path(store.root) / "own").rename(Path(store.root) / "models")
    save_model(
        store,
        "seen",
        forest,
        {"engine": "scikit-learn", "parameters": parameters},
        hash_blocks([images[:150]]),
    )
    counts = {}
    for model in ("seen", "forest"):
        tagger = load_model(store, model)
        made = runs.Run(
            "tiny", corpus.hash, model, tagger.hash, 0, CLASSES, corpus.images, corpus.partitions, tagger.voters
        )  # fmt: skip
        runs.create_run(store, made)
        for partition in (2, 0):
            counts[model] = tag_partition(store, corpus, made, partition)
            # The images are in the first partition alone.
            assert partition == 0 or not Library(store).was_trained_on(made.name)
        assert Library(store).was_trained_on(made.name) == (model == "seen")
    assert {key: counts["seen"][key] for key in ("images", "tagged", "labelled", "trained")} == {
        "images": 200, "tagged": 200, "labelled": 50, "trained": 150,
    }  # fmt: skip
    assert counts["seen"]["right"] <= 50
    assert (counts["forest"]["labelled"], counts["forest"]["trained"]) == (200, 0)


def test_another_threshold_makes_another_run(tag, store, world):
    result = run_json(*tag, "--min-confidence", "1")
    assert result["run"] != world[1].name
    assert result["tagged"] + result["dropped"] == IMAGES
    assert 0 < result["tagged"] < IMAGES / 2
    assert runs.open_run(store, result["run"]).min_confidence == 1.0


def test_similar_adds_a_descriptor_to_each_document_of_a_run_of_its_own_and_changes_nothing_else(
    tag, store, world, folder, tmp_path
):
    result = run_json(*tag, "--similar")
    original = Path(store.url(layout.run_folder(result["run"])))
    made = runs.open_run(store, result["run"])
    assert made == replace(world[1], descriptor=descriptor.NAME) and made.name != world[1].name
    corpus = open_corpus(store, "tiny")
    for p in (0, PARTITIONS - 1):
        images = np.concatenate([block.images for block in read_partition(store, corpus, p)])
        output = [json.loads(line) for line in store.read_bytes(layout.run_tags(made.name, p)).splitlines()]
        assert [d.pop("descriptor") for d in output] == descriptor.describe(
            images[[d["row"] for d in output]]
        ).tolist()
        plain = world[0].read_bytes(layout.run_tags(world[1].name, p)).decode()
        for before, now in ((world[1].name, made.name), (f'"{world[1].prefix}:', f'"{made.prefix}:')):
            plain = plain.replace(before, now)
        assert output == [json.loads(line) for line in plain.splitlines()]
    shutil.copytree(original, tmp_path / "copy")
    for p in (3, 58):
        (original / "statistics" / f"{p:05d}.json").unlink()
        (original / "tags" / f"{p:05d}.jsonl").write_bytes(b"cut off")
    again = run_json(*tag, "--similar")
    assert (again["run"], again["partitions_tagged"]) == (made.name, 2)
    assert contents(original) == contents(tmp_path / "copy")
    assert not folder.exists(), "the run without descriptors is another one"


@pytest.mark.services
def test_the_run_in_hdfs_is_the_local_one_byte_for_byte(hdfs, world, tmp_path, undisturbed):
    local, made = world
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    for name in ("corpora", "models"):
        store._client.upload(store._full(name), local.url(name), n_threads=4)
    words = [
        "tag",
        "--corpus",
        "tiny",
        "--model",
        "forest",
        "--store",
        store.url(),
        "--webhdfs",
        hdfs.webhdfs,
        "--partition",
        "0-9",
        "--partition",
        "59",
    ]
    assert run_json(*words)["run"] == made.name
    copy = tmp_path / "copy"
    store._client.download(store._full(layout.run_folder(made.name)), str(copy), n_threads=4)
    numbers = {f"{number:05d}" for number in (*range(10), 59)}
    parts = {
        name: data
        for name, data in undisturbed.items()
        if Path(name).stem in numbers | {"manifest", "README"}
    }
    assert len(parts) == 2 * len(numbers) + 2
    assert contents(copy) == parts


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--corpus", "x", "--model", "forest"], "no corpus 'x' in {store}; there are tiny"),
        (["--corpus", "tiny", "--model", "x"], "no model 'x' in {store}; there are forest"),
        (["--corpus", "../x", "--model", "x"], "corpus name '../x' is not valid"),
        (
            ["--corpus", "tiny", "--model", "forest", "--partition", "59-60"],
            "has no partition 60; it has 0 to 59",
        ),
    ],
)
def test_what_is_not_there_is_reported_before_anything_starts(store, words, line):
    _, err = run("tag", *words, "--store", store.url(), code=1)
    assert line.format(store=store.url()) in error_line(err)
