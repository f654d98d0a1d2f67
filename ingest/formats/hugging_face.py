"""Image data sets as Hugging Face publishes them: Parquet files with a column of pictures and, mostly, one of class numbers.

Source: https://huggingface.co/docs/datasets, features Image (struct<bytes: binary, path: string>) and ClassLabel, which
the schema's metadata describes in JSON under "huggingface".
"""

import contextlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from conf.command import note
from conf.errors import TinyTagsError
from conf.wording import first_line
from ingest import files
from ingest.formats.dump import Batch, FileDump, check_classes, check_labels, check_rows, overlaps
from ingest.formats.folder import PILLOW_FORMATS
from ingest.formats.format import Format, Match, Source
from ingest.formats.splits import ORDER, split_of, split_ranges
from ingest.image import IMAGE_BYTES, PictureError, decode_picture

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
_BATCH_IMAGES = 2_048
_DECODED_AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """One Parquet file, named relative to the dump's folder, and its number of rows."""

    path: str
    name: str
    images: int


@dataclass(frozen=True)
class Columns:
    """The columns that are read of a file, and the class names in its metadata."""

    image: str
    label: str | None
    classes: list[str] | None


@dataclass(frozen=True, kw_only=True)
class HuggingFace(FileDump):
    """Parquet files, the training split first."""

    parts: tuple[Part, ...]
    image_column: str
    label_column: str | None
    format: ClassVar[str] = "hugging-face"

    def paths(self) -> list[str]:
        return [part.path for part in self.parts]

    @cached_property
    def identity(self) -> dict[str, Any]:
        names = [part.name for part in self.parts]
        identity = files.identity(self.paths(), self.webhdfs, names=names)
        return identity | ({"labels": self.labels} if self.labels else {})

    def read(self, start: int, stop: int) -> Batch:
        batches = [*self.read_batches(start, stop), _new_batch(0)]
        firsts = itertools.accumulate((len(batch.labels) for batch in batches), initial=0)
        bad = {
            first + place: reason
            for first, batch in zip(firsts, batches, strict=False)
            for place, reason in batch.bad.items()
        }
        names = [name for batch in batches for name in batch.names or [""] * len(batch.labels)]
        return Batch(
            np.concatenate([batch.images for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
            names if any(names) else None,
            bad,
        )

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the rows ``start`` to ``stop``, reading only the row groups that hold them, each once."""
        check_rows(self, start, stop)
        batch, done = _new_batch(min(_BATCH_IMAGES, stop - start)), 0
        for part, first, last in overlaps(self.parts, start, stop):
            for row, table in self._tables(part, first, last):
                taken = 0
                while taken < len(table):
                    count = min(len(table) - taken, len(batch.images) - done)
                    self._fill(batch, done, part, row + taken, table.slice(taken, count))
                    done, taken, start = done + count, taken + count, start + count
                    if done == len(batch.images):
                        yield batch
                        batch, done = _new_batch(min(_BATCH_IMAGES, stop - start)), 0

    def _tables(self, part: Part, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield the rows ``first`` to ``last`` of a file as pyarrow record batches of up to 256, each with the number of its first row."""
        columns = [name for name in (self.image_column, self.label_column) if name]
        with _open_parquet(part.path, self.webhdfs) as parquet:
            row, groups = 0, []
            for number in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(number).num_rows
                if first < row + count and last > row:
                    groups.append((number, row))
                row += count
            if not groups:
                return
            row = groups[0][1]
            numbers = [number for number, _ in groups]
            for batch in parquet.iter_batches(
                _DECODED_AT_ONCE, row_groups=numbers, columns=columns, use_threads=False
            ):
                skipped = max(first - row, 0)
                wanted = batch.slice(skipped, max(min(last - row, len(batch)) - skipped, 0))
                if len(wanted):
                    yield row + skipped, wanted
                row += len(batch)

    def _fill(self, batch: Batch, done: int, part: Part, row: int, table: Any) -> None:
        """Decode the rows of ``table``, those of a file from ``row`` on, into ``batch`` from ``done`` on."""
        pictures = table.column(self.image_column).to_pylist()
        assert batch.names is not None and isinstance(batch.bad, dict)
        for number, picture in enumerate(pictures):
            path = (picture or {}).get("path")
            content = (picture or {}).get("bytes")
            try:
                if content is None:
                    only = f"only the path {path!r}" if path else "no picture"
                    raise PictureError(f"holds {only}; write the file with its pictures embedded")
                batch.images[done + number] = decode_picture(io.BytesIO(content), PILLOW_FORMATS)
            except PictureError as error:
                batch.bad[done + number] = f"row {row + number:,} of {part.name}: {error}"
            batch.names.append(path or "")
        if self.label_column:
            labels = table.column(self.label_column).fill_null(-1).to_numpy(zero_copy_only=False)
            check_labels(labels, len(self.classes or []), part.path, row)
            if (labels < -1).any():
                raise TinyTagsError(f"{part.path}: label {labels.min()} is below -1, which means no label")
            batch.labels[done : done + len(labels)] = labels


def _new_batch(images: int) -> Batch:
    return Batch(np.empty((images, IMAGE_BYTES), np.uint8), np.full(images, -1, np.int32), [])


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    if source.head.startswith(b"PAR1"):
        return Match.CERTAIN
    if any(name.endswith(".parquet") for name in source.names):
        return Match.CONTENT
    return Match.SIZE if any(name.endswith(".parquet") for name in source.sample) else Match.NO


def open_hugging_face(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> HuggingFace:
    """Open one Parquet file, or all ``*.parquet`` in a folder and below.

    ``labels`` is the column of class numbers, by default the first of label, fine_label and labels that there is; -1 and
    null mean no label. ``classes`` are names for them, by default those in the metadata, else the numbers. Files and
    folders whose names begin with train, validation and test are splits. Raises `TinyTagsError` for no Parquet file,
    a damaged one, and one without a column of pictures or of other columns than the first.
    """
    entry = files.status(path, webhdfs)
    names = [""]
    if entry and entry.is_dir:
        names = [entry.name for entry in files.list_files(path, webhdfs) if entry.name.endswith(".parquet")]
        if not names:
            raise TinyTagsError(f"{path}: holds no Parquet file (*.parquet)")
    by_split = sorted(names, key=lambda name: ORDER.index(_split(name)))
    parts: list[Part] = []
    columns: Columns | None = None
    for name in by_split:
        at = files.join(path, name) if name else path
        files.file_status(at, webhdfs)
        with _open_parquet(at, webhdfs) as parquet:
            own = _find_columns(at, parquet.schema_arrow, labels)
            if columns and own != columns:
                raise TinyTagsError(f"{at}: has other columns or class names than {parts[0].path}")
            columns = own
            parts.append(Part(at, name or files.base_name(path), parquet.metadata.num_rows))
    assert columns is not None
    classes = check_classes(classes)
    if columns.label:
        classes = classes or columns.classes or _numbers(parts, columns.label, webhdfs)
    elif classes:
        raise TinyTagsError(f"{path}: classes are given, but there is no column of labels")
    return HuggingFace(
        path=path,
        images=sum(part.images for part in parts),
        classes=classes,
        labels=labels,
        splits=split_ranges((_split(part.name), part.images) for part in parts),
        webhdfs=webhdfs,
        parts=tuple(parts),
        image_column=columns.image,
        label_column=columns.label,
    )


def _split(name: str) -> str:
    """Return the split that a file belongs to by its name or that of a folder; "" for none."""
    return next(filter(None, map(split_of, reversed(name.split("/")))), "")


def _find_columns(path: str, schema: Any, label: str | None) -> Columns:
    import pyarrow

    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    kind = schema.field(image).type if image else None
    if kind is None or not pyarrow.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise TinyTagsError(
            f"{path}: has no column image or img of struct<bytes, path>; its columns are {', '.join(schema.names)}"
        )
    if label and label not in schema.names:
        raise TinyTagsError(f"{path}: has no column {label!r}; its columns are {', '.join(schema.names)}")
    chosen = label or next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if chosen and not pyarrow.types.is_integer(schema.field(chosen).type):
        problem = f"{path}: column {chosen!r} holds {schema.field(chosen).type}, not class numbers"
        if label:
            raise TinyTagsError(problem)
        note(f"{problem}; continuing without labels")
        chosen = None
    return Columns(str(image), chosen, _class_names(path, schema, chosen) if chosen else None)


def _class_names(path: str, schema: Any, column: str) -> list[str] | None:
    """Return the names that the metadata has for a column of class numbers; None where it has none."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = metadata["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    try:
        return check_classes(names)
    except TinyTagsError as error:
        raise TinyTagsError(f"{path}: {error}; give others with --classes") from None


def _numbers(parts: list[Part], column: str, webhdfs: str | None) -> list[str]:
    """Return the class numbers up to the largest one as names."""
    most = 0
    for part in parts:
        with _open_parquet(part.path, webhdfs) as parquet:
            for batch in parquet.iter_batches(1 << 16, columns=[column], use_threads=False):
                labels = batch.column(0).fill_null(-1).to_numpy(zero_copy_only=False)
                most = max(most, int(labels.max(initial=0)))
    return check_classes([str(number) for number in range(most + 1)]) or []


@contextlib.contextmanager
def _open_parquet(path: str, webhdfs: str | None) -> Iterator[Any]:
    """Open a Parquet file; what pyarrow raises for a damaged one becomes one line that names it."""
    import pyarrow
    import pyarrow.parquet

    with files.open_file(path, webhdfs) as file:
        try:
            yield pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
            reason = first_line(error)
            raise TinyTagsError(f"{path}: is a damaged Parquet file ({reason}); fetch it again") from None


FORMAT = Format(
    name="hugging-face",
    example="dataset/",
    content="Parquet files with a column image or img, as Hugging Face has them: a folder or one file",
    recognise=recognise,
    open=open_hugging_face,
    labels="the column of class numbers",
    usual_names=("data",),
)
