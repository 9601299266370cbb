"""Stores behind a network: servers on the loopback interface that are busy, broken or lying."""

import itertools
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from running import at_once

import zarr_core
from zarr_core.config import config
from zarr_core.errors import (
    OperationTimeoutError,
    ReadOnlyError,
    StoppedError,
    StoreError,
    ValueChangedError,
)
from zarr_core.storage import (
    FsspecStore,
    LatencyStore,
    MemoryStore,
    ObjectStore,
    OffsetByteRequest,
    PrefixStore,
    RangeByteRequest,
    Request,
    RetryStore,
    Store,
    SuffixByteRequest,
    Writable,
    retry,
)
from zarr_core.storage.retry import NO_RETRIES, RetryPolicy, http_status, is_transient
from zarr_core.threads.calls import Call, _current, timeout
from zarr_core.threads.coroutines import overlap_on, own_loop, run_on

QUICK = RetryPolicy(attempts=4, first_delay=0.001, longest_delay=0.002, total_seconds=10)


# --- a server with faults ------------------------------------------------------------------------


MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
GENERATION = "x-goog-if-generation-match"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    values: ClassVar[dict[str, bytes]]
    faults: ClassVar[list[str]]
    asked: ClassVar[list[str]]
    always: ClassVar[str]
    weak: ClassVar[bool] = False
    conditions: ClassVar[bool] = True
    generations: ClassVar[bool] = False

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        fault = self.faults.pop(0) if self.faults else self.always
        if fault.isdigit():
            self.answer(int(fault), b"go away")
        elif fault == "reset":
            self.close_connection = True
        else:
            self.serve(fault)

    def do_HEAD(self) -> None:
        self.do_GET()

    def serve(self, fault: str) -> None:
        value = self.values.get(self.path)
        if value is None:
            self.answer(404, b"")
            return
        etag = self.etag(value)
        if (wanted := self.headers.get("If-Match")) and (wanted != etag or wanted[0] == "W"):
            self.answer(412, b"")
            return
        if fault == "slow":
            time.sleep(0.2)
        headers = self.described(value)
        span = self.headers.get("Range")
        if span is None or fault == "no ranges":
            self.answer(200, value, headers, cut=fault == "cut")
            return
        first, last = span.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(value) - int(last))
        end = int(last) + 1 if first and last else len(value)
        if start >= len(value):
            self.answer(416, b"")
            return
        part = value[start:end]
        if fault == "short":
            part = part[:-1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(value)}"
        self.answer(206, part, headers, cut=fault == "cut")

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def etag(self, value: bytes) -> str:
        return f'{"W/" if self.weak else ""}"{hash(value) & 0xFFFFFF:x}"'

    def described(self, value: bytes) -> dict[str, str]:
        generation = {"x-goog-generation": str(hash(value) & 0xFFFF)} if self.generations else {}
        return {"ETag": self.etag(value), "Last-Modified": MODIFIED, **generation}

    def refused(self, value: bytes | None) -> bool:
        """Return whether the conditions of a write do not hold."""
        if self.headers.get("If-None-Match") == "*" and value is not None:
            return True
        for name, asked in (("ETag", "If-Match"), ("x-goog-generation", GENERATION)):
            wanted = self.headers.get(asked)
            if wanted and (value is None or self.described(value).get(name) != wanted):
                return not (wanted == "0" and value is None)
        return False

    def do_PUT(self) -> None:
        self.asked.append(f"PUT {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.faults and (fault := self.faults.pop(0)).isdigit():
            self.answer(int(fault), b"")
            return
        if self.conditions and self.refused(self.values.get(self.path)):
            self.answer(412, b"")
            return
        self.values[self.path] = body
        self.answer(200, b"", self.described(body))

    def do_DELETE(self) -> None:
        self.asked.append(f"DELETE {self.path}")
        self.values.pop(self.path, None)
        self.answer(204, b"")

    def do_POST(self) -> None:
        """Delete what S3's DeleteObjects names."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        names = re.findall("<Key>(.*?)</Key>", body)
        for name in names:
            del self.values[f"{self.path.partition('?')[0]}/{name}"]
        deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        """Say nothing of clients that went away."""


class Server:
    def __init__(self) -> None:
        values: dict[str, bytes] = {}
        state = {"values": values, "faults": [], "asked": [], "always": ""}
        self.handler: Any = type("OwnHandler", (Handler,), state)
        self.server = QuietServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        values["/data/a/b"] = bytes(range(100))

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def through_fsspec(server: Server) -> Store:
    pytest.importorskip("aiohttp")
    import fsspec

    fs = fsspec.filesystem("http", skip_instance_cache=True)
    return FsspecStore(fs, path=f"{server.url}/data", retries=QUICK)


def through_obstore(server: Server) -> Store:
    obstore = pytest.importorskip("obstore.store")
    from datetime import timedelta

    backoff = {
        "init_backoff": timedelta(milliseconds=1),
        "max_backoff": timedelta(milliseconds=2),
        "base": 2,
    }
    retry = {"max_retries": 3, "backoff": backoff, "retry_timeout": timedelta(seconds=10)}
    options = {"allow_http": True, "timeout": timedelta(seconds=5)}
    place = obstore.HTTPStore.from_url(
        f"{server.url}/data", client_options=options, retry_config=retry
    )
    return ObjectStore(place)


WAYS: dict[str, Callable[[Server], Store]] = {"fsspec": through_fsspec, "obstore": through_obstore}


@pytest.fixture(params=WAYS)
def remote(request: pytest.FixtureRequest, server: Server) -> Store:
    return WAYS[request.param](server)


def test_reading(remote: Store, server: Server) -> None:
    value = bytes(range(100))
    assert remote.high_latency
    assert remote.get("a/b") == value
    assert remote.get("a/b", RangeByteRequest(10, 20)) == value[10:20]
    assert remote.get("a/b", SuffixByteRequest(10)) == value[-10:]
    assert remote.get("a/b", SuffixByteRequest(1000)) == value
    assert remote.get("a/b", OffsetByteRequest(90)) == value[90:]
    assert remote.get("a/missing") is None
    assert remote.get("a/missing", SuffixByteRequest(5)) is None
    assert remote.exists("a/b")
    assert not remote.exists("a/missing")
    assert remote.getsize("a/b") == 100
    with pytest.raises(OSError):
        remote.get("a/b", RangeByteRequest(50, 200))
    with pytest.raises(OSError):
        remote.get("a/b", RangeByteRequest(200, 300))
    with pytest.raises(OSError):
        remote.get("a/b", OffsetByteRequest(101))
    assert remote.open_value("a/missing") is None


def test_a_file_system_over_http_without_an_event_loop(server: Server) -> None:
    """As fsspec has one in browsers."""
    pytest.importorskip("requests")
    from fsspec.implementations import http_sync

    http_sync.unregister()  # importing it takes the place of the other one
    fs = http_sync.HTTPFileSystem(skip_instance_cache=True)
    remote = FsspecStore(fs, path=f"{server.url}/data", retries=QUICK)
    test_reading(remote, server)
    values: dict[str, Any] = {}
    options: dict[str, Any] = {"shape": (64, 64), "shards": (64, 64), "chunks": (16, 16)}
    zarr_core.create_array(values, dtype="int32", **options)[...] = 7
    server.handler.values.update({f"/data/{key}": value for key, value in values.items()})
    assert (zarr_core.open_array(remote, mode="r", zarr_format=3)[:16, :32] == 7).all()
    for fault in ("500", "403", "reset"):
        server.handler.always = fault
        for call in (remote.get, remote.open_value, remote.exists):
            with pytest.raises(OSError) as caught:
                call("a/b")
            assert not isinstance(caught.value, FileNotFoundError)


def test_keys_are_quoted(remote: Store, server: Server) -> None:
    server.handler.values["/data/a%20b%3Fc%23"] = b"1"
    assert remote.get("a b?c#") == b"1"


ONE_OFF = ["500", "502", "503", "429", "reset", "slow", "cut"]


@pytest.mark.parametrize("fault", ONE_OFF)
@pytest.mark.parametrize("asked", [None, RangeByteRequest(10, 90), SuffixByteRequest(40)])
def test_what_goes_away_is_tried_again(
    remote: Store, server: Server, fault: str, asked: Any
) -> None:
    expected = {None: slice(None), RangeByteRequest(10, 90): slice(10, 90)}
    part = bytes(range(100))[expected.get(asked, slice(60, 100))]
    server.handler.faults[:] = [fault]
    assert remote.get("a/b", asked) == part
    assert server.handler.faults == []
    server.handler.faults[:] = [fault]
    with closing(remote.get_many([Request("a/b", asked)] * 3)) as results:
        assert [(bytes(r.value or b""), r.error) for r in results] == [(part, None)] * 3


@pytest.mark.parametrize("fault", ["500", "503", "403", "401", "reset", "cut"])
def test_what_stays_is_an_error(remote: Store, server: Server, fault: str) -> None:
    server.handler.always = fault
    calls: list[Callable[[], Any]] = [
        lambda: remote.get("a/b"),
        lambda: remote.get("a/b", RangeByteRequest(0, 50)),
        lambda: remote.get("a/missing" if fault != "cut" else "a/b"),
        lambda: remote.open_value("a/b") if fault != "cut" else remote.get("a/b"),
        lambda: remote.exists("a/b") if fault != "cut" else remote.get("a/b"),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert not isinstance(caught.value, FileNotFoundError)
        if fault in ("401", "403"):
            assert isinstance(caught.value, PermissionError)
    with closing(remote.get_many([Request("a/b")])) as results:
        assert [(r.error is not None) for r in results] == [True]


def test_errors_that_stay_are_not_tried_again(server: Server) -> None:
    store = through_fsspec(server)
    server.handler.always = "403"
    with pytest.raises(PermissionError, match="a/b"):
        store.get("a/b")
    assert len(server.handler.asked) == 1
    server.handler.always = "500"
    with pytest.raises(StoreError):
        store.get("a/b")
    assert len(server.handler.asked) == 1 + QUICK.attempts


@pytest.mark.parametrize("asked", [RangeByteRequest(10, 20), SuffixByteRequest(10)])
def test_servers_that_ignore_ranges(server: Server, asked: Any) -> None:
    store = through_fsspec(server)
    server.handler.always = "no ranges"
    value = bytes(range(100))
    assert store.get("a/b", asked) == (value[10:20] if len(asked) == 2 else value[90:])
    assert store.get("a/b", OffsetByteRequest(95)) == value[95:]
    opened = store.open_value("a/b")
    assert opened is not None
    assert opened.read(RangeByteRequest(5, 8)) == value[5:8]


def test_a_body_that_is_shorter_than_asked_is_an_error(remote: Store, server: Server) -> None:
    server.handler.always = "short"
    with pytest.raises(OSError):
        remote.get("a/b", RangeByteRequest(10, 20))


def test_snapshots_notice_changes_without_versions() -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")

    class Bare(memory.MemoryFileSystem):  # type: ignore[misc, name-defined]
        protocol = "bare"

        def info(self, path: str, **options: Any) -> Any:
            return {k: v for k, v in super().info(path, **options).items() if k != "created"}

    store = FsspecStore(Bare(), path="/bare")
    store.set("a", b"1" * 100)
    opened = store.open_value("a")
    assert opened is not None
    assert opened.version is None
    assert opened.read(RangeByteRequest(5, 10)) == b"1" * 5
    store.set("a", b"2" * 200)
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(5, 10))


def test_snapshots_notice_changes(remote: Store, server: Server) -> None:
    server.handler.values["/data/a/b"] = bytes(200_000)
    opened = remote.open_value("a/b")
    assert opened is not None
    assert opened.size == 200_000
    assert opened.version
    assert opened.read(RangeByteRequest(5, 10)) == bytes(5)
    assert opened.read(SuffixByteRequest(7)) == bytes(7)
    assert len(opened.read()) == 200_000
    assert opened.read(RangeByteRequest(5, 5)) == b""
    with pytest.raises(StoreError):
        opened.read(RangeByteRequest(0, 200_001))
    server.handler.values["/data/a/b"] = b"\1" * 200_000
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(5, 10))
    del server.handler.values["/data/a/b"]
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(5, 10))
    opened.close()


def test_an_opened_value_needs_few_requests(server: Server) -> None:
    store = through_obstore(server)
    server.handler.values["/data/a/b"] = bytes(200_000)
    opened = store.open_value("a/b")
    assert opened is not None
    opened.read(SuffixByteRequest(1000))  # the index of a shard
    opened.read(RangeByteRequest(100, 200))
    assert len(server.handler.asked) == 2


def parts_of(remote: Store, server: Server) -> list[str]:
    """Return what is asked for when the end of a value is read, and then its beginning."""
    opened = remote.open_value("a/b")
    assert opened is not None
    assert opened.size == 200_000
    assert opened.read(SuffixByteRequest(60_000)) == bytes(60_000)
    assert opened.read(RangeByteRequest(190_000, 190_010)) == bytes(10)
    assert opened.read(OffsetByteRequest(200_000)) == b""
    assert opened.read(RangeByteRequest(5, 10)) == bytes(5)
    return server.handler.asked


def test_the_end_comes_with_opening(remote: Store, server: Server) -> None:
    server.handler.values["/data/a/b"] = bytes(200_000)
    assert parts_of(remote, server) == [
        "GET /data/a/b bytes=-65536",
        "GET /data/a/b bytes=5-9",
    ]


def test_a_small_value_comes_with_opening(remote: Store, server: Server) -> None:
    opened = remote.open_value("a/b")
    assert opened is not None
    assert opened.read(RangeByteRequest(5, 10)) == bytes(range(5, 10))
    assert opened.read() == bytes(range(100))
    assert opened.version
    assert server.handler.asked == ["GET /data/a/b bytes=-65536"]


def test_weak_etags_are_not_sent_but_compared(remote: Store, server: Server) -> None:
    server.handler.weak = True
    server.handler.values["/data/a/b"] = bytes(200_000)
    assert len(parts_of(remote, server)) == 2
    opened = remote.open_value("a/b")
    assert opened is not None
    server.handler.values["/data/a/b"] = b"\1" * 200_000
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(5, 10))


def test_opening_where_suffixes_are_refused(server: Server) -> None:
    store = through_fsspec(server)
    server.handler.values["/data/a/b"] = bytes(200_000)
    server.handler.faults[:] = ["416"]
    opened = store.open_value("a/b")
    assert opened is not None
    assert opened.read(RangeByteRequest(5, 10)) == bytes(5)
    assert server.handler.asked == [
        "GET /data/a/b bytes=-65536",
        "HEAD /data/a/b",
        "GET /data/a/b bytes=5-9",
    ]
    server.handler.values["/data/a/b"] = b"\1" * 200_000
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(5, 10))


def test_an_inner_chunk_takes_two_requests(remote: Store, server: Server) -> None:
    values: dict[str, Any] = {}
    kwargs: dict[str, Any] = {"shape": (512, 512), "shards": (512, 512), "chunks": (64, 64)}
    written = zarr_core.create_array(values, dtype="int32", compressors=None, **kwargs)
    written[...] = 7
    server.handler.values.update({f"/data/{key}": value for key, value in values.items()})
    array = zarr_core.open_array(remote, mode="r", zarr_format=3)
    server.handler.asked.clear()
    assert (array[:64, :64] == 7).all()
    assert len(server.handler.asked) == 2


def test_requests_overlap(remote: Store, server: Server) -> None:
    barrier = threading.Barrier(8)

    class Gate(dict[str, bytes]):
        def get(self, key: str, default: Any = None) -> Any:
            barrier.wait(timeout=20)
            return super().get(key, default)

    server.handler.values = Gate(server.handler.values)
    with closing(remote.get_many([Request("a/b")] * 16)) as results:
        assert sorted(r.index for r in results if r.value == bytes(range(100))) == list(range(16))


def test_closing_stops_requests(remote: Store, server: Server) -> None:
    with config.set({"io.max_requests": 4}):
        results = remote.get_many(Request("a/b") for _ in range(1000))
        next(results)
        results.close()
    time.sleep(0.05)  # what was sent already arrives
    count = len(server.handler.asked)
    assert count < 100
    time.sleep(0.05)
    assert len(server.handler.asked) == count


def test_writing_over_http(server: Server) -> None:
    http = pytest.importorskip("fsspec.implementations.http").HTTPFileSystem
    if "_pipe_file" not in vars(http):
        pytest.skip("this fsspec cannot write over HTTP")
    store = through_fsspec(server)
    server.handler.faults[:] = ["503"]
    store.set("new", b"12")
    assert server.handler.asked == ["PUT /data/new"] * 2
    assert server.handler.values["/data/new"] == b"12"
    with pytest.raises(ReadOnlyError):
        store.delete("new")


def test_pickling(server: Server) -> None:
    for store in (through_fsspec(server), through_obstore(server)):
        copied = pickle.loads(pickle.dumps(store))
        assert copied == store
        assert copied.get("a/b") == bytes(range(100))
        assert copied.lock_key("x") == store.lock_key("x")
        assert copied.with_read_only(True) != store


def test_an_asynchronous_file_system_is_made_synchronous(server: Server) -> None:
    pytest.importorskip("aiohttp")
    import fsspec

    fs = fsspec.filesystem("http", asynchronous=True, skip_instance_cache=True)
    store = FsspecStore(fs, path=f"{server.url}/data")
    assert store.get("a/b") == bytes(range(100))
    assert not store.fs.asynchronous


# --- S3 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


buckets = itertools.count()


S3_KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}


@pytest.fixture(params=["s3fs", "obstore"])
def bucket(request: pytest.FixtureRequest, s3: str) -> Store:
    import boto3

    name = f"bucket-{next(buckets)}"
    client = boto3.client("s3", endpoint_url=s3, **S3_KEYS)
    client.create_bucket(Bucket=name)
    client.close()
    if request.param == "s3fs":
        pytest.importorskip("s3fs")
        options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": s3}}
        return FsspecStore.from_url(f"s3://{name}/root", storage_options=options)
    obstore = pytest.importorskip("obstore.store")
    place = obstore.S3Store(
        name,
        prefix="root",
        endpoint=s3,
        access_key_id="k",
        secret_access_key="s",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return ObjectStore(place)


def test_s3(bucket: Store) -> None:
    values = {"a/b": b"0123456789", "a/c d/ü": b"2", "ab": b"", "z*[x]": b"3"}
    for result in bucket.set_many(values.items()):
        assert result.error is None
    assert {key: bucket.get(key) for key in values} == values
    assert sorted(bucket.list()) == sorted(values)
    assert sorted(bucket.list_prefix("a")) == ["a/b", "a/c d/ü"]
    assert sorted(bucket.list_dir("")) == ["a", "ab", "z*[x]"]
    assert bucket.get("a/b", RangeByteRequest(2, 4)) == b"23"
    assert bucket.get("a/b", SuffixByteRequest(99)) == b"0123456789"
    assert bucket.get("ab", SuffixByteRequest(5)) == b""
    assert bucket.get("a/b", OffsetByteRequest(8)) == b"89"
    assert bucket.get("a") is None
    assert not bucket.exists("a")
    assert bucket.exists("a/b")
    assert bucket.getsize_prefix("a") == 11
    for byte_range in (RangeByteRequest(5, 11), RangeByteRequest(50, 60)):
        with pytest.raises(OSError):
            bucket.get("a/b", byte_range)
    bucket.set("a/b", b"changed")
    assert bucket.getsize("a/b") == 7
    bucket.delete("ab")
    bucket.delete("ab")
    bucket.delete_dir("a")
    assert list(bucket.list()) == ["z*[x]"]
    assert pickle.loads(pickle.dumps(bucket)).get("z*[x]") == b"3"
    large = bytes(9 << 20)
    bucket.set("large", large)
    assert bucket.get("large") == large
    bucket.clear()
    assert bucket.is_empty()


@pytest.mark.parametrize("reserved", [0, 5])
def test_s3_takes_large_values_in_parts(bucket: Store, s3: str, reserved: int) -> None:
    import boto3

    pieces = [bytes([n]) * (3 << 20) for n in range(8)]
    start = b"start"[:reserved]
    writer = bucket.open_writer("a/b", reserved)
    for piece in pieces:
        writer.write(piece)
    assert bucket.get("a/b") is None
    writer.complete(start)
    assert bucket.get("a/b") == start + b"".join(pieces)
    given_up = bucket.open_writer("a/b", reserved)
    for piece in pieces[::-1]:
        given_up.write(piece)
    given_up.abort()
    assert bucket.get("a/b") == start + b"".join(pieces)
    client = boto3.client("s3", endpoint_url=s3, **S3_KEYS)
    name = bucket.path.split("/")[0] if isinstance(bucket, FsspecStore) else place_of(bucket)
    assert not client.list_multipart_uploads(Bucket=name).get("Uploads")
    client.close()


def place_of(bucket: Any) -> str:
    return str(bucket.store.config["bucket"])


def test_s3_conditions(bucket: Store) -> None:
    assert bucket.set_if_not_exists("a", b"1")
    assert not bucket.set_if_not_exists("a", b"2")
    assert bucket.get("a") == b"1"
    _, version = bucket.get_versioned("a")
    assert bucket.set_if_version("a", b"3", version)
    assert not bucket.set_if_version("a", b"4", version)
    assert bucket.get("a") == b"3"


UNSIGNED: dict[str, Any] = {"client_options": {"allow_http": True}, "skip_signature": True}


def of_a_service(server: Server, service: str) -> ObjectStore[Any]:
    obstore = pytest.importorskip("obstore.store")
    if service == "S3":
        place = obstore.S3Store(
            "data", prefix="root", endpoint=server.url, region="us-east-1", **UNSIGNED
        )
    else:
        import json

        server.handler.generations = True
        account = {"gcs_base_url": server.url, "disable_oauth": True, "client_email": ""}
        key = json.dumps({**account, "private_key": "", "private_key_id": ""})
        place = obstore.GCSStore("data", prefix="root", service_account_key=key, **UNSIGNED)
    return ObjectStore(place)


def check_conditions(store: ObjectStore[Any]) -> None:
    assert store.set_if_not_exists("a", b"1")
    assert not store.set_if_not_exists("a", b"2")
    _, version = store.get_versioned("a")
    assert store.set_if_version("a", b"3", version)
    assert not store.set_if_version("a", b"4", version)
    assert store.get("a") == b"3"


@pytest.mark.parametrize("service", ["S3", "Google"])
def test_conditions_are_compared(server: Server, service: str) -> None:
    store = of_a_service(server, service)
    before = set(server.handler.values)
    assert store.supports_conditional_writes
    assert set(server.handler.values) == before
    assert unquote(server.handler.asked[0]).startswith("PUT /data/root/.zarr_core-")
    check_conditions(store)
    assert sum(".zarr_core-" in unquote(asked) for asked in server.handler.asked) == 1


def test_a_service_that_ignores_conditions(server: Server) -> None:
    server.handler.conditions = False
    store = of_a_service(server, "S3")
    wrapped = PrefixStore(store, "below")
    assert server.handler.asked == []
    assert not wrapped.supports_conditional_writes
    assert not any(".zarr_core-" in key for key in server.handler.values)
    check_conditions(store)
    array = zarr_core.create_array(store, name="x", shape=(8,), chunks=(4,), dtype="int32")
    array[:] = 1
    with pytest.raises(ValueError, match="lock=True needs a store"):
        array.with_config({"lock": True})[0] = 2


def test_what_may_not_be_written_is_not_evidence(server: Server) -> None:
    store = of_a_service(server, "S3")
    server.handler.faults[:] = ["403"]
    assert store.supports_conditional_writes


def test_s3_that_does_not_say_which_condition(server: Server) -> None:
    pytest.importorskip("s3fs")
    options = {"anon": True, "client_kwargs": {"endpoint_url": server.url}}
    store = FsspecStore.from_url("s3://data/root", storage_options=options)
    assert store.set_if_not_exists("a", b"1")
    assert not store.set_if_not_exists("a", b"2")
    assert store.get("a") == b"1"


def test_s3_of_releases_that_read_in_one_request_anyway(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3fs = pytest.importorskip("s3fs")
    read = s3fs.S3FileSystem._cat_file

    async def without_concurrency(
        self: Any, path: str, version_id: Any = None, start: Any = None, end: Any = None
    ) -> bytes:
        return await read(self, path, version_id=version_id, start=start, end=end)  # type: ignore[no-any-return]

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", without_concurrency)
    options = {"anon": True, "client_kwargs": {"endpoint_url": server.url}}
    store = FsspecStore.from_url("s3://data/root", storage_options=options)
    store.set("a", b"1")
    assert store.get("a") == b"1"


def test_connections_to_s3() -> None:
    pytest.importorskip("s3fs")
    store = FsspecStore.from_url("s3://data/root", storage_options={"anon": True})
    assert store.fs.config_kwargs == {"max_pool_connections": 256, "retries": {"max_attempts": 0}}
    own = {"anon": True, "config_kwargs": {"max_pool_connections": 5}}
    assert FsspecStore.from_url("s3://data", storage_options=own).fs.config_kwargs == {
        "max_pool_connections": 5
    }


def test_s3_with_a_lock(bucket: Store) -> None:
    kwargs: dict[str, Any] = {"shape": (8,), "chunks": (2,), "shards": (8,), "dtype": "int32"}
    array = zarr_core.create_array(bucket, **kwargs, config={"lock": True})
    if isinstance(bucket, FsspecStore):
        with pytest.raises(ValueError, match="lock=True needs a store"):
            array[0] = 1
        return

    class Rival(ObjectStore[Any]):
        """Somebody else writes before each first try."""

        times = 0

        def set_if_version(self, key: str, value: Writable, version: str | None) -> bool:
            if self.times % 2 == 0:
                others[4 + self.times // 2] = 7
            self.times += 1
            return super().set_if_version(key, value, version)

        def lock_key(self, key: str) -> Any:
            return ("elsewhere", key)

    others = zarr_core.open_array(bucket, mode="r+")
    rival = zarr_core.open_array(Rival(bucket.store), mode="r+", config={"lock": True})  # type: ignore[attr-defined]
    for at in range(4):
        rival[at] = 1
    assert array[:].tolist() == [1, 1, 1, 1, 7, 7, 7, 7]


def test_s3_snapshots(bucket: Store) -> None:
    bucket.set("a", bytes(200_000))
    opened = bucket.open_value("a")
    assert opened is not None
    assert opened.read(RangeByteRequest(0, 5)) == bytes(5)
    bucket.set("a", b"\1" * 200_000)
    with pytest.raises(ValueChangedError):
        opened.read(RangeByteRequest(0, 5))


def test_s3_without_a_bucket_is_an_error(bucket: Store, s3: str) -> None:
    missing: Store
    if isinstance(bucket, FsspecStore):
        options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": s3}}
        missing = FsspecStore.from_url("s3://no-such-bucket/x", storage_options=options)
    else:
        from obstore.store import S3Store

        missing = ObjectStore(
            S3Store("no-such-bucket", endpoint=s3, region="us-east-1", **UNSIGNED)
        )
    with pytest.raises(OSError):
        missing.set("a", b"1")
    with pytest.raises(OSError):
        missing.set_if_not_exists("a", b"1")


# --- trying again --------------------------------------------------------------------------------


class Flaky(MemoryStore):
    """Fails in the way and as often as told, before or after it has done what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Exception] = []
        self.after: list[Exception] = []

    def get(self, key: str, byte_range: Any = None) -> Any:
        if self.before:
            raise self.before.pop(0)
        return super().get(key, byte_range)

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if self.after:
            raise self.after.pop(0)

    def set_if_version(self, key: str, value: Any, version: str | None) -> bool:
        stored = super().set_if_version(key, value, version)
        if self.after:
            raise self.after.pop(0)
        return stored


class HTTPError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ReadTimeoutError(Exception):
    """Named as urllib3's."""


TRANSIENT = [
    ConnectionResetError(),
    TimeoutError(),
    HTTPError(503),
    HTTPError(429),
    ReadTimeoutError(),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_retry_store(error: Exception) -> None:
    flaky = Flaky()
    store = RetryStore(flaky, QUICK)
    flaky.after = [error, error]
    store.set("a", b"1")
    flaky.before = [error] * 3
    assert store.get("a") == b"1"
    flaky.before = [error] * 3
    with closing(store.get_many([Request("a"), Request("b")])) as results:
        assert sorted((r.index, r.value, r.error) for r in results) == [
            (0, b"1", None),
            (1, None, None),
        ]
    flaky.before = [error] * 4
    with pytest.raises(type(error)):
        store.get("a")
    flaky.before = [error]
    with pytest.raises(type(error)):
        RetryStore(flaky, NO_RETRIES).get("a")


@pytest.mark.parametrize(
    "error", [PermissionError(), HTTPError(403), HTTPError(404), FileNotFoundError(), OSError(5)]
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    flaky = Flaky()
    flaky.before = [error, HTTPError(503)]
    with pytest.raises(type(error)):
        RetryStore(flaky, QUICK).get("a")
    assert len(flaky.before) == 1


def test_a_conditional_write_whose_answer_was_lost() -> None:
    flaky = Flaky()
    store = RetryStore(flaky, QUICK)
    flaky.after = [ConnectionResetError()]
    assert store.set_if_not_exists("a", b"mine")
    assert not store.set_if_not_exists("a", b"other")
    flaky.after = [ConnectionResetError()]
    assert not store.set_if_not_exists("a", b"other")
    assert store.get("a") == b"mine"


def test_trying_again_ends_in_time() -> None:
    policy = RetryPolicy(attempts=1000, first_delay=0.01, longest_delay=0.01, total_seconds=0.1)
    delays = list(itertools.islice(policy.delays(), 50))
    assert all(0.005 <= delay <= 0.01 for delay in delays)
    start = time.monotonic()
    assert len([time.sleep(delay) for delay in policy.delays()]) < 100  # type: ignore[func-returns-value]
    assert time.monotonic() - start < 60


def test_who_gives_up_says_how_often_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry, "_sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def fail() -> None:
        now[0] += 3
        raise HTTPError(503)

    with pytest.raises(HTTPError) as caught:
        RetryPolicy(attempts=100).run(fail)
    assert 9 <= now[0] <= 16  # no try begins after 10 s
    (note,) = caught.value.__notes__
    assert re.search(r"tried [3-5] times; .*io\.retry_seconds", note)
    with config.set({"io.retry_seconds": 100}), pytest.raises(HTTPError) as caught:
        RetryPolicy(attempts=100).run(fail)
    assert now[0] > 100
    with pytest.raises(HTTPError) as caught:
        NO_RETRIES.run(fail)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("protocol", ["http", "s3"])
def test_a_server_that_stays_busy_is_asked_six_times(server: Server, protocol: str) -> None:
    pytest.importorskip("aiohttp")
    if protocol == "s3":
        pytest.importorskip("s3fs")
        options = {
            "endpoint_url": server.url,
            "key": "k",
            "secret": "s",
            "skip_instance_cache": True,
        }
        store = FsspecStore.from_url("s3://data", options)
    else:
        store = FsspecStore.from_url(f"{server.url}/data")
    store.retries = RetryPolicy(first_delay=0.001)
    server.handler.always = "503"
    with pytest.raises((StoreError, OSError)) as caught:
        store.get("a/b")
    assert len(server.handler.asked) == 6
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert re.search(r"tried 6 times; .*io\.retry_seconds", said)


@pytest.mark.parametrize("source", ["pickled", "own", "own, off"])
def test_one_layer_tries_again_on_s3(server: Server, source: str) -> None:
    s3fs = pytest.importorskip("s3fs")
    options: dict[str, Any] = {
        "endpoint_url": server.url,
        "key": "k",
        "secret": "s",
        "skip_instance_cache": True,
    }
    off = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    if source == "pickled":
        store = pickle.loads(pickle.dumps(FsspecStore.from_url("s3://data", options)))
    else:
        fs = s3fs.S3FileSystem(**options, **(off if source == "own, off" else {}))
        store = FsspecStore(fs, path="data")
    assert (store.retries == NO_RETRIES) is (source == "own")
    assert store.fs.retries == (5 if source == "own" else 1)
    if store.retries != NO_RETRIES:
        store.retries = RetryPolicy(first_delay=0.001)
    server.handler.always = "503"
    with pytest.raises((StoreError, OSError)):
        store.get("a/b")
    assert len(server.handler.asked) == (5 if source == "own" else 6)

    boto = type("ClientError", (Exception,), {})()
    boto.response = {"ResponseMetadata": {"HTTPStatusCode": 503}}
    requests = type("HTTPError", (Exception,), {})()
    requests.response = type("Response", (), {"status_code": 404})()
    assert [http_status(e) for e in (boto, requests, HTTPError(429), ValueError(), None)] == [
        503,
        404,
        429,
        None,
        None,
    ]
    assert is_transient(boto)
    assert not is_transient(requests)
    assert not is_transient(None)


# --- event loops of others -----------------------------------------------------------------------


async def echo(item: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    if isinstance(item, Exception):
        raise item
    return item


def test_one_coroutine() -> None:
    assert run_on(own_loop(), lambda: echo(3)) == 3
    with pytest.raises(KeyError):
        run_on(own_loop(), lambda: echo(KeyError("x")))


def test_many_coroutines() -> None:
    error = KeyError("x")
    found = {i: e or v for i, v, e in overlap_on(own_loop(), echo, iter([1, 2, error, 4]))}
    assert found == {0: 1, 1: 2, 2: error, 3: 4}
    assert list(overlap_on(own_loop(), echo, [])) == []


def test_the_budget_is_kept_and_given_back() -> None:
    import asyncio

    from zarr_core.threads import pool

    running = most = 0

    async def count(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return item

    with config.set({"io.max_requests": 3, "io.max_bytes": 250}):
        answers = overlap_on(own_loop(), count, range(20), size_of=lambda item: 100)
        assert sorted(value for _, value, _ in answers if value is not None) == list(range(20))
        assert most == 2  # as two of 100 bytes fit
        answers = overlap_on(own_loop(), count, range(20))
        next(answers)
        answers.close()
        assert most <= 3
    assert not [size for size in pool._process.sizes.values() if size == 100]
    assert running == 0


def test_closing_cancels_reads_and_waits_for_writes() -> None:
    import asyncio

    ended: list[str] = []

    async def slow(item: str) -> str:
        if item == "first":
            return item
        try:
            await asyncio.sleep(0.2)
            ended.append(item)
        except asyncio.CancelledError:
            ended.append(f"{item} cancelled")
            raise
        return item

    for cancel, expected in ((True, "second cancelled"), (False, "second")):
        ended.clear()
        answers = overlap_on(own_loop(), slow, ["first", "second"], cancel=cancel)
        assert next(answers)[1] == "first"
        answers.close()
        assert ended == [expected]


def test_calls_that_should_end_do() -> None:
    import asyncio

    begun: list[int] = []

    async def slow(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(60)

    with timeout(0.05), pytest.raises(OperationTimeoutError):
        list(overlap_on(own_loop(), slow, range(3)))
    count = len(begun)
    call = Call()
    call.stop()
    token = _current.set(call)
    try:
        with pytest.raises(StoppedError):
            list(overlap_on(own_loop(), slow, range(3)))
    finally:
        _current.reset(token)
    assert len(begun) == count


def test_context_variables_reach_coroutines() -> None:
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def read(item: Any = None) -> int:
        return variable.get()

    variable.set(5)
    assert run_on(own_loop(), read) == 5
    assert [value for _, value, _ in overlap_on(own_loop(), read, [1])] == [5]


def test_budgets_of_slow_stores_are_shared() -> None:
    running = most = 0
    lock = threading.Lock()

    def latency() -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return 0.0

    inner = MemoryStore({f"k{i}": b"1" for i in range(40)})
    store = PrefixStore(LatencyStore(inner, get_latency=latency), "")

    def read() -> None:
        with closing(store.get_many(Request(f"k{i}") for i in range(40))) as results:
            assert all(r.value == b"1" for r in results)

    # `config.set` without `with` is for all threads
    config.set({"io.max_requests": 4})
    try:
        at_once(*[read] * 3)
    finally:
        config.reset()
    assert 2 <= most <= 4 + 3  # each caller may always make one request of its own


def test_a_file_where_a_group_could_be_is_no_node(tmp_path: Path) -> None:
    obstore = pytest.importorskip("obstore.store")
    store = ObjectStore(obstore.LocalStore(tmp_path))
    group = zarr_core.create_group(store)
    group.create_array("a", shape=3, dtype="i1")
    (tmp_path / "foreign.txt").write_text("foreign")
    assert [path for path, _ in group.members(None)] == ["a"]
    assert "foreign.txt" not in group
    assert not store.exists("foreign.txt/zarr.json")
    for call in (store.get, store.getsize, store.open_value):
        with pytest.raises(NotADirectoryError, match="foreign"):  # for a chunk it is an error
            call("foreign.txt/0")
    (result,) = store.get_many([Request("foreign.txt/0")])
    assert isinstance(result.error, NotADirectoryError)


def test_links_of_a_page_that_are_no_keys(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    links = ["/", "../", "./", "#", "#usage", "?sort=name", "a/", "a", "./d", "d#part", ".zgroup"]
    (tmp_path / "group").mkdir()
    page = "".join(f'<a href="{link}">{link}</a>' for link in links)
    (tmp_path / "group" / "index.html").write_text(f"<html>{page}</html>")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    make = partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            store = FsspecStore.from_url(f"http://127.0.0.1:{server.server_port}/group")
            assert sorted(store.list_dir("")) == [".zgroup", "a", "d"]
        finally:
            server.shutdown()
            thread.join()
