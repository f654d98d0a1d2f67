"""Tests of `studies.features`: what is measured of features, kept, and written into the document."""

import pytest
from small_world import make_corpus, write_cifar

from conf.settings import Settings
from storage.store import open_store
from studies import features

pytestmark = pytest.mark.slow


def test_gains_against_pixels_and_accuracies_with_few_labels_are_measured_once(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "store"))
    make_corpus(store, "cifar", write_cifar(tmp_path / "cifar", 300, 100), 400)
    monkeypatch.setattr(features, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(features, "FEW", ("hog",))
    monkeypatch.setattr(features, "LABELS", (2, 10))
    settings = Settings(store=store.url())
    names = ["pixels", "flips", "pca-12"]
    result = features.measure(settings, "cifar", 20, 5, names, few=True)
    assert [row["name"] for row in result["rows"]] == names
    assert result["images"] == 100
    few = {count: sum(of_draws) / 3 for count, of_draws in result["few"][0]["accuracies"].items()}
    assert 0.1 < few["2"] < few["10"] < 1
    text = features.section(result)
    pixels, flips, pca = result["rows"]
    assert f"| {100 * pixels['forest']['accuracy']:.1f} % |  |" in text, "no gain against itself"
    assert f"| {100 * (pca['linear']['accuracy'] - pixels['linear']['accuracy']):+.1f} |" in text
    assert f"explain {100 * pca['variance_explained']:.1f} % of the variance" in text
    assert flips["rate"] is None
    monkeypatch.setattr(features, "measure_features", pytest.fail)
    assert features.measure(settings, "cifar", 20, 5, names, few=True)["rows"] == result["rows"], "kept"
