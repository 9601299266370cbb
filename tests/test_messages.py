"""What is wrong is said in the words of whoever wrote it: what was expected, and what was found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zarr_core as zarr


def array() -> zarr.Array:
    return zarr.create_array({}, shape=(4, 4), dtype="i4")


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: array().get_basic_selection(0, timeout="5s"),
            TypeError,
            r"timeout is a number of seconds, not '5s'",
        ),
        (
            lambda: zarr.read_many([array(), array()]),
            TypeError,
            r"an array and a selection, such as \(array, \.\.\.\)",
        ),
        (
            lambda: zarr.write_many([array()]),
            TypeError,
            r"an array, a selection and a value",
        ),
        (
            lambda: zarr.create_array({}, shape=3, dtype="i4", chunks={"x": 1}),
            TypeError,
            r"chunks are lengths or 'auto', found \{'x': 1\}",
        ),
        (
            lambda: array().__setitem__(0, {"a": 1}),
            TypeError,
            r"a value of type dict cannot become elements of int32",
        ),
        (lambda: zarr.DirectoryStore, AttributeError, r"zarr 2.*storage\.LocalStore"),
        (lambda: zarr.storage.DirectoryStore, AttributeError, r"zarr 2.*storage\.LocalStore"),
        (lambda: zarr.storage.FSStore, AttributeError, r"storage\.FsspecStore"),
        (lambda: zarr.create_arry, AttributeError, r"did you mean 'create_array'"),
        (lambda: zarr.storage.LocalStor, AttributeError, r"did you mean 'LocalStore'"),
        (lambda: zarr.config.set({"array.ordr": "C"}), ValueError, r"did you mean 'array.order'"),
        (lambda: zarr.config.get("json_indnt"), KeyError, r"did you mean 'json_indent'"),
        (
            lambda: zarr.create_array({}, shape=3, dtype="i4", config={"ordr": "C"}),
            ValueError,
            r"did you mean 'order'",
        ),
    ],
)
def test_mistakes(call: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    zarr.create_array("~/a.zarr", shape=3, dtype="i4")
    assert (tmp_path / "a.zarr" / "zarr.json").exists()
    assert zarr.open_array(Path("~/a.zarr"), mode="r").shape == (3,)
    with zarr.storage.ZipStore(tmp_path / "b.zip", mode="w") as store:
        zarr.create_array(store, shape=5, dtype="i4")
    assert zarr.open_array("~/b.zip", mode="r").shape == (5,)


def test_nothing_is_created_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for call in (
        lambda: zarr.open(tmp_path / "data.h5"),
        lambda: zarr.create_array(tmp_path / "data.h5", shape=3, dtype="i4", overwrite=True),
        lambda: zarr.create_group(tmp_path / "data.h5", overwrite=True),
    ):
        with pytest.raises(NotADirectoryError, match="HDF5 file"):
            call()
    assert (tmp_path / "data.h5").read_bytes() == b"\x89HDF\r\n\x1a\n"
