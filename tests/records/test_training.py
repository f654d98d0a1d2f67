"""Tests of `records.training` on small corpora in a store."""

import os

import numpy as np
import pytest
from small_world import CLASSES, make_corpus, make_images, write_cifar, write_tiny_images

from ingest.corpus import Corpus, open_corpus
from records.majority import PeoplesLabel
from records.training import read_corrected
from storage import hdfs_client, layout
from storage.store import StoreUnavailableError, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrections")
    store = open_store(str(folder / "store"))
    make_corpus(store, "tiny", write_tiny_images(folder / "tiny_images.bin", 500), 300)
    make_corpus(store, "cifar", write_cifar(folder / "cifar", 200, 50), 100)
    return store


def correction(corpus, partition, row, label):
    return PeoplesLabel(corpus.name, corpus.hash, partition, row, label)


def test_usable_corrections_have_pixels_and_the_others_reasons(store, here):
    tiny, cifar = open_corpus(store, "tiny"), open_corpus(store, "cifar")
    corrections = [
        correction(tiny, 1, 7, "frog"),
        correction(cifar, 0, 3, "truck"),
        correction(here, 0, 0, "frog"),
        correction(Corpus("tiny", "x", "x", {}, 1, 1), 0, 0, "frog"),
        correction(tiny, 0, 0, "unicorn"),
        correction(tiny, 0, 1, "unicorn"),
        correction(tiny, 0, 2, None),
    ]
    usable, images, labels, reasons = read_corrected(store, corrections, CLASSES)
    assert usable == corrections[:2]
    np.testing.assert_array_equal(images, [make_images(500)[0][307], make_images(250, seed=1)[0][3]])
    assert labels.tolist() == [CLASSES.index("frog"), CLASSES.index("truck")]
    assert reasons == [
        f"1 of corpus 'here', which is not in {store.url()}",
        "1 of a corpus 'tiny' that had other contents",
        "2 'unicorn', which is none of the classes",
        "1 of images whose label is disputed: as many people give another",
    ]


def test_no_correction_gives_arrays_of_the_same_shape(store):
    usable, images, labels, reasons = read_corrected(store, [], CLASSES)
    assert (usable, images.shape, labels.shape, reasons) == ([], (0, 3072), (0,), [])


def test_unreadable_images_are_left_out(tmp_path):
    store = open_store(str(tmp_path / "store"))
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 60)
    for name in ("tiny", "broken"):
        make_corpus(store, name, dump, 30)
    corrections = [
        correction(open_corpus(store, name), partition, 3, "frog")
        for name, partition in (("tiny", 0), ("tiny", 1), ("broken", 0))
    ]
    os.truncate(store.url(layout.corpus_images("tiny", 0)), 1000)
    store.write_bytes("corpora/broken/manifest.json", b"{}")
    usable, images, labels, reasons = read_corrected(store, corrections, CLASSES)
    assert (usable, images.shape, len(labels)) == (corrections[1:2], (1, 3072), 1)
    assert reasons == [f"1 of images of corpus '{name}' that can't be read" for name in ("tiny", "broken")]


def test_an_unavailable_store_is_an_error(monkeypatch):
    monkeypatch.setattr(hdfs_client.time, "sleep", lambda seconds: None)
    store = open_store("hdfs://127.0.0.1:8020/x", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError):
        read_corrected(store, [], CLASSES)
