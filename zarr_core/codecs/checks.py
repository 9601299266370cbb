"""What the codecs share: checks of configurations and of sizes, and the way to libraries."""

import importlib
import operator
import warnings
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import numpy as np

from zarr_core.config import config
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    UnknownCodecError,
    describe,
    unexpected,
)

# --- configuration -------------------------------------------------------------------------------


def check_fields(
    codec: str,
    configuration: Any,
    allowed: Collection[str] | None = None,
    required: Collection[str] = (),
) -> dict[str, Any]:
    """Return the configuration as a dictionary; refuse anything else and fields not `allowed`."""
    if not isinstance(configuration, Mapping):
        raise unexpected(f"codec {codec!r}", "an object as configuration", configuration)
    for field in configuration:
        if allowed is not None and field not in allowed:
            raise MetadataValidationError(
                f"codec {codec!r}: unknown field {describe(field)}; "
                f"allowed: {', '.join(map(repr, allowed)) or 'none'}"
            )
    for field in required:
        if field not in configuration:
            raise MetadataValidationError(f"codec {codec!r}: field {field!r} is missing")
    return {str(field): value for field, value in configuration.items()}


def check_int(codec: str, field: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` if it is an integer from `low` to `high`."""
    # Integers of NumPy are welcome, True and 1.0 are not.
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if low <= number and (high is None or number <= high):
        return number
    allowed = f"from {low} to {high}" if high is not None else f"of at least {low}"
    raise unexpected(f"codec {codec!r}: field {field!r}", f"an integer {allowed}", value)


def check_bool(codec: str, field: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if isinstance(value, bool):
        return value
    raise unexpected(f"codec {codec!r}: field {field!r}", "true or false", value)


def check_choice(codec: str, field: str, value: Any, choices: Collection[str]) -> Any:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return str(value)
    raise unexpected(
        f"codec {codec!r}: field {field!r}", f"one of {', '.join(map(repr, choices))}", value
    )


# --- data ------------------------------------------------------------------------------------------


def element_size(dtype: np.dtype[Any]) -> int:
    """Return the size that filters on bytes take for an element; 1 for variable-length types."""
    return 1 if dtype.kind in "OT" else max(dtype.itemsize, 1)


def flat_bytes(data: Any) -> bytes | bytearray | memoryview:
    """Return encoded data as an object whose length is its size in bytes; copy only if needed."""
    if isinstance(data, bytes | bytearray):
        return data
    if isinstance(data, np.ndarray):
        if data.dtype.hasobject:
            raise CodecError(f"expected bytes, found an array of {data.dtype}")
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    view = memoryview(data)
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")


def size_error(expected: int, found: int) -> CodecError:
    """Return the error for data of a wrong decoded size."""
    return CodecError(f"expected {expected} decoded bytes, found {found}")


def check_size(data: Any, nbytes: int | None, limit: int) -> bytes | bytearray | memoryview:
    """Return decoded data as flat bytes if their number is right."""
    flat = flat_bytes(data)
    size = len(flat)
    if nbytes is not None and size != nbytes:
        raise size_error(nbytes, size)
    if size > limit:
        raise limit_error(limit)
    return flat


VARIABLE_LIMIT = 1 << 32
"""Chunks of variable-length elements are refused from this size on: their numbers have 32 bits."""


def variable_limit() -> int:
    """Return how large a chunk of elements of variable length can be when it is decoded."""
    most: int = config.get("memory.max_variable_chunk_bytes")
    return min(VARIABLE_LIMIT, most)


def encoded_limit(limit: int) -> int:
    """Return how large `limit` bytes can become when they are encoded (base64 is the worst)."""
    return limit + limit // 2 + (1 << 16)


def limit_error(limit: int) -> CodecError:
    """Return the error for data that decodes to more bytes than it can."""
    return CodecError(f"expected at most {limit} decoded bytes, found more")


# --- libraries -------------------------------------------------------------------------------------


def load_library(module: str, package: str) -> Any:
    """Return a module of another package, imported at its first use.

    Raises `UnknownCodecError` if it is not installed, or cannot be imported for whatever reason.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise UnknownCodecError(
                f"the package {package} is needed and not installed: pip install {package}"
            ) from error
        raise UnknownCodecError(
            f"the package {package} cannot be imported: {type(error).__name__}: {error}; "
            f"installed: {_at_fault(error, package)}"
        ) from error


def _at_fault(error: BaseException, package: str) -> str:
    """Return the packages, with versions, that an import went through before it failed."""
    # Only when something is broken.
    from importlib.metadata import PackageNotFoundError, version
    from traceback import walk_tb

    # Part of a package is often named after what it wraps: numcodecs.zfpy.
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    names = dict.fromkeys([package, *(name for m in modules for name in m.split("."))])
    names.pop(__name__.partition(".")[0], None)  # this package
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except (PackageNotFoundError, ValueError):
            continue
    return ", ".join(found) or "nothing of that name"


def package_for(name: object, packages: Mapping[str, str]) -> str | None:
    """Return the package for a codec's name; keys that end in no letter are starts of names."""
    for known, package in packages.items():
        is_start = not known[-1].isalnum()
        if name == known or (is_start and isinstance(name, str) and name.startswith(known)):
            return package
    return None


@cache
def load_numcodecs(module: str = "numcodecs") -> Any:
    """Return a module of numcodecs, which is slow to import; see `load_library`."""
    # It warns that it would rather use another package for its CRC-32C, which is nobody's concern
    # here, and it sets a filter so that an ignored warning is shown: hence `record`.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # where warnings are errors, it could not be imported
        return load_library(module, "numcodecs")
