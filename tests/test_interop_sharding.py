"""Shards of zarr_core and of other implementations: the same keys and bytes, read by each other.

zarr-python 3 and tensorstore are imported here (Python 3.12 or later) and skipped when missing.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import basic, coordinate, masks

import zarr_core
from zarr_core.storage import LocalStore

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*specification:FutureWarning",
    "ignore:.*specification:UserWarning",
    "ignore:Combining a `sharding_indexed` codec:UserWarning",
    "ignore:Automatic shard shape:UserWarning",
)

zarr = pytest.importorskip("zarr", minversion="3.4", reason="needs zarr-python 3.4 or later")
ts = pytest.importorskip("tensorstore")

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}
GZIP = {"name": "gzip", "configuration": {"level": 1}}


@contextmanager
def directories(count: int) -> Iterator[list[Path]]:
    root = Path(tempfile.mkdtemp())
    try:
        yield [root / str(number) for number in range(count)]
    finally:
        shutil.rmtree(root)


def files(directory: Path) -> dict[str, bytes]:
    """Return the chunks below a directory."""
    found = {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
    return {key: p.read_bytes() for key, p in sorted(found.items()) if not key.endswith(".json")}


def sharding(chunk_shape: Any, *codecs: Any, **options: Any) -> dict[str, Any]:
    configuration = {
        "chunk_shape": list(chunk_shape),
        "codecs": list(codecs) or [LITTLE],
        "index_codecs": [LITTLE, CRC],
        "index_location": "end",
        **options,
    }
    return {"name": "sharding_indexed", "configuration": configuration}


def read_tensorstore(path: Path) -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec, read=True).result().read().result()


@st.composite
def layouts(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    """Return options that zarr_core and zarr-python share, and whether tensorstore reads it."""
    inner = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    outside = draw(st.booleans()) and len(inner) > 1
    if outside:  # zarr-python checks the inner chunks against shards that are not transposed
        inner = inner[:1] * len(inner)
    shape = tuple(draw(st.integers(1, 7)) for _ in inner)
    shard = tuple(n * draw(st.integers(1, 3)) for n in inner)
    turned = {"name": "transpose", "configuration": {"order": list(reversed(range(len(inner))))}}
    codecs = draw(st.sampled_from([[LITTLE], [BIG], [turned, LITTLE], [LITTLE, CRC]]))
    index_codecs = st.sampled_from([[LITTLE, CRC], [LITTLE], [BIG, CRC]])
    location = st.sampled_from(["end", "start"])

    def made(chunk_shape: tuple[int, ...], codecs: list[Any]) -> dict[str, Any]:
        index = {"index_codecs": draw(index_codecs), "index_location": draw(location)}
        return sharding(chunk_shape, *codecs, **index)

    if draw(st.integers(0, 2)) == 0:
        codecs = [made((1,) * len(inner), codecs)]
    behind = draw(st.integers(0, 3)) == 0
    options = {
        "shape": shape,
        "chunks": shard,
        "dtype": draw(st.sampled_from(["int32", "float64"])),
        "fill_value": draw(st.sampled_from([0, 7])),
        "filters": [turned] if outside else None,
        "serializer": made(inner[::-1] if outside else inner, codecs),
        "compressors": [GZIP] if behind else None,
        "config": {"write_empty_chunks": draw(st.booleans())},
    }
    return options, not behind


@given(data=st.data(), layout=layouts())
def test_the_same_writes_make_the_same_bytes(data: st.DataObject, layout: Any) -> None:
    options, for_tensorstore = layout
    shape = options["shape"]
    with directories(2) as (ours, theirs):
        mine = zarr_core.create_array(str(ours), **options)
        other = zarr.create_array(str(theirs), **options)
        for number in range(1, data.draw(st.integers(1, 4), "writes") + 1):
            kind = data.draw(st.sampled_from(["basic", "coordinate", "mask"]))
            strategy = {"basic": basic(shape, steps=False), "coordinate": coordinate(shape)}
            selection = data.draw(strategy.get(kind, masks(shape)))
            # One value: which of several for one element wins is not said.
            value = data.draw(st.sampled_from([number, options["fill_value"]]))
            for array in (mine, other):
                getattr(array, f"set_{kind}_selection")(selection, value)
        found, expected = files(ours), files(theirs)
        assert sorted(found) == sorted(expected)
        # The headers of gzip differ. With a codec before the shard zarr-python always writes all
        # of it, which shows when inner chunks of fill are stored.
        whole = options["filters"] and options["config"]["write_empty_chunks"]
        if not (options["compressors"] or whole):
            assert found == expected
        values = mine[...]
        np.testing.assert_array_equal(values, other[...])
        np.testing.assert_array_equal(zarr.open_array(str(ours), mode="r")[...], values)
        np.testing.assert_array_equal(zarr_core.open_array(str(theirs), mode="r")[...], values)
        if for_tensorstore:
            np.testing.assert_array_equal(read_tensorstore(ours), values)


@pytest.mark.parametrize("location", ["end", "start"])
def test_one_inner_chunk_is_76_bytes_for_all(tmp_path: Path, location: str) -> None:
    options: dict[str, Any] = {
        "shape": (4,),
        "chunks": (1,),
        "shards": {"shape": (4,), "index_location": location},
        "dtype": "int64",
        "compressors": None,
        "fill_value": 0,
    }
    for name, module in (("zarr_core", zarr_core), ("zarr", zarr)):
        module.create_array(str(tmp_path / name), **options)[2] = 258
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "tensorstore")},
        "metadata": {
            "shape": [4],
            "data_type": "int64",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
            "codecs": [sharding((1,), index_location=location)],
        },
    }
    ts.open(spec, create=True).result()[2].write(258).result()
    shards = [files(tmp_path / name) for name in ("zarr_core", "zarr", "tensorstore")]
    assert len(shards[0]["c/0"]) == 76
    assert shards[0] == shards[1] == shards[2]


@pytest.mark.parametrize("order", ["morton", "lexicographic", "colexicographic"])
def test_orders_of_inner_chunks(tmp_path: Path, order: Any) -> None:
    for name, module in (("ours", zarr_core), ("theirs", zarr)):
        codec = module.codecs.ShardingCodec(chunk_shape=(1, 2, 1), subchunk_write_order=order)
        array = module.create_array(
            str(tmp_path / name),
            shape=(5, 6, 7),
            chunks=(3, 6, 5),
            dtype="u2",
            serializer=codec,
            compressors=None,
        )
        array[...] = np.arange(1, 211).reshape(5, 6, 7)
        array[1:3, 2] = 0
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


def test_a_codec_of_zarr_python_can_be_given(tmp_path: Path) -> None:
    codec = zarr.codecs.ShardingCodec(chunk_shape=(2,), subchunk_write_order="lexicographic")
    array = zarr_core.create_array(
        str(tmp_path), shape=(8,), chunks=(8,), dtype="u1", serializer=codec, compressors=None
    )
    array[...] = range(1, 9)
    assert files(tmp_path)["c/0"][:8] == bytes(range(1, 9))


@pytest.mark.parametrize("options", [{}, {"compressors": None}, {"fill_value": 3}])
def test_defaults(tmp_path: Path, options: dict[str, Any]) -> None:
    values = np.arange(30 * 40, dtype="i4").reshape(30, 40) // 7
    for name, module in (("ours", zarr_core), ("theirs", zarr)):
        array = module.create_array(
            str(tmp_path / name),
            shape=(30, 40),
            chunks=(5, 4),
            shards=(10, 12),
            dtype="i4",
            **options,
        )
        array[2:, :33] = values[2:, :33]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    mine, other = zarr_core.open_array(ours), zarr.open_array(ours)
    assert mine.metadata.to_dict() == zarr_core.open_array(theirs).metadata.to_dict()
    assert sorted(files(ours)) == sorted(files(theirs))
    for array in (mine, other, zarr_core.open_array(theirs)):
        np.testing.assert_array_equal(array[2:, :33], values[2:, :33])
    np.testing.assert_array_equal(read_tensorstore(ours), mine[...])


@pytest.mark.parametrize("target", [None, 1000, 10**6])
def test_automatic_shards(target: int | None) -> None:
    found = []
    for module in (zarr_core, zarr):
        with module.config.set({"array.target_shard_size_bytes": target}):
            array = module.create_array(
                {}, shape=(100, 1000, 9), chunks=(10, 10, 3), shards="auto", dtype="f4"
            )
        found.append((array.shards, array.chunks))
    assert found[0] == found[1]


def test_rectilinear_shards(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "shape": (8, 9),
        "chunks": (2, 3),
        "shards": [[4, 2, 2], [3, 6]],
        "dtype": "i2",
        "compressors": None,
    }
    values = np.arange(1, 73).reshape(8, 9)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        for name, module in (("ours", zarr_core), ("theirs", zarr)):
            array = module.create_array(str(tmp_path / name), **options)
            array[...] = values
            array[3:5, 2:4] = 0
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        assert files(ours) == files(theirs)
        expected = values.copy()
        expected[3:5, 2:4] = 0
        np.testing.assert_array_equal(zarr.open_array(str(ours))[...], expected)
        np.testing.assert_array_equal(zarr_core.open_array(theirs)[...], expected)


def test_what_tensorstore_writes(tmp_path: Path) -> None:
    codecs = [sharding((2, 3), sharding((1, 3), BIG, GZIP), index_location="start")]
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path)},
        "metadata": {
            "shape": [7, 8],
            "data_type": "int16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 6]}},
            "codecs": codecs,
            "fill_value": 5,
        },
    }
    values = np.arange(56, dtype="i2").reshape(7, 8)
    written = ts.open(spec, create=True).result()
    written[...].write(values).result()
    written[2:4, 3:].write(5).result()
    values[2:4, 3:] = 5
    array = zarr_core.open_array(LocalStore(tmp_path))
    np.testing.assert_array_equal(array[...], values)
    array[1:3, ::-2] = 9
    values[1:3, ::-2] = 9
    np.testing.assert_array_equal(read_tensorstore(tmp_path), values)


def test_a_batch_writes_what_single_writes_do(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("single", "batch", "theirs")]
    options: dict[str, Any] = {
        "shape": (9, 10),
        "chunks": (2, 2),
        "shards": (4, 6),
        "dtype": "i4",
        "compressors": None,
    }
    single, batched = (zarr_core.create_array(str(path), **options) for path in paths[:2])
    theirs = zarr.create_array(str(paths[2]), **options)
    with batched.batch() as batch:
        for number, k in enumerate(range(0, 9, 2)):
            for array in (single, batch, theirs):
                array[k, 1:9] = number
                array[2:, k] = number + 1
    assert files(paths[0]) == files(paths[1]) == files(paths[2])
