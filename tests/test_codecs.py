import gzip
import hashlib
import json
import lzma
import pickle
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import zarr_core.codecs.zstd as zstd_module
from zarr_core.codecs import (
    BloscCodec,
    BytesBytesCodec,
    BytesCodec,
    ChunkSpec,
    CodecChain,
    Crc32cCodec,
    GzipCodec,
    TransposeCodec,
    V2FilterCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
    ZstdCodec,
    codec_from_dict,
    codec_from_numcodecs,
    codecs_from_configs,
    get_codec_class,
    register_codec,
    registry,
    resolve_codecs,
    v2_compressor,
)
from zarr_core.codecs import numcodecs as ours
from zarr_core.codecs.base import BytesStage, SerialStage
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.dtypes import parse_dtype
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
    UnknownCodecError,
)
from zarr_core.metadata import NamedConfig, make_v2_codecs

numcodecs = load_numcodecs()


def make_spec(shape, dtype, fill_value=None, zarr_format=3):
    data_type = parse_dtype(dtype, zarr_format)
    fill_value = data_type.default_fill if fill_value is None else fill_value
    return ChunkSpec(shape, data_type, data_type.dtype, fill_value)


def make_chain(shape, dtype, *codecs, zarr_format=3):
    return CodecChain(codecs, make_spec(shape, dtype, zarr_format=zarr_format))


def v2_chain(shape, dtype, *, filters=(), compressor=None, order="C"):
    spec = make_spec(shape, dtype, zarr_format=2)
    configs = make_v2_codecs(order, len(shape), filters, compressor)
    return CodecChain(codecs_from_configs(configs), spec)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.kind in "OT":
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()  # also for NaN


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "document"),
    [
        (BytesCodec(endian="big"), {"name": "bytes", "configuration": {"endian": "big"}}),
        (BytesCodec(), {"name": "bytes", "configuration": {"endian": sys.byteorder}}),
        (BytesCodec(endian=None), {"name": "bytes"}),
        (TransposeCodec(order=[1, 0]), {"name": "transpose", "configuration": {"order": [1, 0]}}),
        (TransposeCodec(order=()), {"name": "transpose", "configuration": {"order": []}}),
        (GzipCodec(), {"name": "gzip", "configuration": {"level": 5}}),
        (ZstdCodec(), {"name": "zstd", "configuration": {"level": 0, "checksum": False}}),
        (Crc32cCodec(), {"name": "crc32c"}),
        (VLenUTF8Codec(), {"name": "vlen-utf8", "configuration": {}}),
        (VLenBytesCodec(), {"name": "vlen-bytes", "configuration": {}}),
        (
            BloscCodec(typesize=4, shuffle="noshuffle", cname="lz4", clevel=1, blocksize=9),
            {
                "name": "blosc",
                "configuration": {
                    "typesize": 4,
                    "cname": "lz4",
                    "clevel": 1,
                    "shuffle": "noshuffle",
                    "blocksize": 9,
                },
            },
        ),
        (ours.PackBits(), {"name": "numcodecs.packbits", "configuration": {}}),
        (
            ours.Delta(dtype=np.int16, astype="i1"),
            {"name": "numcodecs.delta", "configuration": {"dtype": "<i2", "astype": "i1"}},
        ),
        (
            V2FilterCodec(({"id": "zlib", "level": 1},)),
            {"name": "v2.filters", "configuration": {"filters": [{"id": "zlib", "level": 1}]}},
        ),
        (
            v2_compressor({"id": "lz4"}),
            {"name": "v2.compressor", "configuration": {"id": "lz4"}},
        ),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else "",
)
def test_codecs_are_values_with_a_document(codec, document):
    assert json.loads(json.dumps(codec.to_dict())) == document
    again = codec_from_dict(document)
    assert again == codec == pickle.loads(pickle.dumps(codec))
    assert hash(again) == hash(codec)
    assert again != TransposeCodec(order=(2, 1, 0))
    assert codec_from_dict(NamedConfig(document["name"], document.get("configuration", {}))) == codec


def test_names_of_drafts_and_short_forms_are_read():
    assert codec_from_dict({"name": "endian", "configuration": {"endian": "big"}}).to_dict() == {
        "name": "bytes",
        "configuration": {"endian": "big"},
    }
    assert codec_from_dict("crc32c") == Crc32cCodec()
    assert codec_from_dict({"name": "bytes"}) == BytesCodec(endian=None)


@pytest.mark.parametrize(
    ("name", "configuration", "named"),
    [
        ("bytes", {"endian": "middle"}, "'endian'"),
        ("bytes", {"endian": 1}, "'endian'"),
        ("bytes", {"order": "C"}, "'order'"),
        ("transpose", {}, "'order'"),
        ("transpose", {"order": "C"}, "'order'"),
        ("transpose", {"order": [0, 0]}, "'order'"),
        ("transpose", {"order": [0, 2]}, "'order'"),
        ("transpose", {"order": 1}, "'order'"),
        ("gzip", {"level": 10}, "'level'"),
        ("gzip", {"level": -1}, "'level'"),
        ("gzip", {"level": True}, "'level'"),
        ("gzip", {"level": 1.0}, "'level'"),
        ("gzip", {"level": 1, "speed": 1}, "'speed'"),
        ("zstd", {"level": 23}, "'level'"),
        ("zstd", {"level": -131073}, "'level'"),
        ("zstd", {"level": 1, "checksum": 1}, "'checksum'"),
        ("crc32c", {"location": "end"}, "'location'"),
        ("vlen-utf8", {"a": 1}, "'a'"),
        ("blosc", {"cname": "lzma"}, "'cname'"),
        ("blosc", {"clevel": 10}, "'clevel'"),
        ("blosc", {"shuffle": 1}, "'shuffle'"),
        ("blosc", {"typesize": 0}, "'typesize'"),
        ("blosc", {"blocksize": -1}, "'blocksize'"),
        ("numcodecs.bz2", {"id": "zlib"}, "'id'"),
        ("v2.filters", {"filters": [{"name": "delta"}]}, "'id'"),
        ("v2.filters", {"filters": "delta"}, "filters"),
    ],
)
def test_wrong_configurations_name_codec_and_field(name, configuration, named):
    with pytest.raises(MetadataValidationError, match=named):
        codec_from_dict({"name": name, "configuration": configuration})


@pytest.mark.parametrize("document", [1, None, {}, {"name": 1}, {"name": "gzip", "level": 1}])
def test_what_is_no_codec_is_refused(document):
    with pytest.raises(MetadataValidationError, match="expected a codec"):
        codec_from_dict(document)


@pytest.mark.parametrize(
    ("codec", "config"),
    [
        (ZstdCodec(level=3, checksum=True), {"id": "zstd", "level": 3, "checksum": True}),
        (GzipCodec(level=1), {"id": "gzip"}),
        (GzipCodec(level=6), {"id": "gzip", "level": -1}),
        (BloscCodec(cname="lz4", shuffle="shuffle"), {"id": "blosc"}),
        (BloscCodec(cname="zstd", clevel=1), {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": -1}),
        (ours.Zlib(level=2), {"id": "zlib", "level": 2}),
        (VLenUTF8Codec(), {"id": "vlen-utf8"}),
        (ours.Delta(dtype="<i4", astype="<i4"), {"id": "delta", "dtype": "<i4", "astype": "<i4"}),
    ],
)
def test_objects_of_numcodecs_become_codecs(codec, config):
    assert codec_from_numcodecs(config) == codec
    made = numcodecs.get_codec(config)
    assert codec_from_numcodecs(made).bind is not None
    assert codec_from_numcodecs(made).name == codec.name


def test_what_has_no_place_in_format_3_is_unknown():
    with pytest.raises(UnknownCodecError, match="msgpack2"):
        codec_from_numcodecs({"id": "msgpack2"})
    with pytest.raises(PickleCodecDisabledError):
        codec_from_numcodecs({"id": "pickle"})


def test_all_numcodecs_classes_are_registered():
    for name in ours.__all__:
        cls = getattr(ours, name)
        assert get_codec_class(cls.name) is cls
        assert cls.name == f"numcodecs.{cls.codec_id}"
        assert cls.__doc__


@pytest.mark.parametrize(
    ("codec", "dtype", "configuration"),
    [
        (BytesCodec(), "u1", {}),
        (BytesCodec(), "S3", {}),
        (BytesCodec(endian="big"), "U3", {"endian": "big"}),
        (BytesCodec(endian="big"), [("a", "u1"), ("b", "i2")], {"endian": "big"}),
        (BytesCodec(endian="big"), [("a", "u1"), ("b", "S2")], {}),
        (ours.Shuffle(), "f8", {"elementsize": 8}),
        (ours.Shuffle(elementsize=2), "f8", {"elementsize": 2}),
        (ours.FixedScaleOffset(offset=0, scale=1), "f8", {"offset": 0, "scale": 1, "dtype": "float64"}),
        (ours.Zlib(level=1), "f8", {"level": 1}),
    ],
)
def test_creation_fills_in_what_the_data_type_says(codec, dtype, configuration):
    assert codec.resolve(np.dtype(dtype)).configuration() == configuration


@pytest.mark.parametrize(
    ("dtype", "typesize", "shuffle"),
    [("u1", 1, "bitshuffle"), ("f8", 8, "shuffle"), (str, 1, "bitshuffle"), ("bytes", 1, "bitshuffle")],
)
def test_blosc_options_follow_the_data_type(dtype, typesize, shuffle):
    spec = make_spec((2,), dtype)
    serial = BytesCodec() if spec.data_type.item_bytes else VLenUTF8Codec()
    resolved = resolve_codecs([serial, BloscCodec()], spec)[1]
    assert resolved == BloscCodec(typesize=1 if spec.data_type.item_bytes is None else typesize,
                                  shuffle=shuffle)
    assert BloscCodec(typesize=3, shuffle="noshuffle").resolve(spec.dtype) == BloscCodec(
        typesize=3, shuffle="noshuffle"
    )


# --- known bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codecs", "array", "encoded"),
    [
        ([BytesCodec(endian="little")], np.array([1, 258], "<u2"), "0100 0201"),
        ([BytesCodec(endian="big")], np.array([1, 258], "<u2"), "0001 0102"),
        ([BytesCodec(endian="big")], np.array([1 + 2j], "<c8"), "3f800000 40000000"),
        ([BytesCodec(endian="big")], np.array([(1, 2)], "u1,<u2"), "01 0002"),
        ([BytesCodec(endian="big")], np.array(["ab"], "<U3"), "00000061 00000062 00000000"),
        ([BytesCodec(endian="big")], np.array([1], "<M8[s]"), "0000000000000001"),
        ([BytesCodec(endian=None)], np.array([True, False]), "01 00"),
        ([BytesCodec(endian=None)], np.array(7, "i1"), "07"),
        (
            [TransposeCodec(order=(1, 0)), BytesCodec(endian=None)],
            np.array([[1, 2, 3], [4, 5, 6]], "u1"),
            "01 04 02 05 03 06",
        ),
        ([VLenUTF8Codec()], np.array(["a", "é"], "T"), "02000000 01000000 61 02000000 c3a9"),
        (
            [TransposeCodec(order=(1, 0)), VLenUTF8Codec()],
            np.array([["a", "b"], ["", "d"]], "T"),
            "04000000 01000000 61 00000000 01000000 62 01000000 64",
        ),
        ([VLenBytesCodec()], np.array([b"", b"\0"], "O"), "02000000 00000000 01000000 00"),
        (
            [BytesCodec(endian=None), Crc32cCodec()],
            np.frombuffer(b"123456789", "u1"),
            "313233343536373839 839206e3",
        ),
        ([ours.PackBits(), BytesCodec(endian=None)], np.array([True, False, False, True]), "04 90"),
        (
            [ours.Delta(dtype="u1"), BytesCodec(endian=None)],
            np.array([[100, 102], [105, 106]], "u1"),
            "64 02 03 01",
        ),
        (
            [ours.Delta(dtype="<u1"), TransposeCodec(order=(1, 0)), BytesCodec(endian=None)],
            np.array([[100, 102], [105, 106]], "u1"),
            "64 03 02 01",
        ),
        (
            [ours.FixedScaleOffset(offset=1, scale=10, astype="i2"), BytesCodec(endian="big")],
            np.array([1.5, 1.0], "f4"),
            "0005 0000",
        ),
        (
            [BytesCodec(endian="little"), ours.Shuffle()],
            np.array([1, 258], "<u2"),
            "01 02 00 01",
        ),
        (
            [BytesCodec(endian=None), ours.Adler32()],
            np.frombuffer(b"Wikipedia", "u1"),
            "9803e611 57696b697065646961",
        ),
    ],
)
def test_known_bytes(codecs, array, encoded):
    dtype = {"T": str, "O": "bytes"}.get(array.dtype.kind, array.dtype)
    chain = make_chain(array.shape, dtype, *codecs)
    assert bytes(chain.encode(array)).hex() == encoded.replace(" ", "")
    assert bytes(chain.encode(np.asfortranarray(array))).hex() == encoded.replace(" ", "")
    assert_same(chain.decode(bytes.fromhex(encoded)), array)


def test_equal_chunks_have_equal_gzip_bytes():
    encoded = bytes(make_chain((9,), "u1", BytesCodec(), GzipCodec()).encode(np.zeros(9, "u1")))
    assert encoded[:8] == bytes.fromhex("1f8b0800 00000000")  # no time, no name
    assert gzip.decompress(encoded) == bytes(9)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 65791, 65792, 300_000])
def test_zstd_frames_are_what_the_library_writes(size, checksum):
    data = np.arange(size, dtype="u4").astype("u1")
    stage = ZstdCodec(level=3, checksum=checksum).bind(size, size, data.dtype)
    encoded = bytes(stage.encode(data))
    parameters = zstandard.get_frame_parameters(encoded)
    assert (parameters.content_size, parameters.has_checksum) == (size, checksum)
    assert bytes(stage.decode(encoded)) == data.tobytes()
    if size:
        assert zstd_module._plain_frame_test(size)(encoded)
        assert not zstd_module._plain_frame_test(size)(encoded + b"x")
        assert not zstd_module._plain_frame_test(size + 1)(encoded)
    if stage.decode_many is not None:
        assert [bytes(b) for b in stage.decode_many([encoded] * 3)] == [data.tobytes()] * 3


@pytest.mark.parametrize("level", [-131072, -5, 0, 1, 22])
def test_zstd_levels(level):
    chain = make_chain((4000,), "u2", BytesCodec(), ZstdCodec(level=level))
    array = (np.arange(4000) % 99).astype("u2")
    assert_same(chain.decode(chain.encode(array)), array)


# --- round trips ---------------------------------------------------------------------------------

FIXED = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "S3", "U2", "M8[ns]", "m8[s]",
         "V3", [("a", "u1"), ("b", "f4"), ("c", "S2")]]

BYTES_CODECS = [
    ZstdCodec(),
    ZstdCodec(level=-3, checksum=True),
    GzipCodec(level=0),
    GzipCodec(level=9),
    BloscCodec(),
    BloscCodec(cname="lz4", shuffle="noshuffle", clevel=1),
    BloscCodec(cname="blosclz", shuffle="bitshuffle"),
    BloscCodec(cname="zlib", clevel=0),
    BloscCodec(cname="lz4hc", typesize=300),
    Crc32cCodec(),
    ours.Zlib(level=1),
    ours.GZip(level=1),
    ours.Zstd(level=1),
    ours.Blosc(shuffle=-1),
    ours.BZ2(level=1),
    ours.LZ4(),
    ours.LZMA(preset=0),
    ours.LZMA(format=3, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]),
    ours.Shuffle(),
    ours.Fletcher32(),
    ours.CRC32(),
    ours.CRC32(location="end"),
    ours.CRC32C(),
    ours.Adler32(),
    ours.JenkinsLookup3(),
]

shapes = npst.array_shapes(min_dims=0, max_dims=3, max_side=6)


@st.composite
def arrays(draw, dtype):
    """Return an array of any values, contiguous or not."""
    shape = draw(shapes)
    if dtype is str:
        flat = draw(st.lists(st.text(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.array(flat, np.dtypes.StringDType()).reshape(shape)
    elif dtype == "bytes":
        flat = draw(st.lists(st.binary(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.empty(len(flat), object)
        array[:] = flat
        array = array.reshape(shape)
    else:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        high = 1 if dtype.kind in "bU" else 255
        data = bytes(draw(st.lists(st.integers(0, high), min_size=size, max_size=size)))
        if dtype.kind == "U":  # code points
            data = np.frombuffer(data, "u1")[: size // 4].astype("u4").tobytes()
        array = np.frombuffer(data, dtype).reshape(shape)
    layout = draw(st.sampled_from("CFS"))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "S" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    return array


@given(st.data())
def test_round_trips_of_fixed_size_types(data):
    dtype = data.draw(st.sampled_from(FIXED))
    array = data.draw(arrays(dtype))
    codecs = []
    if data.draw(st.booleans()):
        codecs.append(TransposeCodec(order=data.draw(st.permutations(range(array.ndim)))))
    codecs.append(BytesCodec(endian=data.draw(st.sampled_from(["little", "big"]))))
    codecs += data.draw(st.lists(st.sampled_from(BYTES_CODECS), max_size=2))
    if isinstance(codecs[-1], ours.Shuffle) and codecs[-2].name != "bytes":
        codecs.pop()  # needs whole elements
    chain = make_chain(array.shape, dtype, *codecs)
    encoded = chain.encode(array)
    if chain.fixed_nbytes is not None:
        assert len(bytes(encoded)) == chain.fixed_nbytes
    assert chain.blame(encoded) is None
    for form in (bytes(encoded), memoryview(bytes(encoded)), np.frombuffer(encoded, "u1")):
        assert_same(chain.decode(form), np.ascontiguousarray(array).reshape(array.shape))
    serialised = chain.decode_bytes(bytes(encoded))
    assert chain.nbytes == array.nbytes == len(serialised)
    assert bytes(chain.encode_bytes(serialised)) == bytes(encoded)
    if chain.native:
        assert bytes(serialised) == array.tobytes()
    if chain.decode_into is not None:
        out = np.empty(chain.nbytes, "u1")
        chain.decode_into(bytes(encoded), out)
        assert out.tobytes() == bytes(serialised)
    if chain.decode_many is not None:
        many = chain.decode_many([bytes(encoded)] * 3)
        assert [bytes(item) for item in many] == [bytes(serialised)] * 3


@given(st.data())
def test_round_trips_of_variable_size_types(data):
    dtype, codec, v2_id = data.draw(
        st.sampled_from([(str, VLenUTF8Codec(), "vlen-utf8"), ("bytes", VLenBytesCodec(), "vlen-bytes")])
    )
    array = data.draw(arrays(dtype))
    codecs = [codec, *data.draw(st.lists(st.sampled_from(BYTES_CODECS), max_size=1))]
    if isinstance(codecs[-1], ours.Shuffle):
        codecs.pop()
    chain = make_chain(array.shape, dtype, *codecs)
    assert chain.nbytes is None
    assert_same(chain.decode(chain.encode(array)), array)
    numcodec = numcodecs.get_codec({"id": v2_id})
    plain = make_chain(array.shape, dtype, codec).encode(array)
    assert bytes(plain) == bytes(numcodec.encode(np.ascontiguousarray(array).astype(object)))


@given(st.data())
def test_round_trips_of_filters(data):
    array = data.draw(arrays("i4"))
    filters = data.draw(
        st.sampled_from(
            [
                [ours.Delta(dtype="<i4")],
                [ours.Delta(dtype=">i4")],
                [ours.Delta()],
                [ours.AsType(encode_dtype="f8")],
                [ours.AsType(encode_dtype=">i8"), ours.Delta()],
                [ours.FixedScaleOffset(offset=3, scale=1, astype="<i8")],
            ]
        )
    )
    transposed = [TransposeCodec(order=range(array.ndim)[::-1])] * data.draw(st.integers(0, 1))
    endian = data.draw(st.sampled_from(["little", "big"]))
    for codecs in ([*transposed, *filters], [*filters, *transposed]):
        chain = make_chain(array.shape, "i4", *codecs, BytesCodec(endian=endian), ZstdCodec())
        if "offset" in str(filters):
            array = np.clip(array, -(10**9), 10**9)
        encoded = bytes(chain.encode(array))
        assert bytes(chain.encode(np.asfortranarray(array))) == encoded
        assert_same(chain.decode(encoded), np.ascontiguousarray(array).reshape(array.shape))
        assert chain.axes is None
        assert not chain.native


def test_lossy_filters():
    array = np.linspace(0, 1, 10, dtype="f4").reshape(2, 5)
    for filter_ in (ours.BitRound(keepbits=3), ours.Quantize(digits=1)):
        chain = make_chain((2, 5), "f4", filter_, BytesCodec(endian="big"))
        decoded = chain.decode(chain.encode(array))
        assert decoded.dtype == array.dtype
        assert 0 < np.abs(decoded - array).max() < 0.07
    exact = make_chain((2, 5), "f4", ours.BitRound(keepbits=23), BytesCodec())
    assert_same(exact.decode(exact.encode(array)), array)


def test_filters_pass_the_fill_value_on():
    spec = make_spec((4,), "f4", np.float32(2.5))
    stage = ours.FixedScaleOffset(offset=0, scale=10, astype="i2").bind(spec)
    assert (stage.spec.dtype, stage.spec.fill_value) == (np.dtype("i2"), 25)
    stage = ours.PackBits().bind(make_spec((20,), "?", np.True_))
    assert (stage.spec.shape, stage.spec.dtype) == ((4,), np.dtype("u1"))


# --- damaged data --------------------------------------------------------------------------------

CHECKED = [c for c in BYTES_CODECS if c.name in ("crc32c", "gzip") or getattr(c, "checksum", False)]
CHECKED += [c for c in BYTES_CODECS if getattr(c, "codec_id", "") in
            ("zlib", "gzip", "bz2", "lzma", "fletcher32", "crc32", "crc32c", "adler32", "jenkins_lookup3")
            and "format" not in c.configuration()]  # a raw LZMA stream has no check

SERIAL_CASES = [
    ([BytesCodec(endian="little")], np.arange(300, dtype="u2")),
    ([BytesCodec(endian="big")], np.arange(300, dtype="u2")),
    ([VLenUTF8Codec()], np.array([f"é{i}" for i in range(50)], "T")),
    ([VLenBytesCodec()], np.array([b"ab"] * 50, "O")),
    ([ours.PackBits(), BytesCodec(endian=None)], np.ones(301, "?")),
    ([ours.Delta(dtype="<u2"), BytesCodec()], np.arange(300, dtype="u2")),
]
BYTES_CASES = [
    ([*serial, codec], array)
    for codec in BYTES_CODECS
    for serial, array in (SERIAL_CASES[0], SERIAL_CASES[2])
    if not (codec.name == "numcodecs.shuffle" and array.dtype.kind == "T")
]


def case_chain(codecs, array):
    dtype = {"T": str, "O": "bytes"}.get(array.dtype.kind, array.dtype)
    return make_chain(array.shape, dtype, *codecs)


@pytest.mark.parametrize(("codecs", "array"), SERIAL_CASES + BYTES_CASES, ids=repr)
def test_cut_and_extended_data_is_an_error(codecs, array):
    chain = case_chain(codecs, array)
    encoded = bytes(chain.encode(array))
    cuts = {*range(40), *range(0, len(encoded), 7), *range(len(encoded) - 9, len(encoded))}
    damaged = [encoded[:cut] for cut in cuts if 0 <= cut < len(encoded)]
    damaged += [encoded + tail for tail in (b"\0", b"x", b"\0" * 4, b"\0" * 64, encoded)]
    damaged += [b"\0" + encoded, b"\xff" * len(encoded), bytes(len(encoded) + 1)]
    for data in damaged:
        # Members and frames may follow each other, but then there is too much data.
        with pytest.raises(CodecError) as error:
            chain.decode(data)
        assert str(error.value)
        if chain.nbytes is not None:
            assert chain.blame(data) in [codec.name for codec in codecs]
        if chain.decode_many is not None:
            with pytest.raises(CodecError):
                chain.decode_many([encoded, data])
        if chain.decode_into is not None:
            with pytest.raises(CodecError):
                chain.decode_into(data, np.empty(array.nbytes, "u1"))


@pytest.mark.parametrize("codec", CHECKED, ids=repr)
def test_flipped_bits_are_an_error_where_there_is_a_checksum(codec):
    array = np.random.default_rng(0).integers(0, 1000, 300).astype("u2")
    chain = case_chain([BytesCodec(), codec], array)
    encoded = bytearray(chain.encode(array))
    # Flags, times and names in headers of gzip and xz say nothing about the data.
    for position in range(10 if "gzip" in codec.name else 0, len(encoded)):
        encoded[position] ^= 1 << position % 8
        with pytest.raises(CodecError):
            chain.decode(bytes(encoded))
        encoded[position] ^= 1 << position % 8


@given(st.data())
def test_any_damage_is_a_codec_error_or_unseen(data):
    codecs, array = data.draw(st.sampled_from(SERIAL_CASES + BYTES_CASES))
    chain = case_chain(codecs, array)
    encoded = bytearray(chain.encode(array))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = chain.decode(bytes(encoded))
    except CodecError:
        return
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (b"\x01\0\0\0" b"\x01\0\0\0\xff", "UTF-8"),
        (b"\x02\0\0\0" b"\x01\0\0\0a" b"\x01\0\0\0b", "expected 1 elements, found 2"),
        (b"\x01\0\0\0" b"\xff\xff\xff\xffab", "after the end"),
        (b"\x01\0\0\0" b"\x01\0\0\0ab", "1 bytes after the last element"),
        (b"\x01\0\0", "none"),
        (b"\x01\0\0\0" b"\x01\0", "cannot hold 1 elements"),
    ],
)
def test_messages_about_damaged_strings(encoded, says):
    with pytest.raises(CodecError, match=says):
        make_chain((1,), str, VLenUTF8Codec()).decode(encoded)


def test_a_hostile_count_of_strings_is_refused_at_once():
    chain = make_chain((1 << 40,), str, VLenUTF8Codec())
    with pytest.raises(CodecError, match="cannot hold|elements"):
        chain.decode(b"\xff\xff\xff\xff" + bytes(100))


@pytest.mark.parametrize(
    ("codec", "elements"),
    [(VLenUTF8Codec(), [b"a"]), (VLenUTF8Codec(), [1]), (VLenUTF8Codec(), ["\ud800"]),
     (VLenBytesCodec(), ["a"]), (VLenBytesCodec(), [1])],
)
def test_elements_that_cannot_be_written(codec, elements):
    with pytest.raises(CodecError, match="element"):
        make_chain((1,), "bytes", codec).encode(np.array(elements, object))


def test_missing_objects_are_written_as_empty():
    array = np.array([None, 0, ""], object)
    assert make_chain((3,), "bytes", VLenUTF8Codec()).encode(array) == b"\3" + bytes(15)
    assert make_chain((3,), "bytes", VLenBytesCodec()).encode(array[:2].repeat(2)[:3]) == b"\3" + bytes(15)


# --- bombs ---------------------------------------------------------------------------------------

BOMB = 64 << 20


def lz4_header(size, block):
    return struct.pack("<I", size) + block


def bomb_frame(size):
    """Return a zstd frame that decodes to `size` zeros without saying so."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(bytes(size)) + compressor.flush()


BOMBS = [
    (ZstdCodec(), zstandard.ZstdCompressor().compress(bytes(BOMB))),
    (ZstdCodec(), bomb_frame(BOMB)),
    (ZstdCodec(), zstandard.ZstdCompressor().compress(bytes(99)) * 9 + bomb_frame(BOMB)),
    (GzipCodec(), gzip.compress(bytes(BOMB))),
    (GzipCodec(), gzip.compress(b"") * 50_000 + gzip.compress(bytes(BOMB))),
    (ours.Zlib(), zlib.compress(bytes(BOMB))),
    (ours.BZ2(), numcodecs.BZ2().encode(bytes(BOMB))),
    (ours.LZMA(), lzma.compress(bytes(BOMB), preset=0)),
    (ours.LZ4(), numcodecs.LZ4().encode(bytes(BOMB))),
    (ours.LZ4(), lz4_header(0x7FFFFFFF, b"\0" * 9)),
    (BloscCodec(), numcodecs.Blosc().encode(bytes(BOMB))),
    (ours.Blosc(), numcodecs.Blosc().encode(bytes(BOMB))),
]


@pytest.mark.parametrize(("codec", "bomb"), BOMBS, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("nbytes", [1000, None])
def test_no_more_is_decoded_than_a_chunk_holds(codec, bomb, nbytes):
    stage = codec.bind(nbytes, 1000, np.dtype("u1"))
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            stage.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_headers_of_strings_cannot_claim_memory():
    # 20 bytes that say "two gigabytes follow".
    frame = zstandard.ZstdCompressor().compress(b"a" * 99)[:4] + b"\xa0" + struct.pack("<I", 2 << 30)
    stage = ZstdCodec().bind(None, 1 << 32, np.dtype("u1"))
    with pytest.raises(CodecError, match="blocks"):
        stage.decode(frame + b"\x01\0\0")


def test_many_tiny_gzip_members_are_read():
    stage = GzipCodec().bind(20_000, 20_000, np.dtype("u1"))
    assert stage.decode(b"".join([gzip.compress(b"a")] * 20_000)) == b"a" * 20_000
    with pytest.raises(CodecError, match="gzip member"):
        stage.decode(gzip.compress(b"a" * 20_000) + b"\0" * 8)


def test_the_limit_holds_between_two_codecs():
    # The inner data of a chain is bounded too, though its size is not known.
    chain = make_chain((100,), "u1", BytesCodec(), GzipCodec(), ZstdCodec())
    with pytest.raises(CodecError, match="at most"):
        chain.decode(zstandard.ZstdCompressor().compress(bytes(1 << 20)))


# --- zstd ----------------------------------------------------------------------------------------

SKIPPABLE = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"


@pytest.fixture(params=["zstandard", "numcodecs"])
def zstd_library(request, monkeypatch):
    if request.param == "numcodecs":
        monkeypatch.setattr(zstd_module, "_has_zstandard", lambda: False)
    return request.param


@pytest.mark.parametrize("nbytes", [600, None])
def test_all_forms_of_zstd_data(zstd_library, nbytes):
    data = np.random.default_rng(0).integers(0, 4, 600).astype("u1").tobytes()
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress
    stage = ZstdCodec(level=1).bind(nbytes, 600, np.dtype("u1"))
    for encoded in (
        compress(data),
        streamed(data),
        compress(data[:300]) + compress(data[300:]),
        compress(data[:300]) + streamed(data[300:]),
        SKIPPABLE + compress(data) + SKIPPABLE,
        compress(b"") + compress(data),
        stage.encode(data),
    ):
        assert bytes(stage.decode(encoded)) == data
        assert bytes(stage.decode(np.frombuffer(encoded, "u1"))) == data
        for damaged in (encoded[:-1], encoded + b"x", encoded + SKIPPABLE[:-1], encoded * 2, b"", SKIPPABLE[:5]):
            with pytest.raises(CodecError):
                stage.decode(damaged)
    if nbytes:
        with pytest.raises(CodecError):
            stage.decode(SKIPPABLE)


def test_zstd_batches_of_unusual_frames():
    data = bytes(range(200)) * 2
    stage = ZstdCodec().bind(400, 400, np.dtype("u1"))
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    split = stage.encode(data[:200]) + stage.encode(data[200:])
    assert stage.decode_many is not None
    assert stage.decode_many([]) == []
    assert [bytes(b) for b in stage.decode_many([streamed, split, stage.encode(data)])] == [data] * 3
    views = [memoryview(stage.encode(data)), np.frombuffer(stage.encode(data), "u1")]
    assert [bytes(b) for b in stage.decode_many(views)] == [data] * 2


def large_frames():
    data = np.arange(1 << 18, dtype="u4").view("u1")
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    yield data, compress(data)
    yield data, zstandard.ZstdCompressor(level=1, write_content_size=False).compress(data)
    yield data, compress(data[: 1 << 19]) + compress(data[1 << 19 :])


@pytest.mark.parametrize(("data", "encoded"), list(large_frames()), ids=["plain", "no size", "two"])
def test_zstd_decodes_into_memory(data, encoded):
    stage = ZstdCodec().bind(data.size, data.size, data.dtype)
    assert stage.decode_into is not None
    out = np.empty_like(data)
    stage.decode_into(encoded, out)
    assert out.tobytes() == data.tobytes()
    flipped = bytearray(encoded)
    flipped[-1] ^= 1  # the checksum
    for damaged in (encoded[:-1], encoded + b"x", b"", encoded[: len(encoded) // 2], bytes(flipped)):
        if damaged == flipped and encoded[4] & 4 == 0:
            continue
        with pytest.raises(CodecError):
            stage.decode_into(damaged, out)


def test_large_chunks_are_encoded_by_numcodecs_alike():
    data = np.arange(1 << 18, dtype="u4").view("u1")
    stage = ZstdCodec(level=3, checksum=True).bind(data.size, data.size, data.dtype)
    encoded = stage.encode(data)
    assert zstandard.get_frame_parameters(encoded).has_checksum
    assert bytes(stage.decode(encoded)) == data.tobytes()


# --- blosc ---------------------------------------------------------------------------------------


def test_blosc_decodes_into_memory_and_checks_the_header():
    data = np.arange(1 << 18, dtype="u4")
    chain = make_chain(data.shape, "u4", BytesCodec(), BloscCodec())
    encoded = bytes(chain.encode(data))
    assert numcodecs.Blosc().decode(encoded) == data.tobytes()
    out = np.empty(data.nbytes, "u1")
    chain.decode_into(encoded, out)
    assert out.tobytes() == data.tobytes()
    for damaged in (encoded[:-1], encoded + b"x", encoded[:15], b""):
        with pytest.raises(CodecError):
            chain.decode_into(damaged, out)


def test_blosc_uses_the_elements_of_the_array():
    chain = make_chain((1000,), "u4", BytesCodec(), BloscCodec(cname="lz4"))
    expected = numcodecs.Blosc("lz4", shuffle=1).encode(np.arange(1000, dtype="u4"))
    assert bytes(chain.encode(np.arange(1000, dtype="u4"))) == expected


def test_a_compressor_that_blosc_does_not_have_is_named():
    codec = BloscCodec(cname="snappy")
    with pytest.raises(UnknownCodecError, match="snappy"):
        codec.bind(10, 10, np.dtype("u1"))


def test_blosc_with_an_older_numcodecs(monkeypatch):
    from zarr_core.codecs import blosc as module

    compress = load_numcodecs("numcodecs.blosc").compress

    class Older:
        @staticmethod
        def compress(source, cname, clevel, shuffle, blocksize):
            return compress(source, cname, clevel, shuffle, blocksize)

    monkeypatch.setattr(module, "_blosc", Older)
    encode = module._compress.__wrapped__()
    data = np.arange(1000, dtype="u4")
    assert encode(data.view("u1"), b"lz4", 5, 1, 0, 4) == compress(data, b"lz4", 5, 1, 0)
    assert encode(data.view("u1"), b"lz4", 5, 1, 0, 3) == compress(data.view("u1"), b"lz4", 5, 1, 0)
