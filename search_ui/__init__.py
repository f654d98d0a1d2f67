"""The search page: a Flask application that shows what is in Solr as pages and as JSON."""

import contextlib
import ctypes
import hashlib
from pathlib import Path
from typing import Any

from flask import Flask
from jinja2 import ChoiceLoader, PackageLoader

from conf.errors import TinyTagsError
from conf.settings import Settings

# Requests are short: URLs, and the form of a correction; but for pictures to classify and files of labels.
BODY_BYTES = 64 * 1024
UPLOAD_BYTES = 32 << 20
_M_ARENA_MAX = -8  # malloc.h
STATIC_SECONDS = 365 * 24 * 3600


def create_app(settings: Settings, test_config: dict[str, Any] | None = None, host: str = "") -> Flask:
    """Return the application; ``test_config`` overrides Flask's configuration. ``host`` is where the server listens.

    It connects to nothing yet: a page that needs a Solr or a store that is unavailable reports that.
    """
    from indexing.query.levels import percent_of
    from indexing.query.published import CHECK_SECONDS, PublishedIndex
    from indexing.solr import Solr
    from ingest.picture import Decoder
    from records.corrections import open_corrections
    from search_ui import details, errors, hosts, login, metrics, openapi, proxied, writing
    from search_ui.access import Access
    from search_ui.board import REFRESH_SECONDS, Board
    from search_ui.facets import label_mark
    from search_ui.history import NONE, History
    from search_ui.library import Library
    from search_ui.linked import RequestWithoutAdded
    from search_ui.people import CurrentLabels, DatabasePeople
    from search_ui.previews import Previews
    from search_ui.rates import Rates
    from search_ui.sources import Sources
    from search_ui.training import Trainings
    from search_ui.views import BLUEPRINTS
    from storage.store import store_of

    app = Flask(__name__)
    app.request_class = RequestWithoutAdded
    app.config.from_mapping(
        MAX_CONTENT_LENGTH=BODY_BYTES,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
        CHECK_SECONDS=CHECK_SECONDS,
        REFRESH_SECONDS=REFRESH_SECONDS,
    )
    app.config.from_mapping(test_config or {})
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}

    solr = Solr(settings.solr, patience=0)
    counted = metrics.make_metrics()
    library = Library(store_of(settings))
    corrections = open_corrections(settings.database)
    labels = CurrentLabels(corrections)
    people = DatabasePeople(labels, library) if settings.database != NONE else None
    app.extensions["tinytags"] = Sources(
        settings=settings,
        solr=solr,
        published=PublishedIndex(solr, settings.alias, app.config["CHECK_SECONDS"], people),
        previews=Previews(solr, library, app.config["CHECK_SECONDS"], people),
        library=library,
        board=Board(library.store, solr, settings.alias, app.config["REFRESH_SECONDS"]),
        corrections=corrections,
        labels=labels,
        rates=Rates(settings.correction_rate, "correction_rate"),
        history=History(settings.database, settings.retention_days),
        classify_rates=Rates(settings.classify_rate, "classify_rate"),
        decoder=Decoder(),
        metrics=counted,
        access=Access(settings),
        trainings=Trainings(settings),
    )
    # The plots and tables of models, which reports have too.
    app.jinja_loader = ChoiceLoader([PackageLoader("search_ui"), PackageLoader("tagging")])
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    openapi.register(app)
    errors.register(app)
    metrics.register(app, counted)
    hosts.register(app, hosts.accepted_hosts(settings.hosts, host))
    proxied.register(app, settings.proxy)  # after hosts: its redirects are whole already
    login.register(app, settings)
    writing.register(app)
    versions = _static_versions(Path(app.static_folder or ""))
    app.add_template_global(lambda name: f"{app.static_url_path}/{name}?v={versions[name]}", "static")
    app.add_template_filter(lambda n: f"{n:,}", "number")
    app.add_template_filter(percent_of)
    app.add_template_filter(label_mark)
    app.add_template_filter(details.public)
    return app


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the page until Ctrl-C. Raises `TinyTagsError` where it can't listen on the address."""
    import logging
    import threading

    from search_ui.server import make_server

    # A browser requests many thumbnails at once, so a short queue is normal.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    _share_memory()
    app = create_app(settings, host=host)
    for rates in (app.extensions["tinytags"].rates, app.extensions["tinytags"].classify_rates):
        _ = rates.limits  # an error of the setting comes now
    try:
        server = make_server(app, host, port, settings.proxy)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise TinyTagsError(
            f"can't listen on {host}:{port}: {reason}; choose others with --host and --port"
        ) from None
    threading.Thread(target=_warm_up, args=[app], daemon=True).start()
    app.extensions["tinytags"].history.expire_hourly()
    url_host = f"[{host}]" if ":" in host else host
    print(f"TinyTags: http://{url_host}:{port}/ (Ctrl-C stops it)", flush=True)
    server.run()  # returns on Ctrl-C


def _share_memory() -> None:
    """Let all threads share one arena of memory: else glibc keeps for each what an export once used (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)


def _warm_up(app: Flask) -> None:
    """Do what the first request would wait for: compile the kernel, a second, and count a large index, some seconds."""
    from tagging.forest import compiled_kernel

    with contextlib.suppress(TinyTagsError):
        app.extensions["tinytags"].published.now()
    compiled_kernel()


def _static_versions(folder: Path) -> dict[str, str]:
    """Return a short hash of each static file; with it in the URL, browsers cache the file for good."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in files
    }
