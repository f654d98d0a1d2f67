"""Tests of `search_ui.kept`: one question for all who ask, and nobody waits for one that isn't answered."""

import threading
import time

import pytest

from conf.errors import TinyTagsError
from search_ui.kept import Kept


class Question:
    """A question that counts how often it is asked, and answers, fails or hangs as it is told."""

    def __init__(self):
        self.asked, self.fails, self.go = 0, None, threading.Event()
        self.go.set()

    def __call__(self):
        self.asked += 1
        self.go.wait(20)
        if self.fails:
            raise self.fails
        return self.asked


@pytest.fixture
def question():
    made = Question()
    yield made
    made.go.set()


def test_many_who_ask_at_once_get_one_answer(question):
    kept, found = Kept("it", question, 60), []
    question.go.clear()
    threads = [threading.Thread(target=lambda: found.append(kept.get(10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    question.go.set()
    for thread in threads:
        thread.join()
    assert question.asked == 1
    assert [(answer.value, answer.trouble) for answer in found] == [(1, None)] * 20
    assert kept.get(10).value == 1 and question.asked == 1, "and so does who comes later"


def test_an_answer_is_kept_for_a_moment_and_asked_for_anew_then(question):
    kept = Kept("it", question, 0.2)
    assert [kept.get(5).value, kept.get(5).value] == [1, 1]
    time.sleep(0.25)
    answer = kept.get(5)
    assert answer.value == 2
    assert time.time() - answer.at < 1


def test_nobody_waits_longer_than_they_want_to_and_those_who_come_later_not_at_all(question):
    kept = Kept("the store", question, 0)
    assert kept.get(5).value == 1
    question.go.clear()
    began = time.monotonic()
    answer = kept.get(0.5)
    assert 0.4 < time.monotonic() - began < 1
    assert (answer.value, answer.trouble) == (1, "the store does not answer")
    began = time.monotonic()
    assert kept.get(0.5).value == 1
    assert time.monotonic() - began < 0.1
    assert question.asked == 2
    question.go.set()
    time.sleep(0.1)
    answer = kept.get(5)
    assert (answer.value, answer.trouble) == (3, None)


def test_a_question_that_fails_leaves_the_answer_before_it_with_the_reason(question):
    kept = Kept("it", question, 0)
    question.fails = TinyTagsError("is away")
    assert (kept.get(5).value, kept.get(5).at, kept.get(5).trouble) == (None, None, "is away")
    question.fails = None
    good = kept.get(5)
    question.fails = TinyTagsError("is away")
    answer = kept.get(5)
    assert (answer.value, answer.at, answer.trouble) == (good.value, good.at, "is away")


def test_a_failure_too_is_kept_for_a_moment(question):
    kept = Kept("it", question, 60)
    question.fails = TinyTagsError("is away")
    for _ in range(5):
        assert kept.get(5).trouble == "is away"
    assert question.asked == 1


def test_a_mistake_is_raised_for_who_asked_and_the_next_question_is_asked(question):
    kept = Kept("it", question, 0)
    question.fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        kept.get(5)
    question.fails = None
    assert kept.get(5).value == 2


def test_what_never_grows_old_is_asked_once_but_again_after_a_failure(question):
    kept = Kept("it", question, 0)
    question.fails = TinyTagsError("is away")
    assert kept.get(5, forever=True).trouble == "is away"
    question.fails = None
    assert [kept.get(5, forever=True).value for _ in range(3)] == [2, 2, 2]
