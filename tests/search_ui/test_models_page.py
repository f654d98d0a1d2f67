"""Tests of the pages of models: cards, what follows from them, and two models side by side."""

import io
import json
import re
import shutil
from collections import Counter
from html import unescape
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from searchable import CLASSES

from conf.settings import Settings
from search_ui import create_app
from storage import layout
from storage.store import open_store
from tagging.calibration import ENOUGH_IMAGES
from tagging.cards import few, read_quality
from tagging.forest import Tree, pack
from tagging.forest.importance import pixel_importance
from tagging.models import load_model, read_card, save_model
from tagging.plots import importance_image
from tagging.quality import measure
from tagging.training import held_out_blocks

NO_SOLR = "http://127.0.0.1:1/solr"


@pytest.fixture(scope="module")
def card(library):
    return read_card(library.store, "trained")


@pytest.fixture
def world(library, tmp_path):
    """A copy of the library to write into, and its pages; there is no Solr."""
    shutil.copytree(library.store.root, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    app = create_app(Settings(store=store.root, solr=NO_SOLR, details="yes"), {"REFRESH_SECONDS": 0})
    return SimpleNamespace(store=store, page=app.test_client(), corpus=library.corpus)


def text(answer) -> str:
    """Return the text of a page in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)).split())


def change(store, name, **parts):
    """Write a model's card with other parts; None removes a part."""
    card = store.read_json(layout.model_card(name)) | parts
    store.write_json(
        layout.model_card(name), {key: value for key, value in card.items() if value is not None}
    )


# What follows from a card


def test_calibration_is_what_counting_held_out_images_one_by_one_gives(library, card):
    forest = load_model(library.store, "trained")
    counted = {}
    for images, labels in held_out_blocks(
        library.learnt.store, library.learnt.corpus, card["parameters"]["seed"]
    ):
        votes = forest.votes(images)
        for row, label in zip(votes, labels, strict=True):
            data = counted.setdefault(int(row.max()), [0, 0])
            data[0] += 1
            data[1] += int(row.argmax() == label)
    quality = read_quality(card)
    assert {bin.low // 10: [bin.images, bin.right] for bin in quality.bins} == counted
    assert sum(bin.images for bin in quality.bins) == card["measured_on"]["images"] == quality.images
    assert all(bin.low == bin.high == pytest.approx(100 * bin.confidence) for bin in quality.bins)
    assert all(bin.least <= bin.share <= bin.most for bin in quality.bins)


def test_the_largest_mistakes_are_those_of_the_matrix(card):
    quality = read_quality(card)
    matrix = np.array(card["quality"]["confusion"])
    np.fill_diagonal(matrix, 0)
    label, tag, count, share = quality.mistakes[0]
    at = card["classes"].index(label), card["classes"].index(tag)
    assert count == matrix.max() == matrix[at]
    assert share == count / sum(card["quality"]["confusion"][at[0]])


def many_trees(trees: int, classes: int = 3) -> dict:
    """Return a card of a forest of many trees, each number of votes as frequent as its number says."""
    counts = list(range(trees + 1))
    kept = np.cumsum(counts[::-1])[::-1].tolist()
    names = [f"c{n}" for n in range(classes)]
    return {
        "trees": trees,
        "classes": names,
        "quality": {
            "images": kept[1],
            "accuracy": 0.5,
            "thresholds": [
                {"votes": v, "confidence": v / trees, "images": kept[v], "right": kept[v] // 2,
                 "kept": kept[v] / kept[1], "precision": 0.5}
                for v in range(1, trees + 1)
            ],
            "confusion": [[7] * classes for _ in names],
            "classes": {name: {"images": 7, "tagged": 7, "precision": 0.5, "recall": None} for name in names},
        },
    }  # fmt: skip


def test_hundreds_of_trees_give_twenty_bins_that_hold_every_tag_and_twenty_thresholds():
    quality = read_quality(many_trees(500))
    assert len(quality.bins) == 20
    assert sum(bin.images for bin in quality.bins) == quality.images == 500 * 501 // 2
    assert (quality.bins[-1].low, quality.bins[-1].high) == (95, 100)
    # Of 476 to 500 votes, each as often as its number says.
    votes = np.arange(476, 501)
    assert quality.bins[-1].confidence == pytest.approx((votes * votes).sum() / votes.sum() / 500)
    listed = few(quality.thresholds)
    assert (len(listed), listed[-1].votes) == (20, 500)
    assert few([1, 2, 3]) == [1, 2, 3]


def test_a_threshold_has_the_percentage_that_the_search_gives_it():
    """One of eight votes is 12.5 %, which the search rounds up."""
    percents = [row.percent for row in read_quality(many_trees(8)).thresholds]
    assert percents == [13, 25, 38, 50, 63, 75, 88, 100]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"quality": None, "classes": ["a"]},
        {"quality": [], "classes": ["a"]},
        {"quality": {}, "classes": ["a"]},
        many_trees(5) | {"classes": ["a"]},
        many_trees(5) | {"classes": 5},
        many_trees(5) | {"quality": many_trees(5)["quality"] | {"confusion": [[1, 2], [3]]}},
        many_trees(5) | {"quality": many_trees(5)["quality"] | {"accuracy": 3}},
        many_trees(5) | {"quality": many_trees(5)["quality"] | {"thresholds": [{"votes": 1}]}},
        many_trees(5) | {"quality": many_trees(5)["quality"] | {"images": "many"}},
        many_trees(5) | {"quality": many_trees(5)["quality"] | {"classes": []}},
        many_trees(5) | {"trees": "ten"},
    ],
)
def test_a_card_of_another_form_has_no_quality_and_breaks_nothing(broken):
    assert read_quality(broken) is None


# Pages


def test_the_list_has_the_best_model_first_and_those_without_quality_last(world):
    data = world.page.get("/api/models").json["models"]
    accuracy = {model["model"]: model["accuracy"] for model in data}
    assert set(accuracy) == {"ten", "seven", "trained", "deep"}
    assert (accuracy["ten"], accuracy["trained"]) == (
        None, read_card(world.store, "trained")["quality"]["accuracy"]
    )  # fmt: skip
    html = world.page.get("/models").get_data(as_text=True)
    order = re.findall(r'<th scope="row"><a href="/models/([^"]+)"', html)
    assert sorted(order[:2], key=lambda name: -accuracy[name]) == order[:2]
    assert set(order[2:]) == {"ten", "seven"}


def test_a_page_has_the_numbers_of_the_card(world, card):
    answer = world.page.get("/models/trained")
    assert answer.status_code == 200
    page_text, quality = text(answer), card["quality"]
    assert f"{100 * quality['accuracy']:.1f} % of {quality['images']} images get the right tag" in page_text
    for row in quality["thresholds"]:
        if row["precision"] is not None:
            cells = f"{round(100 * row['confidence'])} % or more {row['images']} {100 * row['kept']:.1f} % {100 * row['precision']:.1f} %"
            assert cells in page_text
    for name, row in quality["classes"].items():
        numbers = (
            f"{row['images']} {row['tagged']} {100 * row['precision']:.1f} % {100 * row['recall']:.1f} %"
        )
        assert f"{name} {numbers}" in page_text
    for row, name in zip(quality["confusion"], card["classes"], strict=True):
        assert f"{name} {' '.join(map(str, row))}" in page_text
    for fact in ("engine scikit-learn", "trees 10", "depth 4", f"hash {card['hash'][:16]}", "python 3."):
        assert fact in page_text
    assert "of learnt (held out, " in page_text


def evaluation(world, quality, **parts):
    """Return an evaluation on the corpus "small" as `tinytags evaluate` adds it to a card."""
    mistake = {
        "partition": 1,
        "row": 7,
        "label": "frog",
        "tag": "ship",
        "confidence": 0.9,
        "runner_up_confidence": 0.1,
    }
    return {
        "corpus": "small", "corpus_hash": world.corpus.hash, "part": "all", "images": quality["images"], "training_images": 0,
        "left_out": 0, "measured": "2026-11-26T07:00:00+00:00", "quality": quality, "confident_mistakes": [mistake],
    } | parts  # fmt: skip


def test_a_page_has_what_the_model_was_evaluated_on_and_marks_training_data(world, card):
    quality = card["quality"]
    marked = evaluation(world, quality, corpus="learnt", corpus_hash="0", training_images=9, images=2_000)
    change(
        world.store, "trained", evaluations=[marked, evaluation(world, quality, left_out=3), {"quality": 7}]
    )
    answer = world.page.get("/models/trained")
    page_text = text(answer)
    accuracy, (low, high) = f"{100 * quality['accuracy']:.1f} %", quality["interval"]
    interval = f"{100 * low:.1f}–{100 * high:.1f} %"
    assert f"small without 3 training images {quality['images']} {accuracy} {interval}" in page_text
    assert (
        f"learnt too good: the model was trained on 9 of these 2,000 images {quality['images']}" in page_text
    )
    html = answer.get_data(as_text=True)
    assert f'<a href="/images/small/1/7"><img src="/images/small/1/7.png?v={world.corpus.hash[:8]}"' in html
    assert html.count("without 3 training images") == 1, "a damaged one is left out"
    first, second = world.page.get("/api/models/trained").json["evaluations"]
    assert (first["corpus"], first["warning"], first["left_out"]) == ("small", None, 3)
    assert second["warning"] == "too good: the model was trained on 9 of these 2,000 images"
    assert second["calibration_error"] == quality["calibration"]["error"]
    assert "Most confident mistakes" not in text(world.page.get("/models/deep"))


def test_evaluations_of_two_models_on_the_same_images_are_side_by_side(world, card):
    first, second = card["quality"], read_card(world.store, "deep")["quality"]
    learnt = {"corpus": "learnt", "corpus_hash": "0"}
    marked = evaluation(world, first, training_images=9, images=2_000)
    change(world.store, "trained", evaluations=[evaluation(world, first, left_out=3, **learnt), marked])
    change(world.store, "deep", evaluations=[evaluation(world, second), evaluation(world, second, **learnt)])
    page_text = text(world.page.get("/models/trained?with=deep"))
    figures = [
        f"{100 * q['accuracy']:.1f} % {100 * q['interval'][0]:.1f}–{100 * q['interval'][1]:.1f} %"
        for q in (first, second)
    ]
    assert (
        f"learnt trained: without 3 training images {first['images']} {second['images']} {' '.join(figures)}"
        in page_text
    )
    warning = "trained: too good: the model was trained on 9 of these 2,000 images"
    assert f"small {warning} {first['images']} – {figures[0]}" in page_text, "in a row of its own"
    assert f"small – {second['images']} {figures[1]}" in page_text


def test_a_model_without_quality_of_its_own_shows_that_of_its_evaluation(world, card):
    entry = evaluation(world, card["quality"])
    change(world.store, "trained", quality=None, evaluations=[entry, entry | {"training_images": None}])
    page_text = text(world.page.get("/models/trained"))
    assert f"{100 * card['quality']['accuracy']:.1f} % of {card['quality']['images']} images" in page_text
    assert "measured on small." in page_text
    change(world.store, "trained", quality=None, evaluations=[entry | {"training_images": None}])
    page_text = text(world.page.get("/models/trained"))
    assert "Its quality is unknown" in page_text and "was trained on images of this corpus" in page_text


def test_a_page_has_the_calibration_of_each_class(world, card):
    calibration = read_quality(card).classes_calibration
    assert [low for low, _ in calibration.ranges] == sorted({low for low, _ in calibration.ranges})
    for name, cells in calibration.rows:
        row = card["quality"]["classes"][name]
        assert sum(cell.images for cell in cells if cell) == row["tagged"]
        assert sum(cell.right for cell in cells if cell) == round(row["precision"] * row["tagged"])
    name, cells = calibration.rows[0]
    shares = " ".join(f"{100 * cell.share:.0f}" if cell else "–" for cell in cells)
    assert f"{name} {shares} {calibration.rows[1][0]}" in text(world.page.get("/models/trained"))


def test_probabilities_of_classes_are_shown_in_ten_ranges():
    random = np.random.default_rng(3)
    votes = random.dirichlet([0.5, 0.5, 0.5], 900).astype(np.float32)
    quality = measure(votes, random.integers(0, 3, 900), ["a", "b", "c"], None)
    calibration = read_quality({"classes": ["a", "b", "c"], "quality": quality}).classes_calibration
    assert calibration.ranges[-2:] == [(80, 89), (90, 100)] and len(calibration.ranges) <= 10
    high = votes[votes.argmax(axis=1) == 1].max(axis=1)
    assert dict(calibration.rows)["b"][-1].images == (np.rint(high * 10_000) >= 9_000).sum()


def test_a_page_has_no_inline_style_and_no_inline_script(world):
    for path in ("/runs", "/models", "/models/trained", "/models/trained?with=deep"):
        html = world.page.get(path).get_data(as_text=True)
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", html), path


def test_the_plots_have_a_point_for_each_row_of_their_tables(world, card):
    html = world.page.get("/models/trained").get_data(as_text=True)
    calibration, coverage = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    bins = read_quality(card).bins
    assert calibration.count("<circle") == calibration.count('class="count-0') == len(bins)
    grey = sum(bin.images < ENOUGH_IMAGES for bin in bins)
    assert 0 < grey < len(bins) and calibration.count('class="count-0 few"') == grey
    assert coverage.count("<circle") == sum(
        row["precision"] is not None for row in card["quality"]["thresholds"]
    )
    # The place of a point is its number: 40 to 352 are 0 to 100 % across, 210 to 10 up.
    for bin in bins:
        place = f'cx="{40 + 312 * bin.confidence:.2f}"'.replace(".00", ".0")
        assert re.sub(r'(\.\d)0"', r'\1"', place) in calibration
        assert f'cy="{round(10 + 200 * (1 - bin.share), 2)}"' in calibration
        assert f"{bin.right:,} of {bin.images:,} correct" in calibration


def test_two_models_stand_side_by_side(world):
    answer = world.page.get("/models/trained?with=deep")
    assert answer.status_code == 200
    html, page_text = answer.get_data(as_text=True), text(answer)
    calibration, _ = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    sides = [read_quality(read_card(world.store, name)) for name in ("trained", "deep")]
    assert calibration.count('class="mark-0') == len(sides[0].bins)
    assert calibration.count('class="mark-1') == len(sides[1].bins)
    assert (
        "depth 4 7" in page_text
        and "trees 10 25" in page_text
        and "engine scikit-learn scikit-learn" in page_text
    )
    assert "measured on different images" in page_text, "another seed holds out others"
    assert html.count('class="confusion"') == 2 and html.count('class="pixels"') == 2
    for name in ("trained", "deep"):
        assert f"/models/{name}/pixels.png" in html


def test_models_of_other_classes_stand_side_by_side_too(world):
    card = many_trees(8)
    save_model(world.store, "other", pack([leaf()], card["classes"]), {"quality": card["quality"]})
    page_text = text(world.page.get("/models/trained?with=other"))
    assert "c1 no such class 50.0 % no such class –" in page_text
    assert re.search(r"truck \d+\.\d % no such class \d+\.\d % no such class", page_text)


def leaf() -> Tree:
    return Tree(*(np.array([value]) for value in (0, 0.0, -1, -1, 0)))


def test_a_model_without_quality_has_a_page_with_what_there_is(world):
    answer = world.page.get("/models/ten")
    assert answer.status_code == 200
    page_text = text(answer)
    assert "Its quality is unknown: the card has none." in page_text
    assert "Reliability of the confidence" not in page_text and "Pixel importance" in page_text
    assert "The most important pixels" in page_text
    data = world.page.get("/api/models/ten").json
    assert (data["calibration"], data["thresholds"], data["mistakes"]) == (None, None, None)
    assert data["top_pixels"] == [{"row": 0, "column": 0, "channel": "red", "share": 1.0}]
    both = text(world.page.get("/models/ten?with=trained"))
    assert "Its quality is unknown" in both and "Reliability of the confidence" in both


@pytest.mark.parametrize(
    "parts",
    [
        {"quality": {"accuracy": "good"}},
        {
            "quality": 7,
            "parameters": [],
            "versions": "x",
            "trained_on": 5,
            "measured_on": [],
            "seconds": None,
        },
        {"engine": "mllib", "parameters": {"bins": 50}, "trained_on": "cifar-10"},
        {"kind": "network", "trees": None},
        {"trained_on": {"corrections": "many", "images": None}},
        {"created": None, "trees": None},
    ],
)
def test_cards_of_other_makers_have_a_page(world, parts):
    change(world.store, "trained", **parts)
    for path in (
        "/models/trained",
        "/models/deep?with=trained",
        "/api/models/trained",
        "/models",
        "/api/models",
    ):
        assert world.page.get(path).status_code == 200, path


def test_a_card_has_how_many_corrections_were_learnt(world):
    card = {"trained_on": {"corpus": "small", "corpus_hash": "0", "images": 50_000, "corrections": 1_234}}
    change(world.store, "trained", **card)
    assert "50,000 images of small and 1,234 corrections" in text(world.page.get("/models/trained"))


def test_a_card_of_hundreds_of_classes_shows_no_matrix_but_the_mistakes(world):
    card = many_trees(10, classes=60)
    save_model(world.store, "wide", pack([leaf()], card["classes"]), {"quality": card["quality"]})
    answer = world.page.get("/models/wide")
    assert 'class="confusion"' not in answer.get_data(as_text=True)
    page_text = text(answer)
    assert (
        "The matrix of 60 classes is too large to show" in page_text
        and "c0 tagged c1 (7, 2 % of its images)" in page_text
    )


def test_a_model_that_is_not_there_gives_404_and_names_those_that_are(world):
    for path in ("/models/nope", "/models/trained?with=nope", "/models/nope/pixels.png"):
        answer = world.page.get(path)
        assert answer.status_code == 404
        assert "There is no model &#39;nope&#39;; there are deep, seven, ten, trained." in text(answer)
    answer = world.page.get("/api/models/nope")
    assert (answer.status_code, answer.json["status"]) == (404, 404)
    assert "there are deep, seven, ten, trained" in answer.json["error"]
    assert world.page.get("/models/" + "x" * 5000).status_code == 404


def test_invalid_parameters_are_named(world):
    for path, message in (
        ("/models/trained?with=deep&with=ten", "with is given 2 times"),
        ("/models/trained/pixels.png?scale=0", "scale is a whole number from 1 to 16"),
        ("/models/trained/pixels.png?channel=alpha", "channel is one of all, red, green, blue"),
    ):
        answer = world.page.get(path)
        assert answer.status_code == 400 and message in text(answer), path


def test_models_that_come_change_and_go_are_seen(world):
    shutil.copytree(world.store.url("models/trained"), world.store.url("models/copy"))
    assert world.page.get("/models/copy").status_code == 200
    world.store.write_bytes(layout.model_card("copy"), b"{")
    answer = world.page.get("/models/copy")
    assert answer.status_code == 404 and "is not JSON" in text(answer)
    assert "is not JSON" in text(world.page.get("/models"))
    errors = {model["model"]: model.get("error") for model in world.page.get("/api/models").json["models"]}
    assert "is not JSON" in errors["copy"] and errors["trained"] is None
    world.store.write_json(layout.model_card("copy"), {})
    assert "is not the card of a model" in text(world.page.get("/models/copy"))
    world.store.remove_tree("models/copy")
    assert "There is no model" in text(world.page.get("/models/copy"))


def test_a_store_without_models_states_how_to_make_one(solr, tmp_path):
    page = create_app(Settings(store=str(tmp_path / "new"), solr=solr.url)).test_client()
    assert "tinytags train --corpus LABELLED --model NAME trains one" in text(page.get("/models"))
    assert page.get("/api/models").json == {"models": []}
    assert "there is none yet" in text(page.get("/models/x"))


# Pixels


def picture(answer) -> np.ndarray:
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    return np.asarray(Image.open(io.BytesIO(answer.data)))


def test_the_picture_is_the_importance_of_each_pixel(world):
    forest = load_model(world.store, "deep")
    wanted = importance_image(pixel_importance(forest)).reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(picture(world.page.get("/models/deep/pixels.png?scale=1")), wanted)
    large = picture(world.page.get("/models/deep/pixels.png"))
    assert large.shape == (256, 256, 3) and np.array_equal(large[::8, ::8], wanted)
    green = picture(world.page.get("/models/deep/pixels.png?scale=1&channel=green"))
    assert np.array_equal(green, np.repeat(wanted[:, :, 1:2], 3, axis=2))
    data = world.page.get("/api/models/deep").json
    importance = pixel_importance(forest)
    top = data["top_pixels"][0]
    at = ("red", "green", "blue").index(top["channel"]) * 1024 + top["row"] * 32 + top["column"]
    assert importance[at] == importance.max() == pytest.approx(top["share"], abs=1e-6)
    assert data["channels"]["blue"] == pytest.approx(importance[2048:].sum(), abs=1e-6)


def test_a_picture_is_kept_by_the_hash_of_its_model(world):
    short = read_card(world.store, "deep")["hash"][:8]
    html = world.page.get("/models/deep").get_data(as_text=True)
    url = re.search(r'src="(/models/deep/pixels\.png[^"]*)"', html)[1].replace("&amp;", "&")
    assert f"v={short}" in url
    first = world.page.get(url)
    assert "immutable" in first.headers["Cache-Control"]
    again = world.page.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = world.page.get("/models/deep/pixels.png?v=00000000")
    assert other.headers["Cache-Control"] == "no-cache"
    assert first.headers["ETag"] != world.page.get(url + "&scale=2").headers["ETag"]


def test_a_forest_is_read_once_and_another_one_under_its_name_anew(world, monkeypatch):
    reads = []
    original = type(world.store).read_bytes

    def read_bytes(self, path, *args):
        reads.append(path)
        return original(self, path, *args)

    monkeypatch.setattr(type(world.store), "read_bytes", read_bytes)
    for _ in range(3):
        before = picture(world.page.get("/models/trained/pixels.png"))
        world.page.get("/models/trained")
    assert reads.count(layout.model_file("trained", "forest.npz")) == 1
    world.store.remove_tree("models/trained")
    shutil.copytree(world.store.url("models/deep"), world.store.url("models/trained"))
    after = picture(world.page.get("/models/trained/pixels.png"))
    assert not np.array_equal(before, after)


def test_a_forest_that_can_not_be_read_leaves_the_rest_of_the_page(world):
    world.store.write_bytes(layout.model_file("trained", "forest.npz"), b"no forest")
    answer = world.page.get("/models/trained")
    assert answer.status_code == 200
    assert "Not available:" in text(answer) and "Reliability of the confidence" in text(answer)
    assert world.page.get("/models/trained/pixels.png").status_code == 503


# With Solr


@pytest.mark.services
def test_each_threshold_leads_to_the_search_of_the_run_that_is_shown(page, searchable, show):
    model = read_card(searchable.store, "ten")
    change(searchable.store, "ten", quality=many_trees(10, classes=4)["quality"] | {
        "classes": {name: {"images": 1, "tagged": 1, "precision": 1, "recall": 1} for name in CLASSES}})  # fmt: skip
    try:
        html = page.get("/models/ten").get_data(as_text=True)
        data = re.findall(r'<a href="(/\?model=ten[^"]*)"[^>]*>(\d+) % or more', html)
        assert [int(percent) for _, percent in data] == [40, 50, 60, 70, 80, 90, 100], (
            "none below the run's own"
        )
        for url, percent in data:
            total = page.get(url.replace("&amp;", "&").replace("/?", "/api/search?")).json["total"]
            documents = searchable.documents[searchable.first.name]
            assert total == sum(100 * d["votes"] >= int(percent) * d["trees"] for d in documents)
        counts = Counter((d["label"], d["tag"]) for d in documents if "label" in d)
        pairs = set(re.findall(r'href="(/\?tag=[^"]*&amp;label=[^"]*&amp;model=ten)"', html))
        assert pairs, "of the cells of the matrix and the most frequent mistakes"
        for url in (unescape(pair) for pair in pairs):
            (tag,), (label,) = (parse_qs(urlsplit(url).query)[name] for name in ("tag", "label"))
            assert page.get(url.replace("/?", "/api/search?")).json["total"] == counts[label, tag]
        for name in ("tag", "label"):
            assert f'href="/?{name}=frog&amp;model=ten"' in html, "of the rows of the classes"
        thresholds = page.get("/api/models/ten").json["thresholds"]
        assert [row["url"] is not None for row in thresholds] == [False] * 3 + [True] * 7
        assert f'href="/runs/{searchable.first.name}"' in html
        assert "published" in html
        assert "<b>deer</b>" not in html and "&lt;b&gt;deer&lt;/b&gt;" in html
    finally:
        searchable.store.write_json(layout.model_card("ten"), model)
    html = page.get("/models/seven").get_data(as_text=True)
    assert "/?model=seven" not in html, "its run is not shown"
    assert f'href="/runs/{searchable.second.name}"' in html


@pytest.mark.services
def test_the_api_has_the_whole_card_and_what_the_page_shows_of_it(page, searchable, card):
    data = page.get("/api/models/trained").json
    assert data["card"] == json.loads(json.dumps(card))
    assert sum(bin["images"] for bin in data["calibration"]) == card["quality"]["images"]
    assert [row["images"] for row in data["thresholds"]] == [
        row["images"] for row in card["quality"]["thresholds"]
    ]
    assert sum(data["channels"].values()) == pytest.approx(1, abs=1e-5)
    assert page.get(data["pixels"]["red"]).mimetype == "image/png"
    assert data["runs"] == []
    runs = page.get("/api/models/ten").json["runs"]
    assert runs == [{"run": searchable.first.name, "published": True}]


@pytest.mark.services
def test_two_models_are_compared_in_a_browser(browse, searchable):
    page = browse("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Models").click()
    page.get_by_role("link", name="trained", exact=True).click()
    page.wait_for_url("**/models/trained")
    assert page.get_by_role("heading", level=1).inner_text() == "Model trained"
    page.get_by_label("Compare with").select_option("deep")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/models/trained?with=deep")
    assert page.get_by_role("heading", level=1).inner_text() == "Models trained and deep"
    assert [text.strip() for text in page.locator(".legend li").all_inner_texts()] == ["trained", "deep"]
    assert page.locator(".confusion:not(.shares)").count() == page.locator(".shares").count() == 2
    page.wait_for_load_state("load")
    sizes = page.locator("img.pixels").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert sizes == [256, 256]
    colours = page.locator(".plot polyline").evaluate_all(
        "all => [...new Set(all.map(line => getComputedStyle(line).stroke))]"
    )
    assert len(colours) == 2, "two models have two colours"
    page.get_by_role("link", name="trained alone").click()
    page.wait_for_url("**/models/trained")
    page.locator(".importance summary").click()
    assert page.locator(".importance table tbody tr").count() == 10


@pytest.mark.services
def test_a_matrix_can_be_read_by_row_and_column_and_its_shades_be_distinguished(browse, card):
    page = browse("/models/trained")
    table = page.get_by_role("table", name="Images by label")
    assert table.get_by_role("columnheader").all_inner_texts()[1:] == card["classes"]
    assert table.get_by_role("rowheader").all_inner_texts() == card["classes"]
    counts = [
        [int(text) for text in row.locator("td").all_inner_texts()] for row in table.locator("tbody tr").all()
    ]
    assert counts == card["quality"]["confusion"]
    shades = table.locator("td").evaluate_all(
        "all => all.map(cell => getComputedStyle(cell).backgroundColor)"
    )
    shares = np.array(counts) / np.array(counts).sum(axis=1, keepdims=True)
    assert len(set(shades)) > 3
    assert shades[int(shares.argmax())] != shades[int(shares.argmin())]


@pytest.mark.services
def test_without_javascript_two_models_are_compared_all_the_same(browse):
    page = browse("/models/deep", java_script_enabled=False)
    page.get_by_label("Compare with").select_option("ten")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/models/deep?with=ten")
    assert "the card has none" in page.locator("main").inner_text()


def test_the_store_has_what_the_models_were_measured_on(library, card):
    """The tests above are of something: a model that is neither always right nor always wrong, on images held out."""
    assert 0.3 < card["quality"]["accuracy"] < 0.95
    assert card["measured_on"]["images"] + card["trained_on"]["images"] == library.learnt.corpus.images
