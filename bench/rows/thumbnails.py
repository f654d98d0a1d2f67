"""A page's 30 thumbnails from 30 partitions, against reading those images' bytes."""

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.harness import Comparison, Figure, Way, speed
from bench.rows.page import Client
from ingest import corpus as corpora
from ingest.corpus import ROW_GROUP_IMAGES, read_image
from ingest.image import IMAGE_BYTES, to_png
from storage import layout

THUMBNAILS = 30
CONNECTIONS = 6  # what a browser opens to one host


def measured(place):
    size = place.sizes.thumbnail_partition
    if size == place.sizes.partition and place.corpus.partitions >= THUMBNAILS:
        corpus = place.corpus
    else:
        corpus = place.split("thumbnails", THUMBNAILS * size, size)
    wanted = Wanted(place.store, corpus)
    floor = Way("reading those 30 x 3,072 bytes", wanted.read, THUMBNAILS)
    for cold in (True, False):
        before = wanted.choose_cold if cold else wanted.choose
        state = "cold" if cold else "warm"
        yield Comparison(
            f"thumbnails/{state}",
            f"30 thumbnails from 30 partitions, {state}",
            Way("row groups read, PNGs made", wanted.thumbnails, THUMBNAILS, before=before),
            Way(floor.name, floor.run, THUMBNAILS, before=wanted.go_cold if cold else None),
            "thumbnails",
            same=wanted.check,
            figures=(speed(),),
            rounds=2 * place.sizes.rounds + 1,
            note=f"partitions of {size:,} images; "
            + ("neither footers nor files in memory" if cold else "footers and files in memory"),
        )
    # Pixels come from the store alone, so that no Solr need run.
    with place.page("none", solr="http://127.0.0.1:1/solr") as (url, _):
        clients = [Client(url) for _ in range(CONNECTIONS)]
        yield Comparison(
            "thumbnails/page",
            "30 thumbnails from 30 partitions, by HTTP",
            Way(
                f"the page's PNGs over {CONNECTIONS} connections",
                lambda: fetch(clients, wanted.paths()),
                THUMBNAILS,
                before=wanted.choose_cold,
            ),
            Way(floor.name, floor.run, THUMBNAILS, before=wanted.go_cold),
            "thumbnails",
            same=wanted.check,
            figures=(
                Figure("all 30", lambda ours, _: 1000 * sum(ours.seconds), 150, at_most=True, unit="ms"),
            ),
            rounds=2 * place.sizes.rounds + 1,
            note=f"partitions of {size:,} images, none of these asked before, the files not in memory",
        )


class Wanted:
    """Thirty images, one of each partition, chosen anew for each round."""

    def __init__(self, store, corpus) -> None:
        self.store, self.corpus = store, corpus
        self._random = np.random.default_rng(0)
        self._places: list[tuple[int, int, int]] = []  # partition, row, where its bytes are in the file

    def choose(self) -> None:
        """Choose images and find where their bytes are."""
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
        self.go_cold()

    def go_cold(self) -> None:
        """Forget the footers, and let the system forget the files."""
        corpora._footer.cache_clear()
        for p in range(THUMBNAILS):
            with open(self._path(p), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def thumbnails(self) -> list[bytes]:
        return [to_png(read_image(self.store, self.corpus, p, row).images[0]) for p, row, _ in self._places]

    def read(self) -> list[bytes]:
        found = []
        for p, _, offset in self._places:
            with open(self._path(p), "rb", buffering=0) as file:
                file.seek(offset)
                found.append(file.read(IMAGE_BYTES))
        return found

    def paths(self) -> list[str]:
        return [f"/images/{self.corpus.name}/{p}/{row}.png" for p, row, _ in self._places]

    def check(self, pngs: list[bytes], images: list[bytes]) -> bool:
        return pngs == [to_png(np.frombuffer(image, np.uint8)) for image in images]

    def _path(self, p: int) -> str:
        return self.store.url(layout.corpus_images(self.corpus.name, p))


def fetch(clients: list[Client], paths: list[str]) -> list[bytes]:
    """Get all paths over the clients' connections at once, as a browser does."""
    with ThreadPoolExecutor(len(clients)) as pool:
        found = list(
            pool.map(
                lambda number: [clients[number].get(path) for path in paths[number :: len(clients)]],
                range(len(clients)),
            )
        )
    return [found[i % len(clients)][i // len(clients)] for i in range(len(paths))]
