"""Tests of `jobs.compute_features`: what is kept is what is computed, is used by training and tagging, and continues."""

import json
import shlex

import numpy as np
import pytest
from small_world import PROCESSES, error_line, make_corpus, make_images, run, run_json, write_cifar

from conf.settings import Settings
from indexing.verify import verify_run
from ingest.corpus import open_corpus
from ingest.partition import read_labels, read_partition
from jobs.compute_features import compute_features
from jobs.evaluate_model import evaluate_model
from jobs.tag_images import tag_images
from jobs.train_forest import train_forest
from operations.status import describe, read_status
from storage import layout
from storage.lease import lease
from storage.store import open_store, temporary_path
from tagging.features import features_class
from tagging.features.hog import Hog
from tagging.features.kept import FeaturesDamagedError, done_partitions, read_codes


@pytest.fixture
def store(tmp_path):
    """A store with a corpus in three partitions, the last of them for testing."""
    store = open_store(str(tmp_path / "store"))
    make_corpus(store, "c", write_cifar(tmp_path / "cifar", 100, 50), 50)
    return store


def compute(store, *words, code: int = 0) -> dict:
    return run_json(
        "features", "--corpus", "c", *words, "--store", store.url(), "--master", PROCESSES, code=code
    )


def tag(store, model: str, *words) -> bytes:
    """Tag all partitions again; return all documents."""
    words = ["--model", model, "--min-confidence", "0.1", "--partition", "0-2", *words]
    made = run_json("tag", "--corpus", "c", *words, "--store", store.url(), "--master", "processes[1]")
    return b"".join(store.read_bytes(layout.run_tags(made["run"], p)) for p in range(3))


@pytest.mark.slow
def test_codes_are_kept_a_partition_at_a_time_and_the_rest_is_computed_later(store):
    hog = features_class("hog")("hog")
    corpus = open_corpus(store, "c")
    first = compute(store, "--features", "hog", "--partition", "1")
    assert (first["partitions_computed"], first["images"], first["length"]) == (1, 50, hog.length)
    assert done_partitions(store, corpus, hog) == [1]
    assert read_codes(store, corpus, hog, 0) is None
    written = store.read_json(layout.features_statistics("c", first["folder"].rpartition("/")[2], 1))
    rest = compute(store, "--features", "hog")
    assert (rest["partitions_computed"], rest["images"], rest["bytes"]) == (2, 150, 150 * hog.length)
    assert store.read_json(layout.features_statistics("c", rest["folder"].rpartition("/")[2], 1)) == written
    for partition in range(3):
        images = np.concatenate([block.images for block in read_partition(store, corpus, partition)])
        codes = read_codes(store, corpus, hog, partition)
        np.testing.assert_array_equal(codes, hog.codes(images))
        folder = rest["folder"].rpartition("/")[2]
        np.testing.assert_array_equal(
            np.load(store.url(layout.features_codes("c", folder, partition))), codes
        )
    again, _ = run("features", "--corpus", "c", "--features", "hog", "--store", store.url())
    assert (
        again
        == f"features hog of corpus c: 150 images, 1,876 bytes each, {150 * 1876 / 1e6:.1f} MB; all done already\n"
    )


@pytest.mark.slow
def test_training_and_tagging_use_the_codes_that_are_kept_and_tagging_reads_no_pixels(store):
    settings = Settings(store=store.url(), master=PROCESSES)
    words = {"features": "pretrained-32", "per_class": 5}
    computed = train_forest(settings, "c", "computed", **words)
    documents = tag(store, "computed", "--similar"), tag(store, "computed")
    compute_features(settings, "c", model="computed")
    read = train_forest(settings, "c", "read", **words)
    assert (read["hash"], read["quality"]) == (computed["hash"], computed["quality"])
    corpus = open_corpus(store, "c")
    labels = [read_labels(store, corpus, p) for p in range(3)]
    assert np.concatenate(labels).tolist() == make_images(150, 1)[1].tolist()
    assert tag(store, "computed", "--similar") == documents[0]
    for partition in range(3):  # a pixel that is changed fails its checksum, where it is read
        path = layout.corpus_images("c", partition)
        data = bytearray(store.read_bytes(path))
        at = data.index(next(iter(read_partition(store, corpus, partition))).images[7].tobytes())
        data[at + 9] ^= 1
        store.write_bytes(path, bytes(data))
    assert tag(store, "computed") == documents[1]


@pytest.mark.slow
def test_features_that_are_fitted_are_found_again_by_seed_and_images(store):
    settings = Settings(store=store.url(), master=PROCESSES)
    kept = compute_features(settings, "c", "pca-5")
    assert compute_features(settings, "c", "pca-5")["folder"] == kept["folder"]
    assert compute_features(settings, "c", "pca-5", seed=1)["folder"] != kept["folder"]
    assert (
        train_forest(settings, "c", "m", features="pca-5", head="linear")["features"]["hash"] == kept["hash"]
    )
    # Codes of a folder that is not theirs are computed instead.
    path = layout.features_statistics("c", kept["folder"].rpartition("/")[2], 0)
    store.write_json(path, store.read_json(path) | {"corpus_hash": "0f"})
    pca = features_class("pca-5").load("pca-5", store, kept["folder"])
    assert read_codes(store, open_corpus(store, "c"), pca, 0) is None


def test_evaluation_uses_the_codes_that_are_kept(store, monkeypatch):
    settings = Settings(store=store.url(), master="processes[1]")
    train_forest(settings, "c", "m", "scikit-learn", features="hog", trees=2, depth=3)
    computed = evaluate_model(settings, "m", "c")
    compute_features(settings, "c", "hog")
    monkeypatch.setattr(Hog, "codes", pytest.fail)
    read = evaluate_model(settings, "m", "c")
    assert (read["quality"], read["confident_mistakes"]) == (
        computed["quality"],
        computed["confident_mistakes"],
    )


@pytest.mark.slow
def test_a_damaged_file_is_one_line_with_the_command_that_computes_it_again(store):
    made = compute(store, "--features", "hog")
    run(
        "train",
        "--corpus",
        "c",
        "--model",
        "m",
        "--features",
        "hog",
        "--trees",
        2,
        "--depth",
        2,
        "--store",
        store.url(),
    )
    folder = made["folder"].rpartition("/")[2]
    path = layout.features_codes("c", folder, 1)
    data = store.read_bytes(path)
    for broken, problem in (
        (data[:-1000], "has 92,928 bytes instead of 93,928 (truncated?)"),
        (data[:-1] + b"!", "is not as it was written"),
        (None, "is missing"),
    ):
        store.remove(path) if broken is None else store.write_bytes(path, broken)
        with pytest.raises(FeaturesDamagedError) as raised:
            read_codes(store, open_corpus(store, "c"), features_class("hog")("hog"), 1)
        command = "tinytags features --corpus c --features hog --partition 1"
        assert str(raised.value) == f"{store.url(path)}: {problem}; `{command}` computes it again"
        assert (raised.value.corpus, raised.value.partition, raised.value.remedy) == ("c", 1, "features")
    words = ["tag", "--corpus", "c", "--model", "m", "--min-confidence", "0.1", "--store", store.url()]
    _, err = run(*words, code=1)
    assert "1 of 3 partitions not tagged: 1; the first: " in error_line(err)
    left = [
        temporary_path(f"{of_part.rpartition('/')[0]}/x")
        for of_part in (
            path,
            layout.features_hashes("c", folder, 1),
            layout.features_statistics("c", folder, 1),
        )
    ]
    for one in left:
        store.write_bytes(one, b"of a killed process")
    run(*command.split()[1:], "--store", store.url())
    assert store.read_bytes(path) == data
    assert [one for one in left if store.exists(one)] == []
    run(*words)


def test_a_broken_partition_of_images_does_not_stop_the_others(store):
    path = layout.corpus_images("c", 1)
    store.write_bytes(path, store.read_bytes(path)[:-500])
    _, err = run("features", "--corpus", "c", "--features", "sobel", "--store", store.url(), code=1)
    assert error_line(err).startswith("tinytags: 1 of 3 partitions not computed: 1; the first: ")
    sobel = features_class("sobel")("sobel")
    assert done_partitions(store, open_corpus(store, "c"), sobel) == [0, 2]
    failed = layout.features_failed("c", f"sobel-{sobel.hash[:8]}", 1)
    assert json.loads(store.read_bytes(failed))["remedy"] == "ingest"


@pytest.mark.slow
def test_what_cannot_be_kept_is_refused(store):
    words = ["features", "--corpus", "c", "--store", store.url()]
    run("train", "--corpus", "c", "--model", "m", "--head", "linear", "--store", store.url())
    for more, problem in (
        ([], "give --features NAME or --model NAME"),
        (["--features", "hog", "--model", "m"], "give --features NAME or --model NAME"),
        (["--features", "flips"], "features 'flips' are the pixels, which the corpus has"),
        (["--model", "m"], "model 'm' votes on the pixels: it has no features to keep"),
    ):
        _, err = run(*words, *more, code=1)
        assert error_line(err).startswith(f"tinytags: {problem}")
    name = f"hog-{features_class('hog')('hog').hash[:8]}"
    with lease(store, layout.features_lease("c", name), "features"):
        _, err = run(*words, "--features", "hog", code=75)
    assert error_line(err).startswith(f"tinytags: features {name!r} of corpus 'c' is being written by ")


def test_status_and_verify_have_the_features_that_are_kept(store):
    settings = Settings(store=store.url(), solr="http://127.0.0.1:1/solr", master="processes[1]")
    images = bytearray(store.read_bytes(layout.corpus_images("c", 1)))
    images[len(images) // 2] ^= 1
    sound = store.read_bytes(layout.corpus_images("c", 1))
    store.write_bytes(layout.corpus_images("c", 1), bytes(images))
    folder = compute_features(settings, "c", "hog")["folder"].rpartition("/")[2]
    store.write_bytes(layout.corpus_images("c", 1), sound)
    status = read_status(settings)
    (features,) = status["corpora"][0]["features"]
    assert features["features"] == {"pending": 0, "done": 2, "failed": 1}
    assert [problem["partition"] for problem in features["problems"]] == [1]
    (line,) = [line for line in describe(status).splitlines() if line.startswith(f"    features {folder}: ")]
    assert ": 2 of 3 partitions done, 1 failed (" in line and " UTC: 100 images in " in line
    (redo,) = features["redo"]
    run(*shlex.split(redo)[1:], "--store", store.url())
    (features,) = read_status(settings)["corpora"][0]["features"]
    assert (features["features"]["done"], features["problems"], features["redo"]) == (3, [], [])

    train_forest(settings, "c", "m", "scikit-learn", trees=2, depth=2)
    made = tag_images(settings, "c", "m", 0.1)["run"]
    assert verify_run(store, made, None)["problems"] == []
    codes = layout.features_codes("c", folder, 2)
    store.write_bytes(codes, store.read_bytes(codes)[:-1])
    assert [(p["kind"], p["partition"]) for p in verify_run(store, made, None)["problems"]] == [
        ("features", 2)
    ]
    assert verify_run(store, made, None, repair=True)["ok"]
    (features,) = read_status(settings)["corpora"][0]["features"]
    assert (features["features"]["done"], verify_run(store, made, None)["problems"]) == (2, [])
