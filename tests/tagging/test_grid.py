"""Tests of `tagging.grid`: which forests are tried, and that their accuracy is that of scikit-learn's votes."""

import numpy as np
import pytest
from small_world import CLASSES, make_images

from tagging.grid import Cell, cells, describe, effects, fold_rows, measure_fold, summarise, tree_counts


def test_cells_that_are_the_same_forest_are_tried_once():
    assert cells([5], [1, 5], [2, 6]) == [Cell(5, 1, 2), Cell(5, 1, 6), Cell(5, 5, 10)]


def test_counts_of_trees_end_with_the_one_that_is_given():
    assert tree_counts(30) == [1, 2, 5, 10, 20, 30]
    assert tree_counts(500)[-2:] == [200, 500]


def test_folds_divide_all_rows_with_the_shares_of_classes():
    labels = np.repeat(np.arange(3), [30, 60, 90])
    parts = [fold_rows(labels, 3, fold, seed=1) for fold in range(3)]
    assert sorted(np.concatenate([measured for _, measured in parts])) == list(range(180))
    for fitted, measured in parts:
        assert not set(fitted) & set(measured)
        assert np.bincount(labels[measured]).tolist() == [10, 20, 30]


def test_the_accuracy_is_that_of_the_trees_votes():
    from sklearn.ensemble import RandomForestClassifier

    images, labels = make_images(240)
    labels = labels.astype(np.int32)
    result = measure_fold(images, labels, CLASSES, Cell(5, 2, 4), trees=2, folds=2, fold=0, seed=3)
    fitted, measured = fold_rows(labels, 2, 0, 3)
    forest = RandomForestClassifier(
        1, max_depth=5, min_samples_leaf=2, min_samples_split=4, random_state=3
    ).fit(images[fitted], labels[fitted])
    expected = (forest.predict(images[measured]) == labels[measured]).sum()
    assert [row["trees"] for row in result["forests"]] == [1, 2]
    assert result["forests"][0]["right"] == expected
    assert result["forests"][1]["bytes"] > result["forests"][0]["bytes"]


def test_a_summary_has_the_mean_of_the_folds_and_the_best_first():
    results = [
        {"depth": depth, "leaf": 1, "split": 2, "fold": fold, "images": 10,
         "forests": [{"trees": 1, "right": right, "bytes": 100, "seconds": 1.0}]}
        for depth, rights in ((5, (4, 6)), (9, (8, 8))) for fold, right in enumerate(rights)
    ]  # fmt: skip
    rows = summarise(results)
    assert [(row["depth"], row["accuracy"], row["deviation"]) for row in rows] == [(9, 0.8, 0), (5, 0.5, 0.1)]
    assert list(effects(rows, 1))[:2] == [("depth", 5, pytest.approx(0.5)), ("depth", 9, pytest.approx(0.8))]
    assert "80.0 +- 0.0 %" in describe(rows)
