"""A small world to try commands in: images that can be learnt, written as a dump, and the command run on them."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

import tinytags
from ingest.corpus import Corpus, create_corpus
from ingest.formats import open_dump
from ingest.image import from_column_major
from ingest.partition import write_partition

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TINYTAGS = Path(sys.executable).with_name("tinytags")
# Enough workers to see that they don't get into each other's way.
MASTER = "local[2]"
# As many workers without a JVM.
PROCESSES = "processes[2]"
# Others may be busy on the machine too.
PATIENCE = 240


def make_images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 3072) uint8 canonical images and their (count,) labels 0-9; some are harder to tell than others."""
    patterns = np.random.default_rng(4711).integers(0, 256, (10, 3, 4, 4))
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count).astype(np.uint8)
    clearness = random.uniform(0.02, 0.6, (count, 1))
    images = np.empty((count, 3072), np.uint8)
    for start in range(0, count, 256):  # all at once take three times as long
        few = slice(start, start + 256)
        pictures = patterns[labels[few]].repeat(8, axis=2).repeat(8, axis=3).reshape(-1, 3072)
        noise = random.integers(0, 256, pictures.shape)
        images[few] = pictures * clearness[few] + noise * (1 - clearness[few])
    return images, labels


def write_tiny_images(path: Path, count: int, seed: int = 0) -> Path:
    """Write a tiny_images.bin, with a file of labels beside it: labels.bin."""
    images, labels = make_images(count, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(from_column_major(images).tobytes())
    path.with_name("labels.bin").write_bytes(labels.tobytes())
    return path


def write_cifar(folder: Path, train: int, test: int, seed: int = 1) -> Path:
    """Write a folder like CIFAR-10's binary one: ``train`` images in five batches, ``test`` in the sixth."""
    images, labels = make_images(train + test, seed)
    records = np.concatenate([labels[:, None], images], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(np.array_split(records[:train], 5), 1):
        batch.tofile(folder / f"data_batch_{number}.bin")
    records[train:].tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def make_corpus(store, name: str, path: Path, partition_images: int, **options) -> Corpus:
    """Ingest a dump as `tinytags ingest` does, without Spark."""
    dump = open_dump(str(path), **options)
    corpus = Corpus(
        name=name, format=dump.format, dump=dump.path, identity=dump.identity, images=dump.images,
        partition_images=partition_images, labels=options.get("labels"), classes=dump.classes, splits=dump.splits,
    )  # fmt: skip
    create_corpus(store, corpus)
    for partition in range(corpus.partitions):
        write_partition(store, corpus, partition, dump)
    return corpus


def make_labelled_and_unlabelled(store, folder: Path, name: str, count: int, partition_images: int) -> None:
    """Make two corpora of one dump: ``name`` with its labels, and "unlabelled" without."""
    dump = write_tiny_images(folder / "tiny_images.bin", count)
    make_corpus(store, name, dump, partition_images, labels=str(folder / "labels.bin"))
    make_corpus(store, "unlabelled", dump, partition_images)


def write_hostile(folder: Path) -> Path:
    """Write modules of the names of ours into ``folder``; return a file that is there once any of them was executed."""
    marker = folder / "executed"
    code = f"open({str(marker)!r}, 'a').write(__file__ + '\\n')\n"
    folder.mkdir(exist_ok=True)
    for name in ("conf", "storage", "ingest", "tagging", "records", "indexing", "search_ui", "operations"):
        (folder / f"{name}.py").write_text(code)
    (folder / "jobs").mkdir()
    for name in ("__init__", "runner", "worker", "tag_images"):
        (folder / "jobs" / f"{name}.py").write_text(code)
    return marker


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests; tasks run in the command's own process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TINYTAGS_")}
    return kept | {"TINYTAGS_MASTER": "processes[1]"} | more


def start(*words, cwd: Path | None = None, **environment: str) -> subprocess.Popen:
    """Start the real command, in a process group of its own."""
    return subprocess.Popen(
        [TINYTAGS, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        env=clean_environment(**environment), start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """Wait for a command to end with ``code``; return stdout and stderr. No end is with a traceback."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out, err


def run(*words, code: int = 0, cwd: Path | None = None, **environment: str) -> tuple[str, str]:
    """Run the command in this process, to its end with ``code``; return stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.dict(os.environ, clean_environment(**environment), clear=True),
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            tinytags.main([str(word) for word in words])
        except SystemExit as ended:
            assert ended.code == code, f"exit code {ended.code}\n{out.getvalue()}\n{err.getvalue()}"
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return out.getvalue(), err.getvalue()


def run_process(*words, code: int = 0, cwd: Path | None = None, **environment: str) -> tuple[str, str]:
    """Run the real command in a process of its own, to its end with ``code``; return stdout and stderr."""
    return finish(start(*words, cwd=cwd, **environment), code)


def run_json(*words, code: int = 0, cwd: Path | None = None, **environment: str) -> dict:
    """Run the command in this process with --json; return the one object on its stdout."""
    out, _ = run(*words, "--json", code=code, cwd=cwd, **environment)
    assert out.count("\n") == 1
    return json.loads(out)


def error_line(err: str) -> str:
    """Return the one line in which a command says what is wrong."""
    lines = [line for line in err.splitlines() if line.startswith(("tinytags: ", "Error: "))]
    assert len(lines) == 1, err
    return lines[0]


def wait_until(condition, process: subprocess.Popen | None = None, seconds: float = PATIENCE) -> None:
    """Wait until ``condition()`` holds; fail where ``process`` ends or time runs out before.

    Pauses are ten times as long as a try, 0.2 s at most: expensive ones leave the processor to what they wait for.
    """
    until = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        assert time.monotonic() < until, "it never came"
        if process and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended before: {process.communicate()}")
        time.sleep(min(0.2, max(0.002, 10 * (time.monotonic() - began))))


def stop_group(process: subprocess.Popen, signal_number: int = signal.SIGKILL) -> None:
    """Send a signal to a started command and everything it started."""
    os.killpg(process.pid, signal_number)


def alive(process: subprocess.Popen) -> list[int]:
    """Return the living processes of a started command's session: itself, Spark's JVM, workers."""
    processes = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] not in "ZX":
            processes.append(int(stat.parent.name))
    return processes


def contents(folder: Path, volatile: tuple[str, ...] = ("seconds", "host", "checksum")) -> dict[str, object]:
    """Return every file below ``folder``: its bytes, or for JSON what it says without what differs from time to time.

    Files that only say when a job finished are left out.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith("-finished.json"):
            data: object = path.read_bytes()
            if path.suffix == ".json":
                data = {key: value for key, value in json.loads(data).items() if key not in volatile}
            files[str(path.relative_to(folder))] = data
    return files


def times(folder: Path) -> dict[str, int]:
    """Return when each file in ``folder`` was written, in nanoseconds; without temporary ones, which come and go."""
    names = [name for name in os.listdir(folder) if name[0] != "."] if folder.exists() else []
    return {name: (folder / name).stat().st_mtime_ns for name in names}
