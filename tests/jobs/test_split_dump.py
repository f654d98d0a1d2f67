"""Tests of `jobs.split_dump` through the command: whatever happens in between, the same corpus stands there at the end."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from small_world import (
    MASTER,
    PROCESSES,
    alive,
    contents,
    error_line,
    finish,
    make_corpus,
    run,
    run_json,
    start,
    stop_group,
    times,
    wait_until,
    write_cifar,
    write_tiny_images,
)

from conf.command import split_names
from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest import files
from ingest.corpus import Corpus, create_corpus, open_corpus
from ingest.formats import open_dump
from jobs import processes
from jobs.split_dump import split_dump
from storage import layout
from storage.hdfs import HdfsStore
from storage.lease import lease
from storage.store import open_store

# Commands that are killed or interrupted, on either kind of workers.
MASTERS = [PROCESSES, pytest.param(MASTER, marks=pytest.mark.spark)]
# Small partitions, so that a job has a middle to be killed in; the last one is ragged.
IMAGES, PARTITION_IMAGES, PARTITIONS = 11_950, 200, 60
FEW = 20


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    path = write_tiny_images(tmp_path_factory.mktemp("dump") / "tiny_images.bin", IMAGES)
    path.with_name("labels.bin").unlink()  # or each command notes that it is not used
    return path


@pytest.fixture(scope="module")
def undisturbed(dump, tmp_path_factory):
    """The files of the corpus, written one partition after the other without Spark."""
    store = open_store(str(tmp_path_factory.mktemp("undisturbed")))
    make_corpus(store, "tiny", dump, PARTITION_IMAGES)
    return contents(Path(store.url("corpora/tiny")))


@pytest.fixture
def folder(tmp_path):
    """Where the corpus will be."""
    return tmp_path / "store" / "corpora" / "tiny"


@pytest.fixture
def ingest(dump, tmp_path):
    """The words of the command that makes the corpus."""
    return [
        "ingest",
        dump,
        "--corpus",
        "tiny",
        "--partition-images",
        PARTITION_IMAGES,
        "--store",
        tmp_path / "store",
    ]


def markers(folder: Path) -> dict[str, int]:
    return times(folder / "statistics")


@pytest.mark.slow
@pytest.mark.parametrize("master", [PROCESSES, "spark"])
def test_the_corpus_is_the_same_on_all_workers_and_is_made_once(ingest, folder, undisturbed, master, request):
    if master == "spark":
        request.getfixturevalue("spark")
        master = MASTER
    result = run_json(*ingest, TINYTAGS_MASTER=master)
    assert contents(folder) == undisturbed
    assert (result["images"], result["partitions"], result["split"]) == (IMAGES, PARTITIONS, PARTITIONS)
    assert (result["already_done"], result["images_split"]) == (0, IMAGES)
    assert result["images_per_second"] > 0
    before = markers(folder)
    out, err = run(*ingest)
    assert out == f"corpus tiny: {IMAGES:,} images in {PARTITIONS} partitions, no labels; all done already\n"
    assert err == f"corpus 'tiny': {PARTITIONS} of {PARTITIONS} partitions done already\n", (
        "no worker is started"
    )
    assert markers(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("master", MASTERS)
def test_killed_at_several_moments_it_ends_the_same_and_redoes_only_what_was_left(
    ingest, folder, undisturbed, master
):
    chance = random.Random(1).randint(2, 50)
    moments = [
        ("at the start", lambda: (folder / "lease.json").exists(), kill_driver),
        ("right after the first marker", lambda: len(markers(folder)) >= 1, stop_group),
        ("in the middle", lambda: len(markers(folder)) >= 20, kill_driver),
        (f"after {chance} markers", lambda: len(markers(folder)) >= chance, stop_group),
    ]
    if master == MASTER:  # each start of Spark takes seconds
        moments = [moments[0], moments[3]]
    done = {}
    for moment, reached, kill in moments:
        process = start(*ingest, TINYTAGS_MASTER=master)
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
    result = run_json(*ingest)
    assert (result["already_done"], result["split"]) == (len(done), PARTITIONS - len(done))
    assert done.items() <= markers(folder).items()
    assert contents(folder) == undisturbed, "nothing differs, no temporary file is left, and no lease"


def kill_driver(process):
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("master", MASTERS)
def test_interrupted_it_prints_one_line_gives_the_lease_back_and_stops_all_workers(
    ingest, folder, undisturbed, master
):
    moments = [
        (signal.SIGINT, lambda: (folder / "lease.json").exists()),
        (signal.SIGINT, lambda: len(markers(folder)) >= 1),
        (signal.SIGTERM, lambda: len(markers(folder)) >= 20),
    ]
    if master == MASTER:  # each start of Spark takes seconds
        moments = moments[::2]
    for sign, reached in moments:
        process = start(*ingest, TINYTAGS_MASTER=master)
        wait_until(reached, process)
        process.send_signal(sign)
        out, err = finish(process, 130)
        assert out == ""
        lines = [line for line in err.splitlines() if line and "done already" not in line]
        assert [line for line in lines if not line.startswith("ingest: ")] == [
            "tinytags: interrupted; finished work is kept, and the same command continues it"
        ]
        assert not (folder / "lease.json").exists()
        wait_until(lambda process=process: not alive(process))
    done = markers(folder)
    assert len(done) < PARTITIONS
    assert run_json(*ingest)["split"] == PARTITIONS - len(done)
    assert done.items() <= markers(folder).items()
    assert contents(folder) == undisturbed


def test_a_second_writer_gets_the_name_of_the_first_before_anything_is_touched(ingest, folder, tmp_path):
    with lease(open_store(str(tmp_path / "store")), layout.corpus_lease("tiny"), "corpus 'tiny'"):
        out, err = run(*ingest, code=75)
        assert out == ""
        assert error_line(err).startswith("tinytags: corpus 'tiny' is being written by ")
        assert f"(process {os.getpid()}) since 20" in err
        assert [path.name for path in folder.iterdir()] == ["lease.json"]


def test_a_dump_that_changed_under_an_old_name_is_refused_with_both_hashes(dump, tmp_path):
    store = open_store(str(tmp_path / "store"))
    before = make_corpus(store, "tiny", dump, 20_000)
    changed = tmp_path / "tiny_images.bin"
    data = bytearray(dump.read_bytes())
    data[5000] ^= 1
    changed.write_bytes(data)
    words = ["ingest", changed, "--corpus", "tiny", "--store", tmp_path / "store"]
    _, err = run(*words, code=1)
    line = error_line(err)
    after = make_corpus(store, "changed", changed, 20_000)
    assert (
        f"corpus 'tiny' exists already, with other contents ({before.hash[:8]}, not {after.hash[:8]}; "
        in line
    )
    assert "different: identity" in line
    assert run_json(*words[:1], dump, *words[2:])["already_done"] == 1, "the old one is still welcome"


def test_a_large_dump_of_which_version_0_1_knew_size_and_time_is_still_the_same(tmp_path, monkeypatch):
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 100)
    settings = Settings(store=str(tmp_path / "store"), master="processes[1]")
    monkeypatch.setattr(files, "HASHED_BYTES", 99)
    labels = str(dump.with_name("labels.bin"))
    monkeypatch.setattr(files, "sample", lambda *_: "a sample")
    store, source = open_store(settings.store), open_dump(str(dump), labels=labels)
    old = {key: source.identity[key] for key in ("bytes", "modified")}
    old["labels"] = {key: source.identity["labels"][key] for key in ("bytes", "modified")}
    corpus = Corpus("tiny", source.format, source.path, old, 100, 50, labels, source.classes)
    create_corpus(store, corpus)
    done = split_dump(settings, str(dump), "tiny", partition_images=50, labels=labels)
    assert (done["hash"], done["split"]) == (corpus.hash, 2)
    new = split_dump(settings, str(dump), "new", partition_images=50, labels=labels)
    assert open_corpus(store, "new").identity["sample"] == "a sample" and new["hash"] != corpus.hash
    os.utime(dump, (9, 9))
    with pytest.raises(TinyTagsError, match="different: identity"):
        split_dump(settings, str(dump), "tiny", partition_images=50, labels=labels)


def test_class_names_are_read_as_csv():
    assert split_names("--classes", 'cat, dog,"cat, tabby"') == ["cat", "dog", "cat, tabby"]
    with pytest.raises(TinyTagsError, match=r"--classes 'a\\nb' can't be read"):
        split_names("--classes", "a\nb")


@pytest.mark.slow
def test_a_dump_that_changes_while_it_is_split_leaves_nothing_that_counts_as_done(tmp_path, monkeypatch):
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 100)
    real = processes.Processes.run

    def change_after(*args, **options):
        done = real(*args, **options)
        data = bytearray(dump.read_bytes())
        data[0] ^= 1
        dump.write_bytes(data)
        return done

    monkeypatch.setattr(processes.Processes, "run", change_after)
    settings = Settings(store=str(tmp_path / "store"), master="processes")
    with pytest.raises(TinyTagsError, match=r"was changed while it was split"):
        split_dump(settings, str(dump), "tiny", partition_images=50)
    assert open_store(settings.store).list("corpora/tiny/statistics") == []


def test_a_store_within_the_dumps_folder_is_no_change_of_the_dump(tmp_path):
    folder = write_cifar(tmp_path / "cifar", 100, 50)
    for _ in range(2):
        out, _ = run("ingest", ".", "--corpus", "c", "--store", "data", cwd=folder)
        assert out.startswith("corpus c: 150 images in 1 partition, 150 labelled; ")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A dump of fewer images, as each file takes longer in HDFS; and the files of its corpus, made without Spark."""
    folder = tmp_path_factory.mktemp("few")
    dump = write_tiny_images(folder / "tiny_images.bin", FEW * PARTITION_IMAGES - 50)
    make_corpus(open_store(str(folder / "store")), "tiny", dump, PARTITION_IMAGES)
    return dump, contents(folder / "store" / "corpora" / "tiny")


@pytest.mark.services
def test_the_corpus_in_hdfs_from_a_dump_in_hdfs_is_the_local_one_byte_for_byte(hdfs, few, tmp_path):
    dump, undisturbed = few
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    store.write_bytes("tiny_images.bin", dump.read_bytes())
    result = run_json(
        "ingest", store.url("tiny_images.bin"), "--corpus", "tiny", "--partition-images", PARTITION_IMAGES,
        "--store", store.url(), "--webhdfs", hdfs.webhdfs,
    )  # fmt: skip
    assert result["split"] == FEW
    assert contents_in_hdfs(store, tmp_path / "copy") == undisturbed_but_for_the_place(undisturbed, store)


@pytest.mark.services
def test_a_datanode_that_dies_in_the_middle_is_reported_in_one_line_and_a_rerun_completes(
    hdfs, few, tmp_path
):
    dump, undisturbed = few
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    words = [
        "ingest", dump, "--corpus", "tiny", "--partition-images", PARTITION_IMAGES,
        "--store", store.url(), "--webhdfs", hdfs.webhdfs,
    ]  # fmt: skip
    process = start(*words)
    wait_until(lambda: len(store.list("corpora/tiny/statistics")) >= 3, process)
    hdfs.kill_datanode()
    began = time.monotonic()
    try:
        _, err = finish(process, 1)
        seconds = time.monotonic() - began
    finally:
        hdfs.start_datanode()
    line = error_line(err)
    assert line.startswith(f"tinytags: {store.url('corpora/tiny/')}")
    assert "are the NameNode and a DataNode up?" in line
    assert seconds < 90
    done = markers_in_hdfs(store)
    assert 3 <= len(done) < FEW
    result = run_json(*words)
    assert (result["already_done"], result["split"]) == (len(done), FEW - len(done))
    assert done.items() <= markers_in_hdfs(store).items()
    assert contents_in_hdfs(store, tmp_path / "copy") == undisturbed


def markers_in_hdfs(store: HdfsStore) -> dict[str, int]:
    listed = store._client.list(store._full("corpora/tiny/statistics"), status=True)
    return {name: status["modificationTime"] for name, status in listed if name[0] != "."}


def contents_in_hdfs(store: HdfsStore, copy: Path) -> dict[str, object]:
    store._client.download(store._full("corpora/tiny"), str(copy), n_threads=4)
    return contents(copy)


def undisturbed_but_for_the_place(undisturbed, store) -> dict[str, object]:
    manifest = undisturbed["manifest.json"] | {"dump": store.url("tiny_images.bin")}
    return undisturbed | {"manifest.json": manifest}
