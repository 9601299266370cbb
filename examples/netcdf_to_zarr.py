"""Convert a NetCDF file to Zarr, formats 3 and 2, with three codec chains, and verify each.

    python examples/netcdf_to_zarr.py FILE OUT

Values are kept as they are stored: packed integers stay packed, `scale_factor` and `add_offset`
stay attributes. What is missing stays missing: for readers that follow xarray, the fill value of an
array of format 2 and the attribute `_FillValue` of one of format 3 say which elements are. OUT gets
one group per format and codec chain. Needs the netCDF4 package.
"""

import base64
import struct
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
from numcodecs import Blosc, GZip, Zstd

import zarr_core as zarr
from zarr_core.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

Options = dict[str, Any]


@dataclass(frozen=True)
class Variable:
    """What a NetCDF variable becomes."""

    path: str
    values: npt.NDArray[Any]
    dimensions: tuple[str, ...]
    fill_value: Any
    missing: npt.NDArray[np.bool_]
    attributes: dict[str, Any]


def as_json(value: Any) -> Any:
    """Return a NetCDF attribute as JSON."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` can hold a fill value; some files give packed integers NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN becomes some integer
        kept = np.asarray(value).astype(dtype)
    return bool(np.array_equal(kept, value, equal_nan=dtype.kind in "fc"))


def is_missing(values: npt.NDArray[Any], *markers: Any) -> npt.NDArray[np.bool_]:
    """Return which elements equal a marker; a marker may be a list, None is none."""
    found = np.zeros(values.shape, np.bool_)
    for marker in markers:
        for value in [] if marker is None else np.atleast_1d(marker):
            found |= (values != values) if value != value else values == value  # noqa: PLR0124
    return found


def fill_attribute(value: Any) -> Any:
    """Return `_FillValue` as xarray writes it to format 3: floats and bytes in base 64."""
    value = np.asarray(value).item()
    if isinstance(value, float):
        value = struct.pack("<d", value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def fill_from_attribute(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fS" and value is not None:
        value = base64.b64decode(value)
        return struct.unpack("<d", value)[0] if dtype.kind == "f" else value
    return value


def read_variables(group: netCDF4.Dataset, path: str = "") -> list[Variable]:
    """Return the variables of a NetCDF group and of the groups below it."""
    found = []
    for name, variable in group.variables.items():
        variable.set_auto_scale(False)  # packed integers as they are stored
        missing = np.ma.getmaskarray(np.ma.asarray(variable[...]))
        variable.set_auto_maskandscale(False)
        attributes = {key: as_json(variable.getncattr(key)) for key in variable.ncattrs()}
        values = np.asarray(variable[...])
        if values.dtype == object:  # text of variable length
            values = values.astype(np.dtypes.StringDType())
        fill = attributes.pop("_FillValue", None)
        if fill is not None and not fits(fill, values.dtype):
            print(f"{path}{name}: left out _FillValue {fill}, which {values.dtype} cannot hold")
            fill = None
        default = netCDF4.default_fillvals.get(values.dtype.str[1:])
        if fill is None and default is not None and bool((missing & (values == default)).any()):
            fill = values.dtype.type(default)  # elements that were never written
        told = is_missing(values, fill, attributes.get("missing_value"))
        if (missing & ~told).any():
            print(f"{path}{name}: {(missing & ~told).sum()} values outside of its valid range")
        found.append(Variable(f"{path}{name}", values, variable.dimensions, fill, told, attributes))
    for name, child in group.groups.items():
        found += read_variables(child, f"{path}{name}/")
    return found


def codec_chains(zarr_format: int, dtype: np.dtype[Any]) -> dict[str, Options]:
    """Return arguments of `create_array` by the name of the codec chain."""
    is_text = dtype.kind == "T"  # of variable length: has neither byte order nor element size
    if zarr_format == 2:  # the byte order is the data type's
        big = dtype if is_text else dtype.newbyteorder(">")
        return {
            "zstd": {"dtype": dtype, "compressors": Zstd(level=3)},
            "big-endian-gzip": {"dtype": big, "compressors": GZip(level=5)},
            "blosc-lz4": {"dtype": dtype, "compressors": Blosc("lz4", shuffle=Blosc.SHUFFLE)},
        }
    element = 1 if is_text else dtype.itemsize
    blosc = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=element)
    big_endian = {} if is_text else {"serializer": BytesCodec(endian="big")}
    return {
        "zstd": {"dtype": dtype, "compressors": ZstdCodec(level=3)},
        "big-endian-gzip": {"dtype": dtype, **big_endian, "compressors": GzipCodec(level=5)},
        "blosc-lz4": {"dtype": dtype, "compressors": blosc},
    }


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks of one horizontal plane: the last two dimensions whole, the others 1."""
    leading = max(0, len(shape) - 2)
    return (1,) * leading + tuple(max(1, length) for length in shape[leading:])


def write(root: zarr.Group, variable: Variable, options: Options) -> None:
    attributes = dict(variable.attributes)
    if root.metadata.zarr_format == 2:  # where xarray and others look for names in format 2
        attributes["_ARRAY_DIMENSIONS"] = list(variable.dimensions)
    else:
        options = {**options, "dimension_names": variable.dimensions}
        if variable.fill_value is not None:
            attributes["_FillValue"] = fill_attribute(variable.fill_value)
    # None, in format 2: nothing is missing. A default of 0 would make every 0 missing.
    if variable.fill_value is not None or root.metadata.zarr_format == 2:
        options = {**options, "fill_value": variable.fill_value}
    array = root.create_array(
        variable.path,
        shape=variable.values.shape,
        chunks=chunk_shape(variable.values.shape),
        attributes=attributes,
        **options,
    )
    array[...] = variable.values


def verify(root: zarr.Group, variable: Variable) -> None:
    """Raise unless the array holds what the variable held."""
    array = root[variable.path]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[...], variable.values)
    attributes = array.attrs.asdict()
    if root.metadata.zarr_format == 2:
        assert tuple(attributes.pop("_ARRAY_DIMENSIONS")) == variable.dimensions
        fill = array.fill_value
    else:
        fill = fill_from_attribute(attributes.pop("_FillValue", None), array.dtype)
        assert array.metadata.dimension_names == variable.dimensions
    assert attributes == variable.attributes, (attributes, variable.attributes)
    missing = is_missing(np.asarray(array[...]), fill, attributes.get("missing_value"))
    np.testing.assert_array_equal(missing, variable.missing)
    if variable.fill_value is not None:
        np.testing.assert_array_equal(array.fill_value, variable.fill_value)


def convert(file: Path, out: Path) -> None:
    with netCDF4.Dataset(file) as dataset:
        attributes = {key: as_json(dataset.getncattr(key)) for key in dataset.ncattrs()}
        variables = read_variables(dataset)
    for zarr_format in (3, 2):
        for chain in codec_chains(zarr_format, np.dtype("f4")):
            place = out / f"v{zarr_format}-{chain}.zarr"
            root = zarr.create_group(
                place, zarr_format=zarr_format, attributes=attributes, overwrite=True
            )
            for variable in variables:
                options = codec_chains(zarr_format, variable.values.dtype)[chain]
                write(root, variable, options)
            again = zarr.open_group(place, mode="r")
            assert again.attrs.asdict() == attributes
            for variable in variables:
                verify(again, variable)
            stored = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            print(f"{place.name:24} {len(variables)} arrays verified, {stored:11,} bytes")
    held = sum(variable.values.nbytes for variable in variables)
    print(f"{'in memory':24} {held:30,} bytes")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/netcdf_to_zarr.py FILE OUT")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
