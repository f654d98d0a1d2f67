"""The packed forest: a trained random forest in the form that tags images."""

import hashlib
import io
import json
import sys
import types
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from conf.wording import first_line
from ingest.compiled import compiled
from ingest.image import IMAGE_BYTES

if TYPE_CHECKING:
    from storage.store import Store

Ints = npt.NDArray[np.int64]

FILE = "forest.npz"
VERSION = 1
LEAF = 255  # a threshold that no pixel exceeds
MOST_TREES = 65_535  # the largest number of votes in uint16
KERNEL = "tagging.forest.kernel"
# The steps from node to node that a process takes with numpy before it imports numba and the kernel. At 30 to 50 ns a step
# these are less than a fifth of the 1.1 to 1.3 s of processor time that the import takes: 36,000 images for 10 trees of
# depth 10.
NUMPY_STEPS = 4_000_000
_MEMBERS = ("about", "feature", "threshold", "starts")
# Taken in this process; threads may count wrongly, which changes only when numba is imported.
_numpy_steps = [0]


def compiled_kernel() -> types.ModuleType:
    """Return `tagging.forest.kernel`; imports numba."""
    return compiled(KERNEL)


@dataclass(frozen=True, eq=False)
class Tree:
    """One decision tree in plain arrays of one length; node 0 is the root, and a node with ``left`` < 0 is a leaf."""

    feature: npt.NDArray[Any]  # the pixel (byte of the image) that a node tests
    threshold: npt.NDArray[Any]  # float: left where pixel <= threshold, right otherwise
    left: npt.NDArray[Any]  # number of the left child, < 0 for a leaf
    right: npt.NDArray[Any]
    leaf_class: npt.NDArray[Any]  # the class that a leaf votes for; any number where the node is no leaf


@dataclass(frozen=True, eq=False)
class PackedForest:
    """A forest whose trees are stored one after another, each breadth-first, so that the order of the splits gives the children.

    Node k of a tree that is its j-th split (from 0) has the children 2j + 1 and 2j + 2. A split tests pixel
    ``feature`` and goes left where it is <= ``threshold`` (0-254); a leaf has threshold 255 and its class as ``feature``.
    Raises `TinyTagsError` for arrays that are no such forest.
    """

    kind: ClassVar[str] = "forest"
    importance_note: ClassVar[str] = (
        "The share of the splits that test a pixel; a split counts half as much with each step from the root of its tree."
    )

    classes: tuple[str, ...]
    features: int  # bytes of an image
    feature: npt.NDArray[np.uint32]  # (nodes,)
    threshold: npt.NDArray[np.uint8]  # (nodes,)
    starts: Ints  # (trees + 1,): tree t is nodes starts[t] to starts[t + 1]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise TinyTagsError(f"not a forest: {problem}")

    @property
    def trees(self) -> int:
        return len(self.starts) - 1

    @property
    def voters(self) -> int:
        """As in `tagging.model.Model`: each tree has one vote."""
        return self.trees

    @cached_property
    def depths(self) -> Ints:
        """The (trees,) numbers of steps from each root to its deepest leaf."""
        depths = np.zeros(self.trees, np.int64)
        splits = np.concatenate([[0], np.cumsum(self.threshold < LEAF)])
        for tree in range(self.trees):
            start = int(self.starts[tree])
            before = int(splits[start])
            end = 1  # of the level, within the tree
            while (next_end := 1 + 2 * (int(splits[start + end]) - before)) > end:
                end = next_end
                depths[tree] += 1
        return depths

    @cached_property
    def hash(self) -> str:
        """The sha256 of everything that decides the votes; the same on every machine and for every numpy."""
        about = json.dumps([VERSION, list(self.classes), self.features, self.trees, len(self.feature)])
        digest = hashlib.sha256(about.encode())
        for array, dtype in ((self.feature, "<u4"), (self.threshold, "u1"), (self.starts, "<i8")):
            digest.update(np.ascontiguousarray(array, dtype).tobytes())
        return digest.hexdigest()

    def votes(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """Return (n, classes) uint16, the number of trees that vote for each class, for ``images`` (n, features) uint8.

        The rows may be any distance apart in memory. Threads that call this at once run in parallel.
        Raises `TinyTagsError` for an array of another shape or type.
        """
        if images.ndim != 2 or images.shape[1] != self.features or images.dtype != np.uint8:
            raise TinyTagsError(
                f"the forest is for images of {self.features:,} bytes (uint8), not for an array of "
                f"{images.dtype} {images.shape}"
            )
        n = len(images)
        if self._numpy_is_quicker(n):
            return self._votes_by_numpy(images)
        votes = np.zeros((n, len(self.classes)), np.uint16)
        if n:
            if images.strides[1] != 1 or (n > 1 and images.strides[0] < self.features):
                images = np.ascontiguousarray(images)
            stride = images.strides[0] if n > 1 else self.features
            length = (n - 1) * stride + self.features
            pixels = np.lib.stride_tricks.as_strided(images, (length,), (1,), writeable=False)
            nodes, roots, depths, weights = self._walk_arrays
            walk = compiled_kernel().walk_narrow if nodes.dtype == np.uint32 else compiled_kernel().walk_wide
            walk(pixels, n, stride, self.features, nodes, roots, depths, weights, votes)
        return votes

    def tree(self, number: int) -> Tree:
        """Return tree ``number`` in plain arrays."""
        nodes = slice(self.starts[number], self.starts[number + 1])
        leaf = self.threshold[nodes] == LEAF
        left = np.where(leaf, -1, self._left[nodes])
        return Tree(
            feature=np.where(leaf, 0, self.feature[nodes]).astype(np.int64),
            threshold=self.threshold[nodes].astype(np.float64),
            left=left,
            right=np.where(leaf, -1, left + 1),
            leaf_class=np.where(leaf, self.feature[nodes], -1).astype(np.int64),
        )

    def pixel_importance(self) -> npt.NDArray[np.float64]:
        """As in `tagging.model.Explained`."""
        from tagging.forest.importance import pixel_importance

        return pixel_importance(self)

    def files(self) -> dict[str, bytes]:
        """As in `tagging.model.Model`."""
        return {FILE: self.save()}

    @classmethod
    def load(cls, store: "Store", folder: str) -> "PackedForest":
        """As in `tagging.model.Model`."""
        path = f"{folder}/{FILE}"
        return load(store.read_bytes(path), store.url(path))

    def save(self) -> bytes:
        """Return the forest as an .npz file without pickles; equal forests give equal bytes."""
        about = {
            "format": "tinytags-forest",
            "version": VERSION,
            "classes": self.classes,
            "features": self.features,
        }
        file = io.BytesIO()
        np.savez(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            feature=self.feature.astype("<u4"),
            threshold=self.threshold,
            starts=self.starts.astype("<i8"),
        )
        return file.getvalue()

    @cached_property
    def _left(self) -> Ints:
        """Each node's left child, numbered within its tree; without meaning for leaves."""
        split = self.threshold < LEAF
        rank: Ints = np.cumsum(split) - split  # splits before this node
        left: Ints = 1 + 2 * (rank - np.repeat(rank[self.starts[:-1]], np.diff(self.starts)))
        return left

    def _numpy_is_quicker(self, images: int) -> bool:
        """Return whether numpy votes on so many more ``images`` before numba is imported."""
        steps = _numpy_steps[0] + images * int((self.depths + 1).sum())
        if KERNEL in sys.modules or steps > NUMPY_STEPS:
            return False
        _numpy_steps[0] = steps
        return True

    def _votes_by_numpy(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """Return the same votes as the kernel, from all trees a level at a time."""
        classes, rows = len(self.classes), np.arange(len(images))[:, None]
        at = np.tile(self.starts[:-1], (len(images), 1))
        for _ in range(int(self.depths.max())):
            at = self._next[at] + (images[rows, self.feature[at]] > self.threshold[at])
        cells = (rows * classes + self.feature[at]).ravel()
        votes = np.bincount(cells, minlength=len(images) * classes)
        return votes.reshape(-1, classes).astype(np.uint16)

    @cached_property
    def _next(self) -> Ints:
        """Each node's left child, numbered within the forest; a leaf is its own."""
        sizes = np.diff(self.starts)
        left = self._left + np.repeat(self.starts[:-1], sizes)
        return np.where(self.threshold == LEAF, np.arange(len(left)), left)

    @cached_property
    def _walk_arrays(self) -> tuple[npt.NDArray[Any], Ints, Ints, npt.NDArray[np.uint16]]:
        """The arrays for the kernel: nodes, and the roots, depths and weights of the trees from shallow to deep."""
        sizes = np.diff(self.starts)
        narrow = sizes.max() <= 4096 and self.features <= 4096
        feature_shift, threshold_shift, _ = compiled_kernel().NARROW if narrow else compiled_kernel().WIDE
        within = np.arange(len(self.feature)) - np.repeat(self.starts[:-1], sizes)
        child = np.where(self.threshold == LEAF, within, self._left).astype(np.uint64)
        nodes = self.feature.astype(np.uint64) << np.uint64(feature_shift)
        nodes |= self.threshold.astype(np.uint64) << np.uint64(threshold_shift)
        nodes |= child
        # Trees of one depth together: a group takes as many steps as its deepest tree.
        order = np.argsort(self.depths, kind="stable")
        roots, depths = self.starts[:-1][order], self.depths[order]
        weights = np.ones(self.trees, np.uint16)
        remainder = self.trees % compiled_kernel().TOGETHER
        if remainder > 3:  # up to three are faster one by one than filled up with trees of weight 0
            fill = compiled_kernel().TOGETHER - remainder
            roots, depths = (
                np.append(roots, np.repeat(roots[-1], fill)),
                np.append(depths, np.repeat(depths[-1], fill)),
            )
            weights = np.append(weights, np.zeros(fill, np.uint16))
        return nodes.astype(np.uint32 if narrow else np.uint64), roots.astype(np.int64), depths, weights

    def _problem(self) -> str | None:
        if not self.classes or not all(isinstance(name, str) and name for name in self.classes):
            return "it has no classes, or one without a name"
        if len(set(self.classes)) < len(self.classes):
            return "two of its classes have one name"
        # The walk reads a byte of the image at each leaf, too: the one whose number is the leaf's class.
        if not len(self.classes) <= self.features <= 2**24:
            return f"{self.features:,} features for {len(self.classes):,} classes"
        for name, dtype in (("feature", np.uint32), ("threshold", np.uint8), ("starts", np.int64)):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != dtype:
                return f"{name!r} is {array.dtype} {array.shape}, not a row of {np.dtype(dtype)}"
        nodes, starts = len(self.feature), self.starts
        if len(self.threshold) != nodes:
            return f"{nodes:,} features, but {len(self.threshold):,} thresholds"
        if not 1 <= self.trees <= MOST_TREES:
            return f"{self.trees:,} trees; it may have 1 to {MOST_TREES:,}"
        if starts[0] != 0 or starts[-1] != nodes or (np.diff(starts) < 1).any():
            return f"its trees don't divide its {nodes:,} nodes among themselves"
        split = self.threshold < LEAF
        within = np.arange(nodes) - np.repeat(starts[:-1], np.diff(starts))
        splits = np.add.reduceat(split, starts[:-1], dtype=np.int64)
        wrong = np.flatnonzero(np.diff(starts) != 1 + 2 * splits)
        if len(wrong):
            return f"tree {wrong[0]} has {splits[wrong[0]]:,} splits in {np.diff(starts)[wrong[0]]:,} nodes"
        if (split & (self._left <= within)).any():
            return "a node comes before its parent"
        if (self.feature[split] >= self.features).any():
            return f"a split tests pixel {self.feature[split].max():,} of {self.features:,}"
        if (self.feature[~split] >= len(self.classes)).any():
            return f"a leaf votes for class {self.feature[~split].max():,} of {len(self.classes):,}"
        return None


def pack(trees: list[Tree], classes: list[str], features: int = IMAGE_BYTES) -> PackedForest:
    """Return the packed forest of ``trees``, which votes exactly as they do on pixels 0-255.

    Raises `TinyTagsError` for a tree with a child, feature or class out of range, a cycle, or a threshold that is no number.
    """
    if not trees:
        raise TinyTagsError("not a forest: it has no trees")
    packed = [_pack_tree(tree, number, len(classes), features) for number, tree in enumerate(trees)]
    return PackedForest(
        classes=tuple(classes),
        features=features,
        feature=np.concatenate([feature for feature, _ in packed]),
        threshold=np.concatenate([threshold for _, threshold in packed]),
        starts=np.cumsum([0] + [len(feature) for feature, _ in packed], dtype=np.int64),
    )


def _pack_tree(
    tree: Tree, number: int, classes: int, features: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Return the tree's nodes breadth-first: the pixel or, for a leaf, the class of each, and its threshold."""
    feature, left, right, leaf_class = (
        np.asarray(array, np.int64) for array in (tree.feature, tree.left, tree.right, tree.leaf_class)
    )
    threshold = np.asarray(tree.threshold, np.float64)
    nodes = len(left)
    if nodes == 0 or {array.shape for array in (feature, threshold, left, right, leaf_class)} != {(nodes,)}:
        raise TinyTagsError(f"tree {number} is not five equally long, non-empty rows")
    split = left >= 0
    if (split & ((left >= nodes) | (right < 0) | (right >= nodes))).any():
        raise TinyTagsError(f"tree {number} has a child outside its {nodes:,} nodes")
    if (split & ((feature < 0) | (feature >= features))).any():
        raise TinyTagsError(f"tree {number} tests a pixel outside the {features:,} of an image")
    if (~split & ((leaf_class < 0) | (leaf_class >= classes))).any():
        raise TinyTagsError(f"tree {number} votes for a class outside the {classes:,} there are")
    if np.isnan(threshold[split]).any():
        raise TinyTagsError(f"tree {number} has a threshold that is no number")

    # Pixels are whole numbers, so the whole part of a threshold decides. A node whose threshold every pixel or none
    # exceeds is replaced by the child that is always taken.
    whole = np.floor(np.clip(threshold, -1, 256))
    always = np.where(split & (whole < 0), right, np.where(split & (whole >= LEAF), left, -1))
    seen = np.zeros(nodes, bool)
    levels = []
    level = np.zeros(1, np.int64)
    while len(level):
        while True:
            if seen[level].any() or len(np.unique(level)) < len(level):
                raise TinyTagsError(f"tree {number} reaches a node twice: it is no tree")
            seen[level] = True
            stays = always[level] < 0
            if stays.all():
                break
            # Nodes that stay are checked again as part of the shortened level.
            seen[level[stays]] = False
            level = np.where(stays, level, always[level])
        levels.append(level)
        parents = level[split[level]]
        level = np.column_stack([left[parents], right[parents]]).reshape(-1)
    order = np.concatenate(levels)
    leaf = ~split[order]
    return (
        np.where(leaf, leaf_class[order], feature[order]).astype(np.uint32),
        np.where(leaf, LEAF, whole[order]).astype(np.uint8),
    )


def load(data: bytes, name: str = "forest.npz") -> PackedForest:
    """Return the forest that `PackedForest.save` wrote as ``data``; ``name`` is for the message.

    Raises `TinyTagsError` for anything else. No pickle is loaded, nothing in the file is run, and every number is checked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(f"{member}.npy" for member in _MEMBERS):
            raise ValueError("it holds other arrays than a forest's")
        if any(
            member.compress_type != zipfile.ZIP_STORED or member.file_size > len(data) for member in members
        ):
            raise ValueError("its arrays are compressed")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            about, feature, threshold, starts = (arrays[member] for member in _MEMBERS)
        about = json.loads(about.tobytes())
        if about["format"] != "tinytags-forest" or about["version"] != VERSION:
            raise ValueError(f"it is {about['format']!r} version {about['version']!r}, not {VERSION}")
        return PackedForest(tuple(about["classes"]), int(about["features"]), feature, threshold, starts)
    except Exception as error:  # a zip of arrays can be broken in more ways than its readers document
        reason = first_line(error)
        raise TinyTagsError(
            f"{name}: {reason.removeprefix('not a forest: ')}; train or copy the model again"
        ) from error
