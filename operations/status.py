"""The state of everything in a store: every corpus, model and run, and how far each step is. Never writes."""

from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest import corpus as corpora
from ingest import runs
from ingest.lease import holder
from ingest.store import open_store


def read_status(settings: Settings) -> dict:
    """Return {"store", "solr", "alias", "published", "corpora", "models", "runs"}, each step's partitions counted."""
    from indexing.solr import Solr
    from tagging.models import list_models

    store = open_store(settings.store, settings.webhdfs or None)
    solr = Solr(settings.solr, patience=0)
    try:
        published, unreachable = solr.alias(settings.alias), None
    except TinyTagsError as error:
        published, unreachable = [], str(error)
    return {
        "store": store.url(),
        "solr": settings.solr,
        "solr_error": unreachable,
        "alias": settings.alias,
        "published": published,
        "corpora": [_corpus(store, name) for name in corpora.list_corpora(store)],
        "models": [_model(store, name) for name in list_models(store)],
        "runs": [
            _run(store, name, None if unreachable else solr, published) for name in runs.list_runs(store)
        ],
    }


def _corpus(store, name: str) -> dict:
    try:
        corpus = corpora.open_corpus(store, name)
        done, failed = corpora.done_partitions(store, corpus), corpora.failed_partitions(store, corpus)
        return {
            "corpus": name, "images": corpus.images, "partitions": corpus.partitions, "format": corpus.format,
            "classes": corpus.classes, "hash": corpus.hash, "ingest": _states(corpus.partitions, done, failed),
            "writer": _writer(store, corpora.lease_path(name)),
        }  # fmt: skip
    except TinyTagsError as error:
        return {"corpus": name, "error": str(error)}


def _model(store, name: str) -> dict:
    from tagging.models import card_path, read_card

    try:
        card = read_card(store, name)
        return {
            "model": name, "kind": card["kind"], "engine": card["engine"], "hash": card["hash"],
            "accuracy": card["quality"]["accuracy"],
        }  # fmt: skip
    except TinyTagsError as error:
        return {"model": name, "error": str(error)}
    except (KeyError, TypeError):
        return {"model": name, "error": f"{store.url(card_path(name))}: is no model's card; train it again"}


def _run(store, name: str, solr, published: list[str]) -> dict:
    try:
        run = runs.open_run(store, name)
        done = runs.done_partitions(store, run)
        found = {
            "run": name, "corpus": run.corpus, "model": run.model, "min_confidence": run.min_confidence,
            "images": run.images, "partitions": run.partitions, "published": name in published,
            "tag": _states(run.partitions, done, runs.failed_partitions(store, run)),
            "writer": _writer(store, runs.lease_path(name)) or _writer(store, runs.index_lease_path(name)),
        }  # fmt: skip
        return found | {"index": _index(store, run, done, solr)}
    except TinyTagsError as error:
        return {"run": name, "error": str(error)}


def _index(store, run, tagged: list[int], solr) -> dict | None:
    """Return the states of the run's partitions in Solr, or None where Solr doesn't answer."""
    from indexing.index import index_state

    if solr is None:
        return None
    state = index_state(store, run, solr, "")
    if not state["reachable"]:
        return None
    return _states(run.partitions, state["done"], []) | {
        "documents": state["documents"],
        "rejected": state["rejected"],
    }


def _states(partitions: int, done: list[int], failed: list[int]) -> dict[str, int]:
    failed = set(failed) - set(done)
    return {"pending": partitions - len(done) - len(failed), "done": len(done), "failed": len(failed)}


def _writer(store, path: str) -> dict | None:
    held = holder(store, path)
    return held and {key: held[key] for key in ("user", "host", "pid", "since")}


def describe(status: dict) -> str:
    """Return a status as lines for people."""
    lines = [f"store {status['store']}"]
    for corpus in status["corpora"]:
        if "error" in corpus:
            lines.append(f"  corpus {corpus['corpus']}: {corpus['error']}")
            continue
        lines.append(
            f"  corpus {corpus['corpus']}: {corpus['images']:,} images, {_steps('ingest', corpus)}{_by(corpus)}"
        )
    for model in status["models"]:
        told = (
            model.get("error")
            or f"{model['kind']}, {model['engine']}, accuracy {_percent(model['accuracy'])}"
        )
        lines.append(f"  model {model['model']}: {told}")
    for run in status["runs"]:
        if "error" in run:
            lines.append(f"  run {run['run']}: {run['error']}")
            continue
        index = _steps("index", run) if run["index"] else "index unknown"
        shown = f", shown by the alias {status['alias']}" if run["published"] else ""
        lines.append(f"  run {run['run']}: {_steps('tag', run)}; {index}{shown}{_by(run)}")
    if len(lines) == 1:
        lines.append(
            "  empty; `tinytags ingest DUMP --corpus NAME` makes the first corpus, `tinytags demo` shows all of it"
        )
    lines.append(f"solr {status['solr']}: {status['solr_error'] or 'answers'}")
    return "\n".join(lines)


def _steps(step: str, found: dict) -> str:
    states = found[step]
    told = f"{step} {states['done']:,} of {found['partitions']:,} partitions done"
    if states["failed"]:
        told += f", {states['failed']:,} failed"
    if "documents" in states:
        told += f", {states['documents']:,} documents"
        told += f", {states['rejected']:,} rejected" if states["rejected"] else ""
    return told


def _by(found: dict) -> str:
    writer = found["writer"]
    return (
        f" (being written by {writer['user']} on {writer['host']}, process {writer['pid']}, since {writer['since']})"
        if writer
        else ""
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
