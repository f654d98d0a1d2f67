"""The page of runs: partitions pending, done and failed in every step of every corpus and run, live while a job works."""

from flask import Blueprint, jsonify, render_template

from conf.wording import duration
from search_ui.sources import sources

blueprint = Blueprint("runs", __name__)


@blueprint.get("/api/runs")
def api_runs():
    """The page's own data; ``version`` changes with anything that the page shows."""
    return jsonify(sources().board.now())


@blueprint.get("/runs")
def runs():
    """Every corpus with its runs, each step with its partitions."""
    found = sources().board.now()
    corpora = {told["corpus"]: {"about": told, "runs": []} for told in found["corpora"]}
    astray = []  # runs whose manifest can't be read, or whose corpus is gone
    for told in found["runs"]:
        (corpora[told["corpus"]]["runs"] if told.get("corpus") in corpora else astray).append(told)
    known = {told["run"] for told in found["runs"]}
    return render_template(
        "runs.html",
        found=found,
        corpora=list(corpora.values()),
        astray=astray,
        unknown=[name for name in found["published"] if name not in known] if found["store_seen"] else [],
        busy=[
            work | {"name": told.get("run") or told["corpus"], "left": work["seconds_left"]}
            for told in (*found["corpora"], *found["runs"])
            for work in told.get("working", [])
        ],
        duration=duration,
    )
