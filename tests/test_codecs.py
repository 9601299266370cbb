import gzip
import json
import lzma
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import zarr_core as zarr
import zarr_core.codecs as public
import zarr_core.codecs.zstd as zstd_module
from zarr_core.codecs import (
    BloscCodec,
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
    get_codec_class,
    resolve_codecs,
    v2_compressor,
)
from zarr_core.codecs import numcodecs as ours
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
    UnknownCodecError,
    ZarrDeprecationWarning,
)
from zarr_core.metadata.data_types import parse_dtype
from zarr_core.metadata.documents import NamedConfig

numcodecs = load_numcodecs()


def make_spec(shape, dtype, fill_value=None, zarr_format=3):
    data_type = parse_dtype(dtype, zarr_format)
    fill_value = data_type.default_fill if fill_value is None else fill_value
    return ChunkSpec(shape, data_type, data_type.dtype, fill_value)


def make_chain(shape, dtype, *codecs, zarr_format=3):
    return CodecChain(codecs, make_spec(shape, dtype, zarr_format=zarr_format))


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
    assert (
        codec_from_dict(NamedConfig(document["name"], document.get("configuration", {}))) == codec
    )


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
        (
            BloscCodec(cname="zstd", clevel=1),
            {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": -1},
        ),
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
        (
            ours.FixedScaleOffset(offset=0, scale=1),
            "f8",
            {"offset": 0, "scale": 1, "dtype": "float64"},
        ),
        (ours.Zlib(level=1), "f8", {"level": 1}),
    ],
)
def test_creation_fills_in_what_the_data_type_says(codec, dtype, configuration):
    assert codec.resolve(np.dtype(dtype)).configuration() == configuration


@pytest.mark.parametrize(
    ("dtype", "typesize", "shuffle"),
    [
        ("u1", 1, "bitshuffle"),
        ("f8", 8, "shuffle"),
        (str, 1, "bitshuffle"),
        ("bytes", 1, "bitshuffle"),
    ],
)
def test_blosc_options_follow_the_data_type(dtype, typesize, shuffle):
    spec = make_spec((2,), dtype)
    serial = BytesCodec() if spec.data_type.item_bytes else VLenUTF8Codec()
    resolved = resolve_codecs([serial, BloscCodec()], spec)[1]
    assert resolved == BloscCodec(
        typesize=1 if spec.data_type.item_bytes is None else typesize, shuffle=shuffle
    )
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

FIXED = [
    "?",
    "i1",
    "u2",
    "i4",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "S3",
    "U2",
    "M8[ns]",
    "m8[s]",
    "V3",
    [("a", "u1"), ("b", "f4"), ("c", "S2")],
]

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
        flat = draw(
            st.lists(
                st.text(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))
            )
        )
        array = np.array(flat, np.dtypes.StringDType()).reshape(shape)
    elif dtype == "bytes":
        flat = draw(
            st.lists(
                st.binary(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))
            )
        )
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
        st.sampled_from(
            [(str, VLenUTF8Codec(), "vlen-utf8"), ("bytes", VLenBytesCodec(), "vlen-bytes")]
        )
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
        assert bytes(chain.encode(np.array(array, order="F"))) == encoded
        assert_same(chain.decode(encoded), np.ascontiguousarray(array).reshape(array.shape))
        assert chain.axes is None
        assert not chain.native


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_every_second_element(dtype):
    array = np.arange(8, dtype="<u2").astype(np.dtype(dtype).newbyteorder("="))[::2]
    serial = BytesCodec(endian="big" if dtype[0] == ">" else "little")
    for codecs in ([], *([codec] for codec in BYTES_CODECS)):
        chain = make_chain((4,), array.dtype, serial, *codecs)
        encoded = chain.encode(array)
        assert memoryview(encoded).contiguous
        assert_same(chain.decode(bytes(encoded)), array)


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


@pytest.mark.parametrize(
    ("kind", "codec", "field"),
    [
        (public.BloscShuffle, public.BloscCodec, "shuffle"),
        (public.BloscCname, public.BloscCodec, "cname"),
        (public.Endian, public.BytesCodec, "endian"),
    ],
)
def test_members_of_former_enumerations(kind: Any, codec: Any, field: str) -> None:
    for name in kind:
        with pytest.warns(ZarrDeprecationWarning, match=f"{kind.__name__}.{name} is deprecated"):
            member = getattr(kind, name)
        assert member == name == kind(name)
        assert name in dir(kind)
        assert getattr(codec(**{field: member}), field) == name
    with pytest.raises(AttributeError, match="no member"):
        kind.nothing
    with pytest.raises(ValueError, match="not a valid"):
        kind("nothing")
    with pytest.warns(ZarrDeprecationWarning):
        assert public.ShardingCodecIndexLocation.end == "end"


@given(npst.arrays(st.sampled_from(["<i4", "u1", "<f8"]), (3, 4)), st.sampled_from([0, 1, 5]))
def test_a_codec_alone_does_what_it_does_in_an_array(array: Any, level: int) -> None:
    transpose, compress = TransposeCodec(order=(1, 0)), GzipCodec(level=level)
    serial = BytesCodec().evolve_from_array_spec(make_spec(array.shape, array.dtype))
    turned = transpose.encode(array)
    assert turned.tobytes() == array.T.tobytes()
    data = serial.encode(turned)
    assert len(data) == serial.compute_encoded_size(turned.shape, turned.dtype)
    store: dict[str, bytes] = {}
    stored = zarr.create_array(
        store, shape=(3, 4), chunks=(3, 4), dtype=array.dtype, filters=[transpose],
        serializer=serial, compressors=[compress], config={"write_empty_chunks": True},
    )  # fmt: skip
    stored[...] = array
    assert compress.decode(store["c/0/0"], nbytes=len(data)) == data
    assert compress.decode(compress.encode(data)) == data
    again = serial.decode(data, shape=turned.shape, dtype=turned.dtype)
    assert again.tobytes() == turned.tobytes()
    back = transpose.decode(again, shape=array.shape, dtype=array.dtype)
    assert back.tobytes() == array.tobytes()
    again[...] = 0  # is a copy
    with pytest.raises(CodecError):
        compress.decode(compress.encode(data), nbytes=1)
    with pytest.raises(MetadataValidationError):
        TransposeCodec(order=(0,)).validate(shape=array.shape, dtype=array.dtype)
    transpose.validate(shape=array.shape, dtype=array.dtype)
    assert public.Crc32cCodec().compute_encoded_size(10) == 14
