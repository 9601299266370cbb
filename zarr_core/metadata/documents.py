"""The JSON documents of nodes: their keys, their text, and how their fields are read.

Short forms are read, long forms are written. Refusals name the document, the field, what was found
and what is allowed.
"""

import gc
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar, final

import numpy as np

from zarr_core.config import config
from zarr_core.errors import (
    DataTypeValidationError,
    MetadataValidationError,
    NodeTypeValidationError,
    describe,
    unexpected,
    warn,
)
from zarr_core.metadata.chunk_grids import Shape
from zarr_core.metadata.data_types import DataType

ZarrFormat: TypeAlias = Literal[2, 3]
JSON: TypeAlias = Any
T = TypeVar("T")

V3_DOCUMENT = "zarr.json"
V2_ARRAY, V2_GROUP, V2_ATTRIBUTES = ".zarray", ".zgroup", ".zattrs"
V2_CONSOLIDATED = ".zmetadata"
DOCUMENTS = frozenset({V3_DOCUMENT, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES, V2_CONSOLIDATED})
"""Keys, relative to a node, that are metadata documents."""

MAX_DIMENSIONS = 64
"""NumPy's limit."""

MAX_CODEC_DEPTH = 64
"""Lists and objects in each other in the configuration of a codec; a nested shard takes three."""

MAX_DEPTH = 128
"""Lists and objects in each other in a document: so many can be copied, shown and written again."""

LARGE = 1 << 17
"""Documents of more bytes are parsed without the garbage collector."""


class DocumentAt(NamedTuple):
    """A document in a store, put into words only when an error needs them."""

    name: str
    place: object

    def __str__(self) -> str:
        return f"{self.name} at {self.place}"


class NamedConfig(NamedTuple):
    """An extension point in a document: a codec, a grid, a key encoding."""

    name: str
    configuration: Mapping[str, JSON] = {}
    must_understand: bool = True

    def to_json(self) -> dict[str, JSON]:
        """Return the long form."""
        data: dict[str, JSON] = {"name": self.name}
        # The other implementations write an empty configuration of these, and ask for it.
        if self.configuration or self.name.startswith(("vlen-", "numcodecs.")):
            data["configuration"] = dict(self.configuration)
        if not self.must_understand:
            data["must_understand"] = False
        return data


class Copied:
    """A field of a frozen dataclass, a JSON object, that others get a copy of.

    Whoever only looks at it, in this library, takes it from `__dict__`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return None if instance is None else deepcopy(instance.__dict__[self._name])

    def __set__(self, instance: object, value: Mapping[str, JSON] | None) -> None:
        instance.__dict__[self._name] = {} if value is None else value


# --- text ------------------------------------------------------------------------------------------


def load_json(data: bytes | memoryview, document: object) -> dict[str, JSON]:
    """Return the JSON object in a document; raise `MetadataValidationError` for anything else."""
    limit = config.get("metadata.max_bytes")
    if len(data) > limit:
        raise MetadataValidationError(
            f"{document}: {len(data)} bytes are more than the setting metadata.max_bytes ({limit})"
        )
    try:
        text = str(data, "utf-8")
        value = _decode(text) if len(data) < LARGE else _without_collector(text)
    except RecursionError:
        raise MetadataValidationError(f"{document}: nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise MetadataValidationError(f"{document}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise unexpected(document, "an object", value)
    return value


def check_depth(text: str, around: int = 0) -> None:
    """Raise `ValueError` if more than `MAX_DEPTH` lists and objects of a JSON text are in each other.

    The text itself is going to be in `around` others.
    """
    most = MAX_DEPTH - around
    if len(text) <= most:
        return
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    marks = text.encode().translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:  # brackets in strings
        marks = _STRING_OF_MARKS.sub(b"", marks)
    steps = (np.frombuffer(marks, np.int8) & 2) - 1  # opening brackets have this bit
    if np.cumsum(steps, dtype=np.intp).max(initial=0) > most:
        raise ValueError(f"nested too deeply, more than {most} lists and objects in each other")


_STRING_OF_MARKS = re.compile(b'"[^"]*"')
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))


def _without_collector(text: str) -> JSON:
    if not gc.isenabled():
        return _decode(text)
    # It makes many objects and no garbage: the collector would take half of the time.
    gc.disable()
    try:
        return _decode(text)
    finally:
        gc.enable()


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise ValueError(f"the name {describe(twice)} stands twice in an object")
    return value


_decode_pairs = json.JSONDecoder(object_pairs_hook=_object).decode


def _counting() -> tuple[Callable[[str], JSON], list[int]]:
    """Return a decoder, and the list to which it appends how many names each object has."""
    sizes: list[int] = []

    def count(value: dict[str, JSON]) -> dict[str, JSON]:
        sizes.append(len(value))
        return value

    return json.JSONDecoder(object_hook=count).decode, sizes


_spare: list[tuple[Callable[[str], JSON], list[int]]] = []
"""Decoders that nobody uses now; several threads, or a finalizer, may decode at the same time."""


def _decode(text: str) -> JSON:
    """Return what a JSON text means; raise for names that stand twice in an object, and for its depth.

    To look at the pairs of every object makes decoding take twice as long. But every pair has a
    colon, right after a quote unless there are blanks between. So if there are as many of them as
    names were kept, no name was lost. Strings can have colons, too; then there are more, and it is
    not known.
    """
    try:
        decode, sizes = _spare.pop()
    except IndexError:
        decode, sizes = _counting()
    value = decode(text)
    n_names = sum(sizes)
    sizes.clear()
    _spare.append((decode, sizes))
    # An object with something in it has names; to count brackets takes as long as to look at all.
    if n_names >= MAX_DEPTH or n_names + text.count("[") >= MAX_DEPTH:
        check_depth(text)
    if n_names == text.count(":") or (
        n_names == text.count('":') and not any(blank in text for blank in _BEFORE_COLON)
    ):
        return value
    return _decode_pairs(text)


_BEFORE_COLON = (" :", "\t:", "\n:", "\r:")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__} is not JSON serializable")


def dump_json(value: Mapping[str, JSON], document: object) -> bytes:
    """Return JSON text as the other implementations write it; NaN as `NaN`."""
    return _dump(value, document, config.get("json_indent")).encode()


def plain_json(value: Mapping[str, JSON], document: object) -> dict[str, JSON]:
    """Return a document as it comes back from a store: lists for tuples, numbers for NumPy's."""
    found: dict[str, JSON] = json.loads(_dump(value, document, None))
    return found


def dump_line(value: Mapping[str, JSON], document: object) -> str:
    """Return JSON text without a line break."""
    return _dump(value, document, None)


def _dump(value: Mapping[str, JSON], document: object, indent: int | None) -> str:
    try:
        return json.dumps(value, indent=indent, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise MetadataValidationError(f"{document}: {error}") from None


def check_attributes(attributes: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return attributes as they will be stored; raise `MetadataValidationError` (a `TypeError`).

    NaN and infinities are not JSON, but written all the same, as other implementations do; a
    warning names the attribute.
    """
    checked = {}
    for name, value in attributes.items():
        if not isinstance(name, str):
            raise MetadataValidationError(f"attribute names are strings, found {describe(name)}")
        try:
            text = json.dumps(value, default=_plain)
            check_depth(text, around=5)  # in consolidated metadata
        except (TypeError, ValueError, RecursionError) as error:
            raise MetadataValidationError(f"attribute {name!r}: {error}") from None
        if ("NaN" in text or "Infinity" in text) and _has_nonfinite(json.loads(text)):
            warn("nonfinite attribute", name)
        checked[name] = json.loads(text)
    return checked


def _has_nonfinite(value: JSON) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nonfinite, value.values()))
    return isinstance(value, list) and any(map(_has_nonfinite, value))


# --- fields ----------------------------------------------------------------------------------------


def required(data: Mapping[str, JSON], name: str, document: object) -> JSON:
    """Return a field; raise `MetadataValidationError` when it is missing."""
    try:
        return data[name]
    except KeyError:
        raise MetadataValidationError(f"{document}: field {name!r} is missing") from None


def in_field(document: object, name: str, parse: Callable[..., T], *args: Any) -> T:
    """Run a parser; put the names of document and field in front of its complaint."""
    try:
        return parse(*args)
    except MetadataValidationError as error:
        raise type(error)(f"{document}: field {name!r}: {error}") from None


def named(value: JSON, document: object, name: str, *, optional: bool = False) -> NamedConfig:
    """Return an extension point, which may be a bare string."""
    if type(value) is dict and len(value) == 2:  # the usual form
        usual, settings = value.get("name"), value.get("configuration")
        if type(usual) is str and type(settings) is dict:
            return NamedConfig(usual, settings)
    if isinstance(value, str):
        return NamedConfig(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        configuration = value.get("configuration", {})
        must_understand = value.get("must_understand", True)
        known = value.keys() <= {"name", "configuration", "must_understand"}
        if isinstance(configuration, dict) and isinstance(must_understand, bool) and known:
            if not must_understand and not optional:
                raise MetadataValidationError(
                    f"{document}: field {name!r}: 'must_understand' cannot be false here"
                )
            return NamedConfig(value["name"], configuration, must_understand)
    raise unexpected(
        f"{document}: field {name!r}", "a name or an object with 'name' and 'configuration'", value
    )


@final
@dataclass(frozen=True, slots=True)
class UnknownDataType:
    """A data type that is not known here, in the place of a `DataType`.

    Its array is listed, and its document survives a change; whatever needs the type raises.
    """

    document: Any
    """What the document says."""
    problem: str

    @property
    def dtype(self) -> Any:
        """Raise `DataTypeValidationError`."""
        raise DataTypeValidationError(self.problem)

    name: ClassVar[Any] = dtype
    item_bytes: ClassVar[Any] = dtype
    needs_endian: ClassVar[Any] = dtype
    is_variable: ClassVar[Any] = dtype
    default_fill: ClassVar[Any] = dtype
    object_codec: ClassVar[Any] = dtype

    def __str__(self) -> str:
        return f"unknown: {describe(self.document)}"

    def to_v3(self) -> Any:
        """Return the `data_type` of a format 3 document as it was."""
        return self.document

    to_v2 = to_v3

    def fill_from_json(self, value: Any, zarr_format: int) -> Any:
        """Return a fill value as it stands in the document."""
        return value

    fill_to_json = fill_from_json


def data_type_in(
    document: object, name: str, value: JSON, parse: Callable[..., DataType], *args: Any
) -> DataType:
    """Return a data type, or what stands for one that is not known: it raises when it is used."""
    try:
        return in_field(document, name, parse, value, *args)
    except DataTypeValidationError as error:
        unknown: Any = UnknownDataType(value, str(error))
        return unknown  # type: ignore[no-any-return]


def shape_of(data: Mapping[str, JSON], document: object) -> Shape:
    """Return the field `shape`."""
    value = required(data, "shape", document)
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_DIMENSIONS
        or not _are_lengths(value)
    ):
        raise unexpected(
            f"{document}: field 'shape'",
            f"up to {MAX_DIMENSIONS} lengths between 0 and 2**63 - 1",
            value,
        )
    return tuple(value)


def _are_lengths(values: list[JSON] | tuple[JSON, ...], least: int = 0) -> bool:
    return all([type(value) is int and least <= value < 1 << 63 for value in values])  # noqa: C419 - faster


def attributes_in(value: JSON, document: object) -> dict[str, JSON]:
    """Return user attributes, which may be missing."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise unexpected(f"{document}: field 'attributes'", "an object", value)
    return value


def extra_fields_in(
    data: Mapping[str, JSON], known: frozenset[str], document: object
) -> dict[str, JSON]:
    """Return the fields that are not known and need not be understood; raise for others."""
    if data.keys() <= known:
        return {}
    extra = {}
    for name, value in data.items():
        if name in known:
            continue
        if not (isinstance(value, dict) and value.get("must_understand") is False):
            raise MetadataValidationError(
                f"{document}: field {describe(name)} is unknown and must be understood"
            )
        extra[name] = value
    return extra


def check_header(
    data: Mapping[str, JSON], zarr_format: ZarrFormat, node_type: str | None, document: object
) -> None:
    """Raise `MetadataValidationError` unless a document is of a format and (3 only) a node type."""
    found = required(data, "zarr_format", document)
    if found != zarr_format or isinstance(found, bool):
        raise unexpected(f"{document}: field 'zarr_format'", f"{zarr_format}", found)
    if node_type is not None and (found := required(data, "node_type", document)) != node_type:
        raise unexpected(
            f"{document}: field 'node_type'", f"{node_type!r}", found, NodeTypeValidationError
        )


def codecs_in(data: Mapping[str, JSON], ndim: int, document: object) -> tuple[NamedConfig, ...]:
    """Return the field `codecs`."""
    value = required(data, "codecs", document)
    if not isinstance(value, list) or not value:
        raise unexpected(f"{document}: field 'codecs'", "a list that is not empty", value)
    codecs = tuple([named(codec, document, "codecs", optional=True) for codec in value])
    _check_depth([codec.configuration for codec in codecs], document, "codecs")
    if len(codecs) == 1 and codecs[0].name == "sharding_indexed":
        # The shape of chunks is asked for before any codec is made.
        shape = codecs[0].configuration.get("chunk_shape")
        if not isinstance(shape, list) or len(shape) != ndim or not _are_lengths(shape, 1):
            raise unexpected(
                f"{document}: field 'codecs'",
                f"a chunk_shape of {ndim} lengths of at least 1 in sharding_indexed",
                shape,
            )
    return codecs


def _check_depth(values: Iterable[JSON], document: object, name: str) -> None:
    """Raise `MetadataValidationError` for configurations of codecs that are nested too deeply."""
    level = [v for value in values for v in value.values() if type(v) in (dict, list)]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_CODEC_DEPTH:
            raise MetadataValidationError(f"{document}: field {name!r}: nested too deeply")
        inside = [v.values() if type(v) is dict else v for v in level]
        level = [v for values in inside for v in values if type(v) in (dict, list)]


def names_in(value: JSON, ndim: int, document: object) -> tuple[str | None, ...] | None:
    """Return the field `dimension_names`."""
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != ndim
        or not all(name is None or isinstance(name, str) for name in value)
    ):
        raise unexpected(f"{document}: field 'dimension_names'", f"{ndim} strings or nulls", value)
    return tuple(value)


def v2_codecs_in(value: JSON, document: object, name: str) -> tuple[Mapping[str, JSON], ...] | None:
    """Return the codecs in a field of format 2."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), str) for c in value
    ):
        raise unexpected(f"{document}: field {name!r}", "objects with an 'id', or null", value)
    _check_depth(value, document, name)
    return tuple(value)


_PLAIN_PATH = re.compile(r"[^/.\\\0]+(?:/[^/.\\\0]+)*")


def check_path(path: str, document: object) -> str:
    """Return a relative node path found in a document; raise if it could leave the group."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    if "\\" in path or "\0" in path or any(s in ("", ".", "..") for s in path.split("/")):
        raise MetadataValidationError(f"{document}: {describe(path)} is no path of a node")
    return path


def make_v2_codecs(
    order: str,
    ndim: int,
    filters: Iterable[Mapping[str, JSON]] | None,
    compressor: Mapping[str, JSON] | None,
) -> tuple[NamedConfig, ...]:
    """Return what `order`, `filters` and `compressor` of format 2 mean as a chain of codecs."""
    chain = []
    filters = list(filters or ())
    # These object codecs store an array as it is indexed, whatever its order in memory.
    is_nested = bool(filters) and filters[0]["id"] in ("json2", "msgpack2", "pickle")
    if order == "F" and ndim > 1 and not is_nested:
        chain.append(NamedConfig("transpose", {"order": list(range(ndim))[::-1]}))
    chain.append(NamedConfig("v2.filters", {"filters": [dict(f) for f in filters]}))
    if compressor is not None:
        chain.append(NamedConfig("v2.compressor", dict(compressor)))
    return tuple(chain)


def without_empty_chunks(
    configuration: Mapping[str, JSON], name: str, shape: Shape
) -> Mapping[str, JSON]:
    """Return a grid in which chunks of an empty dimension have length 1.

    Older writers recorded 0 there; no chunk exists, so nothing else depends on it.
    """
    lengths = configuration.get(name)
    if not isinstance(lengths, list) or 0 not in lengths or len(lengths) != len(shape):
        return configuration
    mended = [1 if c == 0 and n == 0 else c for c, n in zip(lengths, shape, strict=True)]
    return {**configuration, name: mended}
