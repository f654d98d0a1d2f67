"""Pictures as browsers keep them: for good where the URL names the contents, else until these have changed."""

from collections.abc import Callable

from flask import Response, abort, request

MOST_SCALE = 16
FOREVER = "public, max-age=31536000, immutable"


def parse_scale(default: int) -> int:
    """Return how large each pixel is asked for, in pixels; answers 400 to what is no whole number from 1 to 16."""
    value = request.args.get("scale", str(default))
    if value not in map(str, range(1, MOST_SCALE + 1)):
        abort(400, f"scale is a whole number from 1 to {MOST_SCALE}.")
    return int(value)


def answer(etag: str, version: str | None, draw: Callable[[], bytes]) -> Response:
    """Answer with the PNG that ``draw`` gives, which is not asked where the browser has the one of this ``etag``.

    ``version`` is what the parameter ``v`` of the URL says where it names the contents.
    """
    response = Response(mimetype="image/png")
    response.set_etag(etag)
    response.headers["Cache-Control"] = FOREVER if request.args.get("v") == version else "no-cache"
    if request.if_none_match.contains(response.get_etag()[0]):
        response.status_code = 304
    else:
        response.data = draw()
    return response
