"""Tests of `tagging.forest.mllib`: a forest saved by MLlib is packed tree by tree, whatever the order of its rows."""

import numpy as np
import pyarrow
from forests import NAMES, count_votes, random_tree

from tagging.forest.mllib import pack_nodes


def test_the_packed_forest_votes_as_the_trees_whose_nodes_were_saved_in_any_order():
    random = np.random.default_rng(7)
    trees = [random_tree(random, depth, split_chance=0.8) for depth in (0, 3, 6)]
    rows = [
        {
            "treeID": number, "id": node, "leftChild": int(tree.left[node]), "rightChild": int(tree.right[node]),
            "featureIndex": -1 if tree.left[node] < 0 else int(tree.feature[node]),
            "threshold": None if tree.left[node] < 0 else float(tree.threshold[node]),
            "impurityStats": [float(k in (tree.leaf_class[node], 9)) for k in range(10)],  # the lowest class wins the tie
        }
        for number, tree in enumerate(trees)
        for node in range(len(tree.left))
    ]  # fmt: skip
    random.shuffle(rows)
    types = [("treeID", pyarrow.int32()), ("id", pyarrow.int32()), ("leftChild", pyarrow.int32())]
    types += [("rightChild", pyarrow.int32()), ("featureIndex", pyarrow.int32())]
    types += [("threshold", pyarrow.float64()), ("impurityStats", pyarrow.list_(pyarrow.float64()))]
    forest = pack_nodes(pyarrow.Table.from_pylist(rows, pyarrow.schema(types)), NAMES)
    images = random.integers(0, 256, (500, 3072), dtype=np.uint8)
    np.testing.assert_array_equal(forest.votes(images), count_votes(trees, images, 10))
