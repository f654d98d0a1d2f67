"""How many of the tags that a search asks for are right by what the model's card says: measured on images held out from training."""

from dataclasses import dataclass

from search_ui.counts import Counts, percent
from search_ui.search_state import SearchState

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


def expected(library, counts: Counts, state: SearchState) -> list[Expected]:
    """Return what to expect of each model that is searched; nothing where there are many, or no card says it.

    ``counts`` are those of what the search looks into. Raises `StoreUnreachableError`.
    """
    sources = {source.model: source for source in counts.sources}
    if len(sources) > MOST_MODELS:
        return []
    found = []
    for name, source in sorted(sources.items()):
        run, card = library.run(source.run), library.card(name)
        if run is None or card is None or card.get("hash") != run.model_hash or not run.trees:
            continue
        low, high = state.confidence or (0, 100)
        entry = of_card(card, run.trees, max(low, percent_of(run.min_confidence)), high)
        found += [entry] if entry else []
    return found


def of_card(card: dict, trees: int, low: int, high: int) -> Expected | None:
    """Return what a forest's card says of tags of ``low`` to ``high`` percent; None where it had none to measure."""
    votes = [v for v in range(1, trees + 1) if low <= percent(v, trees) <= high]
    thresholds = {row["votes"]: row for row in (card.get("quality") or {}).get("thresholds", [])}
    if not votes or votes[0] not in thresholds:
        return None
    first, beyond = thresholds[votes[0]], thresholds.get(votes[-1] + 1, {"images": 0, "right": 0})
    images = first["images"] - beyond["images"]
    if not images:
        return None
    right = first["right"] - beyond["right"]
    return Expected(
        card["name"], percent(votes[0], trees), percent(votes[-1], trees), images, right / images,
        images / card["quality"]["images"],
    )  # fmt: skip


def percent_of(confidence: float) -> int:
    """Return a threshold in whole percent, rounded up."""
    return -int(-1000 * confidence // 10)
