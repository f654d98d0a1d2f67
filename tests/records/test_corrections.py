"""The contract of `records.corrections.Corrections`, over SQLite and a toy here, and over servers in `test_servers`."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from records.corrections import (
    BACKENDS,
    OF_IMAGE,
    BadCorrectionError,
    Label,
    open_corrections,
    parse_time,
)


@pytest.fixture(params=["sqlite", "memory"])
def url(request, tmp_path, sqlite_url, monkeypatch):
    """The URL of a database of each kind in turn."""
    monkeypatch.setitem(BACKENDS, "memory", "memory_corrections:MemoryCorrections")
    return sqlite_url if request.param == "sqlite" else f"memory://{tmp_path}"


@pytest.fixture
def corrections(url):
    return open_corrections(url)


def words(corrections):
    return [(c.label, c.by) for c in corrections]


def test_corrections_of_an_image_are_newest_first_with_who_and_when(corrections, url, here, there):
    before = datetime.now(UTC).replace(microsecond=0)
    corrections.add(here, 1, 2, "frog", "Ada")
    corrections.add(here, 1, 2, "cat, tabby", "Bé  \n Ł.")
    corrections.add(here, 2, 1, "ship", "Ada")
    first, second = corrections.of_image(here, 1, 2)
    assert words([first, second]) == [("cat, tabby", "Bé Ł."), ("frog", "Ada")]
    assert (first.corpus, first.corpus_hash, first.partition, first.row) == ("here", here.hash, 1, 2)
    assert before <= second.at <= first.at <= before + timedelta(minutes=1)
    assert corrections.of_image(there, 1, 2) == corrections.of_image(here, 1, 3) == []
    assert words(open_corrections(url).of_image(here, 2, 1)) == [("ship", "Ada")], "a second process sees it"


def test_the_latest_of_each_person_counts_however_often_another_corrects(corrections, here):
    for by in ("Ada", "Bob"):
        corrections.add(here, 0, 0, "cat", by)
    corrections.add(here, 0, 1, "ship", "Ada")
    for n in range(OF_IMAGE + 1):
        corrections.add(here, 0, 0, ("dog", "frog")[n % 2], "Eve")
    assert {one.by for one in corrections.of_image(here, 0, 0)} == {"Eve"}
    latest = corrections.latest_of_image(here, 0, 0)
    assert words(latest) == [("dog", "Eve"), ("cat", "Bob"), ("cat", "Ada")]
    assert corrections.undo_many(latest[1:2]) == 1
    assert words(corrections.latest_of_image(here, 0, 0)) == [("dog", "Eve"), ("cat", "Ada")]


def test_the_newest_of_every_image_and_person_are_sorted_by_place_the_newest_first(corrections, here, there):
    for corpus, row, label, by in (
        (there, 5, "frog", "Ada"),
        (here, 7, "cat", "Ada"),
        (here, 7, "cat", "Bob"),
        (here, 3, "cat", "Ada"),
        (here, 7, "dog", "Ada"),
    ):
        corrections.add(corpus, 0, row, label, by)
    assert [(c.corpus, c.row, c.label, c.by) for c in corrections.newest()] == [
        ("here", 3, "cat", "Ada"),
        ("here", 7, "dog", "Ada"),
        ("here", 7, "cat", "Bob"),
        ("there", 5, "frog", "Ada"),
    ]


def test_the_version_changes_with_every_change_and_not_without_one(corrections, url, here):
    versions = [corrections.version()]

    def changed(change):
        change()
        versions.append(open_corrections(url).version())
        return versions[-1] not in versions[:-1]

    assert changed(lambda: corrections.add(here, 0, 0, "frog", "Ada"))
    assert changed(lambda: corrections.add_many([Label(here, 0, 1, "cat")], "Ada"))
    assert changed(lambda: corrections.undo_many(corrections.of_image(here, 0, 1)))
    assert changed(corrections.restore) or corrections.version() == versions[2], "as before"
    assert changed(lambda: corrections.undo_all("Ada"))
    assert corrections.version() == versions[-1]


def test_the_version_changes_with_a_lower_number_that_is_committed_later(sqlite_url, here):
    corrections = open_corrections(sqlite_url)
    first, second = corrections.add_many([Label(here, 0, 0, "frog"), Label(here, 0, 1, "cat")], "Ada")
    of_first = corrections.table.c.number == first.number
    with corrections.begin(write=True) as connection:
        late = connection.execute(corrections.table.select().where(of_first)).one()
        connection.execute(corrections.table.delete().where(of_first))
    before = corrections.version()
    with corrections.begin(write=True) as connection:
        connection.execute(corrections.table.insert().values(**late._mapping))
    assert corrections.version() != before and first.number < second.number


def test_a_repeated_correction_is_stored_once_and_again_after_another(corrections, here):
    for label, by in (("frog", "Ada"), ("frog", "Ada"), ("frog", "Bob"), ("frog", "Ada"), ("cat", "Ada")):
        corrections.add(here, 0, 0, label, by)
    assert words(corrections.of_image(here, 0, 0)) == [
        ("cat", "Ada"),
        ("frog", "Ada"),
        ("frog", "Bob"),
        ("frog", "Ada"),
    ]


def test_undo_removes_one_correction_whose_number_is_never_used_again(corrections, here, there):
    corrections.add(here, 0, 0, "frog", "Ada")
    corrections.add(here, 0, 0, "cat", "Ada")
    newest = corrections.of_image(here, 0, 0)[0]
    assert not corrections.undo(here, 0, 1, newest.number), "of another image"
    assert not corrections.undo(there, 0, 0, newest.number)
    assert corrections.undo(here, 0, 0, newest.number)
    assert not corrections.undo(here, 0, 0, newest.number)
    assert words(corrections.newest()) == [("frog", "Ada")]
    corrections.add(here, 0, 0, "ship", "Bob")
    assert corrections.of_image(here, 0, 0)[0].number > newest.number


def test_labels_of_many_images_are_stored_at_once_and_undone_as_a_whole(corrections, here, there):
    corrections.add(here, 0, 1, "frog", "Ada")
    labels = [Label(here, 0, row, "frog") for row in range(40)]
    labels += [Label(here, 0, 39, "dog"), Label(there, 1, 2, "cat, tabby")]
    assert corrections.add_many([], "Ada") == []
    added = corrections.add_many(iter(labels), " Ada ")
    assert [c.row for c in added] == [0, *range(2, 40), 2], "the newest label of an image isn't stored again"
    assert words(added[-2:]) == [("dog", "Ada"), ("cat, tabby", "Ada")], "the last label of an image counts"
    assert len({c.number for c in added}) == len(added)
    assert corrections.of_image(there, 1, 2) == added[-1:] and corrections.of_image(here, 0, 7) == [added[6]]
    assert corrections.undo(here, 0, 7, added[6].number)
    assert corrections.undo_many(added, "Bob") == 39, "one was undone before"
    assert corrections.undo_many(added) == corrections.undo_many([]) == 0
    assert [(c.row, c.label) for c in corrections.newest()] == [(1, "frog")]


def test_labels_of_many_images_are_all_refused_where_one_is_bad(corrections, here):
    with pytest.raises(BadCorrectionError):
        corrections.add_many([Label(here, 0, 0, "frog"), Label(here, 0, 1, "")], "Ada")
    assert corrections.newest() == []


def test_all_corrections_of_a_name_are_undone_and_restored(corrections, here, there):
    corrections.add(here, 0, 0, "frog", "Ada")
    for corpus in (here, there):
        corrections.add(corpus, 0, 0, "ship", "Eve")
        corrections.add(corpus, 0, 1, "ship", "Eve")
    assert [(n.name, n.corrections, n.undone) for n in corrections.names()] == [("Eve", 4, 0), ("Ada", 1, 0)]
    assert corrections.undo_all("Eve", undone_by="Ada") == 4
    assert corrections.undo_all("Eve") == 0, "they are undone already"
    assert words(corrections.newest()) == words(corrections.of_image(here, 0, 0)) == [("frog", "Ada")]
    eve = corrections.names()[0]
    assert (eve.name, eve.corrections, eve.undone) == ("Eve", 0, 4) and eve.first <= eve.last
    assert corrections.restore("Bob") == 0
    assert corrections.restore("Eve") == 4 and len(corrections.newest()) == 5


def test_corrections_are_undone_by_time_and_restored_by_the_time_of_the_undo(corrections, here):
    corrections.add(here, 0, 0, "frog", "Ada")
    corrections.add(here, 0, 1, "frog", "Eve")
    at = corrections.of_image(here, 0, 0)[0].at
    minute = timedelta(minutes=1)
    assert corrections.undo_all(since=at + minute) == corrections.undo_all("Ada", until=at) == 0
    assert corrections.undo_all(since=at, until=at + minute) == 2 and corrections.newest() == []
    assert corrections.restore(since=at + minute) == 0
    assert corrections.restore("Ada", since=at) == 1
    assert words(corrections.newest()) == [("frog", "Ada")]


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-26T14:30", 14),
        ("2026-11-26 14:30:00Z", 14),
        ("2026-11-26T14:30+02:00", 12),
        ("2026-11-26", 0),
    ],
)
def test_times_are_in_utc_unless_they_name_a_zone(text, hour):
    time = parse_time(text)
    assert (time.tzinfo, time.day, time.hour) == (UTC, 26, hour)


@pytest.mark.parametrize("text", ["", "yesterday", "26.11.2026", "0001-01-01T00:00+02:00"])
def test_a_time_that_is_none_is_an_error(text):
    with pytest.raises(BadCorrectionError):
        parse_time(text)


def test_reading_an_empty_database_finds_nothing_and_creates_nothing(corrections, here, tmp_path):
    assert corrections.of_image(here, 0, 0) == corrections.newest() == corrections.names() == []
    assert not corrections.undo(here, 0, 0, 1)
    assert corrections.undo_all() == corrections.restore() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("label", "by", "message"),
    [
        ("", "Ada", "the label is missing"),
        ("frog", " \t ", "your name is missing"),
        ("frog", "x" * 81, "up to 80 printable characters"),
        ("x" * 201, "Ada", "up to 200 printable characters"),
        ("frog\0", "Ada", r"the label 'frog\x00' is not valid"),
        ("frog", "A\x1bda", "your name"),
    ],
)
def test_a_correction_without_words_or_with_unprintable_ones_is_an_error(
    corrections, here, tmp_path, label, by, message
):
    with pytest.raises(BadCorrectionError) as error:
        corrections.add(here, 0, 0, label, by)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["'; DROP TABLE corrections; --", "<script>", "%s {x} :by \\", "🐸"])
def test_text_is_stored_unchanged(corrections, here, text):
    corrections.add(here, 0, 0, text, text)
    assert words(corrections.of_image(here, 0, 0)) == [(text, text)]


def test_corrections_of_many_people_at_once_are_all_stored(url, here):
    several = [open_corrections(url) for _ in range(2)]

    def correct(number):
        several[number % 2].add(here, 0, number % 5, f"class {number}", "Ada")

    with ThreadPoolExecutor(8) as people:
        list(people.map(correct, range(40)))
    labels = [c.label for row in range(5) for c in several[0].of_image(here, 0, row)]
    assert sorted(labels) == sorted(f"class {number}" for number in range(40))


def test_an_image_has_any_number_of_corrections_and_the_last_are_returned(corrections, here):
    for number in range(OF_IMAGE + 5):
        corrections.add(here, 0, 0, f"class {number}", "Ada")
    assert [c.label for c in corrections.of_image(here, 0, 0)] == [
        f"class {number}" for number in range(OF_IMAGE + 4, 4, -1)
    ]
