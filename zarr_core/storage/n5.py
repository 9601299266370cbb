"""N5 hierarchies shown as Zarr of format 3, to be read.

A directory of N5 has `attributes.json`, which describes an array when it has `dimensions`, and any
directory without is a group. What is seen instead is `zarr.json`; blocks keep their keys, and the
codec `n5_default` reads them.

Specification: https://github.com/saalfeldlab/n5 (version 4.0.0)
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar

from zarr_core.errors import MetadataValidationError, ReadOnlyError, describe, unexpected
from zarr_core.metadata.documents import DOCUMENTS, V3_DOCUMENT, DocumentAt, dump_json, load_json
from zarr_core.storage.base import (
    ByteRequest,
    Store,
    Value,
    Writable,
    check_key,
    check_prefix,
    slice_value,
)
from zarr_core.storage.wrappers import WrapperStore

S = TypeVar("S", bound=Store)

ATTRIBUTES = "attributes.json"
"""The document of a node in N5."""

_ARRAY_FIELDS = frozenset({"dimensions", "blockSize", "dataType", "compression", "compressionType"})
_ITEM_BYTES = {
    **{f"{kind}{bits}": bits // 8 for kind in ("uint", "int") for bits in (8, 16, 32, 64)},
    "float32": 4,
    "float64": 8,
}


class N5View(WrapperStore[S]):
    """An N5 hierarchy in a store, as one of Zarr format 3 that can be read and not written.

    Shapes, chunks and keys have their dimensions in the order of N5's `dimensions`. Blocks that are
    not stored read as 0. User attributes are those of `attributes.json` without N5's own; `axes`, if
    it names every dimension, becomes the names of the dimensions.

    Raises `MetadataValidationError` for an `attributes.json` that describes no array of N5. Arrays
    of a data type or compression that is not known are listed; their data raises.

    Parameters
    ----------
    store
        Where the N5 hierarchy is; `PrefixStore` shows part of a store.

    Examples
    --------
    >>> document = b'{"dimensions": [4], "blockSize": [2], "dataType": "uint8", "compression": {"type": "raw"}}'
    >>> n5 = zarr.storage.MemoryStore({"x/attributes.json": document})
    >>> zarr.open_group(zarr.storage.N5View(n5), mode="r")["x"][:]
    array([0, 0, 0, 0], dtype=uint8)
    """

    def __init__(self, store: S) -> None:
        super().__init__(store)
        self._read_only = True
        self.supports_writes: bool = False
        self.supports_deletes: bool = False
        self.supports_consolidated_metadata: bool = False

    @property
    def read_only(self) -> bool:
        """True."""
        return True

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return this store; raise `ReadOnlyError` unless it is to be read-only."""
        if not read_only:
            self._refuse()
        return self

    def _refuse(self) -> NoReturn:
        raise ReadOnlyError(f"{self} is read-only: N5 is read and not written")

    def set(self, key: str, value: Writable) -> None:
        """Raise `ReadOnlyError`."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Raise `ReadOnlyError`."""
        self._refuse()

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return a block, or the document of a node made from its attributes."""
        path, _, name = check_key(key).rpartition("/")
        if name == V3_DOCUMENT:
            document = self._document(path)
            value = None if document is None else dump_json(document, V3_DOCUMENT)
            return slice_value(value, byte_range)
        if name == ATTRIBUTES or name in DOCUMENTS:
            return None
        return self._store.get(key, byte_range)

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        name = key.rpartition("/")[2]
        is_block = name != ATTRIBUTES and name not in DOCUMENTS
        return self._store.getsize(key) if is_block else Store.getsize(self, key)

    exists = Store.exists
    getsize_prefix = Store.getsize_prefix
    is_empty = Store.is_empty

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield the keys of blocks and, for every node, of its document."""
        prefix = check_prefix(prefix)
        folders = {prefix}
        for key in self._store.list_prefix(prefix):
            folder, _, name = key.rpartition("/")
            if name != ATTRIBUTES and name not in DOCUMENTS:
                yield key
            while folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        array = None  # below which there is no node
        for folder in sorted(folders, key=lambda path: path.split("/")):
            if array is not None and folder.startswith(array):
                continue
            document = self._document(folder)
            if document is not None:
                yield _join(folder, V3_DOCUMENT)
            if document is None or document["node_type"] == "array":
                array = f"{folder}/" if folder else ""

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        prefix = check_prefix(prefix)
        names = {name for name in self._store.list_dir(prefix) if name not in DOCUMENTS}
        yield from names - {ATTRIBUTES}
        if self._document(prefix) is not None:
            yield V3_DOCUMENT

    def _attributes(self, path: str) -> dict[str, Any] | None:
        try:
            data = self._store.get(_join(path, ATTRIBUTES))
        except NotADirectoryError:
            return None
        return None if data is None else load_json(data, DocumentAt(ATTRIBUTES, f"/{path}"))

    def _document(self, path: str) -> dict[str, Any] | None:
        """Return the document of the node at a path, or None when there is none."""
        attributes = self._attributes(path)
        if attributes is not None:
            return n5_document(attributes, DocumentAt(ATTRIBUTES, f"/{path}"))
        if self._store.is_empty(path):
            return None
        above = path
        while above:
            above = above.rpartition("/")[0]
            found = self._attributes(above)
            if found is not None:  # directories of blocks are no groups
                return None if _is_array(found) else n5_document({}, path)
        return n5_document({}, path)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


# --- documents -------------------------------------------------------------------------------------


def _is_array(attributes: Mapping[str, Any]) -> bool:
    return "dimensions" in attributes and "dataType" in attributes


def n5_document(attributes: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return the `zarr.json` that says what the attributes of an N5 node say.

    Raises `MetadataValidationError`.
    """
    if not _is_array(attributes):
        kept = {key: value for key, value in attributes.items() if key != "n5"}
        return {"zarr_format": 3, "node_type": "group", "attributes": kept}
    dimensions = _lengths(attributes, "dimensions", 0, where)
    block_size = _lengths(attributes, "blockSize", 1, where)
    if len(block_size) != len(dimensions):
        raise unexpected(f"{where}: field 'blockSize'", f"{len(dimensions)} lengths", block_size)
    data_type = attributes["dataType"]
    if not isinstance(data_type, str):
        raise unexpected(f"{where}: field 'dataType'", "a name", data_type)
    item_bytes = _ITEM_BYTES.get(data_type, 0)
    chain = [
        {"name": "transpose", "configuration": {"order": list(range(len(dimensions)))[::-1]}},
        {"name": "bytes", "configuration": {"endian": "big"}},
        *_compressor(attributes, item_bytes, where),
    ]
    axes = attributes.get("axes")
    is_named = isinstance(axes, list) and len(axes) == len(dimensions)
    names = axes if is_named and all(isinstance(axis, str) for axis in axes or ()) else None
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": dimensions,
        "data_type": data_type if item_bytes else f"n5.{data_type}",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": block_size}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "n5_default", "configuration": {"codecs": chain}}],
        "attributes": {k: v for k, v in attributes.items() if k not in _ARRAY_FIELDS | {"n5"}},
        **({} if names is None else {"dimension_names": names}),
    }


def _lengths(attributes: Mapping[str, Any], name: str, least: int, where: object) -> list[int]:
    value = attributes.get(name)
    if (
        not isinstance(value, list)
        or not value
        or any(type(n) is not int or not least <= n < 1 << 63 for n in value)
    ):
        raise unexpected(f"{where}: field {name!r}", f"lengths of at least {least}", value)
    return value


_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


def _compressor(
    attributes: Mapping[str, Any], item_bytes: int, where: object
) -> list[dict[str, Any]]:
    """Return the codec for a compression of N5, none for raw blocks."""
    found = attributes.get("compression")
    if found is None:  # before version 2 of N5
        found = attributes.get("compressionType", "raw")
    options = {"type": found} if isinstance(found, str) else found
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        raise unexpected(f"{where}: field 'compression'", "an object with a type", found)

    def number(name: str, default: int, least: int, most: int) -> int:
        value = options.get(name, default)
        if type(value) is not int or not least <= value <= most:
            what = f"{where}: field 'compression', {name!r}"
            raise unexpected(what, f"an integer from {least} to {most}", value)
        return value

    match options["type"]:
        case "raw":
            return []
        case "gzip":
            level = number("level", -1, -1, 9)
            level = 6 if level == -1 else level
            name = "numcodecs.zlib" if options.get("useZlib") is True else "gzip"
            return [{"name": name, "configuration": {"level": level}}]
        case "bzip2":
            level = number("blockSize", 9, 1, 9)
            return [{"name": "numcodecs.bz2", "configuration": {"level": level}}]
        case "xz":
            preset = number("preset", 6, 0, 9)
            settings: dict[str, Any] = {"format": 1, "check": -1, "preset": preset, "filters": None}
            return [{"name": "numcodecs.lzma", "configuration": settings}]
        case "lz4":
            return [{"name": "n5.lz4"}]
        case "zstd":
            settings = {"level": number("level", 3, -131072, 22), "checksum": False}
            return [{"name": "zstd", "configuration": settings}]
        case "blosc":
            settings = {
                "cname": options.get("cname", "blosclz"),
                "clevel": number("clevel", 6, 0, 9),
                "shuffle": _SHUFFLES[number("shuffle", 0, 0, 2)],
                "typesize": item_bytes or 1,
                "blocksize": number("blocksize", 0, 0, (1 << 31) - 1),
            }
            return [{"name": "blosc", "configuration": settings}]
        case other:
            if len(other) > 64:
                raise MetadataValidationError(f"{where}: compression {describe(other)}")
            return [{"name": f"n5.{other}"}]
