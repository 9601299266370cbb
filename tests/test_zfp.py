"""The codec `zfp`."""

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from test_codecs import assert_same, make_chain, make_spec

import zarr_core as zarr
from zarr_core.codecs import CodecChain, V2FilterCodec, ZfpCodec, codec_from_dict
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.codecs.numcodecs import ZFPY
from zarr_core.errors import CodecError, MetadataValidationError, UnknownCodecError

zfpy = pytest.importorskip("zfpy")

NATIVE = ["int32", "int64", "float32", "float64"]
OTHER = ["int8", "int16", "uint8", "uint16", "uint32", "uint64", "float16", "M8[s]", "m8[ns]"]
MODES: list[dict[str, Any]] = [
    {"mode": "reversible"},
    {"mode": "fixed_rate", "rate": 16},
    {"mode": "fixed_rate", "rate": 7.5},
    {"mode": "fixed_precision", "precision": 20},
    {"mode": "fixed_accuracy", "tolerance": 0.01},
]
SHAPES = [(), (1,), (9,), (4, 5), (3, 5, 7), (2, 3, 4, 5)]

of_numcodecs = pytest.mark.skipif(
    "zfpy" not in load_numcodecs("numcodecs.registry").codec_registry,
    reason="numcodecs before 0.15 has no zfpy with NumPy 2",
)


def smooth(shape: Any, dtype: Any) -> Any:
    count = int(np.prod(shape))
    return (np.sin(np.arange(count) / 5) * 100).reshape(shape).astype(dtype)


@pytest.mark.parametrize("settings", MODES, ids=str)
@pytest.mark.parametrize("dtype", NATIVE)
def test_streams_are_those_of_zfp_without_a_header(dtype: str, settings: Any) -> None:
    options = {key: value for key, value in settings.items() if key != "mode"}
    for shape in SHAPES[1:]:
        array = smooth(shape, dtype)
        chain = make_chain(shape, dtype, ZfpCodec(**settings))
        encoded = bytes(chain.encode(np.asfortranarray(array)))
        assert encoded == zfpy.compress_numpy(array, write_header=False, **options)
        assert chain.fixed_nbytes in (None, len(encoded))
        with_header = zfpy.compress_numpy(array, write_header=True, **options)
        assert_same(chain.decode(encoded), zfpy.decompress_numpy(with_header))


@given(st.data())
def test_without_a_loss_everything_comes_back(data: Any) -> None:
    dtype = np.dtype(data.draw(st.sampled_from([*NATIVE, "int8", "int16", "uint8", "uint16"])))
    array = data.draw(npst.arrays(dtype, npst.array_shapes(max_dims=4, max_side=6)))
    chain = make_chain(array.shape, dtype, ZfpCodec(mode="reversible"))
    assert_same(chain.decode(chain.encode(array)), array)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", OTHER)
def test_other_types_are_promoted(dtype: str, shape: Any) -> None:
    array = np.abs(smooth(shape, "f8")).astype("i8" if dtype[1:2] == "8" else dtype).astype(dtype)
    chain = make_chain(shape, dtype, ZfpCodec(mode="reversible"))
    assert_same(chain.decode(chain.encode(array)), array)


def test_promoted_integers_are_those_of_the_text() -> None:
    for dtype, values, promoted in (
        ("int8", [-128, 0, 127], [-(1 << 30), 0, 127 << 23]),
        ("uint8", [0, 128, 255], [-(1 << 30), 0, 127 << 23]),
        ("int16", [-32768, 0, 32767], [-(1 << 30), 0, 32767 << 15]),
        ("uint16", [0, 32768, 65535], [-(1 << 30), 0, 32767 << 15]),
        ("uint32", [0, 1, 2**31 - 1], [0, 1, 2**31 - 1]),
    ):
        chain = make_chain((3,), dtype, ZfpCodec(mode="reversible"))
        expected = zfpy.compress_numpy(np.array(promoted, "i4"), write_header=False)
        assert bytes(chain.encode(np.array(values, dtype))) == expected


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "uint64"])
def test_what_leaves_the_range_with_a_loss_is_clamped(dtype: str) -> None:
    info = np.iinfo(dtype)
    array = np.array([0, info.max // 4] * 40, dtype)
    chain = make_chain(array.shape, dtype, ZfpCodec(mode="fixed_precision", precision=3))
    found = chain.decode(chain.encode(array))
    assert found.dtype == array.dtype
    assert np.abs(found.astype("f8") - array).max() < info.max / 4


@given(
    npst.arrays(
        st.sampled_from(["f4", "f8"]),
        npst.array_shapes(max_dims=4, max_side=6),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.floats(1e-3, 1e3),
)
def test_the_tolerance_is_kept(array: Any, tolerance: float) -> None:
    chain = make_chain(
        array.shape, array.dtype, ZfpCodec(mode="fixed_accuracy", tolerance=tolerance)
    )
    error = np.abs(chain.decode(chain.encode(array)) - array)
    assert error.max() <= max(tolerance, 1e6 * np.finfo(array.dtype).eps * 8)


def test_an_array_with_other_codecs() -> None:
    store: dict[str, bytes] = {}
    array = zarr.create_array(
        store,
        shape=(9, 1, 10, 1, 2),
        chunks=(3, 1, 5, 1, 2),
        shards=(9, 1, 10, 1, 2),
        dtype="f4",
        filters=[{"name": "zarrs.squeeze"}],
        serializer={"name": "zfp", "configuration": {"mode": "reversible"}},
        compressors=[{"name": "crc32c"}],
    )
    values = smooth(array.shape, "f4")
    array[:7] = values[:7]
    array = zarr.open_array(store)
    assert_same(array[:7, 0, ::-2], values[:7, 0, ::-2])
    assert not array[7:].any()
    assert array.serializer == ZfpCodec(mode="reversible")


def test_what_zfp_cannot_keep_is_refused() -> None:
    for value in (np.nan, np.inf):
        for settings in MODES[1:]:
            with pytest.raises(CodecError, match="no NaN"):
                make_chain((2,), "f8", ZfpCodec(**settings)).encode(np.array([1, value]))
    for dtype, value in (("int32", 1 << 30), ("int64", -(1 << 62) - 1), ("uint32", 1 << 30)):
        for settings in MODES[1:]:
            with pytest.raises(CodecError, match="has integers from"):
                make_chain((2,), dtype, ZfpCodec(**settings)).encode(np.array([1, value], dtype))
    for dtype in ("uint32", "uint64"):
        chain = make_chain((2,), dtype, ZfpCodec(mode="reversible"))
        with pytest.raises(CodecError, match="no integers above"):
            chain.encode(np.array([1, np.iinfo(dtype).max], dtype))


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", MODES, ids=str)
def test_documents_come_back(settings: Any) -> None:
    codec = ZfpCodec(**settings)
    assert codec.to_dict() == {"name": "zfp", "configuration": settings}
    assert codec_from_dict(codec.to_dict()) == codec


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "lossless"},
        {"mode": 1},
        {"mode": "expert", "minbits": 1, "maxbits": 99, "maxprec": 10, "minexp": 0},
        {"mode": "reversible", "rate": 3},
        {"mode": "fixed_rate"},
        {"mode": "fixed_rate", "tolerance": 3},
        {"mode": "fixed_rate", "rate": 3, "precision": 3},
        {"mode": "fixed_rate", "rate": "3"},
        {"mode": "fixed_rate", "rate": True},
        {"mode": "fixed_rate", "rate": -1},
        {"mode": "fixed_rate", "rate": 0},
        {"mode": "fixed_rate", "rate": 0.5},
        {"mode": "fixed_rate", "rate": 129},
        {"mode": "fixed_rate", "rate": 1e300},
        {"mode": "fixed_rate", "rate": float("nan")},
        {"mode": "fixed_precision", "precision": 2.5},
        {"mode": "fixed_precision", "precision": -1},
        {"mode": "fixed_precision", "precision": 1 << 31},
        {"mode": "fixed_accuracy", "tolerance": -1},
        {"mode": "fixed_accuracy", "tolerance": float("inf")},
        {"mode": "fixed_accuracy", "tolerance": None},
        {"mode": "reversible", "write_header": True},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings: Any) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(MetadataValidationError, match="zfp"):
        zarr.create_array(
            store, shape=9, dtype="f8", serializer={"name": "zfp", "configuration": settings}
        )
    assert store == {}


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((1, 1, 1, 1, 1), "f4", "zarrs.squeeze"),
        ((2,), "bool", "integers or floats"),
        ((2,), "complex64", "integers or floats"),
        ((2,), "U3", "integers or floats"),
        ((2,), str, "integers or floats"),
    ],
)
def test_chunks_that_zfp_does_not_have_are_refused(shape: Any, dtype: Any, says: str) -> None:
    with pytest.raises(MetadataValidationError, match=says):
        ZfpCodec(mode="reversible").bind(make_spec(shape, dtype))


@pytest.mark.parametrize("dtype", NATIVE)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_the_least_and_the_most_bits_of_a_block(dtype: str, ndim: int) -> None:
    shape, numbers = (5,) * ndim, 4**ndim
    least = {"float32": 9, "float64": 12}.get(dtype, 1)
    for bits in (least, 128 * numbers):
        chain = make_chain(shape, dtype, ZfpCodec(mode="fixed_rate", rate=bits / numbers))
        encoded = chain.encode(smooth(shape, dtype))
        assert len(encoded) == chain.fixed_nbytes
        assert chain.decode(encoded).shape == shape
    for bits in (least - 1, 128 * numbers + 1):
        with pytest.raises(MetadataValidationError, match="'rate'"):
            make_chain(shape, dtype, ZfpCodec(mode="fixed_rate", rate=bits / numbers))


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", MODES, ids=str)
@pytest.mark.parametrize("dtype", NATIVE)
def test_truncated_chunks_are_an_error(dtype: str, settings: Any) -> None:
    array = (np.random.default_rng(1).normal(size=(9, 17)) * 1000).astype(dtype)
    chain = make_chain(array.shape, dtype, ZfpCodec(**settings))
    encoded = bytes(chain.encode(array))
    whole = chain.decode(encoded)
    for length in range(len(encoded)):
        try:
            found = chain.decode(encoded[:length])
        except CodecError:
            continue
        # Only zeros behind the last bit are missing.
        assert length > len(encoded) - 8
        assert_same(found, whole)
    with pytest.raises(CodecError, match=r"expected \d+ decoded bytes|at most"):
        chain.decode(encoded + bytes(100_000))


@given(st.binary(max_size=300), st.sampled_from(MODES), st.sampled_from(NATIVE))
def test_any_bytes_are_numbers_or_an_error(data: bytes, settings: Any, dtype: str) -> None:
    chain = make_chain((3, 5), dtype, ZfpCodec(**settings))
    try:
        found = chain.decode(data)
    except CodecError:
        return
    assert (found.shape, found.dtype) == ((3, 5), np.dtype(dtype))


NUMCODECS = [
    {"mode": 2, "rate": 7.5},
    {"mode": 3, "precision": 20},
    {"mode": 4, "tolerance": 0.01},
]


def numcodecs_chains(array: Any, settings: Any) -> list[Any]:
    """Return the chains of formats 3 and 2 with numcodecs' codec, whose streams have a header."""
    filters = V2FilterCodec(({"id": "zfpy", **settings},))
    spec = make_spec(array.shape, array.dtype, zarr_format=2)
    return [make_chain(array.shape, array.dtype, ZFPY(**settings)), CodecChain([filters], spec)]


@of_numcodecs
@pytest.mark.parametrize("settings", NUMCODECS, ids=str)
@pytest.mark.parametrize("dtype", NATIVE)
def test_truncated_streams_of_numcodecs_are_an_error(dtype: str, settings: Any) -> None:
    array = (np.random.default_rng(1).normal(size=(3, 5, 7)) * 1000).astype(dtype)
    for chain in numcodecs_chains(array, settings):
        encoded = bytes(chain.encode(array))
        whole = chain.decode(encoded)
        assert_same(whole, zfpy.decompress_numpy(encoded))
        for length in range(len(encoded) - 8):
            with pytest.raises(CodecError):
                chain.decode(encoded[:length])


@of_numcodecs
@pytest.mark.parametrize("rate", [-1, 0, 2, 1000])
def test_rates_that_damage_memory_are_refused_in_numcodecs_too(rate: int) -> None:
    with pytest.raises(MetadataValidationError, match="'rate'"):
        make_chain((9,), "f8", ZFPY(mode=2, rate=rate))


@of_numcodecs
def test_headers_of_other_sizes_and_modes_are_an_error() -> None:
    array = np.zeros((4, 4), "f4")
    chain, _ = numcodecs_chains(array, NUMCODECS[0])
    large = zfpy.compress_numpy(np.zeros((1 << 12, 1 << 12), "f4"), tolerance=1)
    tracemalloc.start()
    try:
        for data in (large, zfpy.compress_numpy(np.zeros(15, "f4")), b"", b"zfp", bytes(99)):
            with pytest.raises(CodecError):
                chain.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    # Three bits a block, of which the exponent alone has eight.
    header = bytearray(zfpy.compress_numpy(array, rate=9 / 16)[:12] + bytes(8))
    start = int.from_bytes(header, "little")
    assert zfpy.header(bytes(header))["config"]["rate"] == 9 / 16
    short = start & ~(0xFFF << 84) | (2 << 84)
    broken = short.to_bytes(20, "little")
    assert zfpy.header(broken)["config"]["rate"] == 3 / 16
    with pytest.raises(CodecError, match="'rate'"):
        chain.decode(broken)


@of_numcodecs
@given(st.binary(max_size=120), st.sampled_from(NATIVE))
def test_any_bytes_behind_a_header_are_numbers_or_an_error(data: bytes, dtype: str) -> None:
    array = np.zeros((3, 5), dtype)
    chain, _ = numcodecs_chains(array, NUMCODECS[0])
    header = zfpy.compress_numpy(array, tolerance=0.5)[:12]
    for stream in (header + data, data, header[:8] + data):
        try:
            assert chain.decode(stream).shape == (3, 5)
        except CodecError:
            continue


def test_memory_is_that_of_the_chunk() -> None:
    array = smooth((64, 64, 64), "f8")
    chain = make_chain(array.shape, "f8", ZfpCodec(mode="reversible"))
    encoded = bytes(chain.encode(array))
    tracemalloc.start()
    try:
        chain.decode(encoded)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * array.nbytes


def test_without_the_package_the_array_opens() -> None:
    code = """
import sys
import zarr_core as zarr
store = {}
zarr.create_array(store, shape=3, dtype="f4", attributes={"a": 1}, serializer={
    "name": "zfp", "configuration": {"mode": "reversible"}})
from zarr_core.array import state
state._chains.clear()
sys.modules["zfpy"] = None
array = zarr.open_array(store)
assert array.shape == (3,) and array.attrs["a"] == 1
try:
    array[:]
except zarr.errors.UnknownCodecError as error:
    assert "package zfpy is needed" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert issubclass(UnknownCodecError, KeyError)


@given(
    npst.arrays(
        st.sampled_from(["i4", "i8", "i1", "u1", "i2", "u2"]),
        npst.array_shapes(max_dims=4, max_side=6),
    )
)
def test_of_integers_no_others_become(array: Any) -> None:
    bits = 8 * array.dtype.itemsize
    if bits > 16:
        array = array >> 2  # beyond that zfp makes anything of them
    codec = ZfpCodec(mode="fixed_precision", precision=max(bits, 32))
    chain = make_chain(array.shape, array.dtype, codec)
    error = np.abs(chain.decode(chain.encode(array)).astype("f8") - array)
    assert error.max() <= (2.0 ** (bits - 20) if bits > 16 else 1)
