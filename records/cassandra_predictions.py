"""Predictions in Cassandra, partitioned by day, newest first.

So pages and times are reads by key. The other filters are applied here to what a day has, in a bounded time.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from records.cassandra import ROWS, CassandraDatabase, now
from records.corrections import check_words
from records.predictions import (
    EVERYTHING,
    Count,
    Filters,
    NewPrediction,
    Page,
    Prediction,
    Predictions,
    is_possible,
    make_page,
    number_of,
    numbers_between,
    prediction_of,
    stored_values,
    time_of,
)

DAY = 86_400_000_000  # microseconds
# For the filters of one page or count.
SCAN_SECONDS = 2.0
_ONE = "SELECT answer FROM predictions WHERE day = ? AND number = ?"
_DELETE = "DELETE FROM predictions WHERE day = ? AND number = ?"


class CassandraPredictions(CassandraDatabase, Predictions):
    """The predictions in the keyspace at ``url``."""

    def add(self, prediction: NewPrediction) -> int:
        self.check_failure()
        number, values = number_of(prediction.at), stored_values(prediction)
        marks = ", ".join("?" * (len(values) + 2))
        insert = f"INSERT INTO predictions (day, number, {', '.join(values)}) VALUES ({marks})"
        while not self.claim(number, _ONE, [number // DAY]):
            number += 1
        # The day first: a day without predictions does no harm.
        self.execute('INSERT INTO prediction_days ("all", day) VALUES (0, ?)', [number // DAY], write=True)
        self.execute(insert, [number // DAY, number, *values.values()], write=True)
        return number

    def get(self, number: int) -> Prediction | None:
        return next(iter(self._read([number])), None) if is_possible(number) else None

    def page(
        self,
        filters: Filters = EVERYTHING,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        ascending = after is not None and before is None
        matching: list[int] = []
        last: int | None = None  # where the next page begins
        complete, until = True, time.monotonic() + SCAN_SECONDS
        by_key = (filters.answer, filters.model, filters.corrected) == (None, None, None)
        for numbers, last in self._scan(filters, before, after, ascending, limit + 1 if by_key else ROWS):
            matching += numbers
            if len(matching) > limit:
                last = matching[limit - 1]
                break
            if time.monotonic() > until:
                complete = False
                break
        else:
            last = None
        # What has been deleted meanwhile is left out.
        page = make_page(self._read(matching[: limit + 1], ascending), limit, before, after)
        if ascending:
            return replace(page, newer=last, complete=complete)
        return replace(page, older=last, complete=complete)

    def count(self, filters: Filters = EVERYTHING) -> Count:
        number, until = 0, time.monotonic() + SCAN_SECONDS
        for numbers, _ in self._scan(filters):
            number += len(numbers)
            if time.monotonic() > until:
                return Count(number, complete=False)
        return Count(number)

    def correct(self, number: int, label: str | None, by: str) -> bool:
        values: list[Any] = [None, None, None]
        if label is not None:
            values = [*check_words(label, by), now()]
        if not self._is_there(number):
            return False
        update = "UPDATE predictions SET correction = ?, corrected_by = ?, corrected_at = ? WHERE day = ? AND number = ?"
        self.execute(update, [*values, number // DAY, number])
        return True

    def delete_one(self, number: int) -> bool:
        if not self._is_there(number):
            return False
        self.execute(_DELETE, [number // DAY, number])
        return True

    def delete(self, filters: Filters) -> int:
        deleted = 0
        for numbers, _ in self._scan(filters):
            self.execute_all(_DELETE, [(number // DAY, number) for number in numbers])
            deleted += len(numbers)
        return deleted

    def expire(self, before: datetime) -> int:
        end = number_of(before)
        expired = 0
        for day in self._days(0, end // DAY - 1, ascending=True):
            # Whole days: one marker each in place of one for each row.
            bounds = Filters(since=time_of(day * DAY), until=time_of((day + 1) * DAY))
            expired += sum(len(numbers) for numbers, _ in self._scan(bounds))
            self.execute("DELETE FROM predictions WHERE day = ?", [day])
            self.execute('DELETE FROM prediction_days WHERE "all" = 0 AND day = ?', [day])
        return expired + self.delete(Filters(until=before))

    def _is_there(self, number: int) -> bool:
        return is_possible(number) and any(map(_is_whole, self.execute(_ONE, [number // DAY, number])))

    def _days(self, least: int, last: int, ascending: bool) -> list[int]:
        order = " ORDER BY day ASC" if ascending else ""
        query = f'SELECT day FROM prediction_days WHERE "all" = 0 AND day >= ? AND day <= ?{order}'
        with self._errors():
            return [row.day for row in self.execute(query, [least, last])]

    def _scan(
        self,
        filters: Filters,
        before: int | None = None,
        after: int | None = None,
        ascending: bool = False,
        rows: int = ROWS,
    ) -> Iterator[tuple[list[int], int]]:
        """Yield the numbers that fit, and the last one that was read, for each so many rows of each day."""
        least, end = numbers_between(filters, before, after)
        order = " ORDER BY number ASC" if ascending else ""
        query = (
            "SELECT number, answer, model, corrected_at FROM predictions WHERE day = ? AND number >= ? AND number < ?"
            + order
        )
        for day in self._days(least // DAY, (end - 1) // DAY, ascending):
            result = self.execute(query, [day, least, end], rows=rows)
            while True:
                read = result.current_rows
                if read:
                    yield [row.number for row in read if _fits(row, filters)], read[-1].number
                if not result.has_more_pages:
                    break
                with self._errors():
                    result.fetch_next_page()

    def _read(self, numbers: list[int], ascending: bool = False) -> list[Prediction]:
        days: dict[int, list[int]] = {}
        for number in numbers:
            days.setdefault(number // DAY, []).append(number)
        query = "SELECT * FROM predictions WHERE day = ? AND number IN ?"
        with self._errors():
            rows = [row for day, those in days.items() for row in self.execute(query, [day, those])]
        return sorted(
            map(prediction_of, filter(_is_whole, rows)), key=lambda one: one.number, reverse=not ascending
        )


def _is_whole(row: Any) -> bool:
    """Return whether a row isn't only what a correction left that met a delete."""
    return row.answer is not None


def _fits(row: Any, filters: Filters) -> bool:
    return (
        _is_whole(row)
        and filters.answer in (None, row.answer)
        and filters.model in (None, row.model)
        and filters.corrected in (None, row.corrected_at is not None)
    )
