"""Tests of the page in a real browser: what a person does, with and without JavaScript, wide and narrow."""

import os
import re
import shutil
import threading
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from search_ui import create_app

pytestmark = pytest.mark.services

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium; None leaves it to Playwright's own, or its complaint that there is none."""
    choices = [os.environ.get("TINYTAGS_CHROMIUM"), "/usr/bin/chromium", "chromium", "google-chrome"]
    return next((found for choice in choices if choice and (found := shutil.which(choice))), None)


@pytest.fixture(scope="module")
def address(settings):
    """The page on a real port."""
    server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium, address):
    """Opens pages; at the end none may have complained, or asked anybody else."""
    contexts, complaints, asked = [], [], []

    def open_page(path="/", **options):
        context = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(asked) == {urlsplit(address).netloc}


def seen(page):
    """Return the thumbnails as somebody sees them."""
    page.wait_for_load_state("load")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth === 32)")
    texts = [" ".join(text.split()) for text in page.locator(".grid li").all_inner_texts()]
    return list(
        zip(page.locator(".grid img").evaluate_all("all => all.map(image => image.src)"), texts, strict=True)
    )


def number(page):
    return int(page.locator("#total strong").inner_text().replace(",", ""))


def test_pick_two_tags_move_the_range_page_forward_and_reload(browse, searchable):
    page = browse()
    page.get_by_role("link", name="frog").first.click()
    page.locator(".facet").get_by_role("link", name="ship").click()
    assert parse_qs(urlsplit(page.url).query) == {"tag": ["frog", "ship"]}
    documents = [d for d in searchable.documents[searchable.first.name] if d["tag"] in ("frog", "ship")]
    assert number(page) == len(documents)

    handle = page.get_by_label("Confidence from, percent")
    assert [handle.get_attribute(name) for name in ("min", "max", "step")] == ["40", "100", "10"]
    handle.focus()
    with page.expect_navigation():
        handle.press("ArrowRight")
    assert parse_qs(urlsplit(page.url).query)["confidence"] == ["50-100"]
    assert number(page) == sum(d["votes"] >= 5 for d in documents) > 60

    page.get_by_role("link", name="Next").click()
    assert parse_qs(urlsplit(page.url).query)["page"] == ["2"]
    images = seen(page)
    assert len(images) == 30
    url = page.url
    page.reload()
    assert seen(page) == images
    other = browse(url.removeprefix(page.evaluate("location.origin")))
    assert seen(other) == images
    page.go_back()
    first = seen(page)
    assert not {src for src, _ in first} & {src for src, _ in images}
    page.go_forward()
    assert seen(page) == images


def test_a_handle_is_dragged_and_a_bar_is_clicked(browse, searchable):
    page = browse()
    handle, bars = page.get_by_label("Confidence to, percent"), page.locator(".histogram a")
    box, target = handle.bounding_box(), bars.nth(2).bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 9, y)
    page.mouse.down()
    page.mouse.move(target["x"] + target["width"] / 2, y, steps=5)
    assert page.locator("input[name=max]").input_value() == "60", "a handle stands under its bar"
    with page.expect_navigation():
        page.mouse.up()
    assert "confidence=40-60" in page.url

    bars.nth(3).click()
    assert "confidence=70-70" in page.url
    documents = searchable.documents[searchable.first.name]
    assert number(page) == sum(d["votes"] == 7 for d in documents)
    bars.nth(3).click()
    assert "confidence" not in page.url, "the bar that is picked is let go"


def test_without_javascript_the_page_is_links_and_a_form(browse):
    page = browse("/", java_script_enabled=False)
    page.locator(".facet").get_by_role("link", name="ship").click()
    page.get_by_label("from").fill("60")
    page.get_by_label("to", exact=True).fill("80")
    page.get_by_role("button", name="Apply").click()
    assert parse_qs(urlsplit(page.url).query) == {"tag": ["ship"], "confidence": ["60-80"]}
    shares = {int(re.search(r"(\d+) %", text)[1]) for text in page.locator(".grid li").all_inner_texts()}
    assert shares <= {60, 70, 80} and shares


def test_keys_lead_through_thumbnails_pages_and_filters(browse):
    page = browse("/?tag=frog")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    columns = page.locator(".grid").evaluate(
        "grid => getComputedStyle(grid).gridTemplateColumns.split(' ').length"
    )
    focused = page.evaluate("[...document.querySelectorAll('.grid a')].indexOf(document.activeElement)")
    assert focused == 1 + columns
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/images/**at={focused}")
    page.keyboard.press("n")
    page.wait_for_url(f"**/images/**at={focused + 1}")
    page.keyboard.press("u")
    page.wait_for_url("**/?tag=frog")
    page.keyboard.press("n")
    page.wait_for_url("**/?tag=frog&page=2")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.closest('.facet') !== null")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", (
        "focus can be seen"
    )


@pytest.mark.parametrize(
    "path", ["/", "/?tag=frog&confidence=50-80&answer=wrong", "/images/small/0/1", "/about", "/?tag=x"]
)
@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_needs_no_scrolling_sideways(browse, path, width):
    page = browse(path)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_filters_fold_and_unfold(browse):
    page = browse("/?tag=frog")
    facet = page.locator(".facet").first
    assert facet.is_visible(), "wide: always open"
    assert page.locator("summary").is_hidden()
    page.set_viewport_size({"width": 390, "height": 800})
    assert facet.is_hidden()
    assert page.locator(".grid img").first.is_visible()
    page.locator("summary").click()
    assert facet.is_visible()


def test_an_image_is_large_and_crisp_on_its_page(browse):
    page = browse("/?tag=frog")
    page.locator(".grid a").nth(3).click()
    image = page.locator(".large img")
    assert image.bounding_box()["width"] >= 256
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    assert page.get_by_role("heading", level=1).inner_text().startswith("frog")
    assert page.locator(".votes tr").count() == 4


def test_there_is_a_dark_page_that_can_be_read(browse):
    def luminance(colour):
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    script = """() => {
        const paint = document.createElement("canvas").getContext("2d");
        const solid = (value) => { paint.fillStyle = value; return paint.fillStyle; };
        return [...document.querySelectorAll("body, .note, .count, .caption .percent, .chips a, .mark, nav a, h2")].map((element) => {
            let behind = element;
            while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            return [element.className || element.tagName, getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        });
    }"""
    for scheme in ("light", "dark"):
        page = browse("/?tag=frog&confidence=50-100", color_scheme=scheme)
        found = page.evaluate(script)
        assert len(found) > 50
        for name, ink, paper in found:
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            # Web Content Accessibility Guidelines 2.1, 1.4.3, level AA
            assert (light + 0.05) / (dark + 0.05) >= 4.5, SimpleNamespace(
                scheme=scheme, name=name, ink=ink, paper=paper
            )
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.05
