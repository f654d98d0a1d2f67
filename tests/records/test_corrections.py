"""Tests of `records.corrections` on real databases of SQLite."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from small_world import CLASSES, make_corpus, make_images, write_cifar, write_tiny_images

from ingest.corpus import Corpus, open_corpus
from records.corrections import (
    MOST_SHOWN,
    BadCorrectionError,
    Correction,
    Corrections,
    DatabaseError,
    read_corrected,
)
from storage import layout
from storage.store import StoreUnavailableError, open_store

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
        "postgres://ada:se/cret@x/y": "it has to look like sqlite:///",
        "postgresql://ada:se:cret@HOST:PORT/y": "it has to look like sqlite:///",
        "": "it has to look like sqlite:///",
        "sqlite://": "in memory, where nothing is kept",
        "sqlite:///:memory:": "in memory, where nothing is kept",
        "mysql+mysqldb://ada:secret@127.0.0.1:1/x": "install its driver",
    }
    for address, words in cases.items():
        with pytest.raises(DatabaseError) as error:
            Corrections(address).add(HERE, 0, 0, "frog", "Ada")
        assert words in str(error.value) and "database" in str(error.value), address
        assert "secret" not in str(error.value) and "cret@" not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_database_that_does_not_answer_is_waited_for_once(url, monkeypatch):
    corrections, asked = Corrections(url), []

    def silent(self, write):
        asked.append(write)
        raise OSError("no answer")

    monkeypatch.setattr(Corrections, "_make", silent)
    for _ in range(3):
        with pytest.raises(DatabaseError, match="no answer"):
            corrections.of(HERE, 0, 0)
    assert asked == [False]
    with pytest.raises(DatabaseError, match="no answer"):
        corrections.add(HERE, 0, 0, "frog", "Ada")
    assert asked == [False, True], "who writes is not turned away unheard"
    monkeypatch.undo()
    corrections.add(HERE, 0, 0, "frog", "Ada")
    assert said(corrections.of(HERE, 0, 0)) == [("frog", "Ada")], "it is asked again once it has answered"


def test_a_file_may_be_named_as_sqlite_does_with_a_uri(tmp_path):
    url = f"sqlite:///file:{tmp_path}/x.db?mode=rwc&uri=true"
    Corrections(url).add(HERE, 0, 0, "frog", "Ada")
    assert said(Corrections(url).of(HERE, 0, 0)) == [("frog", "Ada")]


def test_an_image_has_as_many_as_one_likes_and_the_last_are_shown(url):
    corrections = Corrections(url)
    for number in range(MOST_SHOWN + 5):
        corrections.add(HERE, 0, 0, f"class {number}", "Ada")
    assert [c.label for c in corrections.of(HERE, 0, 0)] == [
        f"class {number}" for number in range(MOST_SHOWN + 4, 4, -1)
    ]


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
    tiny, cifar = open_corpus(store, "tiny"), open_corpus(store, "cifar")
    said = [
        correction(tiny, 1, 7, "frog"),
        correction(cifar, 0, 3, "truck"),
        correction(HERE, 0, 0, "frog"),
        correction(Corpus("tiny", "x", "x", {}, 1, 1), 0, 0, "frog"),
        correction(tiny, 0, 0, "unicorn"),
        correction(tiny, 0, 1, "unicorn"),
    ]
    found, images, labels, reasons = read_corrected(store, said, CLASSES)
    assert found == said[:2]
    np.testing.assert_array_equal(images, [make_images(500)[0][307], make_images(250, seed=1)[0][3]])
    assert labels.tolist() == [CLASSES.index("frog"), CLASSES.index("truck")]
    assert reasons == [
        f"1 of corpus 'here', which is not in {store.url()}",
        "1 of a corpus 'tiny' that had other contents",
        "2 'unicorn', which is none of the classes",
    ]


def test_nothing_to_train_on_has_the_shape_of_images(store):
    found, images, labels, reasons = read_corrected(store, [], CLASSES)
    assert (found, images.shape, labels.shape, reasons) == ([], (0, 3072), (0,), [])


def test_images_that_cannot_be_read_leave_the_others(tmp_path):
    store = open_store(str(tmp_path / "store"))
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 60)
    for name in ("tiny", "broken"):
        make_corpus(store, name, dump, 30)
    said = [
        correction(open_corpus(store, name), partition, 3, "frog")
        for name, partition in (("tiny", 0), ("tiny", 1), ("broken", 0))
    ]
    os.truncate(store.url(layout.corpus_images("tiny", 0)), 1000)
    store.write_bytes("corpora/broken/manifest.json", b"{}")
    found, images, labels, reasons = read_corrected(store, said, CLASSES)
    assert (found, images.shape, len(labels)) == (said[1:2], (1, 3072), 1)
    assert reasons == [f"1 of images of corpus '{name}' that can't be read" for name in ("tiny", "broken")]


@pytest.mark.services
def test_a_store_that_is_away_is_no_reason_to_learn_less(hdfs, tmp_path):
    store = open_store(f"{hdfs.url}/{tmp_path.name}", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError):
        read_corrected(store, [], CLASSES)
