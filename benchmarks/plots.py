"""Plots of what was measured, docs/performance/NAME.svg; `python benchmarks/plots.py read write`.

A bar is how many times as long as zarr_core another library takes on a row, on a logarithmic axis:
right of 1 zarr_core is faster, left of it the other.
"""

import sys
from collections.abc import Sequence
from typing import Any

from report import COLOURS, FOLDER, OURS, Result, load
from rows import module_of

BAR = 0.17
"""Inches per bar; with less, the names of rows overlap."""


def pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    # The same results make the same file.
    mpl.rcParams.update({"svg.hashsalt": "zarr_core", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt

    return plt


def plot(group: str, found: Sequence[Result]) -> None:
    """Draw the rows of a group that others have too."""
    ratios = {
        r["row"]: {n: s / r["median"][OURS] for n, s in r["median"].items() if n not in r["floors"]}
        for r in found
        if OURS in r["median"]
    }
    ratios = {row: others for row, others in ratios.items() if others.keys() - {OURS}}
    if not ratios:
        return
    seen = {name for others in ratios.values() for name in others} - {OURS}
    names = [name for name in COLOURS if name in seen] + sorted(seen - COLOURS.keys())
    height = 1.0 + len(ratios) * max(len(names) * BAR * 0.6, BAR)
    figure, axes = pyplot().subplots(figsize=(8, height), layout="constrained")
    for place, name in enumerate(names):
        bars = {at: others[name] for at, others in enumerate(ratios.values()) if name in others}
        axes.barh(
            [at + (place + 0.5) / len(names) * 0.8 - 0.4 for at in bars],
            # A bar starts at 1, so that a loss goes to the other side.
            [ratio - 1 for ratio in bars.values()],
            left=1,
            height=0.8 / len(names),
            color=COLOURS.get(name, "#66a61e"),
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", which="major", linewidth=0.4, color="#cccccc")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xlabel("times as long as zarr_core")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(names), frameon=False)
    save(figure, group)


def save(figure: Any, name: str) -> None:
    place = FOLDER / f"{name}.svg"
    figure.savefig(place, metadata={"Date": None})
    pyplot().close(figure)
    # Without blanks at line ends, and with one newline at the end.
    lines = [line.rstrip() for line in place.read_text("utf-8").splitlines()]
    place.write_text("\n".join(lines) + "\n", "utf-8")


def draw(group: str) -> None:
    getattr(module_of(group), "plot", plot)(group, load(group)["results"])


if __name__ == "__main__":
    for group in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.json")):
        draw(group)
