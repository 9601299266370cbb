"""The codec `packbits`."""

import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codecs import assert_same, make_chain, make_spec

import zarr_core as zarr
from zarr_core.codecs import ChunkSpec, PackBitsCodec, codec_from_dict
from zarr_core.codecs.packbits import bits_of
from zarr_core.errors import CodecError, MetadataValidationError
from zarr_core.metadata.data_types import parse_dtype

TYPES = [
    "?",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "M8[s]",
]
PADDINGS = ["none", "first_byte", "last_byte"]


def reference(array: Any, first: int, last: int) -> tuple[int, int]:
    """Return the bit sequence as one integer, and its length; the text, word for word."""
    numbers, _ = bits_of(parse_dtype(array.dtype, 3))
    sequence = count = 0
    for element in array.reshape(-1):
        size = array.dtype.itemsize // numbers
        for number in range(numbers):
            value = int.from_bytes(element.tobytes()[number * size : (number + 1) * size], "little")
            kept = (value >> first) & ((1 << (last - first + 1)) - 1)
            sequence |= kept << count
            count += last - first + 1
    return sequence, count


def restored(value: int, first: int, last: int, size: int, *, signed: bool) -> int:
    value = value << first
    if signed and value >> last & 1:
        value |= (1 << 8 * size) - (1 << last)
    return value


@given(st.data())
def test_bits_are_those_of_the_text(data: Any) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    numbers, width = bits_of(parse_dtype(dtype, 3))
    first = data.draw(st.integers(0, width - 1))
    last = data.draw(st.integers(first, width - 1))
    padding = data.draw(st.sampled_from(PADDINGS))
    count = data.draw(st.integers(1, 20))
    raw = data.draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(raw, "u1")
    array = (array & 1).view(dtype) if dtype.kind == "b" else array.view(dtype)
    codec = PackBitsCodec(padding_encoding=padding, first_bit=first, last_bit=last)
    chain = make_chain((count,), dtype, codec)
    sequence, length = reference(array, first, last)
    packed = sequence.to_bytes(-(-length // 8), "little")
    extra = bytes([-length % 8])
    expected = {"none": packed, "first_byte": extra + packed, "last_byte": packed + extra}[padding]
    assert bytes(chain.encode(array)) == expected
    assert chain.fixed_nbytes == len(expected)
    size, bits = dtype.itemsize // numbers, last - first + 1
    wanted = b"".join(
        restored(
            sequence >> i * bits & ((1 << bits) - 1), first, last, size, signed=dtype.kind in "iM"
        ).to_bytes(size, "little")
        for i in range(count * numbers)
    )
    found = chain.decode(expected)
    assert found.dtype == dtype
    assert found.tobytes() == wanted


def test_an_example_by_hand() -> None:
    values = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1], "?")
    for padding, expected in zip(PADDINGS, ("0b06", "050b06", "0b0605"), strict=True):
        chain = make_chain((11,), "?", PackBitsCodec(padding_encoding=padding))
        assert bytes(chain.encode(values)).hex() == expected
        assert_same(chain.decode(bytes.fromhex(expected)), values)
    chain = make_chain((4,), "i1", PackBitsCodec(first_bit=1, last_bit=3))
    encoded = chain.encode(np.array([-1, 6, -8, 3], "i1"))
    assert bytes(encoded).hex() == "1f03"
    assert chain.decode(encoded).tolist() == [-2, 6, -8, 2]


@pytest.mark.parametrize("count", [8191, 8192, 8193, 20001])
@pytest.mark.parametrize(("dtype", "last"), [("?", 0), ("i2", 10), ("u4", 2), ("i8", 62)])
def test_chunks_of_several_blocks(dtype: str, last: int, count: int) -> None:
    array = np.random.default_rng(count).integers(0, 1 << last, count).astype(dtype)
    chain = make_chain((count,), dtype, PackBitsCodec(padding_encoding="last_byte", last_bit=last))
    encoded = bytes(chain.encode(array))
    assert len(encoded) == -(-count * (last + 1) // 8) + 1
    assert_same(chain.decode(encoded), array)


@given(st.integers(1, 30), st.integers(1, 9), st.sampled_from(PADDINGS), st.data())
def test_masks_come_back(length: int, chunk: int, padding: Any, data: Any) -> None:
    values = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    store: dict[str, bytes] = {}
    array = zarr.create_array(
        store,
        shape=length,
        chunks=chunk,
        dtype="bool",
        compressors=None,
        serializer=PackBitsCodec(padding_encoding=padding),
    )
    array[:] = values
    assert_same(zarr.open_array(store)[:], values)
    chunks = [len(value) for key, value in store.items() if key != "zarr.json"]
    assert set(chunks) <= {-(-chunk // 8) + (padding != "none")}


def test_shards_and_compressors_take_packed_bits() -> None:
    store: dict[str, bytes] = {}
    array = zarr.create_array(
        store,
        shape=(9, 8),
        chunks=(3, 4),
        shards=(9, 8),
        dtype="u2",
        filters=[{"name": "transpose", "configuration": {"order": [1, 0]}}],
        serializer=PackBitsCodec(last_bit=11),
        compressors=[{"name": "zstd"}, {"name": "crc32c"}],
    )
    array[:, :7] = values = np.arange(3000, 3063).reshape(9, 7)
    assert array[:, :7].tolist() == values.tolist()
    assert (
        zarr.open_array(store)[3:5, ::2].tolist()
        == np.pad(values, [(0, 0), (0, 1)])[3:5, ::2].tolist()
    )


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("?", (1, 1)), ("i1", (1, 8)), ("f8", (1, 64)), ("c8", (2, 32)), ("c16", (2, 64))],
)
def test_numbers_of_bits(dtype: str, expected: tuple[int, int]) -> None:
    assert bits_of(parse_dtype(dtype, 3)) == expected


def test_documents_have_what_is_not_the_default() -> None:
    assert PackBitsCodec().to_dict() == {"name": "packbits"}
    codec = PackBitsCodec(padding_encoding="first_byte", first_bit=0, last_bit=3)
    assert codec.to_dict()["configuration"] == {
        "padding_encoding": "first_byte",
        "first_bit": 0,
        "last_bit": 3,
    }
    assert codec_from_dict(codec.to_dict()) == codec
    null = {"name": "packbits", "configuration": {"first_bit": None, "last_bit": None}}
    assert codec_from_dict(null) == codec_from_dict("packbits") == PackBitsCodec()


@pytest.mark.parametrize(
    "settings",
    [
        {"padding_encoding": "start_byte"},
        {"padding_encoding": None},
        {"first_bit": -1},
        {"first_bit": 8},
        {"first_bit": 1.0},
        {"first_bit": True},
        {"last_bit": 8},
        {"last_bit": 10**30},
        {"last_bit": "3"},
        {"first_bit": 3, "last_bit": 2},
        {"bits": 3},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings: Any) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(MetadataValidationError, match="packbits"):
        zarr.create_array(
            store, shape=2, dtype="u1", serializer={"name": "packbits", "configuration": settings}
        )
    assert store == {}


@pytest.mark.parametrize("dtype", ["U3", str, "V4", "S2"])
def test_what_is_no_number_is_refused(dtype: Any) -> None:
    with pytest.raises(MetadataValidationError, match="expected booleans or numbers"):
        PackBitsCodec().bind(make_spec((2,), dtype))


@pytest.mark.parametrize("padding", PADDINGS)
def test_damaged_chunks_are_an_error(padding: Any) -> None:
    chain = make_chain((13,), "u1", PackBitsCodec(padding_encoding=padding, last_bit=2))
    encoded = bytes(chain.encode(np.arange(13, dtype="u1") % 8))
    damaged = [encoded[:n] for n in range(len(encoded))] + [encoded + b"\0", encoded * 1000]
    if padding != "none":
        place = 0 if padding == "first_byte" else len(encoded) - 1
        damaged += [encoded[:place] + bytes([n]) + encoded[place + 1 :] for n in (0, 2, 255)]
    for data in damaged:
        with pytest.raises(CodecError):
            chain.decode(data)


def test_memory_is_that_of_the_chunk() -> None:
    array = np.ones(1 << 20, "u8")
    chain = make_chain(array.shape, "u8", PackBitsCodec(last_bit=9))
    tracemalloc.start()
    try:
        encoded = chain.encode(array)
        chain.decode(encoded)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * array.nbytes


class Small(NamedTuple):
    """What the codec asks of a data type below a byte, whose numbers take a byte in memory."""

    name: str
    dtype: Any


@pytest.mark.parametrize(
    ("name", "dtype", "bits"),
    [
        ("int2", "i1", 2),
        ("uint2", "u1", 2),
        ("int4", "i1", 4),
        ("uint4", "u1", 4),
        ("float4_e2m1fn", "V1", 4),
        ("float6_e3m2fn", "V1", 6),
    ],
)
def test_types_below_a_byte(name: str, dtype: str, bits: int) -> None:
    data_type: Any = Small(name, np.dtype(dtype))
    assert bits_of(data_type) == (1, bits)
    values = np.arange(1 << bits, dtype="u1")
    if name.startswith("int"):
        values = np.where(values >> (bits - 1), values | (0xFF << bits & 0xFF), values).astype("u1")
    array = values.view(dtype)
    stage = PackBitsCodec().bind(ChunkSpec(array.shape, data_type, array.dtype, array[0]))
    encoded = bytes(stage.encode(array))
    packed = sum((n & ((1 << bits) - 1)) << i * bits for i, n in enumerate(values.tolist()))
    assert encoded == packed.to_bytes(len(encoded), "little")
    assert len(encoded) == (bits << bits) // 8
    assert_same(stage.decode(encoded), array)
