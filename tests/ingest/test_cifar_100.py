"""The reader of CIFAR-100; what it shares with CIFAR-10's is tested in `test_cifar_10`."""

import pickle

import numpy as np
import pytest
from dumps import assert_upright, error_of, make_cifar, make_cifar_100, make_images, write_files, write_tar

from ingest.formats import open_dump
from ingest.formats.cifar_100 import COARSE_CLASSES, FINE_CLASSES, open_cifar_100

FOLDERS = {"bin": "cifar-100-binary", "py": "cifar-100-python"}


@pytest.fixture(params=["bin folder", "py folder", "bin archive", "py archive", "py tar"])
def whole(request, tmp_path):
    """Both batches in one of the ways they come, as (path, form, images, fine, coarse)."""
    form, way = request.param.split()
    content, *expected = make_cifar_100(form=form)
    if way == "folder":
        path = write_files(tmp_path / "cifar", content)
    else:
        path = write_tar(tmp_path / "c.tar.gz", content, FOLDERS[form], "w" if way == "tar" else "w:gz")
    return str(path), form, *expected


def test_the_class_names_are_the_official_ones():
    for classes, count in ((FINE_CLASSES, 100), (COARSE_CLASSES, 20)):
        assert len(classes) == len(set(classes)) == count and classes == sorted(classes)


def test_records_in_are_records_out_with_fine_or_coarse_labels(whole):
    path, form, images, fine, coarse = whole
    for option, classes, labels in (
        (None, FINE_CLASSES, fine),
        ("fine", FINE_CLASSES, fine),
        ("coarse", COARSE_CLASSES, coarse),
    ):
        dump = pickle.loads(pickle.dumps(open_dump(path, labels=option)))  # as a worker gets it
        assert (dump.format, dump.images, dump.labels) == ("cifar-100", 13, option)
        assert dump.classes == classes
        assert dump.splits == {"train": (0, 9), "test": (9, 13)}
        for start, stop in ((0, 13), (7, 11), (12, 13), (0, 0)):
            batch = dump.read(start, stop)
            np.testing.assert_array_equal(batch.images, images[start:stop])
            np.testing.assert_array_equal(batch.labels, labels[start:stop])
            assert batch.labels.dtype == np.int32
        assert_upright(dump.read(0, 1).images[0])
        names = dump.read(8, 10).names
        assert names == (["train_8.png", "test_0.png"] if form == "py" else None)


def test_one_batch_alone_is_enough(tmp_path):
    for form, name in (("bin", "test.bin"), ("py", "test")):
        content, images, fine, _ = make_cifar_100(form=form)
        path = write_files(tmp_path / form, {"some": content[name]}) / "some"
        dump = open_dump(str(path))
        assert (dump.format, dump.images, dump.splits) == ("cifar-100", 4, {})
        np.testing.assert_array_equal(dump.read(0, 4).images, images[9:])
        np.testing.assert_array_equal(dump.read(0, 4).labels, fine[9:])


def test_class_names_come_from_the_meta_file_or_are_given(tmp_path):
    content, *_ = make_cifar_100()
    content["coarse_label_names.txt"] = "\n".join(f"kind {n}" for n in range(20)).encode()
    folder = str(write_files(tmp_path / "cifar", content))
    assert open_cifar_100(folder).classes == FINE_CLASSES
    assert open_cifar_100(folder, "coarse").classes[19] == "kind 19"
    assert open_cifar_100(folder, "coarse", classes=list("abcdefghijklmnopqrst")).classes[19] == "t"


def test_labels_out_of_range_and_other_labels_options_are_refused(tmp_path):
    path = tmp_path / "train.bin"
    for first, second, message in (
        (20, 5, "record 0 has label 20; 20 classes have labels 0 to 19"),
        (19, 100, "record 0 has label 100; 100 classes have labels 0 to 99"),
    ):
        path.write_bytes(bytes([first, second]) + make_images(1).tobytes())
        assert error_of(open_dump, str(path)) == f"{path}: {message}"
    assert error_of(open_cifar_100, str(path), "coarser").startswith("--labels 'coarser': the labels of")


def test_a_batch_of_cifar_10_is_refused(tmp_path):
    content, *_ = make_cifar(form="py")
    path = str(write_files(tmp_path, {"train": content["test_batch"]}) / "train")
    assert "no list of whole numbers under b'fine_labels'; is it CIFAR-100?" in error_of(open_cifar_100, path)
    assert error_of(open_dump, path, "cifar-100").endswith("is not cifar-100: it looks like cifar-10")


def test_a_hostile_pickle_is_refused(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(b"\x80\x02cos\nsystem\n(U\x0bfine_labelstR.")
    assert "names os.system" in error_of(open_dump, str(path))
