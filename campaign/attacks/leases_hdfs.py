"""`campaign.attacks.leases` in HDFS."""

from campaign.attack import Outcome
from campaign.attacks import leases
from campaign.place import Place


def attack(place: Place, tries: int) -> Outcome:
    """As `leases.attack`."""
    return leases.attack(place, tries, f"{place.hdfs.url}/leases", place.hdfs.webhdfs)
