"""Reading a range of bytes of a CSV file of labels or relations: its rows go to Parquet, its bad rows to a list.

A row belongs to the range that its first byte is in. Parquet has a group of rows for each partition of images, so that
what an image needs is read from all ranges without the rest.
"""

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from conf.garbage import no_collection
from conf.wording import first_line
from ingest import files
from ingest.annotations.classes import Classes
from ingest.annotations.layouts import BOXES, BadRowError, split_row
from ingest.annotations.manifest import MOST_LINE, AnnotationFile, Annotations
from storage import layout
from storage.store import DamagedFileError, Store

if TYPE_CHECKING:
    import pyarrow

# Rows of labels: image, class, source, confidence; of relations: image, class 1, relation, class 2, the boxes as text.
COLUMNS = {
    "labels": ("image", "class", "source", "confidence"),
    "relations": ("image", "class1", "relation", "class2", "boxes"),
}
MACHINE = "machine"  # the source of labels that a model gives
LISTED = 10  # ids without a name that statistics list
QUOTED_CHARACTERS = 200  # characters of a bad row
Row = tuple[Any, ...]


def partition_of(image: str, partitions: int) -> int:
    """Return the partition of an image, by the CRC-32 of its id."""
    return zlib.crc32(image.encode()) % partitions


@no_collection()
def read_range(
    store: Store, annotations: Annotations, classes: Classes, webhdfs: str | None, number: int
) -> dict[str, Any]:
    """Read a range, write its rows, its bad rows, then its statistics, the marker that it is done; return these."""
    began = time.monotonic()
    source, start, stop = annotations.range(number)
    rows: list[list[Row]] = [[] for _ in range(annotations.partitions)]
    bad: list[dict[str, Any]] = []
    unknown: Counter[str] = Counter()
    count = lines = 0
    for at, line in _lines(source, start, stop, webhdfs):
        lines += 1
        try:
            row = _parse(source, line)
        except BadRowError as error:
            text = line[: QUOTED_CHARACTERS * 4].decode(errors="replace")[:QUOTED_CHARACTERS]
            bad.append({"byte": at, "line": lines, "reason": str(error), "row": text})
            continue
        if row is None:
            continue
        count += 1
        for label in _classes(source, row):
            if label not in classes.names:
                unknown[label] += 1
        rows[partition_of(row[0], len(rows))].append(row)
    _write_parquet(store, layout.annotations_rows(annotations.name, source.kind, number), source.kind, rows)
    store.write_bytes(
        layout.annotations_bad(annotations.name, number),
        b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in bad),
    )
    statistics = {
        "partition": number, "file": files.base_name(source.path), "kind": source.kind, "lines": lines, "rows": count,
        "bad": len(bad), "unknown": sum(unknown.values()), "unknown_classes": sorted(unknown)[:LISTED],
        "seconds": round(time.monotonic() - began, 4),
    }  # fmt: skip
    store.write_json(layout.statistics(layout.annotations_rows_folder(annotations.name), number), statistics)
    return statistics


def read_rows(store: Store, annotations: Annotations, kind: str, partition: int) -> Iterator[Row]:
    """Yield the rows of a kind of the images in a partition, from all ranges in order. Raises `StoreError`."""
    for number in range(annotations.ranges):
        if annotations.range(number)[0].kind == kind:
            table = read_range_rows(store, annotations, number, partition)
            yield from zip(*(table.column(name).to_pylist() for name in COLUMNS[kind]), strict=True)


def read_range_rows(
    store: Store, annotations: Annotations, number: int, partition: int | None = None
) -> "pyarrow.Table":
    """Return the rows of a range, of all images or of those in a partition. Raises `DamagedFileError` for a corrupt file."""
    import pyarrow
    import pyarrow.parquet

    path = layout.annotations_rows(annotations.name, annotations.range(number)[0].kind, number)
    try:
        with store.open_ranged(path) as file:
            parquet = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
            groups: Sequence[int] = range(parquet.num_row_groups)
            if partition is not None:  # a large one has more than one group
                about = parquet.metadata
                groups = [
                    group for group in groups if about.row_group(group).column(0).statistics.min == partition
                ]
            return parquet.read_row_groups(groups, use_threads=False)
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise DamagedFileError(
            f"{store.url(path)}: is corrupt ({reason}); `tinytags verify {annotations.name} --repair` marks it, "
            "`tinytags annotations` on the same files then writes it again",
            path,
        ) from None


def _write_parquet(store: Store, path: str, kind: str, rows: list[list[Row]]) -> None:
    """Write rows by partition, a group of rows for each."""
    import pyarrow
    import pyarrow.parquet

    kinds = {"confidence": pyarrow.float64()}
    schema = pyarrow.schema(
        [("partition", pyarrow.int32())]
        + [(name, kinds.get(name, pyarrow.string())) for name in COLUMNS[kind]]
    )
    with (
        store.writer(path) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for partition, group in enumerate(rows):
            if group:
                columns = [[partition] * len(group), *map(list, zip(*group, strict=True))]
                arrays = [
                    pyarrow.array(values, one.type) for values, one in zip(columns, schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _lines(source: AnnotationFile, start: int, stop: int, webhdfs: str | None) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin in a range of bytes, without their ends, each with its first byte."""
    before = 0 if start == source.start else 1
    data = bytes(files.read_range(source.path, start - before, stop - start + before, webhdfs))
    at = 0
    if before:  # the line that the byte before is in belongs to the range before
        at = data.find(b"\n") + 1
        if not at:
            return
    if not data.endswith(b"\n"):
        data += _rest(source, stop, webhdfs)
    first = start - before
    # The line that begins at `stop` belongs to the next range.
    while at < len(data) and first + at < stop:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield first + at, data[at:end].removesuffix(b"\r")
        at = end + 1


def _rest(source: AnnotationFile, at: int, webhdfs: str | None) -> bytes:
    """Return what a line has beyond the end of a range, up to a limit."""
    rest = b""
    while at < source.size and len(rest) <= MOST_LINE:
        block = bytes(files.read_range(source.path, at, min(1 << 16, source.size - at), webhdfs))
        line, newline, _ = block.partition(b"\n")
        rest += line + newline
        at += len(block)
        if newline:
            break
    return rest


def _parse(source: AnnotationFile, line: bytes) -> Row | None:
    """Return a row; None for an empty line. Raises `BadRowError`."""
    if not line:
        return None
    if len(line) > MOST_LINE:
        raise BadRowError(f"longer than {MOST_LINE:,} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise BadRowError(f"byte {error.start} of the line is not UTF-8") from None
    if "\r" in text:
        raise BadRowError("a carriage return within the line")
    fields = split_row(text)
    if len(fields) != source.width:
        raise BadRowError(f"{len(fields)} fields instead of {source.width}")
    columns = source.columns
    if source.kind == "labels":
        row: Row = (
            fields[columns["image"]].strip(),
            fields[columns["class"]].strip(),
            *_confidence(
                fields[columns["source"]].strip() if "source" in columns else "",
                fields[columns["confidence"]].strip() if "confidence" in columns else "1",
            ),
        )
        named = row[:2]
    else:
        row = tuple(fields[columns[name]].strip() for name in ("image", "class1", "relation", "class2"))
        named = row
        row += (" ".join(fields[columns[name]].strip() for name in BOXES) if "xmin1" in columns else "",)
    if not all(named):
        raise BadRowError(f"no {COLUMNS[source.kind][named.index('')]}")
    if not text.isprintable():  # which also a soft hyphen, or a joiner, isn't
        for name, value in zip(COLUMNS[source.kind], named, strict=False):
            if any(one < " " for one in value):
                raise BadRowError(f"a control character in {name}: {value[:40]!r}")
    return row


def _confidence(source: str, text: str) -> tuple[str, float]:
    try:
        confidence = float(text)
    except ValueError:
        raise BadRowError(f"confidence {text[:40]!r} is not a number") from None
    if not 0 <= confidence <= 1:
        raise BadRowError(f"confidence {text[:40]} is not from 0 to 1")
    if source.lower() != MACHINE and confidence not in (0, 1):
        raise BadRowError(f"confidence {text[:40]} of people is neither 0 nor 1")
    return source, confidence


def _classes(source: AnnotationFile, row: Row) -> tuple[str, ...]:
    return (row[1],) if source.kind == "labels" else (row[1], row[3])
