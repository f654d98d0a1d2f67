"""Tests of `tagging.comparison`: its figures against scikit-learn's and scipy's."""

import numpy as np
import pytest
from small_world import CLASSES, make_images

from tagging import comparison
from tagging.comparison import figures, model_row, precision_at
from tagging.forest.scikit_learn import train
from tagging.tags import winners


def test_precision_at_a_share_is_that_of_the_most_confident_images():
    levels, right = np.array([0, 50, 0, 50]), np.array([0, 10, 0, 40])
    assert precision_at(levels, right, 0.5) == 0.8
    assert precision_at(levels, right, 1.0) == 0.5
    assert precision_at(levels, right, 0.25) == 0.8  # of equals a random part
    assert precision_at(levels, right, 0.75) == pytest.approx((40 + 5) / 75)
    assert precision_at(levels * 0, right * 0, 0.5) is None


def test_figures_agree_with_scikit_learns():
    from sklearn.metrics import accuracy_score, precision_score

    random = np.random.default_rng(0)
    votes = random.dirichlet(np.full(5, 0.5), 2000).astype(np.float32)
    labels = np.where(random.random(2000) < 0.6, votes.argmax(axis=1), random.integers(0, 5, 2000))
    result = figures(votes, labels, None)
    assert result["accuracy"] == pytest.approx(accuracy_score(labels, votes.argmax(axis=1)))
    assert result["at_share"]["0.9"] >= result["accuracy"] - 0.02
    order = np.argsort(-winners(votes).votes.astype(int), kind="stable")[:600]
    expected = precision_score(labels[order], votes[order].argmax(axis=1), average="micro")
    assert result["at_share"]["0.3"] == pytest.approx(expected, abs=0.005)
    kept = winners(votes).votes >= 6000
    assert result["at_confidence"]["0.6"]["kept"] == pytest.approx(kept.mean())


def test_the_row_of_a_model_has_time_rate_and_size(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.01)
    forest, parameters = train(*make_images(400), CLASSES, trees=5, depth=5)
    images, labels = make_images(300, seed=1)
    card = {"name": "f", "engine": "scikit-learn", "parameters": parameters, "seconds": {"fit": 1.5}}
    row = model_row(forest, card, images, labels.astype(np.int32))
    assert row["bytes"] == len(forest.save())
    assert row["images_per_processor_second"] > 100
    assert (row["fit_seconds"], row["fit_processor_seconds"]) == (1.5, None)
    assert row["accuracy"] == pytest.approx((forest.votes(images).argmax(axis=1) == labels).mean())
    text = comparison.describe([row])
    assert "1.5 s" in text and f"{100 * row['accuracy']:.1f} +- " in text
