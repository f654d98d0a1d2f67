"""Tests of written digits laid out as MNIST's: found in any colours, 20 pixels long, centred by mass."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ingest.digit import from_digit, is_digits
from ingest.image import PictureError


def seven(size=(300, 200), at=(90, 40), long=110, width=14, ink=(0, 0, 0), paper=(255, 255, 255), mode="RGB"):
    """Return a picture of a 7 in one colour on another."""
    picture = Image.new(mode, size, paper)
    x, y = at
    corners = [(x, y), (x + long * 0.6, y), (x + long * 0.2, y + long)]
    ImageDraw.Draw(picture).line(corners, fill=ink, width=width, joint="curve")
    return picture


def grey(picture) -> np.ndarray:
    """Return the (32, 32) grey pixels of the image that is made of a picture."""
    planes = from_digit(picture).reshape(3, 32, 32)
    assert (planes == planes[0]).all()
    return planes[0].astype(int)


def check_form(image: np.ndarray) -> None:
    """Check what is true of each of MNIST's images in the canonical layout."""
    rows, columns = np.nonzero(image > 60)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(20, abs=1)
    assert not image[:2].any() and not image[:, :2].any() and not image[30:].any() and not image[:, 30:].any()
    mass = image.sum()
    for axis in (0, 1):
        centre = (image.sum(axis=1 - axis) * np.arange(32)).sum() / mass
        assert centre == pytest.approx(2 + 14, abs=0.51)
    assert image.max() > 200 and np.median(image) == 0


COLOURS = {
    "black on white": {},
    "white on black": {"ink": (255, 255, 255), "paper": (0, 0, 0)},
    "yellow on white": {"ink": (255, 240, 0)},
    "red on green, as bright": {"ink": (200, 0, 0), "paper": (0, 102, 0)},
    "dark grey on grey": {"ink": (90, 90, 90), "paper": (140, 140, 140)},
    "white on transparent": {"ink": (255, 255, 255, 255), "paper": (255, 255, 255, 0), "mode": "RGBA"},
    "black on transparent": {"ink": (0, 0, 0, 255), "paper": (0, 0, 0, 0), "mode": "RGBA"},
}


@pytest.mark.parametrize("colours", COLOURS)
def test_ink_of_any_colour_on_any_other_becomes_white_on_black(colours):
    image = grey(seven(**COLOURS[colours]))
    check_form(image)
    assert np.abs(image - grey(seven())).mean() < 2


@pytest.mark.parametrize(
    "drawn",
    [
        {"at": (5, 5)},
        {"at": (200, 80)},
        {"size": (1200, 900), "at": (300, 200), "long": 500, "width": 60},
        {"size": (40, 40), "at": (12, 10), "long": 18, "width": 3},
        {"width": 3},
        {"width": 30},
    ],
)
def test_place_size_and_width_of_strokes_hardly_matter(drawn):
    image = grey(seven(**drawn))
    check_form(image)
    assert np.abs(image - grey(seven())).mean() < 20


def test_a_thin_stroke_does_not_vanish():
    assert grey(seven(size=(2000, 2000), at=(500, 300), long=1200, width=8)).max() > 150


def test_paper_with_noise_and_without_ink():
    noisy = np.asarray(seven(ink=(40, 40, 60), paper=(210, 205, 190)), int)
    noisy = noisy + np.random.default_rng(0).normal(0, 8, noisy.shape)
    check_form(grey(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))))
    for picture in (Image.new("L", (28, 28), 255), Image.new("RGBA", (9, 9)), Image.new("RGB", (1, 1))):
        with pytest.raises(PictureError):
            from_digit(picture)


def test_a_digit_of_mnist_s_form_stays_as_it_is():
    field = np.zeros((28, 28), np.uint8)
    field[4:24, 11:15] = 255  # of mass around (13.5, 12.5): moved by half a pixel and by one and a half
    image = grey(Image.fromarray(field))
    assert np.ptp(np.argwhere(image == 255), axis=0).tolist() == [19, 3]
    again = grey(Image.fromarray(image.astype(np.uint8)))
    np.testing.assert_array_equal(again, image)


def test_classes_are_digits_in_any_order_and_nothing_else():
    assert is_digits([str(n) for n in range(10)]) and is_digits([str(n) for n in range(9, -1, -1)])
    assert not is_digits([str(n) for n in range(11)]) and not is_digits(["cat", "dog"])
