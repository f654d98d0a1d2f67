"""The attacks, one module each with ``attack(place, tries)``."""
