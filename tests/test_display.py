"""What notebooks show of arrays, groups and trees."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.hierarchy.display import LONGEST, MOST_LINES, SHORTEST
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore

SVG = re.compile("<svg.*?</svg>")


def picture(array: zarr.Array) -> ET.Element:
    [found] = SVG.findall(array._repr_html_())
    return ET.fromstring(found)


def lines(svg: ET.Element, kind: str | None) -> list[tuple[float, ...]]:
    """Return the lines between stored chunks (`zarr-key`) or inner chunks (None)."""
    found = [line for line in svg.iter("line") if line.get("class") == kind]
    return [tuple(float(line.get(at, "nan")) for at in ("x1", "y1", "x2", "y2")) for line in found]


def test_chunks_are_drawn_to_scale() -> None:
    svg = picture(zarr.zeros((300, 400), chunks=(100, 200)))
    found = lines(svg, "zarr-key")
    upright = sorted(x for x, _, x2, _ in found if x == x2)
    level = sorted(y for _, y, _, y2 in found if y == y2)
    assert np.diff(upright) == pytest.approx([LONGEST / 2], abs=0.2)
    assert np.diff(level) == pytest.approx([LONGEST / 4] * 2, abs=0.2)
    assert [text.text for text in svg.iter("text")] == ["400", "300"]


def test_chunks_of_different_lengths_are_drawn_to_scale() -> None:
    svg = picture(zarr.create_array({}, shape=10, chunks=[[2, 3, 5]], dtype="i2"))
    upright = sorted(x for x, _, x2, _ in lines(svg, "zarr-key") if x == x2)
    assert np.diff(upright) == pytest.approx([0.2 * LONGEST, 0.3 * LONGEST], abs=0.2)


def test_shards_are_lines_of_their_own() -> None:
    array = zarr.create_array({}, shape=(8, 8), shards=(4, 4), chunks=(2, 2), dtype="i2")
    svg = picture(array)
    assert len(lines(svg, "zarr-key")) == 2 * 2
    assert len(lines(svg, None)) == 2 * 4
    assert "<td>shard</td>" in array._repr_html_()


def test_names_of_dimensions_are_shown_and_escaped() -> None:
    names = ("<script>", "x")
    array = zarr.create_array({}, shape=(4, 4), chunks=2, dtype="i2", dimension_names=names)
    assert [text.text for text in picture(array).iter("text")] == ["x 4", "<script> 4"]
    assert "<script" not in array._repr_html_()


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 30)), min_size=1, max_size=5),
    st.booleans(),
)
def test_every_drawing_is_small_and_inside_its_frame(
    dims: list[tuple[int, int]], sharded: bool
) -> None:
    shape, chunks = zip(*dims, strict=True)
    shards = tuple(3 * size for size in chunks) if sharded else None
    array = zarr.create_array({}, shape=shape, chunks=chunks, shards=shards, dtype="i1")
    svg = picture(array)
    width, height = (float(svg.get(side, "nan")) for side in ("width", "height"))
    assert max(width, height) < 2 * LONGEST + 60
    assert min(width, height) > SHORTEST
    for x1, y1, x2, y2 in lines(svg, "zarr-key") + lines(svg, None):
        assert 0 <= min(x1, x2) <= max(x1, x2) <= width
        assert 0 <= min(y1, y2) <= max(y1, y2) <= height
    assert len(lines(svg, "zarr-key")) <= 6 * MOST_LINES


@pytest.mark.parametrize("shape", [(), (0, 4)])
def test_nothing_is_drawn_of_no_elements(shape: tuple[int, ...]) -> None:
    assert "<svg" not in zarr.zeros(shape, chunks=2 if shape else None)._repr_html_()


def test_sizes_and_codecs() -> None:
    array = zarr.create_array({}, shape=(1024, 1024), chunks=(256, 512), dtype="f4")
    html = array._repr_html_()
    for part in ("4.0 MiB", "512.0 KiB", "<td>8</td>", "BytesCodec", "→ ZstdCodec"):
        assert part in html
    assert "ratio" not in html
    array[:] = 1
    assert "Storage ratio" in array.info_complete()._repr_html_()


def test_sizes_of_text_are_not_those_of_pointers() -> None:
    assert "<th>Size</th>" not in zarr.create_array({}, data=["a", "b"])._repr_html_()


def test_what_is_not_known_is_shown() -> None:
    document = zarr.zeros((4, 4), chunks=2).metadata.to_dict()
    document |= {"codecs": [{"name": "not.known", "configuration": {"a": "<b>"}}]}
    store_path = zarr.group({}).store_path
    html = zarr.Array.from_dict(store_path, document)._repr_html_()
    assert "not.known" in html
    assert "<b>'" not in html
    assert "<svg" in html


def test_showing_asks_nothing_of_slow_stores() -> None:
    memory = MemoryStore()
    zarr.group(memory)["x"] = np.arange(4)
    counted = LoggingStore(LatencyStore(memory))
    group = zarr.open_group(counted, mode="r")
    array = group["x"]
    counted.counter.clear()
    assert "x" in array._repr_html_()
    assert "No. members" not in group._repr_html_()
    assert counted.counter == {}


def test_groups_of_fast_stores_show_what_is_in_them() -> None:
    group = zarr.group({})
    group["deep/x"] = np.arange(4)
    html = group._repr_html_()
    assert "(4,) int64" in html
    assert html.count("<details") == 2


def test_trees_are_folded_below_two_levels() -> None:
    group = zarr.group({})
    group["a/b/c/x"] = np.arange(4)
    html = group.tree()._repr_html_()
    assert html.count("<details open>") == 3
    assert html.count("<details>") == 1
    assert html.count("<details") == html.count("</details>")


def test_no_scripts() -> None:
    group = zarr.group({})
    group["x"] = np.arange(4)
    for shown in (group, group["x"], group.tree(), group.info_complete()):
        html = shown._repr_html_()
        assert "<script" not in html
        assert "http" not in html
        assert html.count("<div") == html.count("</div>")
