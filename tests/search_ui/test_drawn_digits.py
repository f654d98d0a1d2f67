"""A test of digits drawn with the mouse on the canvas of `/classify`, from their strokes to their class."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from served import served

from conf.settings import Settings
from ingest.digit import from_digit
from search_ui import create_app
from storage.store import open_store
from studies.drawn_digits import CANVAS, Digit, draw, made_digits
from tagging import linear
from tagging.featured import Featured
from tagging.features.hog import Hog
from tagging.models import save_model

LEARNT, DRAWN = 60, 10


def of_fonts(count: int, seed: int) -> list[Digit]:
    """Return so many digits of fonts; there are 40, and each is drawn in other widths, sizes, places and colours."""
    return list(made_digits(np.empty((0, 3072), np.uint8), np.empty(0, np.int32), count, seed))


def painted(digit: Digit) -> np.ndarray:
    """Return the canonical image of a digit that Pillow draws."""
    picture = Image.new("RGB", (CANVAS, CANVAS), digit.paper)
    for stroke in digit.strokes:
        ImageDraw.Draw(picture).line(stroke, fill=digit.ink, width=digit.brush, joint="curve")
    return from_digit(picture)


@pytest.mark.services
def test_digits_drawn_in_any_width_size_place_and_colour_come_out_right(chromium, tmp_path):
    learnt, features = of_fonts(LEARNT, seed=1), Hog("hog")
    codes = features.codes(np.array([painted(digit) for digit in learnt]))
    labels = np.array([int(digit.digit) for digit in learnt], np.int32)
    head, _ = linear.train(codes, labels, [str(digit) for digit in range(10)])
    store = open_store(str(tmp_path / "store"))
    save_model(store, "digits", Featured(features, head), {})
    app = create_app(Settings(store=store.root, solr="http://127.0.0.1:1/solr", database="none"))
    drawn = of_fonts(DRAWN, seed=2)
    with served(app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.goto("/classify?model=digits")
        answers = [draw(page, digit) for digit in drawn]
    # The command measures handwriting: python -m studies.drawn_digits
    assert [digit.digit for digit in drawn] == answers
