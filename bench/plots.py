"""Draws the plots of docs/performance.md, as small SVG files."""

from pathlib import Path

import pandas

from bench.harness import number
from conf.wording import counted

MOST_BYTES = 60_000
FLOORS = ("kernel/read", "ingest/copy", "hdfs/ingest", "hdfs/tag", "index/bare")
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "tinytags", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "figure.facecolor": "white", "figure.constrained_layout.use": True,
}  # fmt: skip


def draw(results: dict, folder: Path) -> list[Path]:
    """Draw the plots that the results have figures for; return the files."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    frames = {
        table["name"]: pandas.DataFrame(table["rows"], columns=table["columns"])
        for table in results["tables"]
    }
    curve = [row for row in results["rows"] if row["name"].startswith("kernel/curve")]
    ratios = [row for row in results["rows"] if row["figure"] == "ratio" and row["target"]]
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, plot, figures in (
            ("ratios", _ratios, ratios),
            ("kernel", _kernel, curve),
            ("growth", _growth, frames.get("growth", ())),
            ("whole", _whole, frames.get("whole", ())),
        ):
            if len(figures):
                plot(figures)
                paths.append(folder / f"{name}.svg")
                pyplot.savefig(paths[-1], metadata={"Date": None}, bbox_inches="tight")
                pyplot.close()
                size = paths[-1].stat().st_size
                assert size < MOST_BYTES, f"{name}.svg takes {size:,} bytes"
    return paths


def _ratios(rows: list[dict]) -> None:
    """Draw a bar for each floor, and one for each other way."""
    from matplotlib import pyplot

    groups = [[row for row in rows if (row["name"] in FLOORS) == floor] for floor in (True, False)]
    heights = [len(group) + 1 for group in groups]
    _, axes = pyplot.subplots(2, 1, figsize=(9, 0.42 * sum(heights) + 1), height_ratios=heights)
    for axis, group, title in zip(axes, groups, ("of the floor", "times as fast"), strict=True):
        places, values = range(len(group)), [row["value"] for row in group]
        spread = [
            [row["value"] - row["least"] for row in group],
            [row["most"] - row["value"] for row in group],
        ]
        axis.barh(places, values, xerr=spread, height=0.6, capsize=2)
        axis.plot([row["target"] for row in group], places, "|", color="C1", markersize=16, markeredgewidth=2)
        steps = [row["name"].replace("hdfs/", "hdfs ").split("/")[0] for row in group]
        labels = [
            f"{step}: {row['against']}\n{number(row['value'], 'x')}"
            for step, row in zip(steps, group, strict=True)
        ]
        axis.set_yticks(places, labels)
        axis.invert_yaxis()
        axis.set_xlabel(f"{title} (orange: to reach)")
    axes[0].axvline(1, color="grey", linewidth=0.8)
    axes[1].set(xscale="log", xlim=(0.5, None))


def _kernel(rows: list[dict]) -> None:
    frame = pandas.DataFrame([row["about"] | {"rate": row["ours"]["rate"]} for row in rows])
    frame = frame.pivot(index="trees", columns="depth", values="rate").add_prefix("depth ")
    axis = frame.plot(style="o-", logx=True, logy=True, figsize=(6, 3.4), ylabel="images/s, one core")
    floor = max(row["theirs"]["rate"] for row in rows)
    axis.axhline(floor, color="grey", linestyle="--", label="reading every byte once")
    axis.set_xticks(frame.index, [f"{trees:,}" for trees in frame.index])
    axis.legend()


def _growth(frame: pandas.DataFrame) -> None:
    frame = frame[frame.partition == frame[frame.step == "index"].partition.max()]
    names = [f"{step}, {counted(cores, 'core')}" for step, cores in zip(frame.step, frame.cores, strict=True)]
    frame = frame.assign(name=names).pivot_table(index="images", columns="name", values="seconds")
    frame.plot(style="o-", logx=True, logy=True, figsize=(6, 3.6), ylabel="seconds").legend()


def _whole(frame: pandas.DataFrame) -> None:
    from matplotlib import pyplot

    steps = frame.step.unique()
    _, axes = pyplot.subplots(len(steps), 1, figsize=(8, 1.5 * len(steps)), sharex=True)
    for axis, step in zip(axes, steps, strict=True):
        parts = frame[frame.step == step].set_index("part").seconds
        parts.index = [f"{part} {seconds:.2f} s" for part, seconds in parts.items()]
        parts.to_frame(step).T.plot.barh(stacked=True, ax=axis, colormap="tab20")
        axis.legend(ncols=3, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    axes[-1].set_xlabel("seconds")
