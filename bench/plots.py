"""Draws the plots of docs/performance.md, as small SVG files."""

from pathlib import Path

import pandas

NAMES = ("ratios", "kernel")
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "tinytags", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


def draw(results: dict, folder: Path) -> list[Path]:
    """Draw the ratios, and the kernel over trees and depth, of full results; return the files."""
    import matplotlib

    matplotlib.use("Agg")
    rows, paths = pandas.DataFrame(results["rows"]), [folder / f"{name}.svg" for name in NAMES]
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for plot, path in zip((_ratios, _kernel), paths, strict=True):
            axis = plot(rows)
            axis.figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    return paths


def _ratios(rows: pandas.DataFrame):
    """Draw a bar for each ratio with its spread and its target: below 1 those of a physical floor."""
    rows = rows[(rows.unit == "x") & rows.ours.notna() & rows.target.notna() & ~rows.at_most].iloc[::-1]
    labels = rows.name + ": " + rows.against
    spread = [rows.value - rows.least, rows.most - rows.value]
    axis = rows.set_index(labels).value.plot.barh(xerr=spread, logx=True, figsize=(9, 0.4 * len(rows) + 1))
    axis.plot(rows.target, range(len(rows)), "|", color="C1", markersize=16, markeredgewidth=2)
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set(xlabel="times as fast (orange: to reach)", ylabel="")
    return axis


def _kernel(rows: pandas.DataFrame):
    rows = rows[rows.name == "kernel/curve"]
    rates = [about | {"rate": ours["rate"]} for about, ours in zip(rows.about, rows.ours, strict=True)]
    frame = pandas.DataFrame(rates).pivot(index="trees", columns="depth", values="rate").add_prefix("depth ")
    axis = frame.plot(style="o-", logx=True, logy=True, figsize=(6, 3.4), ylabel="images/s, one core")
    read = max(side["rate"] for side in rows.theirs)
    axis.axhline(read, color="grey", linestyle="--", label="reading every byte once")
    axis.legend()
    return axis
