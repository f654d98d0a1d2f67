"""`campaign.attacks.prediction_kills` in Cassandra."""

from campaign.attack import Outcome
from campaign.attacks import prediction_kills
from campaign.place import Place


def attack(place: Place, tries: int) -> Outcome:
    """As `prediction_kills.attack`."""
    return prediction_kills.attack(place, tries, ("cassandra",))
