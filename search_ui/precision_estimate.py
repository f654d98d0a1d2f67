"""Estimates how many of the tags of a search are right, from the images that the model was measured on."""

from dataclasses import dataclass

from indexing.query.counts import Counts
from indexing.query.search_state import SearchState
from search_ui.library import Library
from tagging.calibration import ENOUGH_IMAGES
from tagging.cards import Quality
from tagging.quality import wilson

MOST_MODELS = 3


@dataclass(frozen=True)
class PrecisionEstimate:
    """Precision and coverage of a model's tags in a range of confidence."""

    model: str
    tags: tuple[str, ...]  # what it is measured for; empty for all tags
    low: int  # percent, both ends included
    high: int
    images: int  # held-out ones with such a tag
    precision: float  # the share of these whose tag is right
    interval: tuple[float, float]  # its 95 % interval
    kept: float  # the coverage: their share of all held-out images


def precision_estimates(library: Library, counts: Counts, state: SearchState) -> list[PrecisionEstimate]:
    """Return an estimate for each model that is searched and whose card has its quality; none for more than a few models.

    ``counts`` are those of the collections in the search. Raises `StoreUnavailableError`.
    """
    sources = {source.model: source for source in counts.sources}
    if len(sources) > MOST_MODELS:
        return []
    low, high = state.confidence or (0, 100)
    tags = state.filters.get("tag", ())
    estimates = []
    for name, source in sorted(sources.items()):
        run, measured = library.run(source.run), library.measured(name)
        if run is None or measured is None or measured.model_hash != run.model_hash:
            continue
        estimate = _between(name, measured.quality, run.min_confidence, low, high, tags)
        estimates += [estimate] if estimate else []
    return estimates


def _between(
    model: str, quality: Quality, least: float, low: int, high: int, tags: tuple[str, ...]
) -> PrecisionEstimate | None:
    """Return the estimate for ``tags`` with a confidence of ``least`` or more, at ``low`` to ``high`` percent.

    For all tags where there are none chosen, and where too few images with one of these were measured.
    """
    chosen = [row for row in quality.thresholds if row.confidence >= least and low <= row.percent <= high]
    if not chosen:
        return None
    own = [
        bin
        for tag in tags
        for bin in quality.levels.get(tag, ())
        if bin.confidence >= least and low <= bin.low <= high
    ]
    images, right = sum(bin.images for bin in own), sum(bin.right for bin in own)
    if images < ENOUGH_IMAGES:
        tags = ()
        beyond = next((row for row in quality.thresholds if row.percent > chosen[-1].percent), None)
        images = chosen[0].images - (beyond.images if beyond else 0)
        right = chosen[0].right - (beyond.right if beyond else 0)
    if not images:
        return None
    return PrecisionEstimate(
        model,
        tags,
        chosen[0].percent,
        chosen[-1].percent,
        images,
        right / images,
        wilson(right, images),
        images / quality.images,
    )
