"""Ingest and tag in HDFS, against HdfsCLI moving the same bytes."""

from concurrent.futures import ThreadPoolExecutor

from bench import made
from bench.harness import Comparison, Way
from bench.place import MODEL, removed
from bench.rows.ingest import ingest
from bench.rows.tag import forget, make_run, tag
from ingest.formats import open_dump
from ingest.image import IMAGE_BYTES
from storage import hdfs_client, layout
from storage.store import open_store
from tagging.models import save_model


def measured(place):
    service, sizes, spark = place.hdfs, place.sizes, place.spark
    url, webhdfs = f"{service.url}/bench", service.webhdfs
    store = open_store(url, webhdfs)
    client = hdfs_client.client(webhdfs, hdfs_client.user())
    count = min(sizes.hdfs, sizes.images)
    with open(place.dump, "rb") as dump:
        client.write("/bench/tiny_images.bin", data=dump.read(count * IMAGE_BYTES))
    save_model(store, MODEL, place.forest, {"engine": "scikit-learn"})
    source = open_dump(f"{url}/tiny_images.bin", webhdfs=webhdfs)
    corpus = made.corpus_of(source, "tiny", min(sizes.partition, count // place.cores))
    partitions = list(range(corpus.partitions))

    def compared(
        name: str, ours, forget_ours, expected: int, moves: list[tuple], written: list[str], note: str
    ):
        return Comparison(
            f"hdfs/{name}",
            f"{name}, HDFS to HDFS",
            Way(f"tinytags {name}", ours, count, before=forget_ours),
            Way(
                "HdfsCLI moving the same bytes",
                lambda: move(webhdfs, moves, place.cores),
                count,
                before=lambda: client.delete("/bench/moved", recursive=True),
            ),
            target=0.8,
            same=lambda result, moved: result == expected and moved == [store.size(path) for path in written],
            rounds=sizes.rounds,
            note=note,
        )

    parquet = [layout.corpus_images(corpus.name, p) for p in partitions]
    ingest(store, spark, corpus, source)
    moves = []
    for path, (start, stop) in zip(parquet, map(corpus.rows, partitions), strict=True):
        record = start * IMAGE_BYTES, (stop - start) * IMAGE_BYTES
        moves.append(("/bench/tiny_images.bin", *record, store.read_bytes(path)))
    yield compared(
        "ingest", lambda: ingest(store, spark, corpus, source),
        lambda: store.remove_tree(layout.corpus_folder(corpus.name)), count, moves, parquet,
        f"{count * IMAGE_BYTES / 1e6:,.0f} MB there and back, {place.cores} files at a time, one DataNode",
    )  # fmt: skip
    run = make_run(store, corpus, MODEL, place.forest)
    tag(store, spark, corpus, run, partitions)
    tags = [layout.run_tags(run.name, p) for p in partitions]
    lines = [store.read_bytes(path) for path in tags]
    moves = [(f"/bench/{path}", 0, store.size(path), data) for path, data in zip(parquet, lines, strict=True)]
    read, written = sum(store.size(path) for path in parquet), sum(map(len, lines))
    yield compared(
        "tag", lambda: tag(store, spark, corpus, run, partitions), lambda: forget(store, run),
        sum(data.count(b"\n") for data in lines), moves, tags,
        f"{read / 1e6:,.0f} MB read, {written / 1e6:,.1f} MB written",
    )  # fmt: skip
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
        client.write(f"/bench/moved/{number}", data=data, overwrite=True)
        return len(data)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(len(moves))))
