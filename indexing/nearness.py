"""How near a descriptor is to a constant one: that tells of a descriptor in the index whether it is the one that was posted.

Solr can't give a descriptor back, for it would have to keep it twice; but it can measure from it. A descriptor that has
changed is as near to the constant one as before only by chance.
"""

import functools

import numpy as np

from indexing.fields import DESCRIPTOR_NUMBERS

NAME = "nearness"


def field() -> str:
    """Return what has Solr put the nearness into its hits, for ``fl``."""
    return f"{NAME}:vectorSimilarity(BYTE,EUCLIDEAN,descriptor,{_constant().tolist()})"


def replace_descriptors(documents: list[dict | None]) -> None:
    """Put the nearness that Solr should tell, 1 / (1 + distance squared) in 32 bits, in the place of each descriptor."""
    numbers = len(_constant())
    found = [
        document for document in documents if document and len(document.get("descriptor", ())) == numbers
    ]
    if found:
        descriptors = np.array([document.pop("descriptor") for document in found], np.int64)
        squared = ((descriptors - _constant()) ** 2).sum(axis=1).astype(np.float32)
        for document, nearness in zip(found, (1 / (1 + squared)).tolist(), strict=True):
            document[NAME] = nearness


@functools.cache
def _constant() -> np.ndarray:
    """Return numbers from -128 to 127 all over, as many as a descriptor has."""
    return np.arange(DESCRIPTOR_NUMBERS) * 89 % 256 - 128
