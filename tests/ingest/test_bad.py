"""Records that can't be decoded: they are skipped, counted and listed, through all steps, and can be replaced."""

import json

import numpy as np
import pytest
from small_world import CLASSES, error_line, make_images, run

from conf.settings import Settings
from indexing.verify import verify_run
from ingest.bad import BadRecordsError, read_bad, read_bad_records, write_bad
from ingest.corpus import open_corpus
from ingest.formats import open_dump
from ingest.image import to_png
from ingest.partition import NoImageError, read_image, read_partition, write_partition
from jobs.tag_images import tag_images
from operations.status import describe, read_status
from search_ui import create_app
from search_ui.suggestions import Unlabelled
from storage import layout
from storage.store import DamagedFileError, open_store
from tagging.features.kept import write_codes
from tagging.forest.scikit_learn import train
from tagging.models import save_model
from tagging.training import every_row, make_features
from tagging.voting import vote_blocks

# What people have among their pictures, by the row at which it lies.
BROKEN = {
    1: ("cat/01.png", lambda path: path.write_bytes(path.read_bytes()[:900]), "is cut off"),
    2: ("cat/02.png", lambda path: path.write_bytes(b""), "is empty (0 bytes"),
    7: ("cat/07.png", lambda path: path.write_bytes(b"<!DOCTYPE html><p>404"), "is an HTML page"),
    12: (
        "dog/12.png",
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    13: ("dog/13.heic", lambda path: path.write_bytes(b"\0\0\0\x18ftypheic"), "is no picture in PNG"),
    14: ("dog/14.png", lambda path: (path.unlink(), path.symlink_to("nowhere")), "is a link to nothing"),
}
PARTITIONS = {0: [1, 2], 1: [2], 2: [2, 3, 4]}  # the rows of the bad ones, in partitions of 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "pictures"
    images = make_images(20)[0]
    for number, image in enumerate(images):
        path = folder / ("cat" if number < 10 else "dog") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_png(image))
    (folder / "dog" / "13.png").unlink()
    for name, damage, _ in BROKEN.values():
        damage(folder / name)
    return folder


@pytest.fixture(scope="module")
def ingested(pictures):
    """A store with a corpus of these pictures, the words that made it, and what the command printed."""
    words = [
        "ingest",
        pictures,
        "--corpus",
        "p",
        "--partition-images",
        5,
        "--store",
        pictures.parent / "store",
    ]
    out, err = run(*words, "--json", code=3)
    return open_store(str(pictures.parent / "store")), words, json.loads(out), err


@pytest.fixture
def settings(ingested):
    return Settings(store=ingested[0].root, solr="http://127.0.0.1:1/solr", master="processes[1]")


def test_bad_records_are_skipped_counted_and_listed_with_their_reason(ingested, settings):
    store, _, result, err = ingested
    assert (result["images"], result["bad"], result["labelled"], result["failed"]) == (20, 6, 14, {})
    assert error_line(err).startswith("tinytags: 6 records can't be decoded, the first is cat/01.png: ")
    corpus = open_corpus(store, "p")
    listed = {p: read_bad(store, "p", p) for p in range(corpus.partitions)}
    assert {
        p: [record["row"] for record in records] for p, records in listed.items() if records
    } == PARTITIONS
    for row, (name, _, reason) in BROKEN.items():
        record = listed[row // 5][[*PARTITIONS[row // 5]].index(row % 5)]
        assert record["name"] == name and reason in record["reason"]
    assert read_bad_records(store, corpus) == set(BROKEN)
    assert [store.read_json(layout.corpus_statistics("p", p))["bad"] for p in range(4)] == [2, 1, 3, 0]
    status = read_status(settings)
    assert (status["corpora"][0]["bad"], status["corpora"][0]["ingest"]["failed"]) == (6, 0)
    assert "20 images, 6 of them bad (the first: cat/01.png: " in describe(status)


def test_a_bad_row_has_neither_image_nor_label_and_the_others_are_whole(ingested):
    store = ingested[0]
    corpus, images = open_corpus(store, "p"), make_images(20)[0]
    for partition in range(corpus.partitions):
        (block,) = read_partition(store, corpus, partition)
        (named,) = read_partition(store, corpus, partition, names=True)
        bad = PARTITIONS.get(partition, [])
        assert np.flatnonzero(~block.good).tolist() == np.flatnonzero(block.labels < 0).tolist() == bad
        np.testing.assert_array_equal(block.images[block.good], images[partition * 5 :][:5][block.good])
        assert not block.images[~block.good].any() and named.names is not None and all(named.names)
    with pytest.raises(NoImageError, match=r"cat/02\.png: is empty"):
        read_image(store, corpus, 0, 2)
    assert Unlabelled(corpus, frozenset(), read_bad_records(store, corpus)).among(np.arange(5)).tolist() == [
        True, False, False, True, True,
    ]  # fmt: skip


def test_features_that_are_kept_do_not_hide_that_a_record_is_bad(ingested):
    store = ingested[0]
    corpus = open_corpus(store, "p")
    kept = make_features(store, corpus, "hog", lambda p: every_row(corpus, p), 0, 0.2)
    write_codes(store, corpus, kept, 2)

    class Model:
        features = kept

        def votes_of(self, codes):
            return np.ones((len(codes), 2), np.uint8)

    (voted,) = vote_blocks(store, corpus, 2, Model())
    assert voted.images is None and np.flatnonzero(voted.bad).tolist() == PARTITIONS[2]


def test_a_damaged_list_is_an_error_with_its_path_and_the_command_that_writes_it_again(tmp_path):
    store, path = open_store(str(tmp_path)), layout.corpus_bad("p", 2)
    write_bad(store, "p", 2, [{"row": 1, "name": None, "reason": "is empty"}])
    for data in (store.read_bytes(path).replace(b"empty", b"EMPTY"), b"{}\n", b"[\n"):
        store.write_bytes(path, data)
        with pytest.raises(DamagedFileError, match=r"--partition writes it again$") as caught:
            read_bad(store, "p", 2)
        assert caught.value.path == path


@pytest.mark.slow
def test_a_run_leaves_bad_records_out_and_its_sums_add_up(ingested, settings):
    store = ingested[0]
    forest, parameters = train(*make_images(300, seed=1), CLASSES, trees=10, depth=4)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})
    tagged = tag_images(settings, "p", "forest", min_confidence=0)
    assert (tagged["images"], tagged["tagged"], tagged["dropped"], tagged["bad"]) == (20, 14, 0, 6)
    rows = [
        5 * document["partition"] + document["row"]
        for p in range(4)
        for document in map(json.loads, store.read_bytes(layout.run_tags(tagged["run"], p)).splitlines())
    ]
    assert rows == [row for row in range(20) if row not in BROKEN]
    verified = verify_run(store, tagged["run"], None)
    assert verified["ok"] and (verified["images"], verified["bad"]) == (20, 6)
    whole = store.read_bytes(layout.corpus_bad("p", 2))
    store.write_bytes(layout.corpus_bad("p", 2), whole.partition(b"\n")[2])
    verified = verify_run(store, tagged["run"], None)
    assert [(one["kind"], one["partition"]) for one in verified["problems"]] == [("corpus-statistics", 2)]
    write_bad(store, "p", 2, [])
    verified = verify_run(store, tagged["run"], None)
    assert [(one["kind"], one["partition"]) for one in verified["problems"]] == [
        ("corpus-statistics", 2),
        ("statistics", 2),
    ]
    store.write_bytes(layout.corpus_bad("p", 2), whole)
    page = create_app(settings, {"CHECK_SECONDS": 0, "REFRESH_SECONDS": 0}).test_client()
    assert "6 of them bad:" in page.get("/runs").text
    assert (
        page.get("/images/p/0/2.png").status_code == 404 and page.get("/images/p/0/3.png").status_code == 200
    )
    _, err = run(*ingested[1], "--replace", code=3)
    assert "3 of 4" not in err, "nothing has changed, so nothing is replaced"


def test_strict_fails_the_partition_as_before(pictures, ingested, tmp_path):
    words = [*ingested[1][:-1], tmp_path / "store", "--strict", "--json"]
    out, err = run(*words, code=1)
    result = json.loads(out)
    assert (result["split"], list(result["failed"]), result["bad"]) == (1, ["0", "1", "2"], 0)
    assert error_line(err).startswith(
        "tinytags: 3 of 4 partitions not split: 0, 1, 2; the first: cat/01.png: "
    )
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(BadRecordsError) as caught:
        write_partition(store, open_corpus(store, "p"), 2, open_dump(str(pictures)), strict=True)
    assert caught.value.count == 3


def test_repaired_and_added_pictures_replace_the_corpus_unless_a_run_was_tagged_from_it(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    images = make_images(6)[0]
    for number, image in enumerate(images[:5]):
        (folder / f"{number}.png").write_bytes(to_png(image))
    (folder / "2.png").write_bytes(b"")
    words = ["ingest", folder, "--corpus", "p", "--partition-images", 2, "--store", tmp_path / "store"]
    assert "; 1 bad" in run(*words, code=3)[0]
    for number in (2, 5):
        (folder / f"{number}.png").write_bytes(to_png(images[number]))
    assert "replace it with --replace" in error_line(run(*words, code=1)[1])
    assert run(*words, "--replace")[0].startswith(
        "corpus p: 6 images in 3 partitions, no labels; 3 partitions split now"
    )
    store = open_store(str(tmp_path / "store"))
    corpus = open_corpus(store, "p")
    stored = np.concatenate([block.images for p in range(3) for block in read_partition(store, corpus, p)])
    np.testing.assert_array_equal(stored, images)
    assert store.list(layout.corpus_bad_folder("p")) == []
    forest, parameters = train(*make_images(100, seed=1), CLASSES, trees=2, depth=2)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})
    made = tag_images(Settings(store=store.root, master="processes[1]"), "p", "forest")["run"]
    (folder / "5.png").unlink()
    assert f"{made} was tagged from it" in error_line(run(*words, "--replace", code=1)[1])
    assert open_corpus(store, "p").hash == corpus.hash


def test_a_dump_of_nothing_but_bad_records_is_an_error(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"")
    _, err = run("ingest", tmp_path / "pictures", "--corpus", "p", "--store", tmp_path / "store", code=1)
    assert "no record can be decoded; the first is 0.png: is empty" in error_line(err)
