"""The page of runs: partitions pending, done and failed in every step of every corpus and run, live while a job works."""

import hashlib
import json
from typing import Any, cast

from flask import Blueprint, Response, jsonify, render_template

from conf.wording import duration
from search_ui import api_runs as api
from search_ui.board import POLL_BUSY
from search_ui.details import public_board
from search_ui.sources import sources
from search_ui.views.corrections import may_train
from search_ui.views.train import training_state

blueprint = Blueprint("runs", __name__)


@blueprint.get("/api/runs")
def api_runs() -> Response:
    """The data of the page; ``version`` changes with anything that the page shows."""
    return jsonify(cast(api.Runs, _board()))


@blueprint.get("/runs")
def runs() -> str:
    """Every corpus with its runs, each step with its partitions."""
    board = _board()
    corpora = {state["corpus"]: {"state": state, "runs": []} for state in board["corpora"]}
    orphaned: list[dict[str, Any]] = []  # their corpus is missing, or their manifest can't be read
    for run in board["runs"]:
        (corpora[run["corpus"]]["runs"] if run.get("corpus") in corpora else orphaned).append(run)
    known = {run["run"] for run in board["runs"]}
    return render_template(
        "runs.html",
        board=board,
        corpora=list(corpora.values()),
        orphaned=orphaned,
        unknown=[name for name in board["published"] if name not in known] if board["store_seen"] else [],
        working=[
            job
            | {
                "name": next(
                    state[kind] for kind in ("run", "corpus", "annotations", "model") if kind in state
                )
            }
            for state in (*board["corpora"], *board["models"], *board["runs"], *board["annotations"])
            for job in state.get("working", [])
        ],
        duration=duration,
        stoppable=may_train(),
    )


def _board() -> dict[str, Any]:
    """Return the state of everything, with the last training of this server."""
    training = training_state(sources().trainings.last())
    board = public_board(sources().board.now()) | {"training": training}
    if training is not None:
        board["version"] += hashlib.sha256(json.dumps(training).encode()).hexdigest()[:8]
        if training["running"]:
            board["ask_again_seconds"] = POLL_BUSY
    return board
