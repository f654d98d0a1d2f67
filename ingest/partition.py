"""The images of one partition of a corpus: a Parquet file, written, read and checked."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from conf.wording import first_line
from ingest.bad import BadRecord, describe, read_bad, strict_error, write_bad
from ingest.corpus import Corpus
from ingest.image import IMAGE_BYTES
from ingest.pages import read_pixels
from storage import layout
from storage.store import FileMissingError, Store, StoreError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

    from ingest.formats.dump import Batch, Readable

# One thumbnail costs one row group: 256 images, 0.8 MB. It also keeps reading, checking and tagging within the cache.
ROW_GROUP_IMAGES = 256


class PartitionDamagedError(StoreError):
    """A partition whose images are missing, corrupt or of another corpus; the step ``remedy`` writes them again."""

    remedy = "ingest"

    def __init__(self, message: str, corpus: str, partition: int) -> None:
        super().__init__(message, layout.corpus_images(corpus, partition))
        self.corpus, self.partition = corpus, partition

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.corpus, self.partition)


class NoImageError(StoreError):
    """A record of a dump that could not be decoded, so that there is a row, but no image."""


@dataclass(frozen=True)
class Block:
    """Up to 256 consecutive images of a partition."""

    row: int  # of the first image, within the partition
    images: NDArray[np.uint8]  # (n, 3072) uint8, canonical, read-only
    labels: NDArray[np.int32]  # (n,) int32, -1 for no label
    names: list[str] | None  # where the source has names
    # (n,), the rows without an image, black in ``images``; None for none
    bad: NDArray[np.bool_] | None = None

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which rows (n,) have an image."""
        return np.ones(len(self.images), bool) if self.bad is None else ~self.bad


def write_partition(
    store: Store, corpus: Corpus, partition: int, dump: "Readable", strict: bool = False
) -> dict[str, Any]:
    """Split one partition off ``dump`` into Parquet, then its statistics, the marker that it is done; return these.

    Reads only the partition's own records and writes them, a batch at a time, so that memory doesn't depend on its size.
    A record that can't be decoded has neither image nor label, and is listed by `ingest.bad`; with ``strict`` it
    raises `BadRecordsError`.
    """
    import pyarrow
    import pyarrow.parquet

    began = time.monotonic()
    start, stop = corpus.rows(partition)
    about = {"tinytags.corpus": corpus.hash, "tinytags.partition": str(partition)}
    schema = _schema().with_metadata(about)
    labelled = 0
    bad: list[BadRecord] = []

    def write(file: Any) -> Iterator[None]:
        nonlocal labelled
        labelled = row = 0
        bad.clear()
        with pyarrow.parquet.ParquetWriter(
            file,
            schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            for batch in dump.read_batches(start, stop):
                new = [
                    BadRecord(
                        row=row + place,
                        name=(batch.names[place] or None) if batch.names else None,
                        reason=reason,
                    )
                    for place, reason in sorted(batch.bad.items())
                ]
                if new and strict:
                    raise strict_error(new)
                bad.extend(new)
                table = _table(schema, row, batch)
                labelled += len(table) - table.column("label").null_count
                writer.write_table(table, row_group_size=ROW_GROUP_IMAGES)
                row += len(batch.images)
                yield

    size = store.write_in_steps(layout.corpus_images(corpus.name, partition), write)
    write_bad(store, corpus.name, partition, bad)
    statistics = {
        "partition": partition,
        "images": stop - start,
        "bad": len(bad),
        "labelled": labelled,
        "bytes": size,
        "seconds": round(time.monotonic() - began, 3),
    }
    store.write_json(layout.corpus_statistics(corpus.name, partition), statistics)
    return statistics


def _schema(label: "pyarrow.DataType | None" = None) -> "pyarrow.Schema":
    import pyarrow

    return pyarrow.schema(
        [
            ("row", pyarrow.int32()),
            ("image", pyarrow.binary()),
            ("label", label or pyarrow.int32()),
            ("name", pyarrow.string()),
        ]
    )


def _table(schema: "pyarrow.Schema", row: int, batch: "Batch") -> "pyarrow.Table":
    import pyarrow

    n = len(batch.images)
    good = np.ones(n, bool)
    good[list(batch.bad)] = False
    ends = np.zeros(n + 1, np.int32)
    np.cumsum(good * IMAGE_BYTES, out=ends[1:])
    pixels = np.ascontiguousarray(batch.images[good] if batch.bad else batch.images)
    there = pyarrow.py_buffer(np.packbits(good, bitorder="little")) if batch.bad else None
    images = pyarrow.Array.from_buffers(
        pyarrow.binary(), n, [there, pyarrow.py_buffer(ends), pyarrow.py_buffer(pixels)]
    )
    labels = pyarrow.array(batch.labels, schema.field("label").type, mask=(batch.labels < 0) | ~good)
    names = (
        pyarrow.nulls(n, pyarrow.string())
        if batch.names is None
        else pyarrow.array(batch.names, pyarrow.string())
    )
    rows = pyarrow.array(np.arange(row, row + n, dtype=np.int32))
    return pyarrow.Table.from_arrays([rows, images, labels, names], schema=schema)


def read_partition(store: Store, corpus: Corpus, partition: int, names: bool = False) -> Iterator[Block]:
    """Yield the images of a partition in blocks of up to 256, checksums checked of all pages that are read.

    Raises `PartitionDamagedError` where the file is missing, corrupt, of another corpus or not as long as it should be.
    """
    start, stop = corpus.rows(partition)
    row = 0
    with (
        _parquet_errors(store, corpus, partition),
        _open_partition(store, corpus, partition, store.open_arrow) as source,
    ):
        parquet = _open_parquet(store, corpus, partition, source)
        _check_length(store, corpus, partition, parquet.metadata.num_rows, stop - start)
        if names:
            blocks = _all_columns(parquet)
        else:
            blocks = _pixels_and_labels(source, parquet, corpus.classes is not None)
        for block in blocks:
            yield block
            row += len(block.images)
    _check_length(store, corpus, partition, row, stop - start)


def read_labels(store: Store, corpus: Corpus, partition: int) -> NDArray[np.int32]:
    """Return the labels (n,) int32 of a partition, -1 for no label, without reading its pixels. Raises as `read_partition` does."""
    start, stop = corpus.rows(partition)
    if corpus.classes is None:
        return np.full(stop - start, -1, np.int32)
    with _parquet_errors(store, corpus, partition):
        return _labels(_read_column(store, corpus, partition, "label"))


def read_names(store: Store, corpus: Corpus, partition: int) -> list[str | None]:
    """Return the names (n,) of a partition's images, None where there is none, without reading pixels. Raises as `read_partition` does."""
    with _parquet_errors(store, corpus, partition):
        names: list[str | None] = _read_column(store, corpus, partition, "name").to_pylist()
    return names


def _read_column(store: Store, corpus: Corpus, partition: int, name: str) -> "pyarrow.Array":
    """Return one column (n,) of a partition; reads no other."""
    start, stop = corpus.rows(partition)
    with _open_partition(store, corpus, partition, store.open_ranged) as source:
        parquet = _open_parquet(store, corpus, partition, source)
        column = parquet.read(columns=[name], use_threads=False).column(0).combine_chunks()
    _check_length(store, corpus, partition, len(column), stop - start)
    return column


def _check_length(store: Store, corpus: Corpus, partition: int, images: int, wanted: int) -> None:
    if images != wanted:
        raise _damaged(store, corpus, partition, f"holds {images:,} images instead of {wanted:,}")


def _pixels_and_labels(
    source: "pyarrow.NativeFile", parquet: "pyarrow.parquet.ParquetFile", labelled: bool
) -> Iterator[Block]:
    """Yield blocks whose pixels are not copied, but for row groups that have another form than `write_partition` gives them."""
    row = 0
    labels = np.full(parquet.metadata.num_rows, -1, np.int32)
    if labelled:
        labels = _labels(parquet.read(columns=["label"], use_threads=False).column(0).combine_chunks())
    for group in range(parquet.num_row_groups):
        about = parquet.metadata.row_group(group)
        pixels = None
        if about.num_rows <= ROW_GROUP_IMAGES:
            pixels = read_pixels(source, about.column(1), about.num_rows)
        if pixels is None:
            for batch in parquet.iter_batches(
                ROW_GROUP_IMAGES, row_groups=[group], columns=["image", "label"], use_threads=False
            ):
                yield _block(row, batch)
                row += len(batch)
        else:
            yield Block(row, pixels, labels[row : row + len(pixels)], None)
            row += len(pixels)


def _all_columns(parquet: "pyarrow.parquet.ParquetFile") -> Iterator[Block]:
    row = 0
    for batch in parquet.iter_batches(
        ROW_GROUP_IMAGES, columns=["image", "label", "name"], use_threads=False
    ):
        yield _block(row, batch)
        row += len(batch)


def _open_partition(
    store: Store, corpus: Corpus, partition: int, open: "Callable[[str], pyarrow.NativeFile]"
) -> "pyarrow.NativeFile":
    try:
        return open(layout.corpus_images(corpus.name, partition))
    except FileMissingError:
        raise _damaged(store, corpus, partition, "is missing") from None


def read_image(store: Store, corpus: Corpus, partition: int, row: int) -> Block:
    """Return the one image at ``row`` of ``partition`` as a block; reads one row group.

    Raises `TinyTagsError` for an image that there isn't, `NoImageError` for a record that could not be decoded,
    `PartitionDamagedError` for a corrupt file.
    """
    start, stop = corpus.rows(partition)
    if not 0 <= row < stop - start:
        raise TinyTagsError(
            f"partition {partition} of {corpus.name!r} has no row {row}; it has 0 to {stop - start - 1}"
        )
    path = layout.corpus_images(corpus.name, partition)
    group, index = divmod(row, ROW_GROUP_IMAGES)
    with _parquet_errors(store, corpus, partition), store.open_ranged(path) as source:
        parquet = _open_parquet(store, corpus, partition, source, _footer(store, path, corpus.hash))
        table = parquet.read_row_group(group, columns=["image", "label", "name"], use_threads=False)
        block = _block(group * ROW_GROUP_IMAGES, table.combine_chunks().to_batches()[0])
    if block.bad is not None and block.bad[index]:
        known = (
            describe(record) for record in read_bad(store, corpus.name, partition) if record["row"] == row
        )
        raise NoImageError(f"corpus {corpus.name!r} has no image of {next(known, f'row {row:,}')}", path)
    one = slice(index, index + 1)
    image = block.images[one].copy()  # a view would keep the whole row group in memory
    return Block(row, image, block.labels[one], block.names and block.names[one])


def read_rows(store: Store, corpus: Corpus, partition: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images (n, 3072) at ascending ``rows`` (n,) of a partition, black for bad records; reads only their row groups.

    Raises `PartitionDamagedError` for a corrupt file or a row beyond its end.
    """
    path = layout.corpus_images(corpus.name, partition)
    images = np.empty((len(rows), IMAGE_BYTES), np.uint8)
    with _parquet_errors(store, corpus, partition), store.open_ranged(path) as source:
        parquet = _open_parquet(store, corpus, partition, source, _footer(store, path, corpus.hash))
        groups = rows // ROW_GROUP_IMAGES
        for group in np.unique(groups).tolist():
            table = parquet.read_row_group(group, columns=["image", "label"], use_threads=False)
            block = _block(group * ROW_GROUP_IMAGES, table.combine_chunks().to_batches()[0])
            images[groups == group] = block.images[rows[groups == group] - block.row]
    return images


@lru_cache(maxsize=512)  # some 20 kB a partition; saves a thumbnail the reading of the footer
def _footer(store: Store, path: str, corpus_hash: str) -> "pyarrow.parquet.FileMetaData":
    import pyarrow.parquet

    with store.open_ranged(path) as source:
        return pyarrow.parquet.read_metadata(source)


def _open_parquet(
    store: Store,
    corpus: Corpus,
    partition: int,
    source: "pyarrow.NativeFile",
    footer: "pyarrow.parquet.FileMetaData | None" = None,
) -> "pyarrow.parquet.ParquetFile":
    import pyarrow
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(
        source,
        metadata=footer,
        page_checksum_verification=True,
        # Fewer requests for one row group; reading on, it would keep the whole file in memory.
        pre_buffer=footer is not None,
    )
    # Version 0.1 wrote labels as int8.
    if not any(parquet.schema_arrow.equals(_schema(label)) for label in (pyarrow.int32(), pyarrow.int8())):
        raise pyarrow.ArrowInvalid("it has other columns")
    metadata = parquet.metadata.metadata or {}
    hash, number = (metadata.get(key, b"?").decode() for key in (b"tinytags.corpus", b"tinytags.partition"))
    if (hash, number) != (corpus.hash, str(partition)):
        problem = f"is partition {number} of corpus {hash[:8]}, not {partition} of {corpus.hash[:8]}"
        raise _damaged(store, corpus, partition, problem)
    return parquet


def _block(row: int, batch: "pyarrow.RecordBatch") -> Block:
    """Wrap an Arrow batch's pixels as an array, without a copy where there is no bad record."""
    import pyarrow

    images = batch.column("image")
    bad = np.asarray(images.is_null()) if images.null_count else None
    there = images.drop_null() if images.null_count else images
    n = len(there)
    _, ends, pixels = there.buffers()
    ends = np.frombuffer(ends, np.int32, n + 1, there.offset * 4)
    if (np.diff(ends) != IMAGE_BYTES).any():
        raise pyarrow.ArrowInvalid(f"an image near row {row} is not {IMAGE_BYTES:,} bytes")
    pixels = np.frombuffer(pixels or b"", np.uint8, n * IMAGE_BYTES, ends[0]).reshape(n, IMAGE_BYTES)
    if bad is not None:
        whole = np.zeros((len(images), IMAGE_BYTES), np.uint8)
        whole[~bad] = pixels
        pixels = whole
    names = batch.column("name").to_pylist() if "name" in batch.schema.names else None
    return Block(row, pixels, _labels(batch.column("label")), names, bad)


def _labels(labels: "pyarrow.Array") -> NDArray[np.int32]:
    """Return an Arrow array of labels as (n,) int32, -1 where there is none."""
    known: NDArray[Any] = (labels.fill_null(-1) if labels.null_count else labels).to_numpy()
    return known.astype(np.int32, copy=False)


def _damaged(store: Store, corpus: Corpus, partition: int, problem: str) -> PartitionDamagedError:
    path = store.url(layout.corpus_images(corpus.name, partition))
    return PartitionDamagedError(
        f"{path}: {problem}; `tinytags ingest` with --partition repairs it", corpus.name, partition
    )


@contextlib.contextmanager
def _parquet_errors(store: Store, corpus: Corpus, partition: int) -> Iterator[None]:
    """Turn what pyarrow raises for a corrupt file into one line that names it."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise _damaged(store, corpus, partition, f"is corrupt ({reason})") from None
