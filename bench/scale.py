"""Derives from measured rates the time for all of 80 Million Tiny Images: on one machine, on ten, on forty.

``python -m bench.scale [FOLDER]`` writes docs/scale.md again from the results of `bench` and `bench.full`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import click

from bench import machine, report
from bench.place import ROOT
from conf.command import note, run
from conf.errors import TinyTagsError
from ingest.image import IMAGE_BYTES

DOCUMENT = ROOT / "docs" / "scale.md"
IMAGES = 79_302_017
REPLICAS = 3
CLUSTERS = ((10, 1), (10, 10), (40, 1), (40, 10))  # nodes, Gbit/s of each


@dataclass(frozen=True)
class Rates:
    """The measured rates of one machine; bytes and seconds."""

    ingest: float  # images/s, local
    tag: float
    ingest_hdfs: float  # images/s, with DataNode, NameNode and job on the one machine
    tag_hdfs: float
    replicate: float  # bytes/s that HDFS moves on one machine
    disk: float  # bytes/s written, until they are on the disk
    index: float  # documents/s
    read_tags: float  # bytes/s that the one indexer reads, checks and cuts for all shards
    kept: float  # documents an image
    line: float  # bytes of a document's line
    parquet: float  # bytes of an image in Parquet
    indexed: float  # bytes of a document in the index
    worker: float  # bytes of memory
    cores: int
    prepare: float  # seconds
    fit: float


def rates(bench: dict, full: dict) -> Rates:
    """Return the rates in the results of both benches; raises `TinyTagsError` where one is missing."""
    rows = {row["name"]: row for row in bench["rows"]}
    tables = {table["name"]: table["rows"] for table in bench["tables"]}
    try:
        whole = {(step, part): seconds for step, part, seconds, *_ in tables["whole"]}
        grown = next(row[1] for row in tables["growth"][::-1] if row[0] == "index")
        index = full["index"]
        return Rates(
            ingest=full["images"]["ingest"]["images_per_second"],
            tag=full["images"]["tag"]["images_per_second"],
            ingest_hdfs=rows["hdfs/ingest"]["ours"]["rate"],
            tag_hdfs=rows["hdfs/tag"]["ours"]["rate"],
            replicate=rows["hdfs/ingest"]["theirs"]["rate"] * (IMAGE_BYTES + bench["parquet_bytes"]),
            disk=rows["ingest/copy-to-disk"]["theirs"]["rate"] * IMAGE_BYTES,
            index=index["documents_per_second"],
            read_tags=grown * index["kept"] * index["line_bytes"] / whole["index", "read tags, hash"],
            kept=index["kept"],
            line=index["line_bytes"],
            parquet=bench["parquet_bytes"],
            indexed=index["index_bytes"] / index["documents"],
            worker=max(rows[f"growth/{step}-memory"]["value"] for step in ("ingest", "tag")) * 1e6,
            cores=bench["machine"]["cores"],
            prepare=rows["train/prepare"]["ours"]["seconds"],
            fit=rows["train/prepare"]["theirs"]["seconds"],
        )
    except (KeyError, StopIteration) as error:
        message = f"the results lack {error}; run all of `make bench` first, then `make bench-full`"
        raise TinyTagsError(message) from None


@dataclass(frozen=True)
class Step:
    """One step on one kind of cluster: the seconds of each resource alone, with the arithmetic as text."""

    name: str
    seconds: dict[str, tuple[float, str]]
    moved: float = 0  # bytes over the network

    @property
    def wall(self) -> str:
        """The resource that takes longest."""
        return max(self.seconds, key=lambda name: self.seconds[name][0])

    @property
    def hours(self) -> float:
        return self.seconds[self.wall][0] / 3600


def one_machine(r: Rates) -> list[Step]:
    """Return the steps on one machine with a local store; its rates include its disk."""
    return [
        Step("ingest", {"machine": _part(IMAGES, r.ingest, "images")}),
        Step("tag", {"machine": _part(IMAGES, r.tag, "images")}),
        Step("index", {"machine": _part(IMAGES * r.kept, r.index, "documents")}),
    ]


def cluster(r: Rates, nodes: int, gbits: float) -> list[Step]:
    """Return the steps on a cluster of such machines with HDFS, 3 replicas, and a shard of the index on each.

    Spark doesn't know where a block is, so all but 3/nodes of what is read comes from another node; of what is written,
    two of three replicas go to other nodes, and cost these as much as moving so many bytes does. Networks send and
    receive at once, and all nodes alike. Files that are read are no longer in the memory of the nodes.
    """
    network = nodes * gbits * 1e9 / 8
    remote = 1 - REPLICAS / nodes
    documents = IMAGES * r.kept
    dump, parquet, lines = IMAGES * IMAGE_BYTES, IMAGES * r.parquet, documents * r.line

    def job(name: str, rate: float, read: float, written: float) -> Step:
        moved = read * remote + written * (REPLICAS - 1)
        replicas = _part(written * (REPLICAS - 1), r.replicate * nodes, "bytes")
        seconds = {
            "processors": _sum(_part(IMAGES, rate * nodes, "images"), replicas),
            "network": _part(moved, network, "bytes"),
            "disks": _part(read + written * REPLICAS, r.disk * nodes, "bytes"),
        }
        return Step(name, seconds, moved)

    # The one indexer reads all lines, and sends each to a shard that mostly is on another node.
    index = {
        "processors": _part(documents, r.index * nodes, "documents"),
        "the one that sends": _part(lines, r.read_tags, "bytes"),
        "its network": _part(lines, gbits * 1e9 / 8, "bytes"),
    }
    return [
        job("ingest", r.ingest_hdfs, dump, parquet),
        job("tag", r.tag_hdfs, parquet, lines),
        Step("index", index, 2 * lines),
    ]


MOVES = {
    ("ingest", "processors"): "more cores",
    ("tag", "processors"): "more cores; a forest of fewer trees does not help, reading is the larger part",
    ("index", "processors"): "more nodes, a shard each",
    ("ingest", "network"): "two replicas of the corpus instead of three: it can be made again from the dump",
    ("tag", "network"): "tasks where the blocks are, as Spark's own readers have it",
    ("ingest", "disks"): "more disks a node",
    ("tag", "disks"): "more disks a node",
    ("index", "the one that sends"): "several indexers, each with its own partitions",
    ("index", "its network"): "several indexers, each on its own node",
    ("ingest", "machine"): "a faster disk; then more cores",
    ("tag", "machine"): "a faster disk; then more cores",
    ("index", "machine"): "more cores: Lucene works on every document",
}


def _part(amount: float, rate: float, unit: str) -> tuple[float, str]:
    return amount / rate, f"{_amount(amount, unit)} / {_amount(rate, unit)} a second"


def _sum(*parts: tuple[float, str]) -> tuple[float, str]:
    return sum(seconds for seconds, _ in parts), " + ".join(words for _, words in parts)


def _amount(value: float, unit: str) -> str:
    return f"{value / 1e9:,.3g} GB" if unit == "bytes" else f"{value:,.0f} {unit}"


def section(bench: dict, full: dict) -> str:
    """Return the derived section of docs/scale.md: the rates, and the hours and bytes that follow, with the arithmetic."""
    r, index = rates(bench, full), full["index"]
    documents = IMAGES * r.kept
    kinds = {"one machine, local store": one_machine(r)}
    kinds |= {f"{nodes} nodes, {gbits} Gbit/s, HDFS": cluster(r, nodes, gbits) for nodes, gbits in CLUSTERS}
    hours, arithmetic = [], []
    for kind, steps in kinds.items():
        for step in steps:
            gigabytes, move = f"{step.moved / 1e9:,.0f} GB", MOVES[step.name, step.wall]
            hours.append((kind, step.name, _hours(step.hours), step.wall, gigabytes, move))
            for resource, (seconds, words) in step.seconds.items():
                arithmetic.append((kind, step.name, resource, words, _hours(seconds / 3600)))
        total, moved = sum(step.hours for step in steps), sum(step.moved for step in steps)
        hours.append((kind, "**all**", f"**{_hours(total)}**", "", f"{moved / 1e9:,.0f} GB", ""))
    dump, parquet = IMAGES * IMAGE_BYTES, IMAGES * r.parquet
    lines, indexed = documents * r.line, documents * r.indexed
    sizes = [
        ("dump", f"{IMAGES:,} images x {IMAGE_BYTES:,} bytes", dump),
        ("corpus", f"{IMAGES:,} images x {r.parquet:,.0f} bytes in Parquet", parquet),
        ("tags", f"{documents:,.0f} documents x {r.line:.0f} bytes", lines),
        ("index", f"{documents:,.0f} documents x {r.indexed:.1f} bytes", indexed),
        ("on one machine", "all of these", dump + parquet + lines + indexed),
        (
            "on a cluster",
            f"{REPLICAS} x (dump, corpus, tags) + index",
            REPLICAS * (dump + parquet + lines) + indexed,
        ),
    ]
    measured = [
        ("ingest, local", f"{r.ingest:,.0f} images/s"),
        ("ingest, HDFS to HDFS, DataNode on the same cores", f"{r.ingest_hdfs:,.0f} images/s"),
        ("tag, local", f"{r.tag:,.0f} images/s"),
        ("tag, HDFS to HDFS, DataNode on the same cores", f"{r.tag_hdfs:,.0f} images/s"),
        ("HdfsCLI moving bytes there and back, all on one machine", f"{r.replicate / 1e6:,.0f} MB/s"),
        ("bytes onto the disk", f"{r.disk / 1e6:,.0f} MB/s"),
        ("index", f"{r.index:,.0f} documents/s"),
        ("reading and checking tags, one core", f"{r.read_tags / 1e6:,.0f} MB/s"),
        ("images with a tag at 40 %", f"{r.kept:.1%}"),
        ("memory of a worker", f"{r.worker / 1e6:,.0f} MB, one a core"),
        ("training: preparing and fitting 50,000 images", f"{r.prepare:.0f} s and {r.fit:.0f} s"),
    ]
    return "\n\n".join(
        [
            f"Measured on {machine.words(bench['machine'])}:",
            report.markdown(("what", "rate"), measured),
            "### Hours",
            report.markdown(
                ("on", "step", "time", "the wall", "over the network", "what would move it"), hours
            ),
            f"Training takes {_hours((r.prepare + r.fit) / 3600)} on one machine, and is done once.",
            "### Disk and memory",
            report.markdown(
                ("what", "arithmetic", "size"), [(*words, f"{size / 1e9:,.1f} GB") for *words, size in sizes]
            ),
            f"Memory: {r.cores} workers of {r.worker / 1e6:,.0f} MB on each node, whatever the size of the corpus; Solr's "
            f"heap of {index['heap']}, of which at most {index['heap_used_bytes'] / 1e6:,.0f} MB were in use with "
            f"{index['documents']:,} documents on one node.",
            "### Arithmetic",
            "A step takes as long as the slowest of its resources, if all are used at once:",
            report.markdown(("on", "step", "resource", "amount / rate", "time"), arithmetic),
        ]
    )


def _hours(hours: float) -> str:
    if hours * 60 < 1.5:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def full_section(full: dict) -> str:
    """Return the measured section of docs/scale.md: the results of `bench.full`."""
    rows = [(row["step"], row["against"], report.figure(row), report.outcome(row)) for row in full["rows"]]
    images = full["images"]
    tenths = [
        (name, *map(report.short, part["parts_per_second"]))
        for name, part in (
            ("ingest, images/s", images["ingest"]),
            ("tag, images/s", images["tag"]),
            ("index, documents/s", full["index"]),
        )
    ]
    return "\n\n".join(
        [
            report.measured_on(full, f"one run of {full['seconds'] / 60:.0f} minutes"),
            report.markdown(("what", "how", "figure", "to reach"), rows),
            "Rates over each tenth of the work, first to last:",
            report.markdown(("step", *map(str, range(1, 11))), tenths),
        ]
    )


def write(folder: Path) -> None:
    """Write both sections of docs/scale.md from the results in ``folder``."""
    full = _read(folder / "scale.json")
    report.write_section(DOCUMENT, "bench-full", full_section(full))
    report.write_section(DOCUMENT, "scale", section(_read(folder / "full.json"), full))
    note(f"bench: measured and derived figures in {DOCUMENT}")


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TinyTagsError(f"{path} does not exist; `make bench` and `make bench-full` write it") from None


@click.command("scale")
@click.argument("folder", default=ROOT / "bench" / "results", type=click.Path(path_type=Path))
def main(folder):
    """Write docs/scale.md again from the results of both benches."""
    write(folder)


if __name__ == "__main__":
    run(main)
