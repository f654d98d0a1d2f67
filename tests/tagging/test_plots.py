"""Tests of `tagging.plots`: the image of pixel importance."""

import numpy as np

from ingest.image import IMAGE_BYTES
from tagging.plots import importance_image


def test_without_importance_the_image_is_black():
    assert importance_image(np.zeros(IMAGE_BYTES)).max() == 0


def test_an_importance_image_is_brighter_where_importance_is_higher_and_black_where_it_is_zero():
    random = np.random.default_rng(1)
    importance = random.random(IMAGE_BYTES) * (random.random(IMAGE_BYTES) < 0.5)
    importance /= importance.sum()
    picture = importance_image(importance)
    assert (picture.shape, picture.dtype) == ((IMAGE_BYTES,), np.uint8)
    order = np.argsort(importance)
    assert (np.diff(picture[order].astype(int)) >= 0).all()
    assert (picture[importance == 0] == 0).all() and picture.max() == 255
    assert np.array_equal(importance_image(importance, 1), np.tile(picture[1024:2048], 3))


def test_a_few_bytes_alone_are_visible():
    importance = np.zeros(IMAGE_BYTES)
    importance[[5, 7]] = 0.7, 0.3
    picture = importance_image(importance)
    assert set(np.flatnonzero(picture)) == {5, 7}
    assert picture[5] == 255
