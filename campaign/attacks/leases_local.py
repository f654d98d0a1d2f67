"""`campaign.attacks.leases` in a local folder."""

from campaign.attack import Outcome
from campaign.attacks import leases
from campaign.place import Place


def attack(place: Place, tries: int) -> Outcome:
    """As `leases.attack`."""
    return leases.attack(place, tries)
