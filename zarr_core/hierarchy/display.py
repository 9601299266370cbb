"""How arrays, groups and trees look in notebooks: HTML and SVG, without scripts.

All colours are that of the text around, more or less transparent, and one accent, so dark pages need
nothing else; a page may set `--zarr-accent`.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

STYLE = (
    "<style>.zarr-display{--zarr-accent:var(--jp-brand-color1,var(--pst-color-primary,#0a7d91));"
    "--zarr-line:color-mix(in srgb,currentColor 25%,transparent);font-size:.9em;line-height:1.5}"
    ".zarr-display .zarr-sides{display:flex;flex-wrap:wrap;gap:1em 2em;align-items:center}"
    ".zarr-display .zarr-sides>:first-child{flex:0 1 32em}"
    ".zarr-display .zarr-head{border-bottom:1px solid var(--zarr-line);margin-bottom:.5em}"
    ".zarr-display table{border-collapse:collapse;width:auto;margin:0;font-size:inherit}"
    ".zarr-display :is(th,td){text-align:left;padding:.1em .8em .1em 0;border:0;background:none;"
    "vertical-align:top;overflow-wrap:anywhere}"
    ".zarr-display th{font-weight:600;white-space:nowrap}"
    ".zarr-display :is(ul,li){list-style:none;margin:0;padding:0}"
    ".zarr-display ul ul{margin-left:.4em;padding-left:1em;border-left:1px solid var(--zarr-line)}"
    ".zarr-display li{padding:.05em 0}.zarr-display summary{cursor:pointer}"
    ".zarr-display i{font-style:normal;opacity:.7}"
    ".zarr-display svg{max-width:100%;height:auto;color:inherit}"
    ".zarr-display svg :is(line,polygon){stroke:currentColor;stroke-opacity:.3}"
    ".zarr-display svg .zarr-key{stroke:var(--zarr-accent);stroke-opacity:.9}"
    ".zarr-display svg polygon{fill:var(--zarr-accent);fill-opacity:.12}"
    ".zarr-display svg text{fill:currentColor;font-size:11px;text-anchor:middle}</style>"
)
LONGEST, SHORTEST = 170.0, 14.0
"""Sides of a drawing, in pixels; what is thinner than to scale would not be seen."""
MOST_LINES = 40
"""Of a dimension with more chunks every second one is drawn, or every third, ..."""


class Side(NamedTuple):
    """A dimension in a drawing: where stored chunks begin, and the inner chunks of shards."""

    label: str
    length: int
    starts: Sequence[int]
    inner: Sequence[int] = ()


Point = tuple[float, float]


def framed(head: str, body: str) -> str:
    """Return HTML with a headline, and the style that it needs."""
    line = f"<div class='zarr-head'>{head}</div>" if head else ""
    return f"{STYLE}<div class='zarr-display'>{line}{body}</div>"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a table; the first cell of each is what the others are about."""
    lines = (
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def beside(*parts: str) -> str:
    """Return parts side by side, or below each other where the page is narrow."""
    return (
        f"<div class='zarr-sides'>{''.join(f'<div>{part}</div>' for part in parts if part)}</div>"
    )


def thinned(count: int) -> range:
    """Return the numbers of chunks to draw of one dimension."""
    return range(0, count, max(1, math.ceil(count / MOST_LINES)))


def drawing(dimensions: Iterable[Side]) -> str:
    """Return a picture of the last three dimensions of an array and their chunks, to scale."""
    sides = list(dimensions)
    if not sides or not all(side.length for side in sides):
        return ""
    shown = sides[-3:]
    longest = max(side.length for side in shown)
    *_, wide = sizes = [max(LONGEST * side.length / longest, SHORTEST) for side in shown]
    high = sizes[-2] if len(sizes) > 1 else SHORTEST
    depth = sizes[0] * 0.45 if len(sizes) == 3 else 0.0  # seen from the side: shorter
    left, top = (22.0 if len(sizes) > 1 else 6.0), (22.0 if depth else 6.0) + depth
    origin, right, down, back = (left, top), (wide, 0.0), (0.0, high), (depth, -depth)
    flat = Side("", 1, ())
    column, row = shown[-1], shown[-2] if len(shown) > 1 else flat
    faces = [_face(origin, right, column, down, row)]
    if depth:
        faces += [_face(origin, right, column, back, shown[0])]
        faces += [_face(_plus(origin, right), down, row, back, shown[0])]
    labels = [_text(left + wide / 2, top + high + 14, column.label)]
    if len(shown) > 1:
        labels.append(_text(left - 8, top + high / 2, row.label, turn=-90))
    if depth:
        labels.append(_text(left + depth / 2 - 6, top - depth / 2 - 6, shown[0].label, turn=-45))
    width, height = left + wide + depth + 6, top + high + 20
    return (
        f"<svg role='img' aria-label='chunks' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}'>{''.join(faces)}{''.join(labels)}</svg>"
    )


def _plus(start: Point, step: Point, share: float = 1.0) -> Point:
    return start[0] + step[0] * share, start[1] + step[1] * share


def _face(origin: Point, along: Point, across: Side, up: Point, other: Side) -> str:
    """Return a parallelogram with the lines between chunks of two dimensions."""
    corners = (origin, _plus(origin, along), _plus(_plus(origin, along), up), _plus(origin, up))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    parts = [f"<polygon points='{points}'/>"]
    for side, step, line in ((across, along, up), (other, up, along)):
        for places, mark in ((side.inner, ""), (side.starts, " class='zarr-key'")):
            for place in places:
                (x, y) = start = _plus(origin, step, place / side.length)
                x2, y2 = _plus(start, line)
                parts.append(f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'{mark}/>")
    parts.append(f"<polygon class='zarr-key' style='fill:none' points='{points}'/>")
    return "".join(parts)


def _text(x: float, y: float, label: str, *, turn: int = 0) -> str:
    turned = f" transform='rotate({turn} {x:.1f} {y:.1f})'" if turn else ""
    return f"<text x='{x:.1f}' y='{y:.1f}'{turned}>{escape(label)}</text>"
