"""Derives from measured rates the time for all of 80 Million Tiny Images: on one machine, on ten, on forty."""

from bench import report
from conf.wording import duration
from ingest.image import IMAGE_BYTES

IMAGES = 79_302_017
REPLICAS = 3
CLUSTERS = ((10, 1), (10, 10), (40, 1), (40, 10))  # nodes, Gbit/s of each


def section(rows: dict[str, dict]) -> str:
    """Return the derived section of docs/scale.md: the hours and the bytes. ``rows`` are those of both benches, by name."""
    files, lines = gigabytes(rows), _lines("one machine, local store", one_machine(rows))
    for nodes, gbits in CLUSTERS:
        lines += _lines(f"{nodes} nodes, {gbits} Gbit/s, HDFS", cluster(rows, nodes, gbits))
    total = sum(files.values())
    files |= {
        "all, on one machine": total,
        "all, on a cluster": REPLICAS * total - (REPLICAS - 1) * files["index"],
    }
    return "\n\n".join(
        [
            "A step takes as long as the slowest of its resources, if all are used at once:",
            report.markdown(("on", "step", "time", "resources, slowest first"), lines),
            report.markdown(("file", "GB"), [(name, f"{size:,.1f}") for name, size in files.items()]),
        ]
    )


def gigabytes(rows: dict[str, dict]) -> dict[str, float]:
    """Return the sizes of all files; on a cluster HDFS keeps three replicas of each, but not of the index."""
    of_image, documents = rows["ingest/bytes"]["value"], rows["full/kept"]["value"]
    of_document = {"tags": rows["full/line"]["value"], "index": rows["full/index-size"]["value"]}
    sizes = {"dump": IMAGE_BYTES, "corpus": of_image} | {
        file: documents * n for file, n in of_document.items()
    }
    return {file: IMAGES * size / 1e9 for file, size in sizes.items()}


def one_machine(rows: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Return the seconds of each step on one machine with a local store; its rates include its disk."""
    documents = IMAGES * rows["full/kept"]["value"]
    amounts = {"whole/ingest": IMAGES, "whole/tag": IMAGES, "full/index": documents}
    return {name.split("/")[1]: {"machine": amount / rows[name]["value"]} for name, amount in amounts.items()}


def cluster(rows: dict[str, dict], nodes: int, gbits: float) -> dict[str, dict[str, float]]:
    """Return the seconds of each resource in each step on a cluster of such machines, with a shard of the index on each.

    Spark doesn't know where a block of HDFS is, so all but 3/nodes of what is read comes from another node; of what is
    written, two of three replicas go to other nodes, and cost these as much as moving so many bytes does. Networks send
    and receive at once, and all nodes alike. Files that are read are no longer in the memory of the nodes.
    """
    files, link = gigabytes(rows), gbits / 8
    moving = rows["hdfs/ingest"]["theirs"]["rate"] * (files["dump"] + files["corpus"]) / IMAGES
    disk = rows["ingest/copy-to-disk"]["theirs"]["rate"] * files["dump"] / IMAGES
    times = {}
    for step, read, written in (("ingest", "dump", "corpus"), ("tag", "corpus", "tags")):
        replicas = files[written] * (REPLICAS - 1)
        times[step] = {
            "processors": (IMAGES / rows[f"hdfs/{step}"]["ours"]["rate"] + replicas / moving) / nodes,
            "network": (files[read] * (1 - REPLICAS / nodes) + replicas) / link / nodes,
            "disks": (files[read] + files[written] * REPLICAS) / disk / nodes,
        }
    # The one indexer reads all lines, and sends each to a shard that mostly is on another node.
    times["index"] = {
        "processors": one_machine(rows)["index"]["machine"] / nodes,
        "the one that sends": files["tags"] * 1e3 / rows["whole/read-tags"]["value"],
        "its network": files["tags"] / link,
    }
    return times


def _lines(kind: str, times: dict[str, dict[str, float]]) -> list[tuple]:
    """Return the lines of the table for one kind of machines."""
    lines = []
    for step, resources in times.items():
        ordered = sorted(resources.items(), key=lambda item: -item[1])
        words = ", ".join(f"{name} {duration(seconds)}" for name, seconds in ordered)
        lines.append((kind, step, duration(ordered[0][1]), words))
    total = sum(max(resources.values()) for resources in times.values())
    return [*lines, (kind, "**all**", f"**{duration(total)}**", "")]
