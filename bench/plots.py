"""Draws what a bench measured, as small SVG files."""

from pathlib import Path

from bench.harness import number
from conf.wording import counted

MOST_BYTES = 60_000
COLOURS = ("#1f6feb", "#d9822b", "#3a8f4d", "#a0457e", "#6b7280", "#b8a12c", "#3aa6a6", "#8a5a44")
FLOORS = ("kernel/read", "ingest/copy", "hdfs/ingest", "hdfs/tag", "index/bare")


def draw(results: dict, folder: Path) -> list[Path]:
    """Draw the plots that the results have figures for; return the files."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none", "svg.hashsalt": "tinytags", "font.size": 9, "axes.spines.top": False,
            "axes.spines.right": False, "legend.frameon": False, "figure.facecolor": "white",
        }
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tables = {table["name"]: table for table in results["tables"]}
    drawn = []
    for name, figure in (
        ("ratios", _ratios(results["rows"])),
        ("kernel", _kernel(results["rows"])),
        ("growth", _growth(tables.get("growth"))),
        ("whole", _whole(tables.get("whole"))),
    ):
        if figure is not None:
            drawn.append(_save(figure, folder / f"{name}.svg"))
    return drawn


def _save(figure, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path.name} takes {size:,} bytes"
    return path


def _ratios(rows: list[dict]):
    """Bars: how near we come to each floor, and how many times as fast we are as each other way."""
    from matplotlib import pyplot

    ratios = [row for row in rows if row["figure"] == "ratio" and row["target"]]
    groups = [
        [row for row in ratios if row["name"] in FLOORS],
        [row for row in ratios if row["name"] not in FLOORS],
    ]
    if not all(groups):
        return None
    heights = [len(group) + 1 for group in groups]
    figure, axes = pyplot.subplots(
        2, 1, figsize=(9, 0.42 * sum(heights) + 1), height_ratios=heights, layout="constrained"
    )
    for axis, group, title in zip(axes, groups, ("of the floor", "times as fast"), strict=True):
        places, values = range(len(group)), [row["value"] for row in group]
        axis.barh(places, values, color=COLOURS[0], height=0.6)
        spread = [
            [row["value"] - row["least"] for row in group],
            [row["most"] - row["value"] for row in group],
        ]
        axis.errorbar(values, places, xerr=spread, fmt="none", ecolor="black", capsize=2)
        axis.plot(
            [row["target"] for row in group], places, "|", color=COLOURS[1], markersize=16, markeredgewidth=2
        )
        axis.set_yticks(
            places,
            [
                f"{row['name'].replace('hdfs/', 'hdfs ').split('/')[0]}: {row['against']}\n{number(row['value'], 'x')}"
                for row in group
            ],
        )
        axis.invert_yaxis()
        axis.set_xlabel(f"{title} (orange: to reach)")
    axes[0].axvline(1, color="grey", linewidth=0.8)
    axes[1].set_xscale("log")
    axes[1].set_xlim(left=0.5)
    return figure


def _kernel(rows: list[dict]):
    from matplotlib import pyplot

    curve = [row for row in rows if row["name"].startswith("kernel/curve")]
    if not curve:
        return None
    figure, axis = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
    for colour, depth in zip(COLOURS, sorted({row["about"]["depth"] for row in curve}), strict=False):
        points = [
            (row["about"]["trees"], row["ours"]["rate"]) for row in curve if row["about"]["depth"] == depth
        ]
        axis.plot(*zip(*points, strict=True), "o-", color=colour, label=f"depth {depth}")
    floor = max(row["theirs"]["rate"] for row in curve)
    axis.axhline(floor, color="grey", linestyle="--", label="reading every byte once")
    axis.set(xscale="log", yscale="log", xlabel="trees", ylabel="images/s, one core")
    trees = sorted({row["about"]["trees"] for row in curve})
    axis.set_xticks(trees, [f"{count:,}" for count in trees])
    axis.legend()
    return figure


def _growth(table: dict | None):
    from matplotlib import pyplot

    if table is None:
        return None
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    usual = max((row["partition"] for row in rows if row["step"] == "index"), default=None)
    steps = sorted({(row["step"], row["cores"]) for row in rows})
    for step, cores in steps:
        points = [
            (row["images"], row["seconds"])
            for row in rows
            if (row["step"], row["cores"], row["partition"]) == (step, cores, usual)
        ]
        style = ":" if cores == 1 and (step, max(row["cores"] for row in rows)) in steps else "-"
        colour = COLOURS[["ingest", "tag", "index"].index(step)]
        axis.plot(
            *zip(*sorted(points), strict=True),
            f"o{style}",
            color=colour,
            label=f"{step}, {counted(cores, 'core')}",
        )
    axis.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
    axis.legend()
    return figure


def _whole(table: dict | None):
    from matplotlib import pyplot

    if table is None:
        return None
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    steps = list(dict.fromkeys(row["step"] for row in rows))
    figure, axes = pyplot.subplots(
        len(steps), 1, figsize=(8, 1.5 * len(steps)), layout="constrained", sharex=True
    )
    for axis, step in zip(axes, steps, strict=True):
        left = 0.0
        for colour, row in zip(COLOURS * 2, (row for row in rows if row["step"] == step), strict=False):
            axis.barh(
                [step],
                [row["seconds"]],
                left=left,
                color=colour,
                label=f"{row['part']} {row['seconds']:.2f} s",
            )
            left += row["seconds"]
        axis.legend(ncols=3, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    axes[-1].set_xlabel("seconds")
    return figure
