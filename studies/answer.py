"""Answers what a forest gives up against a network, from the models of a store: ``python -m studies.answer --corpus cifar-10``.

Measures accuracy, precision, training and tagging on labelled images, computes the cost of 79.3 million images, and writes the measured
section of docs/forest-or-network.md and its plots.
"""

import ast
import functools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench import machine, report
from bench.place import ROOT
from bench.plots import STYLE
from conf.command import note, run, settings_options
from conf.errors import TinyTagsError
from conf.settings import Settings
from ingest.corpus import Corpus, open_corpus
from jobs.compare_models import check_comparable, compare_models
from jobs.engines import ENGINES
from jobs.tag_images import tag_partition
from storage import layout
from storage.runs import Run
from storage.store import Store, open_store, store_of
from tagging.classics import CLASSICS
from tagging.comparison import SHARES, accuracy_text, fit_text, percent, rate_text, size_text
from tagging.features import FEATURES
from tagging.model import KINDS
from tagging.models import list_models, load_model, read_card

DOCUMENT = ROOT / "docs" / "forest-or-network.md"
RESULTS = ROOT / "studies" / "results" / "answer.json"
PLOTS = ("answer-cost", "answer-precision", "answer-training")
# Images of 80 Million Tiny Images.
DUMP_IMAGES = 79_302_017
# Modules that only models of some kind need; the others are needed whatever the model.
OF_ONE_KIND = ("tagging.forest", "tagging.features", "tagging.featured", "tagging.linear", "tagging.network")
# A first tagging that takes longer than this is measured itself: loading the model is a small part of it.
WARM_SECONDS = 5.0
# Tagging is repeated for this long, in processor time: a forest tags a partition in a twentieth of a second.
LEAST_SECONDS = 0.5


@click.command("answer")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--corpus", required=True, metavar="LABELLED", help="The labelled corpus to measure on.")
@click.option(
    "--core-hour", default=0.05, show_default=True, help="Price of an hour of one core, in any currency."
)
@click.option(
    "--gpu-hour", default=2.5, show_default=True, help="Price of an hour of one GPU with its machine."
)
@click.option("--classics", is_flag=True, help="Also a table of scikit-learn's classifiers.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Of scikit-learn's classifiers only this one; repeatable."
)
@click.option("--images", default=5_000, show_default=True, help="Training images of these classifiers.")
@click.option("--dry-run", is_flag=True, help="Print the section and write nothing.")
@settings_options("store", "webhdfs", "master")
def main(models, corpus, core_hour, gpu_hour, classics, only, images, dry_run, settings):
    """Compare a forest with a network: accuracy, precision at equal share kept, time, cost, size and lines of code.

    Measures the named models of the store, by default all that know the corpus' classes, and writes
    docs/forest-or-network.md and its plots.
    """
    result = measure(settings, corpus, models, only if only or not classics else None, images)
    text = section(result, core_hour, gpu_hour)
    if dry_run:
        click.echo(text)
        return
    report.write_json(RESULTS, result)
    draw(result, DOCUMENT.parent / "plots", core_hour)
    report.write_section(DOCUMENT, "answer", text)
    note(f"answer: tables and plots in {DOCUMENT}")


def measure(
    settings: Settings,
    corpus: str,
    models: Sequence[str] = (),
    classics: Sequence[str] | None = (),
    images: int = 5_000,
) -> dict[str, Any]:
    """Return the rows of ``models``, the most accurate first, and of scikit-learn's ``classics`` (None: all); fit for JSON."""
    store = store_of(settings)
    source = open_corpus(store, corpus)
    names = list(models) or comparable_models(store, source)
    if not names:
        raise TinyTagsError(
            f"no model of the store knows the classes of corpus {corpus!r}; train some, like a forest and a network"
        )
    compared = compare_models(settings, corpus, names)
    for row in compared["rows"]:
        note(f"answer: tagging with {row['name']}")
        row["tagged_per_processor_second"] = round(measure_tagging(store, source, row["name"]), 1)
        row["lines"] = lines_of_code(read_card(store, row["name"]))
    compared["rows"].sort(key=lambda row: -row["accuracy"])
    wanted = classics is None or len(classics) > 0
    baselines = compare_models(settings, corpus, (), classics, images)["rows"] if wanted else []
    return compared | {
        "classics": sorted(baselines, key=lambda row: -row["accuracy"]),
        "machine": machine.describe(),
        "gpu": gpu_name(),
    }


def comparable_models(store: Store, corpus: Corpus) -> list[str]:
    """Return the models of the store that can be measured on a corpus."""
    names = []
    for name in list_models(store):
        try:
            check_comparable(name, read_card(store, name), corpus)
        except TinyTagsError as error:
            note(f"answer: without {name}: {error}")
        else:
            names.append(name)
    return names


def measure_tagging(store: Store, corpus: Corpus, model: str) -> float:
    """Return how many images `tinytags tag` tags in a second of processor time: read, voted on, written as documents.

    One process tags the last partition of the corpus, once to warm up; the run is written to a temporary folder.
    """
    tagger = load_model(store, model)
    partition = corpus.partitions - 1
    with tempfile.TemporaryDirectory(prefix="tinytags-answer-") as folder:
        here = open_store(f"{folder}/store")
        for path in (layout.corpus_images(corpus.name, partition), layout.corpus_manifest(corpus.name)):
            here.write_bytes(path, store.read_bytes(path))
        for path in (*tagger.files(), layout.CARD):
            file = layout.model_file(model, path)
            here.write_bytes(file, store.read_bytes(file))
        made = Run(
            corpus.name, corpus.hash, model, tagger.hash, 0.4, list(tagger.classes), corpus.images, corpus.partitions,
            tagger.voters,
        )  # fmt: skip
        tag = functools.partial(tag_partition, here, corpus, made, partition, kind=type(tagger))
        began = time.process_time()
        images = tag()["images"]
        first = time.process_time() - began
        if first > WARM_SECONDS:
            return float(images / first)
        began, images = time.process_time(), 0
        while time.process_time() - began < LEAST_SECONDS:
            images += tag()["images"]
        return images / (time.process_time() - began)


def lines_of_code(card: dict[str, Any]) -> int:
    """Return the lines of our code that only such models need: their kind, their features, what trains them."""
    parameters = card.get("parameters") or {}
    trainers = ENGINES.get(card.get("engine") or "", {})
    head = parameters.get("head") or next(iter(trainers), card["kind"])
    places = [KINDS[kind] for kind in (card["kind"], head) if kind in KINDS]
    if head in trainers:
        places.append(trainers[head].function)
    if parameters.get("features"):
        places.append(FEATURES[parameters["features"].partition("-")[0]])
    pending, files = [place.partition(":")[0] for place in places], set()
    while pending:
        file = module_file(pending.pop())
        if file and file not in files:
            files.add(file)
            pending += [name for name in imported_modules(file) if name.startswith(OF_ONE_KIND)]
    return sum(count_lines(file) for file in files)


def module_file(name: str) -> Path | None:
    """Return the file of one of our modules; None for what isn't a module, such as a class in one."""
    path = ROOT / Path(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def imported_modules(file: Path) -> set[str]:
    """Return the names that a file imports, anywhere in it, as ``module`` and as ``module.name``."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def count_lines(file: Path) -> int:
    """Return the lines of a file that are neither blank nor comments."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def gpu_name() -> str | None:
    """Return the name of the machine's first GPU, or None."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return names[0].strip() if names else None


def money(amount: float) -> str:
    """Return an amount of the currency of the prices: ``12.30``, ``0.0024``."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"


def core_hours(row: dict[str, Any], images: int = DUMP_IMAGES) -> float:
    """Return the hours of one core in which a model tags ``images``."""
    return float(images / row["tagged_per_processor_second"] / 3600)


def section(result: dict[str, Any], core_hour: float, gpu_hour: float) -> str:
    """Return the measured section of the document."""
    rows = result["rows"]
    head = (
        f"Measured on {result['images']:,} images of {result['corpus']} that no model was trained on, on {machine.words(result['machine'])}. "
        f"The load was {result['machine']['load']:g}. GPU at hand: {result['gpu'] or 'none'}. Prices: {core_hour:g} for an hour of a core, {gpu_hour:g} for an hour of a GPU."
    )
    parts = [head, answer(rows, core_hour)]
    parts += [f"![{name}](plots/{name}.svg)" for name in PLOTS[:1]]
    parts.append("### How good, and how fast")
    columns = (
        "model",
        "trained with",
        "accuracy (95 %)",
        "training",
        "votes, images/s",
        "tagged, images/s",
        "size",
        "lines of code",
    )
    parts.append(
        report.markdown(
            columns,
            [
                (f"`{row['name']}`", trained_with(row), accuracy_text(row).replace("+-", "±"), fit_text(row),
                 rate_text(row["images_per_processor_second"]), rate_text(row["tagged_per_processor_second"]),
                 size_text(row["bytes"]), f"{row['lines']:,}")
                for row in rows
            ],
        )
    )  # fmt: skip
    parts.append(
        "Training is processor seconds (cpu-s) where the card has them, else seconds by the clock. Rates are images in a second of one core: votes alone, "
        "and `tinytags tag` as a whole, which reads the images and writes documents. Lines of code are ours that only such a model "
        "needs, without blank lines and comments."
    )
    parts.append("### Precision at an equal share kept")
    parts.append(
        report.markdown(
            ("model", *(f"best {percent(share, 0)}" for share in SHARES), "all", ">= 0.4: precision / kept"),
            [
                (f"`{row['name']}`", *(percent(row["at_share"][str(share)]) for share in SHARES), percent(row["accuracy"]),
                 f"{percent(row['at_confidence']['0.4']['precision'])} / {percent(row['at_confidence']['0.4']['kept'])}")
                for row in rows
            ],
        )
    )  # fmt: skip
    parts.append(f"![{PLOTS[1]}](plots/{PLOTS[1]}.svg)")
    parts.append(f"### What {DUMP_IMAGES / 1e6:.1f} million images cost")
    parts.append(
        report.markdown(
            ("model", "core-hours", "cost of tagging", "a GPU is cheaper from", "right tags at 40 % of the images kept, millions"),
            [
                (f"`{row['name']}`", money(core_hours(row)), money(core_hours(row) * core_hour),
                 f"{rate_text(row['tagged_per_processor_second'] * gpu_hour / core_hour)} images/s",
                 f"{0.4 * DUMP_IMAGES / 1e6 * share_precision(row, 0.4):.1f}")
                for row in rows
            ],
        )
    )  # fmt: skip
    parts.append(
        "The last column supposes images like those of the corpus. Indexing costs the same for all: it depends on the tags that are kept."
    )
    parts.append(f"![{PLOTS[2]}](plots/{PLOTS[2]}.svg)")
    if result["classics"]:
        parts.append("### Classifiers of scikit-learn, on pixels")
        parts.append(
            report.markdown(
                ("classifier", "set-up", "chosen", "accuracy (95 %)", "best 30 %", "fit", "images/s", "size"),
                [
                    (row["title"], CLASSICS[row["name"]].setup, ", ".join(f"{k} {v}" for k, v in row["parameters"].items() if k != "seed"),
                     accuracy_text(row).replace("+-", "±"), percent(row["at_share"]["0.3"]), fit_text(row),
                     rate_text(row["images_per_processor_second"]), size_text(row["bytes"]))
                    for row in result["classics"]
                ],
            )
        )  # fmt: skip
        parts.append(f"Fitted on {result['classics'][0]['trained_images']:,} images, on one core.")
    return "\n\n".join(parts)


def trained_with(row: dict[str, Any]) -> str:
    """Return in a few words what a model was trained with."""
    images = f"{row['trained_images']:,} images" if row["trained_images"] else "unknown images"
    return f"{row['engine'] or 'unknown'}, {row['features']}, {images}"


def share_precision(row: dict[str, Any], share: float) -> float:
    """Return the precision at a share kept, between those of `SHARES` by a straight line."""
    ordered = sorted(SHARES)
    return float(np.interp(share, ordered, [row["at_share"][str(one)] or 0.0 for one in ordered]))


def is_plain_forest(row: dict[str, Any]) -> bool:
    """Return whether a row is of a forest on pixels, as in the first TinyTags."""
    return row["kind"] == "forest" and row["features"] == "pixels"


def answer(rows: Sequence[dict[str, Any]], core_hour: float) -> str:
    """Return what a forest on pixels gives up against each of the others, as a paragraph for each."""
    forests = [row for row in rows if is_plain_forest(row)]
    others = [row for row in rows if not is_plain_forest(row)]
    if not forests or not others:
        return "There is no forest on pixels and another model to compare it with."
    lines = []
    for forest in forests:
        lines.append(f"\n**`{forest['name']}`** is right in {percent(forest['accuracy'])} of the images and tags {DUMP_IMAGES / 1e6:.1f} million for {money(core_hours(forest) * core_hour)}.\n")  # fmt: skip
        for row in others:
            points = 100 * (row["accuracy"] - forest["accuracy"])
            best = 100 * ((row["at_share"]["0.3"] or 0) - (forest["at_share"]["0.3"] or 0))
            times = core_hours(row) / core_hours(forest)
            lines.append(
                f"- Against `{row['name']}` it gives up {points:.1f} points of accuracy, and {best:.1f} points of precision where "
                f"30 % of the images are kept; `{row['name']}` costs {times:,.0f} times as much to tag with: {money(core_hours(row) * core_hour)}."
            )
    return "\n".join(lines).strip()


def draw(result: dict[str, Any], folder: Path, core_hour: float) -> list[Path]:
    """Draw the plots as SVG files; return them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg" for name in PLOTS]
    with matplotlib.rc_context(STYLE):
        for plot, path in zip((plot_cost, plot_precision, plot_training), paths, strict=True):
            figure, axis = plt.subplots(figsize=(6.5, 3.6))
            plot(result["rows"], axis, core_hour)
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)
    return paths


def plot_cost(rows: Sequence[dict[str, Any]], axis: Any, core_hour: float) -> None:
    """Draw accuracy, with its interval, over the cost of tagging 79.3 million images."""
    for row in rows:
        cost, (low, high) = core_hours(row) * core_hour, row["interval"]
        axis.errorbar(cost, row["accuracy"], [[row["accuracy"] - low], [high - row["accuracy"]]], fmt="o")
        axis.annotate(
            row["name"], (cost, row["accuracy"]), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axis.set(
        xscale="log", xlabel=f"cost of {DUMP_IMAGES / 1e6:.1f} million images at {core_hour:g} a core-hour", ylabel="accuracy"
    )  # fmt: skip


def plot_precision(rows: Sequence[dict[str, Any]], axis: Any, _core_hour: float = 0.0) -> None:
    """Draw precision over the share of images that is kept."""
    shares = (1.0, *SHARES)
    for row in rows:
        axis.plot(shares, [row["accuracy"], *row["at_share"].values()], "o-", markersize=3, label=row["name"])
    axis.set(xlabel="share of the images that is kept, the most confident first", ylabel="precision")
    axis.legend(fontsize=8)


def plot_training(rows: Sequence[dict[str, Any]], axis: Any, _core_hour: float = 0.0) -> None:
    """Draw accuracy over the time of the training."""
    for row in rows:
        seconds = row["fit_processor_seconds"] or row["fit_seconds"]
        if seconds:
            axis.plot(seconds, row["accuracy"], "o")
            axis.annotate(
                row["name"], (seconds, row["accuracy"]), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
    axis.set(xscale="log", xlabel="training, seconds (of the processor where known)", ylabel="accuracy")


if __name__ == "__main__":
    run(main)
