"""The nearness of a descriptor to a constant one, by which a descriptor in the index is compared with the one that was posted.

Solr can't return a descriptor unless it stores it a second time, but it can compute its similarity to another one. A
descriptor that has changed has the same nearness only by chance.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from indexing.fields import DESCRIPTOR_NUMBERS

NAME = "nearness"


def field() -> str:
    """Return the field of hits, for Solr's parameter ``fl``, that has Solr compute the nearness."""
    return f"{NAME}:vectorSimilarity(BYTE,EUCLIDEAN,descriptor,{_constant().tolist()})"


def replace_descriptors(documents: list[dict[str, Any] | None]) -> None:
    """Replace each descriptor by its nearness as Solr computes it: 1 / (1 + distance squared) in 32 bits."""
    numbers = len(_constant())
    described = [
        document for document in documents if document and len(document.get("descriptor", ())) == numbers
    ]
    if described:
        descriptors = np.array([document.pop("descriptor") for document in described], np.int64)
        squared = ((descriptors - _constant()) ** 2).sum(axis=1).astype(np.float32)
        for document, nearness in zip(described, (1 / (1 + squared)).tolist(), strict=True):
            document[NAME] = nearness


@functools.cache
def _constant() -> npt.NDArray[np.int64]:
    """Return numbers from -128 to 127 all over, as many as a descriptor has."""
    return np.arange(DESCRIPTOR_NUMBERS) * 89 % 256 - 128
