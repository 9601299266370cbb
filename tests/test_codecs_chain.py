"""Codecs in chains, as format 2 has them, and by name."""

import hashlib
import pickle
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import in_new_interpreter
from test_codecs import assert_same, make_chain, make_spec, numcodecs

import zarr_core as zarr
from zarr_core.codecs import (
    BloscCodec,
    BytesBytesCodec,
    BytesCodec,
    CodecChain,
    Crc32cCodec,
    GzipCodec,
    TransposeCodec,
    V2FilterCodec,
    VLenUTF8Codec,
    ZstdCodec,
    codec_from_dict,
    codecs_from_configs,
    get_codec_class,
    register_codec,
    registry,
    resolve_codecs,
)
from zarr_core.codecs import numcodecs as ours
from zarr_core.codecs.base import BytesStage, SerialStage
from zarr_core.codecs.checks import load_numcodecs
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
    UnknownCodecError,
)
from zarr_core.metadata.documents import NamedConfig, make_v2_codecs


def v2_chain(shape, dtype, *, filters=(), compressor=None, order="C"):
    spec = make_spec(shape, dtype, zarr_format=2)
    configs = make_v2_codecs(order, len(shape), filters, compressor)
    return CodecChain(codecs_from_configs(configs), spec)


# --- chains --------------------------------------------------------------------------------------


class Reverse(BytesBytesCodec):
    """A codec of a user: the bytes backwards, as an array of another dtype."""

    name = "test.reverse"

    @classmethod
    def from_configuration(cls, configuration):
        return cls()

    def bind(self, nbytes, limit, dtype):
        def reverse(data):
            return np.frombuffer(data, "u1")[::-1].copy().view("u2")

        return BytesStage(nbytes, reverse, reverse)


class Partial(BytesCodec):
    """A codec that could read parts."""

    def bind(self, spec):
        return super().bind(spec)._replace(partial="partial")


@pytest.mark.parametrize(
    ("codecs", "named"),
    [
        ([], "none"),
        ([TransposeCodec(order=(0,))], "'transpose'"),
        ([GzipCodec(), BytesCodec()], "'gzip'"),
        ([BytesCodec(), TransposeCodec(order=(0,))], "'transpose'"),
        ([BytesCodec(), BytesCodec()], "'bytes'"),
        ([BytesCodec(), GzipCodec(), VLenUTF8Codec()], "'vlen-utf8'"),
        ([BytesCodec(), "gzip"], "'gzip'"),
    ],
)
def test_codecs_in_a_wrong_order_are_refused(codecs, named):
    with pytest.raises(MetadataValidationError, match=named):
        make_chain((1,), "u1", *codecs)
    with pytest.raises(MetadataValidationError, match=named):
        resolve_codecs(codecs, make_spec((1,), "u1"))


@pytest.mark.parametrize(
    ("dtype", "codecs", "says"),
    [
        ("i2", [BytesCodec(endian=None)], "'endian'"),
        ("U2", [BytesCodec(endian=None)], "'endian'"),
        ("c8", [BytesCodec(endian=None)], "'endian'"),
        ("M8[s]", [BytesCodec(endian=None)], "'endian'"),
        (str, [BytesCodec()], "no fixed size"),
        ("bytes", [BytesCodec()], "no fixed size"),
        ("i2", [VLenUTF8Codec()], "fixed size"),
        ("i2", [TransposeCodec(order=(1, 0)), BytesCodec()], "'order'"),
        ("i2", [ours.PackBits(), BytesCodec()], "'bool'"),
        ("i2", [ours.BitRound(keepbits=3), BytesCodec()], "bitround"),
        ("i2", [ours.Delta(dtype="f8"), BytesCodec()], "delta"),
        ("i2", [ours.Delta(dtype="x"), BytesCodec()], "'dtype'"),
        ("i2", [ours.Delta(speed=1), BytesCodec()], "speed"),
        (str, [ours.Delta(dtype="i2"), VLenUTF8Codec()], "no fixed size"),
        ("i2", [BytesCodec(), ours.Shuffle(elementsize=4)], "'elementsize'"),
        ("i2", [BytesCodec(), ours.CRC32(location="middle")], "middle"),
        ("i2", [BytesCodec(), ours.BZ2(level=0)], "'level'"),
        ("i2", [BytesCodec(), ours.LZMA(format=99)], "lzma"),
        ("i2", [BytesCodec(), ours.Zlib(levle=1)], "'levle'"),
        ("i2", [BytesCodec(), ours.Blosc(shuffle=3)], "'shuffle'"),
    ],
)
def test_codecs_that_do_not_fit_the_chunk_are_refused(dtype, codecs, says):
    with pytest.raises(MetadataValidationError, match=says):
        make_chain((3,), dtype, *codecs)


def test_structs_without_a_byte_order_are_little_endian():
    chain = make_chain((1,), [("a", "i2")], BytesCodec(endian=None))
    assert bytes(chain.encode(np.array([(1,)], [("a", "<i2")]))) == b"\1\0"


def test_what_a_chain_knows():
    little, big = BytesCodec(endian="little"), BytesCodec(endian="big")
    raw = make_chain((2, 3), "<u2", little)
    assert (raw.native, raw.nbytes, raw.fixed_nbytes, raw.axes, raw.partial) == (
        True,
        12,
        12,
        None,
        None,
    )
    assert (raw.decode_cost, raw.decode_many, raw.spec.shape) == (0, None, (2, 3))
    assert not make_chain((2, 3), "<u2", big).native
    assert make_chain((2, 3), "u1", big).native
    checked = make_chain((2, 3), "<u2", little, Crc32cCodec(), Crc32cCodec())
    assert (checked.fixed_nbytes, checked.decode_many) == (20, None)
    packed = make_chain((1000, 1000), "<u2", little, GzipCodec())
    assert packed.fixed_nbytes is None
    assert packed.encode_cost > packed.decode_cost > 1000
    turned = make_chain((2, 3, 4), "<u2", TransposeCodec(order=(1, 2, 0)), little)
    assert (turned.axes, turned.native, turned.decode_into) == ((1, 2, 0), False, None)
    text = make_chain((2,), str, VLenUTF8Codec(), ZstdCodec())
    assert (text.nbytes, text.fixed_nbytes, text.native, text.decode_into) == (
        None,
        None,
        False,
        None,
    )
    assert repr(text) == "<CodecChain vlen-utf8 zstd>"


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_permutations_of_axes_are_composed(first, second):
    array = np.arange(120, dtype="<u2").reshape(2, 3, 4, 5)
    codecs = [
        TransposeCodec(order=first),
        TransposeCodec(order=second),
        BytesCodec(endian="little"),
    ]
    chain = make_chain(array.shape, "<u2", *codecs)
    stored = array.transpose(first).transpose(second)
    assert bytes(chain.encode(array)) == stored.tobytes() == array.transpose(chain.axes).tobytes()
    assert_same(chain.decode(stored.tobytes()), array)


def test_parts_are_read_where_only_axes_are_permuted():
    swap, partial = TransposeCodec(order=(0,)), Partial(endian="little")
    assert make_chain((4,), "u2", partial).partial == "partial"
    assert make_chain((4,), "u2", swap, swap, partial).partial == "partial"
    assert make_chain((4,), "u2", partial, Crc32cCodec()).partial is None
    assert make_chain((4,), "u2", ours.Delta(dtype="u2"), partial).partial is None


def test_codecs_of_users_may_return_any_buffer():
    array = np.arange(6, dtype="<u4")
    chain = make_chain((6,), "<u4", BytesCodec(endian="little"), Reverse())
    assert bytes(chain.encode(array)) == array.tobytes()[::-1]
    assert_same(chain.decode(array.tobytes()[::-1]), array)
    assert bytes(chain.decode_bytes(array.tobytes()[::-1])) == array.tobytes()
    for wrong in (bytes(26), bytes(22), bytes(12)):
        with pytest.raises(CodecError, match="expected 24"):
            chain.decode(wrong)
        with pytest.raises(CodecError, match="expected 24"):
            chain.decode_bytes(wrong)


def test_the_codec_that_fails_is_named():
    array = np.arange(100, dtype="u2")
    codecs = [ours.Delta(dtype="u2"), BytesCodec(), ZstdCodec(), Crc32cCodec()]
    chain = make_chain((100,), "u2", *codecs)
    serialised, compressed = bytes(200), ZstdCodec().bind(200, 200, array.dtype)
    crc = Crc32cCodec().bind(None, 1000, array.dtype)
    assert chain.blame(b"abc") == "crc32c"
    assert chain.blame(crc.encode(b"abc")) == "zstd"
    assert chain.blame(crc.encode(compressed.encode(serialised))) is None
    assert make_chain((100,), "u2", BytesCodec(), Reverse()).blame(bytes(198)) == "bytes"
    packed = make_chain((16,), "?", ours.PackBits(), BytesCodec())
    assert packed.blame(b"\x09\0\0") == "numcodecs.packbits"


def test_a_chain_is_immutable_and_stays_in_its_process():
    chain = make_chain((1,), "u1", BytesCodec())
    with pytest.raises(AttributeError):
        chain.native = False
    with pytest.raises(TypeError):
        pickle.dumps(chain)
    with pytest.raises(AttributeError):
        chain.codecs[0].endian = "big"


def test_results_are_views_of_raw_data_and_of_nothing_else():
    data = bytes(range(8))
    raw = make_chain((8,), "u1", BytesCodec()).decode(data)
    assert not raw.flags.writeable
    assert np.shares_memory(raw, np.frombuffer(data, "u1"))
    array = np.arange(8, dtype="<u2")
    encoded = make_chain((8,), "<u2", BytesCodec(endian="little")).encode(array)
    assert np.shares_memory(np.asarray(encoded), array)


@pytest.mark.parametrize(
    "codecs",
    [
        [ZstdCodec(level=1, checksum=True)],
        [ZstdCodec(), Crc32cCodec()],
        [GzipCodec(level=1)],
        [BloscCodec()],
        [ours.LZ4(), ours.CRC32()],
        [ours.BZ2()],
    ],
    ids=repr,
)
def test_one_chain_in_many_threads(codecs):
    chain = make_chain((64, 64), "f4", BytesCodec(), *codecs)
    barrier = threading.Barrier(8)

    def work(seed):
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(20):
            array = rng.integers(0, 50, (64, 64)).astype("f4")
            encoded = bytes(chain.encode(array))
            assert_same(chain.decode(encoded), array)
            if chain.decode_many is not None:
                for item in chain.decode_many([encoded] * 4):
                    assert bytes(item) == array.tobytes()
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


# --- format 2 ------------------------------------------------------------------------------------

V2_FILTERS = [
    [],
    [{"id": "delta", "dtype": "<i4"}],
    [{"id": "delta", "dtype": "<i4", "astype": "<i8"}, {"id": "shuffle", "elementsize": 8}],
    [
        {"id": "astype", "encode_dtype": "<f8", "decode_dtype": "<i4"},
        {"id": "zstd"},
        {"id": "crc32"},
    ],
    [{"id": "fixedscaleoffset", "offset": 1, "scale": 1, "dtype": "<i4", "astype": "<i8"}],
    [{"id": "zlib", "level": 1}, {"id": "base64"}],
    [{"id": "fletcher32"}, {"id": "adler32"}],
    [{"id": "packbits"}],
]
V2_COMPRESSORS = [
    None,
    {"id": "zlib"},
    {"id": "gzip", "level": 9},
    {"id": "zstd", "level": 99},
    {"id": "blosc", "shuffle": -1},
    {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0},
    {"id": "bz2", "level": 1},
    {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None},
    {"id": "lz4", "acceleration": 1},
    {"id": "base64"},
]


def v2_reference(array, filters, compressor, order):
    """Return what the codecs of numcodecs make of a chunk."""
    data = np.array(array, order=order)
    for config in [*filters, *([compressor] if compressor else [])]:
        data = numcodecs.get_codec(config).encode(data)
    return data.tobytes(order) if isinstance(data, np.ndarray) else bytes(data)


@pytest.mark.parametrize("filters", V2_FILTERS, ids=lambda f: " ".join(c["id"] for c in f))
@pytest.mark.parametrize("compressor", V2_COMPRESSORS, ids=lambda c: c["id"] if c else "none")
@pytest.mark.parametrize("order", ["C", "F"])
def test_format_2_writes_what_numcodecs_writes(filters, compressor, order):
    dtype = "?" if filters == [{"id": "packbits"}] else "<i4"
    array = (np.arange(35).reshape(5, 7) ** 2 % 11).astype(dtype)
    chain = v2_chain((5, 7), dtype, filters=filters, compressor=compressor, order=order)
    encoded = bytes(chain.encode(array))
    assert bytes(chain.encode(np.asfortranarray(array))) == encoded
    if compressor and compressor["id"] in ("gzip", "zstd"):
        # Both have a library of their own here, so that the bytes can differ; what is read does not.
        decoded = bytes(numcodecs.get_codec(compressor).decode(encoded))
        assert decoded == v2_reference(array, filters, None, order)
    else:
        expected = v2_reference(array, filters, compressor, order)
        assert hashlib.sha256(encoded).digest() == hashlib.sha256(expected).digest()
    assert_same(chain.decode(encoded), array)
    for damaged in (encoded[:-1], encoded + b"\0\0\0", b""):
        with pytest.raises(CodecError):
            chain.decode(damaged)


def test_format_2_stores_memory_as_it_is():
    fortran = v2_chain((2, 2), "u1", order="F")
    assert bytes(fortran.encode(np.array([[1, 2], [3, 4]], "u1"))) == b"\1\3\2\4"
    assert (fortran.axes, fortran.native) == ((1, 0), False)
    big = v2_chain((2,), ">i2")
    assert big.native
    assert bytes(big.encode(np.array([1, 2], ">i2"))) == b"\0\1\0\2"
    assert big.decode(b"\0\1\0\2").dtype == np.dtype(">i2")


@pytest.mark.parametrize("filters", [[], [{"id": "zlib"}, {"id": "crc32"}]], ids=len)
@pytest.mark.parametrize("compressor", [None, {"id": "blosc"}, {"id": "zstd"}], ids=str)
def test_format_2_strings(filters, compressor):
    text = np.array([["a", "é"], ["", "xyz"]], np.dtypes.StringDType())
    binary = np.array([[b"a", b"\0"], [b"", b"xyz"]], object)
    for array, dtype, name in ((text, str, "vlen-utf8"), (binary, "bytes", "vlen-bytes")):
        configs = [{"id": name}, *filters]
        for order in "CF":
            spec = make_spec((2, 2), dtype)
            named = make_v2_codecs(order, 2, configs, compressor)
            chain = CodecChain(codecs_from_configs(named), spec)
            encoded = bytes(chain.encode(array))
            assert encoded == v2_reference(array.astype(object), configs, compressor, order)
            assert_same(chain.decode(encoded), array)


def test_pickles_are_never_loaded():
    for filters, compressor in (([{"id": "pickle"}], None), ([], {"id": "pickle"})):
        with pytest.raises(PickleCodecDisabledError):
            v2_chain((2,), "<i4", filters=filters, compressor=compressor)
    with pytest.raises(PickleCodecDisabledError):
        CodecChain([V2FilterCodec(({"id": "pickle"},))], make_spec((1,), str))
    with pytest.raises(UnknownCodecError):
        codec_from_dict({"name": "numcodecs.pickle"})


@pytest.mark.parametrize(
    ("dtype", "filters", "error"),
    [
        (str, [], MetadataValidationError),
        (str, [{"id": "zlib"}], MetadataValidationError),
        (str, [{"id": "json2"}], MetadataValidationError),
        ("<i4", [{"id": "not-there"}], UnknownCodecError),
        ("<i4", [{"id": "delta"}], MetadataValidationError),
        ("<i4", [{"id": "delta", "dtype": "<f8"}], MetadataValidationError),
        ("<i4", [{"id": "bitround", "keepbits": 3}], MetadataValidationError),
        ("<i4", [{"id": "zlib", "speed": 3}], MetadataValidationError),
    ],
)
def test_filters_that_cannot_be_applied(dtype, filters, error):
    with pytest.raises(error):
        CodecChain([V2FilterCodec(filters)], make_spec((3,), dtype))


class Planes(numcodecs.abc.Codec):
    """A compressor for arrays, as some packages add to numcodecs."""

    codec_id = "test-planes"

    def encode(self, buf):
        height, width = buf.shape
        return struct.pack("<2I", height, width) + buf.tobytes()

    def decode(self, buf, out=None):
        data = bytes(buf)
        return np.frombuffer(data[8:], "<i4").reshape(struct.unpack("<2I", data[:8]))


@pytest.fixture
def planes():
    load_numcodecs("numcodecs.registry").register_codec(Planes)
    yield
    del load_numcodecs("numcodecs.registry").codec_registry["test-planes"]


@pytest.mark.usefixtures("planes")
def test_a_compressor_for_arrays_gets_the_array():
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    chain = v2_chain((2, 3), "<i4", compressor={"id": "test-planes"})
    encoded = bytes(chain.encode(array))
    assert encoded == Planes().encode(array)
    assert_same(chain.decode(encoded), array)
    for damaged in (encoded[:-4], encoded + bytes(12), b"", encoded[:-1]):
        with pytest.raises(CodecError):
            chain.decode(damaged)


@pytest.mark.usefixtures("planes")
def test_a_numcodecs_codec_from_arrays_to_bytes(monkeypatch):
    monkeypatch.setattr(ours.ZFPY, "codec_id", "test-planes")
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    chain = make_chain((2, 3), "<i4", ours.ZFPY())
    assert_same(chain.decode(chain.encode(np.asfortranarray(array))), array)
    with pytest.raises(CodecError):
        chain.decode(bytes(chain.encode(array)) + bytes(4))


def test_codecs_of_packages_that_are_not_installed():
    with pytest.raises(UnknownCodecError, match=r"zfpy|pcodec"):
        make_chain((4,), "f4", ours.ZFPY() if "zfpy" not in sys.modules else ours.PCodec())


# --- registry ------------------------------------------------------------------------------------


def test_unknown_codecs_are_named():
    with pytest.raises(UnknownCodecError, match="'brotli'"):
        get_codec_class("brotli")
    with pytest.raises(UnknownCodecError, match="'brotli'"):
        codecs_from_configs([NamedConfig("bytes"), NamedConfig("brotli")])
    optional = [NamedConfig("bytes"), NamedConfig("brotli", {}, must_understand=False)]
    assert codecs_from_configs(optional) == (BytesCodec(endian=None),)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("imagecodecs_jpegxl", "imagecodecs-zarr"),
        ("vlen-ndarray", "zarr-vlen-ndarray"),
        ("virtual_tiff.horizontal_delta", "virtual-tiff"),
    ],
)
def test_an_unknown_codec_says_which_package_has_it(name, package):
    with pytest.raises(UnknownCodecError, match=f"pip install {package}.*register_codec") as caught:
        get_codec_class(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["brotli", "n5_default2", "imagecodec", "gribberish.more"])
def test_other_unknown_codecs_say_how_to_add_them(name):
    with pytest.raises(UnknownCodecError, match="register_codec") as caught:
        get_codec_class(name)
    assert "pip" not in str(caught.value)


@pytest.mark.parametrize(
    ("codec_id", "package"),
    [
        ("zfpy", "zfpy"),
        ("pcodec", "pcodec"),
        ("msgpack2", "msgpack"),
        ("imagecodecs_jpeg2k", "imagecodecs-numcodecs"),
        ("grib", "kerchunk"),
    ],
)
def test_an_unknown_codec_of_numcodecs_says_which_package_brings_it(monkeypatch, codec_id, package):
    known = load_numcodecs("numcodecs.registry")
    monkeypatch.delitem(known.codec_registry, codec_id, raising=False)
    monkeypatch.delitem(known.entries, codec_id, raising=False)
    with pytest.raises(UnknownCodecError, match=f"{codec_id}.*pip install {package}"):
        ours.numcodecs_object({"id": codec_id})
    with pytest.raises(UnknownCodecError, match=r"installed numcodecs$"):
        ours.numcodecs_object({"id": "not-there"})


def test_codecs_can_be_registered(monkeypatch):
    monkeypatch.setattr(registry, "_codecs", dict(registry._codecs))
    register_codec("test.reverse", Reverse)
    assert get_codec_class("test.reverse") is Reverse
    assert isinstance(codec_from_dict({"name": "test.reverse"}), Reverse)
    for wrong in (int, SerialStage, "Reverse"):
        with pytest.raises(TypeError):
            register_codec("test.wrong", wrong)


def test_codecs_are_found_by_entry_points(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_codecs", dict(registry._codecs))
    Path(tmp_path, "test_codec_package.py").write_text(
        "from zarr_core.codecs import Crc32cCodec\nclass Found(Crc32cCodec):\n    name = 'found'\n"
    )
    package = Path(tmp_path, "test_codec_package-1.0.dist-info")
    package.mkdir()
    Path(package, "METADATA").write_text(
        "Metadata-Version: 2.1\nName: test-codec-package\nVersion: 1.0\n"
    )
    Path(package, "entry_points.txt").write_text(
        "[zarr_core.codecs]\nfound = test_codec_package:Found\n"
        "missing = test_codec_package:Missing\nwrong = pathlib:Path\nabsent = not_installed:X\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry._entry_points.cache_clear()
    try:
        chain = make_chain((3,), "u1", BytesCodec(), codec_from_dict({"name": "found"}))
        assert_same(chain.decode(chain.encode(np.arange(3, dtype="u1"))), np.arange(3, dtype="u1"))
        for name in ("missing", "wrong", "absent"):
            with pytest.raises(UnknownCodecError, match=name):
                get_codec_class(name)
    finally:
        registry._entry_points.cache_clear()
        sys.modules.pop("test_codec_package", None)


def test_libraries_are_imported_when_they_are_needed():
    code = (
        "import sys; from zarr_core.codecs import *; import zarr_core.codecs.numcodecs as n\n"
        "n.Delta(dtype='i4'); codec_from_dict('crc32c'); ZstdCodec(); BloscCodec()\n"
        "print([m for m in ('numcodecs', 'zstandard', 'crc32c', 'bz2', 'lzma') if m in sys.modules])"
    )
    in_new_interpreter(code, warnings="error", stdout="[]")


def test_codecs_of_zarr_pythons_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "others.py"
    package.write_text(
        """
class BytesBytesCodec:
    '''Of the name that zarr-python's base class has.'''

class Flipped(BytesBytesCodec):
    def __init__(self, mask=255): self.mask = mask
    @classmethod
    def from_dict(cls, data): return cls(**data["configuration"])
    def to_dict(self): return {"name": "flipped", "configuration": {"mask": self.mask}}
    def evolve_from_array_spec(self, spec): return self
    def validate(self, **given): assert given["dtype"].to_native_dtype() == "<i2"
    async def _encode_single(self, chunk, spec):
        flipped = bytes(b ^ self.mask for b in chunk.to_bytes())
        return spec.prototype.buffer.from_bytes(flipped)
    _decode_single = _encode_single

class Nothing: ...
"""
    )
    info = tmp_path / "others-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: others\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[zarr.codecs]\nflipped = others:Flipped\nnothing = others:Nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry._entry_points.cache_clear()
    try:
        store: dict[str, bytes] = {}
        codec = {"name": "flipped", "configuration": {"mask": 15}}
        array = zarr.create_array(
            store, shape=4, chunks=2, dtype="i2", compressors=[codec], fill_value=7
        )
        array[:2] = [1, 2]
        assert store["c/0"] == bytes(b ^ 15 for b in np.array([1, 2], "<i2").tobytes())
        assert zarr.open_array(store)[...].tolist() == [1, 2, 7, 7]
        (made,) = array.compressors
        assert made.to_dict() == codec
        assert pickle.loads(pickle.dumps(made)).to_dict() == codec
        with pytest.raises(UnknownCodecError, match="'nothing' cannot be loaded"):
            codec_from_dict("nothing")
    finally:
        registry._entry_points.cache_clear()
        registry._codecs.pop("flipped", None)
