"""Types of ml_dtypes, bit for bit, as tensorstore and zarrista read and write them.

Both keep what is above the bits in use, or the sign, in memory; only the bits in use are compared.
A peer that is missing is skipped, as is zarrista in format 2, where it knows none of these types.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core.metadata.small_types import DTYPE_NAMES, SMALL_TYPES, small_dtype

if not (find_spec("tensorstore") or find_spec("zarrista")):
    pytest.skip("none of the other implementations is installed", allow_module_level=True)

NAMES = list(DTYPE_NAMES)
NOT_IN_TENSORSTORE = {
    *("float8_e4m3", "float6_e2m3fn", "float6_e3m2fn", "uint2", "uint4"),
    *("complex_float16", "complex_bfloat16"),
}
NOT_IN_ZARRISTA = {"float8_e4m3fn"}


def dtype_of(name: str) -> np.dtype[Any]:
    return small_dtype(DTYPE_NAMES[name])


def bits_in_use(data: Any, name: str) -> np.ndarray[Any, Any]:
    """Return the bits of elements, which are an array or bytes."""
    raw = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
    small = SMALL_TYPES[DTYPE_NAMES[name]]
    return np.frombuffer(raw, f"u{dtype_of(name).itemsize}") & ((1 << small.bits) - 1)


def patterns(name: str) -> np.ndarray[Any, Any]:
    """All patterns that are in use; of complex numbers, all of each part."""
    if name.startswith("complex"):
        part = np.arange(1 << 16, dtype="u4")
        return np.concatenate([part, part << 16, part << 16 | part[::-1]])
    small = SMALL_TYPES[DTYPE_NAMES[name]]
    return np.arange(1 << small.bits, dtype=f"u{dtype_of(name).itemsize}")


class TensorStore:
    """Arrays below a directory, through tensorstore."""

    name = "tensorstore"

    def open(self, place: Path, zarr_format: int, **options: Any) -> Any:
        import tensorstore

        driver = "zarr3" if zarr_format == 3 else "zarr"
        spec: dict[str, Any] = {
            "driver": driver,
            "kvstore": {"driver": "file", "path": f"{place}/"},
        }
        if "create" in options and zarr_format == 2:
            spec["metadata"] = {"compressor": None}
        return tensorstore.open(spec, **options).result()

    def knows(self, name: str, zarr_format: int) -> bool:
        return name not in NOT_IN_TENSORSTORE

    def read(self, place: Path, zarr_format: int) -> Any:
        return self.open(place, zarr_format).read().result()

    def write(self, place: Path, zarr_format: int, name: str, values: Any) -> None:
        import tensorstore

        made = self.open(
            place,
            zarr_format,
            create=True,
            dtype=dtype_of(name),
            shape=values.shape,
            chunk_layout=tensorstore.ChunkLayout(chunk_shape=(100,)),
            fill_value=np.array(1).astype(dtype_of(name)),
        )
        made.write(values).result()


class Zarrista:
    """Arrays below a directory, through zarrs."""

    name = "zarrista"

    def knows(self, name: str, zarr_format: int) -> bool:
        return zarr_format == 3 and name not in NOT_IN_ZARRISTA

    def open(self, place: Path) -> Any:
        from zarrista import Array
        from zarrista.store import FilesystemStore

        return Array.open(FilesystemStore(str(place)))

    def read(self, place: Path, zarr_format: int) -> Any:
        return self.open(place)[:].buffer()

    def write(self, place: Path, zarr_format: int, name: str, values: Any) -> None:
        from zarrista import Array, ArrayBytes
        from zarrista.store import FilesystemStore

        template = zarr_core.create_array({}, shape=values.shape, chunks=100, dtype=name)
        document = {**template.metadata.to_dict(), "fill_value": 1.0}
        if "int" in name or name.startswith("complex"):
            document["fill_value"] = 1 if "int" in name else [1.0, 0.0]
        place.mkdir()
        array = Array.from_metadata(document, FilesystemStore(str(place)))
        array.store_metadata()
        for start in range(0, len(values), 100):
            part = values[start : start + 100]
            array.store_array_subset(slice(start, start + len(part)), ArrayBytes(part.tobytes()))


PEERS: list[Any] = [TensorStore(), Zarrista()]
CASES = [
    pytest.param(
        peer,
        name,
        zarr_format,
        id=f"{peer.name}-{name}-{zarr_format}",
        marks=[
            pytest.mark.skipif(not find_spec(peer.name), reason=f"{peer.name} is not installed")
        ],
    )
    for peer in PEERS
    for name in NAMES
    for zarr_format in (2, 3)
    if peer.knows(name, zarr_format)
]


@pytest.mark.parametrize(("peer", "name", "zarr_format"), CASES)
def test_they_read_what_is_written(peer: Any, name: str, zarr_format: int, tmp_path: Path) -> None:
    values = patterns(name)
    array = zarr_core.create_array(
        tmp_path / "a", shape=len(values) + 9, chunks=100, dtype=name, zarr_format=zarr_format
    )
    array[: len(values)] = values.view(dtype_of(name))
    found = bits_in_use(peer.read(tmp_path / "a", zarr_format), name)
    np.testing.assert_array_equal(found[: len(values)], values)
    np.testing.assert_array_equal(found[len(values) :], [0] * 9)


@pytest.mark.parametrize(("peer", "name", "zarr_format"), CASES)
def test_what_they_write_is_read(peer: Any, name: str, zarr_format: int, tmp_path: Path) -> None:
    values = patterns(name)
    peer.write(tmp_path / "a", zarr_format, name, values.view(dtype_of(name)))
    array = zarr_core.open_array(tmp_path / "a")
    assert array.dtype == dtype_of(name)
    found = np.asarray(array[:])
    np.testing.assert_array_equal(bits_in_use(found, name), values)
    assert found.tobytes() == values.tobytes()  # nothing is left of other bits
    if not (peer.name == "tensorstore" and name == "float8_e8m0fnu"):  # which writes 2.0**64
        assert complex(array.fill_value) == 1


@pytest.mark.parametrize(
    ("peer", "name", "zarr_format"), [case for case in CASES if case.values[2] == 3]
)
def test_they_read_sharded_and_big_endian_arrays(
    peer: Any, name: str, zarr_format: int, tmp_path: Path
) -> None:
    values = patterns(name)[:3000]
    array = zarr_core.create_array(
        tmp_path / "a",
        shape=len(values),
        chunks=100,
        shards=1000,
        dtype=name,
        serializer=zarr_core.codecs.BytesCodec(endian="big"),
    )
    array[:] = values.view(dtype_of(name))
    np.testing.assert_array_equal(bits_in_use(peer.read(tmp_path / "a", zarr_format), name), values)


def stored_fill(place: Path, zarr_format: int) -> Any:
    path = place / ("zarr.json" if zarr_format == 3 else ".zarray")
    return json.loads(path.read_text("utf-8"))["fill_value"]


@pytest.mark.parametrize(("peer", "name", "zarr_format"), CASES)
def test_they_read_fill_values_of_every_pattern(
    peer: Any, name: str, zarr_format: int, tmp_path: Path
) -> None:
    values = patterns(name)
    values = values if len(values) <= 256 else np.r_[values[::1777], values[-3:]]
    place = tmp_path / "a"
    for value in values:
        fill = np.array([value]).view(dtype_of(name))[0]
        zarr_core.create_array(
            place,
            shape=1,
            dtype=name,
            fill_value=fill,
            zarr_format=zarr_format,
            overwrite=True,
        )
        document = stored_fill(place, zarr_format)
        if zarr_format == 2 and document == "NaN":
            continue  # without sign and payload
        if zarr_format == 2 and name == "float8_e8m0fnu":
            continue  # tensorstore reads 1.0 as 2.0**-64, and has no other way to say it
        found = bits_in_use(peer.read(place, zarr_format), name)
        assert found[0] == value, (value, document)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NOT_IN_TENSORSTORE])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_documents_and_chunks_are_those_of_tensorstore(
    name: str, zarr_format: int, tmp_path: Path
) -> None:
    pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    values = patterns(name).view(dtype_of(name))
    TensorStore().write(tmp_path / "a", zarr_format, name, values)
    array = zarr_core.open_array(tmp_path / "a")
    ours = zarr_core.create_array(
        tmp_path / "b",
        shape=values.shape,
        chunks=100,
        dtype=name,
        fill_value=array.fill_value,
        zarr_format=zarr_format,
        compressors=None,
    )
    ours[:] = values
    for index in range(array.nchunks):
        key = array.metadata.encode_chunk_key((index,))
        ours_stored, stored = ((tmp_path / n / key).read_bytes() for n in ("b", "a"))
        inside = min(len(stored), values[100 * index :].nbytes)  # what is beyond is anybody's
        assert ours_stored[:inside] == stored[:inside]
    field = "data_type" if zarr_format == 3 else "dtype"
    assert ours.metadata.to_dict()[field] == array.metadata.to_dict()[field]
    if name != "float8_e8m0fnu":
        assert stored_fill(tmp_path / "b", zarr_format) == stored_fill(tmp_path / "a", zarr_format)
