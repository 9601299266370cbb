"""The codec `bitround`."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from test_codecs import assert_same, make_chain, make_spec

import zarr_core as zarr
from zarr_core.codecs import BitRoundCodec, BytesCodec
from zarr_core.codecs.numcodecs import BitRound
from zarr_core.errors import MetadataValidationError

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def rounded(array: Any, keepbits: int) -> Any:
    return BitRoundCodec(keepbits=keepbits).bind(make_spec(array.shape, array.dtype)).encode(array)


def test_the_sample_data_of_the_registry() -> None:
    integers = np.array([0, 1, 10, 11, 100, 123, 200, 208, 209, 255], "u1")
    assert rounded(integers, 3).tolist() == [0, 1, 10, 12, 96, 128, 192, 192, 224, 224]
    floats = np.array([0, 0.1, 1.2, 12.3, 123.4, 1234.5, np.nan, np.inf, -np.inf], "f4")
    expected = np.array([0, 0.1015625, 1.25, 12, 120, 1280, np.nan, np.inf, -np.inf], "f4")
    assert_same(rounded(floats, 3), expected)


@pytest.mark.parametrize("keepbits", range(1, 11))
def test_all_float16_are_rounded_as_by_numcodecs(keepbits: int) -> None:
    array = np.arange(1 << 16, dtype="u2").view("f2")
    expected = np.asarray(
        zarr.codecs.numcodecs.numcodecs_object({"id": "bitround", "keepbits": keepbits}).encode(
            array
        )
    ).view("f2")
    found = rounded(array, keepbits)
    numbers = ~np.isnan(array)
    assert_same(found[numbers], expected[numbers])
    assert_same(found[~numbers], array[~numbers])  # of which numcodecs makes zeros and infinities


@given(
    npst.arrays(st.sampled_from(["f4", "f8", "c8", "c16"]), st.integers(1, 9)), st.integers(1, 60)
)
def test_floats_are_rounded_to_the_nearest(array: Any, keepbits: int) -> None:
    found = rounded(array, keepbits)
    parts, results = (x.view(f"f{x.real.dtype.itemsize}") for x in (array, found))
    for number, result in zip(parts, results, strict=True):
        mantissa, exponent = np.frexp(number.astype("f8"))
        if number == 0 or not np.isfinite(number) or abs(number) < np.finfo(number.dtype).tiny:
            continue
        if keepbits <= 51:
            exact = np.ldexp(np.rint(np.ldexp(mantissa, keepbits + 1)), exponent - keepbits - 1)
            with np.errstate(over="ignore"):
                assert result == exact.astype(number.dtype)
        else:
            assert result == number
    assert_same(rounded(found, keepbits), found)


@given(st.sampled_from(INTEGERS), st.data(), st.integers(1, 70))
def test_integers_keep_their_highest_bits(name: str, data: Any, keepbits: int) -> None:
    info = np.iinfo(name)
    value = data.draw(st.integers(int(info.min), int(info.max)))
    found = int(rounded(np.array([value], name), keepbits)[0])
    bits = info.bits
    pattern = value % (1 << bits)
    unit = max(1 << pattern.bit_length() >> keepbits, 1)
    down = pattern // unit * unit
    above = down + unit
    up = pattern - down > above - pattern or (
        pattern - down == above - pattern and pattern // unit % 2 == 1
    )
    # The specification's table has 255 -> 224: what does not fit is not rounded up. That is so for
    # the highest positive numbers of signed types, too: no 127 becomes -128.
    limit = 1 << bits if value < 0 or info.min == 0 else 1 << (bits - 1)
    expected = above if up and above < limit else down
    assert found % (1 << bits) == expected
    assert (found < 0) == (value < 0)


@pytest.mark.parametrize("dtype", ["float64", "int32", "M8[s]", "m8[ns]", "complex64"])
def test_an_array_is_rounded_when_it_is_written(dtype: str) -> None:
    store: dict[str, bytes] = {}
    array = zarr.create_array(
        store,
        shape=(3, 4),
        chunks=(2, 4),
        shards=(4, 4),
        dtype=dtype,
        filters=[
            {"name": "transpose", "configuration": {"order": [1, 0]}},
            BitRoundCodec(keepbits=4),
        ],
    )
    values = np.arange(1000, 1012).reshape(3, 4).astype(dtype)
    array[:] = values
    expected = rounded(values, 4)
    assert (expected != values).any()
    assert_same(zarr.open_array(store)[:], expected)
    assert zarr.open_array(store).filters[1] == BitRoundCodec(keepbits=4)


def test_the_fill_value_is_rounded_inside_a_shard() -> None:
    array = zarr.create_array(
        {},
        shape=8,
        chunks=8,
        dtype="f4",
        fill_value=0.1,
        filters=[BitRoundCodec(keepbits=3)],
        serializer={
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [2],
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            },
        },
    )
    assert array[:].tolist() == [np.float32(0.1)] * 8
    array[0] = 5
    assert array[:].tolist() == [5, *[0.1015625] * 7]


def test_times_that_are_none_stay() -> None:
    array = np.array(["NaT", "2000-01-01"], "M8[s]")
    assert np.isnat(rounded(array, 1)).tolist() == [True, False]


@pytest.mark.parametrize("keepbits", [0, -1, 1.5, True, None, "3", [3]])
def test_settings_that_make_no_sense_are_refused(keepbits: Any) -> None:
    store: dict[str, bytes] = {}
    document = {"name": "bitround", "configuration": {"keepbits": keepbits}}
    for wrong in (
        document,
        "bitround",
        {"name": "bitround", "configuration": {"keepbits": 3, "x": 1}},
    ):
        with pytest.raises(MetadataValidationError, match="'bitround'"):
            zarr.create_array(store, shape=2, dtype="f4", filters=[wrong])
    assert store == {}


@pytest.mark.parametrize("dtype", ["bool", "U3", str, "V4"])
def test_what_is_no_number_is_refused(dtype: Any) -> None:
    with pytest.raises(MetadataValidationError, match="expected numbers"):
        make_chain((2,), dtype, BitRoundCodec(keepbits=3), BytesCodec())


def test_the_name_of_numcodecs_still_means_its_codec() -> None:
    assert isinstance(zarr.codecs.codec_from_dict(BitRound(keepbits=3).to_dict()), BitRound)
