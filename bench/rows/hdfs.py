"""Ingest and tag in HDFS, against HdfsCLI moving the same bytes."""

import functools
from concurrent.futures import ThreadPoolExecutor

from bench import made
from bench.harness import Comparison, Way
from bench.place import MODEL, removed
from bench.rows import ingest, tag
from ingest.formats import open_dump
from ingest.image import IMAGE_BYTES
from storage import hdfs_client, layout
from storage.store import open_store
from tagging.models import save_model

MOVED = "/bench/moved"


def measured(place):
    service, sizes = place.hdfs, place.sizes
    url, webhdfs = f"{service.url}/bench", service.webhdfs
    store = open_store(url, webhdfs)
    client = hdfs_client.client(webhdfs, hdfs_client.user())
    count = min(sizes.hdfs, sizes.images)
    with open(place.dump, "rb") as dump:
        client.write("/bench/tiny_images.bin", data=dump.read(count * IMAGE_BYTES))
    save_model(store, MODEL, place.forest, {"engine": "scikit-learn"})
    source = open_dump(f"{url}/tiny_images.bin", webhdfs=webhdfs)
    corpus = made.corpus_of(source, "tiny", min(sizes.partition, count // place.cores))
    partitions = range(corpus.partitions)
    parquet = [layout.corpus_images(corpus.name, p) for p in partitions]

    def compared(step: str, ours: Way, moves: list[tuple], written: list[str]) -> Comparison:
        def same(result: int, lengths: list[int]) -> bool:
            return result == expected[step] and lengths == list(map(store.size, written))

        theirs = Way(
            functools.partial(move, webhdfs, moves, place.cores),
            count,
            lambda: client.delete(MOVED, recursive=True),
        )
        read = sum(length for _, _, length, _ in moves) / 1e6
        about = {"read": read, "written": sum(map(store.size, written)) / 1e6}
        return Comparison(f"hdfs/{step}", ours, theirs, same, about=about)

    ours, expected = ingest.way(place, corpus, source, store), {"ingest": count}
    ours.run()
    moves = []
    for path, (start, stop) in zip(parquet, map(corpus.rows, partitions), strict=True):
        record = start * IMAGE_BYTES, (stop - start) * IMAGE_BYTES
        moves.append(("/bench/tiny_images.bin", *record, store.read_bytes(path)))
    yield compared("ingest", ours, moves, parquet)

    run = tag.make_run(place, corpus, store)
    ours = tag.way(place, run, partitions, corpus, store)
    expected["tag"] = ours.run()
    lines = [layout.run_tags(run.name, p) for p in partitions]
    paths = zip(parquet, lines, strict=True)
    moves = [(f"/bench/{path}", 0, store.size(path), store.read_bytes(tags)) for path, tags in paths]
    yield compared("tag", ours, moves, lines)
    service.stop()
    removed(service.directory)()


def move(webhdfs: str, moves: list[tuple[str, int, int, bytes]], threads: int) -> list[int]:
    """Read ranges of files by HdfsCLI and write as many files, a few at a time; return the lengths written.

    Each of ``moves`` is the path, offset and length to read, and the data to write.
    """
    client = hdfs_client.client(webhdfs, hdfs_client.user())

    def one(number: int) -> int:
        path, offset, length, data = moves[number]
        with client.read(path, offset=offset, length=length, chunk_size=0) as response:
            assert len(response.read()) == length
        client.write(f"{MOVED}/{number}", data=data, overwrite=True)
        return len(data)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(len(moves))))
