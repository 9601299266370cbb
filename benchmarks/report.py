"""Tables in Markdown from what `compare.py` measured."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "performance"
START, END = "<!-- performance:start -->", "<!-- performance:end -->"
OURS = "zarr_core"

Result = dict[str, Any]

README_ROWS = (
    ("read", "one raw chunk of 20 kB, memory"),
    ("read", "one raw chunk of 20 kB, local"),
    ("read", "100 raw chunks of 400 B, memory"),
    ("read", "16 MB, 64 zstd chunks, memory"),
    ("read", "16 MB, 64 zstd chunks, local"),
    ("write", "one raw chunk of 20 kB, local"),
    ("write", "16 MB, 64 zstd chunks, local"),
    ("open", "open an array, local"),
)
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


def write_group(group: str, about: Result, found: list[Result], *, complete: bool) -> None:
    """Write one group's JSON and Markdown; a partial run replaces only the rows that it has."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = FOLDER / f"{group}.json"
    if not complete and place.exists():
        new = {result["row"]: result for result in found}
        found = [new.pop(old["row"], old) for old in load(group)["results"]] + list(new.values())
    place.write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n", "utf-8")
    (FOLDER / f"{group}.md").write_text(page(group, about, found), "utf-8")


def load(group: str) -> Result:
    return dict(json.loads((FOLDER / f"{group}.json").read_text("utf-8")))


def page(group: str, about: Result, found: list[Result]) -> str:
    peers = list(about["versions"])
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    conditions = (
        f"Medians of {about['rounds']} interleaved rounds, {about['threads']} threads each, on "
        f"{about['machine']}; Python {about['python']}, NumPy {about['numpy']}, {versions}."
    )
    lines = [
        f"# Performance: {group}",
        "",
        conditions,
        "",
        "In brackets: how many times as long as zarr_core. The floor is what no library can beat:",
        "a copy of the memory, the system calls, the codec alone, or requests that wait for one",
        "another. Made by",
        f"`python benchmarks/compare.py --rows {group}`.",
        "",
        "| | " + " | ".join(peers) + " | floor |",
        "|---|" + "--:|" * (len(peers) + 1),
    ]
    lines += [table_row(result, peers) for result in found]
    return "\n".join([*lines, "", f"![Times as long as zarr_core]({group}.svg)"]) + "\n"


def table_row(result: Result, peers: list[str]) -> str:
    median = result["median"]
    ours = median.get(OURS)
    cells = []
    for name in peers:
        if name not in median:
            cells.append("–")
        elif name == OURS or ours is None:
            cells.append(in_words(median[name]))
        else:
            cells.append(f"{in_words(median[name])} ({times(median[name], ours)})")
    floors = [f"{name} {in_words(median[name])}" for name in result["floors"] if name in median]
    return f"| {result['row']} | " + " | ".join(cells) + f" | {'; '.join(floors)} |"


def write_readme() -> None:
    """Replace what stands between the two markers of README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{readme_table()}\n{END}{after}", "utf-8")


def readme_table() -> str:
    groups = {group: load(group) for group, _ in README_ROWS if (FOLDER / f"{group}.json").exists()}
    about = next(iter(groups.values()))["about"]
    peers = list(about["versions"])
    others = [name for name in peers if name != OURS]
    lines = [
        "How many times as long as zarr_core the others take on the same work",
        "([all rows and how it is measured](docs/performance/README.md)):",
        "",
        "| | zarr_core | " + " | ".join(others) + " |",
        "|---|" + "--:|" * len(peers),
    ]
    for group, row in README_ROWS:
        found = [r for r in groups[group]["results"] if r["row"] == row] if group in groups else []
        for result in found:
            median = result["median"]
            ratios = [times(median[n], median[OURS]) if n in median else "–" for n in others]
            verb = "" if group == "open" else f"{group} "
            cells = [f"{verb}{row}", in_words(median[OURS]), *ratios]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
