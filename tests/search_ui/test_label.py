"""Tests of the page of labels in a real browser: by keys, mouse and touch, and without JavaScript, model or index."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect
from searchable import CLASSES
from served import served
from small_world import make_corpus, write_tiny_images

from conf.settings import Settings
from records.corrections import open_corrections
from search_ui import create_app
from storage.store import open_store

pytestmark = pytest.mark.services


@pytest.fixture
def settings(settings, tmp_path):
    """The page's settings, with a database of the test's own."""
    return replace(settings, database=f"sqlite:///{tmp_path}/corrections.db", correction_rate="none")


@pytest.fixture
def address(settings):
    """The page on a real port, with that database."""
    with served(create_app(settings, {"CHECK_SECONDS": 0})) as address:
        yield address


@pytest.fixture
def labels(settings):
    """Reads the labels in effect: (partition, row, label, by)."""
    corrections = open_corrections(settings.database)
    return lambda: [(one.partition, one.row, one.label, one.by) for one in corrections.newest()]


@pytest.fixture
def press():
    """Presses keys and counts them."""

    def press(page, *keys):
        for key in keys:
            page.keyboard.press(key)
            press.count += 1

    press.count = 0
    return press


def open_label(browse, query="", **options):
    page = browse(f"/label{query}", **options)
    if options.get("java_script_enabled", True):
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Your name").blur()
    return page


def places(page):
    return page.locator("#to-label > li").evaluate_all(
        "all => all.map(one => [Number(one.dataset.partition), Number(one.dataset.row)])"
    )


def class_names(page):
    return page.locator("#classes li").evaluate_all("all => all.map(one => one.dataset.name)")


def saved(page, count):
    """Wait until so many labels were sent and stored."""
    page.wait_for_function(
        "count => Number(document.getElementById('label').dataset.saved ?? 0) >= count", arg=count
    )


def test_twenty_wrong_tags_are_corrected_by_at_most_25_keys(browse, searchable, labels, press):
    page = browse("/?answer=wrong&sort=random&seed=1")
    page.get_by_role("link", name="Label these").click()
    page.wait_for_url("**/label?answer=wrong*show=search")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your name").blur()
    known = {
        (d["partition"], d["row"]): d["label"]
        for d in searchable.documents[searchable.first.name]
        if "label" in d
    }
    wrong = places(page)[:20]
    right = [known[tuple(place)] for place in wrong]
    assert len(wrong) == 20 and len(set(right)) > 1
    names = class_names(page)
    press(page, *(str(names.index(label) + 1) for label in right))
    saved(page, 20)
    assert press.count <= 25
    assert labels() == sorted((*place, label, "Ada") for place, label in zip(wrong, right, strict=True))
    page.keyboard.press("Enter")
    page.wait_for_url("**page=2**")


def test_no_image_is_skipped_where_labels_take_some_out_of_a_search(browse, labels, searchable, press):
    page = open_label(browse, "?answer=right&show=search")
    listed = places(page)
    tags = page.locator("#to-label .tag").all_inner_texts()
    others = [str(1 + (CLASSES.index(tag) + 1) % len(CLASSES)) for tag in tags[:3]]
    press(page, *others, "Enter")
    expect(page.locator("#to-label > li").first).to_have_attribute("data-row", str(listed[3][1]))
    assert "page=" not in page.url and places(page)[:27] == listed[3:]
    last = places(page)[27:]
    press(page, "Enter")
    page.wait_for_url("**page=2**")
    assert not {*map(tuple, [*listed, *last])} & {*map(tuple, places(page))}


def test_a_selection_gets_its_label_by_one_key_and_loses_it_by_another(browse, labels, press):
    page = open_label(browse, "?show=random")
    listed = places(page)
    assert len(listed) == 30
    press(page, "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "4")
    saved(page, 3)
    assert labels() == sorted((*place, CLASSES[3], "Ada") for place in listed[1:4])
    ship = page.locator("#classes li").nth(3).locator(".count")
    expect(ship).to_have_text("3")
    press(page, "a")
    expect(page.locator("[aria-pressed=true]")).to_have_count(30)
    press(page, "Escape", "ArrowUp", " ", "3")
    saved(page, 4)
    press(page, "u")
    saved(page, 5)
    press(page, "ControlOrMeta+z")
    saved(page, 8)
    assert labels() == []
    expect(ship).to_have_text("0")
    expect(page.locator("#labelled")).to_have_text("0")


def test_undo_returns_to_the_label_of_another_person(browse, labels, settings, searchable, press):
    page = open_label(browse, "?tag=frog")
    first = places(page)[0]
    open_corrections(settings.database).add(searchable.corpus, *first, "ship", "Bob")
    press(page, "1")
    saved(page, 1)
    assert labels() == [(*first, CLASSES[0], "Ada"), (*first, "ship", "Bob")]
    press(page, "u")
    expect(page.locator("#to-label .given").first).to_have_text("ship")
    assert labels() == [(*first, "ship", "Bob")]


def test_undo_leaves_labels_that_were_given_before(browse, labels, settings, searchable, press):
    before = places(browse("/label?tag=frog"))[1:3]
    for label in ("ship", "frog"):
        for place in before:
            open_corrections(settings.database).add(searchable.corpus, *place, label, "Ada")
    given = labels()
    page = open_label(browse, "?tag=frog")
    press(page, "a", "3")
    saved(page, 30)
    assert len(labels()) == 30
    press(page, "u")
    saved(page, 58)
    assert labels() == given and {label for *_, label, _ in given} == {"frog"}


def test_labels_of_one_image_in_a_moment_are_stored_and_undone_one_by_one(browse, labels, press):
    page = open_label(browse, "?show=order")
    first = places(page)[0]
    status = page.locator("#status")
    press(page, "1", "ArrowLeft", "2", "ArrowLeft", "3", "u")
    expect(status).to_have_text("Saved", timeout=30_000)
    assert labels() == [(*first, CLASSES[1], "Ada")]
    press(page, "u")
    expect(status).to_have_text("Saved", timeout=30_000)
    assert labels() == [(*first, CLASSES[0], "Ada")]
    press(page, "2")
    expect(status).to_have_text("Saved", timeout=30_000)
    press(page, "u", "u")
    expect(status).to_have_text("Saved", timeout=30_000)
    assert labels() == []


def test_labels_that_are_refused_keep_the_person_on_the_page(chromium, settings, labels):
    app = create_app(replace(settings, password="correct horse"))
    with served(app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.goto("/login?next=/label?show=order")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/label?show=order")
        context.clear_cookies()
        for key in ("1", "ArrowLeft", "2", "1", "Enter"):
            page.keyboard.press(key)
        expect(page.locator("#status")).to_contain_text("Not saved: Log in first")
        expect(page.locator("#labelled")).to_have_text("0", timeout=30_000)
        expect(page.locator("#to-label .labelled")).to_have_count(0)
        assert page.url.endswith("/label?show=order") and labels() == []
        counts = page.locator("#classes .count").all_inner_texts()
        assert set(counts) == {"0"}, "what is not stored isn't shown as if it were"
        page.keyboard.press("u")
        expect(page.locator("#status")).to_have_text("Nothing to undo")


def test_enter_shows_the_next_images_and_nothing_is_lost_on_the_way(browse, labels, press):
    page = open_label(browse, "?show=uncertain")
    first = places(page)
    press(page, "1", "2", "Enter")
    page.wait_for_url("**page=2**")
    assert len(labels()) == 2
    assert not {tuple(place) for place in first} & {tuple(place) for place in places(page)}
    page.goto("/label?show=uncertain")
    expect(page.get_by_label("Your name")).to_have_value("Ada")
    assert places(page)[0] == first[2], "what is labelled is not suggested"


def test_labels_are_given_by_touch(browse, labels):
    page = open_label(browse, "?show=diverse", has_touch=True, is_mobile=True)
    listed = places(page)
    page.locator("#to-label button").nth(2).tap()
    page.locator("#to-label button").nth(5).tap()
    page.get_by_role("button", name="frog").tap()
    saved(page, 2)
    assert labels() == sorted((*listed[place], "frog", "Ada") for place in (2, 5))


def test_a_new_class_is_typed_and_gets_a_key_and_that_of_a_digit_is_the_digit(browse, labels, press):
    page = open_label(browse, "?show=order&class=7&class=0")
    page.get_by_label("New class").fill("heron")
    page.keyboard.press("Enter")
    press(page, "5", "0")
    saved(page, 2)
    assert sorted(label for *_, label, _ in labels()) == ["0", "heron"]
    keys = page.locator("#classes li").all_inner_texts()
    page.reload()
    assert page.locator("#classes li").all_inner_texts() == keys, "the keys stay"
    assert class_names(page) == [*CLASSES, "7", "0", "heron"]


def test_a_new_class_comes_after_labels_given_before(browse, labels, settings, searchable, press):
    open_corrections(settings.database).add(searchable.corpus, 0, 0, "owl", "Bob")
    page = open_label(browse, "?show=order")
    page.get_by_label("New class").fill("heron")
    page.keyboard.press("Enter")
    page.reload()
    assert class_names(page) == [*CLASSES, "owl", "heron"]


def test_a_typed_class_that_is_there_without_a_key_is_not_added_again(browse, labels, press):
    more = [f"class {n}" for n in range(40)]
    page = open_label(browse, "?show=order&" + "&".join(f"class={name}" for name in more))
    for name in ("\tclass   39 ", "class\u300039", "\u3000"):
        press(page, " ")
        page.get_by_label("New class").fill(name)
        page.keyboard.press("Enter")
    saved(page, 2)
    assert [label for *_, label, _ in labels()] == ["class 39", "class\u300039"]
    page.reload()
    assert class_names(page) == [*CLASSES, *more, "class\u300039"]
    assert page.locator("#classes .count").all_inner_texts()[-2:] == ["1", "1"]


def test_labels_that_the_server_limits_are_kept_and_sent_later(chromium, settings, labels):
    app = create_app(replace(settings, correction_rate="1/second"))
    with served(app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.goto("/label?show=order")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Your name").blur()
        page.evaluate(
            "fetch('/api/label', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{\"by\": \"Ada\", \"labels\": []}'})"
        )
        for _ in range(5):
            page.keyboard.press("1")
        saved(page, 5)
    assert len(labels()) == 5


def test_without_javascript_each_image_has_a_menu_and_one_button_saves_all(browse, labels):
    page = open_label(browse, "?tag=frog&show=search", java_script_enabled=False)
    listed = places(page)
    page.get_by_label("Your name").fill("Ada")
    page.locator("#to-label select").nth(0).select_option("ship")
    page.locator("#to-label select").nth(4).select_option("<b>deer</b>")
    page.get_by_role("button", name="Save labels").click()
    page.wait_for_load_state()
    assert labels() == sorted([(*listed[0], "ship", "Ada"), (*listed[4], "<b>deer</b>", "Ada")])
    assert page.url.endswith("/label?tag=frog&show=search")


def test_what_two_models_disagree_on_is_suggested(page, show, searchable, settings):
    assert "disagreeing" not in page.get("/label").text
    show(searchable.first, searchable.second)
    tags = [
        {(d["partition"], d["row"]): d["tag"] for d in searchable.documents[run.name]}
        for run in (searchable.first, searchable.second)
    ]
    html = page.get("/label?show=disagreeing&corpus=small&per_page=120").text
    suggested = listed_places(html)
    assert len(suggested) > 5
    assert all(tags[0][place] != tags[1][place] for place in suggested)


def listed_places(html):
    return [tuple(map(int, place)) for place in re.findall(r'data-partition="(\d+)" data-row="(\d+)"', html)]


@pytest.fixture
def bare(tmp_path):
    """A page without model, labels, index or Solr: a corpus alone."""
    store = open_store(str(tmp_path / "store"))
    corpus = make_corpus(store, "plain", write_tiny_images(tmp_path / "plain.bin", 90), 40)
    settings = Settings(
        store=store.root, solr="http://127.0.0.1:1/solr", database=f"sqlite:///{tmp_path}/labels.db"
    )
    return SimpleNamespace(
        app=create_app(settings), corpus=corpus, corrections=open_corrections(settings.database)
    )


def test_a_project_starts_with_a_corpus_and_names_of_classes_alone(chromium, bare):
    with served(bare.app) as address, chromium.new_context(base_url=address) as context:
        page = context.new_page()
        page.goto("/label")
        page.get_by_label("Classes, one a line").fill("heron\n  grey   owl \n")
        page.get_by_role("button", name="Start").click()
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Your name").blur()
        first = places(page)
        assert len(first) == 30
        for key in "212":
            page.keyboard.press(key)
        saved(page, 3)
        page.reload()
        assert not {tuple(place) for place in first[:3]} & {tuple(place) for place in places(page)}
        page.get_by_role("link", name="Diverse").click()
        page.wait_for_url("**show=diverse**")
        assert len(places(page)) >= 10
    given = [(one.partition, one.row, one.label) for one in bare.corrections.newest()]
    assert given == sorted(
        (*place, name) for place, name in zip(first, ("grey owl", "heron", "grey owl"), strict=False)
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"by": "Ada", "labels": [{"corpus": "plain", "partition": 0, "row": 1, "label": "owl"}]}, 200),
        ({"by": "", "labels": [{"corpus": "plain", "partition": 0, "row": 1, "label": "owl"}]}, 400),
        ({"by": "Ada", "labels": [{"corpus": "plain", "partition": 0, "row": 1, "label": " \u3000"}]}, 400),
        ({"by": "Ada", "labels": [{"corpus": "plain", "partition": 0, "row": True, "label": "owl"}]}, 400),
        ({"by": "Ada", "labels": [{"corpus": "plain", "partition": 0, "row": 99, "label": "owl"}]}, 404),
        ({"by": "Ada", "labels": [{"corpus": "../plain", "partition": 0, "row": 1, "label": "owl"}]}, 404),
        ({"by": "Ada", "labels": [7]}, 400),
        ({"by": "Ada", "labels": [{"corpus": "plain", "partition": 0, "row": 1, "label": "owl"}] * 201}, 400),
        ([], 400),
    ],
)
def test_all_labels_of_a_request_are_stored_or_none(bare, body, status):
    page = bare.app.test_client()
    good = {"corpus": "plain", "partition": 0, "row": 0, "label": "owl"}
    if isinstance(body, dict):
        body["labels"].insert(0, good)
    answer = page.post("/api/label", json=body)
    assert answer.status_code == status
    assert len(bare.corrections.newest()) == (2 if status == 200 else 0)
    if status == 200:
        assert [one["added"] for one in answer.json["labels"]] == [True, True]
        again = page.post("/api/label", json=body | {"labels": [good, good | {"row": 1, "label": "wren"}]})
        assert [one["added"] for one in again.json["labels"]] == [False, True]


def test_only_our_own_pages_label(bare):
    page, body = bare.app.test_client(), {"by": "Ada", "labels": []}
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert page.post("/api/label", data=json.dumps(body), headers=elsewhere).status_code == 403
    form = {"by": "Ada", "label plain/0/1": "owl"}
    assert page.post("/label", data=form, headers=elsewhere).status_code == 403
    assert page.post("/label", data=form | {"label plain/x/1": "owl"}).status_code == 400
    assert bare.corrections.newest() == []
    answer = page.post("/label?show=order&class=owl", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/label?show=order&class=owl")
    assert [one.label for one in bare.corrections.newest()] == ["owl"]
