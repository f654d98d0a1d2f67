"""Draws digits on the page's canvas in a browser and counts those that are classified right: ``python -m studies.drawn_digits --model MNIST_MODEL``."""

import functools
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from conf.command import note, run, settings_options
from conf.settings import Settings
from ingest.corpus import open_corpus
from ingest.image import SIDE
from operations.chromium import find_chromium
from search_ui import create_app
from storage.store import store_of
from tagging.models import read_card
from tagging.training import HOLDOUT, choose, labelled_part

# The longer side of a digit whose strokes are followed; the page's canvas has 280 pixels a side.
DETAIL, CANVAS = 120, 280
# Ink and paper; the most alike have a contrast of 2.6 to 1.
COLOURS = [
    ("#000000", "#ffffff"), ("#ffffff", "#000000"), ("#1d4ed8", "#ffffff"), ("#facc15", "#1e293b"), ("#b91c1c", "#fde68a"),
    ("#ffffff", "#15803d"), ("#374151", "#9ca3af"), ("#7c3aed", "#f5f3ff"),
]  # fmt: skip
# Fonts that come with Matplotlib, whose digits are drawn along the middle of their strokes.
FONTS = ["DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf", "STIXGeneral.ttf"]

Stroke = list[tuple[float, float]]  # x and y of its points


@dataclass(frozen=True)
class Digit:
    """One digit, as it is drawn on the canvas."""

    digit: str
    source: str  # "MNIST", or the font
    strokes: list[Stroke]  # in pixels of the canvas
    brush: int
    ink: str
    paper: str


def made_digits(
    images: NDArray[np.uint8], labels: NDArray[np.int32], fonts: int, seed: int
) -> Iterator[Digit]:
    """Yield each of MNIST's ``images`` (n, 3072) as strokes, and ``fonts`` digits of fonts; width, size, place and colours vary."""
    random = np.random.default_rng(seed)
    grey = images.reshape(-1, 3, SIDE, SIDE)[:, 0]
    shapes = [
        ("MNIST", str(label), Image.fromarray(image)) for image, label in zip(grey, labels, strict=True)
    ]
    shapes += [
        (FONTS[number % len(FONTS)], str(digit), _of_font(FONTS[number % len(FONTS)], str(digit)))
        for number, digit in enumerate(random.permutation(np.arange(fonts) % 10))
    ]
    for source, digit, image in shapes:
        strokes = followed(image)
        points = np.array([point for stroke in strokes for point in stroke])
        first, size = points.min(0), max(np.ptp(points, axis=0).max(), 1)
        height = random.uniform(0.3, 0.8) * CANVAS
        brush = int(np.clip(round(height * random.uniform(0.06, 0.16)), 2, 48))
        room = CANVAS - brush - np.ptp(points, axis=0) / size * height
        place = brush / 2 + random.uniform(0, 1, 2) * room
        moved = [
            [tuple((np.array(point) - first) / size * height + place) for point in stroke]
            for stroke in strokes
        ]
        ink, paper = COLOURS[random.integers(len(COLOURS))]
        yield Digit(digit, source, moved, brush, ink, paper)


def _of_font(name: str, digit: str) -> Image.Image:
    import matplotlib

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, DETAIL)
    image = Image.new("L", (2 * DETAIL, 2 * DETAIL))
    ImageDraw.Draw(image).text((DETAIL // 2, DETAIL // 4), digit, 255, font)
    return image.crop(image.getbbox())


def followed(image: Image.Image) -> list[Stroke]:
    """Return the strokes of white ink on black as a pen would draw them: along their middle."""
    from skimage.morphology import skeletonize

    scale = DETAIL / max(image.size)
    large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left = {(int(x), int(y)) for y, x in np.argwhere(skeletonize(np.pad(np.asarray(large) > 110, 1)))}
    every, strokes = set(left), []
    while left:
        # A stroke begins at an end, else where it leaves another, else anywhere on a loop.
        start = min(left, key=lambda at: (_order(at, every, left), at[1], at[0]))
        stroke = [*[at for at in _around(start) if at in every - left][:1], start]
        left.discard(start)
        while following := [at for at in _around(stroke[-1]) if at in left]:
            stroke.append(following[0])
            left.discard(following[0])
        # Of a loop, back to where it began; a crossing is met by the stroke that ends there.
        stroke += [at for at in _around(stroke[-1]) if at in every and at not in stroke[-3:]][:1]
        if len(stroke) > 4 or not strokes:
            strokes.append([*stroke[:-1:8], stroke[-1]])
    return [[(float(x), float(y)) for x, y in stroke] for stroke in strokes]


def _order(at: tuple[int, int], every: set[tuple[int, int]], left: set[tuple[int, int]]) -> int:
    neighbours = [one for one in _around(at) if one in every]
    if len(neighbours) <= 1:
        return 0
    return 1 if any(one not in left for one in neighbours) else 2


def _around(at: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pixels beside one, those that share a side first."""
    x, y = at
    beside = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)]
    return [(x + right, y + down) for right, down in beside]


def draw(page: Any, digit: Digit) -> str:
    """Draw a digit with the mouse on the open page ``/classify`` of Playwright, and return the most confident class."""
    page.locator("#clear").click(force=True) if page.locator("#clear").is_enabled() else None
    page.evaluate(
        """([brush, ink, paper]) => Object.entries({ brush, ink, paper }).forEach(([name, value]) => {
          const input = document.getElementById(name);
          input.value = value;
          input.dispatchEvent(new Event("input"));
        })""",
        [digit.brush, digit.ink, digit.paper],
    )
    box = page.locator("#canvas").bounding_box()
    scale = box["width"] / CANVAS
    for stroke in digit.strokes:
        places = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
    with page.expect_response("**/classify"):
        page.locator("#classify-drawing").click()
    page.locator("#classify:not([aria-busy])").wait_for()
    return str(page.locator(".answer tr[data-percent] th").first.inner_text())


@click.command("drawn_digits")
@click.option("--model", required=True, metavar="NAME", help="A model of the ten digits.")
@click.option(
    "--corpus", default="mnist", show_default=True, metavar="NAME", help="MNIST, whose test images are drawn."
)
@click.option("--digits", default=200, show_default=True, help="Digits drawn from MNIST's test images.")
@click.option("--fonts", default=40, show_default=True, help="Digits drawn from fonts, besides.")
@click.option("--seed", default=0, show_default=True, help="Decides which images, and how they vary.")
@settings_options("store", "webhdfs")
def main(model, corpus, digits, fonts, seed, settings):
    """Draw digits with the mouse in Chromium and count the right answers, by source.

    Each is drawn along the middle of its strokes, in a width, size, place, ink and paper drawn by chance.
    """
    # The page would choose another model for one that isn't there.
    read_card(store_of(settings), model)
    drawn = list(made_digits(*some_of_mnist(settings, corpus, digits, seed), fonts, seed))
    answers = draw_all(settings, model, drawn)
    for source in dict.fromkeys(digit.source for digit in drawn):
        pairs = [
            (one.digit, answer) for one, answer in zip(drawn, answers, strict=True) if one.source == source
        ]
        wrong = ", ".join(f"{digit} as {answer}" for digit, answer in pairs if digit != answer)
        right = sum(digit == answer for digit, answer in pairs)
        click.echo(
            f"{source}: {right} of {len(pairs)} right ({right / len(pairs):.1%}){wrong and '; ' + wrong}"
        )


def some_of_mnist(
    settings: Settings, corpus: str, count: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return ``count`` test images (n, 3072) uint8 of MNIST and their labels (n,) int32, drawn by ``seed``."""
    store = store_of(settings)
    source = open_corpus(store, corpus)
    images, labels = labelled_part(
        store, source, functools.partial(choose, source, seed, HOLDOUT, train=False)
    )
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return images[chosen], labels[chosen]


def draw_all(settings: Settings, model: str, drawn: list[Digit]) -> list[str]:
    """Serve the page, draw all digits on it, and return the answers of ``model``."""
    from playwright.sync_api import sync_playwright
    from werkzeug.serving import make_server

    app = create_app(replace(settings, classify_rate="none", database="none"))
    for logger in (app.logger, logging.getLogger("werkzeug")):
        logger.setLevel(logging.ERROR)  # a line for each request
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/classify?model={model}")
            for number, digit in enumerate(drawn):
                answers.append(draw(page, digit))
                if number % 20 == 19:
                    note(f"drawn_digits: {number + 1} of {len(drawn)}")
            browser.close()
    finally:
        server.shutdown()
        app.extensions["tinytags"].decoder.close()
    return answers


if __name__ == "__main__":
    run(main)
