"""Tests of `studies.answer`: figures, costs and plots from the models of a store, written into the document."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from small_world import CLASSES, make_corpus, make_images, write_cifar

from bench import report
from conf.settings import Settings
from storage.store import open_store
from studies import answer
from tagging import comparison
from tagging.forest.scikit_learn import train
from tagging.models import save_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """What is measured of two forests, one of them as if it learnt from features, and another model that can't be compared."""
    folder = tmp_path_factory.mktemp("answer")
    store = open_store(str(folder / "store"))
    make_corpus(store, "cifar", write_cifar(folder / "cifar", 300, 200), 100)
    images, labels = make_images(600, seed=5)
    for name, trees, parameters in (("small", 2, {}), ("large", 20, {"features": "hog"})):
        forest, _ = train(images, labels, CLASSES, trees=trees, depth=6)
        card = {"engine": "scikit-learn", "parameters": parameters, "seconds": {"fit": 2.0}}
        save_model(store, name, forest, card)
    few, _ = train(images, labels % 3, CLASSES[:3], trees=2, depth=2)
    save_model(store, "few", few, {"engine": "scikit-learn"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "LEAST_SECONDS", 0.02)
        patch.setattr(comparison, "LEAST_SECONDS", 0.02)
        patch.setattr(answer, "lines_of_code", lambda card: 500)
        return answer.measure(Settings(store=store.url(), master="processes[1]"), "cifar")


def test_every_model_that_knows_the_classes_is_measured(result):
    assert [row["name"] for row in result["rows"]] == ["large", "small"]
    assert all(row["tagged_per_processor_second"] > 100 for row in result["rows"])
    assert result["rows"][0]["accuracy"] > result["rows"][1]["accuracy"]


def test_the_section_states_what_the_forest_gives_up_and_costs(result):
    for row, rate in zip(result["rows"], (1_000, 100_000), strict=True):
        row["tagged_per_processor_second"] = rate
    text = answer.section(result, core_hour=0.1, gpu_hour=2.0)
    given_up = 100 * (result["rows"][0]["accuracy"] - result["rows"][1]["accuracy"])
    assert f"gives up {given_up:.1f} points of accuracy" in text
    assert "costs 100 times as much to tag with: 2.20." in text  # 79,302,017 / 1,000 / 3,600 hours at 0.1
    assert "20 k images/s" in text  # a GPU at 20 times the price of a core
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 * 4


def test_the_plots_are_svg_that_names_the_models(result, tmp_path):
    for path in answer.draw(result, tmp_path, 0.05):
        words = " ".join(ElementTree.parse(path).getroot().itertext())
        assert "large" in words and "small" in words


def test_the_document_has_a_place_for_the_section(tmp_path):
    copy = tmp_path / "document.md"
    copy.write_text(answer.DOCUMENT.read_text())
    report.write_section(copy, "answer", "measured")
    assert re.search(r"begin, written by the bench -->\n\nmeasured\n\n<!-- answer: end", copy.read_text())


def test_lines_of_code_are_counted_without_blanks_and_comments(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""One."""\n\n# Not this.\nx = 1\n')
    assert answer.count_lines(file) == 2
    forest = {"kind": "forest", "engine": "scikit-learn"}
    on_edges = {
        "kind": "featured",
        "engine": "scikit-learn",
        "parameters": {"features": "sobel", "head": "forest"},
    }
    network = {"kind": "network", "engine": "keras"}
    assert 300 < answer.lines_of_code(forest) < answer.lines_of_code(on_edges)
    assert answer.lines_of_code(network) > 300


def test_the_precision_between_two_shares_is_interpolated():
    row = {"at_share": {"0.9": 0.2, "0.7": 0.4, "0.5": 0.6, "0.3": 0.8, "0.1": 1.0}}
    assert np.isclose(answer.share_precision(row, 0.4), 0.7)
