"""Where the attacks take place: a folder, a store, servers and the command, all of the campaign's own."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from conf.errors import TinyTagsError
from indexing.solr import Solr
from ingest.image import IMAGE_BYTES
from operations.made_votes import write_votes
from operations.services import Cassandra, Hdfs, MariaDb, PostgreSql, Service, free_port, get_json
from operations.services import Solr as SolrService
from storage import layout
from storage.runs import Run, create_run
from storage.store import Store, open_store
from tagging.forest import Tree, pack
from tagging.models import save_model

ROOT = Path(__file__).parents[1]
ALIAS = "campaign"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WITHOUT_SOLR = ("ingest", "tag")  # they need none, so none is started for them
# A command that takes longer than this hangs.
PATIENCE = 600

S = TypeVar("S", bound=Service)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    err: str
    seconds: float

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err

    @property
    def last_line(self) -> str:
        return (self.err.strip().splitlines() or ["no message"])[-1][:300]


class Command:
    """A running ``tinytags``, in a process group of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", err: Path) -> None:
        self.process, self._err, self._began = process, err, time.monotonic()

    def kill(self) -> bool:
        """End it with all its processes by SIGKILL; return whether it still ran."""
        ran = self.process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return ran

    def wait(self) -> Ended:
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -signal.SIGKILL
        return Ended(code, self._err.read_text(errors="replace"), time.monotonic() - self._began)


class Place:
    """The folder, the store and the servers; a context manager that stops and removes them. Servers start on first use."""

    def __init__(self, seed: int, note: Callable[[str], None]) -> None:
        self.random, self.seed, self.note = random.Random(seed), seed, note
        self.progress: Callable[[int], None] = lambda tries: None  # of the attack that runs
        self._stack = contextlib.ExitStack()
        self._commands = 0
        self._databases: dict[str, Service] = {}

    def __enter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(
            prefix="tinytags-campaign-",
            dir=os.environ.get("TINYTAGS_CAMPAIGN_DIR"),
            ignore_cleanup_errors=True,
        )
        self.folder = Path(self._stack.enter_context(folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def store(self) -> Store:
        return open_store(str(self.folder / "store"))

    @cached_property
    def solr(self) -> SolrService:
        return self._start(SolrService(self.folder / "solr", port=free_port(1000), heap="512m", light=True))

    @cached_property
    def client(self) -> Solr:
        return Solr(self.solr.url, patience=60)

    @cached_property
    def hdfs(self) -> Hdfs:
        return self._start(
            Hdfs(self.folder / "hdfs", free_port(), free_port(), datanode_port=free_port(-2, 1))
        )

    def database(self, kind: str) -> str:
        """Return the URL of a database of a kind; its server is started for the first."""
        if kind == "sqlite":
            return f"sqlite:///{self.folder}/predictions.db"
        if kind not in self._databases:
            if kind == "cassandra":
                self._databases[kind] = self._start(Cassandra(self.folder / kind, free_port(1)))
            else:
                self.folder.chmod(0o755)  # these servers run as users of their own
                server = {"postgresql": PostgreSql, "mariadb": MariaDb}[kind]
                self._databases[kind] = self._start(server(self.folder / kind, free_port()))
        return self._databases[kind].url

    def _start(self, service: S) -> S:
        self.note(f"starting {service.name}")
        service.start()
        self._stack.callback(service.stop)
        return service

    # Commands

    def start(self, *words: object, **settings: str) -> Command:
        """Start ``tinytags`` on this place's store and servers; ``settings`` override theirs."""
        err = self.folder / f"command-{self._commands % 50}.err"
        self._commands += 1
        chosen = {"store": str(self.folder / "store"), "alias": ALIAS, "master": "processes[2]"} | settings
        if "solr" not in chosen and words[0] not in WITHOUT_SOLR:
            chosen["solr"] = self.solr.url
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TINYTAGS_")}
        environment |= {f"TINYTAGS_{name.upper()}": value for name, value in chosen.items()}
        with open(err, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tinytags.py"), *map(str, words)], cwd=self.folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._stack.callback(_end, process)
        return Command(process, err)

    def run(self, *words: object, **settings: str) -> Ended:
        return self.start(*words, **settings).wait()

    def must(self, *words: object, **settings: str) -> Ended:
        """Run ``tinytags`` where no attack is going on; raises `TinyTagsError` where it fails."""
        ended = self.run(*words, **settings)
        if ended.code:
            raise TinyTagsError(f"tinytags {words[0]} ends with {ended.code}: {ended.last_line}")
        return ended

    @contextlib.contextmanager
    def page(self, **settings: str) -> Iterator[str]:
        """Serve the page while the block runs; give its address."""
        port = free_port()
        serving = self.start("serve", "--port", port, **settings)
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + PATIENCE
            while not get_json(f"{url}/healthz"):
                if serving.process.poll() is not None or time.monotonic() > until:
                    raise TinyTagsError(f"the page does not start: {serving.wait().last_line}")
                time.sleep(0.1)
            yield url
        finally:
            serving.kill()

    # What the attacks are on

    def make_run(self, name: str, partitions: int = 6, images: int = 2_000) -> Run:
        """Write a run as the tag job does, of random votes; its corpus has no images."""
        run = Run(name, "c" * 64, "forest", "m" * 64, 0.4, CLASSES, partitions * images, partitions, 10)
        create_run(self.store, run)
        for p in range(partitions):
            votes = np.random.default_rng([self.seed, p]).multinomial(10, [0.1] * 10, images)
            votes[:, 0] += 4 * (votes[:, 0] > 1)  # so that most images have a tag
            write_votes(self.store, run, p, np.minimum(votes, 10).astype(np.uint8))
        return run

    def make_tagged(self, name: str, images: int = 6_000, partition: int = 1_000) -> tuple[str, str]:
        """Ingest a dump of noise and tag it with a small forest; return the names of the corpus and of its run."""
        dump = self.folder / f"{name}.bin"
        dump.write_bytes(
            np.random.default_rng(self.seed).integers(0, 256, images * IMAGE_BYTES, np.uint8).tobytes()
        )
        self.must(
            "ingest", dump, "--corpus", name, "--partition-images", partition, "--format", "tiny-images"
        )
        save_model(self.store, f"{name}-forest", pack([_tree(number) for number in range(10)], CLASSES), {})
        self.must("tag", "--corpus", name, "--model", f"{name}-forest", "--min-confidence", "0.2")
        (run,) = [run for run in self.store.list(layout.RUNS) if run.startswith(f"{name}-{name}-forest-")]
        return name, run

    def drop(self, run: Run) -> None:
        """Remove a run from Solr, with the alias."""
        if self.client.alias(ALIAS):
            self.client.delete_alias(ALIAS)
        if self.client.exists(run.name):
            self.client.delete(run.name)

    def visible(self, run: Run) -> int:
        """Return how many documents of a run people can find now."""
        return int(self.client.select(run.name, {"q": "*:*", "rows": 0})["response"]["numFound"])

    def tagged(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return the documents of a run by id, as its files have them."""
        lines = (
            line
            for p in range(run.partitions)
            for line in self.store.read_bytes(layout.run_tags(run.name, p)).splitlines()
        )
        return {document["id"]: document for document in map(json.loads, lines)}

    def difference(self, run: Run) -> str | None:
        """Return how the index of a run differs from its files; None where it doesn't."""
        expected = self.tagged(run)
        hits = self.client.select(run.name, {"q": "*:*", "rows": 1_000_000})["response"]["docs"]
        # What Solr or the indexer adds to a document is theirs.
        actual = {hit["id"]: {key: hit.get(key) for key in expected.get(hit["id"], ())} for hit in hits}
        if actual == expected:
            return None
        missing, more = expected.keys() - actual.keys(), actual.keys() - expected.keys()
        changed = sum(actual[key] != expected[key] for key in actual.keys() & expected.keys())
        return f"{len(missing):,} of {len(expected):,} documents missing, {len(more):,} too many, {changed:,} changed"

    # Chance

    def moment(self, seconds: float) -> float:
        """Return a random moment within so many seconds."""
        return self.random.uniform(0, seconds)


def snapshot(folder: Path) -> dict[str, object]:
    """Return every file below ``folder``: its bytes, or for JSON its values but for time and host.

    Temporary files, and those that only say when a job finished, are left out.
    """
    contents: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith("-finished.json"):
            data: object = path.read_bytes()
            if path.suffix == ".json":
                values = json.loads(path.read_bytes())
                # Derived from the others, with those two in it.
                data = {
                    key: value for key, value in values.items() if key not in ("seconds", "host", "checksum")
                }
            contents[str(path.relative_to(folder))] = data
    return contents


def _tree(number: int) -> Tree:
    """Return a tree of one question: whether a pixel is bright."""
    return Tree(
        feature=np.array([number * 300, 0, 0]), threshold=np.array([127.0, 0, 0]), left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]), leaf_class=np.array([-1, number % 10, (number + 1) % 3]),
    )  # fmt: skip


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
