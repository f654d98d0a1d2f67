"""Tests of `tagging.forest.importance`: each look counted by hand, and the picture of it."""

import numpy as np
import pytest
from forests import random_tree

from ingest.image import IMAGE_BYTES
from tagging.forest import Tree, pack
from tagging.forest.importance import importance_image, node_depths, pixel_importance

LEAF = -1


def small_tree() -> Tree:
    """Return a tree that asks for byte 5, then on the right for byte 7, then on the left of that for byte 5 again."""
    return Tree(
        feature=np.array([5, 0, 7, 5, 0, 0, 0]),
        threshold=np.array([100.0, 0, 50, 20, 0, 0, 0]),
        left=np.array([1, LEAF, 3, 5, LEAF, LEAF, LEAF]),
        right=np.array([2, LEAF, 4, 6, LEAF, LEAF, LEAF]),
        leaf_class=np.array([0, 1, 0, 0, 1, 0, 1]),
    )


def test_a_look_counts_half_as_much_with_each_step_from_the_root():
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


def test_depths_are_those_that_one_finds_by_walking():
    random = np.random.default_rng(0)
    forest = pack([random_tree(random, depth, 4) for depth in (0, 1, 3, 8, 12)], list("abcd"))
    found = node_depths(forest)
    for tree in range(forest.trees):
        assert found[forest.starts[tree] : forest.starts[tree + 1]].tolist() == slow_depths(forest, tree)
    ends = zip(forest.starts[:-1], forest.starts[1:], strict=True)
    assert [found[first:last].max() for first, last in ends] == forest.depths.tolist()


def test_a_forest_that_never_looks_has_no_importance_and_a_black_picture():
    one = Tree(*(np.array([value]) for value in (0, 0.0, -1, -1, 1)))
    importance = pixel_importance(pack([one], ["a", "b"]))
    assert importance.sum() == 0
    assert importance_image(importance).max() == 0


def test_the_picture_is_brighter_where_it_looks_more_and_black_where_it_never_does():
    random = np.random.default_rng(1)
    importance = random.random(IMAGE_BYTES) * (random.random(IMAGE_BYTES) < 0.5)
    importance /= importance.sum()
    picture = importance_image(importance)
    assert (picture.shape, picture.dtype) == ((IMAGE_BYTES,), np.uint8)
    order = np.argsort(importance)
    assert (np.diff(picture[order].astype(int)) >= 0).all()
    assert (picture[importance == 0] == 0).all() and picture.max() == 255
    assert np.array_equal(importance_image(importance, 1), np.tile(picture[1024:2048], 3))


def test_a_few_bytes_alone_can_be_seen():
    picture = importance_image(pixel_importance(pack([small_tree()], ["a", "b"])))
    assert set(np.flatnonzero(picture)) == {5, 7}
    assert picture[5] == 255
