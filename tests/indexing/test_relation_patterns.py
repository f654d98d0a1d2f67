"""Tests of relations that are counted by their kinds, without Solr."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from indexing.query.relations import PARTS, RelationKind, count_kinds, matches, split_pattern

SOME = st.text("aAbß%*.\\", max_size=8)


@given(SOME, SOME, st.sampled_from([None, "\\"]))
def test_a_pattern_matches_what_a_regular_expression_does(name, pattern, escape):
    texts = split_pattern(pattern, escape)
    wanted = re.fullmatch(".*".join(re.escape(text.lower()) for text in texts), name.lower(), re.DOTALL)
    assert matches(name, texts) == bool(wanted)


def test_a_long_pattern_is_not_tried_in_all_ways():
    assert not matches("a" * 500, split_pattern("%a" * 200 + "%b%c"))


VALUES = st.sampled_from("abc")
KINDS = st.lists(st.tuples(VALUES, VALUES, VALUES, st.integers(1, 9)), unique_by=lambda kind: kind[:3])


@given(KINDS, st.tuples(*[st.sets(VALUES)] * 3))
def test_a_facet_counts_what_matches_in_the_other_parts(kinds, chosen):
    matching = dict(zip(PARTS, chosen, strict=True))
    total, counts = count_kinds([RelationKind(*kind) for kind in kinds], matching)

    def rows(but=None):
        """Yield every relation that matches in all parts but one."""
        for *values, number in kinds:
            if all(value in matching[part] for part, value in zip(PARTS, values, strict=True) if part != but):
                yield from [dict(zip(PARTS, values, strict=True))] * number

    assert total == len(list(rows()))
    assert counts == {part: Counter(row[part] for row in rows(part)) for part in PARTS}
