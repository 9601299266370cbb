"""Tables in Markdown from what `compare.py` measured."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import module_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "performance"
START, END = "<!-- performance:start -->", "<!-- performance:end -->"
OURS = "zarr_core"
COLOURS = {
    "zarr-python": "#d95f02",
    "zarr-python, fused": "#e6ab02",
    "tensorstore": "#7570b3",
    "zarr 2.18.7": "#999999",
}

Result = dict[str, Any]

SITE = "https://zarr-core.readthedocs.io/en/latest"
README_ROWS = (
    ("read", "one raw chunk of 20 kB, memory"),
    ("read", "one raw chunk of 20 kB, local"),
    ("read", "100 raw chunks of 400 B, memory"),
    ("read", "16 MB, 64 zstd chunks, memory"),
    ("read", "16 MB, 64 zstd chunks, local"),
    ("write", "one raw chunk of 20 kB, local"),
    ("write", "16 MB, 64 zstd chunks, local"),
    ("open", "open an array, local"),
    ("async", "1,000 reads of 64 zstd chunks of 256 kB"),
)
VERBS = {"open": "", "async": "await "}
"""What stands on the first screen: the small and the large, in memory and on disk."""


def in_words(seconds: float) -> str:
    """Return a duration with three digits and a unit."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def times(seconds: float, ours: float) -> str:
    ratio = seconds / ours
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×" if ratio >= 1 else f"{ratio:.2f}×"


def cells(seconds: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Return the time of each, and in brackets how many times as long as zarr_core that is."""
    ours = seconds.get(OURS)
    return [
        "–"
        if name not in seconds
        else in_words(seconds[name])
        + (f" ({times(seconds[name], ours)})" if ours and name != OURS else "")
        for name in names
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], first: str = "---") -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    # A cell without text has one blank less.
    lines[0] = lines[0].replace("|  |", "| |")
    return [lines[0], f"|{first}|" + "--:|" * (len(head) - 1), *lines[1:]]


def conditions(about: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['rounds']} interleaved rounds on {about['machine']}; Python {about['python']}, "
        f"NumPy {about['numpy']}, {versions}."
    )


def load(group: str) -> Result:
    return dict(json.loads((FOLDER / f"{group}.json").read_text("utf-8")))


def write_group(group: str, about: Result, found: list[Result], *, complete: bool) -> None:
    """Write all that is made of a group; a partial run replaces only the rows that it has."""
    place = FOLDER / f"{group}.json"
    if not complete and place.exists():
        new = {result["row"]: result for result in found}
        found = [new.pop(old["row"], old) for old in load(group)["results"]] + list(new.values())
    place.write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n", "utf-8")
    make = getattr(module_of(group), "page", page)
    (FOLDER / f"{group}.md").write_text(make(group, about, found), "utf-8")
    try:
        import plots

        plots.draw(group)
    except ImportError as error:
        print(f"without a plot of {group}: {error}", file=sys.stderr)


def page(group: str, about: Result, found: list[Result]) -> str:
    peers = list(about["versions"])
    rows = []
    for result in found:
        median = result["median"]
        floors = [f"{n} {in_words(median[n])}" for n in result["floors"] if n in median]
        rows.append([result["row"], *cells(median, peers), "; ".join(floors)])
    lines = [
        f"# Performance: {group}",
        "",
        "Medians of "
        + conditions(about).replace(" on ", f", {about['threads']} threads each, on ", 1),
        "",
        "In brackets: how many times as long as zarr_core. The floor is what no library can beat:",
        "a copy of the memory, the system calls, the codec alone, or requests that wait for one",
        "another. Made by",
        f"`python benchmarks/compare.py --rows {group}`.",
        "",
        *table(["", *peers, "floor"], rows),
        "",
        f"![Times as long as zarr_core]({group}.svg)",
    ]
    return "\n".join(lines) + "\n"


def replace(place: Path, lines: list[str]) -> None:
    """Replace what stands between the two markers of a page."""
    before, _, rest = place.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    place.write_text("\n".join([before + START, *lines, END + after]), "utf-8")


def write_readme() -> None:
    groups = {group: load(group) for group, _ in README_ROWS if (FOLDER / f"{group}.json").exists()}
    others = [name for name in next(iter(groups.values()))["about"]["versions"] if name != OURS]
    rows = []
    for group, row in README_ROWS:
        for median in [r["median"] for r in groups[group]["results"] if r["row"] == row]:
            ratios = [times(median[n], median[OURS]) if n in median else "–" for n in others]
            rows.append([f"{VERBS.get(group, f'{group} ')}{row}", in_words(median[OURS]), *ratios])
    lines = [
        "How many times as long as zarr_core the others take on the same work",
        f"([all rows and how it is measured]({SITE}/performance/README.html)):",
        "",
        *table(["", OURS, *others], rows),
    ]
    replace(ROOT / "README.md", lines)
