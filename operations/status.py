"""The state of every corpus, model and run of a store. Never writes."""

from typing import Any

from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted, duration
from indexing import status as steps
from indexing.solr import Solr
from indexing.watch_models import BrokenModel, ModelStatus
from storage import layout
from storage.store import Store, store_of


def read_status(settings: Settings) -> dict[str, Any]:
    """Return {"store", "solr", "alias", "published", "corpora", "models", "runs", "annotations"}, each step's partitions counted."""
    store = store_of(settings)
    solr = Solr(settings.solr, patience=0)
    state = steps.read_status(store, solr, settings.alias)
    return {
        "store": store.url(),
        "solr": solr.url,
        "solr_error": state["solr_error"],
        "alias": settings.alias,
        "published": state["published"],
        "corpora": state["corpora"],
        "models": _models(store, state["models"]),
        "runs": state["runs"],
        "annotations": state["annotations"],
    }


def _models(store: Store, states: list[ModelStatus | BrokenModel]) -> list[dict[str, Any]]:
    """Return the models that are complete, then those that are being trained; their kind isn't known yet."""
    complete = [
        {"writer": None, "finished": state.get("finished", [])} | _model(store, state["model"])
        for state in states
        if not state.get("working")
    ]
    unknown = {"kind": None, "engine": None, "hash": None, "accuracy": None}
    return complete + [dict(state) | unknown for state in states if state.get("working")]


def _model(store: Store, name: str) -> dict[str, Any]:
    from tagging.evaluations import best_known
    from tagging.models import read_card

    try:
        card = read_card(store, name)
        known = best_known(card)
        return {
            "model": name, "kind": card["kind"], "engine": card["engine"], "hash": card["hash"],
            "accuracy": known[0]["accuracy"] if known else None,
        }  # fmt: skip
    except TinyTagsError as error:
        return {"model": name, "error": str(error)}
    except (KeyError, TypeError):
        return {
            "model": name,
            "error": f"{store.url(layout.model_card(name))}: is not a model's card; train it again",
        }


def describe(status: dict[str, Any]) -> str:
    """Return a status as lines for people."""
    lines = [f"store {status['store']}"]
    for corpus in status["corpora"]:
        if "error" in corpus:
            lines.append(f"  corpus {corpus['corpus']}: {corpus['error']}")
            continue
        lines.append(
            f"  corpus {corpus['corpus']}: {counted(corpus['images'], 'image')}, {_bad(corpus)}{_steps('ingest', corpus)}{_finished(corpus, 'ingest')}{_by(corpus)}"
        )
        for features in corpus["features"]:
            text = features.get("error") or _steps(
                "features", features | {"partitions": corpus["partitions"]}
            ).removeprefix("features ")
            lines.append(f"    features {features['folder']}: {text}{_finished(features, 'features')}")
    for model in status["models"]:
        if model["writer"]:
            lines.append(f"  model {model['model']}: in training{_by(model)}")
            continue
        text = (
            model.get("error")
            or f"{model['kind']}, {model['engine']}, accuracy {_percent(model['accuracy'])}{_finished(model, 'train')}"
        )
        lines.append(f"  model {model['model']}: {text}")
    for run in status["runs"]:
        if "error" in run:
            lines.append(f"  run {run['run']}: {run['error']}")
            continue
        index = _steps("index", run) if run["index"] else "index unknown"
        published = f", published as {status['alias']}" if run["published"] else ""
        tag, index = _steps("tag", run) + _finished(run, "tag"), index + _finished(run, "index")
        lines.append(f"  run {run['run']}: {tag}; {index}{published}{_by(run)}")
    for one in status["annotations"]:
        name = one["annotations"]
        if "error" in one:
            lines.append(f"  annotations {name}: {one['error']}")
            continue
        steps = "; ".join(
            [
                _steps("rows", one | {"partitions": one["ranges"]}),
                _steps("documents", one),
                *(
                    _steps(kind, {kind: states, "partitions": one["partitions"]})
                    if states
                    else f"{kind} unknown"
                    for kind, states in one["index"].items()
                ),
            ]
        )
        lines.append(
            f"  annotations {name}: {steps}{_finished(one, 'annotations')}{', published' if one['published'] else ''}{_by(one)}"
        )
    if len(lines) == 1:
        lines.append(
            "  empty; `tinytags ingest DUMP --corpus NAME` makes the first corpus, `tinytags demo` shows all of it"
        )
    lines.append(f"solr {status['solr']}: {status['solr_error'] or 'answers'}")
    return "\n".join(lines)


def _bad(corpus: dict[str, Any]) -> str:
    return f"{corpus['bad']:,} of them bad (the first: {corpus['bad_first']}), " if corpus["bad"] else ""


def _steps(step: str, entry: dict[str, Any]) -> str:
    states = entry[step]
    text = f"{step} {states['done']:,} of {counted(entry['partitions'], 'partition')} done"
    if states["failed"]:
        text += f", {states['failed']:,} failed"
    if "documents" in states:
        text += f", {counted(states['documents'], 'document')}"
        text += f", {states['rejected']:,} rejected" if states["rejected"] else ""
    return text


def _finished(entry: dict[str, Any], step: str) -> str:
    """Return when a step's last job ended, how much it did and how fast; empty where that isn't known."""
    for job in entry.get("finished", []):
        if job["step"] == step:
            rate = f", {job['per_second']:,.0f} {job['unit']}/s" if job["per_second"] else ""
            ended = f"{job['ended'][:10]} {job['ended'][11:16]} UTC"
            return f" ({ended}: {job['count']:,} {job['unit']} in {duration(job['seconds'])}{rate})"
    return ""


def _by(entry: dict[str, Any]) -> str:
    writer = entry["writer"]
    return (
        f" (being written by {writer['user']} on {writer['host']}, process {writer['pid']}, since {writer['since']})"
        if writer
        else ""
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
