"""Pixel importance: how much a packed forest looks at each pixel of an image."""

import numpy as np

from tagging.forest import LEAF, PackedForest


def pixel_importance(forest: PackedForest) -> np.ndarray:
    """Return (features,) float64: the share of its looks that a forest gives to each byte of an image; they add up to 1.

    A node ``depth`` steps below its root counts 2**-depth, for half as many images come by with every step, if trees
    were balanced. All zero for a forest of leaves alone.
    """
    split = forest.threshold < LEAF
    weights = 0.5 ** node_depths(forest)[split]
    looks = np.bincount(forest.feature[split], weights=weights, minlength=forest.features)
    return looks / (looks.sum() or 1)


def node_depths(forest: PackedForest) -> np.ndarray:
    """Return the (nodes,) int64 number of steps from its tree's root to each node."""
    depths = np.zeros(len(forest.feature), np.int64)
    splits = np.concatenate([[0], np.cumsum(forest.threshold < LEAF)])
    for start in forest.starts[:-1].tolist():
        # Nodes lie breadth-first, so a level ends where the children of the splits so far do.
        level, end, depth = 0, 1, 0
        while level < end:
            depths[start + level : start + end] = depth
            level, end, depth = end, 1 + 2 * int(splits[start + end] - splits[start]), depth + 1
    return depths


def importance_image(importance: np.ndarray, channel: int | None = None) -> np.ndarray:
    """Return (3072,) uint8 for `ingest.image.to_png`: black where a forest never looks, the brighter the more it does.

    With a ``channel`` (0 red, 1 green, 2 blue) that one in greys; all are on one scale. The few bytes at the roots would
    leave the rest black: so the one in a hundred that is looked at most is as bright as can be, and below it brightness
    is the square root of the importance.
    """
    bright = np.sqrt(np.minimum(importance / (np.quantile(importance, 0.99) or importance.max() or 1), 1))
    if channel is not None:
        bright = np.tile(bright.reshape(3, -1)[channel], 3)
    return np.round(255 * bright).astype(np.uint8)
