"""Stores over a network: what an operation takes when every request has to wait.

A row names the service, then the client with which zarr_core and zarr-python reach it; tensorstore
has its own. Services are a server on the loopback interface (`servers.py`), moto's S3, and stores
in memory that wait. All have as many requests in flight. Arrays and groups to read are stored once,
by zarr_core, and read by all; the floor is the time that requests must wait for one another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from peers import Layout, Operation, Tensorstore, ZarrCore, ZarrPython, ZarrPythonFused
from rows import Row, SetUp, check, payload
from servers import BUCKET, Server, moto, server

IN_FLIGHT = 256  # zarr_core's default
ARRAYS = 500
REGION = "us-east-1"

payload = cache(payload)  # the large ones take longer than a row


# --- services and clients ------------------------------------------------------------------------


class Service(ABC):
    """A place below which arrays are, as each library reaches it."""

    name: ClassVar[str]

    def wait(self, seconds: float) -> None:
        """Make every request from now on take so long."""

    @abstractmethod
    def load(self, prefix: str, values: Mapping[str, Any]) -> None:
        """Store values below a prefix."""

    @abstractmethod
    def zarr_core(self, prefix: str) -> Any:
        """Return a store of zarr_core."""

    @abstractmethod
    def zarr_python(self, prefix: str) -> Any:
        """Return a store of zarr-python."""

    def tensorstore(self, prefix: str) -> dict[str, Any] | None:
        """Return the specification of a store of tensorstore, if there is one."""
        return None


class Memory(Service):
    """In the memory of this process: zarr-python's waits in its event loop, zarr_core's on threads.

    A listing takes no time in zarr-python's, and as long as a request in zarr_core's.
    """

    name = "LatencyStore"

    def __init__(self) -> None:
        self.seconds = 0.0
        self.values: dict[str, Mapping[str, Any]] = {}

    def wait(self, seconds: float) -> None:
        self.seconds = seconds

    def load(self, prefix: str, values: Mapping[str, Any]) -> None:
        self.values[prefix] = values

    def zarr_core(self, prefix: str) -> Any:
        from zarr_core.storage import LatencyStore, MemoryStore

        waits = lambda: self.seconds  # noqa: E731
        inner = MemoryStore(dict(self.values.get(prefix, {})))
        return LatencyStore(inner, get_latency=waits, set_latency=waits)

    def zarr_python(self, prefix: str) -> Any:
        from zarr.core.buffer.cpu import Buffer
        from zarr.storage import MemoryStore
        from zarr.testing.store import LatencyStore

        values = {k: Buffer.from_bytes(bytes(v)) for k, v in self.values.get(prefix, {}).items()}
        service = self

        class Waiting(LatencyStore):  # type: ignore[misc]
            @property
            def get_latency(self) -> float:
                return service.seconds

            set_latency = get_latency

        return Waiting(MemoryStore(values))


class Served(Service):
    """On our server."""

    @property
    def server(self) -> Server:
        return server()

    def wait(self, seconds: float) -> None:
        self.server.set_latency(seconds)

    def load(self, prefix: str, values: Mapping[str, Any]) -> None:
        self.server.load(prefix, values)


class S3(Served):
    """With S3, through obstore."""

    name = "S3, obstore"

    @property
    def url(self) -> str:
        return self.server.url

    def place(self, prefix: str) -> Any:
        from obstore.store import S3Store

        return S3Store(
            BUCKET,
            prefix=prefix,
            endpoint=self.url,
            region=REGION,
            client_options={"allow_http": True},
            **self.access(),
        )

    def access(self) -> dict[str, Any]:
        return {"skip_signature": True}

    def zarr_core(self, prefix: str) -> Any:
        from zarr_core.storage import ObjectStore

        return ObjectStore(self.place(prefix))

    def zarr_python(self, prefix: str) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self.place(prefix))

    def tensorstore(self, prefix: str) -> dict[str, Any]:
        return {
            "driver": "s3",
            "bucket": BUCKET,
            "path": f"{prefix}/",
            "endpoint": self.url,
            "aws_region": REGION,
            "aws_credentials": {"type": "anonymous"},
        }


class S3fs(S3):
    """With S3, through s3fs."""

    name = "S3, s3fs"

    def options(self) -> dict[str, Any]:
        return {
            "anon": True,
            "client_kwargs": {"endpoint_url": self.url, "region_name": REGION},
            "config_kwargs": {"max_pool_connections": IN_FLIGHT},
        }

    def zarr_core(self, prefix: str) -> Any:
        from zarr_core.storage import FsspecStore

        return FsspecStore.from_url(f"s3://{BUCKET}/{prefix}", storage_options=self.options())

    def zarr_python(self, prefix: str) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(f"s3://{BUCKET}/{prefix}", storage_options=self.options())


class Moto(S3):
    """With moto's S3, which is slow itself, through obstore."""

    name = "moto, obstore"

    def access(self) -> dict[str, Any]:
        return {"access_key_id": "k", "secret_access_key": "s"}

    @property
    def url(self) -> str:
        return moto()

    def wait(self, seconds: float) -> None:
        pass

    def load(self, prefix: str, values: Mapping[str, Any]) -> None:
        import obstore

        place = self.place(prefix)
        for key, value in values.items():
            obstore.put(place, key, bytes(value))


class Http(Served):
    """With plain HTTP, through obstore."""

    name = "HTTP, obstore"

    def base(self, prefix: str) -> str:
        return f"{self.server.url}/{BUCKET}/{prefix}"

    def place(self, prefix: str) -> Any:
        from obstore.store import HTTPStore

        return HTTPStore.from_url(self.base(prefix), client_options={"allow_http": True})

    def zarr_core(self, prefix: str) -> Any:
        from zarr_core.storage import ObjectStore

        return ObjectStore(self.place(prefix))

    def zarr_python(self, prefix: str) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self.place(prefix), read_only=True)

    def tensorstore(self, prefix: str) -> dict[str, Any]:
        return {"driver": "http", "base_url": f"{self.base(prefix)}/"}


async def many_connections(**options: Any) -> Any:
    """Return a session for fsspec with as many connections as requests in flight."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), **options)


class Aiohttp(Http):
    """With plain HTTP, through fsspec and aiohttp."""

    name = "HTTP, fsspec"

    def zarr_core(self, prefix: str) -> Any:
        from zarr_core.storage import FsspecStore

        options = {"get_client": many_connections}
        return FsspecStore.from_url(self.base(prefix), storage_options=options)

    def zarr_python(self, prefix: str) -> Any:
        from zarr.storage import FsspecStore

        options = {"get_client": many_connections, "asynchronous": True}
        return FsspecStore.from_url(self.base(prefix), storage_options=options, read_only=True)


# --- entrants ------------------------------------------------------------------------------------


class RemoteZarrCore(ZarrCore):
    def __init__(self, service: Service) -> None:
        self.service = service

    def open(self, prefix: str) -> Any:
        import zarr_core

        return zarr_core.open_array(self.service.zarr_core(prefix), mode="r", zarr_format=3)

    def new(self, prefix: str, layout: Layout) -> Any:
        self.store = lambda *args: self.service.zarr_core(prefix)  # type: ignore[method-assign]
        return self.create(layout, Path())

    def members(self, prefix: str) -> Operation:
        import zarr_core

        store = self.service.zarr_core(prefix)
        return lambda: list(zarr_core.open_group(store, mode="r", zarr_format=3).members())


class RemoteZarrPython(ZarrPython):
    def __init__(self, service: Service) -> None:
        self.service = service

    def open(self, prefix: str) -> Any:
        import zarr

        return zarr.open_array(self.service.zarr_python(prefix), mode="r", zarr_format=3)

    def new(self, prefix: str, layout: Layout) -> Any:
        self.store = lambda *args: self.service.zarr_python(prefix)  # type: ignore[method-assign]
        return self.create(layout, Path())

    def reader(self, array: Any, selection: Any) -> Operation:
        return many_in_flight(super().reader(array, selection))

    def writer(self, array: Any, selection: Any, value: Any) -> Operation:
        return many_in_flight(super().writer(array, selection, value))

    def members(self, prefix: str) -> Operation:
        import zarr

        store = self.service.zarr_python(prefix)
        return many_in_flight(
            lambda: list(zarr.open_group(store, mode="r", zarr_format=3).members())
        )


class RemoteZarrPythonFused(RemoteZarrPython):
    name = ZarrPythonFused.name
    pipeline = ZarrPythonFused.pipeline


def many_in_flight(operation: Operation) -> Operation:
    """Return an operation that runs with as many requests in flight as zarr_core has."""
    import zarr

    def run() -> Any:
        with zarr.config.set({"async.concurrency": IN_FLIGHT}):
            return operation()

    return run


class RemoteTensorstore(Tensorstore):
    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service

    def make_context(self) -> Any:
        import tensorstore

        limits = ("s3_request_concurrency", "http_request_concurrency")
        return tensorstore.Context(
            {name: {"limit": IN_FLIGHT} for name in limits}
            | {"data_copy_concurrency": {"limit": self.threads}}
        )

    def open(self, prefix: str) -> Any:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": self.service.tensorstore(prefix)}
        return tensorstore.open(spec, context=self.make_context(), read=True).result()

    def new(self, prefix: str, layout: Layout) -> Any:
        self.spec = partial(self.spec_below, prefix)  # type: ignore[method-assign]
        return self.create(layout, Path())

    def spec_below(self, prefix: str, layout: Layout, directory: Path) -> dict[str, Any]:
        return {**super().spec(layout, directory), "kvstore": self.service.tensorstore(prefix)}


Entrant = RemoteZarrCore | RemoteZarrPython | RemoteTensorstore


# --- operations ----------------------------------------------------------------------------------


prefixes = (f"new-{number}" for number in count())


@cache
def stored(service: Service, layout: Layout) -> str:
    """Store an array once per service, and return where."""
    values: dict[str, Any] = {}
    peer = ZarrCore()
    peer.store = lambda *args: values  # type: ignore[method-assign]
    peer.create(layout, Path())[...] = payload(layout)
    prefix = next(prefixes)
    service.load(prefix, values)
    return prefix


@cache
def stored_group(service: Service) -> str:
    import zarr_core

    values: dict[str, Any] = {}
    group = zarr_core.create_group(values)
    for number in range(ARRAYS):
        group.create_array(f"a{number}", shape=(4,), dtype="int32")
    prefix = next(prefixes)
    service.load(prefix, values)
    return prefix


def set_up_read(
    peer: Entrant, seconds: float, layout: Layout, selection: Any, directory: Path
) -> Operation:
    service = peer.service
    service.wait(0)
    array = peer.open(stored(service, layout))
    service.wait(seconds)
    read = peer.reader(array, selection)
    check(read(), payload(layout)[selection])
    return read


def set_up_write(peer: Entrant, seconds: float, layout: Layout, directory: Path) -> Operation:
    service, value = peer.service, payload(layout)
    service.wait(0)
    array = peer.new(next(prefixes), layout)
    write = peer.writer(array, ..., value)
    write()
    check(peer.reader(array, ...)(), value)
    service.wait(seconds)
    return write


def set_up_members(
    peer: RemoteZarrCore | RemoteZarrPython, seconds: float, directory: Path
) -> Operation:
    service = peer.service
    service.wait(0)
    members = peer.members(stored_group(service))
    check(sorted(name for name, _ in members()), sorted(f"a{i}" for i in range(ARRAYS)))
    service.wait(seconds)
    return members


def entrants(service: Service, set_up: Callable[..., Operation], *args: Any) -> dict[str, SetUp]:
    peers: list[Entrant] = [RemoteZarrCore(service), RemoteZarrPython(service)]
    # Members have no chunks. The fused pipeline calls the synchronous methods of stores in memory,
    # one after the other; tensorstore's anonymous requests are refused by moto.
    if set_up is not set_up_members and isinstance(service, Served):
        peers.append(RemoteZarrPythonFused(service))
        if not isinstance(service, Moto):
            peers.append(RemoteTensorstore(service))
    return {peer.name: partial(set_up, peer, *args) for peer in peers}


# --- rows ----------------------------------------------------------------------------------------

CHUNKS_64 = Layout((800, 800), (100, 100), codec="zstd")
CHUNKS_1000 = Layout((1250, 2000), (50, 50), codec="zstd")
# Shards of some megabytes: more than what comes with opening one.
SHARDS = Layout((2048, 2048), (64, 64), codec="zstd", shards=(1024, 1024))
ONE = (slice(64, 128), slice(64, 128))
BAND = (slice(64, 128), slice(None))


def flights(requests: int) -> int:
    return -(-requests // IN_FLIGHT)


def rows(service: Service, ms: int, *, only: str = "") -> list[Row]:
    """Return the rows of one service at one latency: those with a name that begins so."""
    s = ms / 1000
    wanted: list[tuple[str, int, Any, tuple[Any, ...]]] = [
        ("read 64 chunks of 40 kB", 1, set_up_read, (CHUNKS_64, ...)),
        ("read 1,000 chunks of 10 kB", flights(1000), set_up_read, (CHUNKS_1000, ...)),
        # The index of a shard, then what it says.
        ("read one inner chunk of a shard", 2, set_up_read, (SHARDS, ONE)),
        ("read a band through 2 shards", 2, set_up_read, (SHARDS, BAND)),
        ("write 64 chunks of 40 kB", 1, set_up_write, (CHUNKS_64,)),
        ("write 1,000 chunks of 10 kB", flights(1000), set_up_write, (CHUNKS_1000,)),
        # The group, a listing, and a document for each.
        (f"open a group of {ARRAYS}", 2 + flights(ARRAYS), set_up_members, ()),
    ]
    return [
        Row(
            f"{service.name}: {what}, {ms} ms",
            entrants(service, set_up, s, *args),
            known={f"{waits} × {ms} ms =": waits * s} if ms else {},
        )
        for what, waits, set_up, args in wanted
        if what.startswith(only)
    ]


memory, s3, s3fs = Memory(), S3(), S3fs()
ROWS: list[Row] = []
for first in (memory, s3):
    for ms in (1, 20, 50):
        ROWS += rows(first, ms)
# s3fs spends milliseconds on a request: 1,000 take some seconds, and zarr-python 20.
for ms in (1, 20, 50):
    ROWS += [row for row in rows(s3fs, ms) if "1,000" not in row.name and "group" not in row.name]
for plain in (Http(), Aiohttp()):
    ROWS += rows(plain, 20, only="read")
ROWS += rows(Moto(), 0, only="read 64")
