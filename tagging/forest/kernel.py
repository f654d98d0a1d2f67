"""The compiled inner loop of tagging: it walks a packed forest.

Import it by `ingest.compiled`; ``python -m tagging.forest.kernel`` compiles it ahead of first use.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

# A node is one whole number, from the highest bit: feature | threshold | left child. The right child follows the left
# one. A leaf is its own left child, its threshold of 255 is never exceeded, and its feature is its class.
NARROW = (20, 12, 0xFFF)  # uint32: up to 4,096 features and 4,096 nodes a tree
WIDE = (40, 32, 0xFFFFFFFF)  # uint64: up to 2**24 features and 2**32 nodes a tree

# Trees that advance together, so that their loads overlap: ten are 1.7 times as fast as one after the other where the
# forest is small and 2.5 times where it is large; twenty gain another tenth, and only on hundreds of trees.
TOGETHER = 10

# Images that the whole forest walks over before the next ones are fetched: 128 x 3,072 bytes fit the second-level cache.
BLOCK = 128


@njit(nogil=True)
def step(  # type: ignore[no-untyped-def]  # numba infers the types
    nodes, root, at, pixels, image, feature_shift, threshold_shift, threshold_mask, child_mask
):
    node = nodes[at]
    right = pixels[image + np.uint64(node >> feature_shift)] > ((node >> threshold_shift) & threshold_mask)
    return root + np.uint64(node & child_mask) + np.uint64(right)


def _compile_walk(
    node_type: type[np.unsignedinteger[Any]], numba_type: Any, layout: tuple[int, int, int]
) -> Callable[..., int]:
    # Only numbers in this closure: a compiled function in it would be a new cache key in each process.
    fs, ts, cm = (node_type(number) for number in layout)
    tm = node_type(0xFF)

    signature = types.uint64(
        types.Array(types.uint8, 1, "C", readonly=True),
        types.int64,
        types.int64,
        types.int64,
        types.Array(numba_type, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.uint16, 1, "C", readonly=True),
        types.Array(types.uint16, 2, "C"),
    )

    @njit(signature, cache=True, nogil=True)
    def walk(pixels, images, stride, features, nodes, roots, depths, weights, votes):  # type: ignore[no-untyped-def]  # as above
        """Add each tree's vote for each image to ``votes`` (images, classes); image i begins at ``pixels[i * stride]``.

        Tree t begins at ``nodes[roots[t]]``, is at most ``depths[t]`` deep (ascending) and its vote counts ``weights[t]``.
        """
        trees = roots.size
        touched = np.uint64(0)
        for block in range(0, images, BLOCK):
            end = min(block + BLOCK, images)
            # The bytes that a forest reads follow no order that the processor can predict, but they touch most cache
            # lines of an image. Reading one byte of each first, in order, doubles the speed.
            for i in range(block, end):
                for pixel in range(0, features, 64):
                    touched += pixels[np.uint64(i * stride + pixel)]
            first = 0
            while first + TOGETHER <= trees:
                r0 = np.uint64(roots[first])
                r1 = np.uint64(roots[first + 1])
                r2 = np.uint64(roots[first + 2])
                r3 = np.uint64(roots[first + 3])
                r4 = np.uint64(roots[first + 4])
                r5 = np.uint64(roots[first + 5])
                r6 = np.uint64(roots[first + 6])
                r7 = np.uint64(roots[first + 7])
                r8 = np.uint64(roots[first + 8])
                r9 = np.uint64(roots[first + 9])
                depth = depths[first + 9]
                for i in range(block, end):
                    image = np.uint64(i * stride)
                    p0, p1, p2, p3, p4, p5, p6, p7, p8, p9 = r0, r1, r2, r3, r4, r5, r6, r7, r8, r9
                    for _ in range(depth):
                        p0 = step(nodes, r0, p0, pixels, image, fs, ts, tm, cm)
                        p1 = step(nodes, r1, p1, pixels, image, fs, ts, tm, cm)
                        p2 = step(nodes, r2, p2, pixels, image, fs, ts, tm, cm)
                        p3 = step(nodes, r3, p3, pixels, image, fs, ts, tm, cm)
                        p4 = step(nodes, r4, p4, pixels, image, fs, ts, tm, cm)
                        p5 = step(nodes, r5, p5, pixels, image, fs, ts, tm, cm)
                        p6 = step(nodes, r6, p6, pixels, image, fs, ts, tm, cm)
                        p7 = step(nodes, r7, p7, pixels, image, fs, ts, tm, cm)
                        p8 = step(nodes, r8, p8, pixels, image, fs, ts, tm, cm)
                        p9 = step(nodes, r9, p9, pixels, image, fs, ts, tm, cm)
                    tree = first
                    for p in (p0, p1, p2, p3, p4, p5, p6, p7, p8, p9):
                        votes[i, np.uint64(nodes[p] >> fs)] += weights[tree]
                        tree += 1
                first += TOGETHER
            for tree in range(first, trees):
                root = np.uint64(roots[tree])
                for i in range(block, end):
                    image = np.uint64(i * stride)
                    p = root
                    for _ in range(depths[tree]):
                        p = step(nodes, root, p, pixels, image, fs, ts, tm, cm)
                    votes[i, np.uint64(nodes[p] >> fs)] += weights[tree]
        return touched  # so that the compiler can't remove the reading

    compiled: Callable[..., int] = walk
    return compiled


walk_narrow = _compile_walk(np.uint32, types.uint32, NARROW)
walk_wide = _compile_walk(np.uint64, types.uint64, WIDE)
