"""Where a bench works: one folder, what was made in it, and the servers it started, each when first asked for."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from bench import made
from bench.machine import cores
from bench.sizes import Sizes
from conf.errors import TinyTagsError
from conf.wording import counted
from ingest.corpus import Corpus
from storage import layout
from storage.local import LocalStore
from storage.store import open_store
from tagging.forest import PackedForest
from tagging.models import save_model

ROOT = Path(__file__).resolve().parent.parent
MODEL = "forest-10"


class Place:
    """A context manager; at its end everything that was started is stopped, and everything that was made is removed.

    The folder is TINYTAGS_BENCH_DIR, where images and forests are then kept for the next time, or a temporary one.
    """

    def __init__(self, sizes: Sizes, folder: str | None = None, told=lambda line: None) -> None:
        self.sizes, self.told = sizes, told
        self.cores = cores()
        self._given = folder or os.environ.get("TINYTAGS_BENCH_DIR")
        self._stack = contextlib.ExitStack()
        self._spark = self._spark_stack = self._spark_started = None

    def __enter__(self) -> "Place":
        if self._given:
            base = Path(self._given).absolute()
            base.mkdir(parents=True, exist_ok=True)
            self.cache = base / "kept"
        else:
            base = None
        self.folder = Path(tempfile.mkdtemp(prefix="tinytags-bench-", dir=base))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        if not self._given:
            self.cache = self.folder / "kept"
        self.cache.mkdir(exist_ok=True)
        return self

    def __exit__(self, *exception) -> None:
        self.stop_spark()
        self._stack.__exit__(*exception)

    def check_disk(self, needed: int) -> None:
        """Raise `TinyTagsError` unless ``needed`` bytes are free."""
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise TinyTagsError(
                f"{needed / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} GB are free in {self.folder.parent}; "
                "set TINYTAGS_BENCH_DIR to a folder with more"
            )

    # What is made

    @cached_property
    def store(self) -> LocalStore:
        return open_store(str(self.folder / "store"))

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        archive = made.shared_archive()
        if archive is None:
            images, labels = made.made_images(self.sizes.train)
            return images, labels, made.made_images(min(self.sizes.train, 8_000), seed=1)[0]
        return self._kept(f"images-{self.sizes.train}", lambda: made.real_images(archive, self.sizes.train))

    @property
    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """The images to train on, (n, 3072) uint8, and their labels, (n,) int64."""
        return self._pictures[:2]

    @property
    def real(self) -> bool:
        """Whether the images are real ones."""
        return made.shared_archive() is not None

    @property
    def pool(self) -> np.ndarray:
        """Images that the forest has not learnt from, (m, 3072) uint8."""
        return self._pictures[2]

    def images(self, count: int) -> np.ndarray:
        """Return ``count`` varied images, (count, 3072) uint8."""
        return np.concatenate(list(made.varied(self.pool, count)))

    def grown(self, trees: int, depth: int):
        """Return a scikit-learn forest of the training images, whose trees vote."""
        images, labels = self.labelled

        def grow():
            self.told(f"growing {trees} trees of depth {depth} on {len(images):,} images")
            return made.grow(images, labels, trees, depth)

        return self._kept(f"forest-{len(images)}-{trees}-{depth}", grow)

    @cached_property
    def scikit_forest(self):
        """The forest of 10 trees, depth 10, that most figures are about."""
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
        """What the forest says of the images it has not learnt from, (m, classes) uint16."""
        return self.forest.votes(self.pool)

    @cached_property
    def dump(self) -> Path:
        """A dump of `Sizes.images` images in the format of 80 Million Tiny Images."""
        count = max(self.sizes.images, 30 * self.sizes.thumbnail_partition)
        self.told(f"writing a dump of {count:,} images")
        return made.write_dump(self.folder / "tiny_images.bin", self.pool, count)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus of `Sizes.images` images of the dump."""
        self.told(f"splitting {self.sizes.images:,} images into partitions of {self.sizes.partition:,}")
        return self.split("main", self.sizes.images, self.sizes.partition)

    def split(self, name: str, images: int, partition: int) -> Corpus:
        """Make a corpus of the first images of the dump."""
        return made.make_corpus(self.store, made.first_of(self.dump, images), name, partition, self.cores)

    @property
    def parquet_bytes(self) -> float:
        """What an image takes in a full partition."""
        start, stop = self.corpus.rows(0)
        return self.store.size(layout.corpus_images(self.corpus.name, 0)) / (stop - start)

    def _kept(self, name: str, make):
        """Return what ``make()`` gives, from the folder of what is kept where it was made before."""
        import joblib

        path = self.cache / f"{name}-{'real' if self.real else 'made'}.joblib"
        if path.exists():
            return joblib.load(path)
        value = make()
        temporary = path.with_suffix(".tmp")
        joblib.dump(value, temporary)
        temporary.replace(path)
        return value

    # What is started

    @property
    def spark(self):
        """One session on all cores, shared by everything that runs on Spark."""
        return self.spark_on(self.cores)

    def spark_on(self, count: int, **more: str):
        """A session on ``count`` cores with ``more`` options; one that was started otherwise is stopped."""
        from jobs.session import open_session

        options = {
            "spark.driver.memory": "3g",
            "spark.driver.maxResultSize": "0",
            "spark.sql.shuffle.partitions": str(count),
            "spark.local.dir": str(self.folder / "spark"),
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            # Rows of 3 KB: larger batches of them are slower.
            "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
            # As the jobs have it, here for both ways: by TCP each task waits 40 ms for an acknowledgement.
            "spark.python.unix.domain.socket.enabled": "true",
        } | more
        if self._spark and self._spark_started != (count, options):
            self.stop_spark()
        if not self._spark:
            self.told(f"starting Spark on {counted(count, 'core')}")
            self._spark_stack = contextlib.ExitStack()
            self._spark = self._spark_stack.enter_context(open_session(f"local[{count}]", "bench", **options))
            self._spark_started = count, options
        return self._spark

    def stop_spark(self) -> None:
        if self._spark:
            self._spark_stack.close()
            self._spark = None

    @cached_property
    def solr(self):
        """A running Solr (`operations.services.Solr`)."""
        return self.start_solr("1g")

    def start_solr(self, heap: str):
        from operations.services import Solr, free_port

        self.told(f"starting Solr with a heap of {heap}")
        service = Solr(self.folder / "solr", port=free_port(1000), heap=heap)
        service.start()
        self._stack.callback(service.stop)
        return service

    @cached_property
    def solr_client(self):
        from indexing.solr import Solr

        return Solr(self.solr.url, patience=60)

    @cached_property
    def hdfs(self):
        """A running HDFS of one DataNode (`operations.services.Hdfs`)."""
        from operations.services import Hdfs, free_port

        self.told("starting HDFS")
        service = Hdfs(
            self.folder / "hdfs", free_port(), free_port(), datanode_port=free_port(-2, 1), heap="512m"
        )
        service.start()
        self._stack.callback(service.stop)
        return service

    def stop_hdfs(self) -> None:
        """Stop HDFS and remove what it held."""
        self.hdfs.stop()
        shutil.rmtree(self.hdfs.directory, ignore_errors=True)
        del self.hdfs

    @contextlib.contextmanager
    def page(self, alias: str, solr: str | None = None) -> Iterator[tuple[str, int]]:
        """Serve the search page by ``tinytags serve``; give its address and process id. ``solr`` is another Solr than the place's."""
        from operations.services import free_port, get_json

        port = free_port()
        words = ("serve", "--port", str(port), "--alias", alias, "--solr", solr or self.solr.url)
        command = self.tinytags(*words)
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 60
            while not get_json(f"{url}/healthz"):
                if process.poll() is not None or time.monotonic() > until:
                    raise TinyTagsError("the search page does not start; `tinytags serve` tells why")
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(30)

    def tinytags(self, *words: str) -> list[str]:
        """Return the command line of a verb on the place's store."""
        return [sys.executable, "-m", "tinytags", "--store", self.store.url(), *words]
