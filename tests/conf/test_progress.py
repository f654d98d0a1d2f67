"""Tests of `conf.progress`: lines for a log, a bar on a terminal."""

import io
import re
import time

from conf import progress
from conf.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_line_is_printed_at_intervals(monkeypatch):
    stream = io.StringIO()
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("tag", 80_000, "images", stream=stream) as counter:
        counter.add(20_000)
        assert stream.getvalue() == "", "it is too early for a line"
        now[0] += progress.LINE_SECONDS
        counter.add(20_000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"tag: 40,000 of 80,000 images \(50%\), [\d,]+ images/s, [\d.]+ s left", lines[0])


def test_earlier_work_counts_towards_the_total_but_not_towards_the_rate(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    counter = Progress("ingest", 100, "images", done=50)
    counter.add(10)
    counter.began = now - 10
    line = counter.line()
    assert "60 of 100 images (60%), 1 images/s" in line
    assert re.search(r"(39|40|41) s left$", line)


def test_no_time_left_is_given_before_anything_is_done():
    assert Progress("tag", 0, "images").line() == "tag: 0 of 0 images (100%), 0 images/s"


def test_on_a_terminal_a_bar_is_drawn_and_removed():
    stream = Terminal()
    with Progress("tag", 1000, "images", stream=stream) as counter:
        counter.add(400)
        counter.bar.refresh()
    drawn = stream.getvalue()
    assert "40%" in drawn and "tag" in drawn
    assert drawn.rstrip("\r").rsplit("\r", 1)[1].strip() == ""
