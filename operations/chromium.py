"""The Chromium that tests, attacks and benches drive by Playwright."""

import os
import shutil


def find_chromium() -> str | None:
    """Return the program that ``TINYTAGS_CHROMIUM`` names, else one of the system; None for Playwright's own.

    The headless shell, which has no windows, opens a page in 0.4 of the processor time that the whole browser takes.
    """
    choices = os.environ.get("TINYTAGS_CHROMIUM"), "chromium-headless-shell", "chromium", "google-chrome"
    return next((found for choice in choices if choice and (found := shutil.which(choice))), None)
