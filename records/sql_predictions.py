"""Predictions in a SQL database."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
)
from records.sql import SqlDatabase, TakenError, stored_time, tables

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

# More aren't counted: it would take longer than an answer may.
COUNTED = 1_000_000
# Rows that are deleted in one transaction.
_AT_ONCE = 500


class SqlPredictions(SqlDatabase, Predictions):
    """The predictions in the SQL database at ``url``."""

    @property
    def table(self) -> "Table":
        """The table as the last migration leaves it."""
        return tables()["predictions"]

    def add(self, prediction: NewPrediction) -> int:
        self.check_failure()
        number, values = number_of(prediction.at), stored_values(prediction) | {"corrected": 0}
        while True:
            try:
                with self.begin(write=True) as connection:
                    assert connection is not None
                    connection.execute(self.table.insert().values(number=number, **values))
                return number
            except TakenError:
                if self.get(number) is None:
                    raise  # it isn't the number
                number += 1

    def get(self, number: int) -> Prediction | None:
        with self.begin() as connection:
            if not connection or not is_possible(number):
                return None
            row = connection.execute(self.table.select().where(self.table.c.number == number)).first()
            return prediction_of(row) if row else None

    def page(
        self,
        filters: Filters = EVERYTHING,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        number = self.table.c.number
        order = number.asc() if after is not None and before is None else number.desc()
        query = self.table.select().where(*self._where(filters, before, after)).order_by(order)
        with self.begin() as connection:
            rows = connection.execute(query.limit(limit + 1)) if connection else ()
            return make_page([prediction_of(row) for row in rows], limit, before, after)

    def count(self, filters: Filters = EVERYTHING) -> Count:
        from sqlalchemy import func, select

        some = select(self.table.c.number).where(*self._where(filters)).limit(COUNTED + 1).subquery()
        with self.begin() as connection:
            number = (
                connection.execute(select(func.count()).select_from(some)).scalar_one() if connection else 0
            )
        return Count(min(number, COUNTED), complete=number <= COUNTED)

    def correct(self, number: int, label: str | None, by: str) -> bool:
        values: dict[str, Any] = dict.fromkeys(("correction", "corrected_by", "corrected_at")) | {
            "corrected": 0
        }
        if label is not None:
            label, by = check_words(label, by)
            values = {
                "corrected": 1,
                "correction": label,
                "corrected_by": by,
                "corrected_at": stored_time(datetime.now(UTC)),
            }
        change = self.table.update().where(self.table.c.number == number).values(**values)
        with self.begin() as connection:
            return bool(connection and is_possible(number) and connection.execute(change).rowcount)

    def delete_one(self, number: int) -> bool:
        return is_possible(number) and self._delete(self.table.c.number == number) > 0

    def delete(self, filters: Filters) -> int:
        return self._delete(*self._where(filters))

    def _delete(self, *where: "ColumnElement[bool]") -> int:
        from sqlalchemy import select

        number, deleted = self.table.c.number, 0
        some = select(number).where(*where).limit(_AT_ONCE)
        while True:
            # Some at a time: what is deleted is locked for others, and an answer has a time limit.
            with self.begin() as connection:
                numbers = list(connection.execute(some).scalars()) if connection else []
                if numbers:
                    assert connection is not None
                    delete = self.table.delete().where(number.in_(numbers))
                    deleted += connection.execute(delete).rowcount
            if len(numbers) < _AT_ONCE:
                return deleted

    def _where(
        self, filters: Filters, before: int | None = None, after: int | None = None
    ) -> "list[ColumnElement[bool]]":
        c = self.table.c
        least, end = numbers_between(filters, before, after)
        where = [c.number >= least, c.number < end]
        where += [c.answer == filters.answer] if filters.answer is not None else []
        where += [c.model == filters.model] if filters.model is not None else []
        where += [c.corrected == int(filters.corrected)] if filters.corrected is not None else []
        return where
