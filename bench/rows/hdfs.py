"""Ingest and tag in HDFS, against HdfsCLI moving the same bytes."""

from concurrent.futures import ThreadPoolExecutor

from bench import made
from bench.harness import Comparison, Way, speed
from bench.place import MODEL
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
        records = dump.read(count * IMAGE_BYTES)
    client.write("/bench/tiny_images.bin", data=records)
    save_model(store, MODEL, place.forest, {"engine": "scikit-learn"})
    source = open_dump(f"{url}/tiny_images.bin", webhdfs=webhdfs)
    corpus = made.corpus_of(source, "tiny", min(sizes.partition, count // place.cores))
    partitions = list(range(corpus.partitions))

    def sizes_of(paths) -> list[int]:
        return [store.size(path) for path in paths]

    parquet = [layout.corpus_images(corpus.name, p) for p in partitions]
    ingest(store, spark, corpus, source)
    written = [store.read_bytes(path) for path in parquet]
    records_of = [
        (start * IMAGE_BYTES, (stop - start) * IMAGE_BYTES) for start, stop in map(corpus.rows, partitions)
    ]
    moves = [("/bench/tiny_images.bin", *part, data) for part, data in zip(records_of, written, strict=True)]
    yield Comparison(
        "hdfs/ingest",
        "ingest, HDFS to HDFS",
        Way(
            "tinytags ingest",
            lambda: ingest(store, spark, corpus, source),
            count,
            before=lambda: store.remove_tree(layout.corpus_folder(corpus.name)),
        ),
        Way(
            "HdfsCLI moving the same bytes",
            lambda: move(webhdfs, moves, place.cores),
            count,
            before=lambda: client.delete("/bench/moved", recursive=True),
        ),
        "images",
        same=lambda images, moved: images == count and moved == sizes_of(parquet),
        figures=(speed(0.8),),
        rounds=sizes.rounds,
        note=f"{count * IMAGE_BYTES / 1e6:,.0f} MB there and back, {place.cores} files at a time, one DataNode",
    )
    run = make_run(store, corpus, MODEL, place.forest)
    tag(store, spark, corpus, run, partitions)
    tags = [layout.run_tags(run.name, p) for p in partitions]
    lines = [store.read_bytes(path) for path in tags]
    documents = sum(data.count(b"\n") for data in lines)
    moves = [(f"/bench/{path}", 0, store.size(path), data) for path, data in zip(parquet, lines, strict=True)]
    yield Comparison(
        "hdfs/tag",
        "tag, HDFS to HDFS",
        Way(
            "tinytags tag",
            lambda: tag(store, spark, corpus, run, partitions),
            count,
            before=lambda: forget(store, run),
        ),
        Way(
            "HdfsCLI moving the same bytes",
            lambda: move(webhdfs, moves, place.cores),
            count,
            before=lambda: client.delete("/bench/moved", recursive=True),
        ),
        "images",
        same=lambda tagged, moved: tagged == documents and moved == sizes_of(tags),
        figures=(speed(0.8),),
        rounds=sizes.rounds,
        note=f"{sum(sizes_of(parquet)) / 1e6:,.0f} MB read, {sum(sizes_of(tags)) / 1e6:,.1f} MB written",
    )
    place.stop_hdfs()


def move(webhdfs: str, moves: list[tuple[str, int, int, bytes]], threads: int) -> list[int]:
    """Read ranges of files by HdfsCLI and write as many files of given data, a few at a time; return their lengths.

    Each of ``moves`` is the path, offset and length to read, and the data to write.
    """
    client = hdfs_client.client(webhdfs, hdfs_client.user())

    def one(number: int) -> int:
        path, offset, length, data = moves[number]
        with client.read(path, offset=offset, length=length, chunk_size=0) as response:
            read = len(response.read())
        assert read == length
        client.write(f"/bench/moved/{number}", data=data, overwrite=True)
        return len(data)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(len(moves))))
