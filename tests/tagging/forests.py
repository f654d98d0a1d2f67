"""Random forests for tests, and a plain implementation of walking one."""

import numpy as np

from ingest.image import IMAGE_BYTES
from tagging.forest import Tree

NAMES = ["aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry"]


def random_tree(random, depth, classes=10, features=IMAGE_BYTES, split_chance=1.0, thresholds=(0, 255)):
    """Return a tree whose nodes are numbered in random order (the root is 0); full where ``split_chance`` is 1."""
    left, right, level = [-1], [-1], [0]
    for _ in range(depth):
        below = []
        for node in level:
            if random.random() < split_chance:
                left[node], right[node] = len(left), len(left) + 1
                below += [len(left), len(left) + 1]
                left += [-1, -1]
                right += [-1, -1]
        level = below
    nodes = len(left)
    renumbered = np.concatenate([[0], 1 + random.permutation(nodes - 1)]).astype(np.int64)
    tree = {
        "feature": random.integers(0, features, nodes),
        "threshold": random.integers(*thresholds, nodes) + random.choice([0.0, 0.5], nodes),
        "left": np.array([-1 if child < 0 else renumbered[child] for child in left]),
        "right": np.array([-1 if child < 0 else renumbered[child] for child in right]),
        "leaf_class": random.integers(0, classes, nodes),
    }
    return Tree(**{name: array[np.argsort(renumbered)] for name, array in tree.items()})


def walk(tree, images):
    """Return the class that ``tree`` votes for, for each image, by comparing floats a level at a time."""
    at = np.zeros(len(images), np.int64)
    while (tree.left[at] >= 0).any():
        split = tree.left[at] >= 0
        goes_left = images[np.arange(len(images)), tree.feature[at]].astype(float) <= tree.threshold[at]
        at = np.where(split, np.where(goes_left, tree.left[at], tree.right[at]), at)
    return tree.leaf_class[at]


def count_votes(trees, images, classes):
    votes = np.zeros((len(images), classes), np.int64)
    for tree in trees:
        votes[np.arange(len(images)), walk(tree, images)] += 1
    return votes
