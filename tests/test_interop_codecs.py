"""Registered codecs beyond the core: read and written with the libraries that know them.

They are zarr-python 3 (`cast_value`, `scale_offset`) and zarrista, which is zarrs (`bitround`, `packbits`,
`reshape`, `zarrs.squeeze`). What both store of every value is compared bit by bit; where one refuses a
value, the other must.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import zarr_core
from zarr_core.codecs import (
    BitRoundCodec,
    BytesCodec,
    CastValue,
    ChunkSpec,
    PackBitsCodec,
    ReshapeCodec,
    SqueezeCodec,
    TransposeCodec,
)
from zarr_core.codecs.cast_value import Rounding
from zarr_core.metadata.data_types import parse_dtype

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]


@pytest.fixture
def zarr3() -> Any:
    return pytest.importorskip("zarr", minversion="3.4", reason="needs zarr-python 3.4 or later")


def bits(array: Any) -> tuple[str, bytes]:
    array = np.asarray(array)
    return array.dtype.str, array.tobytes()


def spec_of(shape: tuple[int, ...], name: str) -> ChunkSpec:
    data_type = parse_dtype(name, 3)
    return ChunkSpec(shape, data_type, data_type.dtype, data_type.default_fill)


# --- zarr-python ---------------------------------------------------------------------------------


def as_memory_store(zarr3: Any, store: dict[str, bytes]) -> Any:
    from zarr.core.buffer.cpu import Buffer

    return zarr3.storage.MemoryStore({k: Buffer.from_bytes(v) for k, v in store.items()})


def as_dict(store: Any) -> dict[str, bytes]:
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


def written_by(peer: Any, filters: list[Any], values: Any, fill_value: Any = 0) -> Any:
    """Return what a peer stores of values, None if it refuses one of them."""
    store: Any = peer.storage.MemoryStore() if peer is not zarr_core else {}
    options = {"shape": (values.size + 2,), "chunks": (values.size,), "compressors": None}
    # Of itself zarr-python looks at the data type before the filters.
    options["serializer"] = peer.codecs.BytesCodec(endian="little")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = peer.create_array(
            store, dtype=values.dtype, filters=filters, fill_value=fill_value, **options
        )
        try:
            array[: values.size] = values
        except ValueError:
            return None
    return store if peer is zarr_core else as_dict(store)


def awkward_values(name: str) -> Any:
    dtype = np.dtype(name)
    if dtype.kind == "f":
        steps = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.1, 127.5, 255.49, 1e4, 65503.0, 0.0, -0.0]
        ends = [np.nan, np.inf, -np.inf, 65520.0, 3e9, -3e9, 1e19, 1e38, 4e38, 1e-40]
        with np.errstate(over="ignore"):
            return np.array([0, *steps, *ends]).astype(dtype)
    info = np.iinfo(dtype)
    ends = [2**k + d for k in (7, 8, 11, 15, 16, 24, 31, 32, 53, 63, 64) for d in (-1, 0, 1)]
    signed = (*ends, *(-n for n in ends), 0, 1, 2)
    return np.array([0, *(n for n in signed if info.min <= n <= info.max)], dtype)


@pytest.mark.parametrize("source", INTEGERS + FLOATS)
@pytest.mark.parametrize("rounding", get_args(Rounding))
def test_cast_value_and_zarr_python(zarr3: Any, source: str, rounding: str) -> None:
    compared = 0
    for data_type in INTEGERS + FLOATS:
        for out_of_range in (None, "clamp", "wrap") if data_type in INTEGERS else (None, "clamp"):
            settings = {"data_type": data_type, "rounding": rounding, "out_of_range": out_of_range}
            ours, theirs = CastValue(**settings), zarr3.codecs.CastValue(**settings)
            values = awkward_values(source)
            # One value that is refused hides the others, so those are asked alone.
            spec = spec_of((1,), source)
            is_good = [accepts(ours.bind(spec).encode, value) for value in values]
            for value in values[np.logical_not(is_good)][:3]:
                assert written_by(zarr3, [theirs], np.array([value])) is None
            good = values[is_good]
            mine = written_by(zarr_core, [ours], good)
            other = written_by(zarr3, [theirs], good)
            assert mine is not None
            assert other is not None
            assert mine["c/0"] == other["c/0"]
            compared += good.size
            assert readings(zarr3, other) == readings(zarr3, mine)
    assert compared > 150


def accepts(encode: Callable[[Any], Any], value: Any) -> bool:
    try:
        encode(np.array([value]))
    except zarr_core.errors.CodecError:
        return False
    return True


def readings(zarr3: Any, store: dict[str, bytes]) -> Any:
    """Return what zarr_core reads, after comparing it with zarr-python."""

    def read(array: Any) -> Any:
        try:
            return bits(array[:])
        except ValueError:  # what was clamped need not fit the way back
            return None

    found = read(zarr_core.open_array(store))
    assert read(zarr3.open_array(as_memory_store(zarr3, store), mode="r")) == found
    return found


@pytest.mark.parametrize("fill_value", [np.nan, 0.0])
@pytest.mark.parametrize("shards", [None, (4, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packed_temperatures_and_zarr_python(
    zarr3: Any, dtype: str, shards: Any, fill_value: float
) -> None:
    values = np.round(np.random.default_rng(1).normal(280, 20, (9, 11)), 2).astype(dtype)
    values[2, 3:5] = np.nan
    missing = {"encode": [["NaN", -32768]], "decode": [[-32768, "NaN"]]}
    stores = []
    for peer in (zarr_core, zarr3):
        codecs = peer.codecs
        store: Any = {} if peer is zarr_core else peer.storage.MemoryStore()
        array = peer.create_array(
            store,
            shape=(9, 11),
            chunks=(2, 4),
            shards=shards,
            dtype=dtype,
            fill_value=fill_value,
            filters=[
                codecs.TransposeCodec(order=(1, 0)),
                codecs.ScaleOffset(offset=273.15, scale=100.0),
                codecs.CastValue(data_type="int16", scalar_map=missing, out_of_range="clamp"),
            ],
        )
        array[:7] = values[:7]
        stores.append(store if peer is zarr_core else as_dict(store))
    for store in stores:
        found = readings(zarr3, store)
        assert found is not None
        expected = np.concatenate([values[:7], np.full((2, 11), fill_value)])
        read = np.frombuffer(found[1], dtype).reshape(9, 11)
        np.testing.assert_allclose(read, expected, rtol=1e-6, atol=1e-4)
    chunks = [{k: v for k, v in s.items() if k != "zarr.json"} for s in stores]
    assert chunks[0].keys() == chunks[1].keys()


# --- zarrista ------------------------------------------------------------------------------------


@pytest.fixture
def zarrista() -> Any:
    return pytest.importorskip("zarrista")


def chunks_below(place: Path) -> dict[str, bytes]:
    files = (path for path in (place / "c").rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def assert_both_ways(
    zarrista: Any, place: Path, values: Any, *, same: bool = True, **options: Any
) -> None:
    """Write the same with both, compare what is stored, and read each with the other."""
    ours = zarr_core.create_array(
        str(place / "ours"), shape=values.shape, dtype=values.dtype, compressors=None, **options
    )
    document = (place / "ours" / "zarr.json").read_bytes()
    (place / "theirs").mkdir()
    (place / "theirs" / "zarr.json").write_bytes(document)
    store = zarrista.store.FilesystemStore(str(place))
    theirs = zarrista.Array.open(store, "/theirs")
    everything = tuple(slice(0, length) for length in values.shape)
    ours[...] = values
    theirs.store_array_subset(everything, values)
    assert chunks_below(place / "ours") == chunks_below(place / "theirs")
    by_zarrista = np.asarray(zarrista.Array.open(store, "/ours").retrieve_array_subset(everything))
    by_zarr_core = zarr_core.open_array(str(place / "theirs"))[...]
    assert bits(by_zarr_core) == bits(ours[...])
    assert not same or bits(by_zarrista) == bits(by_zarr_core)


@pytest.mark.parametrize("keepbits", [1, 3, 7, 10, 20, 52])
@pytest.mark.parametrize("name", INTEGERS + FLOATS)
def test_bitround_and_zarrista(zarrista: Any, tmp_path: Path, name: str, keepbits: int) -> None:
    dtype = np.dtype(name)
    raw = np.random.default_rng(keepbits).integers(0, 256, (6, 10, dtype.itemsize), "u1")
    values = raw.view(dtype)[..., 0]
    if dtype.kind == "f":
        values = np.where(
            np.isnan(values), dtype.type(1.7), values
        )  # which zarrs makes other numbers
    if dtype.kind == "i":  # of the highest numbers zarrs makes the lowest
        values = np.minimum(values, np.iinfo(dtype).max // 2)
    assert_both_ways(
        zarrista,
        tmp_path,
        values,
        chunks=(4, 5),
        filters=[BitRoundCodec(keepbits=keepbits)],
        serializer=BytesCodec(endian="little"),
    )


def ranges_of(width: int) -> set[tuple[int, int]]:
    ends = {0, 1, width // 3, width // 2, width - 2, width - 1}
    return {(first, last) for first in ends for last in ends if 0 <= first <= last < width}


@pytest.mark.parametrize("padding", ["none", "first_byte", "last_byte"])
@pytest.mark.parametrize("name", ["bool", *INTEGERS, *FLOATS])
def test_packbits_and_zarrista(zarrista: Any, tmp_path: Path, name: str, padding: Any) -> None:
    # Whole chunks: of parts of them zarrs forgets `first_bit`.
    dtype = np.dtype(name)
    raw = np.random.default_rng(1).integers(0, 256, (6, 10, dtype.itemsize), "u1")
    values = raw.view(dtype)[..., 0] if name != "bool" else raw[..., 0] % 2 == 1
    values = np.nan_to_num(values).astype(dtype)
    width = 1 if name == "bool" else 8 * dtype.itemsize
    for first, last in sorted(ranges_of(width)):
        if padding != "none" and last - first == width - 1 > 0:
            continue  # where all bits are stored, zarrs leaves the padding's byte out
        place = tmp_path / f"{first}-{last}"
        place.mkdir()
        codec = PackBitsCodec(padding_encoding=padding, first_bit=first, last_bit=last)
        # zarrs does not always extend the sign beyond the byte it is in.
        same = dtype.kind != "i" or dtype.itemsize == 1 or last == width - 1
        assert_both_ways(zarrista, place, values, same=same, chunks=(3, 5), serializer=codec)


@pytest.mark.parametrize(
    ("codec", "chunks"),
    [
        (ReshapeCodec(shape=[[0, 1], 2, [3]]), (2, 3, 2, 2)),
        (ReshapeCodec(shape=[[], [0], -1]), (2, 3, 2, 2)),
        (ReshapeCodec(shape=[4, 6]), (2, 3, 2, 2)),
        (ReshapeCodec(shape=[[0, 1, 2, 3]]), (2, 3, 2, 2)),
        (SqueezeCodec(), (2, 5, 1, 2)),
        (SqueezeCodec(), (1, 1, 1, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["bool", "int32", "float64"])
def test_reshape_and_zarrista(
    zarrista: Any, tmp_path: Path, name: str, codec: Any, chunks: tuple[int, ...]
) -> None:
    values = np.arange(120).reshape(4, 5, 3, 2).astype(name)
    axes = range(len(codec.bind(spec_of(chunks, name)).spec.shape))
    filters = [codec, TransposeCodec(order=reversed(axes))]
    serializer = BytesCodec(endian=None if name == "bool" else "little")
    assert_both_ways(
        zarrista, tmp_path, values, chunks=chunks, filters=filters, serializer=serializer
    )
