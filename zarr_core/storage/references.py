"""`ReferenceStore`: values that are parts of other files, as kerchunk describes them.

Specification: https://fsspec.github.io/kerchunk/spec.html
"""

import base64
import io
import json
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np

from zarr_core.errors import MetadataValidationError, ReadOnlyError, StoreError
from zarr_core.locks import ForkLock
from zarr_core.metadata.documents import V2_ARRAY, V2_CONSOLIDATED
from zarr_core.storage.base import (
    ByteRequest,
    RangeByteRequest,
    Request,
    Result,
    Store,
    Value,
    Writable,
    bounds_of,
    check_key,
    check_prefix,
    slice_value,
)
from zarr_core.storage.paths import StoreLike, StorePath, store_from
from zarr_core.storage.ranges import Range, merge_ranges

BATCH = 1024
"""Of so many requests those that are close are made together."""
MAX_GAP_BYTES = 256 << 10
"""What is read although nobody asked for it, rather than make another request."""
MAX_RUN_BYTES = 16 << 20
"""More is not read by one request on behalf of several."""
KEPT_RECORDS = 64
"""So many files of references are kept in memory."""


class Part(NamedTuple):
    """A part of a value of another store; all of it without a size."""

    place: StorePath
    start: int = 0
    size: int | None = None


class _Wanted(NamedTuple):
    """One request for a file, and what it is for: ranges of what comes, with the numbers of requests."""

    request: Request
    pieces: list[Range]


Stores: TypeAlias = Mapping[str, StoreLike] | Iterable[str]


@final
class ReferenceStore(Store):
    """A read-only store whose values are parts of other files, or stand in the references themselves.

    So files of other formats (HDF5, NetCDF, GRIB, TIFF) are read as Zarr where they are. Requests for
    neighbouring parts are made together.

    Raises `MetadataValidationError` for references that make no sense. Reading a value raises
    `StoreError` when it is outside of `stores`, or the file does not exist.

    Parameters
    ----------
    refs
        References as kerchunk writes them: a dictionary (version 1, or only keys and references), the
        path or URL of a `.json` file with one, or that of a directory of Parquet files (which needs
        pyarrow or fastparquet).
    stores
        Where files may be: stores by the beginnings of URLs and paths, `{"s3://bucket": store}`, or
        only such beginnings, which are opened as they are. The longest one that fits is used; `""` is
        for what nothing else fits.

    Examples
    --------
    >>> file = zarr.storage.MemoryStore({"data.bin": b"head" + np.arange(6, dtype="<i2").tobytes()})
    >>> array = '{"zarr_format": 2, "shape": [6], "chunks": [3], "dtype": "<i2", "fill_value": 0, '
    >>> array += '"order": "C", "compressor": null, "filters": null}'
    >>> refs = {".zarray": array, "0": ["x://data.bin", 4, 6], "1": ["x://data.bin", 10, 6]}
    >>> zarr.open_array(zarr.storage.ReferenceStore(refs, {"x://": file}), mode="r")[:]
    array([0, 1, 2, 3, 4, 5], dtype=int16)
    """

    supports_writes = supports_deletes = False

    def __init__(
        self, refs: Mapping[str, Any] | str | os.PathLike[str], stores: Stores = ()
    ) -> None:
        super().__init__(read_only=True)
        self._source = refs if isinstance(refs, Mapping) else os.fspath(refs)
        self._stores = stores if isinstance(stores, Mapping) else {url: url for url in stores}
        places = {_plain(url): store_from(like, mode="r") for url, like in self._stores.items()}
        # The longest beginning first.
        self._places = sorted(places.items(), key=lambda item: -len(item[0]))
        self._own = [
            place.store
            for place, like in zip(places.values(), self._stores.values(), strict=True)
            if not isinstance(like, Store | StorePath)
        ]
        self._refs, self._templates = _loaded(self._source)
        self.high_latency = any(place.store.high_latency for place in places.values())
        self.get_cost = max((place.store.get_cost for place in places.values()), default=0.0)

    def __reduce__(self) -> tuple[Any, ...]:
        return ReferenceStore, (self._source, self._stores)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ReferenceStore)
            and self._source == other._source
            and self._places == other._places
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        source = self._source
        return f"references://{source if isinstance(source, str) else id(source)}"

    def close(self) -> None:
        """Close the stores that this one has opened."""
        for store in self._own:
            store.close()

    def with_read_only(self, read_only: bool = False) -> "ReferenceStore":
        """Return this store; it can only be read."""
        if not read_only:
            raise ReadOnlyError(f"{self} can only be read")
        return self

    # --- reading -----------------------------------------------------------------------------------

    def _find(self, key: str) -> bytes | Part | None:
        """Return what a key refers to: bytes, or a part of a file."""
        ref = self._refs.get(check_key(key))
        if ref is None:
            return None
        try:
            if isinstance(ref, Mapping):
                return json.dumps(ref).encode()
            if isinstance(ref, str | bytes):
                return _inline(ref)
            url, *numbers = ref
            for name, value in self._templates.items():
                url = url.replace("{{" + name + "}}", value)
            url, (start, size) = _plain(url), map(int, numbers or (0, -1))
        except (TypeError, ValueError, AttributeError) as error:
            raise self._no_reference(key, ref) from error
        if start < 0 or size < -1:
            raise self._no_reference(key, ref)
        return Part(self._place(key, url), start, None if size == -1 else size)

    def _no_reference(self, key: str, ref: Any) -> MetadataValidationError:
        return MetadataValidationError(f"{key!r} in {self}: {str(ref)[:200]} is no reference")

    def _place(self, key: str, url: str) -> StorePath:
        for beginning, place in self._places:
            rest = url.removeprefix(beginning)
            fits = url.startswith(beginning) and (
                not beginning or beginning[-1] == "/" or rest[:1] in ("", "/")
            )
            if fits:
                return place.below(check_key(rest.lstrip("/")))
        raise StoreError(f"{key!r} in {self} is in {url}, which none of its stores has")

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        """Return the value of `key` (or part of it), or None when there is no such key."""
        found = self._find(key)
        if not isinstance(found, Part):
            return slice_value(found, byte_range)
        value = found.place.get(_range(found, byte_range, key))
        if value is None:
            raise StoreError(f"{key!r} in {self} is in {found.place}, which does not exist")
        return value

    def getsize(self, key: str) -> int:
        """Return the size of a value in bytes; raise `FileNotFoundError` when there is none."""
        found = self._find(key)
        if found is None:
            raise FileNotFoundError(f"no key {key!r} in {self}")
        if isinstance(found, bytes):
            return len(found)
        return found.place.store.getsize(found.place.path) if found.size is None else found.size

    def exists(self, key: str) -> bool:
        """Return whether there is a reference for `key`."""
        return self._refs.get(check_key(key)) is not None

    def get_many(self, requests: Iterable[Request]) -> Generator[Result, None, None]:
        """Yield a `Result` per request; parts of a file that are close are read together."""
        numbered = enumerate(requests)
        while batch := list(islice(numbered, BATCH)):
            yield from self._together(dict(batch))

    def _together(self, batch: dict[int, Request]) -> Generator[Result, None, None]:
        files: dict[StorePath, list[Range]] = {}
        wanted: dict[int, tuple[Store, list[_Wanted]]] = {}
        for number, (key, byte_range) in batch.items():
            try:
                found = self._find(key)
                within = _range(found, byte_range, key) if isinstance(found, Part) else None
            except Exception as error:  # noqa: BLE001 - of this request
                yield Result(number, None, error)
                continue
            if not isinstance(found, Part):
                yield self._alone(number, batch[number])
                continue
            place = found.place
            if found.size is not None and isinstance(within, RangeByteRequest):
                files.setdefault(place, []).append((within.start, within.end, number))
            else:  # how much it is, is not known
                one = _Wanted(Request(place.path, within), [(0, sys.maxsize, number)])
                wanted.setdefault(id(place.store), (place.store, []))[1].append(one)
        for place, ranges in files.items():
            ranges.sort()
            for run in merge_ranges(ranges, MAX_GAP_BYTES, MAX_RUN_BYTES):
                pieces = [
                    (a - run.start, b - run.start, n) for a, b, n in ranges[run.first : run.last]
                ]
                one = _Wanted(Request(place.path, RangeByteRequest(run.start, run.end)), pieces)
                wanted.setdefault(id(place.store), (place.store, []))[1].append(one)
        for store, several in wanted.values():
            with closing(store.get_many(one.request for one in several)) as results:
                for at, value, failed in results:
                    for start, end, number in several[at].pieces:
                        if failed is None and value is not None:
                            yield Result(number, memoryview(value)[start:end].toreadonly())
                        else:  # which of them it is, and how it is called here, is seen one by one
                            yield self._alone(number, batch[number])

    def _alone(self, number: int, request: Request) -> Result:
        try:
            return Result(number, self.get(*request))
        except Exception as error:  # noqa: BLE001 - of this request
            return Result(number, None, error)

    # --- listing -----------------------------------------------------------------------------------

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield every key below `prefix`."""
        start = check_prefix(prefix)
        start = f"{start}/" if start else ""
        return (key for key in list(self._refs) if key.startswith(start))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below `prefix`."""
        start = check_prefix(prefix)
        length = len(start) + bool(start)
        names = (key[length:].partition("/")[0] for key in self.list_prefix(prefix))
        return iter(dict.fromkeys(names))

    def set(self, key: str, value: Writable) -> None:
        """Raise `ReadOnlyError`."""
        self._check_writable()

    def delete(self, key: str) -> None:
        """Raise `ReadOnlyError`."""
        self._check_writable()


def _plain(url: str) -> str:
    return url.removeprefix("file://")


def _inline(ref: str | bytes) -> bytes:
    data = ref.encode() if isinstance(ref, str) else bytes(ref)
    return base64.b64decode(data[7:]) if data.startswith(b"base64:") else data


def _range(part: Part, byte_range: ByteRequest | None, key: str) -> ByteRequest | None:
    """Return which bytes of a file are a range of a value."""
    if part.size is None:
        return byte_range
    start, end = bounds_of(byte_range, part.size, repr(key))
    return RangeByteRequest(part.start + start, part.start + end)


# --- references as they are stored -------------------------------------------------------------------


def _loaded(source: Mapping[str, Any] | str) -> tuple[Any, Mapping[str, str]]:
    """Return the references by key, and the templates of their URLs."""
    if isinstance(source, str):
        parent, _, name = source.rstrip("/").rpartition("/")
        if not name.endswith(".json"):
            return _ParquetReferences(store_from(source, mode="r")), {}
        data = store_from(parent or ("/" if source[0] == "/" else "."), mode="r").store.get(name)
        if data is None:
            raise FileNotFoundError(f"there are no references at {source}")
        whole: Mapping[str, Any] = _parsed(data, source)
    else:
        whole = source
    if "refs" not in whole:
        return whole, {}
    if whole.get("gen"):
        raise MetadataValidationError(
            "references that are generated ('gen') are not supported: let kerchunk or fsspec "
            "write them out"
        )
    templates = whole.get("templates") or {}
    if any("{" in str(value) for value in templates.values()):
        raise MetadataValidationError("templates with parameters are not supported")
    return whole["refs"], templates


def _parsed(data: Value, name: str) -> Any:
    try:
        found = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise MetadataValidationError(f"{name} has no JSON: {error}") from error
    if not isinstance(found, dict):
        raise MetadataValidationError(f"{name} is not an object of references")
    return found


@final
class _ParquetReferences:
    """References in Parquet files, some thousand chunks in each; read as they are needed."""

    def __init__(self, place: StorePath) -> None:
        self._place = place
        data = (place / V2_CONSOLIDATED).get()
        if data is None:
            raise FileNotFoundError(f"there are no references at {place}: no {V2_CONSOLIDATED}")
        whole = _parsed(data, str(place))
        try:
            self._documents: dict[str, Any] = whole["metadata"]
            self._record_size = int(whole["record_size"])
            self._arrays = {
                key.removesuffix(V2_ARRAY).rstrip("/"): _grid(document)
                for key, document in self._documents.items()
                if key.rpartition("/")[2] == V2_ARRAY
            }
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise MetadataValidationError(f"{place}: not references in Parquet: {error}") from error
        self._records: OrderedDict[tuple[str, int], list[Any]] = OrderedDict()
        self._lock = ForkLock()

    def get(self, key: str) -> Any:
        """Return a reference, or None."""
        if key in self._documents:
            return self._documents[key]
        array, _, chunk = key.rpartition("/")
        counts = self._arrays.get(array)
        try:
            at = [int(k) for k in chunk.split(".")]
        except ValueError:
            return None
        if counts is None or len(at) != len(counts):
            return None
        if not all(0 <= k < n for k, n in zip(at, counts, strict=True)):
            return None
        number = 0
        for k, n in zip(at, counts, strict=True):
            number = number * n + k
        record, row = divmod(number, self._record_size)
        rows = self._record(array, record)
        return rows[row] if row < len(rows) else None

    def __iter__(self) -> Iterator[str]:
        yield from self._documents
        for array, counts in self._arrays.items():
            start = f"{array}/" if array else ""
            for at in np.ndindex(*counts):
                key = start + ".".join(map(str, at))
                if self.get(key) is not None:
                    yield key

    def _record(self, array: str, number: int) -> list[Any]:
        """Return the references in a file."""
        with self._lock:
            rows = self._records.get((array, number))
            if rows is not None:
                self._records.move_to_end((array, number))
                return rows
        data = (self._place / f"{array}/refs.{number}.parq").get()
        rows = [] if data is None else _rows(_columns(bytes(data)))
        with self._lock:
            self._records[array, number] = rows
            while len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)
        return rows


def _grid(document: Any) -> list[int]:
    """Return the numbers of chunks of an array of format 2; one for none."""
    shape, chunks = document["shape"], document["chunks"]
    return [-(-n // size) for n, size in zip(shape, chunks, strict=True)] or [1]


def _columns(data: bytes) -> dict[str, list[Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        try:
            import fastparquet
        except ImportError:
            raise ImportError("references in Parquet need pyarrow or fastparquet") from None
        frame = fastparquet.ParquetFile(io.BytesIO(data)).to_pandas()
        return {name: frame[name].tolist() for name in frame.columns}
    columns: dict[str, list[Any]] = pq.read_table(io.BytesIO(data)).to_pydict()
    return columns


def _rows(columns: dict[str, list[Any]]) -> list[Any]:
    """Return the references in a file: bytes, lists, or None where there is none."""
    count = len(next(iter(columns.values()), ()))
    paths, raw = columns.get("path", [None] * count), columns.get("raw", [None] * count)
    offsets, sizes = columns.get("offset", [0] * count), columns.get("size", [0] * count)
    rows: list[Any] = []
    for path, inline, offset, size in zip(paths, raw, offsets, sizes, strict=True):
        if not _is_missing(inline):
            rows.append(inline)
        elif _is_missing(path):
            rows.append(None)
        else:
            rows.append([path, offset, size] if offset or size else [path])
    return rows


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
