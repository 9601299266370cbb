"""Parts of values on S3 and over HTTP: as they were when the value was opened, or are uploaded."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from zarr_core.storage.base import PART_BYTES, Writable
from zarr_core.storage.retry import http_status

_VERSIONS = (
    *("VersionId", "generation", "ETag", "etag", "e_tag", "md5Hash", "content_md5", "Content-MD5"),
    *("LastModified", "last_modified", "Last-Modified", "updated", "modified", "mtime"),
    *("CRC", "sha", "modify", "modificationTime", "created"),
)
"""Under which names file systems say what changes with the bytes of a file; the surest first."""

_HEADERS = ("ETag", "Content-MD5", "Last-Modified")


class Part(NamedTuple):
    """Bytes of a value, where they begin, and what was said of the whole."""

    data: bytes
    start: int
    info: dict[str, Any]


_Answer: TypeAlias = tuple[bytes, dict[str, Any], str | None]
"""What a server sent of a value, what it said of the whole, and of which bytes (Content-Range)."""


def version_of(info: dict[str, Any]) -> str | None:
    """Return what changes in the description of a file when its bytes do."""
    found = [str(info[name]) for name in _VERSIONS if info.get(name)]
    return f"{found[0]}-{info.get('size')}" if found else None


def is_refused(error: BaseException) -> bool:
    """Return whether a condition of a request (If-Match, If-None-Match) was not met."""
    return http_status(error) == 412


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


async def _fetch_from_s3(fs: Any, path: str, span: str, etag: str | None) -> _Answer:
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


async def _fetch_over_http(fs: Any, path: str, span: str, etag: str | None) -> _Answer:
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


class Upload:
    """A value on its way into an object of S3: a multipart upload, or one request if it is small.

    What it begins with is known last, so the first part is kept until then.
    """

    def __init__(self, call: Callable[[Callable[[Any], Any]], Any], path: str) -> None:
        self._call, self._path = call, path
        self._parts: list[dict[str, Any]] = []
        self._first: bytes | None = None
        self._rest = bytearray()
        self._id: str | None = None

    def write(self, data: Writable) -> None:
        """Add bytes; what is long enough for a part is sent."""
        self._rest += data
        while len(self._rest) >= PART_BYTES:
            part, self._rest = bytes(self._rest[:PART_BYTES]), self._rest[PART_BYTES:]
            if self._first is None:
                self._first = part
            else:
                self._send(len(self._parts) + 2, part)

    def complete(self, start: bytes = b"") -> None:
        """Store the value."""
        path = self._path
        if self._first is None:
            data = start + self._rest
            self._call(lambda fs: fs._pipe_file(path, data))
            return
        if self._rest:
            self._send(len(self._parts) + 2, bytes(self._rest))
        self._send(1, start + self._first)
        parts = {"Parts": sorted(self._parts, key=lambda part: part["PartNumber"])}
        self._request("complete_multipart_upload", MultipartUpload=parts)
        self._id = None

    def abort(self) -> None:
        """Give up."""
        if self._id is not None:
            self._request("abort_multipart_upload")
            self._id = None

    def _send(self, number: int, data: bytes) -> None:
        if self._id is None:
            self._id = self._request("create_multipart_upload")["UploadId"]
        answer = self._request("upload_part", PartNumber=number, Body=data)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _request(self, method: str, **options: Any) -> Any:
        def call(fs: Any) -> Any:
            bucket, name, _ = fs.split_path(self._path)
            if self._id is not None:
                options["UploadId"] = self._id
            return fs._call_s3(method, Bucket=bucket, Key=name, **options)

        return self._call(call)
