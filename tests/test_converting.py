"""Nodes in the other format: documents alone, data, hierarchies; what cannot be; documents removed."""

import asyncio
from dataclasses import replace
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr_core.errors import (
    ContainsArrayError,
    ContainsGroupError,
    MetadataValidationError,
    NodeNotFoundError,
    ReadOnlyError,
)
from zarr_core.hierarchy.formats import in_format
from zarr_core.storage import LatencyStore, MemoryStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr"),
]

NUMBERS = np.arange(60).reshape(6, 10) % 13


def both(dtype: Any) -> Any:
    """Return values of a data type, in which fill values are, too."""
    dtype = np.dtype(dtype)
    if dtype.names is not None:
        return np.array([(n, n / 2) for n in NUMBERS.flat], dtype).reshape(NUMBERS.shape)
    return NUMBERS.astype(dtype)


V2: dict[str, dict[str, Any]] = {
    "zstd": {},
    "raw": {"compressors": None},
    "big-endian": {"dtype": ">i4"},
    "big-endian, order F": {"dtype": ">f8", "order": "F"},
    "nested keys": {"chunk_key_encoding": ("v2", "/")},
    "no fill value": {"fill_value": None},
    "NaN": {"dtype": "<f4", "fill_value": np.nan},
    "bool": {"dtype": "?"},
    "bytes": {"dtype": "S3"},
    "text of a length": {"dtype": "<U2"},
    "big-endian text": {"dtype": ">U2"},
    "raw bytes": {"dtype": "V4"},
    "times": {"dtype": "<M8[s]", "fill_value": None},
    "complex": {"dtype": "<c8"},
    "struct": {"dtype": [("a", "<i4"), ("b", "<f8")]},
    "big-endian struct": {"dtype": [("a", ">i4"), ("b", ">f8")]},
    "text": {"dtype": str},
    "text, filtered": {"dtype": str, "filters": [numcodecs.VLenUTF8(), numcodecs.CRC32()]},
    "variable bytes": {"dtype": bytes},
    "blosc": {"compressors": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE)},
    "blosc, auto": {"compressors": numcodecs.Blosc("lz4", 5, -1)},
    "gzip": {"compressors": numcodecs.GZip(3)},
    "zlib": {"compressors": numcodecs.Zlib(3)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "bz2": {"compressors": numcodecs.BZ2()},
    "lzma": {"compressors": numcodecs.LZMA()},
    "delta": {"filters": [numcodecs.Delta("<i4")]},
    "delta of another type": {"filters": [numcodecs.Delta("<i4", "<i2")]},
    "big-endian delta": {"dtype": ">i4", "filters": [numcodecs.Delta(">i4")]},
    "scaled": {"dtype": "<f8", "filters": [numcodecs.FixedScaleOffset(0, 10, "<f8", "<i2")]},
    "scaled, bigger": {"dtype": "<f8", "filters": [numcodecs.FixedScaleOffset(0, 1, "<f8", ">i2")]},
    "quantized": {"dtype": "<f8", "filters": [numcodecs.Quantize(3, "<f8", "<f4")]},
    "as type": {"dtype": "<i8", "filters": [numcodecs.AsType("<i4", "<i8")]},
    "packed": {"dtype": "?", "filters": [numcodecs.PackBits()]},
    "shuffled": {"filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib()},
    "several": {"filters": [numcodecs.Delta("<i4"), numcodecs.Shuffle(4), numcodecs.CRC32()]},
    "checksum": {"compressors": numcodecs.Fletcher32()},
}  # fmt: skip

V3: dict[str, dict[str, Any]] = {
    "zstd": {},
    "names": {"dimension_names": ["y", "x"]},
    "a name is missing": {"dimension_names": ["y", None]},
    "big-endian": {"serializer": BytesCodec(endian="big"), "dtype": "f8"},
    "order F": {"filters": TransposeCodec(order=(1, 0))},
    "blosc": {"compressors": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")},
    "gzip": {"compressors": GzipCodec(level=3)},
    "several": {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
    "filters": {"filters": {"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}},
    "text": {"dtype": str},
    "variable bytes": {"dtype": bytes},
    "struct": {"dtype": [("a", "<i4"), ("b", "<f8")]},
    "times": {"dtype": "M8[ms]"},
}  # fmt: skip


def made(options: dict[str, Any], **more: Any) -> tuple[zarr.Array, Any]:
    """Return an array of a group, some chunks of which are not stored."""
    given = {"shape": (6, 10), "chunks": (4, 3), "dtype": "<i4", "name": "g/a", **more, **options}
    array = zarr.create_array({}, **given)
    kind = given["dtype"]
    variable = [str, bytes].count(kind) > 0
    values = (
        NUMBERS.astype(str).astype(object if kind is bytes else str) if variable else both(kind)
    )
    if kind is bytes:
        values = np.vectorize(lambda v: str(v).encode(), otypes=[object])(NUMBERS)
    array[:, :7] = values[:, :7]
    return array, array[...]


def same(found: Any, expected: Any) -> None:
    if found.dtype.kind == "V" and found.dtype.names is None:
        found, expected = found.view("u1"), expected.view("u1")
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


# --- one array: every codec and data type ------------------------------------------------------------


@pytest.mark.parametrize("options", V2.values(), ids=V2)
def test_documents_of_format_3_describe_chunks_of_format_2(options: dict[str, Any]) -> None:
    array, values = made(options, zarr_format=2, attributes={"a": 1})
    assert zarr.convert(array.store, zarr_format=3) == (3, 0, 0)
    found = zarr.open_array(array.store, path="g/a", zarr_format=3)
    same(found[...], values)
    assert found.attrs.asdict() == {"a": 1}
    assert found.chunks == array.chunks
    found[0, 0] = found[1, 1]  # and back: what format 3 writes, format 2 reads
    same(array[...], found[...])
    back = in_format(found.metadata, 2)
    same(zarr.Array(back, found.store_path)[...], found[...])


@pytest.mark.parametrize("options", V3.values(), ids=V3)
def test_documents_of_format_2_describe_chunks_of_format_3(options: dict[str, Any]) -> None:
    array, values = made(
        options, zarr_format=3, chunk_key_encoding={"name": "v2", "separator": "."}
    )
    zarr.convert(array.store, zarr_format=2)
    found = zarr.open_array(array.store, path="g/a", zarr_format=2)
    same(found[...], values)
    assert in_format(found.metadata, 3).chain == array.metadata.chain
    names = options.get("dimension_names", [None])
    assert found.attrs.asdict() == ({} if None in names else {"_ARRAY_DIMENSIONS": names})


@pytest.mark.parametrize("options", V2.values(), ids=V2)
def test_data_of_format_2_in_format_3_and_back(options: dict[str, Any]) -> None:
    array, values = made(options, zarr_format=2)
    new: dict[str, Any] = {}
    zarr.convert(array.store, new, zarr_format=3)
    found = zarr.open_array(new, path="g/a")
    same(found[...], values)
    assert found.metadata.chunk_key_encoding.name == "default"
    for coords in np.ndindex(array.cdata_shape):
        assert found.read_encoded_chunk(coords) == array.read_encoded_chunk(coords)
    again: dict[str, Any] = {}
    zarr.convert(new, again, zarr_format=2)
    same(zarr.open_array(again, path="g/a")[...], values)


def test_data_of_what_format_2_does_not_have() -> None:
    sharded, values = made({}, shards=(8, 6), compressors=GzipCodec(level=2))
    with pytest.raises(MetadataValidationError, match=r"g/a: not possible in format 2"):
        zarr.convert(sharded.store, zarr_format=2)
    assert "g/a/.zarray" not in sharded.store.list()
    old: dict[str, Any] = {}
    zarr.convert(sharded.store, old, zarr_format=2)
    found = zarr.open_array(old, path="g/a")
    assert (found.chunks, found.shards, found.compressor.codec_id) == ((4, 3), None, "gzip")
    same(found[...], values)
    codecs = {"filters": TransposeCodec(order=(1, 0, 2)), "dtype": "f4", "chunks": (2, 2, 2)}
    odd = zarr.create_array({}, data=np.ones((3, 4, 5), "f4"), **codecs)
    old = {}
    zarr.convert(odd.store, old, zarr_format=2)
    assert zarr.open_array(old).compressor.codec_id == "zstd"  # encoded again
    same(zarr.open_array(old)[...], odd[...])


CANNOT_BE: dict[str, tuple[int, dict[str, Any]]] = {
    "any objects": (2, {"dtype": object, "filters": [numcodecs.JSON()], "chunks": (4, 3)}),
    "mixed byte orders": (2, {"dtype": [("a", "<i4"), ("b", ">f8")]}),
    "keys": (3, {}),
    "a transpose": (3, {"filters": TransposeCodec(order=(0, 2, 1)), "shape": (2, 3, 4), "chunks": 2}),
    "a rectilinear grid": (3, {"chunks": [[2, 4], [5, 5]]}),
}  # fmt: skip


@pytest.mark.parametrize(("zarr_format", "options"), CANNOT_BE.values(), ids=CANNOT_BE)
def test_what_the_other_format_cannot_express(zarr_format: Any, options: dict[str, Any]) -> None:
    if zarr_format == 3 and options:
        options = {"chunk_key_encoding": ("v2", "."), **options}
    given = {"shape": (6, 10), "chunks": (4, 3), "dtype": "<i4", "name": "a", **options}
    array = zarr.create_array({}, zarr_format=zarr_format, **given)
    before = sorted(array.store.list())
    with pytest.raises(MetadataValidationError, match=r"array at .*a: not possible in format"):
        zarr.convert(array.store, zarr_format=5 - zarr_format, log=pytest.fail)
    assert sorted(array.store.list()) == before


# --- hierarchies -------------------------------------------------------------------------------------


def hierarchy(zarr_format: Any, store: Any = None) -> zarr.Group:
    group = zarr.create_group(store or {}, zarr_format=zarr_format, attributes={"title": "t"})
    for name in ("a", "b/c"):
        group.create_array(name, data=NUMBERS, chunks=(4, 3), attributes={"name": name})
    group["b"].attrs["n"] = 1
    return group


def seen(group: zarr.Group) -> dict[str, Any]:
    return {
        path: (node.attrs.asdict(), node[...].tolist() if isinstance(node, zarr.Array) else None)
        for path, node in [("", group), *group.members(None)]
    }


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_hierarchy_with_data(zarr_format: Any, slow: bool) -> None:
    source = hierarchy(5 - zarr_format)
    start: Any = LatencyStore(source.store) if slow else source.store
    dest: Any = LatencyStore(MemoryStore()) if slow else MemoryStore()
    lines: list[str] = []
    counts = zarr.convert(start, dest, zarr_format=zarr_format, log=lines.append)
    assert counts == (4, 0, 2 * NUMBERS.nbytes)
    assert lines[:2] == [
        f"convert / to format {zarr_format}",
        f"convert /a to format {zarr_format}",
    ]
    assert lines[-1] == "all done: 4 converted, 0 skipped, 960 bytes copied"
    converted = zarr.open_group(dest)
    assert converted.metadata.zarr_format == zarr_format
    assert seen(converted) == seen(source)
    before = {key: dest.get(key) for key in dest.list()}
    assert zarr.convert(start, dest, zarr_format=zarr_format) == (0, 4, 0)
    again = zarr.convert(start, dest, zarr_format=zarr_format, overwrite=True)
    assert again == (2, 2, 960)
    assert {key: dest.get(key) for key in dest.list()} == before
    below = zarr.convert(start, dest, zarr_format=zarr_format, log=None, data=True)
    assert below == (0, 4, 0)


def test_documents_alone() -> None:
    source = hierarchy(2)
    lines: list[str] = []
    assert zarr.convert(source.store, zarr_format=3, dry_run=True, log=lines.append) == (4, 0, 0)
    assert lines[-1] == "dry run: 4 converted, 0 skipped"
    assert not any(key.endswith("zarr.json") for key in source.store.list())
    dest = MemoryStore()
    zarr.convert(source.store, dest, zarr_format=3, data=False)
    assert sorted(dest.list()) == ["a/zarr.json", "b/c/zarr.json", "b/zarr.json", "zarr.json"]
    keys = sorted(source.store.list())
    zarr.convert(source.store, zarr_format=3)
    assert sorted(source.store.list()) == sorted([*keys, *dest.list()])
    assert all(source.store.get(key) == dest.get(key) for key in dest.list())
    assert seen(zarr.open_group(source.store, zarr_format=3)) == seen(source)


def test_old_documents_are_removed_at_the_end() -> None:
    source = hierarchy(2)
    before = seen(source)
    lines: list[str] = []
    zarr.convert(source.store, zarr_format=3, remove_old=True, dry_run=True, log=lines.append)
    assert "remove a/.zarray" in lines
    assert "a/.zarray" in source.store.list()
    zarr.convert(source.store, zarr_format=3, remove_old=True)
    assert not any("/." in f"/{key}" for key in source.store.list())
    assert seen(zarr.open_group(source.store)) == before
    assert zarr.convert(source.store, zarr_format=3, remove_old=True) == (0, 0, 0)
    source.store.set("b/.zattrs", b"{}")  # as a killed call leaves it
    assert zarr.convert(source.store, zarr_format=3, remove_old=True) == (0, 0, 0)
    assert "b/.zattrs" not in source.store.list()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_are_made_anew(zarr_format: Any) -> None:
    source = hierarchy(5 - zarr_format)
    zarr.consolidate_metadata(source.store)
    dest = MemoryStore()
    zarr.convert(source.store, dest, zarr_format=zarr_format)
    assert seen(zarr.open_consolidated(dest)) == seen(source)
    if zarr_format == 3:
        zarr.convert(source.store, zarr_format=3, remove_old=True)
        assert seen(zarr.open_consolidated(source.store)) == seen(zarr.open_group(dest))


def test_names_of_dimensions_are_where_xarray_looks_for_them() -> None:
    names = {"_ARRAY_DIMENSIONS": ["y", "x"]}
    old = zarr.create_array(
        {}, data=NUMBERS, zarr_format=2, attributes={**names, "b": 1}, fill_value=None
    )
    zarr.convert(old.store, zarr_format=3)
    new = zarr.open_array(old.store, zarr_format=3)
    assert new.metadata.dimension_names == ("y", "x")
    assert new.attrs.asdict() == {"b": 1}
    back: dict[str, Any] = {}
    zarr.remove_metadata(old.store, 2)
    zarr.convert(old.store, back, zarr_format=2)
    assert zarr.open_array(back).attrs.asdict() == {"b": 1, **names}
    odd = zarr.create_array(
        {}, data=NUMBERS, zarr_format=2, attributes={"_ARRAY_DIMENSIONS": ["y"]}
    )
    zarr.convert(odd.store, zarr_format=3)
    assert zarr.open_array(odd.store, zarr_format=3).attrs.asdict() == {"_ARRAY_DIMENSIONS": ["y"]}


NAN = "AAAAAAAA+H8="  # as xarray writes it

MASKS = {  # of format 2: data type, fill value, attribute; of format 3: fill value, attribute
    "NaN": ("f4", np.nan, None, np.nan, NAN),
    "integers": ("i2", -9, None, -9, -9),
    "zero": ("u1", 0, None, 0, 0),
    "no mask": ("f8", None, None, 0.0, None),
    "only the attribute": ("i4", None, -9, 0, -9),
    "bool": ("?", None, None, False, None),
}


@pytest.mark.parametrize(
    ("dtype", "fill", "mask", "new_fill", "new_mask"), MASKS.values(), ids=MASKS
)
def test_what_is_missing_to_xarray_stays_missing(
    dtype: str, fill: Any, mask: Any, new_fill: Any, new_mask: Any
) -> None:
    attributes: Any = {"_ARRAY_DIMENSIONS": ["x"]} | ({} if mask is None else {"_FillValue": mask})
    options: Any = {"data": np.zeros(3, dtype), "fill_value": fill, "attributes": attributes}
    old = zarr.create_array({}, zarr_format=2, **options).metadata
    new = in_format(old, 3)
    np.testing.assert_equal(new.fill_value, new_fill)
    assert new.attributes == ({} if new_mask is None else {"_FillValue": new_mask})
    back = in_format(new, 2)
    if dtype == "?":  # which nothing masks
        back = replace(back, fill_value=None)
    assert back == old


def test_masks_of_format_3_that_are_not_its_fill_value() -> None:
    def in_2(fill: Any, mask: Any) -> tuple[Any, Any]:
        options: Any = {"data": np.zeros(3), "fill_value": fill, "dimension_names": ["x"]}
        attributes = {} if mask is None else {"_FillValue": mask}
        new = zarr.create_array({}, attributes=attributes, **options).metadata
        old = in_format(new, 2, same_keys=False)
        return old.fill_value, old.attributes.get("_FillValue")

    assert in_2(0, NAN) == (None, None)
    assert in_2(0, "AAAAAAAA8D8=") == (None, 1.0)
    assert in_2(5, "AAAAAAAA8D8=") == (5, 1.0)
    assert in_2(5, None) == (5, None)


def test_what_is_in_the_way() -> None:
    source = hierarchy(2)
    source.store.set("b/c/zarr.json", b"{")  # damaged
    with pytest.raises(ContainsArrayError, match="b/c"):
        zarr.convert(source.store, zarr_format=3)
    assert "zarr.json" not in source.store.list()
    zarr.convert(source.store, zarr_format=3, overwrite=True)
    zarr.open_group(source.store, zarr_format=3).attrs["title"] = "another"
    with pytest.raises(ContainsGroupError):
        zarr.convert(source.store, zarr_format=3)
    zarr.convert(source.store, zarr_format=3, overwrite=True)
    assert zarr.open_group(source.store, zarr_format=3).attrs["title"] == "t"
    dest = zarr.create_array({}, shape=3, dtype="i1")
    with pytest.raises(ContainsArrayError):
        zarr.convert(source.store, dest.store, zarr_format=3)


def test_arguments_that_do_not_fit() -> None:
    source = hierarchy(2)
    with pytest.raises(ValueError, match="2 or 3"):
        zarr.convert(source.store, zarr_format=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a dest"):
        zarr.convert(source.store, zarr_format=3, data=True)
    with pytest.raises(ValueError, match="remove_old"):
        zarr.convert(source.store, {}, zarr_format=3, remove_old=True)
    below = zarr.storage.StorePath(source.store, "b/new")
    with pytest.raises(ValueError, match="in the other"):
        zarr.convert(source.store, below, zarr_format=3)
    assert zarr.convert(source.store, zarr_format=2) == (0, 0, 0)  # it is
    with pytest.raises(NodeNotFoundError, match="no node of format 3"):
        zarr.convert(source.store, {}, zarr_format=2)
    with pytest.raises(NodeNotFoundError):
        zarr.convert({}, zarr_format=3)
    with pytest.raises(ReadOnlyError):
        zarr.convert(source.store.with_read_only(True), zarr_format=3)


def test_remove_metadata() -> None:
    source = hierarchy(2)
    keys = set(source.store.list())
    old = {key for key in keys if "/." in f"/{key}"}
    with pytest.raises(ValueError, match="only description"):
        zarr.remove_metadata(source.store, 2)
    zarr.convert(source.store, zarr_format=3)
    lines: list[str] = []
    found = zarr.remove_metadata(source.store, 2, dry_run=True, log=lines.append)
    assert set(found) == old
    assert lines == [f"remove {key}" for key in found]
    assert set(asyncio.run(zarr.remove_metadata_async(source.store, 3))) == {
        *("zarr.json", "a/zarr.json", "b/zarr.json", "b/c/zarr.json")
    }
    assert set(source.store.list()) == keys
    assert set(zarr.remove_metadata(source.store, 2, force=True)) == old
    assert set(source.store.list()) == keys - old
