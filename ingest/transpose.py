"""The compiled loop of reading column-major dumps: turns rows of pixels into columns, 8 x 8 at a time.

Import it by `ingest.compiled`; ``python -m ingest.transpose`` compiles it ahead of first use.
"""

import numpy as np
from numba import njit, types

_WORDS = 3072 // 8  # of an image: 3 planes of 32 rows of 4
_BYTES, _PAIRS, _HALVES = (
    np.uint64(mask) for mask in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF)
)


@njit(nogil=True)
def _swap(a, b, shift, mask):
    """Return a word with what ``mask`` leaves of another one in place of its own upper parts, and the other way round."""
    parts = ((a >> shift) ^ b) & mask
    return a ^ (parts << shift), b ^ parts


@njit(
    types.void(types.Array(types.uint64, 2, "C", readonly=True), types.Array(types.uint64, 2, "C")),
    cache=True,
    nogil=True,
)
def transpose(images, out):
    """Write images (n, 384) uint64, eight pixels a word, to ``out`` of the same shape with rows and columns changed over.

    Transposing 8 x 8 bytes in three steps, each of which swaps half of a word with half of another, is in Henry S.
    Warren's "Hacker's Delight", 7-3, for bits.
    """
    eight, sixteen, half = np.uint64(8), np.uint64(16), np.uint64(32)
    for i in range(images.shape[0]):
        for first in range(0, _WORDS, 128):
            for down in range(4):
                for right in range(4):
                    at = first + 32 * down + right
                    a, b, c, d = images[i, at], images[i, at + 4], images[i, at + 8], images[i, at + 12]
                    e, f, g, h = (
                        images[i, at + 16],
                        images[i, at + 20],
                        images[i, at + 24],
                        images[i, at + 28],
                    )
                    a, b = _swap(a, b, eight, _BYTES)
                    c, d = _swap(c, d, eight, _BYTES)
                    e, f = _swap(e, f, eight, _BYTES)
                    g, h = _swap(g, h, eight, _BYTES)
                    a, c = _swap(a, c, sixteen, _PAIRS)
                    b, d = _swap(b, d, sixteen, _PAIRS)
                    e, g = _swap(e, g, sixteen, _PAIRS)
                    f, h = _swap(f, h, sixteen, _PAIRS)
                    a, e = _swap(a, e, half, _HALVES)
                    b, f = _swap(b, f, half, _HALVES)
                    c, g = _swap(c, g, half, _HALVES)
                    d, h = _swap(d, h, half, _HALVES)
                    at = first + 32 * right + down
                    out[i, at], out[i, at + 4], out[i, at + 8], out[i, at + 12] = a, b, c, d
                    out[i, at + 16], out[i, at + 20], out[i, at + 24], out[i, at + 28] = e, f, g, h
