"""A page's 30 thumbnails from 30 partitions, against reading those images' bytes."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.client import Client
from bench.harness import Comparison, Way
from ingest import partition as partition_files
from ingest.image import IMAGE_BYTES, from_column_major, to_png
from ingest.partition import read_image

THUMBNAILS = 30
CONNECTIONS = 6  # of a browser to one host


def measured(place):
    size = place.sizes.thumbnail_partition
    sample = Sample(place, place.split("thumbnails", THUMBNAILS * size, size))

    def compared(name: str, run, cold: bool = True, **figures) -> Comparison:
        ours = Way(run, THUMBNAILS, sample.choose_cold if cold else sample.choose)
        theirs = Way(sample.read, THUMBNAILS, sample.drop_caches if cold else None)
        rounds, about = 2 * place.sizes.rounds + 1, {"partition": size}
        return Comparison(f"thumbnails/{name}", ours, theirs, same, figures, rounds, about=about)

    yield compared("cold", sample.thumbnails)
    yield compared("warm", sample.thumbnails, cold=False)
    # Pixels come from the store alone, without Solr.
    no_solr = "http://127.0.0.1:1/solr"
    with place.page("none", no_solr) as (url, _), ThreadPoolExecutor(CONNECTIONS) as pool:
        client, figures = Client(url), {"thumbnails/page": lambda ours, _: 1000 * sum(ours.seconds)}
        yield compared("page", lambda: list(pool.map(client.send, sample.paths())), **figures)


def same(pngs: list[bytes], records: list[np.ndarray]) -> bool:
    return pngs == [to_png(from_column_major(record)[0]) for record in records]


class Sample:
    """Thirty images, one of each partition, chosen anew for each round."""

    def __init__(self, place, corpus) -> None:
        self.store, self.corpus, self.dump = place.store, corpus, place.dump
        self._files = [place.dump, *place.parquet_paths(corpus, range(THUMBNAILS))]
        self._random = np.random.default_rng(0)
        self._rows: list[int] = []
        os.sync()  # only what is on the disk can be dropped from memory

    def choose(self) -> None:
        ranges = map(self.corpus.rows, range(THUMBNAILS))
        self._rows = [int(self._random.integers(0, stop - start)) for start, stop in ranges]

    def choose_cold(self) -> None:
        self.choose()
        self.drop_caches()

    def drop_caches(self) -> None:
        """Drop the footers, and the files from the system's memory."""
        partition_files._footer.cache_clear()
        for path in self._files:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def thumbnails(self) -> list[bytes]:
        images = (read_image(self.store, self.corpus, p, row).images[0] for p, row in enumerate(self._rows))
        return [to_png(image) for image in images]

    def read(self) -> list[np.ndarray]:
        """Read the same images' records of the dump."""
        images = []
        for p, row in enumerate(self._rows):
            with open(self.dump, "rb", buffering=0) as file:
                file.seek((self.corpus.rows(p)[0] + row) * IMAGE_BYTES)
                images.append(np.frombuffer(file.read(IMAGE_BYTES), np.uint8).reshape(1, -1))
        return images

    def paths(self) -> list[str]:
        return [f"/images/{self.corpus.name}/{p}/{row}.png" for p, row in enumerate(self._rows)]
