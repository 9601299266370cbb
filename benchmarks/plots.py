"""Plots of what `compare.py` and `load.py` measured: docs/performance/NAME.svg.

    python benchmarks/plots.py              # every group whose results are there
    python benchmarks/plots.py read async   # some

A bar is how many times as long as zarr_core another library takes on a row, on a logarithmic axis:
right of 1 zarr_core is faster, left of it the other.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import END, FOLDER, OURS, START, Result, in_words, load, times

COLOURS = {
    "zarr-python": "#d95f02",
    "zarr-python, fused": "#e6ab02",
    "tensorstore": "#7570b3",
    "zarr 2.18.7": "#999999",
}
BAR = 0.17
"""Inches per bar; with less, the names of rows overlap."""


def write_plot(group: str, found: Sequence[Result]) -> Path | None:
    """Draw the rows of a group that others have too; return the file."""
    rows = [r for r in found if OURS in r["median"] and others(r)]
    if not rows:
        return None
    names = [name for name in COLOURS if any(name in r["median"] for r in rows)]
    names += sorted({name for r in rows for name in others(r)} - set(names))
    ratios = [{n: r["median"][n] / r["median"][OURS] for n in others(r)} for r in rows]
    figure, axes = canvas(len(rows), len(names))
    for place, name in enumerate(names):
        at = [row + (place + 0.5) / len(names) * 0.8 - 0.4 for row in range(len(rows))]
        known = [(y, r[name]) for y, r in zip(at, ratios, strict=True) if name in r]
        axes.barh(
            [y for y, _ in known],
            # A bar starts at 1, so that a loss goes to the other side.
            [ratio - 1 for _, ratio in known],
            left=1,
            height=0.8 / len(names),
            color=COLOURS.get(name, "#66a61e"),
            label=name,
        )
    axes.set_yticks(range(len(rows)), [r["row"] for r in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("times as long as zarr_core")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(names), frameon=False)
    return save(figure, group)


def others(result: Result) -> list[str]:
    return [n for n in result["median"] if n != OURS and n not in result["floors"]]


def canvas(n_rows: int, n_names: int) -> tuple[Any, Any]:
    """Return a figure with a logarithmic axis on which 1 is marked."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same results make the same file.
    mpl.rcParams.update({"svg.hashsalt": "zarr_core", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt

    height = 1.0 + n_rows * max(n_names * BAR * 0.6, BAR)
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", which="major", linewidth=0.4, color="#cccccc")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def save(figure: Any, name: str) -> Path:
    from matplotlib import pyplot as plt

    place = FOLDER / f"{name}.svg"
    figure.savefig(place, metadata={"Date": None})
    plt.close(figure)
    # Without blanks at line ends, and with one newline at the end.
    lines = [line.rstrip() for line in place.read_text("utf-8").splitlines()]
    place.write_text("\n".join(lines) + "\n", "utf-8")
    return place


# --- load ----------------------------------------------------------------------------------------


def load_rows_of(results: Sequence[Result]) -> list[Result]:
    """Return the results of `load.py` as rows: time, and longest block, against a twin each."""
    rows = []
    for result in results:
        for figure, what in (("seconds", "time"), ("block", "longest block")):
            median = {name.partition(", a twin")[0]: m for name, m in result["median"].items()}
            rows.append(
                {
                    "row": f"{result['scene']}: {what}",
                    "floors": [name for name in median if name.startswith("asyncio")],
                    "median": {name: figures[figure] for name, figures in median.items()},
                }
            )
    return rows


# --- the page on async ---------------------------------------------------------------------------

PAGE = FOLDER.parent / "async.md"
PAGE_ROWS = {
    "awaited, one by one": "100 reads of a 20 kB chunk, local, one by one: awaited",
    "awaited, 100 at once": "100 reads of a 20 kB chunk, local, at once: awaited",
    "`asyncio.to_thread`, one by one": (
        "100 reads of a 20 kB chunk, local, one by one: asyncio.to_thread"
    ),
    "synchronous": "100 reads of a 20 kB chunk, local, one by one: synchronous",
}


def write_async_page(found: Sequence[Result]) -> None:
    """Replace the short table of docs/async.md, of one read each."""
    medians = {result["row"]: result["median"] for result in found}
    rows = {what: medians[row] for what, row in PAGE_ROWS.items() if row in medians}
    names = [name for name in (OURS, *COLOURS) if any(name in row for row in rows.values())]
    lines = [
        "| one read of a 20 kB chunk in a local file | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    for what, median in rows.items():
        cells = [in_words(median[OURS] / 100)]
        cells += [
            f"{in_words(median[n] / 100)} ({times(median[n], median[OURS])})" for n in names[1:]
        ]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


def plot(name: str) -> Path | None:
    """Draw what is stored under this name, and write the table of docs/async.md."""
    if name == "load":
        return write_plot(
            name, load_rows_of(json.loads((FOLDER / "load.json").read_text())["results"])
        )
    found = load(name)["results"]
    if name == "async":
        write_async_page(found)
    return write_plot(name, found)


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.json"))
    for name in names:
        print(plot(name) or f"nothing to draw for {name}")


if __name__ == "__main__":
    main()
