"""PNG responses that browsers cache: for good where the URL names the contents, else until the contents change."""

from collections.abc import Callable

from flask import Response, abort, request

MOST_SCALE = 16
FOREVER = "public, max-age=31536000, immutable"


def parse_scale(default: int) -> int:
    """Return the parameter ``scale``, the side of each pixel in the PNG; 400 unless it is a whole number from 1 to 16."""
    value = request.args.get("scale", str(default))
    if value not in map(str, range(1, MOST_SCALE + 1)):
        abort(400, f"scale is a whole number from 1 to {MOST_SCALE}.")
    return int(value)


def answer(etag: str, version: str | None, draw: Callable[[], bytes]) -> Response:
    """Answer with the PNG that ``draw`` returns; 304 without drawing where the browser has the one of this ``etag``.

    ``version`` is the value of the URL's parameter ``v`` that names the contents.
    """
    response = Response(mimetype="image/png")
    response.set_etag(etag)
    response.headers["Cache-Control"] = FOREVER if request.args.get("v") == version else "no-cache"
    if request.if_none_match.contains(etag):
        response.status_code = 304
    else:
        response.data = draw()
    return response
