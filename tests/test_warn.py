"""Warnings have the category and the first words that other libraries filter, and name the line."""

import warnings
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import (
    WARNINGS,
    UnstableSpecificationWarning,
    ZarrDeprecationWarning,
    ZarrFutureWarning,
    ZarrRuntimeWarning,
    ZarrUserWarning,
)
from zarr_core.storage import MemoryStore


def both_formats() -> Any:
    store: dict[str, bytes] = {}
    zarr.create_group(store)
    store[".zgroup"] = b'{"zarr_format": 2}'
    return store


def array(**options: Any) -> Any:
    return zarr.create_array({}, **{"shape": (300,), "dtype": "i4", **options})


# What is warned of: the topic, what leads to it, and the warning as zarr-python 3.4.2 gives it.
def travelled() -> zarr.Array:
    """Return an array as if of another process, in a store without conditional writes."""
    made = zarr.create_array(MemoryStore(UserDict()), shape=4, chunks=(4,), dtype="i4")
    made._shared.travelled = True
    return made.with_config({})


class Referring:
    """A group as of h5py, with an attribute that refers to another object."""

    def __init__(self) -> None:
        self.name = "/x"
        reference = type("Reference", (), {"__module__": "h5py.h5r"})()
        self.attrs = {"DIMENSION_LIST": [reference], "a": 1}

    def keys(self) -> list[str]:
        return []


class Named:
    """A named type as of h5py, which is neither a dataset nor a group."""

    name = "/t"


CASES: list[tuple[str, Callable[[], Any], type[Warning], str]] = [
    (
        "automatic shards",
        lambda: array(chunks=(10,), shards="auto"),
        ZarrUserWarning,
        "Automatic shard shape inference is experimental and may change without notice.",
    ),
    (
        "compressor",
        lambda: zarr.create_group({}).create_array("x", shape=1, dtype="i1", compressor=None),
        ZarrUserWarning,
        "The `compressor` argument is deprecated. Use `compressors` instead.",
    ),
    (
        "consolidated v3",
        lambda: zarr.consolidate_metadata(zarr.create_group({}).create_group("a").store),
        ZarrUserWarning,
        (
            "Consolidated metadata is currently not part in the Zarr format 3 specification. It "
            "may not be supported by other zarr implementations"
        ),
    ),
    (
        "order",
        lambda: array(order="F"),
        ZarrRuntimeWarning,
        "The `order` keyword argument has no effect for Zarr format 3 arrays. ",
    ),
    ("order", lambda: zarr.create(3, order="C"), ZarrRuntimeWarning, "The `order` keyword "),
    (
        "two formats",
        lambda: zarr.open_group(both_formats(), mode="r"),
        ZarrUserWarning,
        "Both zarr.json (Zarr format 3) and .zgroup (Zarr format 2) metadata objects exist at ",
    ),
    (
        "enumeration",
        lambda: zarr.codecs.BloscShuffle.shuffle,
        ZarrDeprecationWarning,
        "BloscShuffle.shuffle is deprecated; pass the string 'shuffle' instead.",
    ),
    (
        "write_empty_chunks",
        lambda: zarr.zeros(3, write_empty_chunks=True),
        ZarrRuntimeWarning,
        "The `write_empty_chunks` keyword argument is deprecated",
    ),
    (
        "tree",
        lambda: zarr.tree(zarr.create_group({})),
        ZarrDeprecationWarning,
        "Use Group.tree instead.",
    ),
    (
        "nonfinite attribute",
        lambda: array(attributes={"a": {"b": [float("inf")]}}),
        ZarrUserWarning,
        "attribute 'a' holds NaN or infinity",
    ),
    (
        "several processes",
        lambda: travelled().set_basic_selection(0, 1),
        ZarrRuntimeWarning,
        "An array of another process is written to in parts of chunks",
    ),
    (
        "references",
        lambda: zarr.copy(Referring(), zarr.create_group({}), "x"),
        ZarrUserWarning,
        "Attributes of /x that refer to other objects are not copied: DIMENSION_LIST.",
    ),
    (
        "not copied",
        lambda: zarr.copy_all({"t": Named()}, zarr.create_group({})),
        ZarrUserWarning,
        "Zarr has nothing for /t, which is not copied.",
    ),
    (
        "reserved name",
        lambda: zarr.create_group({}).create_group("__x"),
        ZarrUserWarning,
        "The node name '__x' is reserved",
    ),
    *(
        (
            "unstable data type",
            lambda dtype=dtype: array(dtype=dtype),
            UnstableSpecificationWarning,
            f"The data type ({name}) does not have a Zarr V3 specification. ",
        )
        for dtype, name in {
            "S3": "NullTerminatedBytes(length=3)",
            "V3": "RawBytes(length=3)",
            "variable_length_bytes": "VariableLengthBytes()",
            np.dtype([("a", "i4"), ("b", "S3")]): "NullTerminatedBytes(length=3)",
            np.dtype([("a", [("c", "V5")])]): "RawBytes(length=5)",
        }.items()
    ),
    *(
        ("ignored", call, ZarrRuntimeWarning, f"{name} is not yet implemented")
        for name, call in {
            "synchronizer": lambda: zarr.open_group({}, synchronizer=object()),
            "cache_attrs": lambda: zarr.group({}, cache_attrs=True),
            "chunk_store": lambda: zarr.open_group({}, chunk_store={}),
            "meta_array": lambda: zarr.create(3, meta_array=np.zeros(1)),
            "cache_metadata": lambda: zarr.create(3, cache_metadata=False),
            "expand": lambda: zarr.create_group({}).tree(expand=True),
        }.items()
    ),
]


@pytest.mark.parametrize(("topic", "call", "category", "start"), CASES)
def test_category_and_first_words(
    topic: str, call: Callable[[], Any], category: type[Warning], start: str
) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert [(w.category, str(w.message)[: len(start)]) for w in found] == [(category, start)]
    assert found[0].filename == __file__  # the line outside the library that led to it


def test_every_topic_is_tested() -> None:
    assert {topic for topic, *_ in CASES} == set(WARNINGS)


def test_categories_are_those_that_python_knows() -> None:
    assert issubclass(UnstableSpecificationWarning, ZarrFutureWarning)
    assert issubclass(ZarrFutureWarning, FutureWarning)
    assert issubclass(ZarrDeprecationWarning, DeprecationWarning)
    assert issubclass(ZarrRuntimeWarning, RuntimeWarning)
    assert issubclass(ZarrUserWarning, UserWarning)


@pytest.mark.parametrize("dtype", ["i4", "U3", str, "M8[s]", "m8[s]", "?", "c8", [("a", "i4")]])
def test_other_data_types_are_not_warned_of(dtype: Any) -> None:
    array(dtype=dtype)


def test_format_2_has_all_data_types() -> None:
    array(dtype="S3", zarr_format=2)


def test_opening_does_not_warn_of_the_data_type() -> None:
    store: dict[str, bytes] = {}
    with pytest.warns(UnstableSpecificationWarning):
        zarr.create_array(store, shape=3, dtype="S3")
    assert zarr.open_array(store).dtype == "S3"


def test_as_an_error_nothing_is_stored() -> None:
    for call in (
        lambda store: zarr.create_array(store, shape=3, dtype="S3"),
        lambda store: zarr.create_array(store, shape=3, dtype="i4", order="F"),
        lambda store: zarr.create_array(store, shape=300, dtype="i4", shards="auto"),
        lambda store: zarr.create_group(store, attributes={"a": float("nan")}),
    ):
        store: dict[str, bytes] = {}
        with pytest.raises(Warning):  # the filter of these tests
            call(store)
        assert store == {}
