"""The views: one file a page. A new page is a file here and its blueprint in this list."""

from flask import Blueprint

from search_ui.views import about, corrections, export, health, image, models, runs, search

BLUEPRINTS: list[Blueprint] = [
    view.blueprint for view in (search, export, image, corrections, runs, models, about, health)
]
