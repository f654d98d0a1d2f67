"""The reader of CIFAR-10 in its two forms, in folders, alone and in archives."""

import codecs
import gzip
import io
import os
import pickle
import struct
import tarfile
import time
import tracemalloc

import numpy as np
import pytest
from dumps import (
    assert_refused,
    assert_upright,
    cifar_pickle,
    cifar_records,
    error_of,
    make_cifar,
    make_images,
    make_labels,
    pickled_int,
    pickled_meta,
    pickled_string,
    write_files,
    write_tar,
)

from ingest.formats import cifar_archive, open_dump
from ingest.formats.cifar_10 import CLASSES, open_cifar_10

FOLDERS = {"bin": "cifar-10-batches-bin", "py": "cifar-10-batches-py"}


@pytest.fixture(params=["bin folder", "py folder", "bin w:gz", "py w:gz", "bin w", "bin w:bz2", "py w:xz"])
def whole(request, tmp_path):
    """All six batches in one of the ways they come, as (path, form, images, labels)."""
    form, way = request.param.split()
    content, images, labels = make_cifar(per_batch=7, form=form)
    if way == "folder":
        path = write_files(tmp_path / FOLDERS[form], content)
    else:
        order = sorted(content, key=lambda name: name[::-1])  # the official archives aren't in order either
        shuffled = {name: content[name] for name in order}
        path = write_tar(tmp_path / "cifar-10.tar", shuffled, FOLDERS[form], way)
    return str(path), form, images, labels


def test_pictures_come_out_upright_with_their_colours(whole):
    assert_upright(open_cifar_10(whole[0]).read(0, 1).images[0])


def test_records_in_are_records_out_training_batches_first(whole):
    path, form, images, labels = whole
    dump = open_cifar_10(path)
    assert (dump.format, dump.images, dump.classes) == ("cifar-10", 42, CLASSES)
    assert dump.splits == {"train": (0, 35), "test": (35, 42)}
    batch = dump.read(0, 42)
    np.testing.assert_array_equal(batch.images, images)
    np.testing.assert_array_equal(batch.labels, labels)
    assert batch.labels.dtype == np.int32
    if form == "py":
        assert (
            batch.names[:2] == ["data_batch_1_0.png", "data_batch_1_1.png"]
            and batch.names[-1] == "test_batch_6.png"
        )
    else:
        assert batch.names is None


def test_ranges_across_the_borders_of_batches_equal_the_whole(whole):
    path, _, images, labels = whole
    dump = pickle.loads(pickle.dumps(open_cifar_10(path)))  # as a worker gets it
    assert len(pickle.dumps(dump)) < 2000
    for start, stop in [(0, 0), (6, 8), (41, 42), (3, 30), (7, 14), (20, 42)]:
        batch = dump.read(start, stop)
        np.testing.assert_array_equal(batch.images, images[start:stop])
        np.testing.assert_array_equal(batch.labels, labels[start:stop])
        assert batch.names is None or len(batch.names) == stop - start
    with pytest.raises(IndexError):
        dump.read(40, 43)


def test_the_identity_is_the_same_each_time_and_changes_with_a_byte(tmp_path):
    content, _, _ = make_cifar()
    folder = write_files(tmp_path / "cifar", content)
    first = open_cifar_10(str(folder)).identity
    assert first == open_cifar_10(str(folder)).identity and first["bytes"] == 42 * 3073
    changed = bytearray(content["test_batch.bin"])
    changed[-1] ^= 1
    (folder / "test_batch.bin").write_bytes(changed)
    assert open_cifar_10(str(folder)).identity != first


def test_batches_that_are_there_are_enough_in_a_folder(tmp_path, capsys):
    content, images, _ = make_cifar()
    folder = write_files(
        tmp_path / "some", {name: content[name] for name in ("data_batch_2.bin", "data_batch_4.bin")}
    )
    dump = open_cifar_10(str(folder))
    assert dump.splits == {} and dump.classes == CLASSES
    missing = "data_batch_1, data_batch_3, data_batch_5, test_batch"
    assert capsys.readouterr().err == f"{folder}: there is no {missing}; continuing without\n"
    np.testing.assert_array_equal(dump.read(0, 14).images, np.concatenate([images[7:14], images[21:28]]))
    (folder / "test_batch.bin").write_bytes(content["test_batch.bin"])
    assert open_cifar_10(str(folder)).splits == {"train": (0, 14), "test": (14, 21)}


@pytest.mark.parametrize("form", ["bin", "py"])
def test_one_batch_alone_is_enough(tmp_path, form):
    content, images, labels = make_cifar(form=form)
    name = "test_batch.bin" if form == "bin" else "test_batch"
    path = write_files(tmp_path, {name: content[name]}) / name
    dump = open_cifar_10(str(path))
    assert dump.images == 7 and dump.splits == {}
    np.testing.assert_array_equal(dump.read(2, 7).images, images[37:])
    np.testing.assert_array_equal(dump.read(2, 7).labels, labels[37:])


def test_a_python_batch_that_is_replaced_is_read_again(tmp_path):
    path = tmp_path / "data_batch_1"
    first, second = make_images(5, seed=1), make_images(5, seed=2)
    path.write_bytes(cifar_pickle(first, [0] * 5))
    assert open_cifar_10(str(path)).read(0, 5).images.tobytes() == first.tobytes()
    path.write_bytes(cifar_pickle(second, [0] * 5))
    os.utime(path, (1, 1))
    assert open_cifar_10(str(path)).read(0, 5).images.tobytes() == second.tobytes()


@pytest.mark.parametrize("form", ["bin", "py"])
def test_class_names_come_from_the_meta_file_or_are_given(tmp_path, form):
    content, _, _ = make_cifar(form=form)
    names = [f"kind {number}" if form == "py" else f"kind-{number}" for number in range(10)]
    content["batches.meta.txt" if form == "bin" else "batches.meta"] = (
        pickled_meta({"label_names": names}) if form == "py" else "\n".join(names).encode()
    )
    folder = write_files(tmp_path / "cifar", content)
    assert open_cifar_10(str(folder)).classes == names
    archive = write_tar(tmp_path / "cifar.tar.gz", content, FOLDERS[form])
    assert open_cifar_10(str(archive)).classes == names
    given = [f"given {number}" for number in range(10)]
    assert open_cifar_10(str(folder), classes=given).classes == given


def test_a_label_beyond_the_given_classes_is_refused_when_it_is_read(tmp_path):
    for form in FOLDERS:
        content, _, _ = make_cifar(form=form)
        dump = open_cifar_10(str(write_files(tmp_path / form, content)), classes=["cat", "dog"])
        assert "2 classes have labels 0 to 1" in error_of(dump.read, 0, 42)


@pytest.mark.parametrize("cut", [1, 3072, 5000])
def test_a_binary_batch_of_the_wrong_size_is_refused(tmp_path, cut):
    content, _, _ = make_cifar()
    path = write_files(tmp_path, content) / "data_batch_3.bin"
    path.write_bytes(content["data_batch_3.bin"][:-cut])
    message = error_of(open_cifar_10, str(tmp_path))
    assert message.startswith(f"{path}: ") and "is not a whole number of 3,073-byte records" in message


def test_an_empty_batch_and_a_directory_in_its_place_are_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    assert "data_batch_1.bin: is empty" in error_of(open_cifar_10, str(tmp_path))
    (tmp_path / "data_batch_1.bin").unlink()
    (tmp_path / "data_batch_1.bin").mkdir()
    assert "holds no batch of CIFAR-10" in error_of(open_cifar_10, str(tmp_path))
    assert "no such file" in error_of(open_cifar_10, str(tmp_path / "gone"))


def test_a_label_out_of_range_is_refused_early_at_opening_late_at_reading(tmp_path):
    images, labels = make_images(1500), make_labels(1500)
    path = tmp_path / "data_batch_1.bin"
    labels[17] = 200
    path.write_bytes(cifar_records(images, labels))
    assert (
        error_of(open_cifar_10, str(path))
        == f"{path}: record 17 has label 200; 10 classes have labels 0 to 9"
    )
    labels[17], labels[1400] = 0, 10
    path.write_bytes(cifar_records(images, labels))
    dump = open_cifar_10(str(path))
    assert len(dump.read(0, 1400).images) == 1400
    assert (
        error_of(dump.read, 1000, 1500) == f"{path}: record 1,400 has label 10; 10 classes have labels 0 to 9"
    )


HOSTILE = {
    "os.system": (b"cos\nsystem\n(S'touch hacked'\ntR.", "names os.system"),
    "posix.system": (b"\x80\x02cposix\nsystem\n(U\x04truetR.", "names posix.system"),
    "builtins.eval": (b"\x80\x02cbuiltins\neval\n(U\x011tR.", "names builtins.eval"),
    "Python 2's eval": (b"\x80\x02c__builtin__\neval\n(U\x011tR.", "names __builtin__.eval"),
    "by INST": (b"(S'true'\nios\nsystem\n.", "names os.system"),
    "by STACK_GLOBAL": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "names os.system"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "names numpy.ndarray.dumps"),
    "another numpy name": (b"\x80\x02cnumpy\nfromfile\n(U\x0b/etc/passwdtR.", "names numpy.fromfile"),
    "another codec": (
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        "bytes encoded as 'rot13'",
    ),
    "brackets in a frame": (
        b"\x80\x04\x95" + struct.pack("<Q", 5_000_000) + b"(" * 5_000_000,
        "more values than a batch has",
    ),
    "an extension": (b"\x80\x02\x82\x01.", "is no pickle that can be read"),
    "a persistent id": (b"\x80\x02Pid\n.", "is no pickle that can be read"),
    "a huge memo index": (b"\x80\x02}r\xff\xff\xff\x7f.", "has nothing under b'data'"),
    "a huge string": (b"\x80\x04\x8e\x00\x00\x00\x00\x00\x10\x00\x00x.", "is no pickle that can be read"),
    "a huge byte array": (b"\x80\x05\x96\x00\x00\x00\x20\x00\x00\x00\x00.", "is no pickle that can be read"),
    "calling the array's class": (
        b"\x80\x02cnumpy\nndarray\n((J\x00\x00\x00\x7ftcnumpy\ndtype\n(U\x02u1tRtR.",
        "is no pickle that can be read",
    ),
    "brackets without end": (b"\x80\x02" + b"(" * 5_000_000, "more values than a batch has"),
    "no dict": (b"\x80\x02]q\x00.", "is a pickle, but not of a dict"),
    "text": (b"hello, this is no pickle at all", "is no pickle that can be read"),
    "cut off": (cifar_pickle(make_images(2), [0, 1])[:-3000], "is no pickle that can be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, words = HOSTILE[name]
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    tracemalloc.start()
    message = error_of(open_cifar_10, str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith(f"{path}: ") and words in message
    assert not (tmp_path / "hacked").exists()
    assert peak < 32 << 20
    # In a folder and in an archive it meets the same reader.
    folder = write_files(tmp_path / "folder", {"data_batch_1": content})
    assert words in error_of(open_cifar_10, str(folder))
    archive = write_tar(tmp_path / "c.tar.gz", {"data_batch_1": content}, FOLDERS["py"])
    assert words in error_of(open_cifar_10, str(archive))


def test_a_hostile_pickle_leaves_nothing_behind_for_the_next_one(tmp_path):
    path = tmp_path / "data_batch_1"
    # Sets attributes of what the allowed names stand for.
    for target in (b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n"):
        path.write_bytes(b"\x80\x02" + target + b"N}U\x0c__defaults__N\x73\x86b.")
        error_of(open_cifar_10, str(path))
    images = make_images(3)
    path.write_bytes(cifar_pickle(images, [1, 2, 3]))
    np.testing.assert_array_equal(open_cifar_10(str(path)).read(0, 3).images, images)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", [str, str.encode])
def test_copies_that_python_3_pickled_are_read(tmp_path, protocol, key):
    images, labels = make_images(30), make_labels(30)
    batch = {
        key("data"): images, key("labels"): labels.tolist(), key("filenames"): [key(f"{n}.png") for n in range(30)],
    }  # fmt: skip
    folder = tmp_path / "cifar"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({key("label_names"): list(map(key, CLASSES[::-1]))}, protocol)
    )
    dump = open_cifar_10(str(folder))
    read = dump.read(0, 30)
    np.testing.assert_array_equal(read.images, images)
    assert read.labels.tolist() == labels.tolist() and read.names[29] == "29.png"
    assert dump.classes == CLASSES[::-1]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (cifar_pickle(make_images(3), [1, 2]), "2 labels for 3 images"),
        (cifar_pickle(make_images(3), [1, 10, 2]), "record 1 has label 10"),
        (cifar_pickle(make_images(3), [1, -1, 2]), "record 1 has label -1"),
        (
            cifar_pickle(make_images(3), [], labels=b"](\x8b\x00\x10\x00\x00" + b"\x11" * 4096 + b"NNe"),
            "no list of whole",
        ),
        (
            cifar_pickle(make_images(1), [], labels=b"](\x8b\x00\x10\x00\x00" + b"\x11" * 4096 + b"e"),
            "far too large",
        ),
        (cifar_pickle(make_images(1)[:0], []), "isn't two-dimensional uint8"),
        (
            cifar_pickle(make_images(3), [1, 2, 3], labels=b"U\x03abc"),
            "no list of whole numbers under b'labels'",
        ),
        (
            cifar_pickle(make_images(3), [1, 2, 3], labels=b"](U\x011NNe"),
            "no list of whole numbers under b'labels'",
        ),
        (cifar_pickle(make_images(3), [1, 2, 3], data=b"U\x03abc"), "has nothing under b'data'"),
        (cifar_pickle(make_images(3)[:, :100].copy(), [1, 2, 3]), "has shape (3, 100) under b'data'"),
        (
            cifar_pickle(make_images(3), [1, 2, 3]).replace(b"U\x02u1", b"U\x02i1"),
            "isn't two-dimensional uint8",
        ),
        (
            cifar_pickle(make_images(3), [1, 2, 3]).replace(b"U\x02u1", b"U\x02f8"),
            "isn't two-dimensional uint8",
        ),
        (
            cifar_pickle(make_images(3), [1, 2, 3]).replace(pickled_int(3072), pickled_int(3071)),
            "isn't two-dim",
        ),
        (cifar_pickle(make_images(3), [1, 2, 3], [b"a.png"]), "b'filenames' isn't a list of 3 names"),
    ],
)
def test_a_pickle_with_other_content_than_a_batch_is_refused(tmp_path, batch, words):
    assert_refused(open_cifar_10, tmp_path / "data_batch_1", batch, words)


def test_an_array_pickled_column_by_column_is_read_in_the_right_order(tmp_path):
    images = make_images(4)
    path = tmp_path / "data_batch_1"
    content = cifar_pickle(images, [1, 2, 3, 4])
    content = content.replace(images.tobytes(), images.tobytes(order="F")).replace(
        b"K\x00tb\x89", b"K\x00tb\x88"
    )
    path.write_bytes(content)
    np.testing.assert_array_equal(open_cifar_10(str(path)).read(0, 4).images, images)


@pytest.mark.parametrize(
    ("name", "meta", "words"),
    [
        (
            "batches.meta",
            pickled_meta({"label_names": ["cat", "dog"]}),
            "holds 2 class names; CIFAR-10 has 10",
        ),
        ("batches.meta", pickled_meta({"label_names": ["cat"] * 10}), "'cat' is given 10 times"),
        ("batches.meta", b"cos\nsystem\n(S'true'\ntR.", "names os.system"),
        ("batches.meta", b"\x80\x02}.", "no list of names"),
        ("batches.meta.txt", b"cat\n" * 20_000, "more than 65,536 bytes"),
        ("batches.meta.txt", b"\xff\xfe\n" * 10, "can't decode"),
        ("batches.meta.txt", b"", "is empty"),
    ],
)
def test_a_meta_file_without_ten_names_is_refused(tmp_path, name, meta, words):
    content, _, _ = make_cifar(form="bin" if name.endswith(".txt") else "py")
    content[name] = meta
    message = error_of(open_cifar_10, str(write_files(tmp_path, content)))
    assert str(tmp_path / name) in message and words in message


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
    "folder", ["/cifar-10-batches-bin", "../cifar-10-batches-bin", "a/../cifar-10-batches-bin", ".."]
)
def test_members_of_an_archive_with_other_paths_are_never_read(tmp_path, folder):
    content, _, _ = make_cifar()
    path = write_tar(
        tmp_path / "inner" / "c.tar.gz" if (tmp_path / "inner").mkdir() else tmp_path / "c.tar.gz",
        content,
        folder,
    )
    before = sorted(tmp_path.rglob("*"))
    message = error_of(open_cifar_10, str(path))
    assert message.startswith(f"{path}: holds no cifar-10-batches-bin/data_batch_1.bin")
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked to disk"


@pytest.mark.parametrize("form", ["bin", "py"])
def test_archives_as_people_make_them_are_read(tmp_path, form):
    content, images, _labels = make_cifar(form=form)
    if form == "bin":
        content["batches.meta.txt"] = codecs.BOM_UTF8 + "\r\n".join(CLASSES).encode()
    for folder, mode in ((f"./{FOLDERS[form]}", "w:gz"), (".", "w"), ("", "w:gz")):
        path = write_tar(tmp_path / "c.tar", content, folder, mode)
        dump = open_dump(str(path))
        assert (dump.format, dump.classes) == ("cifar-10", CLASSES)
        np.testing.assert_array_equal(dump.read(0, dump.images).images, images)


def test_links_devices_and_repeated_members_are_ignored(tmp_path):
    content, images, _ = make_cifar()
    path = tmp_path / "c.tar.gz"
    inside = FOLDERS["bin"]
    with tarfile.open(path, "w:gz") as archive:
        add(archive, f"{inside}/data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, f"{inside}/data_batch_2.bin", type=tarfile.LNKTYPE, linkname="../../etc/passwd")
        add(archive, f"{inside}/data_batch_3.bin", type=tarfile.CHRTYPE)
        for name, data in content.items():
            add(archive, f"{inside}/{name}", data)
        add(archive, f"{inside}/data_batch_1.bin", cifar_records(make_images(3, seed=5), make_labels(3)))
    dump = open_cifar_10(str(path))
    np.testing.assert_array_equal(dump.read(0, dump.images).images, images)


def test_an_archive_without_one_of_the_batches_is_refused(tmp_path):
    for form, missing in (("bin", "data_batch_5.bin"), ("py", "test_batch")):
        content, _, _ = make_cifar(form=form)
        del content[missing]
        path = write_tar(tmp_path / f"{form}.tar.gz", content, FOLDERS[form])
        assert error_of(open_cifar_10, str(path)) == (
            f"{path}: {FOLDERS[form]}/{missing} missing from the archive; fetch it again"
        )


def test_a_malformed_batch_in_an_archive_is_named_with_it(tmp_path):
    content, _, _ = make_cifar()
    content["data_batch_2.bin"] = content["data_batch_2.bin"][:-1]
    path = write_tar(tmp_path / "size.tar.gz", content)
    assert error_of(open_cifar_10, str(path)).startswith(
        f"{path}: cifar-10-batches-bin/data_batch_2.bin: 21,510 bytes"
    )
    content["data_batch_2.bin"] = b"\x0a" * 3073
    path = write_tar(tmp_path / "label.tar.gz", content)
    assert "data_batch_2.bin: record 0 has label 10" in error_of(open_cifar_10, str(path))


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01])
def test_a_truncated_archive_is_refused(tmp_path, keep):
    content, _, _ = make_cifar()
    whole = write_tar(tmp_path / "c.tar.gz", content).read_bytes()
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(whole[: int(len(whole) * keep)])
    message = error_of(open_cifar_10, str(path))
    assert message.startswith(f"{path}: ") and ("truncated" in message or "fetch it again" in message)


def test_a_damaged_archive_is_refused(tmp_path):
    content, _, _ = make_cifar()
    data = bytearray(write_tar(tmp_path / "c.tar.gz", content).read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(data)
    message = error_of(open_cifar_10, str(path))
    assert message.startswith(f"{path}: ") and "damaged" in message


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-py/data_batch_1", "cifar-10-batches-bin/data_batch_1.bin", "other"]
)
def test_a_zip_bomb_is_refused_in_bounded_memory_and_time(tmp_path, monkeypatch, name):
    monkeypatch.setattr(cifar_archive, "ARCHIVE_BYTES", 32 << 20)
    member = tarfile.TarInfo(name)
    member.size = 3073 * (1 << 23)
    zeros = gzip.compress(bytes(64 << 20))  # gzip streams may follow each other
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)) + zeros)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    started = time.monotonic()
    message = error_of(open_cifar_10, str(path))
    taken, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith(f"{path}: ")
    if name.endswith("data_batch_1"):
        assert "the largest Python batch of CIFAR holds 155 million" in message
    else:
        assert "unpacks to more than 32 MiB" in message
    assert peak < 16 << 20 and taken < 30


def test_an_archive_of_very_many_members_is_refused(tmp_path):
    path = write_tar(tmp_path / "many.tar.gz", {f"{number}": b"" for number in range(1500)})
    assert "holds more than 1,000 files" in error_of(open_cifar_10, str(path))


def test_pickled_strings_of_every_length_are_understood(tmp_path):
    """The two opcodes that Python 2 wrote strings with, by their lengths."""
    path = tmp_path / "data_batch_1"
    path.write_bytes(
        cifar_pickle(make_images(2), [0, 1], [b"n" * 255, b"n" * 256], extra=pickled_string(b"x" * 300))
    )
    assert open_cifar_10(str(path)).read(0, 2).names == ["n" * 255, "n" * 256]
