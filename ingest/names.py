"""Where the images of a corpus are by the names of their pictures: an index of which a search reads some kilobytes.

An entry is a 64-bit hash of a name, without folders and ending, and the number of the record; entries are sorted. Two names
may have the same hash, so a name that is found has to be compared with that of its image.
"""

import functools
import hashlib
import math

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from ingest.partition import read_names
from storage import layout
from storage.store import FileMissingError, Store

ENTRY = np.dtype([("hash", "<u8"), ("record", "<u4")])
Entries = npt.NDArray[np.void]


def stem(name: str) -> str:
    """Return a name without its folders and its ending: ``train/0a1b.jpg`` is ``0a1b``."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[0] or base


def hash_of(text: str) -> int:
    """Return the 64 bits that stand for a name in the index: BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def write_names(store: Store, corpus: Corpus) -> int:
    """Write the index of a corpus all of whose partitions are there, unless it is there; return its entries.

    A corpus whose first partition has no names gets none. For the holder of the lease.
    """
    path = layout.corpus_names(corpus.name)
    if store.exists(path):
        return store.size(path) // ENTRY.itemsize
    parts: list[Entries] = []
    for partition in range(corpus.partitions):
        names = read_names(store, corpus, partition)
        first = corpus.rows(partition)[0]
        of_partition = [(hash_of(stem(name)), first + row) for row, name in enumerate(names) if name]
        if not partition and not of_partition:
            return 0
        parts.append(np.array(of_partition, ENTRY))
    entries = np.concatenate(parts)
    entries = entries[np.lexsort((entries["record"], entries["hash"]))]
    store.write_bytes(path, entries.tobytes())
    return len(entries)


def check_names(store: Store, corpus: Corpus) -> None:
    """Raise `TinyTagsError` for a corpus without an index of names."""
    if not store.exists(layout.corpus_names(corpus.name)):
        raise TinyTagsError(
            f"corpus {corpus.name!r} has no index of names: its pictures have none, or it is not complete, or of an earlier "
            f"version; `tinytags ingest {corpus.dump} --corpus {corpus.name}`, with the options of the first time, writes it"
        )


def find_records(store: Store, corpus: str, text: str) -> list[int]:
    """Return the records whose pictures may have this name (no folders, no ending); none of a corpus without an index.

    Hashes are evenly distributed, so a hash shows about where it stands; n entries deviate from that by some sqrt(n) / 2.
    """
    path = layout.corpus_names(corpus)
    try:
        count = store.size(path) // ENTRY.itemsize
    except FileMissingError:
        return []
    if not count:
        return []
    wanted = hash_of(text)
    middle, reach = wanted * count >> 64, 2 * math.isqrt(count) + 16
    while True:
        start, stop = max(middle - reach, 0), min(middle + reach, count)
        data = store.read_bytes(path, start * ENTRY.itemsize, (stop - start) * ENTRY.itemsize)
        entries = np.frombuffer(data, ENTRY, len(data) // ENTRY.itemsize)
        before = not start or (len(entries) > 0 and int(entries["hash"][0]) < wanted)
        behind = stop == count or (len(entries) > 0 and int(entries["hash"][-1]) > wanted)
        if (before and behind) or len(entries) < stop - start:
            return [int(record) for record in entries["record"][entries["hash"] == np.uint64(wanted)]]
        reach *= 8


@functools.lru_cache(maxsize=2)  # 12 bytes an image; once a worker
def read_index(store: Store, corpus: str) -> Entries:
    """Return all entries (n,) of a corpus' index, sorted; none of a corpus without one."""
    try:
        return np.frombuffer(store.read_bytes(layout.corpus_names(corpus)), ENTRY)
    except FileMissingError:
        return np.empty(0, ENTRY)


def records_of(entries: Entries, text: str) -> list[int]:
    """Return the records of a name in an index that was read."""
    wanted = np.uint64(hash_of(text))
    start, stop = np.searchsorted(entries["hash"], wanted), np.searchsorted(entries["hash"], wanted, "right")
    return [int(record) for record in entries["record"][start:stop]]
