"""Chunk keys: every chunk has one of its own, whatever the encoding, and what is refused."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core
from zarr_core.errors import MetadataValidationError
from zarr_core.metadata.chunk_keys import (
    ChunkKeyEncoding,
    FanoutKeys,
    KeyEncoding,
    SuffixKeys,
    TemplateKeys,
    parse_key_encoding,
)
from zarr_core.storage import MemoryStore

PLAIN = [ChunkKeyEncoding(n, s) for n in ("default", "v2") for s in ("/", ".")]  # type: ignore[arg-type]
OTHERS: list[KeyEncoding] = [
    *(SuffixKeys(base, ".tiff") for base in PLAIN),
    SuffixKeys(ChunkKeyEncoding("v2", "."), "0"),
    SuffixKeys(SuffixKeys(FanoutKeys(5), ".a"), "/b"),
    SuffixKeys(ChunkKeyEncoding(), ".x", "zarrs.default_suffix"),
    *map(FanoutKeys, (4, 11, 1001)),
    *(TemplateKeys("{*}", separator) for separator in ("/", "_", "0x0")),
    TemplateKeys("{{a}}/%d{-1}/é{*:04}.jpeg", "_"),
    TemplateKeys("{1:02}0-0{0}"),
]
ENCODINGS = [*PLAIN, *OTHERS]


@pytest.mark.parametrize(
    ("name", "separator", "coords", "key"),
    [
        ("default", "/", (0, 1), "c/0/1"),
        ("default", ".", (0, 1), "c.0.1"),
        ("default", "/", (), "c"),
        ("default", ".", (), "c"),
        ("v2", ".", (0, 1), "0.1"),
        ("v2", "/", (10, 1), "10/1"),
        ("v2", ".", (), "0"),
        ("v2", "/", (), "0"),
    ],
)
def test_chunk_keys(name: Any, separator: Any, coords: tuple[int, ...], key: str) -> None:
    encoding = ChunkKeyEncoding(name, separator)
    assert encoding.encode(coords) == key
    assert encoding.decode(key, len(coords)) == coords


coordinates = st.one_of(st.integers(0, 120), st.integers(0, 2**63 - 1))


@given(st.sampled_from(ENCODINGS), st.data())
def test_chunk_keys_survive_a_round_trip(encoding: KeyEncoding, data: st.DataObject) -> None:
    ndim = data.draw(st.integers(0, 4))
    try:
        encoding.check(ndim)
    except MetadataValidationError:
        assert isinstance(encoding, TemplateKeys)
        return
    coords, other = (data.draw(st.tuples(*[coordinates] * ndim)) for _ in range(2))
    key = encoding.encode(coords)
    assert encoding.decode(key, ndim) == coords
    assert (encoding.encode(other) == key) is (other == coords)
    assert re.fullmatch(encoding.grammar, key)
    assert encoding.decode(f"{key}0", ndim) != coords
    document = encoding.to_json()
    assert parse_key_encoding(document["name"], document["configuration"]) == encoding
    assert pickle.loads(pickle.dumps(encoding)) == encoding


@given(
    template=st.text(st.sampled_from("{}01-*:a./é"), max_size=12),
    separator=st.sampled_from(["", "1", "_", "/"]),
    key=st.text(st.sampled_from("01a./_é"), max_size=10),
    coords=st.tuples(*[st.integers(0, 11)] * 2),
    other=st.tuples(*[st.integers(0, 11)] * 2),
)
def test_templates_either_name_every_chunk_or_are_refused(
    template: str, separator: str, key: str, coords: tuple[int, int], other: tuple[int, int]
) -> None:
    encoding = TemplateKeys(template, separator)
    try:
        encoding.check(2)
    except MetadataValidationError:
        return
    assert encoding.decode(encoding.encode(coords), 2) == coords
    assert (encoding.encode(other) == encoding.encode(coords)) is (other == coords)
    found = encoding.decode(key, 2)
    assert found is None or encoding.encode(found) == key


# From the registered texts of the three extensions.
@pytest.mark.parametrize(
    ("encoding", "coords", "key"),
    [
        (FanoutKeys(101), (), "c"),
        (FanoutKeys(101), (123,), "d0/1/23/c"),
        (FanoutKeys(101), (1234, 5, 67890), "d0/12/34/d1/5/d2/6/78/90/c"),
        (SuffixKeys(ChunkKeyEncoding(), ".tiff"), (1, 2), "c/1/2.tiff"),
        (SuffixKeys(ChunkKeyEncoding("v2", "."), ".shard.zip"), (1, 2), "1.2.shard.zip"),
        (TemplateKeys("c/{*}", "/"), (11, 22, 33), "c/11/22/33"),
        (TemplateKeys("{*}.suffix", "_"), (11, 22, 33), "11_22_33.suffix"),
        (TemplateKeys("{2}/{0}/{1}", "."), (11, 22, 33), "33/11/22"),
        (TemplateKeys("{-1}/{*}", "/"), (11, 22, 33), "33/11/22"),
        (TemplateKeys("{*:02}", "/"), (111, 2, 33), "111/02/33"),
    ],
)
def test_keys_of_extensions(encoding: KeyEncoding, coords: tuple[int, ...], key: str) -> None:
    encoding.check(len(coords))
    assert encoding.encode(coords) == key
    assert encoding.decode(key, len(coords)) == coords


@pytest.mark.parametrize("encoding", OTHERS)
def test_arrays_with_such_keys(encoding: KeyEncoding) -> None:
    store = MemoryStore()
    group = zarr_core.create_group(store)
    options: dict[str, Any] = {"shape": (9, 300), "chunks": (3, 2), "dtype": "i4"}
    a = group.create_array("a%d", chunk_key_encoding=encoding, fill_value=-1, **options)
    values = np.arange(2700).reshape(9, 300)
    a[:6, 2:] = values[:6, 2:]
    again = zarr_core.open_array(store, path="a%d")
    assert again.metadata.chunk_key_encoding == encoding
    assert np.array_equal(again[:6, 2:], values[:6, 2:])
    assert (again[6:] == -1).all()
    assert store.exists(f"a%d/{encoding.encode((1, 149))}")
    assert again.nchunks_initialized == 2 * 149
    store.set("a%d/c/mine.txt", b"kept")
    again.resize((3, 300))
    assert again.nchunks_initialized == 149
    again.resize((9, 300))
    assert (again[3:] == -1).all()
    zarr_core.create_array(store, name="a%d", overwrite=True, **options)
    assert sorted(store.list_prefix("a%d")) == ["a%d/c/mine.txt", "a%d/zarr.json"]
    zarr_core.copy(group["a%d"], group, name="b")
    del group["a%d"]
    assert sorted(store.list_prefix("a%d")) == ["a%d/c/mine.txt"]


@pytest.mark.parametrize(
    ("configuration", "separator"),
    [({"suffix": ".tiff"}, "/"), ({"suffix": ".tiff", "separator": "."}, ".")],
)
def test_zarrista_reads_what_is_written_here_and_the_other_way_round(
    configuration: dict[str, str], separator: str, tmp_path: Path
) -> None:
    zarrista = pytest.importorskip("zarrista", reason="a peer")
    named = {"name": "zarrs.default_suffix", "configuration": configuration}
    a = zarr_core.create_array(
        tmp_path, shape=(2, 2), chunks=1, dtype="u1", compressors=None, chunk_key_encoding=named
    )
    a[...] = [[1, 2], [3, 4]]
    theirs = zarrista.Array.open(zarrista.store.FilesystemStore(str(tmp_path)), "/")
    assert theirs.chunk_key((1, 0)) == f"c{separator}1{separator}0.tiff"
    for coords in np.ndindex(2, 2):
        assert bytes(theirs.retrieve_encoded_chunk(coords).buffer) == bytes([a[coords]])
    theirs.store_metadata()
    theirs.store_encoded_chunk((1, 1), bytes([77]))
    assert zarr_core.open_array(tmp_path)[1, 1] == 77


@pytest.mark.parametrize(
    "key", ["", "c", "c/", "c/0", "c/0/1/2", "c/0/01", "c/-1/0", "c/0/+1", "c/0/ 1", "0/1", "c.0.1",
            "c/0/\N{ARABIC-INDIC DIGIT ONE}", "c/0/1\n", "zarr.json", "cc/0/1", "x/c/0/1"],
)  # fmt: skip
def test_keys_that_are_no_chunks(key: str) -> None:
    assert ChunkKeyEncoding().decode(key, 2) is None


def test_the_default_separators_differ() -> None:
    assert parse_key_encoding("default", {}).separator == "/"
    assert parse_key_encoding("v2", {}).separator == "."


@pytest.mark.parametrize(
    ("name", "configuration", "found"),
    [
        ("other", {}, "'other'"),
        ("default", {"separator": "-"}, "'-'"),
        ("v2", {"separator": None}, "None"),
        ("v2", {"separator": []}, "[]"),
        ("v2", {"width": 3}, "'width'"),
        ("suffix", {}, "None"),
        ("suffix", {"suffix": 1}, "1"),
        ("suffix", {"suffix": ".a", "base_encoding": {"name": "other"}}, "'other'"),
        ("suffix", {"suffix": ".a", "base_encoding": 5}, "5"),
        ("suffix", {"suffix": ".a", "base_encoding": {"name": "v2", "more": 1}}, "more"),
        ("suffix", {"suffix": "/../../x"}, "/../../x"),
        ("suffix", {"suffix": "/"}, "c/0/0/"),
        ("suffix", {"suffix": "/zarr.json"}, "/zarr.json"),
        ("suffix", {"suffix": "/.zarray"}, "/.zarray"),
        ("suffix", {"suffix": "\\"}, "\\"),
        ("suffix", {"suffix": "\0"}, "x00"),
        ("suffix", {"suffix": "\ud800"}, "ud800"),
        ("zarrs.default_suffix", {"suffix": "a", "separator": "-"}, "'-'"),
        ("zarrs.default_suffix", {"separator": "/"}, "None"),
        ("fanout", {"max_children": 3}, "3"),
        ("fanout", {"max_children": 10.0}, "10.0"),
        ("fanout", {"max_children": True}, "True"),
        ("fanout", {"max_children": 1 << 70}, "1180591620717411303424"),
        ("template", {}, "None"),
        ("template", {"format": "{*}", "separator": 5}, "{*}"),
        ("template", {"format": "{*}"}, "separator"),
        ("template", {"format": ""}, "expected"),
        ("template", {"format": "constant"}, "constant"),
        ("template", {"format": "{0}{1}"}, "share a key"),
        ("template", {"format": "{0}7{1}"}, "share a key"),
        ("template", {"format": "{*}", "separator": "7"}, "share a key"),
        ("template", {"format": "{0}-{0}"}, "each dimension once"),
        ("template", {"format": "{0}-{-2}"}, "each dimension once"),
        ("template", {"format": "{0}-{2}"}, "each dimension once"),
        ("template", {"format": "{0}"}, "each dimension"),
        ("template", {"format": "{0}-{1}-{*}", "separator": "-"}, "{*} for the others"),
        ("template", {"format": "{*}-{*}", "separator": "-"}, "each dimension once"),
        ("template", {"format": "{0:0999}-{1}"}, "digits"),
        ("template", {"format": "{0:5}-{1}"}, "character 0"),
        ("template", {"format": "{0}-{1}}"}, "character 7"),
        ("template", {"format": "{0!r}-{1}"}, "character 0"),
        ("template", {"format": "{0.real}-{1}"}, "character 0"),
        ("template", {"format": "/{0}/{1}"}, "/0/0"),
        ("template", {"format": "../{0}/{1}"}, "../0/0"),
        ("template", {"format": "{0}//{1}"}, "0//0"),
        ("template", {"format": "{0}/zarr.json/{1}"}, "zarr.json"),
    ],
)
def test_refused_key_encodings_say_what_was_found(
    name: str, configuration: dict[str, Any], found: str
) -> None:
    with pytest.raises(MetadataValidationError) as caught:
        parse_key_encoding(name, configuration).check(2)
    assert found in str(caught.value)
    with pytest.raises(MetadataValidationError):
        zarr_core.create_array(
            {}, shape=(1, 1), dtype="u1",
            chunk_key_encoding={"name": name, "configuration": configuration},
        )  # fmt: skip


def test_a_document_with_keys_that_its_shape_cannot_have_is_refused() -> None:
    store = MemoryStore()
    template = {"name": "template", "configuration": {"format": "{0}-{1}"}}
    zarr_core.create_array(store, shape=(1, 1), dtype="u1", chunk_key_encoding=template)
    store.set("zarr.json", (store.get("zarr.json") or b"").replace(b"{1}", b"{2}"))
    with pytest.raises(MetadataValidationError, match="chunk_key_encoding"):
        zarr_core.open_array(store)


def test_nested_suffixes_are_bounded() -> None:
    base: Any = "default"
    for _ in range(100):
        base = {"name": "suffix", "configuration": {"suffix": ".a", "base_encoding": base}}
    with pytest.raises(MetadataValidationError, match="suffixes"):
        parse_key_encoding(base["name"], base["configuration"])
