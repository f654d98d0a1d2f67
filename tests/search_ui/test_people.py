"""Tests of `search_ui.people.CurrentLabels`, without Solr."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest.corpus import Corpus
from records.corrections import Label, open_corrections
from search_ui.people import CurrentLabels

HERE = Corpus("here", "here.bin", "tiny_images", {}, images=30, partition_images=10)
THERE = Corpus("there", "there.bin", "tiny_images", {}, images=30, partition_images=10)


@pytest.fixture
def corrections(tmp_path):
    return open_corrections(f"sqlite:///{tmp_path}/labels.db")


def test_all_threads_get_what_one_of_them_reads_once_for_each_change(corrections, monkeypatch):
    corrections.add_many([Label(HERE, 1, 2, "frog")], "Ada")
    reads, newest = [], corrections.newest
    monkeypatch.setattr(corrections, "newest", lambda: reads.append(1) or newest())
    current = CurrentLabels(corrections)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda _: current.now(), range(8)))
    assert len(reads) == 1 and len(set(map(id, read))) == 1
    corrections.add_many([Label(HERE, 1, 3, "cat")], "Ada")
    assert len(current.now().of_corpus(HERE)) == 2 and len(reads) == 2


def test_labels_are_found_by_record_image_and_corpus(corrections):
    current = CurrentLabels(corrections)
    assert current.now() is current.now() and current.now().of_corpus(HERE) == {}
    for label, by in (("frog", "Ada"), ("cat", "Bob")):
        corrections.add_many([Label(HERE, 1, 2, label), Label(HERE, 2, 0, "ship")], by)
    corrections.add_many([Label(THERE, 0, 1, "dog")], "Ada")
    labels = current.now()
    assert labels.of_corpus(HERE) == {12: None, 20: "ship"} and labels.of_corpus(THERE) == {1: "dog"}
    assert (labels.of_image(HERE, 2, 0), labels.of_image(HERE, 1, 2), labels.of_image(HERE, 0, 0)) == (
        "ship",
        None,
        None,
    )
    assert labels.names == {HERE.hash: ["cat", "frog", "ship"], THERE.hash: ["dog"]}
    assert labels.by_hash == {HERE.hash: {(1, 2): None, (2, 0): "ship"}, THERE.hash: {(0, 1): "dog"}}


def test_applications_in_one_process_have_the_labels_of_their_own_databases(corrections, tmp_path):
    other = open_corrections(f"sqlite:///{tmp_path}/other.db")
    corrections.add_many([Label(HERE, 0, 0, "frog")], "Ada")
    other.add_many([Label(HERE, 0, 0, "cat")], "Ada")
    labels = [CurrentLabels(one).now().of_image(HERE, 0, 0) for one in (corrections, other)]
    assert labels == ["frog", "cat"]
