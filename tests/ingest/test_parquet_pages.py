"""Tests of `ingest.pages`: what is read without a copy is what pyarrow reads, and anything odd is left to pyarrow."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from dumps import make_images, write_tiny_images

from ingest import pages
from ingest import partition as partition_files
from ingest.corpus import Corpus
from ingest.formats import open_dump
from ingest.partition import read_partition, write_partition
from storage import layout
from storage.store import StoreError, open_store

IMAGES = 700


@pytest.fixture(params=[None, ["cat", "dog"]], ids=["unlabelled", "labelled"])
def split(request, tmp_path):
    """A store and a corpus of one partition, with or without labels, and what is in it."""
    images = make_images(IMAGES)
    dump = tmp_path / "tiny_images.bin"
    write_tiny_images(dump, images)
    labels = np.full(IMAGES, -1)
    if request.param:
        labels = np.random.default_rng(3).integers(-1, 2, IMAGES)
        (tmp_path / "labels").write_bytes(np.where(labels < 0, 255, labels).astype(np.uint8).tobytes())
    opened = open_dump(
        str(dump), labels=str(tmp_path / "labels") if request.param else None, classes=request.param
    )
    corpus = Corpus(
        "small", opened.format, opened.path, opened.identity, IMAGES, 1000, classes=opened.classes
    )
    store = open_store(str(tmp_path / "store"))
    write_partition(store, corpus, 0, opened)
    return store, corpus, images, labels


def test_every_row_group_that_we_write_is_read_without_a_copy(split, monkeypatch):
    store, corpus, images, labels = split
    taken = []
    monkeypatch.setattr(
        partition_files, "read_pixels", lambda *args: taken.append(pages.read_pixels(*args)) or taken[-1]
    )
    blocks = list(read_partition(store, corpus, 0))
    assert [len(block.images) for block in blocks] == [256, 256, 188]
    assert all(block.images is pixels for block, pixels in zip(blocks, taken, strict=True))
    assert (np.concatenate([block.images for block in blocks]) == images).all()
    assert (np.concatenate([block.labels for block in blocks]) == labels).all()
    assert all(block.labels.dtype == np.int32 and not block.images.flags.writeable for block in blocks)


@pytest.mark.parametrize(
    "form",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {"write_page_checksum": False},
        {"data_page_size": 4096, "write_batch_size": 1},
        {"write_statistics": True},
        {"data_page_version": "2.0"},
        {"row_group_size": 300},
    ],
    ids=lambda form: next(iter(form)),
)
def test_what_has_another_form_is_read_by_pyarrow(split, form):
    store, corpus, images, labels = split
    path = store.url(layout.corpus_images(corpus.name, 0))
    table = pyarrow.parquet.read_table(path)
    ours = {
        "compression": "none",
        "use_dictionary": False,
        "write_statistics": False,
        "write_page_checksum": True,
    }
    pyarrow.parquet.write_table(table, path, **{"row_group_size": 256} | ours | form)
    blocks = list(read_partition(store, corpus, 0))
    assert (np.concatenate([block.images for block in blocks]) == images).all()
    assert (np.concatenate([block.labels for block in blocks]) == labels).all()
    assert max(len(block.images) for block in blocks) <= 256


def test_no_damaged_byte_of_a_page_is_taken(split):
    store, corpus, _, _ = split
    path = store.url(layout.corpus_images(corpus.name, 0))
    column = pyarrow.parquet.read_metadata(path).row_group(0).column(1)
    whole = bytearray(Path(path).read_bytes())
    first, last = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    with pyarrow.memory_map(path) as source:
        assert pages.read_pixels(source, column, 256) is not None
        assert pages.read_pixels(source, column, 255) is None
    for at in [*range(first, first + 60), *range(first, last, 7919), last - 1]:
        for flipped in (0x01, 0x80):
            damaged = whole.copy()
            damaged[at] ^= flipped
            assert pages.read_pixels(pyarrow.BufferReader(damaged), column, 256) is None, at
    assert pages.read_pixels(pyarrow.BufferReader(whole[: last - 1]), column, 256) is None
    whole[first + 5000] ^= 1
    Path(path).write_bytes(whole)
    with pytest.raises(StoreError, match=r"is corrupt .*--partition repairs it"):
        list(read_partition(store, corpus, 0))


def test_an_image_of_another_length_is_not_taken(split):
    """Its checksum is right, and all lengths together are too."""
    store, corpus, images, _ = split
    path = store.url(layout.corpus_images(corpus.name, 0))
    table = pyarrow.parquet.read_table(path)
    pixels = [image.tobytes() for image in images]
    pixels[10], pixels[11] = pixels[10] + b"x", pixels[11][:-1]
    column = pyarrow.array(pixels, pyarrow.binary())
    pyarrow.parquet.write_table(
        table.set_column(1, "image", column), path, row_group_size=256, compression="none", use_dictionary=False,
        write_statistics=False, write_page_checksum=True,
    )  # fmt: skip
    with pytest.raises(StoreError, match="is not 3,072 bytes"):
        list(read_partition(store, corpus, 0))
