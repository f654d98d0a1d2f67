"""Tests of `jobs.train_forest`: what is learnt, what is held out, and that a packed forest votes as its engine's trees do."""

import functools
import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from small_world import (
    CLASSES,
    MASTER,
    error_line,
    make_corpus,
    make_images,
    make_labelled_and_unlabelled,
    run,
    run_json,
    write_cifar,
)

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus, open_corpus
from ingest.image import from_column_major
from ingest.partition import PartitionDamagedError
from jobs.corrected import with_corrections
from jobs.mllib import _without_patterns, even_slices, labelled_vectors
from jobs.train_forest import train_forest
from records.corrections import open_corrections
from records.predictions import NewPrediction, open_predictions
from storage import layout
from storage.lease import lease
from storage.store import open_store
from tagging.models import load_model
from tagging.trained import hash_blocks, read_trained
from tagging.training import choose, held_out_blocks, labelled_blocks

TRAIN, TEST, TREES, DEPTH = 200, 200, 8, 5
# That MLlib and we vote on.
IMAGES = 2_000


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a corpus that has a test part and lacks one class, one that has no parts, and one without labels."""
    folder = tmp_path_factory.mktemp("train")
    store = open_store(str(folder / "store"))
    cifar = write_cifar(folder / "cifar", TRAIN, TEST)
    for batch in cifar.glob("*.bin"):
        records = np.fromfile(batch, np.uint8).reshape(-1, 3073)
        records[records[:, 0] == 7, 0] = 8  # no horses
        records.tofile(batch)
    make_corpus(store, "cifar", cifar, 200)
    make_labelled_and_unlabelled(store, folder, "tiny", 1000, 300)
    return store


def train(store, model: str, *words, corpus: str = "cifar", code: int = 0) -> dict:
    """Run `tinytags train` and return the card it prints; with MLlib on the session that is kept."""
    small = ["--trees", TREES, "--depth", DEPTH, "--master", MASTER]
    return run_json(
        "train", "--corpus", corpus, "--model", model, *small, *words, "--store", store.url(), code=code
    )


@pytest.fixture(scope="module")
def mllib(store, spark):
    """The card of a forest that MLlib trained."""
    return train(store, "mllib", "--bins", 8, "--seed", 3)


@pytest.fixture(scope="module")
def scikit_learn(store):
    """The card of a forest that scikit-learn trained."""
    return train(store, "sk", "--engine", "scikit-learn", "--seed", 3)


def test_the_forest_of_mllib_votes_as_its_trees_predict(store, mllib, spark, tmp_path):
    images, _ = make_images(IMAGES, seed=77)
    np.save(tmp_path / "images.npy", images)
    predictions = mllib_predictions(spark, store.url("models/mllib/spark"), str(tmp_path / "images.npy"))
    assert predictions.shape == (IMAGES, TREES)
    expected = np.zeros((IMAGES, 10), int)
    for tree in range(TREES):
        np.add.at(expected, (np.arange(IMAGES), predictions[:, tree]), 1)
    np.testing.assert_array_equal(load_model(store, "mllib").votes(images), expected)
    assert len(np.unique(expected.max(axis=1))) > 4, "the trees agree here and disagree there"


def mllib_predictions(spark, path: str, images_path: str) -> np.ndarray:
    """Return (n, trees) int, what each tree of a saved MLlib forest predicts by its own transform."""
    from pyspark.ml.classification import RandomForestClassificationModel
    from pyspark.ml.functions import array_to_vector

    def pixels(batches):
        import pyarrow

        images = np.load(images_path)
        for batch in batches:
            rows = images[batch.column("id").to_numpy()].astype(np.float64)
            ends = np.arange(len(rows) + 1, dtype=np.int32) * 3072
            lists = pyarrow.ListArray.from_arrays(ends, rows.reshape(-1))
            yield pyarrow.RecordBatch.from_arrays([batch.column("id"), lists], ["id", "pixels"])

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 500)
    count = len(np.load(images_path, mmap_mode="r"))
    frame = spark.range(0, count, 1, 2).mapInArrow(pixels, "id long, pixels array<double>")
    frame = frame.select("id", array_to_vector("pixels").alias("features"))
    forest = RandomForestClassificationModel.load(f"file://{path}")
    for number, tree in enumerate(forest.trees):
        tree.setPredictionCol(f"tree{number}").setRawPredictionCol("").setProbabilityCol("")
        frame = tree.transform(frame)
    table = frame.drop("features").toArrow().sort_by("id")
    return np.column_stack([table[f"tree{number}"].to_numpy() for number in range(len(forest.trees))]).astype(
        int
    )


@pytest.mark.parametrize("engine", ["mllib", "scikit-learn"])
def test_the_card_states_what_was_trained_and_how_good_it_is(store, mllib, scikit_learn, engine):
    card = mllib if engine == "mllib" else scikit_learn
    corpus = open_corpus(store, "cifar")
    assert store.read_json(f"models/{card['name']}/model.json") == card
    assert (card["engine"], card["kind"], card["trees"], card["classes"]) == (
        engine,
        "forest",
        TREES,
        CLASSES,
    )
    parameters = {"trees": TREES, "depth": DEPTH, "seed": 3}
    assert parameters.items() <= card["parameters"].items()
    assert ("bins" in card["parameters"]) == (engine == "mllib")
    assert card["trained_on"] == {"corpus": "cifar", "corpus_hash": corpus.hash, "images": TRAIN}
    assert card["measured_on"] == {
        "corpus": "cifar",
        "corpus_hash": corpus.hash,
        "images": TEST,
        "part": "test",
    }
    assert card["seconds"].keys() == {"prepare", "fit", "measure", "all", "processor"}
    assert card["seconds"]["processor"] > 0
    learnt = hash_blocks([make_images(TRAIN + TEST, seed=1)[0][:TRAIN]])
    assert read_trained(store, card).tolist() == learnt.tolist() and len(learnt) == TRAIN

    model = load_model(store, card["name"])
    assert model.hash == card["hash"]
    blocks = list(held_out_blocks(store, corpus))
    images, labels = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    votes = model.votes(images)
    best, most = votes.argmax(axis=1), votes.max(axis=1)
    quality = card["quality"]
    assert quality["accuracy"] == pytest.approx((best == labels).mean(), abs=1e-6)
    assert quality["accuracy"] > 0.3, "the small world can be learnt"
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, best), 1)
    assert quality["confusion"] == confusion.tolist()
    assert confusion[7].sum() == confusion[:, 7].sum() == 0, "a class that nothing belongs to keeps its place"
    for row in quality["thresholds"]:
        kept = most >= row["votes"]
        assert (row["images"], row["right"]) == (kept.sum(), (best == labels)[kept].sum())
        assert row["confidence"] == row["votes"] / TREES
    assert [row["votes"] for row in quality["thresholds"]] == list(range(1, TREES + 1))


def test_the_summary_is_a_table_of_thresholds(store):
    out, err = run(
        "train", "--corpus", "tiny", "--model", "table", "--engine", "scikit-learn", "--trees", 4, "--depth", 3,
        "--store", store.url(),
    )  # fmt: skip
    assert out.startswith("model table: 793 images, 4 trees, fitted in ")
    assert "images get the right tag" in out and ">=  50%" in out
    assert err == "train: 793 images, 4 trees, depth 3, scikit-learn\n"


def test_the_same_seed_gives_the_same_forest(store, scikit_learn):
    assert train(store, "again", "--engine", "scikit-learn", "--seed", 3)["hash"] == scikit_learn["hash"]
    assert train(store, "other", "--engine", "scikit-learn", "--seed", 4)["hash"] != scikit_learn["hash"]


def test_a_corpus_without_a_test_part_is_held_out_of_by_chance_and_seed(store):
    card = train(store, "held", "--engine", "scikit-learn", "--holdout", "0.3", corpus="tiny")
    trained, measured = card["trained_on"]["images"], card["measured_on"]["images"]
    assert trained + measured == 1000
    assert 240 < measured < 360
    assert card["measured_on"]["part"] == "held out, 30%"
    assert card["parameters"]["holdout"] == 0.3


@pytest.fixture(scope="module")
def database(store, tmp_path_factory):
    """A database of corrections: of two other corpora, of an image to train on and one to measure on, and of a gone corpus."""
    cifar, tiny, unlabelled = (open_corpus(store, name) for name in ("cifar", "tiny", "unlabelled"))
    corrections = open_corrections(f"sqlite:///{tmp_path_factory.mktemp('corrections')}/tinytags.db")
    for corpus, partition, row, label in (
        (cifar, 0, 5, "cat"),
        (cifar, 0, 5, "horse"),
        (cifar, cifar.partitions - 1, 0, "horse"),
        (tiny, 2, 9, "horse"),
        (unlabelled, 3, 99, "frog"),
        (unlabelled, 0, 0, "unicorn"),
        (Corpus("gone", "x", "x", {}, 1, 1), 0, 0, "frog"),
    ):
        corrections.add(corpus, partition, row, label, "Ada")
    for label, by in (("frog", "Ada"), ("cat", "Bob")):
        corrections.add(unlabelled, 1, 1, label, by)
    return corrections.url


@pytest.mark.parametrize("engine", [pytest.param("mllib", marks=pytest.mark.spark), "scikit-learn"])
def test_what_people_corrected_is_learnt_too(store, database, scikit_learn, engine, request):
    if engine == "mllib":
        request.getfixturevalue("spark")
    words = ["--engine", engine, "--seed", 3, "--corrections", "--database", database]
    if engine == "mllib":  # each tree takes seconds
        words += ["--trees", 2, "--depth", 2, "--bins", 4]
    card = train(store, f"corrected-{engine}", *words)
    corpus = open_corpus(store, "cifar")
    assert re.fullmatch("[0-9a-f]{64}", card["trained_on"].pop("corrections_hash"))
    others = card["trained_on"].pop("corrections_of")
    assert corpus.hash in others and len(others) > 1
    # The one that was corrected within the corpus is learnt once, as people say.
    assert card["trained_on"] == {
        "corpus": "cifar", "corpus_hash": corpus.hash, "images": TRAIN - 1, "corrections": 3,
    }  # fmt: skip
    assert card["measured_on"]["images"] == TEST
    assert card["hash"] != scikit_learn["hash"]
    assert card["trained_images"]["images"] == TRAIN + 2, "the images of other corpora, too"


@pytest.mark.parametrize("engine", [pytest.param("mllib", marks=pytest.mark.spark), "scikit-learn"])
def test_a_new_class_is_learnt_after_those_of_the_corpus(store, tmp_path, engine, request):
    if engine == "mllib":
        request.getfixturevalue("spark")
    corpus, database = open_corpus(store, "cifar"), f"sqlite:///{tmp_path}/new.db"
    corrections = open_corrections(database)
    for row, label in enumerate(("zebra", "auk", "zebra", "cat")):
        corrections.add(corpus, 0, row, label, "Ada")
    corrections.add(open_corpus(store, "tiny"), 0, 0, "unicorn", "Ada")
    words = ["--engine", engine, "--corrections", "--database", database, "--trees", 2, "--depth", 2]
    if engine == "mllib":
        words += ["--bins", 4]
    card = train(store, f"new-{engine}", *words)
    assert card["classes"] == [*CLASSES, "auk", "zebra"], "of another corpus they are none"
    assert card["trained_on"]["corrections"] == 4
    assert load_model(store, f"new-{engine}").votes(make_images(3)[0]).shape == (3, 12)
    plain = ["--engine", "scikit-learn", "--trees", 2, "--depth", 2]
    assert train(store, f"plain-{engine}", *plain)["classes"] == CLASSES


def test_corrections_take_the_place_of_labels_and_nothing_is_learnt_that_is_measured_on(
    store, database, spark
):
    corpus = open_corpus(store, "cifar")
    settings = Settings(store=store.url(), database=database)
    part = functools.partial(choose, corpus, 0, 0.2, train=True)
    others, corrected, _ = with_corrections(
        settings, store, corpus, part, held_out_blocks(store, corpus), CLASSES
    )
    assert [CLASSES[label] for label in corrected.labels] == ["horse", "horse", "frog"]
    rows = labelled_vectors(spark, store, corpus, others, 3, corrected).collect()
    plain = [block for p in range(corpus.partitions) for block in labelled_blocks(store, corpus, p, part)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*plain, strict=True))
    wanted = [
        np.concatenate([np.delete(images, 5, axis=0), images[[5]], make_images(1000)[0][[609, 999]]]),
        np.concatenate([np.delete(labels, 5), [7, 7, 6]]),
    ]
    learnt = [np.array([row.features.toArray() for row in rows]), np.array([row.label for row in rows])]
    for there, expected in zip(learnt, wanted, strict=True):
        np.testing.assert_array_equal(there, expected)


def test_pictures_of_the_history_are_learnt_by_the_last_label_that_people_gave_them(store, tmp_path):
    database, corpus = f"sqlite:///{tmp_path}/pictures.db", open_corpus(store, "cifar")
    predictions = open_predictions(database)
    held_out = next(iter(held_out_blocks(store, corpus)))[0][0]
    new, labels = make_images(4, seed=77)[0], ("frog", "unicorn", None, "ship", "deer", "frog")
    for n, (image, label) in enumerate(zip([*new, new[0], held_out], labels, strict=True)):
        number = predictions.add(
            NewPrediction(
                name="a.png", size=1, sha256="ab" * 32, image=image.tobytes(), model="m", model_hash="x",
                milliseconds=1.0, answer="cat", confidence=0.5, classes=(("cat", 0.5),),
                at=datetime(2026, 1, 1, n, tzinfo=UTC),
            )
        )  # fmt: skip
        if label:
            predictions.correct(number, label, "Ada")
    settings = Settings(store=store.url(), database=database)
    part = functools.partial(choose, corpus, 0, 0.2, train=True)
    _, corrected, about = with_corrections(
        settings, store, corpus, part, held_out_blocks(store, corpus), CLASSES
    )
    learnt = {(image.tobytes(), CLASSES[label]) for image, label in zip(*corrected, strict=True)}
    assert learnt == {(new[0].tobytes(), "deer"), (new[3].tobytes(), "ship")}
    assert (about["corrections"], about["corrections_of"]) == (2, [])


def test_what_is_measured_on_is_not_learnt_from_a_copy_either(store, tmp_path):
    """As the demo does, which tags the images that its model is measured on as a dump of their own."""
    corpus = open_corpus(store, "cifar")
    held_out = np.concatenate([images for images, _ in held_out_blocks(store, corpus)])
    copy = tmp_path / "copy.bin"
    copy.write_bytes(from_column_major(np.concatenate([held_out[:50], make_images(9, seed=5)[0]])).tobytes())
    make_corpus(store, "copy", copy, 40)
    corrections = open_corrections(f"sqlite:///{tmp_path}/tinytags.db")
    for partition, row in ((0, 3), (1, 9), (1, 15)):
        corrections.add(open_corpus(store, "copy"), partition, row, "frog", "Ada")
    small = ["--engine", "scikit-learn", "--trees", 2, "--depth", 2, "--store", store.url()]
    words = [
        "train",
        "--corpus",
        "cifar",
        "--model",
        "apart",
        *small,
        "--corrections",
        "--database",
        corrections.url,
    ]
    out, err = run(*words)
    assert out.startswith(f"model apart: {TRAIN:,} images and 1 correction, 2 trees")
    assert "train: without 2 corrections: 2 of images that corpus 'cifar' keeps for measuring\n" in err


def test_corrections_that_are_left_out_are_reported_and_none_at_all_is_an_error(store, database, tmp_path):
    small = ["--engine", "scikit-learn", "--trees", 2, "--depth", 2, "--store", store.url()]
    words = ["train", "--corpus", "cifar", *small, "--corrections", "--database"]
    out, err = run(*words, database, "--model", "reported")
    assert out.startswith(f"model reported: {TRAIN - 1:,} images and 3 corrections, 2 trees, fitted in ")
    assert (
        f"train: without 4 corrections: 1 of corpus 'gone', which is not in {store.url()}; 1 'unicorn', which is none of the "
        "classes; 1 of images whose label is disputed: as many people give another; 1 of images that corpus 'cifar' keeps for measuring\n"
    ) in err
    nothing = f"sqlite:///{tmp_path}/nothing.db"
    _, err = run(*words, nothing, "--model", "none", code=1)
    assert error_line(err) == (
        f"tinytags: database '{nothing}' has no correction to learn from; leave --corrections out, or correct tags on the "
        "pages of images"
    )
    _, err = run(*words, "x", "--model", "none", code=1)
    assert "setting database is 'x'; write a URL like sqlite:///" in error_line(err)
    assert not store.exists("models/none")


def test_a_path_with_brackets_is_no_pattern_for_spark():
    assert _without_patterns("file:///[2024] x/a*?{b}/data") == r"file:///\[2024\] x/a\*\?\{b\}/data"


def test_an_image_is_either_trained_on_or_measured_on():
    corpus = Corpus("c", "x", "x", {}, images=1000, partition_images=300)
    for partition in range(4):
        train_rows = choose(corpus, 0, 0.2, partition, train=True)
        test_rows = choose(corpus, 0, 0.2, partition, train=False)
        assert len(train_rows) == (300 if partition < 3 else 100)
        assert (train_rows ^ test_rows).all()
    assert not np.array_equal(choose(corpus, 0, 0.2, 0, True), choose(corpus, 0, 0.2, 1, True))
    assert not np.array_equal(choose(corpus, 0, 0.2, 0, True), choose(corpus, 1, 0.2, 0, True))
    parts = Corpus(
        "c", "x", "x", {}, images=1000, partition_images=300, splits={"train": (0, 650), "test": (650, 1000)}
    )
    assert [int(choose(parts, 0, 0.2, p, True).sum()) for p in range(4)] == [300, 300, 50, 0]
    assert [int(choose(parts, 0, 0.2, p, False).sum()) for p in range(4)] == [0, 0, 250, 100]


@pytest.mark.parametrize("sizes", [[700, 700, 0, 100], [1], [0, 0, 5], [3] * 50, [0]])
@pytest.mark.parametrize("slices", [1, 4, 8])
def test_slices_are_even_and_hold_every_row_once(sizes, slices):
    parts_of_slices = even_slices(sizes, slices)
    rows = [(p, row) for parts in parts_of_slices for p, first, last in parts for row in range(first, last)]
    assert rows == [(p, row) for p, size in enumerate(sizes) for row in range(size)]
    counts = [sum(last - first for _, first, last in parts) for parts in parts_of_slices]
    assert not counts or max(counts) - min(counts) <= 1


def test_a_name_that_is_taken_is_refused_and_the_model_stays(store, scikit_learn):
    _, err = run(
        "train",
        "--corpus",
        "cifar",
        "--model",
        "sk",
        "--engine",
        "scikit-learn",
        "--store",
        store.url(),
        code=1,
    )
    assert error_line(err) == (
        f"tinytags: model 'sk' is there already; give this one another name, or remove {store.url('models/sk')}"
    )
    assert load_model(store, "sk").hash == scikit_learn["hash"]


def test_what_a_killed_attempt_left_does_not_become_part_of_the_model(store, scikit_learn):
    store.write_bytes("models/left/spark/data/part-0.parquet", b"half")
    store.write_bytes("models/left/.forest.npz.0123456789ab.tmp", b"half")
    store.write_bytes("models/left/forest.npz", b"another attempt's")
    assert train(store, "left", "--engine", "scikit-learn", "--seed", 3)["hash"] == scikit_learn["hash"]
    assert store.list("models/left") == ["forest.npz", "model.json", "trained.npy"]
    assert load_model(store, "left").hash == scikit_learn["hash"]


def test_a_second_trainer_of_the_same_model_gets_the_name_of_the_first(store):
    with lease(store, layout.model_lease("busy"), "model 'busy'"):
        _, err = run(
            "train",
            "--corpus",
            "cifar",
            "--model",
            "busy",
            "--engine",
            "scikit-learn",
            "--store",
            store.url(),
            code=75,
        )
    assert error_line(err).startswith("tinytags: model 'busy' is being written by ")


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("unlabelled", "corpus 'unlabelled' has no labels to learn from; ingest one that has, like CIFAR-10"),
        ("nowhere", "no corpus 'nowhere' in "),
    ],
)
def test_a_corpus_that_cannot_be_learnt_from_is_refused(store, corpus, words):
    _, err = run("train", "--corpus", corpus, "--model", "m", "--store", store.url(), code=1)
    assert error_line(err).startswith(f"tinytags: {words}")


@pytest.mark.parametrize("engine", [pytest.param("mllib", marks=pytest.mark.spark), "scikit-learn"])
def test_a_corrupt_partition_is_raised_by_its_type_from_either_engine(tmp_path, engine, request):
    if engine == "mllib":
        request.getfixturevalue("spark")
    store = open_store(str(tmp_path / "store"))
    make_corpus(store, "c", write_cifar(tmp_path / "cifar", 200, 100), 100)
    store.write_bytes(layout.corpus_images("c", 1), store.read_bytes(layout.corpus_images("c", 1))[:-500])
    settings = Settings(store=store.url(), master=MASTER)
    with pytest.raises(PartitionDamagedError) as raised:
        train_forest(settings, "c", "m", trees=1, engine=engine)
    assert (raised.value.corpus, raised.value.partition, raised.value.remedy) == ("c", 1, "ingest")
    assert not store.exists("models/m/model.json")


def test_cards_are_json_without_surprises(mllib):
    assert json.loads(json.dumps(mllib, allow_nan=False)) == mllib


def test_mllib_without_spark_is_refused_and_the_other_engine_named(store):
    settings = Settings(store=store.url(), master="processes")
    with pytest.raises(
        TinyTagsError, match=r"^MLlib needs Spark, and the master is 'processes': .*scikit-learn"
    ):
        train_forest(settings, "cifar", "m")
    assert not store.exists("models/m")
