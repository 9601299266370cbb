"""Other implementations read what zarr_core writes, and the other way round.

zarr-python 3 and tensorstore are imported here (Python 3.12 or later); zarr 2.18.7 runs under the
interpreter that the environment variable ZARR2_PYTHON names. A peer that is missing is skipped.

Every case writes the first rows of an array and leaves the others out, so that missing chunks,
partial chunks at the edges, fill values and attributes are all compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core

# Both sides warn of data types without a specification, and of codecs around a shard; they are
# what is tested here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*specification:FutureWarning",
    "ignore:.*specification:UserWarning",
    "ignore:Combining a `sharding_indexed` codec:UserWarning",
)

if not (find_spec("zarr") or find_spec("tensorstore") or os.environ.get("ZARR2_PYTHON")):
    pytest.skip("none of the other implementations is installed", allow_module_level=True)

JSON = Any
SHAPE, CHUNKS, SHARDS, ROWS = (5, 7), (2, 4), (4, 8), 4
ATTRIBUTES: dict[str, JSON] = {
    "units": "K",
    "nested": {"list": [1, 2.5, None, True], "empty": {}},
    "café": "naïve ☃",
}


# --- what is written -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Type:
    """A data type, values of it, and a fill value."""

    name: str
    values: Any
    fill: Any
    dtype: Any = None  # what `create_array` is given; of the values by default

    def __str__(self) -> str:
        return self.name

    @property
    def argument(self) -> Any:
        return self.values.dtype if self.dtype is None else self.dtype

    @property
    def kind(self) -> str:
        return str(self.values.dtype.kind)

    @property
    def is_variable(self) -> bool:
        return self.kind in "OT"


def integers(name: str) -> Type:
    info = np.iinfo(name)
    values = np.random.default_rng(1).integers(
        info.min, info.max, SHAPE, dtype=info.dtype, endpoint=True
    )
    values[0, :2] = info.min, info.max
    return Type(name, values, info.max)


def floats(name: str) -> Type:
    real = np.dtype(name) if name.startswith("f") else np.zeros(0, name).real.dtype
    rng = np.random.default_rng(2)
    values = (rng.normal(size=SHAPE) * 100).astype(real)
    values[0, :5] = np.nan, np.inf, -np.inf, -0.0, np.finfo(real).max
    if np.dtype(name).kind == "f":
        return Type(name, values, real.type(np.nan))
    both = np.empty(SHAPE, name)
    both.real, both.imag = values, values[::-1]
    return Type(name, both, complex(1.5, -np.inf))


def from_items(
    name: str, items: Iterable[Any], dtype: Any, fill: Any, argument: Any = None
) -> Type:
    values = np.empty(SHAPE, dtype)
    flat, items = values.reshape(-1), list(items)
    for position in range(flat.size):
        flat[position] = items[position % len(items)]
    return Type(name, values, fill, argument)


def fill_to_json(kind: Type) -> JSON:
    """Write a number in JSON as the specification says, independently of zarr_core."""
    value = np.asarray(kind.fill, dtype=kind.values.dtype)[()]
    if kind.kind == "c":
        return [float_to_json(value.real), float_to_json(value.imag)]
    return float_to_json(value) if kind.kind == "f" else value.item()


def float_to_json(value: Any) -> JSON:
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


RECORD = np.dtype([("x", "i2"), ("y", "f4"), ("z", "u1")])

NUMBERS = (
    Type("bool", np.random.default_rng(0).random(SHAPE) < 0.5, True),
    *map(integers, ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")),
    *map(floats, ("float16", "float32", "float64", "complex64", "complex128")),
)
TEXT = from_items("string", ["", "a", "naïve ☃", "x" * 40], np.dtypes.StringDType(), "?", str)
BYTES = from_items(
    "variable_length_bytes", [b"", b"a\0b\xff", b"long" * 9], object, b"?", "variable_length_bytes"
)
FIXED = (
    from_items("U3", ["", "ab", "ñ☃x"], "U3", "zz"),
    from_items("S3", [b"", b"ab", b"xyz"], "S3", b"q"),
    from_items("V3", [b"\0\0\0", b"a\0b", b"\xff\1\2"], "V3", np.void(b"\1\2\3")),
    from_items("datetime64[ns]", [0, 10**18, "NaT"], "M8[ns]", np.datetime64("NaT", "ns")),
    from_items("timedelta64[10us]", [0, -7, "NaT"], "m8[10us]", np.timedelta64(5, "10us")),
    from_items("struct", [(1, 2.5, 3), (-1, np.nan, 0)], RECORD, np.array((9, 0.5, 1), RECORD)[()]),
)


@dataclass(frozen=True)
class Chain:
    """Codecs of format 3, as they stand in documents."""

    name: str
    filters: tuple[JSON, ...] = ()
    serializer: JSON = None
    compressors: tuple[JSON, ...] = ()
    chunks: tuple[int, ...] = CHUNKS  # of the grid
    lossy: bool = False
    driver = "zarr3"  # of tensorstore

    def __str__(self) -> str:
        return self.name

    def options(self, kind: Type) -> dict[str, Any]:
        """Return arguments of `create_array`, which zarr-python and zarr_core share."""
        options = {
            "shape": SHAPE,
            "chunks": self.chunks,
            "dtype": kind.argument,
            "fill_value": kind.fill,
            "filters": list(self.filters) or None,
            "compressors": list(self.compressors) or None,
            "attributes": ATTRIBUTES,
            "dimension_names": ["y", None],
        }
        return options if self.serializer is None else {**options, "serializer": self.serializer}

    def metadata(self, kind: Type) -> JSON:
        """Return the document, written independently of zarr_core."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(SHAPE),
            "data_type": kind.name,
            "chunk_grid": named("regular", chunk_shape=list(self.chunks)),
            "chunk_key_encoding": named("default", separator="/"),
            "fill_value": fill_to_json(kind),
            "codecs": [*self.filters, self.serializer, *self.compressors],
            "attributes": ATTRIBUTES,
            "dimension_names": ["y", None],
        }


def named(name: str, **configuration: JSON) -> dict[str, JSON]:
    # zarr-python wants the configuration of its own codecs even when it is empty.
    if configuration or name.startswith("numcodecs."):
        return {"name": name, "configuration": configuration}
    return {"name": name}


LITTLE, BIG = named("bytes", endian="little"), named("bytes", endian="big")
CRC, TRANSPOSE = named("crc32c"), named("transpose", order=[1, 0])
ZSTD, GZIP = named("zstd", level=3, checksum=False), named("gzip", level=1)


def blosc(cname: str, shuffle: str, typesize: int = 4) -> dict[str, JSON]:
    return named("blosc", cname=cname, clevel=5, shuffle=shuffle, typesize=typesize, blocksize=0)


def shard(
    *codecs: JSON,
    chunk: tuple[int, ...] = CHUNKS,
    index: tuple[JSON, ...] = (LITTLE, CRC),
    location: str = "end",
) -> dict[str, JSON]:
    return named(
        "sharding_indexed",
        chunk_shape=list(chunk),
        codecs=list(codecs),
        index_codecs=list(index),
        index_location=location,
    )


PLAIN_CHAINS = (
    Chain("little", (), LITTLE),
    Chain("big", (), BIG),
    Chain("transpose", (TRANSPOSE,), LITTLE),
    Chain("gzip", (), LITTLE, (GZIP,)),
    Chain("zstd", (), LITTLE, (ZSTD,)),
    Chain("zstd-checksum", (), LITTLE, (named("zstd", level=-3, checksum=True),)),
    Chain("blosc-lz4", (), LITTLE, (blosc("lz4", "shuffle"),)),
    Chain("blosc-zstd-bits", (), BIG, (blosc("zstd", "bitshuffle", 2),)),
    Chain("blosc-zlib-none", (), LITTLE, (blosc("zlib", "noshuffle", 1),)),
    Chain("blosc-lz4hc", (), LITTLE, (blosc("lz4hc", "shuffle", 8),)),
    Chain("blosc-blosclz", (), LITTLE, (blosc("blosclz", "shuffle"),)),
    Chain("crc32c", (), LITTLE, (CRC,)),
    Chain("all", (TRANSPOSE,), BIG, (ZSTD, GZIP, CRC)),
)
SHARD_CHAINS = (
    Chain("shard", (), shard(LITTLE), chunks=SHARDS),
    Chain("shard-zstd", (), shard(BIG, ZSTD, CRC), chunks=SHARDS),
    Chain("shard-start", (), shard(LITTLE, GZIP, location="start"), chunks=SHARDS),
    Chain("shard-index-plain", (), shard(LITTLE, ZSTD, index=(LITTLE,)), chunks=SHARDS),
    Chain("shard-index-big", (), shard(LITTLE, index=(BIG, CRC)), chunks=SHARDS),
    Chain("shard-transposed-inside", (), shard(TRANSPOSE, LITTLE, ZSTD), chunks=SHARDS),
    Chain("shard-transposed-outside", (TRANSPOSE,), shard(LITTLE, chunk=(4, 2)), chunks=SHARDS),
    Chain("shard-nested", (), shard(shard(LITTLE, ZSTD, chunk=(1, 2))), chunks=SHARDS),
)
# tensorstore has no outer codecs behind a shard.
OUTER_CHAINS = (Chain("shard-gzip", (), shard(LITTLE), (GZIP,), chunks=SHARDS),)

NUMCODECS_CHAINS = (
    *(
        Chain(f"numcodecs.{name}", (), LITTLE, (named(f"numcodecs.{name}", **options),))
        for name, options in {
            "adler32": {},
            "blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
            "bz2": {"level": 1},
            "crc32": {},
            "crc32c": {},
            "fletcher32": {},
            "gzip": {"level": 1},
            "jenkins_lookup3": {"initval": 0, "prefix": None},
            "lz4": {"acceleration": 1},
            "lzma": {"format": 1, "check": -1, "preset": None, "filters": None},
            "shuffle": {"elementsize": 4},
            "zlib": {"level": 1},
            "zstd": {"level": 1},
        }.items()
    ),
    Chain("numcodecs.delta", (named("numcodecs.delta", dtype="<i4"),), LITTLE),
    Chain(
        "numcodecs.astype",
        (named("numcodecs.astype", encode_dtype="<i8", decode_dtype="<i4"),),
        LITTLE,
    ),
)
LOSSY_CHAINS = tuple(
    Chain(name, (named(name, **options),), LITTLE, lossy=True)
    for name, options in {
        "numcodecs.bitround": {"keepbits": 10},
        "numcodecs.fixedscaleoffset": {"offset": 0, "scale": 10, "dtype": "<f4", "astype": "<i2"},
        "numcodecs.quantize": {"digits": 2, "dtype": "<f4"},
        "scale_offset": {"offset": 1.0, "scale": 2.0},
    }.items()
)
TEXT_CHAINS = tuple(
    Chain(f"vlen-{name}", (), None, compressors)
    for name, compressors in {"none": (), "zstd": (ZSTD,), "gzip-crc": (GZIP, CRC)}.items()
)
FINITE = Type("float32", (np.arange(35).reshape(SHAPE) / 7).astype("f4"), 0.0)
INT32 = integers("int32")


def cases_v3(types: Iterable[Type], chains: Iterable[Chain]) -> list[Any]:
    chains = list(chains)
    return [pytest.param(t, c, id=f"{t}-{c}") for t in types for c in chains]


CASES_V3 = (
    cases_v3([*NUMBERS, *FIXED], [*PLAIN_CHAINS, *SHARD_CHAINS, *OUTER_CHAINS])
    + cases_v3([INT32], NUMCODECS_CHAINS)
    + cases_v3([FINITE], LOSSY_CHAINS)
    + cases_v3([TEXT, BYTES], TEXT_CHAINS)
)


# --- what must be equal --------------------------------------------------------------------------


def assert_same(found: Any, expected: Any) -> None:
    """Compare values and data types, bit by bit, whatever the byte order in memory."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if expected.dtype.kind in "OT":
        assert found.tolist() == expected.tolist()
        return
    native = expected.dtype.newbyteorder("=")
    assert found.dtype.newbyteorder("=") == native
    assert found.astype(native).tobytes() == expected.astype(native).tobytes()


def expected_values(kind: Type) -> Any:
    """Return what an array holds of which only the first rows were written."""
    values = kind.values.copy()
    values[ROWS:] = kind.fill
    return values


def assert_same_array(found: Any, expected: Any) -> None:
    """Compare two open arrays of zarr_core and zarr-python."""
    assert found.shape == expected.shape
    assert found.chunks == expected.chunks
    assert found.shards == expected.shards
    assert found.dtype == expected.dtype
    assert found.metadata.zarr_format == expected.metadata.zarr_format
    assert dict(found.attrs) == dict(expected.attrs)
    if found.fill_value is None or expected.fill_value is None:
        assert found.fill_value is expected.fill_value
    else:
        fills = [np.asarray(array.fill_value, dtype=array.dtype) for array in (found, expected)]
        assert_same(*fills)
    if found.metadata.zarr_format == 3:
        assert found.metadata.dimension_names == expected.metadata.dimension_names
    assert_same(found[...], expected[...])


# --- zarr-python 3 -------------------------------------------------------------------------------


@pytest.fixture
def zarr3() -> Any:
    return pytest.importorskip("zarr", minversion="3.4", reason="needs zarr-python 3.4 or later")


@pytest.fixture(params=["from", "to"])
def pair(zarr3: Any, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Who writes and who reads."""
    return (zarr3, zarr_core) if request.param == "from" else (zarr_core, zarr3)


LAYOUTS: dict[str, dict[str, Any]] = {
    "defaults": {"shape": (300, 200)},
    "sharded": {"shape": (12, 8), "chunks": (2, 4), "shards": (6, 8)},
    "no dimensions": {"shape": (), "chunks": ()},
    "empty": {"shape": (0, 3), "chunks": (1, 3)},
    "keys with dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "keys of format 2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "keys of format 2 with slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "format 2": {"zarr_format": 2, "shape": (300, 200)},
    "format 2, no dimensions": {"zarr_format": 2, "shape": (), "chunks": ()},
    "format 2, slashes, Fortran": {
        "zarr_format": 2,
        "order": "F",
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "format 2, no fill": {"zarr_format": 2, "fill_value": None},
    "default fill of datetimes": {"dtype": "M8[ns]"},
    "default fill of text": {"dtype": str},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_zarr_python(pair: Any, tmp_path: Path, layout: str) -> None:
    writer, reader = pair
    options = {"shape": (5, 7), "dtype": "int32"} | LAYOUTS[layout]
    if options["shape"] == (5, 7):
        options.setdefault("chunks", (2, 4))
    written = writer.create_array(str(tmp_path), **options)
    if options["dtype"] == "int32":
        part = written.shape[:1] and (slice(0, 2),)
        count = int(np.prod(np.empty(written.shape)[part].shape))
        written[part or ...] = np.arange(count).reshape(np.empty(written.shape)[part].shape)
    assert_same_array(reader.open_array(str(tmp_path), mode="r"), written)


def test_rectilinear_grid_and_zarr_python(zarr3: Any, pair: Any, tmp_path: Path) -> None:
    writer, reader = pair
    with zarr3.config.set({"array.rectilinear_chunks": True}):
        written = writer.create_array(
            str(tmp_path), shape=(5, 7), dtype="int32", chunks=[[1, 4], [3, 3, 1]]
        )
        written[:, 2:] = np.arange(35).reshape(5, 7)[:, 2:]
        read = reader.open_array(str(tmp_path), mode="r")
        assert read.read_chunk_sizes == written.read_chunk_sizes
        assert_same(read[...], written[...])


# --- format 2 ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout2:
    """Codecs and layout of format 2; codecs as numcodecs configurations."""

    name: str
    compressor: JSON = None
    filters: tuple[JSON, ...] = ()
    order: str = "C"
    separator: str = "."
    lossy: bool = False
    driver = "zarr"

    def __str__(self) -> str:
        return self.name

    def options(self, kind: Type) -> dict[str, Any]:
        import numcodecs

        vlen_bytes = {"name": "|O", "object_codec_id": "vlen-bytes"}
        filters = [numcodecs.get_codec(config) for config in self.filters]
        options = {
            "zarr_format": 2,
            "shape": SHAPE,
            "chunks": CHUNKS,
            "dtype": vlen_bytes if kind.kind == "O" else kind.argument,
            "fill_value": kind.fill,
            "compressors": self.compressor and numcodecs.get_codec(self.compressor),
            "order": self.order,
            "chunk_key_encoding": {"name": "v2", "separator": self.separator},
            "attributes": ATTRIBUTES,
        }
        # The codec that makes text into bytes follows from the data type.
        return options if kind.is_variable else {**options, "filters": filters or None}

    def metadata(self, kind: Type) -> JSON:
        return {
            "zarr_format": 2,
            "shape": list(SHAPE),
            "chunks": list(CHUNKS),
            "dtype": kind.values.dtype.str,
            "compressor": self.compressor,
            "filters": None,
            "fill_value": fill_to_json(kind),
            "order": self.order,
            "dimension_separator": self.separator,
        }


def blosc2(shuffle: int, cname: str = "lz4") -> dict[str, JSON]:
    return {"id": "blosc", "cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0}


LZMA = {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None}
LAYOUTS_V2 = (
    Layout2("plain"),
    Layout2("fortran", order="F"),
    Layout2("slashes", {"id": "zlib", "level": 1}, separator="/"),
    Layout2("zstd-fortran", {"id": "zstd", "level": 3}, order="F"),
    Layout2("gzip", {"id": "gzip", "level": 1}),
    Layout2("blosc-auto", blosc2(-1)),
    Layout2("blosc-bits", blosc2(2, "zstd")),
)
COMPRESSORS_V2 = (
    Layout2("bz2", {"id": "bz2", "level": 1}),
    Layout2("lz4", {"id": "lz4", "acceleration": 1}),
    Layout2("lzma", LZMA),
    Layout2("blosc-none", blosc2(0, "zlib")),
    Layout2("blosc-bytes", blosc2(1, "lz4hc")),
)


def filter2(name: str, lossy: bool = False, order: str = "C", **options: JSON) -> Layout2:
    return Layout2(name, {"id": "zlib", "level": 1}, ({"id": name, **options},), order, lossy=lossy)


FILTERS_INT = (
    filter2("delta", dtype="<i4"),
    filter2("delta", dtype="<i4", astype="<i4", order="F"),
    filter2("astype", encode_dtype="<i8", decode_dtype="<i4"),
    filter2("shuffle", elementsize=4),
    filter2("fletcher32"),
    filter2("crc32"),
    filter2("adler32"),
    filter2("base64"),
)
FILTERS_FLOAT = (
    filter2("fixedscaleoffset", True, offset=0, scale=10, dtype="<f4", astype="<i2"),
    filter2("quantize", True, digits=2, dtype="<f4"),
    filter2("bitround", True, keepbits=10),
)


def swapped(kind: Type) -> Type:
    dtype = kind.values.dtype.newbyteorder(">")
    return Type(f"big-{kind}", kind.values.astype(dtype), kind.fill)


def cases_v2(types: Iterable[Type], layouts: Iterable[Layout2]) -> list[Any]:
    layouts = list(layouts)
    return [
        pytest.param(t, layout, id=f"{t}-{layout}-{layout.order}")
        for t in types
        for layout in layouts
    ]


NUMBERS_V2 = [*NUMBERS, *(swapped(t) for t in NUMBERS if t.values.dtype.itemsize > 1)]
FIXED_V2 = [*FIXED, *(swapped(t) for t in FIXED if t.kind in "UMm"), swapped(FIXED[-1])]
UTF8, VLEN_BYTES = {"id": "vlen-utf8"}, {"id": "vlen-bytes"}
TEXT_V2 = (
    Layout2("vlen", None, (UTF8,)),
    Layout2("vlen-zlib", {"id": "zlib", "level": 1}, (UTF8,), order="F"),
)
BYTES_V2 = tuple(replace(layout, filters=(VLEN_BYTES,)) for layout in TEXT_V2)
CASES_V2 = (
    cases_v2([*NUMBERS_V2, *FIXED_V2], LAYOUTS_V2)
    + cases_v2([INT32], [*COMPRESSORS_V2, *FILTERS_INT])
    + cases_v2([FINITE], FILTERS_FLOAT)
    + cases_v2([NUMBERS[0]], [filter2("packbits")])
    + cases_v2([TEXT], TEXT_V2)
    + cases_v2([BYTES], BYTES_V2)
)


@pytest.mark.parametrize(("kind", "codecs"), [*CASES_V3, *CASES_V2])
def test_arrays_and_zarr_python(
    pair: Any, tmp_path: Path, kind: Type, codecs: Chain | Layout2
) -> None:
    writer, reader = pair
    written = writer.create_array(str(tmp_path), **codecs.options(kind))
    written[:ROWS] = kind.values[:ROWS]
    read = reader.open_array(str(tmp_path), mode="r")
    assert_same_array(read, written)
    if not codecs.lossy:
        ours = read if reader is zarr_core else written
        assert_same(ours[...], expected_values(kind))


# --- zarr 2.18.7 ---------------------------------------------------------------------------------

WORKER = Path(__file__).with_name("zarr2_worker.py")
# It knows no fill value for byte strings: it writes 0, and fills with the text that it finds.
UNFILLED_BYTES = replace(BYTES, fill=b"")


def for_zarr2(kind: Type) -> Type:
    if kind is BYTES:
        return UNFILLED_BYTES
    # It reads an infinite imaginary part as NaN in the real part.
    return replace(kind, fill=complex(1.5, -2.5)) if kind.kind == "c" else kind


# By directory: ids of cases may hold characters that paths may not.
V2_PARAMS = {
    f"case-{number}": (for_zarr2(param.values[0]), param.values[1])
    for number, param in enumerate(CASES_V2)
}
every_zarr2_case = pytest.mark.parametrize("case", V2_PARAMS, ids=[str(p.id) for p in CASES_V2])


@pytest.fixture(scope="module")
def zarr2() -> Callable[[str, list[dict[str, JSON]], Path], None]:
    python = os.environ.get("ZARR2_PYTHON")
    if not python:
        pytest.skip("the environment variable ZARR2_PYTHON names no interpreter with zarr 2.18.7")

    def run(action: str, cases: list[dict[str, JSON]], place: Path) -> None:
        listing = place / f"{action}.json"
        listing.write_text(json.dumps(cases), "utf-8")
        command = [python, str(WORKER), action, str(listing)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        assert report == {"version": "2.18.7", "failed": []}

    return run


def zarr2_case(place: Path, kind: Type, layout: Layout2) -> dict[str, JSON]:
    """Describe a case to the worker and save its values where it finds them."""
    values = kind.values.astype(object) if kind.is_variable else kind.values
    fill = 0 if kind is UNFILLED_BYTES else kind.fill
    source = place.with_suffix(".npz")
    np.savez(source, values=values, fill=np.asarray(fill, dtype=values.dtype))
    return {
        "path": str(place),
        "source": str(source),
        "chunks": CHUNKS,
        "compressor": layout.compressor,
        "filters": layout.filters,
        "order": layout.order,
        "separator": layout.separator,
        "attributes": ATTRIBUTES,
        "rows": ROWS,
    }


@pytest.fixture(scope="module")
def from_zarr2(zarr2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("from-zarr2")
    zarr2(
        "write",
        [zarr2_case(place / case, *values) for case, values in V2_PARAMS.items()],
        place,
    )
    return place


@every_zarr2_case
def test_v2_from_zarr2(from_zarr2: Path, case: str) -> None:
    kind, layout = V2_PARAMS[case]
    array = zarr_core.open_array(str(from_zarr2 / case), mode="r")
    assert array.metadata.zarr_format == 2
    assert array.dtype == kind.values.dtype or kind.is_variable
    assert dict(array.attrs) == ATTRIBUTES
    fill = np.asarray(array.fill_value, dtype=array.dtype)
    assert_same(fill, np.asarray(kind.fill, dtype=kind.values.dtype))
    if layout.lossy:
        np.testing.assert_allclose(array[:ROWS], kind.values[:ROWS], atol=0.06)
    else:
        assert_same(array[...], expected_values(kind))


@pytest.fixture(scope="module")
def to_zarr2(zarr2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("to-zarr2")
    cases = []
    for case, (kind, layout) in V2_PARAMS.items():
        cases.append(zarr2_case(place / case, kind, layout))
        array = zarr_core.create_array(str(place / case), **layout.options(kind))
        array[:ROWS] = kind.values[:ROWS]
    zarr2("read", cases, place)
    return place


@every_zarr2_case
def test_v2_to_zarr2(to_zarr2: Path, case: str) -> None:
    kind, layout = V2_PARAMS[case]
    with np.load(to_zarr2 / case / "found.npz", allow_pickle=True) as found:
        if kind is UNFILLED_BYTES:
            assert_same(found["values"][:ROWS], kind.values[:ROWS])
            return
        assert_same(found["fill"], np.asarray(kind.fill, dtype=kind.values.dtype))
        if layout.lossy:
            np.testing.assert_allclose(found["values"][:ROWS], kind.values[:ROWS], atol=0.06)
        else:
            assert_same(found["values"], expected_values(kind))


# --- tensorstore ---------------------------------------------------------------------------------


@pytest.fixture
def tensorstore() -> Any:
    return pytest.importorskip("tensorstore", reason="needs tensorstore")


CASES_TENSORSTORE = [
    *cases_v3(NUMBERS, [*PLAIN_CHAINS, *SHARD_CHAINS]),
    *cases_v2(NUMBERS_V2, LAYOUTS_V2),
]


@pytest.mark.parametrize("direction", ["from", "to"])
@pytest.mark.parametrize(("kind", "codecs"), CASES_TENSORSTORE)
def test_arrays_and_tensorstore(
    tensorstore: Any, tmp_path: Path, kind: Type, codecs: Chain | Layout2, direction: str
) -> None:
    spec = {
        "driver": codecs.driver,
        "kvstore": {"driver": "file", "path": f"{tmp_path}/", "file_io_sync": False},
        "metadata": codecs.metadata(kind),
    }
    if direction == "from":
        peer = tensorstore.open(spec, create=True).result()
        peer[:ROWS].write(kind.values[:ROWS]).result()
        array = zarr_core.open_array(str(tmp_path), mode="r")
    else:
        array = zarr_core.create_array(str(tmp_path), **codecs.options(kind))
        array[:ROWS] = kind.values[:ROWS]
        # Opening with the whole document makes tensorstore compare it with ours.
        peer = tensorstore.open(spec, open=True).result()
    for found in (array[...], peer.read().result()):
        assert_same(found, expected_values(kind))
    for found in (array.fill_value, peer.fill_value):
        assert_same(found, np.asarray(kind.fill, dtype=kind.values.dtype))
    assert array.dtype == kind.values.dtype
    if codecs.driver == "zarr3":
        assert dict(array.attrs) == ATTRIBUTES
        assert array.metadata.dimension_names == ("y", None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="zarr-python 3.4 needs Python 3.12")
def test_the_peers_are_those_meant() -> None:
    zarr = pytest.importorskip("zarr")
    assert zarr.__version__.startswith("3.4.")
