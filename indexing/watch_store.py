"""Looking at a store again and again: how far every corpus and run is, at the cost of what has changed since the last look."""

import json
import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from conf.errors import TinyTagsError
from indexing.index import ExpectedCounts
from ingest import corpus as corpora
from ingest.formats import ingest_command
from storage import layout, runs
from storage.lease import holder
from storage.store import StoreError, StoreUnavailableError

# In HDFS each file is a request.
THREADS = 8
# A file may come into a folder within one tick of the store's clock after we listed it, and the folder's time stay the same.
SETTLED_SECONDS = 2.0
# So many failed partitions are named with their reason.
NAMED = 3
# Of a job at work counts what it did in the last minute, if that is enough to tell by.
RECENT_SECONDS, RECENT_PARTITIONS = 60.0, 10


@dataclass(frozen=True, eq=False)
class StoreStatus:
    """What the store says: corpora and runs as dicts fit for JSON, and what the index should hold of each run.

    ``expected`` is None for a run of which not all statistics are read yet; ``read`` tells how many are.
    """

    corpora: list[dict]
    runs: list[dict]
    expected: dict[str, ExpectedCounts | None]
    read: dict[str, int]


@dataclass
class _Memory:
    """What was read of one corpus or run: its manifest, and files and folders, each with the time at which it was written."""

    written: float
    manifest: object = None
    files: dict[str, tuple[float, object]] = field(default_factory=dict)
    # The time of a folder, when that was first seen and last listed, and the numbers in it with their times.
    folders: dict[str, tuple[float, float, float, dict[int, float]]] = field(default_factory=dict)

    def has(self, path: str, written: float) -> bool:
        return self.files.get(path, (None,))[0] == written


class StoreWatch:
    """Looks at a store; for one thread at a time.

    A corpus or run at rest costs one request a look, one that is being written some four, and the statistics of each
    partition are read once.
    """

    def __init__(self, store) -> None:
        self.store = store
        self._memories: dict[str, _Memory] = {}

    def scan(self, seconds: float | None = None) -> StoreStatus:
        """Return what the store says now. After ``seconds`` of reading statistics the rest is left to the next look.

        Raises `StoreError` where the store itself can't be read; what is broken in it is told under its own name.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with ThreadPoolExecutor(THREADS) as pool:
            names = {kind: list(self.store.times(kind)) for kind in ("corpora", "runs")}
            folders = {f"{kind}/{name}" for kind in names for name in names[kind]}
            self._memories = {folder: kept for folder, kept in self._memories.items() if folder in folders}
            found = [told for told in pool.map(self._corpus, names["corpora"]) if told]
            seen = [told for told in pool.map(self._run, names["runs"]) if told]
            errors = self._read_statistics(pool, [told for told in seen if "error" not in told], until)
        seen = [
            {"run": told["run"], "error": errors[told["run"]]} if told["run"] in errors else told
            for told in seen
        ]
        expected, read = {}, {}
        commands = {told["corpus"]: told.pop("command") for told in found if "command" in told}
        for told in seen:
            if "error" not in told:
                expected[told["run"]], read[told["run"]] = self._expected(told)
                told["redo"] = _redo(told, commands.get(told["corpus"]))
        return StoreStatus(found, seen, expected, read)

    def _corpus(self, name: str) -> dict | None:
        folder = layout.corpus_folder(name)
        try:
            there = self.store.times(folder)
            corpus = self._manifest(folder, there, lambda: corpora.open_corpus(self.store, name))
            if corpus is None:
                return None
            done, failed = self._partitions(folder, there, corpus.partitions)
            writer = self._writer(layout.corpus_lease(name), there)
            command = shlex.join(ingest_command(corpus))
            told = {
                "corpus": name, "images": corpus.images, "partitions": corpus.partitions, "format": corpus.format,
                "classes": corpus.classes, "hash": corpus.hash, "ingest": states(corpus.partitions, done, failed),
                "writer": writer,
                "problems": self._failures(folder, "ingest", failed, done, lambda p: layout.corpus_failed(name, p)),
            }  # fmt: skip
            return told | {
                "redo": [command] if told["ingest"]["failed"] else [],
                "working": _working(told, "ingest", writer, done),
                "command": command,
            }
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"corpus": name, "error": str(error)}

    def _run(self, name: str) -> dict | None:
        folder = layout.run_folder(name)
        try:
            there = self.store.times(folder)
            run = self._manifest(folder, there, lambda: runs.open_run(self.store, name))
            if run is None:
                return None
            done, failed = self._partitions(folder, there, run.partitions)
            refused = {
                p: self._read(folder, layout.run_rejected(name, p), written, self._read_rejected)
                for p, written in self._numbers(folder, "rejected", there, ".jsonl").items()
                if p in done
            }
            tagging = self._writer(layout.run_lease(name), there)
            indexing = self._writer(layout.run_index_lease(name), there)
            told = {
                "run": name, "corpus": run.corpus, "model": run.model, "model_hash": run.model_hash, "trees": run.trees,
                "min_confidence": run.min_confidence, "similar": run.descriptor is not None, "images": run.images,
                "partitions": run.partitions,
                "tag": states(run.partitions, done, failed), "writer": tagging or indexing,
                "problems": self._failures(folder, "tag", failed, done, lambda p: layout.run_failed(name, p)),
            }  # fmt: skip
            told["problems"] += [
                {"step": "index", "partition": p, "error": f"Solr refused {count:,}; the first: {reason}"}
                for p, (count, reason) in list(refused.items())[:NAMED]
            ]
            told["working"] = _working(told, "tag", tagging, done)
            if indexing:
                told["working"].append({"step": "index"} | indexing | {"unit": "documents"})
            return told | {"done": done, "refused": {p: count for p, (count, _) in refused.items()}}
        except StoreUnavailableError:
            raise
        except TinyTagsError as error:
            return {"run": name, "error": str(error)}

    def _manifest(self, folder: str, there: dict[str, float], read: Callable[[], object]):
        """Return the manifest of a corpus or run, or None where it has none; with another one it is another thing."""
        written = there.get(layout.MANIFEST)
        if written is None:
            return None
        memory = self._memories.get(folder)
        if memory is None or memory.written != written:
            memory = self._memories[folder] = _Memory(written)
        if memory.manifest is None:
            memory.manifest = read()
        return memory.manifest

    def _partitions(
        self, folder: str, there: dict[str, float], partitions: int
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return the partitions that are done, and those that failed, each with the time of that."""
        done = self._numbers(folder, "statistics", there)
        return {p: written for p, written in done.items() if p < partitions}, self._numbers(
            folder, "failed", there
        )

    def _numbers(
        self, folder: str, name: str, there: dict[str, float], ending: str = ".json"
    ) -> dict[int, float]:
        """Return the numbered files of a folder with their times; listed again only where the folder has changed."""
        written = there.get(name)
        if written is None:
            return {}
        memory, now = self._memories[folder], time.monotonic()
        before, first, listed, numbers = memory.folders.get(name, (None, now, now, {}))
        if before == written and listed - first >= SETTLED_SECONDS:
            return numbers
        numbers = {
            p: at
            for file, at in self.store.times(f"{folder}/{name}").items()
            if (p := layout.partition_of(file, ending)) is not None
        }
        numbers = dict(sorted(numbers.items()))
        memory.folders[name] = (written, first if before == written else now, now, numbers)
        return numbers

    def _read(self, folder: str, path: str, written: float, read: Callable[[str], object]):
        """Return what ``read`` makes of a file, read once for each time it is written."""
        memory = self._memories[folder]
        if not memory.has(path, written):
            memory.files[path] = (written, read(path))
        return memory.files[path][1]

    def _failures(self, folder: str, step: str, failed, done, path: Callable[[int], str]) -> list[dict]:
        """Return the first partitions that failed in a step, each with its reason."""
        return [
            {"step": step, "partition": p, "error": self._read(folder, path(p), failed[p], self._read_reason)}
            for p in [p for p in failed if p not in done][:NAMED]
        ]

    def _read_reason(self, path: str) -> str:
        try:
            return str(self.store.read_json(path)["error"])
        except StoreUnavailableError:
            raise
        except (StoreError, KeyError):
            return "nobody wrote down why"

    def _read_rejected(self, path: str) -> tuple[int, str]:
        """Return how many documents of a partition Solr refused, and why the first one."""
        lines = self.store.read_bytes(path)
        try:
            reason = str(json.loads(lines.partition(b"\n")[0])["reason"])
        except (ValueError, KeyError, TypeError):
            reason = "nobody wrote down why"
        return lines.count(b"\n"), reason

    def _writer(self, path: str, there: dict[str, float]) -> dict | None:
        held = holder(self.store, path) if path.rsplit("/", 1)[1] in there else None
        return held and {key: getattr(held, key) for key in ("user", "host", "pid", "since")}

    def _read_statistics(self, pool, seen: list[dict], until: float | None) -> dict[str, str]:
        """Read the statistics of runs that aren't read yet, until time is up; return what went wrong, by run."""
        left, errors = [], {}
        for told in seen:
            run = self._memories[layout.run_folder(told["run"])].manifest
            paths = [(run, p, layout.run_statistics(run.name, p), at) for p, at in told["done"].items()]
            left += [
                entry for entry in paths if not self._memories[layout.run_folder(run.name)].has(*entry[2:])
            ]

        def read(entry) -> None:
            run, p, path, written = entry
            try:
                self._read(
                    layout.run_folder(run.name), path, written,
                    lambda _: runs.read_statistics(self.store, run, p)["tagged"],
                )  # fmt: skip
            except StoreUnavailableError:
                raise
            except TinyTagsError as error:
                errors.setdefault(run.name, str(error))

        for start in range(0, len(left), 8 * THREADS):
            if until is not None and time.monotonic() > until:
                break
            list(pool.map(read, left[start : start + 8 * THREADS]))
        return errors

    def _expected(self, told: dict) -> tuple[ExpectedCounts | None, int]:
        """Return what the index should hold of a run, None where not all statistics are read yet, and how many are."""
        name, done, refused = told["run"], told.pop("done"), told.pop("refused")
        memory = self._memories[layout.run_folder(name)]
        tagged = {}
        for p, written in done.items():
            path = layout.run_statistics(name, p)
            if memory.has(path, written):
                tagged[p] = {"tagged": memory.files[path][1]}
        return ExpectedCounts(memory.manifest, tagged, refused) if len(tagged) == len(done) else None, len(
            tagged
        )


def states(partitions: int, done: Iterable[int], failed: Iterable[int]) -> dict[str, int]:
    """Return how many partitions are pending, done and failed in a step; one that was done since it failed is done."""
    done = set(done)
    failed = set(failed) - done
    return {"pending": partitions - len(done) - len(failed), "done": len(done), "failed": len(failed)}


def rates(per_second: float | None, seconds_left: float | None) -> dict[str, float | None]:
    return {
        "per_second": per_second and round(per_second, 1),
        "seconds_left": None if seconds_left is None else round(seconds_left, 1),
    }


def seconds_a_partition(done: Iterable[float], since: float, now: float) -> float | None:
    """Return how long a job that began at ``since`` takes a partition of late; None before it has done one.

    ``done`` are the times at which partitions were done, by it and before. They come in bursts, one from each worker; and
    a job that has come to a halt gets slower by the second.
    """
    times = sorted(at for at in done if at >= since)
    if not times:
        return None
    now = max(now, times[-1])
    recent = [at for at in times if at >= now - RECENT_SECONDS]
    if len(recent) >= RECENT_PARTITIONS:
        times = recent
    steps = len(times) - 1
    if steps and times[-1] - times[0] >= 1:
        return max((times[-1] - times[0]) / steps, (now - times[0]) / (steps + 1))
    return max(now - since, 0.1) / len(times)


def _working(told: dict, step: str, writer: dict | None, done: dict[int, float]) -> list[dict]:
    """Return who works at a step, how fast and for how long still; nothing where nobody does."""
    if not writer:
        return []
    since = datetime.fromisoformat(writer["since"]).timestamp()
    seconds = seconds_a_partition(done.values(), since, time.time())
    images = told["images"] / max(told["partitions"], 1)
    found = rates(images / seconds, told[step]["pending"] * seconds) if seconds else rates(None, None)
    return [{"step": step} | writer | {"unit": "images"} | found]


def _redo(told: dict, ingest: str | None) -> list[str]:
    """Return the commands that do again what failed of a run, in their order; ``ingest`` is the one that made its corpus."""
    commands = []
    if told["tag"]["failed"]:
        tagging = [problem for problem in told["problems"] if problem["step"] == "tag"]
        corrupt = [p["partition"] for p in tagging if "`tinytags ingest` with --partition" in p["error"]]
        if corrupt and ingest:
            commands.append(ingest + "".join(f" --partition {p}" for p in corrupt))
        words = ["tinytags", "tag", "--corpus", told["corpus"], "--model", told["model"]]
        words += ["--min-confidence", str(told["min_confidence"])]
        words += ["--similar"] if told["similar"] else []
        commands.append(shlex.join(words))
    refused = [problem["partition"] for problem in told["problems"] if problem["step"] == "index"]
    if refused:
        commands.append(f"tinytags index {told['run']}" + "".join(f" --partition {p}" for p in refused))
    return commands
