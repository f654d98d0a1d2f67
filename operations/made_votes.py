"""Writes the tags of made votes as the tag job writes those of a model, for benches and attacks that need no images."""

import hashlib

import numpy as np
import numpy.typing as npt

from storage import layout
from storage.runs import Run
from storage.store import Store
from tagging import tags


def write_votes(store: Store, run: Run, partition: int, votes: npt.NDArray[np.unsignedinteger]) -> int:
    """Write a partition of a run as the tag job does, of votes (n, classes) on its images; return the number of documents."""
    lines, counts = tags.documents(run, partition, tags.winners(votes))
    store.write_bytes(layout.run_tags(run.name, partition), lines)
    histogram = {str(k): int(n) for k, n in enumerate(counts.pop("votes")) if n}
    digest = {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}
    statistics = {"partition": partition, "bad": 0, **counts, "votes": histogram, **digest}
    store.write_json(
        layout.run_statistics(run.name, partition), statistics | {"seconds": 0.0, "host": "made"}
    )
    return int(counts["tagged"])
