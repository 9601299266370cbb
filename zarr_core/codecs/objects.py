"""Arrays of any Python objects, as format 2 has them: what their object codecs do.

An object codec is the first filter of an array of `dtype=object`: `json2`, `msgpack2`,
`vlen-array`, `categorize` or `pickle`. They store and read what those of numcodecs do, but take no
number in a chunk on trust: an array is made only once its elements are there.
"""

import json
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zarr_core.codecs.base import Buffer, NDArray
from zarr_core.codecs.checks import check_bool, check_fields, flat_bytes, variable_limit
from zarr_core.codecs.vlen import is_missing, join, split
from zarr_core.errors import (
    CodecError,
    MetadataValidationError,
    PickleCodecDisabledError,
    UnknownCodecError,
    describe,
    unexpected,
)

Shape = tuple[int, ...]

MAX_LIST = 1 << 17
"""msgpack makes room for what a list says it has, a thousand lists deep: not for more than this."""


class ObjectCodec(ABC):
    """An object codec with its configuration."""

    @abstractmethod
    def encode(self, array: NDArray) -> bytes:
        """Return a chunk of objects as bytes; raise `CodecError` for what cannot be stored."""

    @abstractmethod
    def decode(self, data: bytes, shape: Shape) -> Sequence[Any]:
        """Return the elements of a chunk, in C order."""

    def check(self, array: NDArray) -> None:
        """Raise `CodecError` unless all elements can be stored."""
        for element in array.reshape(-1).tolist():
            self.encode(_objects([element], (1,)))


def _objects(elements: Sequence[Any], shape: Shape) -> NDArray:
    """Return an array of just these objects, whatever is in them."""
    array = np.empty(len(elements), object)
    for index, element in enumerate(elements):
        array[index] = element
    return array.reshape(shape)


def object_codec(config: Mapping[str, Any], *, allow_pickle: bool = False) -> ObjectCodec:
    """Return the object codec for a configuration of numcodecs.

    Raises `MetadataValidationError`, `UnknownCodecError` when a package is missing, and
    `PickleCodecDisabledError`.
    """
    options = {key: value for key, value in config.items() if key != "id"}
    match config["id"]:
        case "json2":
            return _Json(options)
        case "msgpack2":
            return _MsgPack(options)
        case "vlen-array":
            return _VLenArray(options)
        case "categorize":
            return _Categorize(options)
        case "pickle" if allow_pickle:
            return _Pickle(options)
        case "pickle":
            raise PickleCodecDisabledError(
                "its chunks are pickles, which can run any code when they are read; if you trust "
                "who wrote them, open the array itself with open_array(..., allow_pickle=True)"
            )
    raise MetadataValidationError(f"{describe(config['id'])} is not an object codec")


def object_chunk(codec: ObjectCodec, array: NDArray) -> bytes:
    """Return an encoded chunk; raise `CodecError` for one that is too large to be read back."""
    data = codec.encode(array)
    if len(data) > variable_limit():
        raise CodecError(
            f"{len(data)} bytes in a chunk are more than the setting "
            f"memory.max_variable_chunk_bytes ({variable_limit()})"
        )
    return data


def objects_in(codec: ObjectCodec, data: Buffer, shape: Shape) -> NDArray:
    """Return a decoded chunk of a shape; raise `CodecError` for data that does not hold it."""
    try:
        elements = codec.decode(bytes(flat_bytes(data)), shape)
    except (CodecError, MemoryError):
        raise
    except Exception as error:  # parsers raise whatever they like
        raise CodecError(f"{type(error).__name__}: {error}") from error
    return _objects(elements, shape)


# --- whole arrays, as one document -----------------------------------------------------------------


class _Listed(ObjectCodec):
    """A chunk is a list: the elements, nested as the axes are, a dtype and the shape."""

    def encode(self, array: NDArray) -> bytes:
        # Without dimensions there is no list; numcodecs' JSON writes one of one element.
        items = [*(array if array.ndim else array.reshape(1)).tolist(), "|O", list(array.shape)]
        try:
            return self._dump(items)
        except Exception as error:
            found = describe(array[(0,) * array.ndim] if array.size == 1 else items[0])
            raise CodecError(f"elements such as {found} cannot be stored: {error}") from error

    def decode(self, data: bytes, shape: Shape) -> Sequence[Any]:
        items = self._load(data, max(shape, default=1) + 2)
        if not isinstance(items, list) or len(items) < 2 or items[-1] != list(shape):
            raise CodecError(f"expected a list of elements that ends in the shape {list(shape)}")
        level: list[Any] = [items[:-2]]
        for length in shape or (1,):
            if any(not isinstance(part, list) or len(part) != length for part in level):
                raise CodecError(f"expected lists of {length} elements")
            level = [item for part in level for item in part]
        return level

    @abstractmethod
    def _dump(self, items: list[Any]) -> bytes: ...

    @abstractmethod
    def _load(self, data: bytes, most: int) -> Any:
        """Return the list; `most` is how long those of its lists are that are for axes."""


class _Json(_Listed):
    def __init__(self, options: Mapping[str, Any]) -> None:
        defaults = {
            **dict.fromkeys(("ensure_ascii", "check_circular", "allow_nan", "sort_keys"), True),
            **dict.fromkeys(("indent", "separators")),
            "encoding": "utf-8",
            "skipkeys": False,
            "strict": True,
        }
        fields = {**defaults, **check_fields("json2", options, defaults)}
        for name, value in defaults.items():
            if isinstance(value, bool):
                check_bool("json2", name, fields[name])
        separators: Any = fields["separators"]
        if separators is None:
            separators = (",", ":") if fields["indent"] is None else (", ", ": ")
        self._encoding = fields["encoding"]
        try:
            "".encode(self._encoding)
            self._decode = json.JSONDecoder(strict=fields.pop("strict")).decode
            self._encode = json.JSONEncoder(
                **{k: v for k, v in fields.items() if k not in ("encoding", "separators")},
                separators=(separators[0], separators[1]),
            ).encode
            self._encode([{"a": [1, 2]}])
        except Exception as error:
            raise MetadataValidationError(f"codec 'json2': {error}") from error

    def _dump(self, items: list[Any]) -> bytes:
        return self._encode(items).encode(self._encoding)

    def _load(self, data: bytes, most: int) -> Any:
        return self._decode(data.decode(self._encoding))


class _MsgPack(_Listed):
    def __init__(self, options: Mapping[str, Any]) -> None:
        names = ("raw", "use_bin_type", "use_single_float")
        fields = check_fields("msgpack2", options, names)
        self._raw, bin_type, single = (
            check_bool("msgpack2", name, fields.get(name, name == "use_bin_type")) for name in names
        )
        self._options = {"use_bin_type": bin_type, "use_single_float": single}
        try:
            import msgpack  # optional, and for old archives only
        except ImportError as error:
            raise UnknownCodecError(
                "codec 'msgpack2' needs the package msgpack: pip install msgpack"
            ) from error
        self._msgpack: Any = msgpack

    def _dump(self, items: list[Any]) -> bytes:
        packed: bytes = self._msgpack.packb(items, **self._options)
        return packed

    def _load(self, data: bytes, most: int) -> Any:
        # Keys of any type are read: zarr 2 writes numbers and bytes, and cannot read them.
        options = {"raw": self._raw, "strict_map_key": False}
        try:
            return self._msgpack.unpackb(data, max_array_len=min(most, MAX_LIST), **options)
        except ValueError:
            from msgpack.fallback import unpackb  # slow, but a list has only what was read

            return unpackb(data, **options)


class _Pickle(ObjectCodec):
    def __init__(self, options: Mapping[str, Any]) -> None:
        fields = check_fields("pickle", options, ("protocol",))
        self._protocol = fields.get("protocol", pickle.HIGHEST_PROTOCOL)
        if type(self._protocol) is not int or not 0 <= self._protocol <= pickle.HIGHEST_PROTOCOL:
            raise unexpected("codec 'pickle': field 'protocol'", "a known one", self._protocol)

    def encode(self, array: NDArray) -> bytes:
        try:
            return pickle.dumps(array, protocol=self._protocol)
        except Exception as error:
            raise CodecError(f"elements cannot be pickled: {error}") from error

    def decode(self, data: bytes, shape: Shape) -> Sequence[Any]:
        array = pickle.loads(data)  # noqa: S301 - the caller asked for it
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise CodecError(f"expected an array of shape {shape}, found {describe(array)}")
        return array.reshape(-1).tolist()


# --- elements one after the other --------------------------------------------------------------------


class _VLenArray(ObjectCodec):
    """Arrays of one dimension and one data type, of any lengths, as `vlen-bytes` stores bytes."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._dtype = _dtype_in("vlen-array", check_fields("vlen-array", options, ("dtype",)))
        if self._dtype.hasobject or not self._dtype.itemsize:
            raise MetadataValidationError("codec 'vlen-array': elements need a fixed size")

    def encode(self, array: NDArray) -> bytes:
        return join([self._to_bytes(element) for element in array.reshape(-1).tolist()])

    def _to_bytes(self, element: Any) -> bytes:
        values = np.asarray([] if is_missing(element) else element)
        if not values.size:
            values = values.astype(self._dtype)
        if values.ndim != 1 or not np.can_cast(values.dtype, self._dtype, "same_kind"):
            found = f"shape {values.shape} and data type {values.dtype}"
            raise CodecError(
                f"elements are arrays of one dimension and of {self._dtype} here, found {found}"
            )
        stored = values.astype(self._dtype)
        if values.dtype.kind in "iu" and self._dtype.kind in "iu" and (stored != values).any():
            raise CodecError(f"element {describe(element)} does not fit into {self._dtype}")
        return stored.tobytes()

    def decode(self, data: bytes, shape: Shape) -> Sequence[Any]:
        return split(data, math.prod(shape), self._from_bytes)

    def _from_bytes(self, data: bytes) -> NDArray:
        if len(data) % self._dtype.itemsize:
            raise CodecError(f"{len(data)} bytes are no whole elements of {self._dtype}")
        return np.frombuffer(bytearray(data), self._dtype)


class _Categorize(ObjectCodec):
    """Text out of a list of labels, as its place in the list; 0 is the empty text."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        fields = check_fields("categorize", options, ("labels", "dtype", "astype"))
        labels = fields.get("labels")
        if not isinstance(labels, list | tuple) or not all(isinstance(n, str) for n in labels):
            raise unexpected("codec 'categorize': field 'labels'", "a list of text", labels)
        self._astype = _dtype_in("categorize", {"dtype": fields.get("astype", "|u1")})
        if self._astype.kind not in "iu" or len(labels) > np.iinfo(self._astype).max:
            raise MetadataValidationError(
                f"codec 'categorize': {len(labels)} labels do not fit into {self._astype}"
            )
        self._texts = ["", *labels]
        # Of labels that are there twice, numcodecs takes the last one.
        self._codes = {"": 0, **{text: index for index, text in enumerate(labels, 1)}}

    def encode(self, array: NDArray) -> bytes:
        codes = []
        for element in array.reshape(-1).tolist():
            text = "" if is_missing(element) else element
            code = self._codes.get(text) if isinstance(text, str) else None
            if code is None:
                raise CodecError(f"element {describe(element)} is not among the labels")
            codes.append(code)
        return np.array(codes, self._astype).tobytes()

    def decode(self, data: bytes, shape: Shape) -> Sequence[Any]:
        expected = math.prod(shape) * self._astype.itemsize
        if len(data) != expected:
            raise CodecError(f"expected {expected} bytes, found {len(data)}")
        codes = np.frombuffer(data, self._astype).tolist()
        if codes and not 0 <= min(codes) <= max(codes) < len(self._texts):
            raise CodecError(f"expected numbers of {len(self._texts) - 1} labels, found others")
        return [self._texts[code] for code in codes]


def _dtype_in(codec: str, fields: Mapping[str, Any]) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(fields["dtype"])
    except Exception as error:
        raise unexpected(
            f"codec {codec!r}: field 'dtype'", "a NumPy dtype", fields.get("dtype")
        ) from error
    return dtype
