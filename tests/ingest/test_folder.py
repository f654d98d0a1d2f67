"""The reader of folders of pictures."""

import itertools
import os
import pickle
import tarfile

import numpy as np
import pytest
from dumps import assert_upright, asymmetric_picture, error_of
from PIL import Image

from ingest.formats.folder import open_folder


def save(path, colour=(10, 20, 30), size=(40, 40), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Three classes with two, one and three pictures; each has a blue of its own."""
    names = ["cat/b.png", "cat/a.jpg", "dog/one.webp", "frog/x.bmp", "frog/y.tiff", "frog/z.ppm"]
    for name in names:
        save(tmp_path / name, (0, 0, 30 * (1 + sorted(names).index(name))))
    return tmp_path


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "bmp", "tiff", "ppm"])
def test_a_picture_comes_out_upright_with_its_colours(tmp_path, suffix):
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(asymmetric_picture()).save(tmp_path / f"a.{suffix}", **lossless)
    image = open_folder(str(tmp_path)).read(0, 1).images[0]
    if suffix == "gif":  # a palette of 256 colours
        expected = Image.open(tmp_path / "a.gif").convert("RGB")
        np.testing.assert_array_equal(image.reshape(3, 32, 32).transpose(1, 2, 0), np.asarray(expected))
        assert image.reshape(3, 32, 32)[:, 0, 0].tolist() == [255, 0, 0]
    else:
        assert_upright(image)


def test_a_jpeg_comes_out_upright_with_its_colours(tmp_path):
    Image.fromarray(asymmetric_picture().repeat(8, 0).repeat(8, 1)).save(tmp_path / "a.jpg", quality=95)
    planes = open_folder(str(tmp_path)).read(0, 1).images[0].reshape(3, 32, 32).astype(int)
    for corner, colour in [((2, 2), (255, 0, 0)), ((2, 30), (0, 255, 0)), ((30, 2), (0, 0, 255))]:
        assert np.abs(planes[:, corner[0], corner[1]] - colour).max() < 16


def test_a_folder_for_each_class_gives_the_labels_sorted_by_path(folder):
    dump = open_folder(str(folder))
    assert (dump.format, dump.images, dump.classes, dump.splits) == ("folder", 6, ["cat", "dog", "frog"], {})
    batch = dump.read(0, 6)
    assert batch.names == [
        "cat/a.jpg",
        "cat/b.png",
        "dog/one.webp",
        "frog/x.bmp",
        "frog/y.tiff",
        "frog/z.ppm",
    ]
    assert batch.labels.tolist() == [0, 0, 1, 2, 2, 2] and batch.labels.dtype == np.int32
    blues = batch.images.reshape(6, 3, 1024)[:, 2].mean(axis=1)
    assert np.abs(blues - 30 * np.arange(1, 7)).max() < 3


def test_a_range_of_pictures_equals_that_range_of_the_whole(folder):
    dump = pickle.loads(pickle.dumps(open_folder(str(folder))))
    whole = dump.read(0, 6)
    for start, stop in [(0, 0), (1, 4), (5, 6)]:
        batch = dump.read(start, stop)
        np.testing.assert_array_equal(batch.images, whole.images[start:stop])
        assert batch.labels.tolist() == whole.labels[start:stop].tolist()
        assert batch.names == whole.names[start:stop]
    with pytest.raises(IndexError):
        dump.read(0, 7)


def test_a_few_pictures_elsewhere_have_no_label_and_leave_the_others_theirs(folder, capsys):
    save(folder / "top.png")
    save(folder / "cat" / "deeper" / "c.png")
    dump = open_folder(str(folder))
    assert dump.classes == ["cat", "dog", "frog"]
    batch = dump.read(0, 8)
    assert dict(zip(batch.names, batch.labels.tolist(), strict=True)) == {
        "cat/a.jpg": 0, "cat/b.png": 0, "cat/deeper/c.png": -1, "dog/one.webp": 1, "frog/x.bmp": 2, "frog/y.tiff": 2,
        "frog/z.ppm": 2, "top.png": -1,
    }  # fmt: skip
    assert "without a label, are 2 of 8 pictures (cat/deeper/c.png, ...)" in capsys.readouterr().err


def test_deep_folders_give_labels_where_these_are_wanted(tmp_path, capsys):
    for name in ("2017/01/a.png", "2017/02/b.png", "2018/01/c.png", "top.png"):
        save(tmp_path / name)
    plain = open_folder(str(tmp_path))
    assert plain.classes is None and "--labels folders" in capsys.readouterr().err
    chosen = open_folder(str(tmp_path), labels="folders")
    assert (chosen.classes, chosen.read(0, 4).labels.tolist()) == (["2017", "2018"], [0, 0, 1, -1])
    assert chosen.identity != plain.identity
    (tmp_path / "top.png").unlink()
    capsys.readouterr()
    assert open_folder(str(tmp_path), labels="none").classes is None and capsys.readouterr().err == ""


def test_folders_of_splits_above_those_of_classes_are_no_classes(tmp_path):
    for split, count in (("test", 1), ("train", 3), ("val", 2)):
        for name in ("dog", "cat"):
            for number in range(count):
                save(tmp_path / split / name / f"{number}.png", size=(4, 4))
    dump = open_folder(str(tmp_path))
    assert dump.classes == ["cat", "dog"]
    assert dump.splits == {"train": (0, 6), "validation": (6, 10), "test": (10, 12)}
    batch = dump.read(0, 12)
    assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1] and batch.names[6] == "val/cat/0.png"


def test_a_file_of_labels_is_used_where_it_names_the_pictures(tmp_path, capsys):
    for number in range(1, 5):
        save(tmp_path / "train" / f"{number}.png", (number, 0, 0))
        save(tmp_path / "test" / f"{number}.png")
    labels = tmp_path / "trainLabels.csv"
    labels.write_text("id,label\n4,frog\n1,dog\n2,frog\n3,cat\n", "utf-8-sig")
    dump = open_folder(str(tmp_path))
    assert (dump.classes, dump.splits) == (["cat", "dog", "frog"], {"train": (0, 4), "test": (4, 8)})
    assert dump.read(0, 8).labels.tolist() == [1, 2, 0, 2, -1, -1, -1, -1]
    assert "labels of 4 pictures from trainLabels.csv" in capsys.readouterr().err
    first = dump.identity
    labels.write_text("id,label\n1,dog\n2,dog\n3,cat\n4,frog\n")
    assert open_folder(str(tmp_path)).identity != first
    labels.write_text("1,dog\n2,cat\n")
    assert open_folder(str(tmp_path)).classes is None
    assert (
        f"trainLabels.csv may hold labels and is not used: --labels {labels} takes it"
        in capsys.readouterr().err
    )
    for nothing in ("", "id,label\n100,dog\n"):
        labels.write_text(nothing)
        assert open_folder(str(tmp_path)).classes is None
    assert "trainLabels.csv is not used, as it names 0 of 4 pictures" in capsys.readouterr().err
    other = tmp_path / "own.csv"
    other.write_text("test/3.png,bird\n")
    assert open_folder(str(tmp_path), labels=str(other)).read(4, 8).labels.tolist() == [-1, -1, 0, -1]
    for text, words in (
        ("9.png,bird\n", "none of its 1 rows"),
        ("1,bird\n", "names 2 pictures"),
        ("x\n", "no label"),
    ):
        other.write_text(text)
        assert words in error_of(open_folder, str(tmp_path), labels=str(other))


def test_a_file_of_labels_that_is_not_in_utf_8_is_noted_as_such(tmp_path, capsys):
    save(tmp_path / "1.png", size=(4, 4))
    (tmp_path / "any.csv").write_bytes("1.png,Bär\n".encode("cp1252"))
    assert open_folder(str(tmp_path)).classes is None
    assert capsys.readouterr().err.endswith(
        f"save it in UTF-8, then --labels {tmp_path / 'any.csv'} takes it\n"
    )


def test_a_file_of_labels_that_is_too_large_is_noted_as_such(tmp_path, capsys):
    save(tmp_path / "1.png", size=(4, 4))
    for name, how in (
        ("any.csv", "it has 300,000,000 bytes, and --labels takes a file of at most"),
        ("any.json", WRITE),
    ):
        large = tmp_path / name
        large.write_text("id,label\n1,cat\n" if name == "any.csv" else '{"file_name": "1.png"}\n')
        os.truncate(large, 300_000_000)  # sparse
        assert open_folder(str(tmp_path)).classes is None
        assert f"{name} may hold labels and is not used: {how}" in capsys.readouterr().err
        large.unlink()


TAKES = "--labels {at} takes it"
WRITE = "--labels takes a CSV file with the columns name and label"


@pytest.mark.parametrize(
    ("name", "text", "how"),
    [
        ("any.csv", "1.png,cat\n2.png,dog\n", TAKES),
        ("any.csv", "photo,class_id\n1.png,0\n2.png,1\n", TAKES),
        ("any.csv", "image,cat,dog\n1.png,1,0\n2.png,0,1\n", WRITE),
        ("any.tsv", "1.png\tcat\n2.png\tdog\n", TAKES),
        ("any.csv", "1.png;cat\n2.png;dog\n", TAKES),
        ("annotations.json", '{"images": [{"id": 1,\n"file_name": "1.png"}]}', WRITE),
        ("settings.json", '{"size": "4"}', None),
        ("labels.txt", "1.png cat\n2.png dog\n", TAKES),
        ("annotations/labels.csv", "image,label\n1,cat\n2,dog\n", TAKES),
        ("labels.txt", "cat\ndog\n", WRITE),
        ("metadata.jsonl", '{"file_name": "1.png", "text": "cat"}\n', WRITE),
        ("list.txt", "1.png\n2.png\n", None),
        ("readme.txt", "Two pictures, drawn by hand.\nNo more.\n", None),
        ("deep/down/labels.csv", "1.png,cat\n2.png,dog\n", None),
    ],
)
def test_a_file_that_may_hold_labels_and_is_not_used_is_noted_with_what_to_do(
    tmp_path, capsys, name, text, how
):
    for number in (1, 2):
        save(tmp_path / f"{number}.png", size=(4, 4))
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    assert open_folder(str(tmp_path)).classes is None
    err = capsys.readouterr().err
    line = f"{tmp_path}: {name} may hold labels and is not used: " + str(how).format(at=tmp_path / name)
    assert err == (line + "\n" if how else "")
    if how == TAKES:
        dump = open_folder(str(tmp_path), labels=str(tmp_path / name))
        assert dump.read(0, 2).labels.tolist() == [0, 1]
    elif how:
        assert error_of(open_folder, str(tmp_path), labels=str(tmp_path / name))
    assert open_folder(str(tmp_path), labels="none").classes is None and not capsys.readouterr().err.count(
        "may hold"
    )


def test_names_of_classes_are_what_people_write(tmp_path):
    names = ["全角\u3000スペース", "می\u200cخواهم", "no\u00a0break", "soft\u00adhyphen"]
    for name in names:
        save(tmp_path / name / "a.png", size=(4, 4))
    assert open_folder(str(tmp_path)).classes == sorted(names)
    for wrong in ("line\nbreak", "bell\a", "\u2028", "\u202eesrever", "\u3000"):
        save(tmp_path / wrong / "a.png", size=(4, 4))
        message = error_of(open_folder, str(tmp_path))
        assert message.startswith(f"{tmp_path}: class name {wrong!r} is invalid")
        assert open_folder(str(tmp_path), labels="none").images == 5
        (tmp_path / wrong / "a.png").unlink()


def test_classes_given_set_the_order_of_the_labels(folder):
    dump = open_folder(str(folder), classes=["frog", "bird", "dog", "cat"])
    assert dump.classes == ["frog", "bird", "dog", "cat"]
    assert dump.read(0, 6).labels.tolist() == [3, 3, 2, 0, 0, 0]
    assert "dog: 'dog', the name of a class, isn't among the 2 classes given" in error_of(
        open_folder, str(folder), classes=["cat", "frog"]
    )
    assert "the pictures aren't in a folder for each class" in error_of(
        open_folder, str(folder / "cat"), classes=["cat"]
    )


def test_hidden_files_and_notes_are_ignored(folder):
    for name in (
        ".DS_Store",
        "Thumbs.db",
        "notes.txt",
        "labels.csv",
        "cat/info.json",
        "README",
        ".git/a.png",
        "._b.png",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert open_folder(str(folder)).images == 6


def test_a_picture_without_a_suffix_is_still_one(tmp_path):
    save(tmp_path / "n01440764_10026", format="JPEG")
    save(tmp_path / "b.unknown", format="WEBP")
    assert open_folder(str(tmp_path)).images == 2


def test_what_is_neither_picture_nor_note_is_a_bad_record_and_not_silently_left_out(folder):
    (folder / "cat" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "Makefile").write_bytes(b"all:")
    dump = open_folder(str(folder))
    assert (dump.images, dump.classes) == (8, ["cat", "dog", "frog"])
    batch = dump.read(0, 8)
    assert {batch.names[place] for place in batch.bad} == {"Makefile", "cat/photo.heic"}


def test_what_systems_leave_beside_pictures_is_skipped(folder):
    expected = open_folder(str(folder)).identity
    for name in (
        "cat/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/cat/a.jpg",
        "cat/._a.jpg",
        "cat/a.jpg:Zone.Identifier",
        "cat/Thumbs.db",
        "cat/ehthumbs_vista.db",
        "cat/Icon\r",
        "Desktop.ini",
        ".DS_Store",
        "#recycle/b.png",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    dump = open_folder(str(folder))
    assert (dump.images, dump.classes, dump.identity) == (6, ["cat", "dog", "frog"], expected)


def test_pictures_that_cannot_be_decoded_are_bad_records(folder):
    whole = (folder / "cat" / "a.jpg").read_bytes()
    (folder / "cat" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "one.webp").write_bytes(b"")
    dump = open_folder(str(folder))
    assert dump.images == 6
    batch = dump.read(0, 6)
    assert list(batch.bad) == [0, 2]
    assert batch.bad[0].startswith("can't be decoded") and batch.bad[2].startswith("is empty")
    assert dump.read(3, 6).bad == {}
    assert set(dump.identity) == {"bytes", "sha256"}


def test_a_picture_that_takes_too_much_memory_is_a_bad_record(tmp_path, monkeypatch):
    monkeypatch.setattr("ingest.image.MAX_DECODED_BYTES", 1_000_000)
    Image.new("1", (1100, 1000)).save(tmp_path / "bomb.png")
    assert open_folder(str(tmp_path)).read(0, 1).bad[0].startswith("1,100 x 1,000 pixels take 1 MB to decode")


def test_more_classes_than_can_be_stored_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ingest.formats.folder_labels.MOST_CLASSES", 2)
    for number in range(3):
        save(tmp_path / f"class {number}" / "a.png", size=(1, 1))
    assert "has 3 classes; there can be 2" in error_of(open_folder, str(tmp_path))


def test_a_folder_without_pictures_is_refused(tmp_path):
    assert "holds no picture" in error_of(open_folder, str(tmp_path))
    assert "no such file or folder" in error_of(open_folder, str(tmp_path / "gone"))
    (tmp_path / "file").write_bytes(b"x")
    assert "Not a directory" in error_of(open_folder, str(tmp_path / "file"))


def test_the_identity_changes_with_a_pixel_and_with_a_name(folder):
    first = open_folder(str(folder)).identity
    assert first == open_folder(str(folder)).identity and set(first) == {"bytes", "sha256"}
    (folder / "dog" / "one.webp").rename(folder / "dog" / "two.webp")
    renamed = open_folder(str(folder)).identity
    assert renamed != first
    save(folder / "cat" / "b.png", (1, 1, 1))
    assert open_folder(str(folder)).identity != renamed


def test_the_identity_changes_with_the_class_of_a_picture_that_stays_where_it_is_in_the_order(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"):
        save(tmp_path / name)
    first = open_folder(str(tmp_path)).identity
    (tmp_path / "dog" / "3.png").rename(tmp_path / "cat" / "3.png")
    assert open_folder(str(tmp_path)).identity != first


def test_a_picture_that_goes_after_the_folder_was_opened_is_an_error(folder):
    dump = open_folder(str(folder))
    (folder / "cat" / "b.png").unlink()
    assert error_of(dump.read, 0, 6).startswith(f"{folder}/cat/b.png: no such file")
    assert error_of(lambda: dump.identity).startswith(f"{folder}/cat/b.png: no such file")


def test_names_with_spaces_signs_and_bytes_that_are_no_text_are_kept_apart(tmp_path):
    for name in ("a b.png", "ä%20#?.png", "new\nline.png"):
        save(tmp_path / name)
    odd = os.fsencode(tmp_path) + b"/odd\xff.png"
    with open(odd, "wb") as file:
        file.write((tmp_path / "a b.png").read_bytes())
    batch = pickle.loads(pickle.dumps(open_folder(str(tmp_path)))).read(0, 4)
    assert set(batch.names) == {"a b.png", "ä%20#?.png", "new\nline.png", "odd\ufffd.png"}
    assert all(name.encode() for name in batch.names)


def test_thousands_of_names_are_cheap_to_send_to_a_worker(tmp_path):
    save(tmp_path / "first.png", size=(1, 1))
    for number in range(2000):
        os.link(tmp_path / "first.png", tmp_path / f"picture_{number:06}.png")
    dump = open_folder(str(tmp_path))
    assert dump.images == 2001 and len(pickle.dumps(dump)) < 20 * 2001
    assert dump.read(2000, 2001).names == ["picture_001999.png"]


@pytest.mark.skipif(not os.environ.get("TINYTAGS_SHARED_DATA"), reason="the real pictures aren't here")
def test_real_jpegs_come_out_with_the_pixels_and_labels_they_have(tmp_path):
    with tarfile.open(
        os.path.join(os.environ["TINYTAGS_SHARED_DATA"], "cifar10-jpeg.tar.xz"), "r|xz"
    ) as archive:
        members = (member for member in archive if member.isfile())
        for member in itertools.islice(members, 0, 300):
            _, label, name = member.name.split("/")
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / name).write_bytes(archive.extractfile(member).read())
    dump = open_folder(str(tmp_path))
    batch = dump.read(0, dump.images)
    assert dump.images == 300
    for image, label, name in zip(batch.images, batch.labels, batch.names, strict=True):
        assert name.split("/")[0] == dump.classes[label]
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        np.testing.assert_array_equal(image.reshape(3, 32, 32), pixels.transpose(2, 0, 1))
