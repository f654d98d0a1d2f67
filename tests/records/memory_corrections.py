"""A toy database: corrections in memory, written as a new backend would be, to prove that the contract is all there is."""

from datetime import UTC, datetime

from records.corrections import OF_IMAGE, Contributor, Correction, Corrections, Label, check_labels, sort_key

_ROWS: dict[str, list[Correction]] = {}
_UNDONE: dict[str, dict[int, datetime]] = {}  # when a number was undone


class MemoryCorrections(Corrections):
    """Corrections in the memory of this process; those of one URL are shared."""

    def __init__(self, url):
        self.url, self.numbers = url, iter(range(1, 1_000_000))

    @property
    def address(self):
        return self.url

    @property
    def rows(self):
        return _ROWS.setdefault(self.url, [])

    def add(self, corpus, partition, row, label, by):
        self.add_many([Label(corpus, partition, row, label)], by)

    def add_many(self, labels, by):
        labels, by = check_labels(labels, by)
        added = []
        for corpus, partition, row, label in labels:
            last = self.of_image(corpus, partition, row)[:1]
            if [(c.label, c.by) for c in last] != [(label, by)]:
                at = datetime.now(UTC).replace(microsecond=0)
                place = corpus.name, corpus.hash, partition, row
                added.append(Correction(next(self.numbers), *place, label, by, at))
        self.rows.extend(added)
        return added

    @property
    def undone(self):
        return _UNDONE.setdefault(self.url, {})

    def undo(self, corpus, partition, row, number, undone_by=""):
        ours = [c for c in self.of_image(corpus, partition, row) if c.number == number]
        return self._undo(ours) > 0

    def undo_many(self, corrections, undone_by=""):
        numbers = {c.number for c in corrections}
        return self._undo(c for c in self._in_effect() if c.number in numbers)

    def undo_all(self, by=None, since=None, until=None, undone_by=""):
        return self._undo(
            c
            for c in self._in_effect()
            if by in (None, c.by) and (not since or c.at >= since) and (not until or c.at < until)
        )

    def _undo(self, corrections):
        numbers = [c.number for c in corrections]
        self.undone.update(dict.fromkeys(numbers, datetime.now(UTC).replace(microsecond=0)))
        return len(numbers)

    def restore(self, by=None, since=None):
        names = {c.number: c.by for c in self.rows}
        numbers = [
            n for n, at in self.undone.items() if by in (None, names[n]) and (not since or at >= since)
        ]
        for number in numbers:
            del self.undone[number]
        return len(numbers)

    def names(self):
        def one(name):
            theirs = [c for c in self.rows if c.by == name]
            undone = sum(c.number in self.undone for c in theirs)
            return Contributor(name, len(theirs) - undone, undone, theirs[0].at, theirs[-1].at)

        return [one(name) for name in dict.fromkeys(c.by for c in reversed(self.rows))]

    def _in_effect(self):
        return [c for c in self.rows if c.number not in self.undone]

    def of_image(self, corpus, partition, row):
        place = corpus.name, corpus.hash, partition, row
        return [
            c for c in reversed(self._in_effect()) if (c.corpus, c.corpus_hash, c.partition, c.row) == place
        ][:OF_IMAGE]

    def latest_of_image(self, corpus, partition, row):
        place = corpus.name, corpus.hash, partition, row
        latest = {
            c.by: c for c in self._in_effect() if (c.corpus, c.corpus_hash, c.partition, c.row) == place
        }
        return sorted(latest.values(), key=lambda c: -c.number)

    def newest(self):
        newest = {(c.corpus, c.corpus_hash, c.partition, c.row, c.by): c for c in self._in_effect()}
        return sorted(newest.values(), key=sort_key)

    def version(self):
        return len(self.rows), tuple(self.undone)
