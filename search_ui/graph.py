"""The relations of an image as a small graph: first classes left, second classes right, a line with its name between."""

from collections.abc import Iterable
from typing import TypedDict

from search_ui.api_annotations import ImageRelation

MOST = 12  # classes on a side; with more, lines lie on each other
# Pixels: between classes, between the sides, and of a character at most.
ROW, BETWEEN, CHARACTER = 44, 190, 8
LONGEST = 24  # characters of a name


class Node(TypedDict):
    """A class: its name, shortened, and where its text begins or ends."""

    name: str
    x: int
    y: int


class Edge(TypedDict):
    """A line, and its name at a point of it."""

    name: str
    x1: int
    y1: int
    x2: int
    y2: int
    x: int
    y: int


class Graph(TypedDict):
    """A drawing of ``width`` by ``height``."""

    width: int
    height: int
    left: list[Node]
    right: list[Node]
    edges: list[Edge]


def draw(relations: Iterable[ImageRelation]) -> Graph | None:
    """Return the graph of relations; None without any, and with too many classes on a side."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for row in relations:
        names = pairs.setdefault((row["class1"], row["class2"]), [])
        if row["relation"] not in names:
            names.append(row["relation"])
    left, right = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    if not pairs or max(len(left), len(right)) > MOST:
        return None
    start = 16 + CHARACTER * max(len(_short(name)) for name in left)
    end = start + BETWEEN
    width = end + 16 + CHARACTER * max(len(_short(name)) for name in right)
    height = ROW * max(len(left), len(right)) + 16

    def places(names: list[str]) -> dict[str, int]:
        return {name: round(height * (n + 0.5) / len(names)) for n, name in enumerate(names)}

    at_left, at_right = places(left), places(right)
    edges: list[Edge] = []
    for number, ((first, second), names) in enumerate(pairs.items()):
        x1, x2, y1, y2 = start, end, at_left[first], at_right[second]
        along = (
            (0.5, 0.32, 0.68)[number % 3] if len(pairs) > 1 else 0.5
        )  # so that names on crossing lines stay apart
        edges.append(
            {"name": ", ".join(names), "x1": x1, "y1": y1, "x2": x2, "y2": y2,
             "x": round(x1 + (x2 - x1) * along), "y": round(y1 + (y2 - y1) * along) - 5}
        )  # fmt: skip
    return {
        "width": width,
        "height": height,
        "left": [{"name": _short(name), "x": start - 8, "y": y} for name, y in at_left.items()],
        "right": [{"name": _short(name), "x": end + 8, "y": y} for name, y in at_right.items()],
        "edges": edges,
    }


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
