"""Trains a forest with scikit-learn: the engine for local work without a JVM."""

import numpy as np

from conf.errors import TinyTagsError
from tagging.forest import PackedForest, Tree, pack


def train(
    images: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    trees: int = 10,
    depth: int = 10,
    seed: int = 1,
    jobs: int = -1,
) -> tuple[PackedForest, dict]:
    """Return a forest trained on ``images`` (n, 3072) uint8 with ``labels`` (n,), and the parameters it was trained with.

    As MLlib's forests are by default: each tree sees n images drawn with replacement, each split the best by Gini
    impurity of sqrt(3072) pixels drawn anew; but every value of a pixel is a candidate, not 50 bins of them.
    ``jobs`` trees grow at a time (-1: one a core); the forest does not depend on it. Images with a label below 0 are
    left out. Raises TinyTagsError where none is left.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise TinyTagsError(
            "this engine is scikit-learn, which is not installed: pip install 'tinytags[scikit-learn]'"
        ) from None

    known = labels >= 0
    if not known.any():
        raise TinyTagsError("none of the images has a label: a forest learns from labelled ones")
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
        [_plain(tree.tree_, forest.classes_) for tree in forest.estimators_], classes, images.shape[1]
    )
    return packed, parameters


def _plain(tree, labels: np.ndarray) -> Tree:
    # A leaf's class is the lowest of those with the largest share, which is argmax's and predict()'s rule too.
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        leaf_class=labels[tree.value[:, 0, :].argmax(axis=1)],
    )
