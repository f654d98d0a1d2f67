"""Train on the labels, see what the new model changes, and publish its run: all from the page."""

from flask import Blueprint, abort, redirect, render_template, request
from werkzeug import Response

from conf.errors import LeaseHeldError
from indexing.publishing import publish
from indexing.query.search_state import check_parameters
from indexing.solr import Solr
from records.corrections import LONGEST_NAME
from search_ui import api_runs as api
from search_ui import details
from search_ui.changes import compare_runs
from search_ui.library import image_urls, version_of
from search_ui.login import given_name
from search_ui.sources import sources
from search_ui.training import Training, TrainingRunsError
from search_ui.views.corrections import enabled, may_train
from search_ui.views.label import labels_of, published_runs
from search_ui.writing import check_rate
from storage.runs import Run
from tagging.cards import Quality

blueprint = Blueprint("train", __name__)

# For so many seconds requests to Solr are repeated while a run is published.
PUBLISH_SECONDS = 10


@blueprint.post("/train")
def train() -> Response:
    """Start a training on the labels of ``corpus``, a field of the form."""
    _check_form()
    name = request.form.get("corpus", "")
    corpus = sources().library.corpus(name)
    if corpus is None:
        abort(404, f"There is no corpus {name!r} in the store.")
    by = " ".join(given_name().split())[:LONGEST_NAME]
    similar = any(run.descriptor for run in published_runs() if run.corpus_hash == corpus.hash)
    try:
        sources().trainings.start(corpus.name, by, similar)
    except TrainingRunsError as error:
        abort(409, str(error))
    return redirect("/runs#training", 303)


@blueprint.post("/train/stop")
def stop() -> Response:
    """Stop the training; what it finished stays in the store."""
    _check_form()
    sources().trainings.stop()
    return redirect("/runs#training", 303)


@blueprint.get("/changes")
def changes() -> str:
    """What a run changes against the one that is shown, or ``with`` another one of its corpus. Needs Solr, which has what is shown."""
    check_parameters(request.args, ("run", "with"))
    new = _known_run(request.args.get("run", ""))
    corpus = sources().library.corpus(new.corpus)
    if corpus is None or corpus.hash != new.corpus_hash:
        abort(404, f"The corpus of run {new.name!r} is not in the store.")
    of_corpus = [run for run in published_runs() if run.corpus_hash == corpus.hash]
    published = any(run.name == new.name for run in of_corpus)
    other = request.args.get("with")
    old = _known_run(other) if other else next((run for run in of_corpus if run.name != new.name), None)
    if old is not None and old.corpus_hash != corpus.hash:
        abort(404, f"Run {old.name!r} is of another corpus.")
    comparison = compare_runs(
        sources().library.store, corpus, old, new, labels_of(corpus) if enabled() else {}
    )
    version = version_of(corpus)
    examples = [
        vars(one) | image_urls({"corpus": corpus.name, "partition": one.partition, "row": one.row}, version)
        for one in comparison.examples
    ]
    return render_template(
        "changes.html",
        new=new,
        old=old,
        corpus=corpus,
        changes=comparison,
        examples=examples,
        published=published,
        publishable=may_train() and not published,
        quality=_quality(new),
    )


@blueprint.post("/publish")
def publish_run() -> Response:
    """Publish ``run`` instead of the other runs of its corpus; those of other corpora stay."""
    _check_form()
    new = _known_run(request.form.get("run", ""))
    open_sources = sources()
    solr = Solr(open_sources.settings.solr, patience=PUBLISH_SECONDS)
    open_sources.published.expire()
    others = [run.name for run in published_runs() if run.corpus == new.corpus]
    try:
        publish(open_sources.library.store, new.name, solr, open_sources.settings.alias, instead_of=others)
    except LeaseHeldError as error:
        abort(409, details.reason(error))
    open_sources.published.now(fresh=True)
    open_sources.board.expire()
    return redirect("/", 303)


def training_state(training: Training | None) -> api.Training | None:
    """Return the last training as JSON values, without folders and addresses unless they are shown."""
    if training is None:
        return None
    result = training.result
    return {
        "corpus": training.corpus,
        "by": training.by,
        "started": training.started.isoformat(),
        "running": training.running,
        "stopped": training.stopped,
        "seconds": None if training.seconds is None else round(training.seconds, 1),
        "lines": [details.public(line) for line in list(training.lines)],
        "model": result["model"] if result else None,
        "run": result["run"] if result else None,
    }


def _known_run(name: str) -> Run:
    run = sources().library.run(name)
    if run is None:
        abort(404, f"There is no run {name!r} in the store.")
    return run


def _quality(run: Run) -> Quality | None:
    """Return the quality of the model that made a run; None where the store has no such model, or it isn't measured."""
    measured = sources().library.measured(run.model)
    return measured.quality if measured is not None and measured.model_hash == run.model_hash else None


def _check_form() -> None:
    if not may_train():
        abort(
            403,
            "Jobs can only be started on the machine of the server, or where its setting page_jobs is yes.",
        )
    check_rate(sources().rates, "changes")
