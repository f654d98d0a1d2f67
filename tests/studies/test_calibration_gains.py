"""A test of `studies.calibration`: errors before and after calibration, of made confidences."""

import numpy as np
import pytest

from studies import calibration
from tagging.tags import winners


def test_errors_are_those_of_confidences_that_are_too_high_and_of_tables_that_mend_them():
    random = np.random.default_rng(0)
    tags = random.integers(0, 2, 4000)
    votes = np.zeros((4000, 2), np.uint8)
    votes[np.arange(4000), tags] = 9
    votes[np.arange(4000), 1 - tags] = 1
    # Nine of ten trees agree; right are 90 % of the first class' tags and 50 % of the second's.
    labels = np.where(random.random(4000) < np.where(tags, 0.5, 0.9), tags, 1 - tags)
    raw, by_all, by_classes = calibration.gains(winners(votes), labels, ("a", "b"), 10)
    assert raw == (pytest.approx(0.2, abs=0.03), pytest.approx(0.2, abs=0.03))
    assert by_all == (pytest.approx(0, abs=0.03), pytest.approx(0.2, abs=0.03)), "one table for both classes"
    assert by_classes == (pytest.approx(0, abs=0.03), pytest.approx(0, abs=0.03))
    text = calibration.section("made", 4000, {"ten": [raw, by_all, by_classes]})
    assert f"| `ten` | raw | {100 * raw[0]:.1f} % | {100 * raw[1]:.1f} % |" in text
