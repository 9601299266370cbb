"""Parts of values in file systems of fsspec, read consistently and with few requests.

From S3 and HTTP the end of a value comes with opening it: it tells the size and the ETag, and an
index of a shard is usually there. Other file systems are asked for size and version first, and
after each read whether they are still the same.
"""

from typing import Any, NamedTuple, Protocol

from zarr_core.errors import ValueChangedError
from zarr_core.storage.base import (
    ByteRequest,
    RangeByteRequest,
    Value,
    bounds_of,
    check_range,
    slice_value,
)
from zarr_core.storage.retry import ShortBodyError, http_status

TAIL_BYTES = 64 << 10
"""Read when a value is opened."""

_VERSIONS = (
    "VersionId",
    "generation",
    "ETag",
    "etag",
    "e_tag",
    "md5Hash",
    "content_md5",
    "Content-MD5",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "updated",
    "modified",
    "mtime",
)
_HEADERS = ("ETag", "Content-MD5", "Last-Modified")


class Part(NamedTuple):
    """Bytes of a value, where they begin, and what was said of the whole."""

    data: bytes
    start: int
    info: dict[str, Any]


class Source(Protocol):
    """What is needed of a store."""

    _is_s3: bool
    _is_http: bool

    def _call(self, doing: str, call: Any) -> Any: ...
    def _full(self, key: str) -> str: ...
    async def _describe(self, fs: Any, path: str) -> dict[str, Any]: ...


def version_of(info: dict[str, Any]) -> str | None:
    """Return what changes in the description of a file when its bytes do."""
    found = [str(info[name]) for name in _VERSIONS if info.get(name)]
    return f"{found[0]}-{info.get('size')}" if found else None


def is_refused(error: BaseException) -> bool:
    """Return whether a condition of a request (If-Match, If-None-Match) was not met."""
    return http_status(error) == 412 or http_status(error.__cause__) == 412


# --- requests to S3 and over HTTP ----------------------------------------------------------------


async def fetch_tail(fs: Any, path: str, *, is_s3: bool) -> Part | None:
    """Return the end of a value, or None where the answer does not say where that begins."""
    part = await fetch_part(fs, path, f"bytes=-{TAIL_BYTES}", None, is_s3=is_s3)
    return part if part.start + len(part.data) == part.info["size"] else None


async def fetch_part(fs: Any, path: str, span: str, etag: str | None, *, is_s3: bool) -> Part:
    """Return part of a value, all of it from servers that ignore ranges.

    `etag` is that of the value as it should still be. If the server compares it, an error for which
    `is_refused` holds is raised.
    """
    # a weak one never matches
    wanted = etag if etag and not etag.startswith("W/") else None
    fetch = _fetch_from_s3 if is_s3 else _fetch_over_http
    data, info, content_range = await fetch(fs, path, span, wanted)
    start, size = 0, len(data)
    if content_range:  # bytes 10-19/100
        first, _, whole = content_range.removeprefix("bytes ").partition("/")
        start = int(first.partition("-")[0])
        size = int(whole) if whole.isdecimal() else -1
    return Part(data, start, {**info, "size": size})


async def _fetch_from_s3(
    fs: Any, path: str, span: str, etag: str | None
) -> tuple[bytes, dict[str, Any], str | None]:
    bucket, name, _ = fs.split_path(path)
    options = {"Bucket": bucket, "Key": name, "Range": span}
    if etag:
        options["IfMatch"] = etag
    response = await fs._call_s3("get_object", **options)
    try:
        data = bytes(await response["Body"].read())
    finally:
        response["Body"].close()
    return data, {"ETag": response.get("ETag")}, response.get("ContentRange")


async def _fetch_over_http(
    fs: Any, path: str, span: str, etag: str | None
) -> tuple[bytes, dict[str, Any], str | None]:
    options = {**fs.kwargs}
    headers = {**options.pop("headers", {}), "Range": span, "Accept-Encoding": "identity"}
    if etag:
        headers["If-Match"] = etag
    session = await fs.set_session()
    async with session.get(fs.encode_url(path), headers=headers, **options) as response:
        data = await response.read()
        fs._raise_not_found_for_status(response, path)
    info = {name: response.headers.get(name) for name in _HEADERS}
    return data, info, response.headers.get("Content-Range")


# --- snapshots -----------------------------------------------------------------------------------


class FsspecValue:
    """A value of a slow file system as it was when it was opened; its end may be here already."""

    def __init__(self, store: Source, key: str, info: dict[str, Any], tail: bytes = b"") -> None:
        self._store, self._key, self._tail = store, key, memoryview(tail)
        self._etag = info.get("ETag")
        self.size: int | None = int(info["size"])
        self.version = version_of(info)

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value as it was when it was opened, or raise `ValueChangedError`."""
        check_range(byte_range)
        size = self.size or 0
        start, end = bounds_of(byte_range, size, repr(self._key))
        first = size - len(self._tail)
        if start >= first or start == end:
            return self._tail[max(0, start - first) : max(0, end - first)]
        path = self._store._full(self._key)
        wanted = RangeByteRequest(start, end)
        try:
            value: Value = self._store._call(
                f"reading {self._key!r}", lambda fs: self._fetch(fs, path, wanted)
            )
        except FileNotFoundError as error:
            raise ValueChangedError(f"{self._key!r} was deleted while it was read") from error
        return value

    async def _fetch(self, fs: Any, path: str, wanted: RangeByteRequest) -> Value:
        store = self._store
        if store._is_s3 or store._is_http:
            data = await self._fetch_part(fs, path, wanted)
        else:
            data = bytes(await fs._cat_file(path, start=wanted.start, end=wanted.end))
            if self.version is not None and self.version != version_of(
                await store._describe(fs, path)
            ):
                raise self._changed()
        if len(data) == self.size:  # the server may have ignored the range
            return slice_value(data, wanted)
        if len(data) != wanted.end - wanted.start:
            raise ShortBodyError(f"{path}: {wanted} gave {len(data)} bytes")
        return data

    async def _fetch_part(self, fs: Any, path: str, wanted: RangeByteRequest) -> bytes:
        span = f"bytes={wanted.start}-{wanted.end - 1}"
        try:
            part = await fetch_part(fs, path, span, self._etag, is_s3=self._store._is_s3)
        except Exception as error:
            if is_refused(error):
                raise self._changed() from error
            raise
        etag = part.info.get("ETag")
        if self._etag and etag and etag != self._etag:
            raise self._changed()
        if part.info["size"] not in (self.size, -1):
            raise self._changed()
        return part.data

    def _changed(self) -> ValueChangedError:
        return ValueChangedError(f"{self._key!r} of {self._store} was replaced while it was read")

    def close(self) -> None:
        """Do nothing: every read is a request of its own."""
