"""The demo: from images to a page of results on real data, with the same commands that a user types."""

import contextlib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from conf.command import join_names, note
from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.settings import Settings
from conf.wording import duration
from operations.services.service import Service

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR_BYTES = 170_052_171
# The names of CIFAR-10 in a folder, the preferred form first.
CIFAR_NAMES = (
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
)
# Small, so that a few thousand images make several partitions.
PARTITION_IMAGES = 2_000


def demo(
    settings: Settings,
    data: str | None,
    host: str,
    port: int,
    serve: bool,
    engine: str = "mllib",
    annotations: bool = False,
) -> None:
    """Ingest, train, tag, index, verify and serve, with a line about each step; stop the services that it started.

    With ``annotations`` also pictures of scenes with their labels and relations.
    """
    from jobs.partitions import rate_summary

    began = time.monotonic()
    folder = _work_folder(settings)
    labelled, unlabelled = find_data(data, folder, settings.webhdfs or None)
    note(f"demo: training on the labelled images in {labelled}")
    with contextlib.ExitStack() as stack:
        solr = _solr(settings)
        if solr is not None and solr.start():
            note(f"demo: Solr runs at {solr.url}")
            stack.callback(_stop, solr)
        name = _corpus_name(settings, labelled)
        model = f"forest-{name}" if engine == "mllib" else f"forest-{name}-{engine}"
        _verb(settings, "ingest", labelled, "--corpus", name)
        if _model_exists(settings, model):
            note(f"demo: model {model} is trained already")
        else:
            _verb(settings, "train", "--corpus", name, "--model", model, "--engine", engine)
        if unlabelled:
            tiny = _corpus_name(settings, unlabelled)
            _verb(settings, "ingest", unlabelled, "--corpus", tiny)
        else:
            tiny = f"{name}-tiny"
            _verb(settings, "ingest", *write_dump(settings, name, folder), "--corpus", tiny)
        tagged = _verb(settings, "tag", "--corpus", tiny, "--model", model, result=True)
        rate = rate_summary("tagged", tagged["partitions_tagged"], tagged)
        note(f"  {tagged['tagged']:,} of {tagged['images']:,} images tagged{rate}")
        if tagged["labelled"]:
            note(
                f"  {tagged['right'] / tagged['labelled']:.1%} of {tagged['labelled']:,} tags with a known label are right"
            )
        _verb(settings, "index", tagged["run"])
        _verb(settings, "verify", tagged["run"])
        note(f"\ndemo: from images to a page of results in {duration(time.monotonic() - began)}")
        if annotations:
            _annotations(settings, name, model, folder)
        if serve:
            from search_ui import serve as serve_page

            serve_page(settings, host, port)


def _annotations(settings: Settings, corpus: str, model: str, folder: Path) -> None:
    """Write scenes of a corpus' images, ingest them, and read and index their annotations."""
    from operations.demo_annotations import write_scenes
    from storage.store import store_of

    store = store_of(settings)
    name = f"{corpus}-scenes"
    pictures, annotations = write_scenes(store, corpus, model, folder / name)
    note(f"\ndemo: scenes of four of these images each, with labels and relations, are in {folder / name}")
    _verb(settings, "ingest", str(pictures), "--corpus", name)
    _verb(settings, "annotations", str(annotations), "--name", name)
    _verb(settings, "verify", name)
    note(f"demo: the pages begin at /annotations/{name}/classes")


def find_data(data: str | None, folder: Path, webhdfs: str | None = None) -> tuple[str, str | None]:
    """Return the path of labelled images, and ``data`` where it is a dump of unlabelled images to tag.

    Without labelled ``data``: CIFAR-10 in ``folder`` or beside it, else from its official page, else bundled digits.
    """
    from ingest.formats import open_dump

    if data:
        for name in CIFAR_NAMES:
            if Path(data, name).exists():
                return str(Path(data, name)), None
        if open_dump(data, webhdfs=webhdfs).classes:
            return data, None
    for place in (folder.parent, folder):
        for name in CIFAR_NAMES:
            if (place / name).exists():
                return str(place / name), data
    try:
        return str(download(CIFAR_URL, folder / "cifar-10-binary.tar.gz", CIFAR_SHA256, CIFAR_BYTES)), data
    except TinyTagsError as error:
        if data:
            raise TinyTagsError(f"{data} has no labels to train on, and {error}") from None
        note(f"demo: {error}")
        note("demo: continuing with the 1,797 handwritten digits of scikit-learn")
        return str(write_digits(folder / "digits")), None


def download(url: str, path: Path, sha256: str, size: int) -> Path:
    """Fetch ``url`` to ``path``, resuming an earlier attempt; raises `TinyTagsError` where it can't."""
    import urllib3

    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    start = part.stat().st_size if part.exists() else 0
    if start > size:
        part.unlink()
        start = 0
    try:
        if start < size:
            pool = urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=10, read=60), retries=urllib3.Retry(2, backoff_factor=0.5)
            )
            headers = {"Range": f"bytes={start}-"} if start else {}
            response = pool.request("GET", url, headers=headers, preload_content=False)
            if response.status not in (200, 206):
                raise TinyTagsError(
                    f"{url} answers {response.status}; download it yourself and give it with --data PATH"
                )
            start = start if response.status == 206 else 0
            with (
                open(part, "ab" if start else "wb") as file,
                Progress("download", size, "bytes", start) as progress,
            ):
                for block in response.stream(1 << 18):
                    file.write(block)
                    progress.add(len(block))
    except (urllib3.exceptions.HTTPError, OSError) as error:
        # urllib3 wraps the cause in what it tried: only the cause is of use here.
        reason = str(getattr(error, "reason", error)).rpartition(": ")[2]
        raise TinyTagsError(
            f"{url} can't be fetched ({reason}); download it yourself and give it with --data PATH"
        ) from None
    with open(part, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        part.unlink()
        raise TinyTagsError(
            f"{url}: sha256 is {actual[:16]}..., not {sha256[:16]}...; the download is removed, try again"
        )
    part.replace(path)
    return path


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's 8x8 digits in CIFAR-10's binary format, enlarged to 32x32."""
    from operations.sample import read_digits

    images, digits = read_digits()
    records = np.column_stack([digits.astype(np.uint8), images])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "batches.meta.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    temporary = folder / ".data_batch_1.bin.tmp"
    records.tofile(temporary)
    temporary.replace(folder / "data_batch_1.bin")
    return folder


def write_dump(settings: Settings, corpus: str, folder: Path) -> list[str]:
    """Write the images that the model was not trained on as a dump in the format of 80 Million Tiny Images.

    Planes column-major, no header; a file of labels beside it, for the share of correct tags.
    Returns the arguments of `tinytags ingest`.
    """
    from ingest.corpus import open_corpus
    from ingest.image import from_column_major
    from storage.store import store_of
    from tagging.training import held_out_blocks

    store = store_of(settings)
    source = open_corpus(store, corpus)
    out = folder / f"{corpus}-dump"
    out.mkdir(parents=True, exist_ok=True)
    dump, labels = out / "tiny_images.bin", out / "labels.bin"
    count = 0
    with open(f"{dump}.tmp", "wb") as images_file, open(f"{labels}.tmp", "wb") as labels_file:
        for images, known in held_out_blocks(store, source):
            images_file.write(from_column_major(images).data)  # a transpose is its own inverse
            labels_file.write(known.astype(np.uint8).data)
            count += len(images)
    for path in (dump, labels):
        os.replace(f"{path}.tmp", path)
    note(f"\ndemo: the {count:,} images that the model was not trained on are now a dump: {dump}")
    return [str(dump), "--labels", str(labels), "--classes", join_names(source.classes or []),
            "--partition-images", str(PARTITION_IMAGES)]  # fmt: skip


def _verb(settings: Settings, *words: str, result: bool = False) -> Any:
    """Show and run a command; return its JSON with ``result``, else None."""
    from jobs.archive import ROOT

    note(f"\n$ tinytags {shlex.join(words)}")
    began = time.monotonic()
    environment = os.environ | {
        f"TINYTAGS_{name.upper()}": value for name, value in vars(settings).items() if value
    }
    command = [sys.executable, str(ROOT / "tinytags.py"), *words, *(["--json"] if result else [])]
    # In a process group of its own, so that it gets Ctrl-C once: a second one would interrupt its clean-up.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE if result else None, text=True, process_group=0
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise KeyboardInterrupt from None
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode not in (0, 3):  # 3: done, but some documents were rejected
        raise TinyTagsError(
            f"the demo stops: tinytags {words[0]} failed with exit code {process.returncode}, see above"
        )
    note(f"  ({duration(time.monotonic() - began)})")
    return json.loads(output) if result else None


def _work_folder(settings: Settings) -> Path:
    base = Path("data") if "://" in settings.store else Path(settings.store)
    return base / "demo"


def _corpus_name(settings: Settings, path: str) -> str:
    """Return the name for the corpus of the images at ``path``; two folders of the same name get different ones."""
    from ingest import files
    from ingest.corpus import open_corpus
    from storage.store import store_of

    name = Path(path).name.removesuffix(".tar.gz")
    for ending in ("-batches-bin", "-batches-py", "-binary", "-python"):
        name = name.removesuffix(ending)
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name).strip("-")
    name = name[:40] or "images"
    path = files.absolute(path)
    with contextlib.suppress(TinyTagsError):  # no corpus of that name yet
        if open_corpus(store_of(settings), name).dump != path:
            name += "-" + hashlib.sha256(path.encode()).hexdigest()[:6]
    return name


def _model_exists(settings: Settings, model: str) -> bool:
    from storage.store import store_of
    from tagging.models import model_exists

    return model_exists(store_of(settings), model)


def _solr(settings: Settings) -> Service | None:
    """Return the Solr to start, or None where the settings name one that already runs or is on another host."""
    from operations.services import LOOPBACK, configured_services, get_json

    address = urlsplit(settings.solr)
    if address.hostname not in (LOOPBACK, "localhost") or get_json(f"{settings.solr}/admin/info/system"):
        return None
    small = {"TINYTAGS_SOLR_PORT": str(address.port or 80), "TINYTAGS_SOLR_LIGHT": "yes"}
    services = configured_services(os.environ | small)
    solr: Service = services["solr"]
    return solr


def _stop(solr: Service) -> None:
    note("demo: stopping Solr; `make serve` starts it again and shows the page")
    solr.stop()
