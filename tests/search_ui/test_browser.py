"""Tests of the page in a real browser: what a person does, with and without JavaScript, wide and narrow."""

import re
import time
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = pytest.mark.services


def seen(page):
    """Return the URL and the visible text of each thumbnail."""
    settled(page).wait_for_load_state("load")
    until = time.monotonic() + 60
    while not page.evaluate("[...document.images].every(image => image.complete)"):
        assert time.monotonic() < until, "images that don't come"
        page.wait_for_timeout(20)
    assert page.evaluate("[...document.images].every(image => image.naturalWidth === 32)")
    texts = [" ".join(text.split()) for text in page.locator(".grid li").all_inner_texts()]
    return list(
        zip(page.locator(".grid img").evaluate_all("all => all.map(image => image.src)"), texts, strict=True)
    )


def settled(page):
    """Wait until the requested results have replaced those before."""
    page.wait_for_selector("main:not([aria-busy])", state="attached")
    return page


def number(page):
    settled(page)
    return int(page.locator("#total strong").inner_text().replace(",", ""))


def test_pick_two_tags_move_the_range_page_forward_and_reload(browse, searchable):
    page = browse()
    page.locator(".facet").first.get_by_role("link", name="frog").click()
    settled(page).locator(".facet").first.get_by_role("link", name="ship").click()
    page.wait_for_url("**tag=ship**")
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
    page.wait_for_url("**page=2**")
    assert parse_qs(urlsplit(page.url).query)["page"] == ["2"]
    images = seen(page)
    assert len(images) == 30
    url = page.url
    page.reload()
    assert seen(page) == images
    other = browse(url.removeprefix(page.evaluate("location.origin")))
    assert seen(other) == images
    page.go_back()
    page.wait_for_selector("main:not([aria-busy]):not(:has([rel=prev]))", state="attached")
    first = seen(page)
    assert not {src for src, _ in first} & {src for src, _ in images}
    page.go_forward()
    page.wait_for_selector("main:not([aria-busy]) .pages a[rel=prev]")
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

    settled(page)
    bars.nth(3).click()
    page.wait_for_url("**confidence=70-70")
    documents = searchable.documents[searchable.first.name]
    assert number(page) == sum(d["votes"] == 7 for d in documents)
    bars.nth(3).click()
    page.wait_for_url(lambda url: "confidence" not in url)  # the bar that is picked is let go


def test_a_span_is_drawn_on_the_histogram(browse, searchable):
    page = browse("/?tag=frog")
    boxes = [bar.bounding_box() for bar in page.locator(".histogram a").all()]
    at = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    page.mouse.move(*at[4])
    page.mouse.down()
    page.mouse.move(*at[1], steps=5)
    assert page.locator(".histogram .drawn").count() == 4
    page.mouse.up()
    page.wait_for_url("**/?tag=frog&confidence=50-80")
    documents = searchable.documents[searchable.first.name]
    assert number(page) == sum(d["tag"] == "frog" and 5 <= d["votes"] <= 8 for d in documents)


def test_results_change_in_place_and_what_one_was_at_stays(browse):
    page = browse()
    page.evaluate("window.loaded = 1")
    page.locator("#runner_up-facet summary").click()
    frog = page.locator(".facet").first.get_by_role("link", name="frog")
    frog.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?tag=frog")
    assert page.title() == "frog · TinyTags"
    assert page.evaluate("document.activeElement.dataset.keep") == "tag:frog"
    assert page.locator("#runner_up-facet").get_attribute("open") is not None
    assert "images" in page.locator("[aria-live]").last.text_content(), "it is read out"
    page.locator("#runner_up-facet").get_by_role("link", name="ship").click()
    page.wait_for_url("**/?tag=frog&runner_up=ship")
    settled(page).get_by_role("link", name="Remove filter frog").click()
    page.wait_for_url("**/?runner_up=ship")
    page.go_back()
    page.wait_for_url("**/?tag=frog&runner_up=ship")
    settled(page).get_by_role("link", name="Remove filter runner-up ship").click()
    page.wait_for_url("**/?tag=frog")
    assert page.evaluate("window.loaded") == 1, "nothing was loaded anew"
    settled(page).locator(".grid a").first.click()
    page.wait_for_url("**/images/**")
    page.go_back()
    page.wait_for_url("**/?tag=frog")
    assert page.locator(".grid a").count() == 30


def test_thumbnails_come_in_three_sizes_and_shuffled(browse):
    page = browse("/?tag=frog")
    widths = []
    for size in ("S", "M", "L"):
        page.get_by_label("Size").get_by_role("link", name=size, exact=True).click()
        page.wait_for_selector(f"main:not([aria-busy]) .grid.size-{size.lower()}")
        widths.append(page.locator(".grid img").first.bounding_box()["width"])
    assert widths == sorted(set(widths)) and widths[2] > 2 * widths[0]
    orders = []
    for _ in range(2):
        before = page.url
        page.get_by_role("link", name="shuffled").click()
        page.wait_for_url(lambda url, before=before: url != before)
        assert re.search("sort=random&seed=[0-9]+&size=l", page.url)
        orders.append([src for src, _ in seen(page)])
    assert orders[0] != orders[1]
    page.reload()
    assert [src for src, _ in seen(page)] == orders[1]


def test_without_javascript_the_page_is_links_and_a_form(browse):
    page = browse("/", java_script_enabled=False)
    page.locator(".facet").first.get_by_role("link", name="ship").click()
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
    page.wait_for_url(f"**/?tag=frog#image-{focused + 1}")
    page.keyboard.press("n")
    page.wait_for_url("**/?tag=frog&page=2")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.closest('.facet') !== null")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", (
        "focus can be seen"
    )


def test_the_skip_link_reaches_the_images_space_ticks_a_filter_and_arrows_lead_on_from_an_image(browse):
    page = browse("/?tag=frog")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "image-0"
    page.locator(".facet").first.get_by_role("link", name="ship").focus()
    page.keyboard.press("Space")
    page.wait_for_url("**/?tag=frog&tag=ship")
    settled(page).locator("#image-27").press("Enter")
    page.wait_for_url("**/images/**at=27")
    for key, at in (("ArrowRight", 28), ("ArrowRight", 29), ("ArrowLeft", 28)):
        page.keyboard.press(key)
        page.wait_for_url(f"**/images/**at={at}")
    page.get_by_role("link", name="Back to results").click()
    page.wait_for_url("**/?tag=frog&tag=ship#image-28")
    assert page.evaluate("document.activeElement.id") == "image-28"
    assert page.evaluate("scrollY > 0 && document.activeElement.getBoundingClientRect().top >= 0")
    total = number(page)
    page.locator(".facet").first.get_by_role("link", name="ship").click()
    page.wait_for_url("**/?tag=frog")
    assert number(page) < total
    page.go_back()
    page.wait_for_selector("main:not([aria-busy]) .facet [data-keep='tag:ship'][aria-current]")
    assert number(page) == total


def test_on_a_phone_filters_end_in_a_button_to_the_images_and_rows_do_not_wrap(browse):
    page = browse("/")
    page.set_viewport_size({"width": 390, "height": 700})
    page.locator(".filters > summary").click()
    page.locator(".facet").first.get_by_role("link", name="frog").click()
    page.wait_for_url("**/?tag=frog")
    show = settled(page).locator(".show a")
    assert show.inner_text() == f"Show {number(page)} images"
    box = show.bounding_box()
    assert 0 < box["y"] < 700 - box["height"], "it stays at the end of the screen"
    show.click()
    assert page.locator(".facet").first.is_hidden() and page.locator("#total").is_visible()
    assert page.evaluate("document.activeElement.id") == "total"
    lines = "all => all.map(row => new Set([...row.querySelectorAll('a')].map(link => link.offsetTop)).size)"
    assert page.locator(".view .choices").evaluate_all(lines) == [1, 1]
    page.locator(".grid a").nth(3).click()
    page.wait_for_url("**/images/**at=3")
    assert page.locator(".trail").evaluate_all(lines) == [1]
    assert page.get_by_role("link", name="Next").count() == 1, "its name stays where only its arrow is shown"


def test_forced_colours_show_what_is_chosen_and_a_wide_screen_is_used(browse):
    page = browse("/?tag=frog&confidence=50-80&page=2", forced_colors="active")
    for selector in (".facet .box", ".choices a", ".pages a:not(.step)"):
        chosen, others = (
            page.locator(f"{selector}:{test}").evaluate_all(
                "all => [...new Set(all.map(one => getComputedStyle(one).backgroundColor))]"
            )
            for test in ("is([aria-current], [aria-current] *)", "not([aria-current], [aria-current] *)")
        )
        assert len(chosen) == 1 and chosen[0] not in others, selector
    bars = page.locator(".histogram a").evaluate_all(
        "all => all.map(bar => [bar.className, getComputedStyle(bar.querySelector('svg')).fill])"
    )
    assert len({fill for name, fill in bars if name == "in"} & {fill for name, fill in bars if not name}) == 0
    page.set_viewport_size({"width": 2560, "height": 1200})
    box = page.locator(".grid").bounding_box()
    assert box["x"] + box["width"] > 2500 and page.locator(".brand").bounding_box()["x"] < 40


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
    assert page.locator(".filters > summary").is_hidden()
    page.set_viewport_size({"width": 390, "height": 800})
    assert facet.is_hidden()
    assert page.locator(".grid img").first.is_visible()
    page.locator(".filters > summary").click()
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
        colours = page.evaluate(script)
        assert len(colours) > 50
        for name, ink, paper in colours:
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            # Web Content Accessibility Guidelines 2.1, 1.4.3, level AA
            assert (light + 0.05) / (dark + 0.05) >= 4.5, SimpleNamespace(
                scheme=scheme, name=name, ink=ink, paper=paper
            )
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.05
