"""Tests that every page is accessible: axe-core's rules, the keyboard alone with a visible focus, and the size of a page."""

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import made_annotations
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from served import served

from conf.settings import Settings
from indexing.index_annotations import index_annotations
from ingest.annotations.manifest import open_annotations
from jobs.read_annotations import read_annotations
from jobs.split_dump import split_dump
from records.corrections import open_corrections
from records.predictions import NewPrediction, open_predictions
from search_ui import create_app
from storage import layout
from tagging.models import read_card
from tagging.report import html_report

pytestmark = pytest.mark.services

WIDTHS = {390: 844, 820: 1180, 1440: 900}
SCHEMES = ("light", "dark")
# Where axe-core runs, with its options. Dark pages differ in their colours alone, narrow ones in all but colours.
AXE = {
    (390, "light"): {"rules": {"color-contrast": {"enabled": False}}},
    (1440, "light"): {},
    (1440, "dark"): {"runOnly": ["color-contrast"]},
}
# The widths of a window that keys alone are tried in: all pages in one, and those whose layout changes most in another.
TABBED = [
    *(
        (name, 1440)
        for name in (
            "filtered",
            "empty",
            "image",
            "classify",
            "prediction",
            "about",
            "runs",
            "model",
            "two-models",
            "error",
        )
    ),
    *((name, 390) for name in ("filtered", "image", "model")),
]
# Each page, with what a person may have opened on it, and the status that it comes with.
PAGES = {
    "search": ("/", 200),
    "filtered": ("/?tag=frog&tag=ship&confidence=50-80&answer=wrong", 200),
    "shuffled": ("/?sort=random&seed=4&size=l&per_page=60", 200),
    "empty": ("/?tag=unicorn&tag=frog&confidence=99-99", 200),
    "beyond": ("/?page=900", 200),
    "everything": ("/?runner_up=frog&runner_up=ship&sort=confidence-low&size=s", 200),
    "people": ("/?correction=corrected&correction=agreed&correction=disputed", 200),
    "image": ("/images/small/0/1?tag=frog&at=0", 200),
    "corrected-image": ("/images/small/1/1", 200),
    "corrections": ("/corrections?undone=2", 200),
    "classify": ("/classify", 200),
    "label": ("/label?tag=frog&show=search", 200),
    "label-suggestions": ("/label?show=diverse&corpus=small", 200),
    "changes": ("/changes?run={second}", 200),
    "history": ("/history?deleted=2", 200),
    "prediction": ("/history/1000000", 200),
    "about": ("/about", 200),
    "runs": ("/runs", 200),
    "run": ("/runs/{first}", 200),
    "classes-of-images": ("/annotations/made/images?class=Apple&class=x%2Cy", 200),
    "relation-search": ("/annotations/made/relation-search?class1=%25a%25&sort=class2&escape=!", 200),
    "annotated-image": ("/annotations/made/images/0000000000000020", 200),
    "models": ("/models", 200),
    "model": ("/models/trained", 200),
    "two-models": ("/models/trained?with=deep", 200),
    "unmeasured-model": ("/models/ten", 200),
    "error": ("/?confidence=nan-inf", 400),
    "missing": ("/images/none/0/0", 404),
}


@pytest.fixture(scope="module", autouse=True)
def annotations(settings, searchable, tmp_path_factory):
    """Labels and relations of a few images."""
    folder = tmp_path_factory.mktemp("annotations")
    made_annotations.make(folder, images=60)
    read_annotations(replace(settings, master="processes[1]"), str(folder), "made")
    index_annotations(searchable.store, "made", searchable.solr)
    pictures = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (40, 40), (200, 60, 20)).save(pictures / "0000000000000020.png")
    split_dump(replace(settings, master="processes[1]"), str(pictures), "named")
    yield
    for part in open_annotations(searchable.store, "made").sets:
        searchable.solr.delete_alias(part.alias)
        searchable.solr.delete(part.name)
    searchable.store.remove_tree("annotations")
    searchable.store.remove_tree(layout.corpus_folder("named"))


@pytest.fixture
def open_page(chromium, address):
    """Opens pages, some of which are errors, which the browser logs; at the end none may have requested another host."""
    contexts, hosts = [], set()

    def open_page(path, **options):
        context = chromium.new_context(base_url=address, viewport={"width": 1440, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.status = page.goto(path).status
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts == {urlsplit(address).netloc}


@pytest.fixture
def corrections(settings):
    """The corrections in the database of all tests; those of this test are undone, as they are in searches."""
    corrections = open_corrections(settings.database)
    yield corrections
    corrections.undo_all()


@pytest.fixture(scope="module", autouse=True)
def prediction(settings):
    """One in the history, of the first second of 1970."""
    predictions = open_predictions(settings.database)
    number = predictions.add(
        NewPrediction(
            name="a picture of a frog, with a name that is long <b>.png", size=12_345, sha256="ab" * 32, image=bytes(range(256)) * 12,
            model="ten", model_hash="cd" * 32, milliseconds=1.25, answer="frog", confidence=0.6,
            classes=(("frog", 0.6), ("ship", 0.3), ("<b>deer</b>", 0.1)), at=datetime.fromtimestamp(1, UTC),
        )
    )  # fmt: skip
    assert PAGES["prediction"][0] == f"/history/{number}"
    yield
    predictions.delete_one(number)


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """The folder for screenshots of every page, TINYTAGS_SCREENSHOTS; None without it."""
    name = os.environ.get("TINYTAGS_SCREENSHOTS")
    if not name:
        return None
    Path(name).mkdir(parents=True, exist_ok=True)
    return Path(name)


def complaints(page, options: dict | None = None) -> list[str]:
    """Return what axe-core finds that is serious or critical, by its rules with these options."""
    violations = (
        Axe().run(page, options={"resultTypes": ["violations"]} | (options or {})).response["violations"]
    )
    return [
        f"{rule['impact']}: {rule['id']}, {rule['help']}: {node['html'][:200]} {node['any'] or node['all']}"
        for rule in violations
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def check_everywhere(page, name: str, screenshots: Path | None) -> list[str]:
    """Check that a page fits every width; run axe-core on a narrow and a wide one, and its rule of contrast on dark colours."""
    wrong = []
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if screenshots:
                page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png", full_page=True)
            if (width, scheme) in AXE:
                wrong += [
                    f"{width} {scheme}: {complaint}" for complaint in complaints(page, AXE[width, scheme])
                ]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wrong.append(f"{width}: scrolls sideways")
    return wrong


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_on_any_page_in_any_width_light_or_dark(
    open_page, screenshots, library, corrections, name
):
    path, status = PAGES[name]
    path = path.format(first=library.first.name, second=library.second.name)
    if name == "corrected-image":
        for label, by in (("ship", "Ada"), ("<b>deer</b>", "Bénédicte van der Meer-Schmidt")):
            corrections.add(library.corpus, 1, 1, label, by)
    if name == "people":
        for n, document in enumerate(library.documents[library.first.name][:9]):
            for label, by in ((document["tag"], "Ada"), ("ship", "Bob"), ("ship", "Eve"))[n % 2 : 1 + n % 3]:
                corrections.add(library.corpus, document["partition"], document["row"], label, by)
    page = open_page(path)
    assert page.status == status
    assert check_everywhere(page, name, screenshots) == []


def test_axe_finds_nothing_serious_in_a_report(chromium, library, screenshots, tmp_path):
    """Of `tinytags evaluate --report`: it needs no server and no JavaScript."""
    store, corpus = library.learnt.store, library.learnt.corpus
    card = read_card(store, "trained")
    mistake = {
        "partition": 1,
        "row": 7,
        "label": "frog",
        "tag": "ship",
        "confidence": 0.9,
        "runner_up_confidence": 0.1,
    }
    evaluation = {
        "corpus": corpus.name, "part": "all", "images": corpus.images, "training_images": 5, "left_out": 2,
        "quality": card["quality"], "confident_mistakes": [mistake] * 24,
    }  # fmt: skip
    file = tmp_path / "report.html"
    file.write_text(html_report(store, corpus, card, evaluation), encoding="utf-8")
    page, requests = chromium.new_page(), []
    page.on("request", lambda request: requests.append(urlsplit(request.url).scheme))
    page.goto(file.as_uri())
    try:
        assert check_everywhere(page, "report", screenshots) == []
        assert page.locator(".pictures img").evaluate_all(
            "all => all.every(image => image.naturalWidth == 32)"
        )
        assert set(requests) <= {"file", "data"}
    finally:
        page.close()


def test_axe_finds_nothing_serious_in_what_opens(open_page, screenshots):
    page = open_page("/?tag=frog")
    page.keyboard.press("?")
    assert check_everywhere(page, "keys", screenshots) == []
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("summary").first.click()
    assert page.locator(".facet a").first.is_visible()
    assert complaints(page) == []


def test_without_javascript_there_is_a_button_and_no_list_of_keys(open_page):
    page = open_page("/?tag=frog", java_script_enabled=False)
    assert page.locator("#help").is_hidden(), "keys need JavaScript, so there is no list of them"
    assert page.get_by_role("button", name="Apply").is_visible()


def test_a_page_without_solr_is_accessible_too(chromium, library, screenshots):
    app = create_app(Settings(store=library.store.root, solr="http://127.0.0.1:1/solr"))
    with served(app) as address, chromium.new_context() as context:
        page = context.new_page()
        for name, path, status in (("unavailable", "/", 503), ("unavailable-runs", "/runs", 200)):
            assert page.goto(address + path).status == status
            assert check_everywhere(page, name, screenshots) == []


def test_pages_of_a_login_are_accessible_and_it_leads_back_to_the_page_before(
    chromium, settings, screenshots
):
    app = create_app(replace(settings, password="correct horse"))
    with served(app) as address, chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/images/small/0/1?tag=frog&at=0")
        assert page.get_by_label("Correct label").count() == 0
        page.get_by_role("link", name="Log in").last.click()
        for password in ("battery staple", "correct horse"):
            page.get_by_label("Your name").fill("Bénédicte van der Meer-Schmidt")
            page.get_by_label("Password").fill(password)
            if password == "correct horse":
                assert page.get_by_role("alert").inner_text() == "The password is wrong."
                assert check_everywhere(page, "login", screenshots) == []
            page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/images/small/0/1?tag=frog&at=0")
        assert page.get_by_label("Correct label").count() == 1
        page.get_by_role("link", name="Bénédicte").click()
        page.get_by_role("button", name="Log out").click()
        assert page.get_by_role("link", name="Log in").count() == 1


def test_axe_finds_what_is_broken_on_purpose(open_page):
    page = open_page("/?tag=frog")
    assert complaints(page) == []
    page.evaluate("document.querySelector('.brand span').remove()")
    page.evaluate("document.querySelector('.grid img').removeAttribute('alt')")
    page.evaluate("document.body.style.color = '#999'")
    text = "".join(complaints(page))
    assert "link-name" in text and "image-alt" in text and "color-contrast" in text


# Everything that a mouse can work, by what it is called, in the order of the page.
WORKS = """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")]
    .filter((element) => element.tabIndex >= 0 && !element.disabled && element.checkVisibility({visibilityProperty: true}))
    .map((element, place) => { element.dataset.place = place; return element.outerHTML.slice(0, 120); })"""
FOCUSED = """() => { const at = document.activeElement; return at === document.body ? null : {
    place: Number(at.dataset.place), kind: [at.tagName, at.type || "", at.closest("[class]")?.className].join(" ")}; }"""


def tab_through(page, seen=None) -> list[int]:
    """Press Tab until the page is left; return which of its controls were reached, in order."""
    reached = []
    for _ in range(400):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None or (reached and at["place"] == reached[0]):
            return reached
        reached.append(at["place"])
        if seen is not None and at["kind"] not in seen:
            seen[at["kind"]] = focus_can_be_seen(page)
    raise AssertionError("Tab never comes to an end")


def focus_can_be_seen(page) -> bool:
    """Return whether the focused element changes its appearance without focus; the focus stays."""
    box = page.evaluate(
        """() => { document.activeElement.scrollIntoView({block: "center", inline: "center"});
        const box = document.activeElement.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; }"""
    )
    clip = dict(zip(("x", "y"), (max(0, v - 5) for v in box[:2]), strict=True))
    clip |= {"width": box[2] + 10, "height": box[3] + 10}
    with_focus = page.screenshot(clip=clip)
    element = page.evaluate_handle("document.activeElement")
    element.evaluate("element => element.blur()")
    without = page.screenshot(clip=clip)
    element.evaluate("element => element.focus({focusVisible: true, preventScroll: true})")
    return with_focus != without


@pytest.mark.parametrize(("name", "width"), TABBED)
def test_tab_alone_reaches_everything_that_works_and_shows_where_it_is(open_page, name, width):
    page = open_page(PAGES[name][0])
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    page.wait_for_load_state("networkidle")
    page.emulate_media(reduced_motion="reduce")
    works, kinds = page.evaluate(WORKS), {}
    reached = tab_through(page, kinds)
    assert [works[place] for place in range(len(works)) if place not in reached] == []
    assert [kind for kind, visible in kinds.items() if not visible] == []
    assert reached == sorted(reached), "Tab follows the order of the page"


def test_a_search_is_made_opened_and_left_by_keyboard_alone(open_page):
    page = open_page("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").startswith("Skip to")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null"), "the skip link skips"
    page.keyboard.press("/")
    while "frog" not in page.evaluate("document.activeElement.textContent"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?tag=frog")
    page.locator("input[name=min]").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("50")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?tag=frog&confidence=50-*")
    page.locator(".grid a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/**at=1")
    page.keyboard.press("u")
    page.wait_for_url("**/?tag=frog&confidence=50-*#image-1")


def test_on_a_phone_the_filters_open_by_enter(open_page):
    page = open_page("/")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator(".facet a").first.is_hidden()
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".facet a").first.is_visible()


def test_a_question_mark_shows_the_keys_and_escape_closes_them(open_page):
    page = open_page("/?tag=frog")
    keys = page.get_by_role("dialog", name="Keyboard shortcuts")
    first = page.locator(".grid a").first
    first.focus()
    page.keyboard.press("?")
    assert keys.is_visible()
    assert "Esc" in keys.inner_text() and "next, previous page" in keys.inner_text()
    assert keys.evaluate("dialog => dialog.contains(document.activeElement)")
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || keys.contains(document.activeElement)"
        )
    page.keyboard.press("n")
    page.keyboard.press("ArrowRight")
    assert page.url.endswith("/?tag=frog"), "the page behind it doesn't change"
    page.keyboard.press("Escape")
    assert keys.is_hidden()
    assert first.evaluate("link => link === document.activeElement"), "the focus returns"
    button = page.get_by_role("button", name="Keyboard shortcuts")
    button.focus()
    page.keyboard.press("Enter")
    assert keys.is_visible()
    page.keyboard.press("?")
    assert keys.is_hidden()
    button.click()
    keys.get_by_role("button", name="Close").click()
    assert keys.is_hidden()
    page.locator("input[name=min]").focus()
    page.keyboard.press("?")
    assert keys.is_hidden(), "in a box it is a character"


def test_the_list_of_keys_names_each_key_that_there_is(open_page):
    page = open_page("/about")
    named = set(page.locator("main .keys kbd").all_inner_texts())
    scripts = "".join(
        page.evaluate("url => fetch(url).then(answer => answer.text())", url)
        for url in open_page("/").evaluate("[...document.scripts].map(script => script.src)")
    )
    signs = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓", "Escape": "Esc"}
    handled = set(re.findall(r'event\.key === "([^"]+)"', scripts)) | {"ArrowLeft", "ArrowUp"}
    assert {signs.get(key, key) for key in handled} <= named
    assert {"/", "n", "p", "u", "?", "Enter"} <= named


@pytest.mark.parametrize("path", ["/", "/?tag=frog&tag=ship&confidence=50-100"])
def test_a_page_of_results_weighs_under_100_kB_without_its_thumbnails(open_page, path):
    page = open_page(path)
    page.wait_for_load_state("networkidle")
    sent = json.loads(
        page.evaluate("""() => JSON.stringify([...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .map((entry) => [new URL(entry.name).pathname, entry.encodedBodySize]))""")
    )
    assert page.locator(".grid img").count() == 30
    weights = {name: size for name, size in sent if not name.endswith(".png")}
    assert {Path(name).suffix for name in weights} >= {"", ".css", ".js"}
    assert all(size > 0 for size in weights.values())
    assert sum(weights.values()) < 100_000, weights
