"""A server of objects on the loopback interface that takes its time, and moto's.

    python servers.py        # serves until its standard input ends; prints its address

It speaks as much of S3 (path style) as the libraries that are compared need, reads nothing of
signatures, and answers plain HTTP the same way. Every answer waits for the latency that was set.
It runs in a process of its own, so that what is measured is the client.
"""

import asyncio
import atexit
import hashlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape, unescape

BUCKET = "bucket"
CONTROL = "/-/"
PAGE = 1000
"""Keys of one page of a listing, as in S3."""

# --- the side of whoever measures ----------------------------------------------------------------


class Server:
    """A server in a process of its own, which ends with this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        atexit.register(self.stop)

    def set_latency(self, seconds: float) -> None:
        urllib.request.urlopen(f"{self.url}{CONTROL}{seconds}", timeout=60).close()

    def stop(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


@cache
def server() -> Server:
    """Return the server of this process, started at its first use."""
    return Server()


@cache
def moto() -> str:
    """Return the address of moto's server, started at its first use, with the bucket made."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        raise ImportError("moto's server did not start")
    # Read and forget what it logs, so that it never waits for a reader.
    threading.Thread(target=list, args=(process.stderr,), daemon=True).start()
    url = found[0]
    until = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
            urllib.request.urlopen(request, timeout=60).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return url


# --- the side of the server ----------------------------------------------------------------------


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What goes back."""

    status: int
    body: bytes = b""
    headers: str = ""


class Objects:
    """Buckets, and what is done with them."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, str]] = {}  # with their ETags
        self.latency = 0.0

    def answer(self, asked: Asked) -> Answer:
        bucket, _, key = asked.path.removeprefix("/").partition("/")
        match asked.method:
            case "GET" if asked.path.startswith(CONTROL):
                self.latency = float(key)
                return Answer(200)
            case "GET" | "HEAD" if key:
                return self.get(asked)
            case "GET" if "list-type" in asked.query:
                return self.list(f"/{bucket}/", asked.query)
            case "GET" if "location" in asked.query:
                return xml('<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>')
            case "PUT" if key:
                return self.put(asked)
            case "DELETE" if key:
                self.values.pop(asked.path, None)
                return Answer(204)
            case "POST" if "delete" in asked.query:
                names = re.findall(r"<Key>(.*?)</Key>", asked.body.decode(), re.DOTALL)
                for name in names:
                    self.values.pop(f"/{bucket}/{unescape(name)}", None)
                deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
                return xml(f"<DeleteResult>{deleted}</DeleteResult>")
        return Answer(501 if key else 200)

    def get(self, asked: Asked) -> Answer:
        found = self.values.get(asked.path)
        if found is None:
            return refused(404, "NoSuchKey")
        value, etag = found
        if asked.headers.get("if-match", etag) != etag:
            return refused(412, "PreconditionFailed")
        headers = f"ETag: {etag}\r\nLast-Modified: {MODIFIED}\r\nAccept-Ranges: bytes\r\n"
        span = asked.headers.get("range")
        if span is None:
            return Answer(200, value, headers)
        first, _, last = span.removeprefix("bytes=").partition("-")
        size = len(value)
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start >= size:
            return refused(416, "InvalidRange")
        headers += f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
        return Answer(206, value[start:end], headers)

    def put(self, asked: Asked) -> Answer:
        _, old = self.values.get(asked.path, (b"", None))
        wanted = asked.headers.get("if-match", old)
        if wanted != old or (old and asked.headers.get("if-none-match") == "*"):
            return refused(412, "PreconditionFailed")
        etag = f'"{hashlib.md5(asked.body, usedforsecurity=False).hexdigest()}"'
        self.values[asked.path] = (asked.body, etag)
        return Answer(200, b"", f"ETag: {etag}\r\n")

    def list(self, root: str, query: Mapping[str, str]) -> Answer:
        """Return a page of names, where those with a delimiter after the prefix are folded."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(PAGE, int(query.get("max-keys") or PAGE))
        shown = quote if query.get("encoding-type") == "url" else escape
        after = query.get("continuation-token") or query.get("start-after", "")
        names = {path.removeprefix(root) for path in self.values if path.startswith(root + prefix)}
        if delimiter:
            cuts = {name: name.find(delimiter, len(prefix)) + 1 for name in names}
            names = {name[:cut] if cut else name for name, cut in cuts.items()}
        left = sorted(name for name in names if name > after)
        entries: list[str] = []
        for name in left[:most]:
            if delimiter and name.endswith(delimiter):
                entries.append(f"<CommonPrefixes><Prefix>{shown(name)}</Prefix></CommonPrefixes>")
                continue
            value, etag = self.values[root + name]
            entries.append(
                f"<Contents><Key>{shown(name)}</Key><LastModified>2026-01-01T00:00:00.000Z"
                f"</LastModified><ETag>{escape(etag)}</ETag><Size>{len(value)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        more, token = len(left) > most, escape(left[:most][-1]) if left else ""
        return xml(
            f"<ListBucketResult><Name>{root[1:-1]}</Name><Prefix>{shown(prefix)}</Prefix>"
            f"{'<EncodingType>url</EncodingType>' if shown is quote else ''}"
            f"<KeyCount>{len(entries)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{f'<NextContinuationToken>{token}</NextContinuationToken>' if more else ''}"
            f"{''.join(entries)}</ListBucketResult>"
        )


MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


def xml(text: str) -> Answer:
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Answer(200, document, "Content-Type: application/xml\r\n")


def refused(status: int, code: str) -> Answer:
    return xml(f"<Error><Code>{code}</Code></Error>")._replace(status=status)


class Connection(asyncio.Protocol):
    """One connection: requests are answered in their order."""

    def __init__(self, objects: Objects, loop: asyncio.AbstractEventLoop) -> None:
        self.objects, self.loop = objects, loop
        self.buffer = bytearray()
        self.waiting_for = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= self.waiting_for and self.step():
            pass

    def step(self) -> bool:
        """Take one request out of the buffer; return whether there was a whole one."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size, body = int(headers.get("content-length") or 0), end + 4
        if len(self.buffer) < body + size:
            if headers.get("expect") and not self.waiting_for:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for = body + size
            return False
        content = bytes(self.buffer[body : body + size])
        del self.buffer[: body + size]
        self.waiting_for = 0
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        parts = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True).items()}
        if "aws-chunked" in headers.get("content-encoding", ""):
            content = unchunked(content)
        asked = Asked(method, unquote(path), parts, headers, content)
        answer = self.objects.answer(asked)
        seconds = 0.0 if path.startswith(CONTROL) else self.objects.latency
        send = partial(self.send, answer, method)
        if seconds:
            self.loop.call_later(seconds, send)
        else:
            send()
        return True

    def send(self, answer: Answer, method: str) -> None:
        status, body, headers = answer
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{headers}{length}Server: s\r\n\r\n"
        )
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))


def unchunked(content: bytes) -> bytes:
    """Return the body of an upload that was signed, or followed by a checksum, in pieces."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = content.index(b"\r\n", at)
        size = int(content[at:line].partition(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(content[line + 2 : line + 2 + size])
        at = line + 4 + size


async def serve() -> None:
    loop = asyncio.get_running_loop()
    objects = Objects()
    listening = await loop.create_server(
        lambda: Connection(objects, loop), "127.0.0.1", 0, backlog=2048
    )
    host, port = listening.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def runner() -> Callable[[Any], Any]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    run: Callable[[Any], Any] = uvloop.run
    return run


if __name__ == "__main__":
    runner()(serve())
