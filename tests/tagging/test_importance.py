"""The pixel importance of a forest is the one that counting splits by hand gives."""

import numpy as np
import pytest
from forests import random_tree

from ingest.image import IMAGE_BYTES
from tagging.forest import Tree, pack
from tagging.forest.importance import node_depths, pixel_importance

LEAF = -1


def small_tree() -> Tree:
    """Return a tree that tests byte 5, then on the right byte 7, then on the left of that byte 5 again."""
    return Tree(
        feature=np.array([5, 0, 7, 5, 0, 0, 0]),
        threshold=np.array([100.0, 0, 50, 20, 0, 0, 0]),
        left=np.array([1, LEAF, 3, 5, LEAF, LEAF, LEAF]),
        right=np.array([2, LEAF, 4, 6, LEAF, LEAF, LEAF]),
        leaf_class=np.array([0, 1, 0, 0, 1, 0, 1]),
    )


def test_a_split_counts_half_as_much_with_each_step_from_the_root():
    importance = pixel_importance(pack([small_tree()], ["a", "b"]))
    assert importance.shape == (IMAGE_BYTES,)
    assert importance[5] == pytest.approx((1 + 0.25) / 1.75)
    assert importance[7] == pytest.approx(0.5 / 1.75)
    assert importance.sum() == pytest.approx(1)


def slow_depths(forest, tree: int) -> list[int]:
    """Return the depths of a tree's nodes the slow way, from parent to child."""
    plain = forest.tree(tree)
    depths = {0: 0}
    for node in range(len(plain.left)):
        if plain.left[node] >= 0:
            depths[int(plain.left[node])] = depths[int(plain.right[node])] = depths[node] + 1
    return [depths[node] for node in range(len(plain.left))]


def test_depths_are_those_of_walking_from_parent_to_child():
    random = np.random.default_rng(0)
    forest = pack([random_tree(random, depth, 4) for depth in (0, 1, 3, 8, 12)], list("abcd"))
    depths = node_depths(forest)
    for tree in range(forest.trees):
        assert depths[forest.starts[tree] : forest.starts[tree + 1]].tolist() == slow_depths(forest, tree)
    ends = zip(forest.starts[:-1], forest.starts[1:], strict=True)
    assert [depths[first:last].max() for first, last in ends] == forest.depths.tolist()


def test_a_forest_without_splits_has_no_importance():
    one = Tree(*(np.array([value]) for value in (0, 0.0, -1, -1, 1)))
    assert pixel_importance(pack([one], ["a", "b"])).sum() == 0
