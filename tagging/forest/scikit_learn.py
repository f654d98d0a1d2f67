"""Trains a forest with scikit-learn: the engine for local work without a JVM."""

from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from tagging.forest import PackedForest, Tree, pack


def train(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    classes: list[str],
    trees: int = 10,
    depth: int = 10,
    seed: int = 1,
    jobs: int = -1,
) -> tuple[PackedForest, dict[str, Any]]:
    """Return a forest trained on ``images`` (n, 3072) uint8 with ``labels`` (n,), and the parameters it was trained with.

    The settings are MLlib's defaults: each tree is trained on n images drawn with replacement, and each split is the
    best by Gini impurity of sqrt(3072) pixels drawn for it; but every value of a pixel is a candidate, not 50 bins.
    ``jobs`` trees are trained at a time (-1: one a core); the forest does not depend on it. Images with a label below 0
    are left out. Raises `TinyTagsError` where none is left, and without scikit-learn.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise TinyTagsError(
            "engine scikit-learn is not installed: pip install 'tinytags[scikit-learn]'"
        ) from None

    known = labels >= 0
    if not known.any():
        raise TinyTagsError("none of the images has a label; a forest is trained on labelled images")
    if not known.all():
        images, labels = images[known], labels[known]
    parameters = {
        "trees": trees,
        "depth": depth,
        "seed": seed,
        "features_per_split": "sqrt",
        "impurity": "gini",
    }
    forest = RandomForestClassifier(
        n_estimators=trees,
        max_depth=depth,
        max_features="sqrt",
        criterion="gini",
        bootstrap=True,
        random_state=seed,
        n_jobs=jobs,
    )
    forest.fit(images, labels)
    packed = pack(
        [plain_tree(tree.tree_, forest.classes_) for tree in forest.estimators_], classes, images.shape[1]
    )
    return packed, parameters


def plain_tree(tree: Any, labels: npt.NDArray[Any]) -> Tree:
    """Return a fitted tree of scikit-learn (``tree_``) in plain arrays; ``labels`` are its forest's ``classes_``."""
    # The class of a leaf is the lowest of those with the largest share: the rule of argmax and of predict().
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        leaf_class=labels[tree.value[:, 0, :].argmax(axis=1)],
    )
