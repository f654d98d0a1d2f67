"""The contract of `records.predictions.Predictions`, over SQLite here, and over servers in `test_servers`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from records.corrections import BadCorrectionError
from records.predictions import (
    Count,
    Filters,
    NewPrediction,
    number_of,
    open_predictions,
    time_of,
)

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def url(sqlite_url):
    return sqlite_url


@pytest.fixture
def predictions(url):
    return open_predictions(url)


def made(answer="cat", hours=0.0, model="forest", name="a.png"):
    """A prediction of so many hours after noon."""
    return NewPrediction(
        name=name, size=12_345, sha256="ab" * 32, image=bytes(range(256)) * 12, model=model, model_hash="cd" * 32,
        milliseconds=1.25, answer=answer, confidence=0.7, classes=((answer, 0.7), ("other, é", 0.3)),
        at=NOON + timedelta(hours=hours),
    )  # fmt: skip


def answers(page):
    return [prediction.answer for prediction in page.predictions]


def test_a_prediction_is_returned_as_it_was_added(predictions, url):
    new = made()
    number = predictions.add(new)
    stored = open_predictions(url).get(number)
    assert {name: getattr(stored, name) for name in vars(new)} == vars(new)
    assert (stored.correction, stored.corrected_by, stored.corrected_at) == (None, None, None)
    assert stored.number == number == number_of(NOON) and time_of(number) == NOON
    assert predictions.get(number + 1) is None


def test_predictions_of_one_moment_get_numbers_of_their_own(predictions):
    first, second = predictions.add(made("cat")), predictions.add(made("dog"))
    assert second == first + 1
    assert answers(predictions.page()) == ["dog", "cat"]


def test_names_are_stored_without_what_a_database_refuses(predictions):
    number = predictions.add(made(name="\0\ud800<b>\n🐸" + "x" * 300))
    assert predictions.get(number).name == ("\ufffd\ufffd<b>\ufffd🐸" + "x" * 300)[:255]


def test_pages_lead_to_older_and_newer_ones_from_day_to_day(predictions):
    for number in range(7):
        predictions.add(made(f"class {number}", hours=9 * number))
    first = predictions.page(limit=3)
    second = predictions.page(before=first.older, limit=3)
    third = predictions.page(before=second.older, limit=3)
    assert [answers(page) for page in (first, second, third)] == [
        ["class 6", "class 5", "class 4"],
        ["class 3", "class 2", "class 1"],
        ["class 0"],
    ]
    assert first.newer is None and third.older is None and third.complete
    assert answers(predictions.page(after=third.newer, limit=3)) == answers(second)
    back = predictions.page(after=second.newer, limit=3)
    assert (answers(back), back.newer, back.older) == (answers(first), None, first.older)
    assert [p.answer for p in predictions.every()] == [f"class {number}" for number in range(6, -1, -1)]


def test_filters_narrow_pages_counts_exports_and_deletes(predictions):
    rows = (("cat", 0, "forest"), ("Cat", 10, "forest"), ("cat", 20, "network"), ("cat", 30, "network"))
    numbers = [
        predictions.add(made(answer, hours, model, name))
        for name, (answer, hours, model) in zip("abcd", rows, strict=True)
    ]
    assert predictions.correct(numbers[2], "dog", "Ada")
    for filters, expected in (
        (Filters(), "dcba"),
        (Filters(answer="Cat"), "b"),
        (Filters(model="network"), "dc"),
        (Filters(since=NOON + timedelta(hours=20)), "dc"),
        (Filters(since=NOON + timedelta(hours=10), until=NOON + timedelta(hours=30)), "cb"),
        (Filters(corrected=True), "c"),
        (Filters(corrected=False, answer="cat"), "da"),
        (Filters(answer="cat", model="network", until=NOON), ""),
    ):
        assert "".join(p.name for p in predictions.page(filters).predictions) == expected
        assert "".join(p.name for p in predictions.every(filters)) == expected
        assert predictions.count(filters) == Count(len(expected))
    assert predictions.delete(Filters(model="forest", answer="cat")) == 1
    assert predictions.delete(Filters(until=NOON + timedelta(hours=21), corrected=True)) == 1
    assert [p.name for p in predictions.page().predictions] == ["d", "b"]
    assert predictions.delete(Filters()) == 2 and predictions.count().number == 0


def test_a_correction_replaces_the_last_and_is_undone(predictions):
    number, before = predictions.add(made()), datetime.now(UTC).replace(microsecond=0)
    assert predictions.correct(number, "dog", " Ada  L. ") and predictions.correct(number, "frog", "Bé")
    assert predictions.correct(number, "frog", "Bé")
    stored = predictions.get(number)
    assert (stored.correction, stored.corrected_by) == ("frog", "Bé")
    assert before <= stored.corrected_at <= datetime.now(UTC)
    assert predictions.correct(number, None, "Ada") and predictions.get(number) == replace(
        stored, correction=None, corrected_by=None, corrected_at=None
    )
    assert not predictions.correct(number + 1, "dog", "Ada") and predictions.get(number + 1) is None
    with pytest.raises(BadCorrectionError):
        predictions.correct(number, "", "Ada")


def test_one_is_deleted_and_old_ones_expire(predictions):
    numbers = [predictions.add(made(hours=24 * day)) for day in range(4)]
    assert predictions.delete_one(numbers[3]) and not predictions.delete_one(numbers[3])
    assert predictions.expire(NOON + timedelta(days=1)) == 1
    assert [p.number for p in predictions.page().predictions] == [numbers[2], numbers[1]]
    assert predictions.expire(NOON + timedelta(days=9)) == 2
    assert predictions.count().number == predictions.expire(NOON) == 0


def test_a_database_without_predictions_has_none_and_stays_as_it_is(predictions, tmp_path):
    page = predictions.page()
    assert (page.predictions, page.older, page.newer) == ((), None, None)
    assert predictions.get(1) is None and predictions.count().number == 0
    for number in (-1, 2**63, 10**30):
        assert predictions.get(number) is None and not predictions.delete_one(number)
        assert predictions.page(before=number).predictions == predictions.page(after=number).predictions == ()
    assert not predictions.correct(1, "cat", "Ada") and not predictions.delete_one(1)
    assert predictions.delete(Filters()) == 0 and list(predictions.every()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_writers_of_one_moment_overwrite_nothing(url):
    """Each has its own connection, as processes have."""

    def write(writer):
        predictions = open_predictions(url)
        return {predictions.add(made(name=f"{writer}-{number}")): f"{writer}-{number}" for number in range(5)}

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(write, range(4)))
    expected = {number: name for numbers in written for number, name in numbers.items()}
    assert len(expected) == 20, "each has a number of its own"
    assert {one.number: one.name for one in open_predictions(url).every()} == expected
