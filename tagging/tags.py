"""Turns votes into tags and documents: the winner, its confidence, the runner-up and the threshold."""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from storage.runs import PROBABILITY_STEPS, Run
from tagging.types import Votes

Ints = npt.NDArray[Any]  # whole numbers of any width
# Probabilities are rounded to four digits anyway; sums of 32-bit numbers may lie a little above 1.
_MOST_PROBABILITY = 1 + 1 / PROBABILITY_STEPS


class BadVotesError(TinyTagsError):
    """A model gave an image a probability, ``value``, that is not a number from 0 to 1."""

    def __init__(self, message: str, value: float) -> None:
        super().__init__(message)
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.value)


@dataclass(frozen=True, eq=False)
class Winners:
    """The classes with the most and second most votes, for each of n images."""

    tag: npt.NDArray[np.uint16]  # (n,), the winner; the lowest class where several tie
    votes: npt.NDArray[np.uint16]  # (n,), for the winner; a probability in ten-thousandths
    runner_up: npt.NDArray[np.uint16]  # (n,), the best of the others; the lowest class where several tie
    runner_up_votes: npt.NDArray[np.uint16]  # (n,); 0 means that there is no runner-up

    def __len__(self) -> int:
        return len(self.tag)


def winners(votes: Votes) -> Winners:
    """Return winners and runners-up of ``votes`` (n, classes), as a `tagging.model.Model` gives them.

    Raises `BadVotesError` for a probability that is not a number from 0 to 1.
    """
    images = np.arange(len(votes))
    best = votes.argmax(axis=1)
    others = votes.copy()
    others[images, best] = 0
    second = others.argmax(axis=1)
    columns = [best, votes[images, best], second, others[images, second]]
    if votes.dtype.kind == "f":
        # argmax takes a NaN or an infinity for the largest, so the winners show whether there is one.
        bad = np.flatnonzero(~((columns[1] >= 0) & (columns[1] <= _MOST_PROBABILITY)))
        if len(bad):
            value = float(columns[1][bad[0]])
            raise BadVotesError(
                f"the model gives {len(bad):,} of {len(votes):,} images a probability of {value:g}, which is not a number "
                "from 0 to 1; train or import the model again",
                value,
            )
        columns[1:4:2] = (
            np.clip(np.rint(probability * PROBABILITY_STEPS), 0, PROBABILITY_STEPS)
            for probability in columns[1:4:2]
        )
    return Winners(*(array.astype(np.uint16) for array in columns))


def minimum_votes(min_confidence: float, voters: int | None) -> int:
    """Return the fewest votes of ``voters`` that are a confidence of ``min_confidence`` (0.0-1.0) or more.

    For probabilities (``voters`` None) the fewest ten-thousandths. Exact: k / voters and the number that a person writes
    for it are rounded to the same double, whereas 0.7 * 10 is more than 7 in floating point.
    Raises `TinyTagsError` for a confidence outside 0.0 to 1.0.
    """
    if not 0 <= min_confidence <= 1:
        raise TinyTagsError(f"minimum confidence {min_confidence!r} is not within 0.0 and 1.0")
    whole = PROBABILITY_STEPS if voters is None else voters
    return next(votes for votes in range(whole + 1) if votes / whole >= min_confidence)


def documents(
    run: Run,
    partition: int,
    best: Winners,
    labels: Ints | None = None,
    label_names: list[str] | None = None,
    first_row: int | Ints = 0,
    descriptors: npt.NDArray[np.int8] | None = None,
    trained: npt.NDArray[np.bool_] | None = None,
    names: Sequence[str | None] | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Return the JSON lines for the images of ``partition`` that get a tag, and counts of all of them.

    All lines have the same fields, null where an image has none, so that readers of JSON lines find one schema.
    ``best`` is of the rows from ``first_row`` on, or of the rows ``first_row`` (n,), from the votes of the run's model; ``labels`` (n,) whole numbers are
    places in ``label_names`` (the corpus' classes), -1 for no label; ``descriptors`` (n, numbers) int8, of
    `tagging.descriptor`, and ``names`` of the rows of the whole partition go into the documents where given. The counts: ``images``, ``tagged``, ``dropped`` (below the
    run's threshold), ``tags`` (of each tag), ``votes`` (of each number of votes for the winner, 0 to all, dropped ones
    too; only where votes are whole numbers), ``labelled`` (tagged, with a label) and ``right`` of these, both without images that the
    model was trained on (``trained`` (n,) bool, where known), whose number is ``trained``.
    Raises `TinyTagsError` for a label that has no name.
    """
    import pyarrow
    import pyarrow.compute

    kept = np.flatnonzero(best.votes >= minimum_votes(run.min_confidence, run.trees))
    tag, runner_up, runner_up_votes = best.tag[kept], best.runner_up[kept], best.runner_up_votes[kept]
    label = _known_labels(labels, label_names, len(best))[kept]

    # Each document is joined from a few ready-made pieces in one call: 7 M documents a second against 2 M from
    # f-strings and 0.2 M from json.dumps.
    pieces = _pieces(tuple(run.classes), run.trees)
    places = kept + first_row if isinstance(first_row, int) else first_row[kept]
    rows = pyarrow.array(places).cast(pyarrow.large_string())
    no_runner_up = len(run.classes)
    lines = pyarrow.compute.binary_join_element_wise(
        _text(f'{{"id":{json.dumps(f"{run.prefix}:{partition}:")[:-1]}'),
        rows,
        _text(f'"{_json({"corpus": run.corpus, "partition": partition})},"row":'),
        rows,
        *([] if names is None else [_names([names[place] for place in places.tolist()])]),
        _pick(pieces.tags, tag),
        _pick(pieces.votes, best.votes[kept]),
        _pick(pieces.runners_up, np.where(runner_up_votes > 0, runner_up, no_runner_up)),
        _pick(pieces.runner_up_votes, runner_up_votes),
        _pick(_label_pieces(tuple(label_names or ())), label + 1),
        *([] if descriptors is None else [_text(',"descriptor":['), _joined(descriptors[kept]), _text("]")]),
        _text(_json({"model": run.model, "run": run.name}) + "}\n"),
        _text(""),  # between the pieces
    )
    seen = np.zeros(len(kept), bool) if trained is None else trained[kept]
    return _bytes(lines), _counts(run, best, tag, label, label_names, seen)


def renumbering(label_names: list[str], classes: Iterable[str]) -> npt.NDArray[np.int32]:
    """Return an array that turns labels, places in a corpus' ``label_names``, into places in a model's ``classes``, by name.

    The two may list the same classes in another order. As an index -1 (no label) gives -1; a class that the model does
    not have gives -2.
    """
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(name, -2) for name in label_names] + [-1], np.int32)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Parts of documents as pyarrow arrays, to be picked by number."""

    tags: Any
    votes: Any
    runners_up: Any
    runner_up_votes: Any


@functools.lru_cache(maxsize=8)
def _pieces(classes: tuple[str, ...], voters: int | None) -> _Pieces:
    if voters is not None:
        votes = [_json({"votes": k, "trees": voters, "confidence": k / voters}) for k in range(voters + 1)]
        runner_up_votes = [_json({"runner_up_votes": k or None}) for k in range(voters + 1)]
    else:
        votes = [_json({"confidence": k / PROBABILITY_STEPS}) for k in range(PROBABILITY_STEPS + 1)]
        runner_up_votes = [""] * (PROBABILITY_STEPS + 1)
    return _Pieces(
        tags=_texts([_json({"tag": name}) for name in classes]),
        votes=_texts(votes),
        runners_up=_texts([_json({"runner_up": name}) for name in (*classes, None)]),
        runner_up_votes=_texts(runner_up_votes),
    )


@functools.lru_cache(maxsize=8)
def _label_pieces(names: tuple[str, ...]) -> Any:
    """Return the label of each class, after what a document without one has: none at all where the corpus has no classes."""
    return _texts([_json({"label": name}) for name in (None, *names)] if names else [""])


def _names(names: list[str | None]) -> Any:
    return _texts([_json({"name": name}) for name in names])


def _json(fields: dict[str, Any]) -> str:
    """Return the fields as they stand inside a JSON object, after a comma."""
    return "," + json.dumps(fields, separators=(",", ":"))[1:-1]


def _text(text: str) -> Any:
    import pyarrow

    return pyarrow.scalar(text, pyarrow.large_string())


def _texts(texts: list[str]) -> Any:
    import pyarrow

    return pyarrow.array(texts, pyarrow.large_string())


def _pick(pieces: Any, numbers: Ints) -> Any:
    import pyarrow

    return pieces.take(pyarrow.array(numbers))


def _joined(numbers: npt.NDArray[np.int8]) -> Any:
    """Return each row of ``numbers`` (n, k) int8 as text, with commas between."""
    import pyarrow
    import pyarrow.compute

    known = pyarrow.array([str(number) for number in range(-128, 128)])
    texts = known.take(pyarrow.array(numbers.ravel().astype(np.int16) + 128))
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * numbers.shape[1]
    rows = pyarrow.ListArray.from_arrays(pyarrow.array(ends), texts)
    return pyarrow.compute.binary_join(rows, ",").cast(pyarrow.large_string())


def _bytes(lines: Any) -> bytes:
    """Return the strings of a large_string array one after another."""
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return data[int(ends[0]) : int(ends[-1])].to_pybytes() if len(lines) else b""


def _known_labels(labels: Ints | None, label_names: list[str] | None, images: int) -> Ints:
    if labels is None:
        return np.full(images, -1, np.int32)
    if len(labels) and labels.max() >= len(label_names or []):
        raise TinyTagsError(
            f"label {labels.max():,} of an image is not one of the {len(label_names or []):,} classes of its corpus"
        )
    return np.maximum(labels, -1)


def _counts(
    run: Run,
    best: Winners,
    tag: Ints,
    label: Ints,
    label_names: list[str] | None,
    trained: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    right = (renumbering(label_names or [], run.classes)[label] == tag) & ~trained
    counts = {
        "images": len(best),
        "tagged": len(tag),
        "dropped": len(best) - len(tag),
        "labelled": int(((label >= 0) & ~trained).sum()),
        "trained": int(((label >= 0) & trained).sum()),
        "right": int(right.sum()),
        "tags": dict(zip(run.classes, np.bincount(tag, minlength=len(run.classes)).tolist(), strict=True)),
    }
    if run.trees is not None:
        counts["votes"] = np.bincount(best.votes, minlength=run.trees + 1).tolist()
    return counts
