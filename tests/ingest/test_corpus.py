"""Tests of `ingest.corpus` and `ingest.partition`: partitions hold what the dump held, and what is corrupt is never read as something else."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet
import pytest
from small_world import make_corpus, make_images, write_cifar, write_tiny_images

from conf.errors import TinyTagsError
from ingest import partition as partition_files
from ingest.corpus import Corpus, create_corpus, done_partitions, list_corpora, open_corpus, remove_temporary
from ingest.formats import Batch, open_dump
from ingest.formats.dump import ReadInBatches
from ingest.measure import measure_partition
from ingest.partition import (
    PartitionDamagedError,
    read_image,
    read_partition,
    write_partition,
)
from storage import layout
from storage.runs import Run
from storage.store import open_store
from tagging.tags import documents, winners


@pytest.fixture
def store(store_address):
    return open_store(*store_address)


@pytest.fixture
def local(tmp_path):
    return open_store(str(tmp_path / "store"))


def read_all(store, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    blocks = [block for p in range(corpus.partitions) for block in read_partition(store, corpus, p)]
    assert all(len(block.images) <= 256 for block in blocks)
    return np.concatenate([b.images for b in blocks]), np.concatenate([b.labels for b in blocks])


@pytest.mark.parametrize(
    ("images", "partition_images", "sizes"),
    [
        (1000, 300, [300, 300, 300, 100]),  # a ragged last one
        (600, 300, [300, 300]),
        (1, 20_000, [1]),
        (257, 1000, [257]),  # a partition larger than the corpus
        (3, 1, [1, 1, 1]),
    ],
)
def test_every_record_of_the_dump_is_in_exactly_one_partition(
    store, tmp_path, images, partition_images, sizes
):
    path = write_tiny_images(tmp_path / "tiny_images.bin", images)
    expected, labels = make_images(images)
    corpus = make_corpus(store, "tiny", path, partition_images, labels=str(tmp_path / "labels.bin"))
    assert [corpus.rows(p)[1] - corpus.rows(p)[0] for p in range(corpus.partitions)] == sizes
    stored, stored_labels = read_all(store, corpus)
    np.testing.assert_array_equal(stored, expected)
    np.testing.assert_array_equal(stored_labels, labels)
    assert done_partitions(store, corpus) == list(range(len(sizes)))
    for p, size in enumerate(sizes):
        statistics = store.read_json(layout.corpus_statistics("tiny", p))
        assert statistics.keys() == {"partition", "images", "bad", "labelled", "bytes", "seconds"}
        assert (statistics["partition"], statistics["images"], statistics["labelled"]) == (p, size, size)
        assert statistics["bytes"] == store.size(layout.corpus_images("tiny", p))


def test_one_image_is_read_by_its_place(store, tmp_path):
    path = write_tiny_images(tmp_path / "tiny_images.bin", 700)
    images, labels = make_images(700)
    corpus = make_corpus(store, "tiny", path, 600, labels=str(tmp_path / "labels.bin"))
    for partition, row in ((0, 0), (0, 255), (0, 256), (0, 599), (1, 0), (1, 99)):
        block = read_image(store, corpus, partition, row)
        assert block.row == row and block.images.shape == (1, 3072)
        assert block.images.flags.owndata, "the rest of the row group is not kept in memory"
        np.testing.assert_array_equal(block.images[0], images[600 * partition + row])
        assert block.labels.tolist() == [labels[600 * partition + row]]
    for partition, row in ((0, 600), (0, -1), (1, 100)):
        with pytest.raises(
            TinyTagsError, match=f"partition {partition} of 'tiny' has no row {row}; it has 0 to "
        ):
            read_image(store, corpus, partition, row)
    with pytest.raises(TinyTagsError, match=r"^corpus 'tiny' has no partition 2; it has 0 to 1$"):
        read_image(store, corpus, 2, 0)


class ManyClasses(ReadInBatches):
    """A dump of 600 images with a class each of 10,000, in reverse, and every seventh without a label."""

    classes: ClassVar = [f"class {number}" for number in range(10_000)]
    labels = np.where(np.arange(600) % 7, 9_999 - np.arange(600), -1)

    def read(self, start, stop):
        return Batch(make_images(600)[0][start:stop], self.labels[start:stop])


def test_ten_thousand_classes_go_from_the_dump_to_the_documents(local):
    dump = ManyClasses()
    corpus = Corpus("many", "x", "x", {}, images=600, partition_images=500, classes=dump.classes)
    create_corpus(local, corpus)
    for p in (0, 1):
        write_partition(local, corpus, p, dump)
    corpus = open_corpus(local, "many")
    _, labels = read_all(local, corpus)
    assert labels.dtype == np.int32 and labels.tolist() == dump.labels.tolist()
    assert read_image(local, corpus, 1, 99).labels.tolist() == [9_999 - 599]
    # A vote for the true class, one for the class before it.
    votes = np.zeros((600, 10_000), np.uint16)
    votes[np.arange(600), labels] = 2
    votes[np.arange(600), labels - 1] += 1
    run = Run("many", corpus.hash, "m", "0" * 64, 0.5, corpus.classes, 600, 2, trees=3)
    lines, counts = documents(run, 0, winners(votes), labels, corpus.classes)
    assert (counts["tagged"], counts["labelled"], counts["right"]) == (600, 514, 514)
    document = json.loads(lines.splitlines()[1])
    assert (document["tag"], document["runner_up"], document["label"]) == (
        "class 9998",
        "class 9997",
        "class 9998",
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_a_corpus_whose_labels_are_int8_is_still_read(local, tmp_path, labelled, monkeypatch):
    """Version 0.1 wrote such files."""
    old = partition_files._schema(pyarrow.int8())
    monkeypatch.setattr(partition_files, "_schema", lambda label=None: old)
    path = write_tiny_images(tmp_path / "t.bin", 600)
    images, labels = make_images(600)
    made = make_corpus(
        local, "old", path, 300, **({"labels": str(tmp_path / "labels.bin")} if labelled else {})
    )
    monkeypatch.undo()
    parquet = pyarrow.parquet.read_schema(local.url(layout.corpus_images("old", 1)))
    assert parquet.field("label").type == pyarrow.int8()
    stored, stored_labels = read_all(local, made)
    np.testing.assert_array_equal(stored, images)
    assert stored_labels.tolist() == (labels.tolist() if labelled else [-1] * 600)
    for block in (read_image(local, made, 1, 7), next(read_partition(local, made, 0, names=True))):
        assert block.labels.dtype == np.int32
    assert measure_partition(local, made, 1)["images"] == 300


class Named(ReadInBatches):
    """A dump of three images, two of them with a label, with the names of their files."""

    def read(self, start, stop):
        names = ["cat/Käse.png", "cat/b.png", "c.png"]
        return Batch(
            make_images(3)[0][start:stop], np.array([0, 0, -1], np.int32)[start:stop], names[start:stop]
        )


def test_names_and_missing_labels_come_back(local):
    corpus = Corpus("pictures", "folder", "x", {}, images=3, partition_images=10, classes=["cat"])
    create_corpus(local, corpus)
    assert write_partition(local, corpus, 0, Named())["labelled"] == 2
    (block,) = read_partition(local, corpus, 0, names=True)
    assert block.names == ["cat/Käse.png", "cat/b.png", "c.png"]
    assert block.labels.tolist() == [0, 0, -1]
    (block,) = read_partition(local, corpus, 0)
    assert block.names is None
    assert read_image(local, corpus, 0, 1).names == ["cat/b.png"]


def test_the_parquet_is_the_one_that_others_can_read(local, tmp_path):
    corpus = make_corpus(local, "tiny", write_tiny_images(tmp_path / "t.bin", 600), 600)
    parquet = pyarrow.parquet.ParquetFile(local.url(layout.corpus_images("tiny", 0)))
    assert [f"{field.name}: {field.type}" for field in parquet.schema_arrow] == [
        "row: int32", "image: binary", "label: int32", "name: string"
    ]  # fmt: skip
    groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
    assert [group.num_rows for group in groups] == [256, 256, 88]
    column = groups[0].column(1)
    assert (column.compression, column.is_stats_set) == ("UNCOMPRESSED", False)
    table = parquet.read()
    assert table["row"].to_pylist() == list(range(600))
    assert table["label"].null_count == 600
    assert table["image"][7].as_py() == make_images(600)[0][7].tobytes()
    assert corpus.hash.encode() == parquet.schema_arrow.metadata[b"tinytags.corpus"]


def test_the_hash_is_of_the_contents_not_of_the_name_or_the_place(local, tmp_path):
    first = write_tiny_images(tmp_path / "one" / "t.bin", 50)
    second = write_tiny_images(tmp_path / "two" / "u.bin", 50)
    other = write_tiny_images(tmp_path / "t.bin", 50, seed=1)
    hashes = [make_corpus(local, f"c{i}", path, 20).hash for i, path in enumerate((first, second, other))]
    assert hashes[0] == hashes[1] != hashes[2]
    assert make_corpus(local, "c3", first, 25).hash != hashes[0], "other partitions are other contents"


def test_a_manifest_states_what_the_corpus_was_split_from_and_into(local, tmp_path):
    path = write_cifar(tmp_path / "cifar", 100, 20)
    corpus = make_corpus(local, "c", path, 50)
    manifest = local.read_json("corpora/c/manifest.json")
    assert manifest["hash"] == corpus.hash
    assert (manifest["format"], manifest["images"], manifest["partitions"]) == ("cifar-10", 120, 3)
    assert manifest["identity"]["bytes"] == 120 * 3073
    assert re.fullmatch("[0-9a-f]{64}", manifest["identity"]["sha256"])
    assert open_corpus(local, "c") == corpus
    assert open_corpus(local, "c").splits == {"train": (0, 100), "test": (100, 120)}


def test_other_contents_under_an_old_name_are_refused_with_both_hashes(local, tmp_path):
    path = write_tiny_images(tmp_path / "t.bin", 50)
    corpus = make_corpus(local, "c", path, 20)
    assert create_corpus(local, corpus) is False, "the same again is fine"
    changed = replace(corpus, images=49, identity={"bytes": 1})
    with pytest.raises(
        TinyTagsError, match=r"different: identity, images\); give this one another name"
    ) as caught:
        create_corpus(local, changed)
    assert corpus.hash[:8] in str(caught.value) and changed.hash[:8] in str(caught.value)
    assert open_corpus(local, "c") == corpus


@pytest.mark.parametrize(
    "change",
    [
        {"images": 51},
        {"classes": ["cat"]},
        {"hash": "0" * 64},
        {"partition_images": 0},
        {"splits": []},
        {"name": "copied"},
    ],
)
def test_a_manifest_that_was_edited_is_an_error_until_it_is_removed(local, tmp_path, change):
    corpus = make_corpus(local, "c", write_tiny_images(tmp_path / "t.bin", 50), 20)
    local.write_json("corpora/c/manifest.json", local.read_json("corpora/c/manifest.json") | change)
    with pytest.raises(
        TinyTagsError, match=r"is not as it was written .*; remove it and run `tinytags ingest`"
    ):
        open_corpus(local, "c")
    local.remove("corpora/c/manifest.json")
    assert create_corpus(local, corpus) is True and open_corpus(local, "c") == corpus


def test_a_missing_corpus_is_an_error_with_those_that_there_are(local, tmp_path):
    with pytest.raises(
        TinyTagsError, match=r"no corpus 'c' in .*; there is none yet: make one with `tinytags ingest`"
    ):
        open_corpus(local, "c")
    make_corpus(local, "tiny", write_tiny_images(tmp_path / "t.bin", 5), 20)
    local.write_bytes("corpora/unfinished/images/x", b"")
    assert list_corpora(local) == ["tiny"]
    with pytest.raises(TinyTagsError, match=r"no corpus 'c' in .*; there are tiny$"):
        open_corpus(local, "c")


# Corrupt files


@pytest.fixture
def corpus(local, tmp_path):
    return make_corpus(local, "tiny", write_tiny_images(tmp_path / "t.bin", 1000), 500)


def spoil(local, how: str) -> None:
    """Damage partition 1 of the corpus in one of many ways."""
    path = Path(local.url(layout.corpus_images("tiny", 1)))
    data = bytearray(path.read_bytes())
    if how == "a flipped byte in a page":
        data[len(data) // 2] ^= 1
    elif how == "a flipped byte in the footer":
        data[-100] ^= 0xFF
    elif how == "truncated in the middle":
        del data[len(data) // 2 :]
    elif how == "truncated by a byte":
        del data[-1:]
    elif how == "empty":
        data.clear()
    elif how == "of zeros":
        data[:] = bytes(len(data))
    elif how == "another partition's":
        data = bytearray(Path(local.url(layout.corpus_images("tiny", 0))).read_bytes())
    path.unlink()
    if how != "missing":
        path.write_bytes(data)


WAYS = [
    "a flipped byte in a page", "a flipped byte in the footer", "truncated in the middle", "truncated by a byte", "empty",
    "of zeros", "another partition's", "missing",
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_a_corrupt_partition_is_an_error_that_names_it_and_the_remedy(local, corpus, how):
    spoil(local, how)
    with pytest.raises(PartitionDamagedError) as caught:
        for _ in read_partition(local, corpus, 1):
            pass
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.corpus, error.partition, error.remedy) == ("tiny", 1, "ingest")
    message = str(caught.value)
    assert message.startswith(local.url(layout.corpus_images("tiny", 1)) + ": ")
    assert message.endswith("; `tinytags ingest` with --partition repairs it")
    assert "\n" not in message
    with pytest.raises(PartitionDamagedError):
        measure_partition(local, corpus, 1)
    assert measure_partition(local, corpus, 0)["images"] == corpus.rows(0)[1]
    if how != "a flipped byte in a page":  # which is in another row group than the first
        with pytest.raises(TinyTagsError):
            read_image(local, corpus, 1, 0)


def test_every_flipped_byte_is_noticed_or_changes_nothing(local, corpus):
    path = Path(local.url(layout.corpus_images("tiny", 1)))
    original = path.read_bytes()
    expected = [
        (block.images.tobytes(), block.labels.tobytes()) for block in read_partition(local, corpus, 1)
    ]
    random = np.random.default_rng(0)
    places = np.concatenate(
        [random.integers(0, len(original), 60), len(original) - random.integers(1, 3000, 60)]
    )
    noticed = 0
    for place in places.tolist():
        data = bytearray(original)
        data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        try:
            blocks = [
                (block.images.tobytes(), block.labels.tobytes()) for block in read_partition(local, corpus, 1)
            ]
        except TinyTagsError:
            noticed += 1
        else:
            assert blocks == expected, f"byte {place} of {len(original)}"
    assert noticed >= 60, "a byte of a page is always noticed"


def test_a_partition_of_another_corpus_is_refused(local, corpus, tmp_path):
    other = make_corpus(local, "other", write_tiny_images(tmp_path / "u.bin", 1000, seed=9), 500)
    local.write_bytes(layout.corpus_images("tiny", 1), local.read_bytes(layout.corpus_images("other", 1)))
    with pytest.raises(
        PartitionDamagedError, match=f"is partition 1 of corpus {other.hash[:8]}, not 1 of {corpus.hash[:8]}"
    ):
        list(read_partition(local, corpus, 1))


def test_writing_a_partition_again_gives_the_same_bytes(local, corpus, tmp_path):
    path = Path(local.url(layout.corpus_images("tiny", 1)))
    before = path.read_bytes()
    spoil(local, "truncated in the middle")
    write_partition(local, corpus, 1, open_dump(str(tmp_path / "t.bin")))
    assert path.read_bytes() == before
    assert [name.name for name in path.parent.iterdir()] == ["images.parquet"]


def test_what_killed_writers_left_in_a_corpus_is_removed(local, corpus):
    for path in (
        layout.corpus_images("tiny", 1),
        layout.corpus_statistics("tiny", 0),
        layout.corpus_manifest("tiny"),
    ):
        Path(local.url(path)).with_name(f".{path.rpartition('/')[2]}.0123456789ab.tmp").write_bytes(b"half")
    before = {path for path in Path(local.url("corpora")).rglob("*") if path.name[0] != "."}
    remove_temporary(local, "tiny")
    assert set(Path(local.url("corpora")).rglob("*")) == before


def test_a_dump_that_breaks_off_leaves_no_partition(local, corpus):
    class Broken(ReadInBatches):
        def read(self, start, stop):
            raise TinyTagsError("x.bin: ends early")

    local.remove_tree("corpora/tiny/images/partition=00001")
    local.remove(layout.corpus_statistics("tiny", 1))
    with pytest.raises(TinyTagsError, match="ends early"):
        write_partition(local, corpus, 1, Broken())
    assert local.list("corpora/tiny/images/partition=00001") == []
    assert done_partitions(local, corpus) == [0]


MEMORY = """
import sys
import numpy as np
from ingest.corpus import Corpus, create_corpus
from ingest.partition import read_partition, write_partition
from ingest.formats import Batch
from ingest.formats.dump import ReadInBatches
from storage.runs import Run
from storage.store import open_store
from tagging.tags import documents, winners

class Grey(ReadInBatches):
    def read(self, start, stop):
        return Batch(np.full((stop - start, 3072), 7, np.uint8), np.full(stop - start, -1, np.int32))

store = open_store(sys.argv[2])
corpus = Corpus("large", "grey", "x", {}, images=200_000, partition_images=200_000)
if sys.argv[1] == "write":
    create_corpus(store, corpus)
    assert write_partition(store, corpus, 0, Grey())["images"] == 200_000
else:
    assert sum(int((block.images[:, 0] == 7).sum()) for block in read_partition(store, corpus, 0)) == 200_000
# Not ru_maxrss, which begins with what the process had that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_partition(tmp_path):
    for what in ("write", "read"):
        command = [sys.executable, "-c", MEMORY, what, str(tmp_path / "store")]
        used = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert used < 300, f"{what} took {used} MB for a partition of 614 MB"


def test_statistics_add_up_to_the_corpus(local, corpus):
    statistics = [json.loads(local.read_bytes(layout.corpus_statistics("tiny", p))) for p in (0, 1)]
    assert sum(s["images"] for s in statistics) == corpus.images == 1000
