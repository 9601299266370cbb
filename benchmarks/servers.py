"""A server of objects on the loopback interface that takes its time, and moto's.

    python servers.py        # serves until its standard input ends; prints its address

It speaks as much of S3 (path style) as the libraries that are compared need, reads nothing of
signatures, and answers plain HTTP the same way. Every answer waits for the latency that was set.
It runs in a process of its own, so that what is measured is the client.
"""

import asyncio
import atexit
import hashlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape, unescape

BUCKET = "bucket"
CONTROL = "/-/"
PAGE = 1000
"""Keys of one page of a listing, as in S3."""

REASONS = {
    100: "Continue",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    404: "Not Found",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    501: "Not Implemented",
}


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

    def ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{CONTROL}{what}", timeout=60) as answer:
            return json.loads(answer.read())

    def set_latency(self, seconds: float) -> None:
        self.ask(f"latency?seconds={seconds}")

    def requests(self) -> int:
        """Return how many requests there were since this was last asked."""
        return int(self.ask("requests"))

    def load(self, prefix: str, values: Mapping[str, Any]) -> None:
        """Store values below a prefix of the bucket."""
        for key, value in values.items():
            url = f"{self.url}/{BUCKET}/{prefix}/{quote(key)}"
            request = urllib.request.Request(url, data=bytes(value), method="PUT")
            urllib.request.urlopen(request, timeout=60).close()

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
    drain(process)
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


def drain(process: Any) -> None:
    """Read and forget what a process logs, so that it never waits for a reader."""
    import threading

    threading.Thread(target=lambda: list(process.stderr), daemon=True).start()


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
        self.names: list[str] | None = None  # sorted
        self.latency = 0.0
        self.requests = 0

    def answer(self, asked: Asked) -> Answer:
        bucket, _, key = asked.path.removeprefix("/").partition("/")
        if asked.path.startswith(CONTROL):
            return self.control(key, asked.query)
        self.requests += 1
        if not key:
            return self.of_bucket(bucket, asked)
        match asked.method:
            case "GET" | "HEAD":
                return self.get(asked)
            case "PUT":
                return self.put(asked)
            case "DELETE":
                self.delete(asked.path)
                return Answer(204)
        return Answer(501)

    def control(self, what: str, query: Mapping[str, str]) -> Answer:
        count = self.requests
        if what == "latency":
            self.latency = float(query["seconds"])
        else:
            self.requests = 0
        return Answer(200, json.dumps(count).encode())

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
        old = self.values.get(asked.path)
        if old is None:
            self.names = None
        wanted = asked.headers.get("if-match")
        if (old is not None and asked.headers.get("if-none-match") == "*") or (
            wanted is not None and (old is None or old[1] != wanted)
        ):
            return refused(412, "PreconditionFailed")
        etag = f'"{hashlib.md5(asked.body, usedforsecurity=False).hexdigest()}"'
        self.values[asked.path] = (asked.body, etag)
        return Answer(200, b"", f"ETag: {etag}\r\n")

    def delete(self, path: str) -> None:
        if self.values.pop(path, None) is not None:
            self.names = None

    def of_bucket(self, bucket: str, asked: Asked) -> Answer:
        if asked.method == "GET" and "location" in asked.query:
            return xml('<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>')
        if asked.method == "GET" and "list-type" in asked.query:
            return self.list(bucket, asked.query)
        if asked.method == "POST" and "delete" in asked.query:
            names = re.findall(r"<Key>(.*?)</Key>", asked.body.decode(), re.DOTALL)
            for name in names:
                self.delete(f"/{bucket}/{unescape(name)}")
            deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            return xml(f"<DeleteResult>{deleted}</DeleteResult>")
        return Answer(200)

    def list(self, bucket: str, query: Mapping[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(PAGE, int(query.get("max-keys") or PAGE))
        shown = quote if query.get("encoding-type") == "url" else escape
        after = query.get("continuation-token") or query.get("start-after", "")
        entries: list[str] = []
        last = token = ""
        for name, folded in self.walk(f"/{bucket}/", prefix, delimiter, after):
            if len(entries) == most:
                token = last
                break
            last = name
            if folded:
                entries.append(f"<CommonPrefixes><Prefix>{shown(name)}</Prefix></CommonPrefixes>")
                continue
            value, etag = self.values[f"/{bucket}/{name}"]
            entries.append(
                f"<Contents><Key>{shown(name)}</Key><LastModified>2026-01-01T00:00:00.000Z"
                f"</LastModified><ETag>{escape(etag)}</ETag><Size>{len(value)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        encoding = "<EncodingType>url</EncodingType>" if shown is quote else ""
        return xml(
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{shown(prefix)}</Prefix>{encoding}"
            f"<KeyCount>{len(entries)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{''.join(entries)}"
            "</ListBucketResult>"
        )

    def walk(
        self, root: str, prefix: str, delimiter: str, after: str
    ) -> Iterator[tuple[str, bool]]:
        """Yield names after one, in order, and whether each stands for all that begin so."""
        if self.names is None:
            self.names = sorted(self.values)
        names, start = self.names, root + prefix
        # what a folded name stands for is before the same name with the last character
        at = bisect_left(names, max(start, root + after + ("\U0010ffff" if after else "")))
        if after and not after.endswith(delimiter or "\0"):
            at = bisect_left(names, max(start, root + after + "\0"))
        while at < len(names) and names[at].startswith(start):
            name = names[at]
            cut = name.find(delimiter, len(start)) if delimiter else -1
            if cut < 0:
                yield name[len(root) :], False
                at += 1
            else:
                yield name[len(root) : cut + 1], True
                at = bisect_left(names, name[: cut + 1] + "\U0010ffff", at)


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
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{headers}{length}Server: s\r\n\r\n"
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
