"""A grid search with cross-validation: how the accuracy of a forest depends on its trees, depth, leaf size and split size."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tagging.comparison import percent, size_text

# Trees are grown a part at a time, so that one fit gives the accuracy of smaller forests too.
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class Cell:
    """The parameters of a forest but for the number of its trees."""

    depth: int  # deepest that a tree may grow
    leaf: int  # fewest training images in a leaf
    split: int  # fewest training images in a node that is split


def cells(depths: Sequence[int], leaves: Sequence[int], splits: Sequence[int]) -> list[Cell]:
    """Return all combinations, without those that are the same forest: a node of fewer than two leaves is never split."""
    every = itertools.product(sorted(set(depths)), sorted(set(leaves)), sorted(set(splits)))
    return list(dict.fromkeys(Cell(depth, leaf, max(split, 2 * leaf)) for depth, leaf, split in every))


def tree_counts(trees: int) -> list[int]:
    """Return the numbers of trees, up to ``trees``, whose accuracy is measured."""
    return [*(count for count in COUNTS if count < trees), trees]


def fold_rows(labels: npt.NDArray[Any], folds: int, fold: int, seed: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the rows to fit on and those to measure on; each fold has the same share of each class, as far as possible."""
    from sklearn.model_selection import StratifiedKFold

    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
    fitted, measured = next(itertools.islice(parts, fold, None))
    return fitted, measured


def measure_fold(
    codes: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int32],
    classes: list[str],
    cell: Cell,
    trees: int,
    folds: int,
    fold: int,
    seed: int,
) -> dict[str, Any]:
    """Fit up to ``trees`` trees on one fold's part of ``codes`` (n, k) with ``labels`` (n,) and measure them on the rest.

    Each tree has one vote, as in `tinytags tag`. ``forests`` of the result has for each of `tree_counts` the images with the
    right tag, the bytes of the packed forest and the processor seconds of the fit.
    """
    from sklearn.ensemble import RandomForestClassifier

    from tagging.forest import pack
    from tagging.forest.scikit_learn import plain_tree

    fitted, measured = fold_rows(labels, folds, fold, seed)
    votes = np.zeros((len(measured), len(classes)), np.int64)
    forests = []
    grown = size = 0
    seconds = 0.0
    for count in tree_counts(trees):
        began = time.process_time()
        # Another seed for each part, or its trees would be those of the first part again.
        part = RandomForestClassifier(
            count - grown, max_depth=cell.depth, min_samples_leaf=cell.leaf, min_samples_split=cell.split,
            max_features="sqrt", random_state=seed + 1_000 * grown, n_jobs=1,
        ).fit(codes[fitted], labels[fitted])  # fmt: skip
        packed = pack(
            [plain_tree(tree.tree_, part.classes_) for tree in part.estimators_], classes, codes.shape[1]
        )
        seconds += time.process_time() - began
        votes += packed.votes(codes[measured])
        size += len(packed.save())
        grown = count
        right = int((votes.argmax(axis=1) == labels[measured]).sum())
        forests.append({"trees": count, "right": right, "bytes": size, "seconds": round(seconds, 3)})
    return {**asdict(cell), "fold": fold, "images": len(measured), "forests": forests}


def summarise(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each cell and number of trees, the most accurate first.

    ``accuracy`` is that of all folds together, ``deviation`` the standard deviation of the folds' accuracies.
    """
    key = ("depth", "leaf", "split")
    rows = []
    ordered = sorted(results, key=lambda result: tuple(result[name] for name in key))
    for values, group in itertools.groupby(ordered, key=lambda result: tuple(result[name] for name in key)):
        folds = list(group)
        for forests in zip(*(fold["forests"] for fold in folds), strict=True):
            shares = [forest["right"] / fold["images"] for forest, fold in zip(forests, folds, strict=True)]
            rows.append({
                **dict(zip(key, values, strict=True)),
                "trees": forests[0]["trees"],
                "folds": len(folds),
                "accuracy": round(sum(forest["right"] for forest in forests) / sum(fold["images"] for fold in folds), 6),
                "deviation": round(float(np.std(shares)), 6),
                "fit_processor_seconds": round(sum(forest["seconds"] for forest in forests) / len(folds), 2),
                "bytes": round(sum(forest["bytes"] for forest in forests) / len(folds)),
            })  # fmt: skip
    return sorted(rows, key=lambda row: -row["accuracy"])


def effects(rows: Sequence[Mapping[str, Any]], trees: int) -> Iterator[tuple[str, int, float]]:
    """Yield each parameter, each of its values, and the mean accuracy of the cells with it, at ``trees`` trees."""
    rows = [row for row in rows if row["trees"] == trees]
    for name in ("depth", "leaf", "split"):
        for value in sorted({row[name] for row in rows}):
            with_it = [row["accuracy"] for row in rows if row[name] == value]
            yield name, value, sum(with_it) / len(with_it)


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return for people the best cell at each number of trees, and what each parameter changes at the most trees."""
    if not rows:
        return "nothing is measured yet"
    lines = ["trees  depth  leaf  split  accuracy          fit, cpu-s      size"]
    for trees in sorted({row["trees"] for row in rows}):
        row = next(row for row in rows if row["trees"] == trees)
        lines.append(
            f"{trees:5}  {row['depth']:5}  {row['leaf']:4}  {row['split']:5}  "
            f"{100 * row['accuracy']:5.1f} +- {100 * row['deviation']:.1f} %  "
            f"{row['fit_processor_seconds']:12,.1f}  {size_text(row['bytes']):>8}"
        )
    most = max(row["trees"] for row in rows)
    lines.append(
        f"The best of each number of trees; +-: standard deviation of {rows[0]['folds']} folds. At {most} trees, on average:"
    )
    lines += [f"  {name} {value}: {percent(accuracy)}" for name, value, accuracy in effects(rows, most)]
    return "\n".join(lines)
