"""Estimates how many of the tags of a search are right, from the held-out images that the model was measured on."""

from dataclasses import dataclass

from indexing.query.counts import Counts
from indexing.query.search_state import SearchState
from search_ui.library import Library
from tagging.cards import Quality

MOST_MODELS = 3


@dataclass(frozen=True)
class PrecisionEstimate:
    """Precision and coverage of a model's tags in a range of confidence."""

    model: str
    low: int  # percent, both ends included
    high: int
    images: int  # held-out ones with such a tag
    precision: float  # the share of these whose tag is right
    kept: float  # the coverage: their share of all held-out images


def precision_estimates(library: Library, counts: Counts, state: SearchState) -> list[PrecisionEstimate]:
    """Return an estimate for each model that is searched and whose card has its quality; none for more than a few models.

    ``counts`` are those of the collections in the search. Raises `StoreUnavailableError`.
    """
    sources = {source.model: source for source in counts.sources}
    if len(sources) > MOST_MODELS:
        return []
    low, high = state.confidence or (0, 100)
    estimates = []
    for name, source in sorted(sources.items()):
        run, measured = library.run(source.run), library.measured(name)
        if run is None or measured is None or measured.model_hash != run.model_hash:
            continue
        estimate = _between(name, measured.quality, run.min_confidence, low, high)
        estimates += [estimate] if estimate else []
    return estimates


def _between(model: str, quality: Quality, least: float, low: int, high: int) -> PrecisionEstimate | None:
    """Return the estimate for tags with a confidence of ``least`` or more, at ``low`` to ``high`` percent."""
    chosen = [row for row in quality.thresholds if row.confidence >= least and low <= row.percent <= high]
    if not chosen:
        return None
    beyond = next((row for row in quality.thresholds if row.percent > chosen[-1].percent), None)
    images = chosen[0].images - (beyond.images if beyond else 0)
    right = chosen[0].right - (beyond.right if beyond else 0)
    if not images:
        return None
    return PrecisionEstimate(
        model, chosen[0].percent, chosen[-1].percent, images, right / images, images / quality.images
    )
