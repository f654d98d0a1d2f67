"""Computes the pixel importance of a packed forest: how much each pixel of an image counts in its splits."""

import numpy as np
import numpy.typing as npt

from tagging.forest import LEAF, PackedForest


def pixel_importance(forest: PackedForest) -> npt.NDArray[np.float64]:
    """Return (features,) float64: the share of the splits that test each byte of an image; the sum is 1.

    A split ``depth`` steps below its root counts 2**-depth: in balanced trees half as many images reach it with each
    step. All 0 for a forest without splits.
    """
    split = forest.threshold < LEAF
    weights = np.power(0.5, node_depths(forest)[split])
    sums = np.bincount(forest.feature[split], weights=weights, minlength=forest.features)
    return sums / (sums.sum() or 1)


def node_depths(forest: PackedForest) -> npt.NDArray[np.int64]:
    """Return the (nodes,) number of steps from its tree's root to each node."""
    depths = np.zeros(len(forest.feature), np.int64)
    splits = np.concatenate([[0], np.cumsum(forest.threshold < LEAF)])
    for start in forest.starts[:-1].tolist():
        # Nodes are stored breadth-first, so a level ends where the children of the splits so far end.
        level, end, depth = 0, 1, 0
        while level < end:
            depths[start + level : start + end] = depth
            level, end, depth = end, 1 + 2 * int(splits[start + end] - splits[start]), depth + 1
    return depths
