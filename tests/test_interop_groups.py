"""Hierarchies that other implementations wrote are equal here, and the other way round.

zarr-python 3 is imported here (Python 3.12 or later); zarr 2.18.7 runs under the interpreter that
the environment variable ZARR2_PYTHON names. A peer that is missing is skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core

pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is reserved by the Zarr specification:UserWarning"),
]

ZARR2 = os.environ.get("ZARR2_PYTHON")
Nodes = dict[str, tuple[dict[str, Any], Any]]

EVERY_TYPE = {
    "null": None,
    "bools": [True, False],
    "int": -(2**62),
    "float": 1.5e-300,
    "text": 'naïve ☃ 𝄞 \n\t" \\ /',
    "list": [1, [2.5, ["x", None]], {}],
    "object": {"": {"nested": [{"deep": True}]}},
    "": "an empty name",
    "dots.and/slashes": 1,
    "not numbers": [float("nan"), float("inf"), -float("inf")],
}
NODES: Nodes = {
    "": (EVERY_TYPE, None),
    "plain": ({}, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "empty group": ({"n": 1}, None),
    "nested": ({}, None),
    "nested/a": ({"_FillValue": float("nan")}, None),
    "nested/a/b": (EVERY_TYPE, [1.5, 2.5, 3.5]),
    "nested/a/c": ({}, None),
    "Case": ({"case": "upper"}, None),
    "case": ({"case": "lower"}, None),
    "case/x": ({}, [1]),
    "c": ({}, None),
    "c/0": ({"looks": "like a chunk"}, [5, 6, 7]),
    "0.0": ({}, [1, 2]),
    "attributes": ({}, None),
    "dots.in.name": ({}, [3]),
    "naïve ☃": ({"unicode": True}, [[0.5]]),
    "percent%20and+plus": ({}, None),
    "-x_y": ({}, None),
    "__reserved": ({}, [1]),
}


def same(found: Nodes, expected: Nodes = NODES) -> bool:
    return as_text(found) == as_text(expected)


def as_text(nodes: Nodes) -> dict[str, str]:
    # NaN is equal to NaN as text; the order of attributes is kept by nobody.
    return {
        path: json.dumps([dict(sorted(attributes.items())), values])
        for path, (attributes, values) in sorted(nodes.items())
    }


def write(library: Any, path: Path, zarr_format: int, *, consolidated: bool) -> None:
    root = library.open_group(str(path), mode="w", zarr_format=zarr_format)
    for name, (attributes, values) in NODES.items():
        if values is not None:
            array = root.create_array(name, data=np.array(values), chunks=(2,) * np.ndim(values))
            array.attrs.update(attributes)
        else:
            node = root.require_group(name) if name else root
            node.attrs.update(attributes)
    if consolidated:
        library.consolidate_metadata(str(path))


def read(library: Any, path: Path, *, consolidated: bool) -> Nodes:
    root = library.open_group(str(path), mode="r", use_consolidated=consolidated)
    found: Nodes = {"": (root.attrs.asdict(), None)}
    for name, node in root.members(max_depth=None):
        values = node[...].tolist() if hasattr(node, "shape") else None
        found[name] = (node.attrs.asdict(), values)
    # What is found by name is what is listed.
    for name, (attributes, _) in found.items():
        if name:
            assert json.dumps(root[name].attrs.asdict()) == json.dumps(attributes)
    return found


def change(root: Any) -> None:
    """Change a hierarchy in every way, through one handle."""
    root.create_array("nested/new/array", data=np.arange(3), chunks=(2,))
    root["plain"].resize((4, 3))
    root["case/x"].append(np.array([2]))
    root["nested/a"].attrs.put({"changed": [1]})
    root["nested/a/b"].attrs["changed"] = None
    del root["c"]
    root.create_group("Case", overwrite=True)


def changed() -> Nodes:
    nodes = {path: (dict(attributes), values) for path, (attributes, values) in NODES.items()}
    nodes |= {"nested/new": ({}, None), "nested/new/array": ({}, [0, 1, 2]), "Case": ({}, None)}
    nodes["plain"] = ({}, [*NODES["plain"][1], [0, 0, 0]])
    nodes["case/x"] = ({}, [1, 2])
    nodes["nested/a"] = ({"changed": [1]}, None)
    nodes["nested/a/b"][0]["changed"] = None
    return {path: node for path, node in nodes.items() if path != "c" and not path.startswith("c/")}


# --- zarr-python 3 ---------------------------------------------------------------------------------


@pytest.fixture
def peer() -> Any:
    found = pytest.importorskip("zarr", reason="zarr-python is not installed")
    if not found.__version__.startswith("3."):
        pytest.skip("zarr-python 3 is not installed")
    return found


@pytest.mark.parametrize("writer", ["ours", "theirs"])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_one_writes_both_read(
    peer: Any, tmp_path: Path, zarr_format: int, consolidated: bool, writer: str
) -> None:
    library = zarr_core if writer == "ours" else peer
    write(library, tmp_path, zarr_format, consolidated=consolidated)
    for reader in (zarr_core, peer):
        assert same(read(reader, tmp_path, consolidated=consolidated))
        copies = reader.open_group(str(tmp_path), mode="r").metadata.consolidated_metadata
        assert (copies is not None) == consolidated
    if consolidated:
        # Both handles show the same copies, below a subgroup too.
        ours = zarr_core.open_consolidated(tmp_path)["nested"].metadata.consolidated_metadata
        theirs = peer.open_consolidated(tmp_path)["nested"].metadata.consolidated_metadata
        assert set(ours.flattened_metadata) == set(theirs.flattened_metadata)
        assert list(ours.metadata) == sorted(theirs.metadata)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_copies_that_are_changed_here_are_read_there(
    peer: Any, tmp_path: Path, zarr_format: int, writer: str
) -> None:
    library = zarr_core if writer == "ours" else peer
    write(library, tmp_path, zarr_format, consolidated=True)
    change(zarr_core.open_consolidated(tmp_path))
    for reader in (zarr_core, peer):
        for consolidated in (False, True):
            assert same(read(reader, tmp_path, consolidated=consolidated), changed())


def test_what_they_change_is_read_here(peer: Any, tmp_path: Path) -> None:
    write(zarr_core, tmp_path, 3, consolidated=False)
    change(peer.open_group(str(tmp_path)))
    assert same(read(zarr_core, tmp_path, consolidated=False), changed())


def test_both_list_the_same_below_foreign_files(peer: Any, tmp_path: Path) -> None:
    write(zarr_core, tmp_path, 3, consolidated=False)
    (tmp_path / "notes.txt").write_text("foreign")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    with pytest.warns(UserWarning, match="not recognized as a component"):
        theirs = sorted(peer.open_group(str(tmp_path), mode="r").keys())
    assert list(zarr_core.open_group(tmp_path, mode="r")) == theirs


# --- zarr 2 ----------------------------------------------------------------------------------------


def zarr2(action: str, path: Path, nodes: Path | None = None, *, consolidated: bool) -> Any:
    if not ZARR2:
        pytest.skip("ZARR2_PYTHON does not name an interpreter with zarr 2.18.7")
    worker = Path(__file__).with_name("zarr2_groups_worker.py")
    command = [ZARR2, str(worker), action, str(path), str(nodes), str(consolidated)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if action == "read" else None


@pytest.mark.parametrize("consolidated", [False, True])
def test_zarr_2_reads_ours(tmp_path: Path, consolidated: bool) -> None:
    write(zarr_core, tmp_path, 2, consolidated=consolidated)
    assert same(zarr2("read", tmp_path, consolidated=consolidated))


@pytest.mark.parametrize("consolidated", [False, True])
def test_zarr_2_s_are_read(tmp_path: Path, consolidated: bool) -> None:
    nodes, store = tmp_path / "nodes.json", tmp_path / "store"
    nodes.write_text(json.dumps(NODES))
    zarr2("write", store, nodes, consolidated=consolidated)
    assert same(read(zarr_core, store, consolidated=consolidated))
    if consolidated:
        change(zarr_core.open_consolidated(store))
        assert same(zarr2("read", store, consolidated=True), changed())


if sys.version_info < (3, 12):

    def test_this_python_has_no_zarr_python_3() -> None:
        pytest.skip("zarr-python 3.4 needs Python 3.12")
