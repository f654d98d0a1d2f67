"""A page's 30 thumbnails from 30 partitions, against reading those images' bytes."""

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.harness import Comparison, Figure, Way
from bench.rows.page import Client
from ingest import corpus as corpora
from ingest.corpus import ROW_GROUP_IMAGES, read_image
from ingest.image import IMAGE_BYTES, to_png
from storage import layout

THUMBNAILS = 30
CONNECTIONS = 6  # of a browser to one host


def measured(place):
    size = place.sizes.thumbnail_partition
    if size == place.sizes.partition and place.corpus.partitions >= THUMBNAILS:
        corpus = place.corpus
    else:
        corpus = place.split("thumbnails", THUMBNAILS * size, size)
    sample = Sample(place.store, corpus)

    def compared(name: str, words: str, way: str, run, cold: bool, note: str, figures: tuple = ()):
        before, before_theirs = (sample.choose_cold, sample.drop_caches) if cold else (sample.choose, None)
        return Comparison(
            f"thumbnails/{name}",
            f"30 thumbnails from 30 partitions, {words}",
            Way(way, run, THUMBNAILS, before=before),
            Way("reading those 30 x 3,072 bytes", sample.read, THUMBNAILS, before=before_theirs),
            "thumbnails",
            same=sample.check,
            figures=figures,
            rounds=2 * place.sizes.rounds + 1,
            note=f"partitions of {size:,} images{note}",
        )

    way = "row groups read, PNGs made"
    yield compared("cold", "cold", way, sample.thumbnails, True, "; neither footers nor files in memory")
    yield compared("warm", "warm", way, sample.thumbnails, False, "; footers and files in memory")
    # Pixels come from the store alone, without Solr.
    with place.page("none", solr="http://127.0.0.1:1/solr") as (url, _):
        clients = [Client(url) for _ in range(CONNECTIONS)]
        seconds = Figure("all 30", lambda ours, _: 1000 * sum(ours.seconds), 150, at_most=True, unit="ms")
        yield compared(
            "page", "by HTTP", f"the page's PNGs over {CONNECTIONS} connections",
            lambda: fetch(clients, sample.paths()), True, ", each requested once, the files not in memory", (seconds,),
        )  # fmt: skip


class Sample:
    """Thirty images, one of each partition, chosen anew for each round."""

    def __init__(self, store, corpus) -> None:
        self.store, self.corpus = store, corpus
        self._random = np.random.default_rng(0)
        self._places: list[tuple[int, int, int]] = []  # partition, row, offset of its bytes in the file

    def choose(self) -> None:
        """Choose images and find the offsets of their bytes."""
        import pyarrow.parquet

        self._places = []
        for p in range(THUMBNAILS):
            start, stop = self.corpus.rows(p)
            row = int(self._random.integers(0, stop - start))
            image = read_image(self.store, self.corpus, p, row).images[0].tobytes()
            path = self._path(p)
            column = pyarrow.parquet.read_metadata(path).row_group(row // ROW_GROUP_IMAGES).column(1)
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                self._places.append((p, row, mapped.find(image, column.data_page_offset)))

    def choose_cold(self) -> None:
        self.choose()
        self.drop_caches()

    def drop_caches(self) -> None:
        """Drop the footers, and the files from the system's memory."""
        corpora._footer.cache_clear()
        for p in range(THUMBNAILS):
            with open(self._path(p), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def thumbnails(self) -> list[bytes]:
        return [to_png(read_image(self.store, self.corpus, p, row).images[0]) for p, row, _ in self._places]

    def read(self) -> list[bytes]:
        images = []
        for p, _, offset in self._places:
            with open(self._path(p), "rb", buffering=0) as file:
                file.seek(offset)
                images.append(file.read(IMAGE_BYTES))
        return images

    def paths(self) -> list[str]:
        return [f"/images/{self.corpus.name}/{p}/{row}.png" for p, row, _ in self._places]

    def check(self, pngs: list[bytes], images: list[bytes]) -> bool:
        return pngs == [to_png(np.frombuffer(image, np.uint8)) for image in images]

    def _path(self, p: int) -> str:
        return self.store.url(layout.corpus_images(self.corpus.name, p))


def fetch(clients: list[Client], paths: list[str]) -> list[bytes]:
    """Get all paths over the clients' connections in parallel, as a browser does."""
    step = len(clients)
    with ThreadPoolExecutor(step) as pool:
        parts = list(pool.map(lambda i: [clients[i].get(path) for path in paths[i::step]], range(step)))
    return [parts[i % step][i // step] for i in range(len(paths))]
