"""Packs a forest that MLlib trained."""

from typing import TYPE_CHECKING

import numpy as np

from ingest.image import IMAGE_BYTES
from tagging.forest import PackedForest, Tree, pack

if TYPE_CHECKING:
    import pyarrow

# In Spark's SQL, from the Parquet file ``data`` of the saved forest.
COLUMNS = (
    "treeID",
    "nodeData.id",
    "nodeData.leftChild",
    "nodeData.rightChild",
    "nodeData.split.featureIndex",
    "get(nodeData.split.leftCategoriesOrThreshold, 0) AS threshold",
    "nodeData.impurityStats",
)


def pack_nodes(nodes: "pyarrow.Table", classes: list[str], features: int = IMAGE_BYTES) -> PackedForest:
    """Return the packed forest of a saved MLlib forest's ``nodes``: a row a node, with the columns in `COLUMNS`.

    ``features`` is the number of bytes of an input.

    The format is that of Spark's ``EnsembleModelReadWrite``: one row a node with treeID and nodeData, whose leftChild is
    negative for a leaf; an image goes left where its feature is <= the threshold. A leaf's class is the largest of its
    impurityStats, the lowest class on a tie, which is what each tree of MLlib predicts.
    """
    nodes = nodes.sort_by([("treeID", "ascending"), ("id", "ascending")])
    tree_of = nodes["treeID"].to_numpy()
    columns = {
        "feature": nodes["featureIndex"].to_numpy(),
        "threshold": nodes["threshold"].fill_null(0).to_numpy(),  # a leaf has none
        "left": nodes["leftChild"].to_numpy(),
        "right": nodes["rightChild"].to_numpy(),
        "leaf_class": np.array([np.argmax(counts) for counts in nodes["impurityStats"].to_pylist()]),
    }
    trees = [
        Tree(**{name: column[tree_of == tree] for name, column in columns.items()})
        for tree in np.unique(tree_of)
    ]
    return pack(trees, classes, features)
