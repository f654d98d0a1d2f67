"""Tests of `ingest.corrections` on real databases of SQLite."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from small_world import CLASSES, make_corpus, make_images, write_cifar, write_tiny_images

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from ingest.corrections import (
    BadCorrectionError,
    Correction,
    Corrections,
    DatabaseError,
    read_corrected,
    trainable,
)
from ingest.store import StoreError, open_store

HERE = Corpus("here", "x", "x", {"sha256": "a"}, images=100, partition_images=30)
THERE = Corpus("there", "x", "x", {"sha256": "b"}, images=100, partition_images=30)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/some/where/tinytags.db"


def said(found):
    return [(c.label, c.by) for c in found]


def test_what_is_said_last_stands_first_and_who_and_when_with_it(url):
    corrections = Corrections(url)
    before = datetime.now(UTC).replace(microsecond=0)
    corrections.add(HERE, 1, 2, "frog", "Ada")
    corrections.add(HERE, 1, 2, "cat, tabby", "Bé  \n Ł.")
    corrections.add(HERE, 2, 1, "ship", "Ada")
    first, second = corrections.of(HERE, 1, 2)
    assert said([first, second]) == [("cat, tabby", "Bé Ł."), ("frog", "Ada")]
    assert (first.corpus, first.corpus_hash, first.partition, first.row) == ("here", HERE.hash, 1, 2)
    assert before <= second.at <= first.at <= before + timedelta(minutes=1)
    assert corrections.of(THERE, 1, 2) == corrections.of(HERE, 1, 3) == []
    assert said(Corrections(url).of(HERE, 2, 1)) == [("ship", "Ada")], "it outlives who wrote it"


def test_the_newest_of_every_image_in_the_order_of_the_corpora(url):
    corrections = Corrections(url)
    for corpus, row, label in ((THERE, 5, "frog"), (HERE, 7, "cat"), (HERE, 3, "cat"), (HERE, 7, "dog")):
        corrections.add(corpus, 0, row, label, "Ada")
    assert [(c.corpus, c.row, c.label) for c in corrections.newest()] == [
        ("here", 3, "cat"),
        ("here", 7, "dog"),
        ("there", 5, "frog"),
    ]


def test_the_same_said_twice_is_kept_once_and_said_again_later_kept_again(url):
    corrections = Corrections(url)
    for label, by in (("frog", "Ada"), ("frog", "Ada"), ("frog", "Bob"), ("frog", "Ada"), ("cat", "Ada")):
        corrections.add(HERE, 0, 0, label, by)
    assert said(corrections.of(HERE, 0, 0)) == [
        ("cat", "Ada"),
        ("frog", "Ada"),
        ("frog", "Bob"),
        ("frog", "Ada"),
    ]


def test_one_can_be_taken_back_and_its_number_is_never_that_of_another(url):
    corrections = Corrections(url)
    corrections.add(HERE, 0, 0, "frog", "Ada")
    corrections.add(HERE, 0, 0, "cat", "Ada")
    newest = corrections.of(HERE, 0, 0)[0]
    assert not corrections.remove(HERE, 0, 1, newest.number), "of another image"
    assert not corrections.remove(THERE, 0, 0, newest.number)
    assert corrections.remove(HERE, 0, 0, newest.number)
    assert not corrections.remove(HERE, 0, 0, newest.number)
    assert said(corrections.newest()) == [("frog", "Ada")]
    corrections.add(HERE, 0, 0, "ship", "Bob")
    assert corrections.of(HERE, 0, 0)[0].number > newest.number


def test_reading_makes_nothing(url, tmp_path):
    corrections = Corrections(url)
    assert corrections.of(HERE, 0, 0) == corrections.newest() == []
    assert list(tmp_path.iterdir()) == []
    Corrections(url).add(HERE, 0, 0, "frog", "Ada")
    assert said(corrections.of(HERE, 0, 0)) == [("frog", "Ada")], "what another process has begun is seen"


def test_a_file_that_was_removed_is_begun_anew(url):
    corrections = Corrections(url)
    corrections.add(HERE, 0, 0, "frog", "Ada")
    os.remove(url.removeprefix("sqlite:///"))
    assert corrections.of(HERE, 0, 0) == []
    corrections.add(HERE, 0, 0, "cat", "Ada")
    assert said(Corrections(url).of(HERE, 0, 0)) == [("cat", "Ada")]


@pytest.mark.parametrize(
    ("label", "by", "words"),
    [
        ("", "Ada", "the label is missing"),
        ("frog", " \t ", "your name is missing"),
        ("frog", "x" * 81, "up to 80 characters"),
        ("x" * 201, "Ada", "up to 200 characters"),
        ("frog\0", "Ada", r"the label 'frog\x00' won't do"),
        ("frog", "A\x1bda", "can be printed"),
    ],
)
def test_what_says_nothing_or_cannot_be_shown_is_refused(url, tmp_path, label, by, words):
    with pytest.raises(BadCorrectionError) as error:
        Corrections(url).add(HERE, 0, 0, label, by)
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["'; DROP TABLE corrections; --", "<script>", "%s {x} :by \\", "🐸"])
def test_words_are_kept_as_they_are(url, text):
    corrections = Corrections(url)
    corrections.add(HERE, 0, 0, text, text)
    assert said(corrections.of(HERE, 0, 0)) == [(text, text)]


def test_many_at_once_are_all_kept(url):
    several = [Corrections(url) for _ in range(2)]

    def say(number):
        several[number % 2].add(HERE, 0, number % 5, f"class {number}", "Ada")

    with ThreadPoolExecutor(8) as people:
        list(people.map(say, range(60)))
    found = [c.label for row in range(5) for c in several[0].of(HERE, 0, row)]
    assert sorted(found) == sorted(f"class {number}" for number in range(60))


def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path):
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    (tmp_path / "file").touch()
    cases = {
        f"sqlite:///{tmp_path}/damaged.db": "file is not a database",
        f"sqlite:///{tmp_path}/file/x.db": "File exists",
        "tinytags.db": "it has to look like sqlite:///",
        "nothing://ada:secret@x/y": "it has to look like sqlite:///",
        "mysql+mysqldb://ada:secret@127.0.0.1:1/x": "install its driver",
    }
    for address, words in cases.items():
        with pytest.raises(DatabaseError) as error:
            Corrections(address).add(HERE, 0, 0, "frog", "Ada")
        assert words in str(error.value) and "database" in str(error.value), address
        assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_database_that_is_locked_is_told_when_it_stays_so(url):
    import sqlite3

    Corrections(url).add(HERE, 0, 0, "frog", "Ada")
    with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="locked"):
            Corrections(url).add(HERE, 0, 1, "frog", "Ada")
        other.execute("ROLLBACK")
    Corrections(url).add(HERE, 0, 1, "frog", "Ada")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrections")
    store = open_store(str(folder / "store"))
    make_corpus(store, "tiny", write_tiny_images(folder / "tiny_images.bin", 500), 300)
    make_corpus(store, "cifar", write_cifar(folder / "cifar", 200, 50), 100)
    return store


def correction(corpus, partition, row, label):
    return Correction(1, corpus.name, corpus.hash, partition, row, label, "Ada", datetime.now(UTC))


def test_what_can_be_trained_on_comes_with_its_pixels_and_the_rest_with_reasons(store):
    from ingest.corpus import open_corpus

    tiny, cifar = open_corpus(store, "tiny"), open_corpus(store, "cifar")
    found, reasons = trainable(
        store,
        [
            correction(tiny, 1, 7, "frog"),
            correction(cifar, 0, 3, "truck"),
            correction(HERE, 0, 0, "frog"),
            correction(Corpus("tiny", "x", "x", {}, 1, 1), 0, 0, "frog"),
            correction(tiny, 0, 0, "unicorn"),
            correction(tiny, 0, 1, "unicorn"),
        ],
        CLASSES,
    )
    images, labels = (np.concatenate(arrays) for arrays in zip(*read_corrected(store, found), strict=True))
    np.testing.assert_array_equal(images, [make_images(500)[0][307], make_images(250, seed=1)[0][3]])
    assert labels.tolist() == [CLASSES.index("frog"), CLASSES.index("truck")]
    assert reasons == [
        f"1 of corpus 'here', which is not in {store.url()}",
        "1 of a corpus 'tiny' that had other contents",
        "2 'unicorn', which is none of the classes",
    ]


def test_a_partition_that_cannot_be_read_is_told(store, tmp_path):
    from ingest.corpus import images_path, open_corpus

    copy = open_store(str(tmp_path / "store"))
    make_corpus(copy, "tiny", write_tiny_images(tmp_path / "tiny_images.bin", 40), 30)
    found, _ = trainable(copy, [correction(open_corpus(copy, "tiny"), 0, 0, "frog")], CLASSES)
    os.truncate(copy.url(images_path("tiny", 0)), 1000)
    with pytest.raises(StoreError):
        list(read_corrected(copy, found))
    assert issubclass(StoreError, TinyTagsError)
