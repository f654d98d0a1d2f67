"""Tests of `jobs.evaluate_model`: what it measures on workers is what the votes of all images say."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from small_world import (
    CLASSES,
    MASTER,
    PROCESSES,
    error_line,
    make_corpus,
    make_images,
    run,
    run_json,
    write_cifar,
    write_tiny_images,
)

from conf.settings import Settings
from ingest.corpus import open_corpus
from ingest.partition import read_image
from jobs.evaluate_model import TrainingDataError, evaluate_model
from storage import layout
from storage.lease import lease
from storage.store import DamagedFileError, open_store
from tagging.evaluations import best_known, evaluations, is_marked
from tagging.forest.scikit_learn import train
from tagging.models import read_card, save_model
from tagging.quality import measure
from tagging.trained import hash_blocks

# Other classes first, and one that the model knows but the corpus hasn't.
REORDERED = [CLASSES[5], *CLASSES[:5], *CLASSES[6:]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store with a forest and labelled corpora, and the forest."""
    folder = tmp_path_factory.mktemp("evaluate")
    store = open_store(str(folder / "store"))
    dump = write_tiny_images(folder / "tiny_images.bin", 1500)
    labels = folder / "labels.bin"
    known = np.frombuffer(labels.read_bytes(), np.uint8).copy()
    known[::10] = 255  # no label
    labels.write_bytes(known.tobytes())
    make_corpus(store, "tiny", dump, 400, labels=str(labels))
    numbers = np.array([REORDERED.index(name) for name in CLASSES] + [255] * 246, np.uint8)
    (folder / "reordered.bin").write_bytes(numbers[known].tobytes())
    make_corpus(store, "reordered", dump, 400, labels=str(folder / "reordered.bin"), classes=REORDERED)
    make_corpus(store, "foreign", dump, 1000, labels=str(labels), classes=[*CLASSES[:9], "lorry"])
    make_corpus(store, "unlabelled", dump, 1000)
    make_corpus(store, "parted", write_cifar(folder / "cifar", 400, 200, seed=0), 250)
    forest, parameters = train(*make_images(2000, seed=1), CLASSES, trees=5, depth=6)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters}, hash_blocks([]))
    return store, forest, known


def evaluate(store, corpus, model="forest", **options):
    return evaluate_model(Settings(store=store.url(), master="processes[1]"), model, corpus, **options)


@pytest.mark.slow
@pytest.mark.parametrize("master", [PROCESSES, "spark"])
def test_the_quality_is_that_of_all_labelled_images_whatever_the_order_of_classes(world, master, request):
    if master == "spark":
        request.getfixturevalue("spark")
        master = MASTER
    store, forest, known = world
    result = run_json(
        "evaluate", "--model", "forest", "--corpus", "reordered", "--store", store.url(), "--master", master
    )
    labels = np.where(known == 255, -1, known.astype(int))
    votes = forest.votes(make_images(1500)[0])
    assert result["quality"] == measure(votes, labels, CLASSES, 5)
    assert (result["images"], result["model_hash"]) == (int((labels >= 0).sum()), forest.hash)
    assert (result["part"], result["training_images"], result["left_out"]) == ("all", 0, 0)
    (entry,) = evaluations(read_card(store, "forest"))
    assert {"model": "forest", "model_hash": forest.hash, **entry} == result

    wrong = np.flatnonzero((labels >= 0) & (votes.argmax(axis=1) != labels))
    mistakes = result["confident_mistakes"]
    assert [one["confidence"] for one in mistakes] == sorted(votes[wrong].max(axis=1) / 5)[::-1][:24]
    for one in mistakes:
        at = one["partition"] * 400 + one["row"]
        assert at in wrong
        assert (one["label"], one["tag"]) == (CLASSES[labels[at]], CLASSES[votes[at].argmax()])


@pytest.mark.slow
def test_a_corpus_with_a_test_part_is_measured_by_it(world):
    store, forest, _ = world
    out, err = run(
        "evaluate", "--model", "forest", "--corpus", "parted", "--store", store.url(), "--master", PROCESSES
    )
    assert err == "evaluate: the test part of 'parted', 200 images\n"
    assert out.startswith("model forest on 200 images of the test part of parted\n")
    images, labels = make_images(600, seed=0)
    entry = evaluations(read_card(store, "forest"))[0]
    expected = measure(forest.votes(images[400:]), labels[400:], CLASSES, 5)
    assert (entry["part"], entry["quality"]) == ("test", expected)
    for words in (
        "right tag or runner-up: ",
        "most frequent mistakes: ",
        "most confident mistakes (",
        "recall",
    ):
        assert words in out


@pytest.fixture(scope="module")
def learnt(world):
    """A forest that was trained on the training part of "parted" and, as a copy, on the first 400 images of "tiny"."""
    store, forest, _ = world
    trained_on = {"corpus": "parted", "corpus_hash": open_corpus(store, "parted").hash, "images": 400}
    blocks = [make_images(600, seed=0)[0][:400], make_images(1500)[0][:400]]
    card = {"engine": "scikit-learn", "trained_on": trained_on}
    save_model(store, "learnt", forest, card, hash_blocks(blocks))
    save_model(store, "early", forest, card)  # a card of 0.1.0
    return store


@pytest.mark.slow
def test_images_that_the_model_was_trained_on_are_refused_in_any_corpus(learnt):
    with pytest.raises(TrainingDataError) as caught:
        evaluate(learnt, "tiny", "learnt")
    assert (caught.value.trained, caught.value.images) == (360, 1350)
    assert evaluations(read_card(learnt, "learnt")) == []
    _, err = run(
        "evaluate", "--model", "learnt", "--corpus", "tiny", "--store", learnt.url(), "--master", PROCESSES, code=1
    )  # fmt: skip
    assert error_line(err) == (
        "tinytags: model 'learnt' was trained on 360 of the 1,350 labelled images of 'tiny', so the figures would be too "
        "good; measure it on other images (its card has the quality on held-out ones), or add --training-data-too"
    )
    result = evaluate(learnt, "parted", "learnt")
    assert (result["part"], result["images"], result["training_images"]) == ("test", 200, 0)


@pytest.mark.slow
def test_figures_of_training_data_are_marked_wherever_they_are(learnt):
    out, _ = run(
        "evaluate", "--model", "learnt", "--corpus", "parted", "--training-data-too", "--store", learnt.url(),
        "--master", PROCESSES,
    )  # fmt: skip
    assert "too good: the model was trained on 400 of these 600 images" in out
    entry = evaluations(read_card(learnt, "learnt"))[0]
    assert (entry["part"], entry["images"], entry["training_images"]) == ("all", 600, 400)
    assert is_marked(entry)
    honest = evaluate(learnt, "parted", "learnt")
    card = read_card(learnt, "learnt")
    assert [is_marked(one) for one in evaluations(card)] == [False, True], "each replaces its like"
    assert best_known(card)[0] == honest["quality"], "never the marked one"


def test_a_card_without_hashes_is_compared_by_its_corpus(learnt, capsys):
    """As the cards of 0.1.0 are."""
    assert evaluate(learnt, "tiny", "early")["images"] == 1350
    assert "has no hashes of its training images" in capsys.readouterr().err
    assert evaluate(learnt, "parted", "early")["part"] == "test"
    marked = evaluate(learnt, "parted", "early", training_data_too=True)
    assert marked["training_images"] is None and is_marked(marked)
    forest = read_card(learnt, "early")["trained_on"] | {"corpus_hash": open_corpus(learnt, "tiny").hash}
    learnt.write_json(layout.model_card("early"), read_card(learnt, "early") | {"trained_on": forest})
    with pytest.raises(TrainingDataError):
        evaluate(learnt, "tiny", "early")


def test_a_few_training_images_in_another_corpus_are_left_out(world):
    store, forest, known = world
    images = make_images(1500)[0]
    chosen = np.flatnonzero(known != 255)[:9]
    save_model(store, "nearly", forest, {"engine": "scikit-learn"}, hash_blocks([images[chosen]]))
    result = evaluate(store, "tiny", "nearly")
    assert (result["images"], result["left_out"], result["training_images"]) == (1341, 9, 0)
    labels = np.where(known == 255, -1, known.astype(int))
    labels[chosen] = -1
    assert result["quality"] == measure(forest.votes(images), labels, CLASSES, 5)


def test_hashes_that_are_not_those_of_the_card_are_an_error(learnt, tmp_path):
    shutil.copytree(learnt.url(), tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    path = layout.model_trained("learnt")
    store.write_bytes(path, store.read_bytes(path)[:-1])
    with pytest.raises(DamagedFileError) as caught:
        evaluate(store, "parted", "learnt")
    assert caught.value.path == path


def test_the_figures_are_reported_while_the_model_is_written_by_another_process(world, capsys):
    store = world[0]
    before = read_card(store, "forest")
    with lease(store, layout.model_lease("forest"), "model 'forest'"):
        assert evaluate(store, "tiny")["images"] == 1350
    assert "not added to the card of model 'forest'" in capsys.readouterr().err
    assert read_card(store, "forest") == before


@pytest.mark.slow
def test_the_report_is_one_file_with_its_plots_and_pictures(learnt, tmp_path):
    file = tmp_path / "report.html"
    words = (
        "evaluate",
        "--model",
        "learnt",
        "--store",
        learnt.url(),
        "--master",
        PROCESSES,
        "--corpus",
        "parted",
    )
    result = run_json(*words, "--report", file)
    html = file.read_text()
    assert not re.search(r"https?:|<script|<link|url\(|\sstyle=", html), "nothing of it is elsewhere"
    assert html.count('<svg class="plot"') == 2 and "too good" not in html
    assert (
        f'<strong class="figure">{100 * result["quality"]["accuracy"]:.1f} %</strong> of 200 images' in html
    )
    for row in result["quality"]["thresholds"]:
        low, high = row["precision_interval"]
        assert f"{100 * low:.1f}–{100 * high:.1f} %" in html
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    corpus = open_corpus(learnt, "parted")
    assert len(pictures) == len(result["confident_mistakes"]) > 5
    for picture, one in zip(pictures, result["confident_mistakes"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
        image = read_image(learnt, corpus, one["partition"], one["row"]).images[0]
        assert np.array_equal(pixels.transpose(2, 0, 1).ravel(), image)
    run(*words, "--training-data-too", "--report", file)
    assert "These figures are too good: the model was trained on 400 of these 600 images." in file.read_text()
    _, err = run(*words, "--report", tmp_path / "no" / "report.html", code=1)
    assert error_line(err) == f"tinytags: there is no folder {tmp_path}/no for the report report.html"


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("unlabelled", "corpus 'unlabelled' has no labels to measure by"),
        ("foreign", "corpus 'foreign' has labels lorry, model 'forest' has only airplane, "),
        ("nowhere", "no corpus 'nowhere' in "),
    ],
)
def test_a_corpus_that_cannot_be_measured_by_is_refused_before_spark_starts(world, corpus, words):
    _, err = run("evaluate", "--model", "forest", "--corpus", corpus, "--store", world[0].url(), code=1)
    assert error_line(err).startswith(f"tinytags: {words}")
    assert len(err.splitlines()) == 1


def test_a_partition_that_cannot_be_read_is_named_and_nothing_is_claimed(world, tmp_path):
    shutil.copytree(world[0].url(), tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    store.remove(layout.corpus_images("tiny", 2))
    out, err = run("evaluate", "--model", "forest", "--corpus", "tiny", "--store", store.url(), code=1)
    assert out == ""
    assert error_line(err).startswith("tinytags: 1 of 4 partitions not read: 2; the first: ")
    assert "is missing" in err
