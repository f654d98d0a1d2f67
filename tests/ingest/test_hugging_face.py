"""The reader of Hugging Face's image Parquet."""

import io
import json
import pickle

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from dumps import assert_upright, error_of, make_images
from PIL import Image

from ingest.formats import hugging_face, open_dump
from ingest.formats.hugging_face import open_hugging_face

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "frog"], "_type": "ClassLabel"}}


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.reshape(3, 32, 32).transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def write(
    path, images, labels=None, features=None, image="image", label="label", names=False, group=10, rows=None
):
    """Write images as the library `datasets` does; ``rows`` replaces the structs."""
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = rows or [
        {"bytes": png(pixels), "path": f"{number}.png" if names else None}
        for number, pixels in enumerate(images)
    ]
    columns = {image: pyarrow.array(rows, kind)}
    if labels is not None:
        columns[label] = (
            labels if isinstance(labels, pyarrow.Array) else pyarrow.array(labels, pyarrow.int64())
        )
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path


def test_one_file_gives_its_pictures_labels_and_class_names(tmp_path):
    images = make_images(25)
    labels = [[0, 1, 2, -1, None][number % 5] for number in range(25)]
    path = write(tmp_path / "some.parquet", images, labels, FEATURES, names=True)
    dump = pickle.loads(pickle.dumps(open_dump(str(path))))  # as a worker gets it
    assert (dump.format, dump.images, dump.splits) == ("hugging-face", 25, {})
    assert dump.classes == ["cat", "dog", "frog"]
    expected = [-1 if label is None else label for label in labels]
    for start, stop in ((0, 25), (9, 11), (12, 13), (20, 25), (7, 7)):
        batch = dump.read(start, stop)
        np.testing.assert_array_equal(batch.images, images[start:stop])
        assert batch.labels.tolist() == expected[start:stop] and batch.labels.dtype == np.int32
        assert batch.names == ([f"{number}.png" for number in range(start, stop)] or None)
    assert_upright(dump.read(0, 1).images[0])


@pytest.mark.parametrize(
    "layout", ["{}-00000-of-00001.parquet", "data/{}-0.parquet", "default/{}/0000.parquet"]
)
def test_a_folder_has_its_splits_the_training_images_first(tmp_path, layout):
    images = make_images(30)
    write(tmp_path / layout.format("test"), images[20:], [1] * 10, FEATURES)
    write(tmp_path / layout.format("train"), images[:20], [0] * 20, FEATURES)
    (tmp_path / "README.md").write_text("A card.")
    dump = open_dump(str(tmp_path))
    assert (dump.format, dump.images) == ("hugging-face", 30)
    assert dump.splits == {"train": (0, 20), "test": (20, 30)}
    batch = dump.read(18, 23)
    np.testing.assert_array_equal(batch.images, images[18:23])
    assert batch.labels.tolist() == [0, 0, 1, 1, 1]
    assert dump.identity == open_dump(str(tmp_path)).identity


def test_a_validation_split_is_the_test_split_where_there_is_no_other(tmp_path):
    images = make_images(9)
    write(tmp_path / "train.parquet", images[:4], [0] * 4, FEATURES)
    write(tmp_path / "validation.parquet", images[4:6], [1] * 2, FEATURES)
    assert open_dump(str(tmp_path)).splits == {"train": (0, 4), "test": (4, 6)}
    write(tmp_path / "test.parquet", images[6:], [2] * 3, FEATURES)
    splits = {"train": (0, 4), "validation": (4, 6), "test": (6, 9)}
    assert open_dump(str(tmp_path)).splits == splits
    write(tmp_path / "extra.parquet", images[:1], [2], FEATURES)
    assert open_dump(str(tmp_path)).splits["test"] == (7, 10)


def test_the_column_of_labels_can_be_chosen(tmp_path):
    names = {"fine_label": {"names": ["a", "b"]}, "coarse_label": {"names": ["x", "y"]}}
    path = write(tmp_path / "c.parquet", make_images(4), [0, 1, 1, 0], names, image="img", label="fine_label")
    table = pyarrow.parquet.read_table(path)
    coarse = pyarrow.array([1, 0, 0, 1], pyarrow.int32())
    pyarrow.parquet.write_table(table.append_column("coarse_label", coarse), path)
    fine, coarse = open_dump(str(path)), open_dump(str(path), labels="coarse_label")
    assert (fine.classes, fine.read(0, 4).labels.tolist()) == (["a", "b"], [0, 1, 1, 0])
    assert (coarse.classes, coarse.read(0, 4).labels.tolist()) == (["x", "y"], [1, 0, 0, 1])
    assert (fine.labels, coarse.labels) == (None, "coarse_label") and fine.identity != coarse.identity
    assert "has no column 'other'; its columns are img, fine_label" in error_of(
        open_dump, str(path), labels="other"
    )
    assert "holds struct" in error_of(open_dump, str(path), labels="img")


def test_classes_without_names_are_numbers_or_given(tmp_path, capsys):
    path = str(write(tmp_path / "a.parquet", make_images(3), [2, 11, -1]))
    assert open_dump(path).classes == [str(number) for number in range(12)]
    assert open_dump(path, classes=list("abcdefghijkl")).classes[11] == "l"
    assert "record 0 has label 2; 2 classes" in error_of(open_dump(path, classes=["a", "b"]).read, 0, 3)
    words = pyarrow.array(["cat", "dog", "cat"])
    named = open_dump(str(write(tmp_path / "b.parquet", make_images(3), words)))
    assert named.classes is None and named.read(0, 3).labels.tolist() == [-1] * 3
    assert "'label' holds string, not class numbers; continuing without labels" in capsys.readouterr().err
    bare = str(write(tmp_path / "c.parquet", make_images(3)))
    assert open_dump(bare).classes is None
    assert "there is no column of labels" in error_of(open_dump, bare, classes=["a"])


def test_pictures_of_other_sizes_and_kinds_are_resized(tmp_path):
    file = io.BytesIO()
    Image.new("L", (50, 90), 77).save(file, "JPEG")
    path = write(tmp_path / "a.parquet", None, [0], FEATURES, rows=[{"bytes": file.getvalue(), "path": None}])
    batch = open_dump(str(path)).read(0, 1)
    assert set(batch.images[0].tolist()) == {77} and batch.names is None


def test_batches_are_whole_row_groups_whatever_the_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face, "_BATCH_IMAGES", 512)
    images = make_images(700)
    write(tmp_path / "a.parquet", images[:300], [0] * 300, FEATURES, group=70)
    write(tmp_path / "b.parquet", images[300:], [0] * 400, FEATURES, group=1000)
    dump = open_dump(str(tmp_path))
    batches = list(dump.read_batches(10, 690))
    assert [len(batch.images) for batch in batches] == [512, 168]
    assert [len(batch.names or []) for batch in batches] == [512, 168]
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), images[10:690])


def test_only_the_row_groups_of_a_range_are_read(tmp_path):
    path = write(tmp_path / "a.parquet", make_images(40), [0] * 40, FEATURES, group=10)
    dump = open_dump(str(path))
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(3).column(0)
    data = bytearray(path.read_bytes())
    start = group.dictionary_page_offset or group.data_page_offset
    data[start : start + group.total_compressed_size] = bytes(group.total_compressed_size)
    path.write_bytes(data)
    assert len(dump.read(5, 30).images) == 25
    assert error_of(dump.read, 5, 31).startswith(f"{path}: ")


def test_rows_without_a_picture_are_bad_records(tmp_path):
    good = {"bytes": png(make_images(1)[0]), "path": "a.png"}
    for row, words in (
        (
            {"bytes": None, "path": "b.png"},
            "holds only the path 'b.png'; write the file with its pictures embedded",
        ),
        ({"bytes": None, "path": None}, "holds no picture"),
        (None, "holds no picture"),
        ({"bytes": b"no picture", "path": "c.png"}, "row 1 of a.parquet: is no picture"),
    ):
        path = write(tmp_path / "a.parquet", None, [0, 1], FEATURES, rows=[good, row])
        batch = open_dump(str(path)).read(0, 2)
        assert list(batch.bad) == [1] and words in batch.bad[1]


def test_other_and_damaged_parquet_files_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": [1], "image": ["a.png"]}), path)
    assert "has no column image or img of struct<bytes, path>; its columns are x, image" in error_of(
        open_dump, str(path)
    )
    whole = write(path, make_images(5), [0] * 5, FEATURES).read_bytes()
    path.write_bytes(whole[:-20])
    assert error_of(open_dump, str(path)).startswith(f"{path}: is a damaged Parquet file (")
    write(path, make_images(5), [0] * 5, FEATURES)
    write(tmp_path / "b.parquet", make_images(5), [0] * 5)
    assert "has other columns or class names than" in error_of(open_dump, str(tmp_path))
    write(tmp_path / "b.parquet", make_images(5), [0] * 5, {"label": {"names": ["a", "a"]}})
    assert "'a' is given 2 times; class names are unique; give others with --classes" in error_of(
        open_dump, str(tmp_path)
    )
    (tmp_path / "empty").mkdir()
    assert "holds no Parquet file" in error_of(open_hugging_face, str(tmp_path / "empty"))
    write(path, make_images(1), [-2], FEATURES)
    assert "label -2 is below -1" in error_of(open_dump(str(path)).read, 0, 1)
