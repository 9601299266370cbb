"""Damaged and hostile data is always a `CodecError`, and never decodes to more than a chunk."""

import gzip
import lzma
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from test_codecs import BYTES_CODECS, assert_same, make_chain, numcodecs

from zarr_core.codecs import (
    BloscCodec,
    BytesCodec,
    GzipCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
    ZstdCodec,
    deflate,
    zstd,
)
from zarr_core.codecs import numcodecs as ours
from zarr_core.errors import CodecError

# --- damaged data --------------------------------------------------------------------------------

CHECKED = [c for c in BYTES_CODECS if c.name in ("crc32c", "gzip") or getattr(c, "checksum", False)]
CHECKED += [
    c
    for c in BYTES_CODECS
    if getattr(c, "codec_id", "")
    in (
        "zlib",
        "gzip",
        "bz2",
        "lzma",
        "fletcher32",
        "crc32",
        "crc32c",
        "adler32",
        "jenkins_lookup3",
    )
    and "format" not in c.configuration()
]  # a raw LZMA stream has no check

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


def case_id(value):
    return "array" if isinstance(value, np.ndarray) else " ".join(map(repr, value))


def case_chain(codecs, array):
    dtype = {"T": str, "O": "bytes"}.get(array.dtype.kind, array.dtype)
    return make_chain(array.shape, dtype, *codecs)


@pytest.mark.parametrize(("codecs", "array"), SERIAL_CASES + BYTES_CASES, ids=case_id)
def test_cut_and_extended_data_is_an_error(codecs, array):
    chain = case_chain(codecs, array)
    encoded = bytes(chain.encode(array))
    cuts = {*range(40), *range(0, len(encoded), 7), *range(len(encoded) - 9, len(encoded))}
    damaged = [encoded[:cut] for cut in cuts if 0 <= cut < len(encoded)]
    damaged += [encoded + tail for tail in (b"\0", b"x", b"\0" * 4, b"\0" * 64, encoded)]
    damaged += [b"\0" + encoded, b"\xff" * (len(encoded) + 1), bytes(len(encoded) + 1)]
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
    for position in range(len(encoded)):
        encoded[position] ^= 1 << position % 8
        try:
            decoded = chain.decode(bytes(encoded))
        except CodecError:
            pass
        else:  # the time in a header, or a bit that is not used
            assert_same(decoded, array)
        encoded[position] ^= 1 << position % 8
    flipped = bytes(encoded[:-20]) + bytes(byte ^ 0x55 for byte in encoded[-20:])
    with pytest.raises(CodecError):
        chain.decode(flipped)


@pytest.mark.parametrize("codec", BYTES_CODECS, ids=repr)
def test_a_stage_checks_how_much_it_decodes(codec):
    for size in (96, 104):
        other = codec.bind(size, size, np.dtype("u1"))
        stage = codec.bind(100, 100, np.dtype("u1"))
        with pytest.raises(CodecError, match=r"expected (at most )?10\d "):
            stage.decode(other.encode(bytes(size)))


@pytest.mark.parametrize("padding", [0, 5, 7, 9, 255])
def test_bits_with_a_wrong_padding(padding):
    chain = make_chain((10,), "?", ours.PackBits(), BytesCodec())
    assert chain.decode(b"\6\0\0").shape == (10,)
    with pytest.raises(CodecError, match="expected 10"):
        chain.decode(bytes([padding, 0, 0]))


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
        (b"\x01\0\0\0\x01\0\0\0\xff", "UTF-8"),
        (b"\x02\0\0\0\x01\0\0\0a\x01\0\0\0b", "expected 1 elements, found 2"),
        (b"\x01\0\0\0\xff\xff\xff\xffab", "after the end"),
        (b"\x01\0\0\0\x01\0\0\0ab", "1 bytes after the last element"),
        (b"\x01\0\0", "none"),
        (b"\x01\0\0\0\x01\0", "cannot hold 1 elements"),
    ],
)
def test_messages_about_damaged_strings(encoded, says):
    with pytest.raises(CodecError, match=says):
        make_chain((1,), str, VLenUTF8Codec()).decode(encoded)


def test_a_hostile_count_of_strings_is_refused_at_once():
    chain = make_chain((1 << 40,), str, VLenUTF8Codec())
    with pytest.raises(CodecError, match="expected 1099511627776 elements"):
        chain.decode(b"\xff\xff\xff\xff" + bytes(100))


@pytest.mark.parametrize(
    ("codec", "elements"),
    [
        (VLenUTF8Codec(), [b"a"]),
        (VLenUTF8Codec(), [1]),
        (VLenUTF8Codec(), ["\ud800"]),
        (VLenBytesCodec(), ["a"]),
        (VLenBytesCodec(), [1]),
    ],
)
def test_elements_that_cannot_be_written(codec, elements):
    with pytest.raises(CodecError, match="element"):
        make_chain((1,), "bytes", codec).encode(np.array(elements, object))


def test_missing_objects_are_written_as_empty():
    array = np.array([None, 0, ""], object)
    assert make_chain((3,), "bytes", VLenUTF8Codec()).encode(array) == b"\3" + bytes(15)
    assert make_chain((3,), "bytes", VLenBytesCodec()).encode(
        array[:2].repeat(2)[:3]
    ) == b"\3" + bytes(15)


# --- bombs ---------------------------------------------------------------------------------------

BOMB = 64 << 20


def lz4_header(size, block):
    return struct.pack("<I", size) + block


COMPRESSION_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


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


@pytest.fixture(params=["the package", "the standard library"])
def _both_zstandards(request, monkeypatch):
    """Encode and decode Zstandard with the package zstandard, and without."""
    if request.param == "the standard library":
        library = pytest.importorskip(COMPRESSION_ZSTD)
        monkeypatch.setattr(zstd, "_standard_library", lambda: library)


@pytest.mark.usefixtures("_both_zstandards")
@pytest.mark.parametrize(("codec", "bomb"), BOMBS[:3])
@pytest.mark.parametrize("nbytes", [1000, None])
def test_no_more_of_zstd_is_decoded_than_a_chunk_holds(codec, bomb, nbytes):
    test_no_more_is_decoded_than_a_chunk_holds(codec, bomb, nbytes)


@pytest.mark.parametrize(("codec", "bomb"), BOMBS[3:], ids=lambda value: getattr(value, "name", ""))
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


@pytest.mark.usefixtures("_both_zstandards")
def test_headers_of_strings_cannot_claim_memory():
    # 20 bytes that say "two gigabytes follow".
    frame = (
        zstandard.ZstdCompressor().compress(b"a" * 99)[:4] + b"\xa0" + struct.pack("<I", 2 << 30)
    )
    stage = ZstdCodec().bind(None, 1 << 32, np.dtype("u1"))
    with pytest.raises(CodecError, match="blocks"):
        stage.decode(frame + b"\x01\0\0")


def test_many_tiny_gzip_members_are_read():
    stage = GzipCodec().bind(20_000, 20_000, np.dtype("u1"))
    assert stage.decode(b"".join([gzip.compress(b"a")] * 20_000)) == b"a" * 20_000
    with pytest.raises(CodecError, match=r"gzip member|end of the stream"):
        stage.decode(gzip.compress(b"a" * 20_000) + b"\0" * 8)


def test_the_limit_holds_between_two_codecs():
    # The inner data of a chain is bounded too, though its size is not known.
    chain = make_chain((100,), "u1", BytesCodec(), GzipCodec(), ZstdCodec())
    with pytest.raises(CodecError, match="at most"):
        chain.decode(zstandard.ZstdCompressor().compress(bytes(1 << 20)))


# --- zstd ----------------------------------------------------------------------------------------

SKIPPABLE = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"


@pytest.mark.usefixtures("_both_zstandards")
@pytest.mark.parametrize("nbytes", [600, None])
def test_all_forms_of_zstd_data(nbytes):
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
        for damaged in (
            encoded[:-1],
            encoded + b"x",
            encoded + SKIPPABLE[:-1],
            encoded * 2,
            b"",
            SKIPPABLE[:5],
        ):
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
    assert [bytes(b) for b in stage.decode_many([streamed, split, stage.encode(data)])] == [
        data
    ] * 3
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
    for damaged in (
        encoded[:-1],
        encoded + b"x",
        b"",
        encoded[: len(encoded) // 2],
        bytes(flipped),
    ):
        if damaged == flipped and encoded[4] & 4 == 0:
            continue
        with pytest.raises(CodecError):
            stage.decode_into(damaged, out)


@pytest.mark.usefixtures("_both_zstandards")
@pytest.mark.parametrize("level", [-131072, -5, 0, 3, 22])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65791, 65792])
def test_zstd_frames_hold_what_they_should(level, checksum, size):
    data = (np.arange(size) % 251).astype("u1")
    stage = ZstdCodec(level=level, checksum=checksum).bind(size, size, data.dtype)
    for form in (data.tobytes(), memoryview(data), data):
        encoded = bytes(stage.encode(form))
        found = zstandard.get_frame_parameters(encoded)
        assert (found.content_size, found.has_checksum) == (size, checksum)
        assert zstandard.ZstdDecompressor().decompress(encoded) == data.tobytes()
        assert bytes(stage.decode(encoded)) == data.tobytes()
        if checksum and size:  # the package does not look at what holds nothing
            with pytest.raises(CodecError):
                stage.decode(encoded[:-1] + bytes([encoded[-1] ^ 1]))


# Of what holds nothing the package does not look at the checksum.
@given(
    st.binary(min_size=1, max_size=300), st.sampled_from(["cut", "flipped"]), st.integers(0, 999)
)
def test_zstandard_and_the_standard_library_agree(data, damage, at):
    encoded = bytearray(ZstdCodec(checksum=True).bind(None, 300, np.dtype("u1")).encode(data))
    at %= len(encoded)
    if damage == "cut":
        del encoded[at:]
    else:
        encoded[at] ^= 1 << at % 8
    outcomes = []
    for library in (None, pytest.importorskip(COMPRESSION_ZSTD)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zstd, "_standard_library", lambda library=library: library)
            try:
                outcomes.append(bytes(ZstdCodec().bind(None, 300, np.dtype("u1")).decode(encoded)))
            except CodecError:
                outcomes.append(None)
    assert outcomes[0] == outcomes[1]


def test_large_chunks_are_encoded_by_numcodecs_alike():
    data = np.arange(1 << 18, dtype="u4").view("u1")
    stage = ZstdCodec(level=3, checksum=True).bind(data.size, data.size, data.dtype)
    encoded = stage.encode(data)
    assert zstandard.get_frame_parameters(encoded).has_checksum
    assert bytes(stage.decode(encoded)) == data.tobytes()


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=3),
    st.sampled_from(["as it is", "cut", "flipped", "more"]),
    st.integers(0, 2**16),
    st.booleans(),
)
@example([b"", b""], "flipped", 23, True)
def test_zlib_and_isal_agree(members, damage, at, gzipped):
    pytest.importorskip("isal")
    wbits = 31 if gzipped else 15
    stream = bytearray(b"".join(zlib.compress(member, 6, wbits) for member in members))
    at %= len(stream)
    if damage == "cut":
        del stream[at:]
    elif damage == "flipped":
        stream[at] ^= 1 << at % 8
    elif damage == "more":
        stream += bytes(1 + at % 20)
    outcomes = []
    for inflater in (deflate.inflater, lambda: (zlib.decompressobj, (zlib.error,))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deflate, "inflater", inflater)
            stage = deflate.deflate_stage(5, None, 1 << 20, gzip=gzipped)
            try:
                outcomes.append(bytes(stage.decode(bytes(stream))))
            except CodecError:
                outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=2000), st.integers(0, 9), st.booleans(), st.integers(1, 9))
def test_streams_of_zlib_and_libdeflate_hold_the_same(piece, level, gzipped, times):
    pytest.importorskip("deflate")
    data = piece * times
    with_it = deflate.deflate_stage(level, len(data), len(data), gzip=gzipped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "deflate", None)
        without = deflate.deflate_stage(level, len(data), len(data), gzip=gzipped)
    for encode in (with_it.encode, without.encode):
        for form in (data, memoryview(data), np.frombuffer(data, "u1")):
            encoded = encode(form)
            assert encoded == encode(data)
            assert zlib.decompress(bytes(encoded), 31 if gzipped else 15) == data
            assert bytes(without.decode(bytes(encoded))) == data


def test_gzip_without_isal(monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    deflate.inflater.cache_clear()
    try:
        assert deflate.inflater()[0] is zlib.decompressobj
        stage = make_chain((100,), "u1", BytesCodec(), GzipCodec())
        data = np.arange(100, dtype="u1")
        assert stage.decode(stage.encode(data)).tolist() == data.tolist()
    finally:
        deflate.inflater.cache_clear()


def test_a_blosc_header_with_a_negative_size():
    chain = make_chain((50,), "T", VLenUTF8Codec(), BloscCodec(cname="zstd"))
    encoded = bytearray(chain.encode(np.array(["é"] * 50, np.dtypes.StringDType())))
    encoded[7] ^= 1 << 7
    with pytest.raises(CodecError, match="at most"):
        chain.decode(bytes(encoded))
