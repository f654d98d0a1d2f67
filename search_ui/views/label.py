"""The page of labels: a grid of images that get a label by one key, and suggestions of what to label next."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cache
from typing import Any, NamedTuple

from flask import Blueprint, abort, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug import Response
from werkzeug.datastructures import MultiDict

from conf.names import has_letter
from indexing.query.search import search
from indexing.solr_errors import SolrError
from ingest.corpus import Corpus, list_corpora
from records.corrections import Label, check_name
from records.majority import majority
from search_ui import api, suggestions
from search_ui.facets import Choice
from search_ui.label_state import CHOICES, LabelState, parse_classes
from search_ui.library import image_urls, known_corpus, version_of
from search_ui.login import given_name, user
from search_ui.people import Labels
from search_ui.sources import sources
from search_ui.suggestions import Item, Suggested, Unlabelled
from search_ui.views.corrections import enabled, keep_name, may_train, name
from search_ui.writing import check_rate
from storage.runs import Run
from storage.store import StoreUnavailableError

blueprint = Blueprint("label", __name__)

# Of one request; a page has 120 images at most.
MOST_LABELS = 200
# The form without JavaScript offers more classes than these as a list to type from, not as a menu for each image.
MENU_CLASSES = 40
# What a field of that form is called, before the place of its image.
FIELD = "label "

Place = tuple[str, int, int]  # corpus, partition, row


@blueprint.get("/label")
def label() -> ResponseReturnValue:
    """Images to label: those of a search, or suggested ones."""
    _check_enabled()
    if "classes" in request.args:
        return redirect(_with_typed_classes(request.args).url())
    state = LabelState.parse(request.args)
    try:
        runs = published_runs()
    except SolrError:  # images of the store can be labelled without
        runs = []
    corpus = _corpus_of(state, runs)
    if corpus is None and not (state.show in (None, "search") and runs):
        return render_template("label_corpora.html", corpora=_corpora(state))
    labels = sources().labels.now()
    here = [run for run in runs if corpus is not None and run.corpus_hash == corpus.hash]
    state = replace(state, show=state.show or _what_to_show(state, here or (runs if corpus is None else [])))
    given = labels.of_corpus(corpus) if corpus is not None else {}
    own = own_classes(corpus, runs)
    # In the order of their keys: what was typed comes after what is always there, so that the keys of that stay.
    labelled = sorted({label for label in given.values() if label})
    classes = list(dict.fromkeys([*own, *state.classes, *labelled]))
    try:
        suggested = _suggested(state, corpus, labels, here) if classes else Suggested([], None)
        error = None
    except SolrError as solr_error:
        if state.show not in ("search", "uncertain") or "show" in request.args or corpus is None:
            raise
        state, error = replace(state, show="random"), solr_error
        suggested = _suggested(state, corpus, labels, here)
    counts = Counter(given.values())
    return render_template(
        "label.html",
        state=state,
        corpus=corpus,
        error=error is not None,
        items=list(_with_labels(suggested.items, labels)),
        following=suggested.following.url() if suggested.following else None,
        classes=[{"name": one, "count": counts[one], "own": one in own} for one in classes],
        labelled=len(given),
        show_choices=_choices(state, corpus, here),
        by=name(),
        menu=len(classes) <= MENU_CLASSES,
        field=FIELD,
        trainable=corpus is not None and may_train(),
        training=sources().trainings.last(),
        search_url=state.search.with_page(1).url(),
        # Labels may take images out of such a search.
        results=state.search.url("")
        if state.show == "search" and (state.search.answer or state.search.values("correction"))
        else None,
    )


@blueprint.post("/label")
def save() -> Response:
    """Store the labels of the form: a field for each image, and ``by``. Works without JavaScript."""
    _check_form()
    state, by = LabelState.parse(request.args), given_name()
    given = []
    for field, value in request.form.items():
        if field.startswith(FIELD) and value.strip():
            corpus, partition, row = _parse_place(field.removeprefix(FIELD))
            given.append({"corpus": corpus, "partition": partition, "row": row, "label": value})
    _store(given, by)
    return keep_name(redirect(state.url(), 303), by)


@blueprint.post("/api/label")
def api_save() -> Response:
    """Store labels, or undo the newest of this name where the label is null; return the labels of the images then."""
    _check_form()
    try:
        body = request.get_json(silent=True)
    except RecursionError:  # lists in lists, thousands deep
        body = None
    if not (
        isinstance(body, dict) and isinstance(body.get("labels"), list) and isinstance(body.get("by"), str)
    ):
        abort(400, "The body is JSON with by, a name, and labels, a list.")
    by = user() or body["by"]
    answer: api.Labels = {"labels": _store(body["labels"], by)}
    return keep_name(jsonify(answer), by)


def published_runs() -> list[Run]:
    """Return the published runs that the store has. Raises `SolrError`."""
    names = sources().published.now().collections
    return [run for one in names if (run := sources().library.run(one)) is not None]


def labels_of(corpus: Corpus) -> dict[int, str]:
    """Return the label of each record of a corpus on whose label people agree."""
    return {
        record: label
        for record, label in sources().labels.now().of_corpus(corpus).items()
        if label is not None
    }


def own_classes(corpus: Corpus | None, runs: Iterable[Run]) -> dict[str, None]:
    """Return the classes of the models of a corpus, of all models where there is none, and its own, in this order."""
    models = [run.classes for run in runs if corpus is None or run.corpus_hash == corpus.hash]
    own = corpus.classes or [] if corpus is not None else []
    return dict.fromkeys(one for names in (*models, own) for one in names)


def _with_typed_classes(args: MultiDict[str, str]) -> LabelState:
    """Read the form of new classes, one a line, beside the other parameters."""
    args = args.copy()
    typed = "\n".join(args.poplist("classes")).splitlines()
    state = LabelState.parse(args)
    return replace(state, classes=parse_classes([*state.classes, *typed]))


def _corpora(state: LabelState) -> list[dict[str, Any]]:
    store = sources().library.store
    corpora = [corpus for one in list_corpora(store) if (corpus := sources().library.corpus(one)) is not None]
    return [{"name": one.name, "images": one.images, "url": state.of(one.name).url()} for one in corpora]


def _corpus_of(state: LabelState, runs: list[Run]) -> Corpus | None:
    """Return the corpus of the state, or the only one that there is; 404 for one that isn't there."""
    library = sources().library
    wanted = state.corpus
    if wanted is None and not state.search.values("corpus"):
        names = {run.corpus for run in runs} or set(list_corpora(library.store))
        wanted = names.pop() if len(names) == 1 else None
    if wanted is None:
        return None
    if (corpus := library.corpus(wanted)) is None:
        abort(404, f"There is no corpus {wanted!r} in the store.")
    return corpus


def _what_to_show(state: LabelState, runs: list[Run]) -> str:
    filtered = {key for key, _ in state.search.parameters()} - {"corpus", "per_page", "size"}
    return "random" if not runs else "search" if filtered else "uncertain"


def _suggested(state: LabelState, corpus: Corpus | None, labels: Labels, runs: list[Run]) -> Suggested:
    """Return the images of the page. Raises `SolrError` where they come from a search and Solr is unavailable."""
    open_sources, library = sources(), sources().library
    unlabelled = _unlabelled(labels)
    if state.show == "search":
        result = search(open_sources.solr, open_sources.published, state.search)
        more = result.total > result.state.page * state.search.per_page
        after = result.state.with_page(result.state.page + 1, result.after)
        more = more and (after.after is not None or after.page <= after.last_numbered_page)
        following = replace(state, search=after) if more else None
        return Suggested([suggestions.item_of(hit) for hit in result.hits], following)
    if state.show == "uncertain":
        return suggestions.uncertain_images(open_sources.solr, open_sources.published, unlabelled, state)
    images = unlabelled(corpus.name) if corpus is not None else None
    if images is None:
        abort(404, "Choose one corpus to label.")
    if state.show == "random":
        return suggestions.random_images(images, state)
    if state.show == "order":
        return suggestions.images_in_order(images, state)
    if state.show == "diverse":
        return suggestions.diverse_images(library.store, images, state)
    return suggestions.disagreeing_images(library.store, runs, images, state)


def _unlabelled(labels: Labels) -> Callable[[str], Unlabelled | None]:
    library = sources().library

    @cache
    def unlabelled(one: str) -> Unlabelled | None:
        corpus = library.corpus(one)
        if corpus is None:
            return None
        return Unlabelled(corpus, frozenset(labels.of_corpus(corpus)), library.bad_records(corpus))

    return unlabelled


def _choices(state: LabelState, corpus: Corpus | None, runs: list[Run]) -> list[Choice]:
    """Return what can be shown; images of a search only where something is published."""
    indexed = ("search", "uncertain") if runs or corpus is None else ()
    stored = ("diverse", "random", "order") if corpus is not None else ()
    several = ("disagreeing",) if len(runs) > 1 else ()
    return [
        Choice(text, state.first(show).url(), show == state.show)
        for show, text in CHOICES.items()
        if show in (*indexed, *stored, *several) or show == state.show
    ]


def _with_labels(items: Iterable[Item], labels: Labels) -> Iterable[dict[str, Any]]:
    library = sources().library
    for item in items:
        try:
            corpus = library.corpus(item.corpus)
        except StoreUnavailableError:
            corpus = None
        if corpus is None:  # its labels couldn't be stored
            continue
        label = labels.of_image(corpus, item.partition, item.row)
        yield asdict(item) | {"label": label} | image_urls(asdict(item), version_of(corpus))


def _parse_place(text: str) -> Place:
    corpus, partition, row = [*text.split("/"), "", ""][:3]
    if not all(one.isascii() and one.isdecimal() and len(one) <= 9 for one in (partition, row)):
        abort(400, "A field names an image that isn't there.")
    return corpus, int(partition), int(row)


def _store(given: list[Any], by: str) -> list[api.GivenLabel]:
    """Store labels, or undo the newest by this name where the label is None; return the labels of the images then."""
    if len(given) > MOST_LABELS:
        abort(400, f"labels are {len(given):,}; one request has up to {MOST_LABELS}.")
    corrections, by = sources().corrections, check_name("your name", by)
    labels = [_checked(one) for one in given]  # all of them before any is stored
    undone = []
    for label in labels:
        if label.label is None:
            latest = corrections.latest_of_image(label.corpus, label.partition, label.row)
            undone += [one for one in latest if one.by == by]
    added = corrections.add_many(
        [Label(one.corpus, one.partition, one.row, one.label) for one in labels if one.label is not None], by
    )
    new = {(one.corpus, one.partition, one.row, one.label) for one in added}
    corrections.undo_many(undone, by)
    sources().published.expire()
    return [
        {
            "corpus": one.corpus.name,
            "partition": one.partition,
            "row": one.row,
            "label": one.label or _label_of(one),
            "added": (one.corpus.name, one.partition, one.row, one.label) in new,
        }
        for one in labels
    ]


class _GivenLabel(NamedTuple):
    corpus: Corpus
    partition: int
    row: int
    label: str | None


def _checked(one: Any) -> _GivenLabel:
    """Return one entry of a request; 400 where it is none, 404 where there is no such image."""
    if not (
        isinstance(one, dict)
        and isinstance(one.get("corpus"), str)
        and {"partition", "row", "label"} <= one.keys()
    ):
        abort(400, "Each of labels has corpus, partition, row and label.")
    partition, row, label = one["partition"], one["row"], one["label"]
    if not all(type(number) is int and 0 <= number < 10**9 for number in (partition, row)):
        abort(400, "partition and row are whole numbers from 0.")
    if label is not None and not isinstance(label, str):
        abort(400, "label is a class, or null.")
    corpus = known_corpus(sources().library, one["corpus"], partition, row)
    # As a class of the URL is read: other spaces than these belong to the name.
    label = None if label is None else label.strip(" \t\r\n") if has_letter(label) else ""
    return _GivenLabel(corpus, partition, row, label)


def _label_of(one: _GivenLabel) -> str | None:
    """Return the label that most people give an image now."""
    latest = sources().corrections.latest_of_image(one.corpus, one.partition, one.row)
    return majority(given.label for given in latest)


def _check_form() -> None:
    _check_enabled()
    check_rate(sources().rates, "labels")


def _check_enabled() -> None:
    if not enabled():
        abort(403, "Corrections are turned off here.")
