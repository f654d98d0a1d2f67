"""The search page: what is in Solr, as pages for people and as JSON for programs."""

import contextlib
import ctypes
import hashlib
from pathlib import Path

from flask import Flask

from conf.errors import TinyTagsError
from conf.settings import Settings

# Nothing is sent to the page but short URLs, and who corrected what.
BODY_BYTES = 64 * 1024
# An export waits for a slow client, instead of being kept in memory to be sent.
SENT_AHEAD_BYTES = 1 << 20
THREADS = 8
_M_ARENA_MAX = -8  # malloc.h
STATIC_SECONDS = 365 * 24 * 3600


def create_app(settings: Settings, test_config: dict | None = None) -> Flask:
    """Return the application; ``test_config`` is laid over Flask's configuration.

    Connects to nothing: a Solr or a store that is down is told by the pages that need it.
    """
    from indexing.query.counts import percent_of
    from indexing.query.published import CHECK_SECONDS, PublishedIndex
    from indexing.solr import Solr
    from records.corrections import open_corrections
    from search_ui import errors, metrics, openapi
    from search_ui.board import REFRESH_SECONDS, Board
    from search_ui.library import Library
    from search_ui.sources import Sources
    from search_ui.views import BLUEPRINTS
    from storage.store import open_store

    app = Flask(__name__)
    app.config.from_mapping(
        MAX_CONTENT_LENGTH=BODY_BYTES,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
        CHECK_SECONDS=CHECK_SECONDS,
        REFRESH_SECONDS=REFRESH_SECONDS,
    )
    app.config.from_mapping(test_config or {})
    app.json.sort_keys = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}

    solr = Solr(settings.solr, patience=0)
    counted = metrics.make_metrics()
    store = open_store(settings.store, settings.webhdfs or None)
    app.extensions["tinytags"] = Sources(
        settings=settings,
        solr=solr,
        published=PublishedIndex(solr, settings.alias, app.config["CHECK_SECONDS"]),
        library=Library(store),
        board=Board(store, solr, settings.alias, app.config["REFRESH_SECONDS"]),
        corrections=open_corrections(settings.database),
        metrics=counted,
    )
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    openapi.register(app)
    errors.register(app)
    metrics.register(app, counted)
    versions = _static_versions(Path(app.static_folder))
    app.add_template_global(lambda name: f"{app.static_url_path}/{name}?v={versions[name]}", "static")
    app.add_template_filter(lambda n: f"{n:,}", "number")
    app.add_template_filter(percent_of)
    return app


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the page until Ctrl-C. Raises `TinyTagsError` where the address can't be had."""
    import logging
    import threading

    import waitress

    from search_ui import refusals

    # A browser asks for many thumbnails at once; that some of them wait a moment is nothing to warn of.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    _share_memory()
    app = create_app(settings)
    refusals.add_headers()
    try:
        server = waitress.create_server(
            app, host=host, port=port, threads=THREADS, max_request_body_size=BODY_BYTES, ident="tinytags",
            outbuf_high_watermark=SENT_AHEAD_BYTES,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise TinyTagsError(
            f"can't listen on {host}:{port}: {reason}; choose others with --host and --port"
        ) from None
    threading.Thread(target=_warm_up, args=[app], daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    print(f"TinyTags: http://{shown}:{port}/ (Ctrl-C stops it)", flush=True)
    try:
        server.run()  # returns on Ctrl-C
    finally:
        server.close()


def _share_memory() -> None:
    """Let all threads have their memory from one place: else glibc leaves to each what an export once took (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)


def _warm_up(app: Flask) -> None:
    """Do what the first to look would wait for: a second for the kernel, and some for counting a large index."""
    from tagging.forest import compiled_kernel

    with contextlib.suppress(TinyTagsError):
        app.extensions["tinytags"].published.now()
    compiled_kernel()


def _static_versions(folder: Path) -> dict[str, str]:
    """Return a short hash of each static file: in its URL it lets browsers keep the file for good."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in files
    }
