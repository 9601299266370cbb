"""Stores that take their time: in memory, S3 and HTTP, as the libraries reach them.

A name says the service, then the client of zarr_core and zarr-python; tensorstore has its own. All
have the same number of requests in flight. A prefix is the place of one array or group.
"""

from collections.abc import Callable, Mapping
from typing import Any

from servers import BUCKET, moto, server

IN_FLIGHT = 256  # zarr_core's default
REGION = "us-east-1"

VALUES: dict[str, dict[str, Any]] = {}
"""What is in the memory of this process before a "LatencyStore" is made, by prefix."""

latency = 0.0


def wait(where: str, seconds: float) -> None:
    """Make every request from now on take so long; moto is slow by itself."""
    global latency  # noqa: PLW0603
    latency = seconds
    if where.startswith(("S3", "HTTP")):
        server().set_latency(seconds)


def memory(storage: Any, prefix: str) -> Any:
    """Return a store that waits: zarr-python's in its event loop, zarr_core's on threads.

    A listing takes no time in zarr-python's, and as long as a request in zarr_core's.
    """
    values: Mapping[str, Any] = VALUES.get(prefix, {})
    slow: Any = storage
    if storage.__name__ == "zarr.storage":
        from zarr.core.buffer.cpu import Buffer
        from zarr.testing import store as testing

        slow = testing

        values = {k: Buffer.from_bytes(bytes(v)) for k, v in values.items()}
    store = storage.MemoryStore(dict(values))
    return slow.LatencyStore(store, get_latency=latency, set_latency=latency)


def s3(url: Callable[[], str], prefix: str, **access: Any) -> Any:
    from obstore.store import S3Store

    options: Any = {"endpoint": url(), "region": REGION, "client_options": {"allow_http": True}}
    return S3Store(BUCKET, prefix=prefix, **options, **access)


def our_url() -> str:
    return server().url


def http_url(prefix: str) -> str:
    return f"{our_url()}/{BUCKET}/{prefix}"


def s3fs(storage: Any, prefix: str) -> Any:
    options = {
        "anon": True,
        "client_kwargs": {"endpoint_url": our_url(), "region_name": REGION},
        "config_kwargs": {"max_pool_connections": IN_FLIGHT},
    }
    return storage.FsspecStore.from_url(f"s3://{BUCKET}/{prefix}", storage_options=options)


def http(storage: Any, prefix: str) -> Any:
    from obstore.store import HTTPStore

    place = HTTPStore.from_url(http_url(prefix), client_options={"allow_http": True})
    return storage.ObjectStore(place, read_only=True)


async def many_connections(**options: Any) -> Any:
    """Return a session for fsspec with as many connections as requests in flight."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), **options)


def http_fsspec(storage: Any, prefix: str) -> Any:
    options: dict[str, Any] = {"get_client": many_connections}
    if storage.__name__ == "zarr.storage":
        options["asynchronous"] = True
    make = storage.FsspecStore.from_url
    return make(http_url(prefix), storage_options=options, read_only=True)


STORES: dict[str, Callable[[Any, str], Any]] = {
    "LatencyStore": memory,
    "S3, obstore": lambda s, p: s.ObjectStore(s3(our_url, p, skip_signature=True)),
    "S3, s3fs": s3fs,
    "HTTP, obstore": http,
    "HTTP, fsspec": http_fsspec,
    "moto, obstore": lambda s, p: s.ObjectStore(
        s3(moto, p, access_key_id="k", secret_access_key="s")
    ),
}
"""By name, a function of a library's module of stores and a prefix."""


def s3_spec(prefix: str) -> dict[str, Any]:
    return {
        "driver": "s3",
        "bucket": BUCKET,
        "path": f"{prefix}/",
        "endpoint": our_url(),
        "aws_region": REGION,
        "aws_credentials": {"type": "anonymous"},
    }


def http_spec(prefix: str) -> dict[str, Any]:
    return {"driver": "http", "base_url": f"{http_url(prefix)}/"}


# moto refuses tensorstore's anonymous requests.
SPECS: dict[str, Callable[[str], dict[str, Any]]] = {
    **dict.fromkeys(("S3, obstore", "S3, s3fs"), s3_spec),
    **dict.fromkeys(("HTTP, obstore", "HTTP, fsspec"), http_spec),
}
"""What tensorstore calls a store."""
