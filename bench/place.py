"""The place where a bench works: one folder with everything made in it, and the servers, each started on first use."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import joblib
import numpy as np

from bench import made
from bench.machine import cores
from bench.sizes import Sizes
from conf.command import note
from conf.errors import TinyTagsError
from conf.wording import counted
from indexing.solr import Solr
from ingest.corpus import Corpus
from ingest.formats.tiny_images import TinyImages, open_tiny_images
from operations import services
from operations.sample import shared_archive
from storage import layout
from storage.store import Store, open_store
from tagging.forest import PackedForest
from tagging.models import save_model

ROOT = Path(__file__).resolve().parent.parent
MODEL = "forest-10"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def removed(folder: Path | str) -> Callable[[], None]:
    """Return a function that removes a folder, to call before each run."""
    return lambda: shutil.rmtree(folder, ignore_errors=True)


class Place:
    """A context manager that at its end stops everything it started and removes everything it made.

    The folder is TINYTAGS_BENCH_DIR, where images and forests then stay for the next time, or a temporary one. Entering it
    raises `TinyTagsError` where it has less than ``needed`` bytes of free disk.
    """

    def __init__(self, sizes: Sizes, folder: Path | str | None = None, needed: int = 0) -> None:
        self.sizes, self.cores, self._needed = sizes, cores(), needed
        self._base = folder or os.environ.get("TINYTAGS_BENCH_DIR")
        self._stack, self._spark = contextlib.ExitStack(), contextlib.ExitStack()
        self._began = time.monotonic()
        self.session = self._options = None

    def __enter__(self) -> "Place":
        if self._base:
            Path(self._base).mkdir(parents=True, exist_ok=True)
        base = Path(self._base).absolute() if self._base else None
        self.folder = Path(tempfile.mkdtemp(prefix="tinytags-bench-", dir=base))
        self._stack.callback(removed(self.folder))
        # A function's results are kept in files for the next bench.
        self._kept = joblib.Memory((base or self.folder) / "kept", verbose=0).cache
        free = shutil.disk_usage(self.folder).free
        if free < self._needed:
            self._stack.close()
            raise TinyTagsError(
                f"{self._needed / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} GB are free in {self.folder.parent}; "
                "set TINYTAGS_BENCH_DIR to a folder with more"
            )
        return self

    def __exit__(self, *exception) -> None:
        self.stop_spark()
        self._stack.__exit__(*exception)

    def note(self, line: str) -> None:
        """Print a line with the seconds since the beginning."""
        note(f"{time.monotonic() - self._began:6.0f} s  {line}")

    @cached_property
    def store(self) -> Store:
        return open_store(str(self.folder / "store"))

    @cached_property
    def _images(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._kept(made.images)(shared_archive(), self.sizes.train)

    @property
    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """The training images, (n, 3072) uint8, and their labels, (n,) int64."""
        return self._images[:2]

    @property
    def real(self) -> bool:
        """Whether the images are real ones."""
        return shared_archive() is not None

    @property
    def pool(self) -> np.ndarray:
        """Images that the forest was not trained on, (m, 3072) uint8."""
        return self._images[2]

    def images(self, count: int) -> np.ndarray:
        """Return ``count`` varied images, (count, 3072) uint8."""
        return np.concatenate(list(made.varied(self.pool, count)))

    def grown(self, trees: int, depth: int):
        """Return a scikit-learn forest of the training images, whose trees vote."""
        self.note(f"{trees} trees of depth {depth} of {len(self.labelled[0]):,} images")
        return self._kept(made.grow)(*self.labelled, trees, depth)

    @cached_property
    def scikit_forest(self):
        """The forest of 10 trees, depth 10, of most rows."""
        return self.grown(10, 10)

    @cached_property
    def forest(self) -> PackedForest:
        """The same, packed."""
        return made.packed(made.plain_trees(self.scikit_forest))

    @cached_property
    def model(self) -> str:
        """The name of the same in the store."""
        save_model(self.store, MODEL, self.forest, {"engine": "scikit-learn"})
        return MODEL

    @cached_property
    def votes(self) -> np.ndarray:
        """The forest's votes on 10,000 images that it was not trained on, (10000, classes) uint16."""
        return self.forest.votes(self.images(10_000))

    @cached_property
    def dump(self) -> Path:
        """A dump of `Sizes.images` images in the format of 80 Million Tiny Images."""
        count = max(self.sizes.images, 30 * self.sizes.thumbnail_partition)
        self.note(f"writing a dump of {count:,} images")
        return made.write_dump(self.folder / "tiny_images.bin", self.pool, count)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus of `Sizes.images` images of the dump."""
        return self.split("main", self.sizes.images, self.sizes.partition)

    def part(self, name: str, images: int, partition: int) -> tuple[TinyImages, Corpus]:
        """Return the first images of the dump, and the manifest of a corpus of them."""
        source = dataclasses.replace(open_tiny_images(str(self.dump)), images=images)
        return source, made.corpus_of(source, name, partition)

    def split(self, name: str, images: int, partition: int) -> Corpus:
        """Make a corpus of the first images of the dump."""
        self.note(f"splitting {images:,} images into partitions of {partition:,}")
        return made.make_corpus(self.store, *self.part(name, images, partition))

    def parquet_paths(self, corpus: Corpus, partitions) -> list[str]:
        return [self.store.url(layout.corpus_images(corpus.name, p)) for p in partitions]

    @property
    def spark(self):
        """One session on all cores, which all rows share."""
        return self.spark_on(self.cores)

    def spark_on(self, count: int, **more: str):
        """Return a session on ``count`` cores with ``more`` options; a session with others is stopped."""
        from jobs.session import open_session

        options = {
            "spark.driver.memory": "3g",
            "spark.driver.maxResultSize": "0",
            "spark.sql.shuffle.partitions": str(count),
            "spark.local.dir": str(self.folder / "spark"),
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            # Rows of 3 KB: larger batches of them are slower.
            "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
            # As in the jobs, here for both ways: over TCP each task waits 40 ms for an acknowledgement.
            "spark.python.unix.domain.socket.enabled": "true",
        } | more
        if self._options != (count, options):
            self.stop_spark()
        if not self.session:
            self.note(f"starting Spark on {counted(count, 'core')}")
            self.session = self._spark.enter_context(open_session(f"local[{count}]", "bench", **options))
            self._options = count, options
        return self.session

    def stop_spark(self) -> None:
        self._spark.close()
        self.session = None

    @cached_property
    def solr(self):
        """A running Solr (`operations.services.Solr`)."""
        self.note("starting Solr")
        return self._start(services.Solr(self.folder / "solr", services.free_port(1000), self.sizes.heap))

    @cached_property
    def solr_client(self):
        return Solr(self.solr.url, patience=60)

    @cached_property
    def hdfs(self):
        """A running HDFS of one DataNode (`operations.services.Hdfs`)."""
        self.note("starting HDFS")
        ports, datanode = (services.free_port(), services.free_port()), services.free_port(-2, 1)
        return self._start(services.Hdfs(self.folder / "hdfs", *ports, datanode_port=datanode, heap="512m"))

    def _start(self, service):
        service.start()
        self._stack.callback(service.stop)
        return service

    @contextlib.contextmanager
    def page(self, alias: str, solr: str | None = None, *more: str) -> Iterator[tuple[str, int]]:
        """Serve the search page by ``tinytags serve`` with ``more`` options, on the place's Solr or another; yield its address
        and process id.
        """
        port, until = services.free_port(), time.monotonic() + 60
        words = ("serve", "--port", str(port), "--alias", alias, "--solr", solr or self.solr.url, *more)
        with subprocess.Popen(self.tinytags(*words), cwd=ROOT, **QUIET) as process:
            try:
                while not services.get_json(f"http://127.0.0.1:{port}/healthz"):
                    if process.poll() is not None or time.monotonic() > until:
                        raise TinyTagsError("the page does not start; run `tinytags serve` for the reason")
                    time.sleep(0.1)
                yield f"http://127.0.0.1:{port}", process.pid
            finally:
                process.terminate()

    def tinytags(self, *words: str) -> list[str]:
        """Return the command line of a verb on the place's store."""
        return [sys.executable, "-m", "tinytags", "--store", self.store.url(), *words]

    def run_tinytags(self, *words: str) -> dict:
        """Run a verb and return its JSON, with its seconds as ``wall``; raises `TinyTagsError` where it fails."""
        self.note(f"tinytags {words[0]}")
        began = time.perf_counter()
        done = subprocess.run(self.tinytags(*words, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise TinyTagsError(f"tinytags {words[0]} ends with {done.returncode}, see above")
        return json.loads(done.stdout) | {"wall": time.perf_counter() - began}
