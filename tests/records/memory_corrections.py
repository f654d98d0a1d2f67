"""A toy database: corrections in memory, written as a new backend would be, to prove that the contract is all there is."""

from datetime import UTC, datetime

from records.corrections import OF_IMAGE, Correction, Corrections, check_words

_ROWS: dict[str, list[Correction]] = {}


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
        label, by = check_words(label, by)
        last = self.of_image(corpus, partition, row)[:1]
        if [(c.label, c.by) for c in last] != [(label, by)]:
            at = datetime.now(UTC).replace(microsecond=0)
            self.rows.append(
                Correction(next(self.numbers), corpus.name, corpus.hash, partition, row, label, by, at)
            )

    def undo(self, corpus, partition, row, number):
        ours = [c for c in self.of_image(corpus, partition, row) if c.number == number]
        for correction in ours:
            self.rows.remove(correction)
        return bool(ours)

    def of_image(self, corpus, partition, row):
        place = corpus.name, corpus.hash, partition, row
        return [c for c in reversed(self.rows) if (c.corpus, c.corpus_hash, c.partition, c.row) == place][
            :OF_IMAGE
        ]

    def newest(self):
        newest = {(c.corpus, c.corpus_hash, c.partition, c.row): c for c in self.rows}
        return [newest[place] for place in sorted(newest)]
