"""Documents of nodes: what is read, what is written, what is refused and how the refusal reads."""

import copy
import json
import random
import tracemalloc
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.errors import (
    BaseZarrError,
    MemoryLimitError,
    MetadataValidationError,
    NodeTypeValidationError,
    UnknownCodecError,
    ZarrUserWarning,
)
from zarr_core.metadata import ArrayMetadata, GroupMetadata, documents
from zarr_core.metadata.documents import load_json
from zarr_core.storage import MemoryStore

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}

V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [10, 20],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 10]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 1.5,
    "codecs": [BYTES, ZSTD],
    "attributes": {"units": "K", "nested": {"a": [1, None, "x"]}},
    "storage_transformers": [],
    "dimension_names": ["time", None],
}
SHARDED: dict[str, Any] = {
    **V3,
    "codecs": [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, 5],
                "codecs": [BYTES, ZSTD],
                "index_codecs": [BYTES, {"name": "crc32c"}],
                "index_location": "end",
            },
        }
    ],
}
SHARDED_LINE = [
    {
        **SHARDED["codecs"][0],
        "configuration": {**SHARDED["codecs"][0]["configuration"], "chunk_shape": [1]},
    }
]
V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [10, 20],
    "chunks": [5, 10],
    "dtype": "<f4",
    "compressor": {"id": "zlib", "level": 1},
    "fill_value": 1.5,
    "order": "C",
    "filters": [{"id": "shuffle", "elementsize": 4}],
    "dimension_separator": ".",
}
ATTRIBUTES = {"units": "K"}


def changed(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a document with other fields; `...` removes one."""
    new = {**document, **fields}
    return {name: value for name, value in new.items() if value is not ...}


def store_with(**documents: Any) -> dict[str, bytes]:
    names = {"v3": "zarr.json", "zarray": ".zarray", "zgroup": ".zgroup", "zattrs": ".zattrs"}
    return {
        names[name]: document if isinstance(document, bytes) else json.dumps(document).encode()
        for name, document in documents.items()
    }


def stored(store: dict[str, bytes], name: str = "zarr.json") -> Any:
    return json.loads(store[name])


def parse(document: dict[str, Any]) -> ArrayMetadata:
    """Return what a document says, through a store, as it is found there."""
    name = "v3" if document["zarr_format"] == 3 else "zarray"
    metadata = zarr.open_array(store_with(**{name: document})).metadata
    _ = metadata.dtype  # raises for one that is not known
    return metadata


# --- what is read and written ----------------------------------------------------------------------


@pytest.mark.parametrize("document", [V3, SHARDED])
def test_a_document_of_format_3_survives(document: dict[str, Any]) -> None:
    metadata = parse(document)
    assert metadata.to_dict() == document
    assert ArrayMetadata.from_dict(document) == metadata
    assert json.loads(metadata.documents()["zarr.json"]) == document
    assert metadata.shape == (10, 20)
    assert metadata.dtype == np.dtype("f4")
    assert metadata.fill_value == np.float32(1.5)
    assert metadata.dimension_names == ("time", None)
    assert metadata.node_type == "array"


def test_a_document_of_format_2_survives() -> None:
    store = store_with(zarray=V2, zattrs=ATTRIBUTES)
    metadata = zarr.open_array(store).metadata
    assert metadata.to_dict() == {**V2, "attributes": ATTRIBUTES}
    assert ArrayMetadata.from_dict({**V2, "attributes": ATTRIBUTES}) == metadata
    assert {name: json.loads(text) for name, text in metadata.documents().items()} == {
        ".zarray": V2,
        ".zattrs": ATTRIBUTES,
    }


def test_what_is_written_is_what_other_readers_need() -> None:
    short = changed(
        V3,
        data_type={"name": "float32"},
        chunk_key_encoding="default",
        codecs=["bytes", {"name": "zstd", "configuration": {"level": 0}, "must_understand": True}],
        attributes=...,
        storage_transformers=...,
        dimension_names=...,
    )
    with pytest.raises(MetadataValidationError, match="endian"):
        zarr.open_array(store_with(v3=short))[0, 0]  # only one-byte types can do without
    short["data_type"], short["fill_value"] = {"name": "int8"}, 0
    written = parse(short).to_dict()
    assert written == changed(
        V3,
        data_type="int8",
        fill_value=0,
        codecs=[{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 0}}],
        attributes={},
        dimension_names=...,
    )


def test_chunk_key_encodings_without_configuration() -> None:
    for form, separator in [
        ("v2", "."),
        ({"name": "v2"}, "."),
        ("default", "/"),
        ({"name": "default"}, "/"),
    ]:
        metadata = parse(changed(V3, chunk_key_encoding=form))
        assert metadata.dimension_separator == separator
        encoding = metadata.to_dict()["chunk_key_encoding"]
        assert encoding["configuration"] == {"separator": separator}


def test_the_fill_value_is_always_recorded() -> None:
    for fill_value in (None, 0, zarr.create.__kwdefaults__["fill_value"]):
        store: dict[str, bytes] = {}
        zarr.create_array(store, shape=(1,), dtype="i4", fill_value=fill_value)
        assert stored(store)["fill_value"] == 0


@pytest.mark.parametrize(
    ("data_type", "fill"),
    [
        ("float32", "NaN"),
        ("float32", "0x7fc00001"),
        ("float64", "0xfff8000000000000"),
        ("float64", "-Infinity"),
        ("float64", 0.1),
        ("complex64", ["NaN", "Infinity"]),
        ("uint64", 2**64 - 1),
        ("int64", -(2**63)),
        ("bool", True),
        ("string", "é\0"),
    ],
)
def test_fill_values_survive_a_change_of_attributes(data_type: str, fill: Any) -> None:
    codecs = [{"name": "vlen-utf8"}] if data_type == "string" else [BYTES]
    store = store_with(v3=changed(V3, data_type=data_type, fill_value=fill, codecs=codecs))
    zarr.open_array(store).attrs["x"] = 1
    assert stored(store)["fill_value"] == fill


def test_the_sign_of_zero_survives() -> None:
    store = store_with(v3=changed(V3, fill_value=-0.0))
    zarr.open_array(store).attrs["x"] = 1
    assert np.signbit(stored(store)["fill_value"])


def test_fields_that_need_not_be_understood_are_kept() -> None:
    extra = {"must_understand": False, "more": [1, {"x": None}]}
    store = store_with(v3=changed(V3, vendor=extra))
    a = zarr.open_array(store)
    assert a.metadata.extra_fields == {"vendor": extra}
    a.attrs["x"] = 1
    a.resize((3, 3))
    assert stored(store)["vendor"] == extra
    assert stored(store)["shape"] == [3, 3]
    group_store = store_with(v3={"zarr_format": 3, "node_type": "group", "vendor": extra})
    zarr.open_group(group_store).attrs["x"] = 1
    assert stored(group_store)["vendor"] == extra
    codec = {"name": "unheard-of", "configuration": {"a": 1}, "must_understand": False}
    store = store_with(v3=changed(V3, codecs=[BYTES, codec]))
    zarr.open_array(store).attrs["x"] = 1
    assert stored(store)["codecs"] == [BYTES, codec]


def test_fields_that_must_be_understood_are_refused() -> None:
    for value in (1, None, "x", [], {}, {"must_understand": True}, {"must_understand": 0}):
        with pytest.raises(MetadataValidationError, match="'vendor'"):
            parse(changed(V3, vendor=value))
        with pytest.raises(MetadataValidationError, match="'vendor'"):
            zarr.open_group(
                store_with(v3={"zarr_format": 3, "node_type": "group", "vendor": value})
            )


def test_fields_of_others_in_format_2_are_kept() -> None:
    ours = {"zarray": changed(V2, _NCZARR_ARRAY={"dimrefs": ["/x"]}), "zattrs": {"y": 1}}
    store = store_with(**ours)
    a = zarr.open_array(store)
    a.attrs["x"] = 1
    a.resize((3, 3))
    assert stored(store, ".zarray")["_NCZARR_ARRAY"] == {"dimrefs": ["/x"]}
    assert stored(store, ".zattrs") == {"y": 1, "x": 1}
    group_store = store_with(zgroup={"zarr_format": 2, "_NCZARR_GROUP": {"arrays": ["a"]}})
    zarr.open_group(group_store).attrs["x"] = 1
    assert stored(group_store, ".zgroup") == {"zarr_format": 2, "_NCZARR_GROUP": {"arrays": ["a"]}}


def test_older_names_are_read() -> None:
    store = store_with(
        v3=changed(V3, codecs=[{"name": "endian", "configuration": {"endian": "big"}}])
    )
    a = zarr.open_array(store)
    a[0, 0] = 1
    assert store["c/0/0"][:4] == np.array(1, ">f4").tobytes()


# --- format 2 --------------------------------------------------------------------------------------


def test_what_may_be_missing_in_format_2() -> None:
    document = changed(V2, dimension_separator=..., filters=None, compressor=None, fill_value=None)
    store = store_with(zarray=document)
    a = zarr.open_array(store)
    assert a.metadata.dimension_separator == "."
    assert a.attrs.asdict() == {}
    assert a.fill_value is None
    assert a[0, 0] == 0
    a[:] = 1
    assert "1.1" in store
    a.attrs["x"] = 1
    assert stored(store, ".zarray") == {**document, "dimension_separator": "."}
    empty = zarr.open_array(store_with(zarray=changed(V2, filters=[])))
    assert empty.filters == ()
    assert empty[0, 0] == np.float32(1.5)


def test_order_f_is_fortran_order_before_the_filters() -> None:
    raw = changed(
        V2, shape=[2, 2], chunks=[2, 2], dtype="|u1", filters=None, compressor=None, fill_value=0
    )
    store = store_with(zarray=changed(raw, order="F"))
    zarr.open_array(store)[:] = [[1, 2], [3, 4]]
    assert store["0.0"] == b"\1\3\2\4"
    store = store_with(zarray=changed(raw, order="F", filters=[{"id": "delta", "dtype": "|u1"}]))
    zarr.open_array(store)[:] = [[1, 2], [3, 5]]
    assert store["0.0"] == bytes([1, 2, 255, 3])
    store = store_with(zarray=raw)
    zarr.open_array(store)[:] = [[1, 2], [3, 4]]
    assert store["0.0"] == b"\1\2\3\4"


@pytest.mark.parametrize(
    ("dtype", "fill", "element"),
    [
        ("<f8", "NaN", np.nan),
        ("<f8", "-Infinity", -np.inf),
        ("<c16", ["NaN", 1.0], complex(np.nan, 1)),
        ("|S3", "YWIA", b"ab"),
        ("<U3", "é", "é"),
        ("<M8[ns]", -(2**63), np.datetime64("NaT", "ns")),
        ("<i8", 5, 5),
        ([["a", "<i2"], ["b", "|u1"]], "AQAC", (1, 2)),
    ],
)
def test_fill_values_of_format_2(dtype: Any, fill: Any, element: Any) -> None:
    store = store_with(zarray=changed(V2, dtype=dtype, fill_value=fill, filters=None))
    a = zarr.open_array(store)
    np.testing.assert_equal(a[..., 0, 0].item(), np.array(element, a.dtype).item())
    a.attrs["x"] = 1
    assert stored(store, ".zarray")["fill_value"] == fill
    assert stored(store, ".zarray")["dtype"] == dtype


def test_objects_of_format_2_need_a_codec() -> None:
    for filters in (None, [], [{"id": "shuffle"}]):
        with pytest.raises(MetadataValidationError, match="dtype"):
            parse(changed(V2, dtype="|O", filters=filters, fill_value=0))
    text = zarr.open_array(
        store_with(zarray=changed(V2, dtype="|O", filters=[{"id": "vlen-utf8"}], fill_value=0))
    )
    assert text.dtype == np.dtypes.StringDType()
    assert text[..., 0, 0] == ""


def test_both_formats_at_one_place_warn() -> None:
    store = store_with(v3=V3, zarray=V2)
    with pytest.warns(ZarrUserWarning, match="Both zarr"):
        assert zarr.open_array(store).metadata.zarr_format == 3
    assert zarr.open_array(store, zarr_format=2).metadata.zarr_format == 2


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [V3, V2], ids=["v3", "v2"])
def test_missing_fields_are_named(document: dict[str, Any]) -> None:
    optional = {"attributes", "storage_transformers", "dimension_names", "dimension_separator"}
    name = "zarr.json" if document is V3 else ".zarray"
    for field in document.keys() - optional - {"zarr_format"}:
        with pytest.raises(MetadataValidationError) as caught:
            parse(changed(document, **{field: ...}))
        assert f"field {field!r} is missing" in str(caught.value)
        assert f"{name} at memory://" in str(caught.value)
    for field in document.keys() & optional:
        parse(changed(document, **{field: ...}))


BAD_V3 = [
    ("shape", "10", "'10'"),
    ("shape", [1.0, 2], "1.0"),
    ("shape", [-1, 2], "-1"),
    ("shape", [True, 2], "True"),
    ("shape", [2**63, 2], "9223372036854775808"),
    ("shape", [1] * 65, "64 lengths"),
    ("shape", None, "None"),
    ("data_type", "float31", "'float31'"),
    ("data_type", 5, "5"),
    ("data_type", {"name": "float32", "must_understand": False}, "must_understand"),
    ("data_type", {"nam": "float32"}, "nam"),
    ("chunk_grid", {"name": "hexagonal"}, "'hexagonal'"),
    ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [5]}}, "2 entries"),
    ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [0, 5]}}, "0"),
    ("chunk_grid", {"name": "regular", "configuration": [5]}, "[5]"),
    ("chunk_grid", {"name": "regular", "must_understand": False}, "must_understand"),
    ("chunk_key_encoding", "v9", "'v9'"),
    ("chunk_key_encoding", {"name": "v2", "configuration": {"separator": "-"}}, "'-'"),
    ("fill_value", None, "None"),
    ("fill_value", "1.5", "'1.5'"),
    ("fill_value", [1.5], "[1.5]"),
    ("fill_value", "0x12", "'0x12'"),
    ("codecs", [], "[]"),
    ("codecs", None, "None"),
    ("codecs", "bytes", "'bytes'"),
    ("codecs", [5], "5"),
    ("codecs", [{"configuration": {}}], "configuration"),
    ("codecs", [{"name": "bytes", "extra": 1}], "extra"),
    ("codecs", [{"name": "bytes", "must_understand": "no"}], "no"),
    ("attributes", [], "[]"),
    ("attributes", "x", "'x'"),
    ("storage_transformers", [{"name": "x"}], "'x'"),
    ("dimension_names", ["x"], "['x']"),
    ("dimension_names", ["x", 5], "5"),
    ("dimension_names", "xy", "'xy'"),
]
BAD_V2 = [
    ("shape", [1.5, 2], "1.5"),
    ("chunks", [5], "2 entries"),
    ("chunks", [5, 0], "0"),
    ("chunks", None, "None"),
    ("dtype", "<f9", "'<f9'"),
    ("dtype", ["x"], "x"),
    ("dtype", None, "None"),
    ("compressor", "zlib", "'zlib'"),
    ("compressor", {"level": 1}, "level"),
    ("filters", {"id": "x"}, "x"),
    ("filters", [{"name": "x"}], "x"),
    ("fill_value", "x", "'x'"),
    ("order", "A", "'A'"),
    ("order", None, "None"),
    ("dimension_separator", "-", "'-'"),
]


@pytest.mark.parametrize(("field", "value", "found"), BAD_V3)
def test_bad_fields_of_format_3_are_named(field: str, value: Any, found: str) -> None:
    with pytest.raises(MetadataValidationError) as caught:
        parse(changed(V3, **{field: value}))
    assert str(caught.value).startswith("zarr.json at memory://")
    assert f"field {field!r}" in str(caught.value)
    assert found in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("field", "value", "found"), BAD_V2)
def test_bad_fields_of_format_2_are_named(field: str, value: Any, found: str) -> None:
    with pytest.raises(MetadataValidationError) as caught:
        parse(changed(V2, **{field: value}))
    assert str(caught.value).startswith(".zarray at memory://")
    assert f"field {field!r}" in str(caught.value)
    assert found in str(caught.value)


def test_bad_attributes_of_format_2_are_named() -> None:
    with pytest.raises(MetadataValidationError, match=r"\.zattrs.*\[\]|\.zattrs.*object"):
        zarr.open_array(store_with(zarray=V2, zattrs=[]))


def test_headers() -> None:
    for document, words in [
        (changed(V3, zarr_format=...), "'zarr_format' is missing"),
        (changed(V3, zarr_format=4), "expected 3, found 4"),
        (changed(V3, zarr_format=True), "found True"),
        (changed(V3, node_type=...), "'node_type' is missing"),
        (changed(V3, node_type="table"), "'table'"),
        ([], "expected an object"),
        (5, "expected an object"),
    ]:
        with pytest.raises(MetadataValidationError, match=words):
            zarr.open_array(store_with(v3=document))
    with pytest.raises(NodeTypeValidationError, match="'table'"):
        zarr.open_array(store_with(v3=changed(V3, node_type="table")))
    with pytest.raises(MetadataValidationError, match="expected 2, found 3"):
        zarr.open_array(store_with(zarray=changed(V2, zarr_format=3)))
    assert GroupMetadata.from_dict({"zarr_format": 3, "node_type": "group"}).attributes == {}


def test_codecs_that_do_not_fit_are_refused_when_data_is_touched() -> None:
    for codecs in (
        [ZSTD],
        [BYTES, BYTES],
        [ZSTD, BYTES],
        [BYTES, {"name": "transpose", "configuration": {"order": [1, 0]}}],
        [{"name": "transpose", "configuration": {"order": [0, 0]}}, BYTES],
        [{"name": "transpose", "configuration": {"order": "F"}}, BYTES],
        [{"name": "bytes"}],
        [{"name": "vlen-utf8"}],
        [BYTES, {"name": "zstd", "configuration": {"level": "3"}}],
        [BYTES, {"name": "gzip", "configuration": {"level": 11}}],
        [BYTES, {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": 1}}],
        [BYTES, {"name": "gzip", "configuration": {"level": 1, "more": 1}}],
    ):
        a = zarr.open_array(store_with(v3=changed(V3, codecs=codecs)))
        assert a.shape == (10, 20)
        with pytest.raises(MetadataValidationError):
            a[0, 0]


# --- hostile documents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        json.dumps(V3).replace("10, 20", "9" * 5000 + ", 20").encode(),
        json.dumps(V3).replace("10, 20", "9" * 4000 + ", 20").encode(),
        json.dumps(V3).replace('"units": "K"', '"deep": ' + "[" * 200_000 + "]" * 200_000).encode(),
        json.dumps(V3).replace("1.5", "-" + "9" * 4000).encode(),
    ],
    ids=lambda text: str(text[:20]),
)
@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup"])
def test_texts_that_are_no_documents(name: str, text: bytes) -> None:
    for function in (zarr.open_array, zarr.open_group, zarr.open):
        with pytest.raises(MetadataValidationError, match=rf"{name} at memory://") as caught:
            function({name: text}, mode="r")
        assert len(str(caught.value)) < 500


def test_a_document_that_is_too_large_is_not_parsed() -> None:
    store = store_with(v3=changed(V3, attributes={"x": "y" * 2000}))
    with (
        zarr.config.set({"metadata.max_bytes": 1000}),
        pytest.raises(MetadataValidationError, match=r"metadata\.max_bytes \(1000\)"),
    ):
        zarr.open_array(store)
    assert zarr.open_array(store).attrs["x"] == "y" * 2000


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup", ".zmetadata"])
def test_a_document_that_is_too_large_is_not_read(name: str, tmp_path: Path) -> None:
    place = tmp_path / "a"
    if name == ".zmetadata":
        zarr.create_group(place, zarr_format=2)
    place.mkdir(exist_ok=True)
    with (place / name).open("wb") as file:
        file.truncate(400 << 20)  # on a disk it takes no room
    tracemalloc.start()
    try:
        with pytest.raises(MetadataValidationError, match=rf"{name}'.*419430400.*metadata\.max"):
            zarr.open(place, mode="r")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_document_in_a_zip_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("zarr.json", bytes(3 << 20))
    with (
        zarr.config.set({"metadata.max_bytes": 2 << 20}),
        zarr.storage.ZipStore(tmp_path / "a.zip") as store,
    ):
        with pytest.raises(MetadataValidationError, match=r"3145728 bytes.*metadata\.max"):
            zarr.open(store)
        assert store.get("zarr.json", zarr.storage.RangeByteRequest(0, 2)) == bytes(2)


def test_a_name_that_stands_twice_is_refused() -> None:
    text = json.dumps(V3).replace('"shape"', '"shape": [1, 1], "shape"', 1).encode()
    with pytest.raises(MetadataValidationError, match="'shape' stands twice"):
        zarr.open_array({"zarr.json": text}, mode="r")


NAMES = st.sampled_from(["a", "b", ":", '\\":', "c :", "\\u003a"])
BLANKS = st.sampled_from(["", "", "", " ", "\n"])
VALUES: st.SearchStrategy[str] = st.recursive(
    st.one_of(st.just("1"), NAMES.map(lambda name: f'"{name}"')),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(NAMES, BLANKS, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f'"{n}"{blank}:{v}' for n, blank, v in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_name_that_stands_twice_is_found_wherever_it_is(text: str) -> None:
    document = f'{{"root":{text}}}'
    try:
        expected = documents._decode_pairs(document)
    except ValueError:
        with pytest.raises(MetadataValidationError, match="stands twice"):
            load_json(document.encode(), "zarr.json")
    else:
        assert load_json(document.encode(), "zarr.json") == expected


@pytest.mark.parametrize("depth", [100, 200, 300])
def test_codecs_nested_too_deeply_are_refused(depth: int) -> None:
    codecs: Any = [BYTES]
    for _ in range(depth):
        inner = {"chunk_shape": [5, 10], "codecs": codecs, "index_codecs": [BYTES]}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    text = json.dumps(changed(V3, codecs=codecs)).encode()
    with pytest.raises(MetadataValidationError, match="nested too deeply"):
        zarr.open_array({"zarr.json": text}, mode="r")


def depth_of(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inside), default=0) if isinstance(value, dict | list) else 0


TEXTS = st.text('[]{}"\\:,\nxü', max_size=5)
NESTED = st.recursive(TEXTS, lambda of: st.lists(of) | st.dictionaries(TEXTS, of), max_leaves=30)


@given(NESTED)
def test_the_depth_of_a_text_is_that_of_its_value(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for ascii_only in (False, True):
            text, depth = json.dumps(value, ensure_ascii=ascii_only), depth_of(value)
            patch.setattr(documents, "MAX_DEPTH", depth)
            documents.check_depth(text)
            if depth:
                patch.setattr(documents, "MAX_DEPTH", depth - 1)
                with pytest.raises(ValueError, match="nested too deeply"):
                    documents.check_depth(text)


@pytest.mark.parametrize("field", ["attributes", "new", "data_type", "fill_value", "chunk_grid"])
@pytest.mark.parametrize("opening", ["[", '{"a": ', '{"name": "x", "configuration": {"codecs": ['])
def test_a_document_nested_too_deeply_is_refused_whole(field: str, opening: str) -> None:
    closing = opening[::-1].translate(str.maketrans("[{", "]}", '": abcdefghijklmnopqrstuvwxyz,'))
    text = json.dumps(changed(V3, **{field: "HERE"}))
    for times in (200, 600, 100_000):
        deep = text.replace('"HERE"', f"{opening * times}1{closing * times}").encode()
        with pytest.raises(MetadataValidationError, match="nested too deeply"):
            zarr.open_array({"zarr.json": deep}, mode="r")


def test_attributes_as_deep_as_a_document_may_be_are_copied_shown_and_stored() -> None:
    deep: Any = 1
    for _ in range(documents.MAX_DEPTH - 5):
        deep = [deep]
    root = zarr.create_group({})
    array = root.create_array("a", shape=3, dtype="i1", attributes={"deep": deep})
    assert array.refresh().attrs["deep"] == deep == array.attrs.asdict()["deep"]
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        assert zarr.consolidate_metadata(root.store)["a"].attrs["deep"] == deep
    assert zarr.open_consolidated(root.store)["a"].attrs["deep"] == deep
    assert repr(deep) in repr(array.metadata.to_dict())
    with pytest.raises(MetadataValidationError, match="nested too deeply"):
        array.attrs["deeper"] = [deep]
    assert list(array.refresh().attrs) == ["deep"]


@pytest.mark.parametrize("spec", ["|V2147483647", "|S99999999"])
def test_elements_of_gigabytes_are_refused(spec: str) -> None:
    with pytest.raises(MetadataValidationError, match="size of an element"):
        parse(changed(V2, dtype=spec, fill_value=None, filters=None))
    with pytest.raises(MetadataValidationError, match="67108864"):
        parse(changed(V3, data_type="r17179869176"))


def test_a_field_without_a_name_is_padding_or_refused() -> None:
    fields = [["a", "|i1"], ["", "|V3"], ["b", "<i4"]]
    array = parse(changed(V2, dtype=fields, fill_value=None, filters=None))
    assert array.dtype.names == ("a", "f1", "b")
    with pytest.raises(MetadataValidationError, match="field name ''"):
        parse(changed(V2, dtype=[["", "<i4"]], fill_value=None, filters=None))


@pytest.mark.parametrize("name", ["", "a"])
def test_consolidated_metadata_without_a_document_is_refused(name: str) -> None:
    copies = {"kind": "inline", "must_understand": False, "metadata": {name: None}}
    document = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": copies}
    group = zarr.open_group({"zarr.json": json.dumps(document).encode()}, mode="r")
    with pytest.raises(MetadataValidationError, match=r"no path of a node|expected an object"):
        group.tree()
    own = {".zgroup": {"zarr_format": 2}, "a/.zarray": None}
    flat = json.dumps({"zarr_consolidated_format": 1, "metadata": own}).encode()
    store = {".zgroup": b'{"zarr_format": 2}', ".zmetadata": flat}
    with pytest.raises(MetadataValidationError, match="expected an object, found None"):
        zarr.open_consolidated(store, mode="r").tree()


def test_what_is_too_large_for_floats_has_a_table() -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1] * 64}}
    document = changed(V3, shape=[2**63 - 1] * 64, chunk_grid=grid, dimension_names=...)
    array = zarr.open_array(store_with(v3=document))
    assert "TiB" in str(array.info)
    assert str(array.info_complete())


def large(shape: list[int], chunks: Any, **fields: Any) -> zarr.Array:
    name = "rectilinear" if isinstance(chunks, dict) else "regular"
    grid = {"name": name, "configuration": chunks if name != "regular" else {"chunk_shape": chunks}}
    document = changed(V3, shape=shape, chunk_grid=grid, dimension_names=..., **fields)
    return zarr.open_array(store_with(v3=document))


def test_a_result_larger_than_memory_is_refused_before_anything_is_listed() -> None:
    a = large([10**13], [1000])
    words = r"shape \(10000000000000,\).* needs 40000000000000 bytes.*memory\.max_bytes"
    for read in (
        lambda: a[...],
        lambda: a[:],
        lambda: a.oindex[:],
        lambda: a.get_block_selection(slice(None)),
        lambda: zarr.read_many([(a, ...)]),
    ):
        with pytest.raises(MemoryLimitError, match=words):
            read()
    with pytest.raises(MemoryLimitError):
        large([10**6] * 3, [10] * 3).oindex[list(range(0, 9999, 7)), :, :]
    with pytest.raises(IndexError, match="too large for one call"):
        a[:] = 0
    assert a[10**12] == np.float32(1.5)
    assert (a[:: 10**12] == np.float32(1.5)).all()


def test_the_memory_that_results_and_chunks_may_need_is_a_setting() -> None:
    a = large([1 << 19], [1 << 10])
    with zarr.config.set({"memory.max_bytes": 1 << 12}):
        assert a[:5].shape == (5,)
        with pytest.raises(MemoryLimitError, match=r"a chunk .* needs 8192 bytes"):
            large([1 << 19], [1 << 11])[0]
    with pytest.raises(MemoryLimitError, match="a chunk"):
        large([10], [10**15])[0]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_has_too_many_dimensions_to_be_opened_is_not_created(zarr_format: Any) -> None:
    with pytest.raises(ValueError, match="up to 64 dimensions, found 65"):
        zarr.create_array({}, shape=(1,) * 65, dtype="int8", zarr_format=zarr_format)
    zarr.create_array({}, shape=(1,) * 64, dtype="int8", zarr_format=zarr_format)[...] = 1


def test_lengths_of_too_many_chunks_are_not_listed() -> None:
    with pytest.raises(MemoryLimitError, match="too many to list"):
        _ = large([2**62], [1]).write_chunk_sizes
    with pytest.raises(MemoryLimitError, match="too many to list"):
        _ = large([2**62], [2**61], codecs=SHARDED_LINE).read_chunk_sizes


def test_a_grid_of_many_lengths_is_refused() -> None:
    for counts in ([10**9], [1 << 20] * 2):
        shapes = [[[1, n]] for n in counts]
        with pytest.raises(MetadataValidationError, match="more than"):
            large([5] * len(counts), {"kind": "inline", "chunk_shapes": shapes})


@pytest.mark.parametrize("data_type", ["string", "bytes"])
def test_a_chunk_of_text_decodes_to_what_the_setting_allows(data_type: str) -> None:
    codec = "vlen-utf8" if data_type == "string" else "vlen-bytes"
    fields = {"data_type": data_type, "fill_value": "", "codecs": [codec, ZSTD]}
    a = large([1], [1], **fields)
    text: Any = "x" * 5000 if data_type == "string" else b"x" * 5000
    a[0] = text
    with zarr.config.set({"memory.max_variable_chunk_bytes": 4000}):
        b = zarr.open_array(a.store)
        for call in (lambda: b[0], lambda: b.__setitem__(0, text)):
            with pytest.raises(BaseZarrError, match="4000"):
                call()
    assert a[0] == text


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_that_is_not_understood_is_listed(zarr_format: int, consolidated: bool) -> None:
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=zarr_format)
    group.create_array("good", shape=(2,), dtype="int8")
    group.create_array("bad", shape=(3,), dtype="int8", attributes={"a": 1})
    key, field, value = {
        2: ("bad/.zarray", "dtype", "|O"),
        3: ("bad/zarr.json", "data_type", {"name": "ml.float7", "configuration": {}}),
    }[zarr_format]
    document = {**json.loads(bytes(store.get(key) or b"")), field: value, "fill_value": 7}
    store.set(key, json.dumps(document).encode())
    if consolidated:
        with warnings.catch_warnings(action="ignore"):
            zarr.consolidate_metadata(store)
    group = zarr.open_group(store)
    assert "bad (3,) unknown: " in str(group.tree())
    assert [name for name, _ in group.arrays()] == ["bad", "good"]
    for array in (group["bad"], dict(group.members())["bad"], dict(group.arrays())["bad"]):
        assert (array.shape, array.attrs["a"], array.fill_value) == ((3,), 1, 7)
        assert "unknown" in repr(array)
        assert "unknown" in str(array.info)
        assert "unknown" in str(array.info_complete())
        for use in (
            lambda a=array: a[0],
            lambda a=array: a[...],
            lambda a=array: a.__setitem__(0, 1),
            lambda a=array: a.dtype,
            lambda a=array: a.nbytes,
        ):
            with pytest.raises(MetadataValidationError, match=f"field '{field}'.*(float7|codec)"):
                use()
    group["bad"].attrs["b"] = 2
    kept = json.loads(bytes(store.get(key) or b""))
    assert (kept[field], kept["fill_value"]) == (value, 7)
    assert (group["good"][...] == 0).all()


HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40,
    1.5, -0.0, 1e308, float("inf"), float("nan"), "", "x", "\0", "..", "/", "a" * 300, "\ud800",
    "NaN", "0x", "0xffffffffffffffffff", "bytes", "sharding_indexed", "transpose", "|O", "<f8",
    "<M8[99999999999s]", "|V999999999999", "r7", "r99999999999999999999", [], {}, [[]], [None],
    [[1, 2]], [0] * 70, [1] * 70, {"name": 5}, {"name": "x"}, {"id": "zlib"}, {"id": []},
    {"name": "bytes", "configuration": None}, {"name": "zstd", "configuration": {"level": 10**30}},
    {"name": "transpose", "configuration": {"order": [10**20]}},
    {"name": "struct", "configuration": {"fields": [{"name": "", "data_type": "int8"}]}},
]  # fmt: skip

SEEDS: list[tuple[str, dict[str, Any]]] = [
    ("zarr.json", V3),
    ("zarr.json", SHARDED),
    ("zarr.json", {**V3, "chunk_grid": {"name": "rectilinear", "configuration": {
        "kind": "inline", "chunk_shapes": [[[5, 2]], 10]}}}),
    ("zarr.json", {**V3, "data_type": {"name": "struct", "configuration": {"fields": [
        {"name": "a", "data_type": "int16"}, {"name": "b", "data_type": "float32"}]}},
        "fill_value": {"a": 1, "b": "NaN"}}),
    ("zarr.json", {**V3, "data_type": "string", "fill_value": "", "codecs": ["vlen-utf8", ZSTD]}),
    ("zarr.json", {**V3, "data_type": {"name": "numpy.datetime64", "configuration": {
        "unit": "s", "scale_factor": 1}}, "fill_value": "NaT"}),
    (".zarray", V2),
    (".zarray", {**V2, "dtype": [["a", "<i2"], ["b", "<f4", [2]]], "fill_value": None}),
    (".zarray", {**V2, "dtype": "|O", "filters": [{"id": "vlen-utf8"}], "fill_value": ""}),
]  # fmt: skip


def mutant(rng: random.Random, document: Any) -> Any:
    """Return a document with something wrong in one to three places."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        place, key = rng.choice(list(places(document)))
        match rng.choice(["replace", "replace", "delete", "insert", "wrap", "copy"]):
            case "replace":
                place[key] = copy.deepcopy(rng.choice(HOSTILE))
            case "delete":
                del place[key]
            case "insert" if isinstance(place, list):
                place.insert(key, copy.deepcopy(rng.choice(HOSTILE)))
            case "insert":
                place[str(rng.choice(HOSTILE))] = copy.deepcopy(rng.choice(HOSTILE))
            case "wrap":
                place[key] = [place[key]]
            case "copy":
                other, where = rng.choice(list(places(document)))
                place[key] = copy.deepcopy(other[where])
        if not list(places(document)):
            break
    return document


def places(value: Any) -> Any:
    """Yield every place in a document: a dictionary or list, and a key or index."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(items):
        yield value, key
        if isinstance(child, dict | list):
            yield from places(child)


def use(store: MemoryStore) -> None:
    """Open what is there and ask everything that needs little memory when it is honest."""
    array = zarr.open_array(store, mode="r")
    repr(array), repr(array.info), repr(array.info_complete())
    array.dtype, array.fill_value, array.nbytes, array.size
    array.attrs.asdict(), array.metadata.to_dict(), array.metadata.documents()
    array.chunks, array.shards, array.nchunks, array.cdata_shape
    array.filters, array.serializer, array.compressors
    if array.size:
        array[(0,) * array.ndim]
        array[(-1,) * array.ndim]
        next(iter(array.chunk_parts((0,) * array.ndim)))


def test_mutants_of_documents_are_read_or_refused_by_name() -> None:
    rng = random.Random(2024)
    refused = 0
    for number in range(1000):
        name, document = SEEDS[number % len(SEEDS)]
        changed_document = mutant(rng, document)
        text = json.dumps(changed_document).encode()
        try:
            use(MemoryStore({name: text}))
        except (MetadataValidationError, UnknownCodecError, NotImplementedError) as error:
            refused += 1
            assert len(str(error)) < 1000  # noqa: PT017
        except BaseZarrError as error:
            refused += 1
            assert "no array" in str(error), (error, text)  # noqa: PT017
        except BaseException as error:
            raise AssertionError(f"mutant {number}: {error!r}\n{text.decode()}") from error
    assert refused > 500


def test_tuples_and_numbers_of_numpy_are_welcome_in_dictionaries() -> None:
    given = changed(
        V3,
        shape=(np.int64(10), 20),
        codecs=({"name": "bytes", "configuration": {"endian": "little"}}, ZSTD),
        attributes={"x": (1, (2, 3))},
    )
    metadata = ArrayMetadata.from_dict(given)
    assert metadata.shape == (10, 20)
    assert metadata.attributes == {"x": [1, [2, 3]]}
    assert metadata == ArrayMetadata.from_dict(json.loads(metadata.documents()["zarr.json"]))
    assert GroupMetadata.from_dict(
        {"zarr_format": 3, "node_type": "group", "attributes": {"x": (1,)}}
    ).attributes == {"x": [1]}


def test_the_codecs_of_metadata_are_objects() -> None:
    metadata = ArrayMetadata.from_dict(V3)
    assert metadata.codecs == (
        zarr.codecs.BytesCodec(endian="little"),
        zarr.codecs.ZstdCodec(level=3, checksum=True),
    )
    array = zarr.create_array({}, shape=(4,), shards=(4,), chunks=(2,), dtype="i4")
    (shards,) = array.metadata.codecs
    assert isinstance(shards, zarr.codecs.ShardingCodec)
    assert shards.index_codecs[0] == zarr.codecs.BytesCodec(endian="little")
    unknown = {"name": "nobody.knows", "configuration": {"a": 1}}
    metadata = ArrayMetadata.from_dict(changed(V3, codecs=[BYTES, unknown]))
    assert metadata.codecs[1].to_json() == unknown
    assert metadata.to_dict()["codecs"] == [BYTES, unknown]


def test_metadata_that_is_not_for_the_reader_is_no_obstacle() -> None:
    # The specification permits it for consolidated metadata, and asks for no name in it.
    extra = {"must_understand": False, "kind": "inline", "metadata": {}}
    store = store_with(v3=changed(V3, consolidated_metadata=extra, later=extra))
    a = zarr.open_array(store, mode="r+")
    a.attrs["new"] = 1
    assert stored(store)["consolidated_metadata"] == stored(store)["later"] == extra
    group = {"zarr_format": 3, "node_type": "group", "later": extra}
    store = store_with(v3={**group, "consolidated_metadata": {"unknown": 1, **extra}})
    opened = zarr.open_group(store, mode="r+")
    opened.attrs["new"] = 1
    assert stored(store)["later"] == extra
    assert list(zarr.open_group(store)) == []


def test_what_programs_of_zarr_python_ask_of_metadata() -> None:
    array = zarr.create_array({}, shape=(4,), shards=(4,), chunks=(2,), dtype="i4")
    assert array.metadata.inner_codecs == array.metadata.codecs[0].codecs
    metadata = ArrayMetadata.from_dict(
        changed(V3, chunk_key_encoding={"name": "default", "separator": "."})
    )
    assert metadata.encode_chunk_key((0, 1)) == "c.0.1"
    assert metadata.inner_codecs == metadata.codecs
    for name in ("filters", "compressor"):
        with pytest.raises(AttributeError, match="format 3"):
            getattr(metadata, name)
    old = zarr.create_array(
        {},
        shape=4,
        dtype="i4",
        zarr_format=2,
        filters=[{"id": "delta", "dtype": "<i4"}],
        compressors={"id": "zlib", "level": 2},
    ).metadata
    assert [codec.codec_id for codec in old.filters or ()] == ["delta"]
    assert old.compressor.level == 2
    unknown = ArrayMetadata.from_dict(
        {**old.to_dict(), "compressor": {"id": "nobody"}, "filters": None}
    )
    assert unknown.compressor == {"id": "nobody"}
    assert unknown.filters is None
    from zarr_core.codecs.buffers import default_buffer_prototype

    for found in (metadata, old, zarr.create_group({}).metadata):
        made = found.to_buffer_dict(default_buffer_prototype())
        assert {key: buffer.to_bytes() for key, buffer in made.items()} == found.documents()
