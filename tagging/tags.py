"""From votes to tags: the winner, its confidence, the runner-up, the threshold, and the documents that say so."""

import functools
import json
from dataclasses import dataclass

import numpy as np

from conf.errors import TinyTagsError
from storage.runs import PROBABILITY_STEPS, Run


@dataclass(frozen=True, eq=False)
class Winners:
    """The classes with the most and second most votes, for each of n images."""

    tag: np.ndarray  # (n,) uint16, the winner; the lowest class where several tie
    votes: np.ndarray  # (n,) uint16, for the winner; a network's probability in ten-thousandths
    runner_up: np.ndarray  # (n,) uint16, the best of the others; the lowest class where several tie
    runner_up_votes: np.ndarray  # (n,) uint16; 0 means that there is no runner-up

    def __len__(self) -> int:
        return len(self.tag)


def winners(votes: np.ndarray) -> Winners:
    """Return winners and runners-up of ``votes`` (n, classes): whole numbers from a forest, probabilities from a network."""
    images = np.arange(len(votes))
    best = votes.argmax(axis=1)
    others = votes.copy()
    others[images, best] = 0
    second = others.argmax(axis=1)
    found = [best, votes[images, best], second, others[images, second]]
    if votes.dtype.kind == "f":
        found[1:4:2] = (np.rint(probability * PROBABILITY_STEPS) for probability in found[1:4:2])
    return Winners(*(array.astype(np.uint16) for array in found))


def minimum_votes(min_confidence: float, trees: int) -> int:
    """Return the fewest votes of ``trees`` that are a confidence of ``min_confidence`` (0.0-1.0) or more.

    Exact: k / trees and the number that a person writes for it are rounded to the same double, whereas
    0.7 * 10 is more than 7 in floating point.
    """
    if not 0 <= min_confidence <= 1:
        raise TinyTagsError(f"minimum confidence {min_confidence!r} is not within 0.0 and 1.0")
    return next(votes for votes in range(trees + 1) if votes / trees >= min_confidence)


def documents(
    run: Run,
    partition: int,
    votes: np.ndarray,
    labels: np.ndarray | None = None,
    label_names: list[str] | None = None,
    first_row: int = 0,
    descriptors: np.ndarray | None = None,
) -> tuple[bytes, dict]:
    """Return the JSON lines for the images of ``partition`` that get a tag, and counts of all of them.

    ``votes`` is (n, classes) for the rows from ``first_row`` on, as the run's model gave them; ``labels`` (n,) whole numbers
    are places in ``label_names`` (the corpus' classes), -1 where nobody said; ``descriptors`` (n, numbers) int8, of
    `tagging.descriptor`, go into the documents where given. The counts: ``images``, ``tagged``, ``dropped`` (below the
    run's threshold), ``tags`` (of each tag), ``votes`` (of each number of votes for the winner, 0 to trees, dropped ones
    too; forests only), ``labelled`` (tagged, with a label) and ``right`` of these.
    """
    import pyarrow
    import pyarrow.compute

    best = winners(votes)
    whole = run.trees or PROBABILITY_STEPS
    kept = np.flatnonzero(best.votes >= minimum_votes(run.min_confidence, whole))
    tag, runner_up, runner_up_votes = best.tag[kept], best.runner_up[kept], best.runner_up_votes[kept]
    label = _known_labels(labels, label_names, len(votes))[kept]

    # Each document is joined from a few ready-made pieces in one call: 7 M documents a second against 2 M from
    # f-strings and 0.2 M from json.dumps.
    pieces = _pieces(tuple(run.classes), run.trees)
    rows = pyarrow.array(kept + first_row).cast(pyarrow.large_string())
    no_runner_up = len(run.classes)
    lines = pyarrow.compute.binary_join_element_wise(
        _text(f'{{"id":{json.dumps(f"{run.prefix}:{partition}:")[:-1]}'),
        rows,
        _text(f'"{_json({"corpus": run.corpus, "partition": partition})},"row":'),
        rows,
        _pick(pieces.tags, tag),
        _pick(pieces.votes, best.votes[kept]),
        _pick(pieces.runners_up, np.where(runner_up_votes > 0, runner_up, no_runner_up)),
        _pick(pieces.runner_up_votes, runner_up_votes),
        _pick(_texts(["", *(_json({"label": name}) for name in label_names or [])]), label + 1),
        *([] if descriptors is None else [_text(',"descriptor":['), _joined(descriptors[kept]), _text("]")]),
        _text(_json({"model": run.model, "run": run.name}) + "}\n"),
        _text(""),  # between the pieces
    )
    return _bytes(lines), _counts(run, best, tag, label, label_names)


def renumber(labels: np.ndarray, label_names: list[str], classes: list[str]) -> np.ndarray:
    """Return ``labels``, places in a corpus' ``label_names``, as places in a model's ``classes``, by name.

    The two may list the same classes in another order. -1 stays -1 (nobody said); a class that the model lacks is -2.
    """
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(name, -2) for name in label_names] + [-1])[labels]


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Parts of documents as pyarrow arrays, to be picked by number."""

    tags: object
    votes: object
    runners_up: object
    runner_up_votes: object


@functools.lru_cache(maxsize=8)
def _pieces(classes: tuple[str, ...], trees: int | None) -> _Pieces:
    if trees:
        votes = [_json({"votes": k, "trees": trees, "confidence": k / trees}) for k in range(trees + 1)]
        runner_up_votes = [""] + [_json({"runner_up_votes": k}) for k in range(1, trees + 1)]
    else:
        votes = [_json({"confidence": k / PROBABILITY_STEPS}) for k in range(PROBABILITY_STEPS + 1)]
        runner_up_votes = [""] * (PROBABILITY_STEPS + 1)
    return _Pieces(
        tags=_texts([_json({"tag": name}) for name in classes]),
        votes=_texts(votes),
        runners_up=_texts([_json({"runner_up": name}) for name in classes] + [""]),
        runner_up_votes=_texts(runner_up_votes),
    )


def _json(fields: dict) -> str:
    """Return the fields as they stand inside a JSON object, after a comma."""
    return "," + json.dumps(fields, separators=(",", ":"))[1:-1]


def _text(text: str):
    import pyarrow

    return pyarrow.scalar(text, pyarrow.large_string())


def _texts(texts: list[str]):
    import pyarrow

    return pyarrow.array(texts, pyarrow.large_string())


def _pick(pieces, numbers: np.ndarray):
    import pyarrow

    return pieces.take(pyarrow.array(numbers))


def _joined(numbers: np.ndarray):
    """Return each row of ``numbers`` (n, k) int8 as text, with commas between."""
    import pyarrow
    import pyarrow.compute

    known = pyarrow.array([str(number) for number in range(-128, 128)])
    texts = known.take(pyarrow.array(numbers.ravel().astype(np.int16) + 128))
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * numbers.shape[1]
    rows = pyarrow.ListArray.from_arrays(pyarrow.array(ends), texts)
    return pyarrow.compute.binary_join(rows, ",").cast(pyarrow.large_string())


def _bytes(lines) -> bytes:
    """Return the strings of a large_string array one after another."""
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return data[int(ends[0]) : int(ends[-1])].to_pybytes() if len(lines) else b""


def _known_labels(labels: np.ndarray | None, label_names: list[str] | None, images: int) -> np.ndarray:
    if labels is None:
        return np.full(images, -1, np.int32)
    if len(labels) and labels.max() >= len(label_names or []):
        raise TinyTagsError(
            f"label {labels.max()} of an image is none of the corpus' {len(label_names or [])} classes"
        )
    return np.maximum(labels, -1)


def _counts(
    run: Run, best: Winners, tag: np.ndarray, label: np.ndarray, label_names: list[str] | None
) -> dict:
    right = renumber(label, label_names or [], run.classes) == tag
    counts = {
        "images": len(best),
        "tagged": len(tag),
        "dropped": len(best) - len(tag),
        "labelled": int((label >= 0).sum()),
        "right": int(right.sum()),
        "tags": dict(zip(run.classes, np.bincount(tag, minlength=len(run.classes)).tolist(), strict=True)),
    }
    if run.trees:
        counts["votes"] = np.bincount(best.votes, minlength=run.trees + 1).tolist()
    return counts
