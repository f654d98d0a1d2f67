"""The views: one file a page. A new page is a file here and its blueprint in this list."""

from flask import Blueprint

from search_ui.views import (
    about,
    annotation_pages,
    annotations,
    classify,
    corrections,
    export,
    health,
    history,
    image,
    label,
    label_detection,
    login,
    models,
    run,
    runs,
    search,
    train,
)

BLUEPRINTS: list[Blueprint] = [
    view.blueprint
    for view in (
        search, export, image, classify, label_detection, label, train, history, corrections, login, runs, run, models, annotation_pages, annotations, about, health
    )
]  # fmt: skip
