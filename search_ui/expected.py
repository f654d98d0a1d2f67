"""How many of the tags that a search asks for are right by what the model's card says: measured on images held out from training."""

from dataclasses import dataclass

from indexing.query.counts import Counts
from indexing.query.search_state import SearchState
from search_ui.cards import Quality
from search_ui.library import Library

MOST_MODELS = 3


@dataclass(frozen=True)
class Expected:
    """What a model's card lets one expect of tags in a range of confidence."""

    model: str
    low: int  # percent, both ends included
    high: int
    images: int  # held-out ones with such a tag
    precision: float  # the share of these whose tag is right
    kept: float  # their share of all held-out images


def expected(library: Library, counts: Counts, state: SearchState) -> list[Expected]:
    """Return what to expect of each model that is searched; nothing where there are many, or no card says it.

    ``counts`` are those of what the search looks into. Raises `StoreUnavailableError`.
    """
    sources = {source.model: source for source in counts.sources}
    if len(sources) > MOST_MODELS:
        return []
    low, high = state.confidence or (0, 100)
    found = []
    for name, source in sorted(sources.items()):
        run, measured = library.run(source.run), library.measured(name)
        if run is None or measured is None or measured.model_hash != run.model_hash:
            continue
        entry = _between(name, measured.quality, run.min_confidence, low, high)
        found += [entry] if entry else []
    return found


def _between(model: str, quality: Quality, least: float, low: int, high: int) -> Expected | None:
    """Return what the thresholds, lowest first, say of tags with a confidence of ``least`` or more, at ``low`` to ``high`` percent."""
    asked = [row for row in quality.thresholds if row.confidence >= least and low <= row.percent <= high]
    if not asked:
        return None
    beyond = next((row for row in quality.thresholds if row.percent > asked[-1].percent), None)
    images = asked[0].images - (beyond.images if beyond else 0)
    right = asked[0].right - (beyond.right if beyond else 0)
    if not images:
        return None
    return Expected(
        model, asked[0].percent, asked[-1].percent, images, right / images, images / quality.images
    )
