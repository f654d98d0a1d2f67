"""The Chromium that tests, attacks and benches drive by Playwright."""

import os
import shutil


def find_chromium() -> str | None:
    """Return the program that ``TINYTAGS_CHROMIUM`` names, else one of the system; None where there is none."""
    choices = (os.environ.get("TINYTAGS_CHROMIUM"), "/usr/bin/chromium", "chromium", "google-chrome")
    return next((found for choice in choices if choice and (found := shutil.which(choice))), None)
