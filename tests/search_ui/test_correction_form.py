"""Tests of the form for corrections: they are stored, visible to everyone, and accepted only from our own pages."""

import html as html_module
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from searchable import CLASSES
from small_world import make_corpus, write_tiny_images

from conf.errors import TinyTagsError
from records.corrections import open_corrections
from search_ui import create_app, serve
from search_ui.rates import Rates

pytestmark = pytest.mark.services

IMAGE = "/images/small/0/3"


@pytest.fixture
def settings(settings, tmp_path):
    """The page's settings, with a database of the test's own."""
    return replace(settings, database=f"sqlite:///{tmp_path}/corrections.db")


@pytest.fixture
def address(settings):
    """The page on a real port, with that database."""
    from served import served

    with served(create_app(settings)) as address:
        yield address


def correct(page, label="frog", by="Ada", path=IMAGE, **options):
    return page.post(f"{path}/corrections", data={"label": label, "by": by}, **options)


def labels(page, path=IMAGE):
    return [(c["label"], c["by"]) for c in page.get(f"/api{path}").json["corrections"]]


def test_a_correction_has_its_name_and_time_on_the_page_and_in_the_api(page, settings, library):
    assert labels(page) == []
    before = datetime.now(UTC).replace(microsecond=0)
    answer = correct(page, "cat, tabby", "Ada <b>L.</b>")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{IMAGE}#corrections")
    correct(page, "ship", "Bob")
    assert labels(page) == [("ship", "Bob"), ("cat, tabby", "Ada <b>L.</b>")]
    entries = page.get(f"/api{IMAGE}").json["corrections"]
    assert before <= datetime.fromisoformat(entries[1]["at"]) <= before + timedelta(minutes=1)
    html = page.get(IMAGE).text
    section = html[html.index('id="corrections"') :]
    words = " ".join(re.sub(r"<[^>]+>", " ", section.partition("</section>")[0]).split())
    minute = entries[1]["at"][:16].replace("T", " ")
    assert f"ship by Bob, {entries[0]['at'][:16].replace('T', ' ')} UTC" in words
    assert f"cat, tabby by Ada &lt;b&gt;L.&lt;/b&gt;, {minute} UTC" in words
    assert "2 people disagree" in words and "<strong>" not in section
    assert labels(create_app(settings).test_client()) == labels(page), "it is stored"
    assert labels(page, "/images/small/0/4") == []
    corpus = library.corpus
    assert [
        (c.partition, c.row, c.label, c.corpus_hash) for c in open_corrections(settings.database).newest()
    ] == [(0, 3, "ship", corpus.hash), (0, 3, "cat, tabby", corpus.hash)]


def test_the_classes_to_choose_from_are_those_of_the_runs_and_only_these_are_taken(page):
    html = page.get(IMAGE).text
    options = re.findall(r"<option[^>]*>(.*?)</option>", html[html.index('id="corrections"') :])
    assert options == ["choose", *(name.replace("<", "&lt;").replace(">", "&gt;") for name in CLASSES)]
    answer = correct(page, "unicorn")
    assert answer.status_code == 400
    assert f"is not a class of small; its classes are {', '.join(CLASSES)}" in html_module.unescape(
        answer.text
    )
    for label, by, words in (
        ("", "Ada", "the label is missing"),
        ("frog", "", "your name is missing"),
        ("frog", "x" * 81, "80"),
    ):
        answer = correct(page, label, by)
        assert answer.status_code == 400 and words in answer.text
    assert page.post(f"{IMAGE}/corrections").status_code == 400
    assert labels(page) == []


def test_a_new_class_of_the_page_of_labels_is_offered_and_taken_for_all_images_of_the_corpus(page):
    body = {"by": "Ada", "labels": [{"corpus": "small", "partition": 1, "row": 0, "label": "unicorn"}]}
    assert page.post("/api/label", json=body).status_code == 200
    assert '<option value="unicorn">' in page.get(IMAGE).text
    assert correct(page, "unicorn").status_code == 303 and labels(page) == [("unicorn", "Ada")]
    assert correct(page, "uniform").status_code == 400
    assert "1 good, 0 bad" in upload(page, "image,label\nsmall/0/4,unicorn\n", dry_run="1").text


def test_images_of_a_corpus_without_classes_take_any_label_and_suggest_those_given(page, library, tmp_path):
    make_corpus(library.store, "plain", write_tiny_images(tmp_path / "plain.bin", 4), 4)
    path = "/images/plain/0/1"
    assert '<input type="text" name="label" list="given"' in page.get(path).text
    for label in ("heron", "<b>owl</b>"):
        assert correct(page, label, path=path).status_code == 303
    assert [label for label, _ in labels(page, path)] == ["<b>owl</b>", "heron"]
    html = page.get("/images/plain/0/2").text
    assert '<datalist id="given"><option value="&lt;b&gt;owl&lt;/b&gt;"></datalist>' in html, (
        "the newest of the image"
    )
    assert correct(page, "x" * 201, path=path).status_code == 400
    assert 'list="given"' not in page.get(IMAGE).text


def test_an_image_without_a_tag_can_be_corrected_too(page, searchable):
    tagged = {(d["partition"], d["row"]) for d in searchable.documents[searchable.first.name]}
    row = next(row for row in range(300) if (0, row) not in tagged)
    path = f"/images/small/0/{row}"
    assert 'id="corrections"' in page.get(path).text
    assert correct(page, path=path).status_code == 303
    assert labels(page, path) == [("frog", "Ada")]


def test_the_form_returns_to_the_search_that_the_image_was_opened_from(page):
    path = f"{IMAGE}/corrections?tag=frog&tag=ship&confidence=50-100&at=7"
    answer = page.post(path, data={"label": "frog", "by": "Ada"})
    assert answer.headers["Location"] == f"{IMAGE}?tag=frog&tag=ship&confidence=50-100&at=7#corrections"
    html = page.get(f"{IMAGE}?tag=frog&tag=ship&confidence=50-100&at=7").text
    assert f'action="{IMAGE}/corrections?tag=frog&amp;tag=ship&amp;confidence=50-100&amp;at=7"' in html
    answer = page.post(f"{IMAGE}/corrections?x=%0d%0aSet-Cookie:%20a=b", data={"label": "frog", "by": "Ada"})
    assert len(answer.headers.getlist("Set-Cookie")) == 1, "a URL puts nothing into the headers"


def test_a_name_is_written_once(page):
    correct(page, by="Bé  Ł.")
    cookie = page.get_cookie("by")
    assert cookie.http_only and cookie.same_site == "Strict"
    assert 'value="Bé Ł."' in page.get("/images/small/1/0").text
    page.set_cookie("by", "%22%3E%3Cscript%3E" + "x" * 500)
    html = page.get(IMAGE).text
    assert "<script>" not in html and "x" * 81 not in html


def test_a_correction_can_be_undone(page):
    correct(page, "frog", "Ada")
    correct(page, "ship", "Bob")
    newest = page.get(f"/api{IMAGE}").json["corrections"][0]["number"]
    assert page.post(f"/images/small/0/4/corrections/{newest}/remove").status_code == 303
    assert len(labels(page)) == 2, "it is another image's"
    for _ in range(2):
        answer = page.post(f"{IMAGE}/corrections/{newest}/remove?tag=frog")
        assert (answer.status_code, answer.headers["Location"]) == (303, f"{IMAGE}?tag=frog#corrections")
        assert labels(page) == [("frog", "Ada")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost"}, 303),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_only_our_own_pages_are_listened_to(page, headers, status):
    assert correct(page, headers=headers).status_code == status
    assert labels(page) == ([("frog", "Ada")] if status == 303 else [])
    correct(page, "ship")
    number = page.get(f"/api{IMAGE}").json["corrections"][0]["number"]
    assert page.post(f"{IMAGE}/corrections/{number}/remove", headers=headers).status_code == status
    assert (("ship", "Ada") in labels(page)) == (status == 403)


@pytest.mark.parametrize("path", ["/images/none/0/0", "/images/small/99/0", "/images/small/0/300"])
def test_there_is_nothing_to_show_of_an_image_that_there_is_not(page, path):
    assert correct(page, path=path).status_code == 404
    assert page.post(f"{path}/corrections/1/remove").status_code == 404


def test_a_link_corrects_nothing(page):
    correct(page)
    for path in (f"{IMAGE}/corrections?label=ship&by=Eve", f"{IMAGE}/corrections/1/remove"):
        assert page.get(path).status_code == 405
    assert labels(page) == [("frog", "Ada")]


def test_an_unavailable_database_disables_only_corrections(settings, tmp_path):
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    page = create_app(replace(settings, database=f"sqlite:///{tmp_path}/broken.db")).test_client()
    html = page.get(IMAGE).text
    assert "Corrections are unavailable: database" in html and "file is not a database" in html
    assert "<h2>Source</h2>" in html and 'name="label"' not in html
    entries = page.get(f"/api{IMAGE}").json
    assert entries["corrections"] is None and "file is not a database" in entries["corrections_error"]
    answer = correct(page)
    assert answer.status_code == 503 and "Corrections are unavailable" in answer.text
    os.remove(tmp_path / "broken.db")
    assert correct(page).status_code == 303
    assert labels(page) == [("frog", "Ada")], "it recovers by itself"


def test_corrections_can_be_turned_off(settings):
    correct(create_app(settings).test_client())
    page = create_app(replace(settings, database="none")).test_client()
    html = page.get(IMAGE).text
    assert 'id="corrections"' not in html and "<h2>Source</h2>" in html
    entries = page.get(f"/api{IMAGE}").json
    assert (entries["corrections"], entries["corrections_error"]) == (None, None)
    assert correct(page).status_code == page.post(f"{IMAGE}/corrections/1/remove").status_code == 403
    assert page.get("/corrections").status_code == page.post("/corrections/undo").status_code == 403
    assert labels(create_app(settings).test_client()) == [("frog", "Ada")]


def test_an_address_makes_so_many_corrections_in_a_time(settings):
    page = create_app(replace(settings, correction_rate="3/hour, 1000/day")).test_client()
    assert [correct(page, CLASSES[n % 4]).status_code for n in range(4)] == [303] * 3 + [429]
    refused = page.post("/corrections/undo", data={"by": "Ada", "undone_by": "Bob"})
    assert refused.status_code == 429 and 0 < int(refused.headers["Retry-After"]) <= 3600
    assert correct(page, environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 303
    free = create_app(replace(settings, correction_rate="none")).test_client()
    assert {correct(free, CLASSES[n % 4]).status_code for n in range(100)} == {303}


def test_a_rate_that_is_none_is_an_error_when_the_page_starts(settings):
    with pytest.raises(TinyTagsError, match="correction_rate"):
        serve(replace(settings, correction_rate="many"))


def test_all_corrections_by_a_name_are_undone_and_restored_on_a_page(page):
    assert "no corrections yet" in page.get("/corrections").text
    correct(page, "frog", "Ada")
    for path in (IMAGE, "/images/small/1/0"):
        correct(page, "ship", "Eve <i>", path=path)
    form = {"by": "Eve <i>", "undone_by": "Ada", "since": "2999-01-01T00:00"}
    assert page.post("/corrections/undo", data=form).headers["Location"] == "/corrections?undone=0"
    answer = page.post("/corrections/undo", data=form | {"since": ""})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/corrections?undone=2")
    assert labels(page) == [("frog", "Ada")] and labels(page, "/images/small/1/0") == []
    html = page.get("/corrections?undone=2").text
    assert "2 corrections undone." in html and "<i>" not in html
    names = page.get("/api/corrections").json["names"]
    assert [(n["name"], n["corrections"], n["undone"]) for n in names] == [("Eve <i>", 0, 2), ("Ada", 1, 0)]
    answer = page.post("/corrections/restore", data={"by": "Eve <i>", "since": "2000-01-01"})
    assert answer.headers["Location"] == "/corrections?restored=2" and len(labels(page)) == 2


def upload(page, text, **form):
    data = {"by": "Ada <i>", "file": (io.BytesIO(text.encode()), "labels.csv")} | form
    return page.post("/corrections/import", data=data)


def test_a_file_of_labels_is_checked_imported_and_undone(page):
    text = "image,label\nsmall/0/3,frog\nsmall/0/4,unicorn\nsmall/1/0,ship\n"
    checked = upload(page, text, dry_run="1")
    assert checked.status_code == 200 and "2 good, 1 bad; nothing written." in checked.text
    assert "Line 3: label &#39;unicorn&#39; is not a class" in checked.text and labels(page) == []
    answer = upload(page, text)
    assert "2 corrections added." in answer.text and "<i>" not in answer.text
    assert labels(page) == [("frog", "Ada <i>")] and len(labels(page, "/images/small/1/0")) == 1
    assert page.get("/api/search?correction=corrected&correction=agreed").json["total"] == 2
    since = re.search('name="since" value="([^"]+)"', answer.text)[1]
    form = {"by": "Ada <i>", "since": since, "undone_by": "Ada <i>"}
    assert page.post("/corrections/undo", data=form).headers["Location"] == "/corrections?undone=2"
    assert labels(page) == []


def test_a_file_that_is_none_or_too_large_or_from_elsewhere_is_refused(page, settings):
    assert upload(page, "x").status_code == 400
    assert page.post("/corrections/import", data={"by": "Ada"}).status_code == 400
    assert upload(page, "image,label\n", by="").status_code == 400
    assert upload(page, (1 << 20) * "x").status_code == 413
    elsewhere = {"Origin": "http://evil.example"}
    assert page.post("/corrections/import", data={"by": "Ada"}, headers=elsewhere).status_code == 403
    limited = create_app(replace(settings, correction_rate="3/day")).test_client()
    assert upload(limited, "image,label\n" + 2500 * "small/0/3,\n").status_code == 200
    assert upload(limited, "image,label\n").status_code == 429


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"by": "Ada"}, 400),
        ({"undone_by": "Bob"}, 400),
        ({"by": "Ada", "undone_by": "Bob", "since": "x"}, 400),
    ],
)
def test_an_undo_of_all_needs_a_name_the_own_name_and_a_time_that_is_one(page, form, status):
    correct(page)
    assert page.post("/corrections/undo", data=form).status_code == status
    form = {"by": "Ada", "undone_by": "Bob"}
    for action in ("undo", "restore"):
        elsewhere = page.post(f"/corrections/{action}", data=form, headers={"Origin": "http://evil.example"})
        assert elsewhere.status_code == 403
    assert labels(page) == [("frog", "Ada")]


def test_a_number_that_no_correction_can_have_is_not_found(page):
    for number in (2**63, 10**30):
        assert page.post(f"{IMAGE}/corrections/{number}/remove").status_code == 404


def test_many_correct_at_once(settings):
    app = create_app(settings)

    def one(number):
        return correct(app.test_client(), CLASSES[number % 4], f"person {number}").status_code

    with ThreadPoolExecutor(8) as people:
        assert set(people.map(one, range(20))) == {303}
    assert sorted(labels(app.test_client())) == sorted((CLASSES[n % 4], f"person {n}") for n in range(20))


def test_a_person_undoes_all_corrections_by_a_name_in_the_browser(browse, settings, page):
    correct(page, "ship", "Eve")
    opened = browse("/corrections")
    opened.get_by_label("Corrections by").select_option("Eve")
    opened.get_by_label("since (UTC").fill("2026-01-01T10:30")
    opened.get_by_label("Your name").first.fill("Ada")
    opened.get_by_role("button", name="Undo").click()
    opened.get_by_role("status").filter(has_text="1 correction undone.").wait_for()
    assert labels(page) == []
    assert opened.get_by_label("Your name").first.input_value() == "Ada"


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_corrects_a_tag_by_keyboard_and_undoes_it(browse, scripts):
    page = browse(f"{IMAGE}?confidence=40-100&at=0", java_script_enabled=scripts)
    page.get_by_label("Correct label").focus()
    page.keyboard.type("ship")
    page.keyboard.press("Tab")
    page.keyboard.type("Una Pun")  # u, n and p are keys elsewhere
    page.keyboard.press("Enter")
    page.wait_for_url("**at=0#corrections")
    item = page.locator(".corrections li")
    assert item.inner_text().startswith("ship by Una Pun, 20")
    assert page.get_by_label("Your name").input_value() == "Una Pun"
    page.get_by_role("button", name="Undo: ship by Una Pun").press("Enter")
    item.wait_for(state="detached")
    assert page.url.endswith("at=0#corrections")


def test_a_form_without_a_class_or_a_name_is_not_sent(browse):
    page = browse(IMAGE)
    page.get_by_role("button", name="Save").click()
    assert page.url.endswith(IMAGE)
    page.get_by_label("Correct label").select_option("frog")
    page.get_by_role("button", name="Save").click()
    assert page.url.endswith(IMAGE) and page.locator(".corrections").count() == 0


def test_what_is_refused_does_not_count():
    rates = Rates("2/hour, 10/day", "correction_rate")
    waits = [rates.seconds_to_wait("a") for _ in range(20)]
    assert waits[:2] == [0, 0] and all(0 < wait <= 3600 for wait in waits[2:])
    assert rates.seconds_to_wait("b", 20) == 0 < rates.seconds_to_wait("b"), "as many as the rate allows"
