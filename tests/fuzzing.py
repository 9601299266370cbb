"""What reads bytes that somebody else wrote, fed with any bytes: a result, or an error that is promised.

`test_fuzzing.py` tries what is kept in `corpus/`, and mutations of it, in seconds. For a longer search,
guided by which lines are reached:

    python tests/fuzzing.py documents -max_total_time=600    (needs the package `atheris`)

It adds what reaches something new to a directory of its own, and leaves the input of a failure in a
file `crash-...`, which belongs into `corpus/` once it is mended.
"""

import io
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import atheris

    sys.path.insert(0, str(Path(__file__).parent.parent))
    with atheris.instrument_imports(include=["zarr_core"]):
        import zarr_core as zarr
else:
    import zarr_core as zarr

import contextlib

import numcodecs
import numpy as np

from zarr_core import codecs
from zarr_core.errors import BaseZarrError, ChunkDecodeError, MemoryLimitError, StoreError
from zarr_core.storage import (
    FsspecStore,
    MemoryStore,
    OffsetByteRequest,
    RangeByteRequest,
    RetryPolicy,
    SuffixByteRequest,
    ZipStore,
)

CORPUS = Path(__file__).parent / "corpus"

LIMITS = {"memory.max_bytes": 1 << 24, "memory.max_variable_chunk_bytes": 1 << 22}
"""So that what is large is refused, and searching goes on quickly."""

SEPARATOR = b"\n\n"
"""Stands between the documents of one input."""


# --- documents -------------------------------------------------------------------------------------

NAMES = ("zarr.json", "a/zarr.json", ".zgroup", ".zattrs", ".zmetadata", "a/.zarray", "a/.zattrs")


def documents(data: bytes) -> None:
    """Open a group and an array whose documents are anything, look at all of them, and change them."""
    store = MemoryStore(dict(zip(NAMES, data.split(SEPARATOR), strict=False)))
    for use in (_use_group, _use_array):
        for zarr_format in (2, 3, None):
            with contextlib.suppress(BaseZarrError, NotImplementedError):
                use(store, zarr_format)


def _use_group(store: Any, zarr_format: Any) -> None:
    group = zarr.open_group(store, mode="r+", zarr_format=zarr_format)
    repr(group.metadata), group.attrs.asdict(), str(group.info), group.metadata.to_dict()
    str(group.tree()), group.nmembers(None)
    for _, member in group.members(None):
        repr(member.metadata), member.attrs.asdict()
    group.attrs["new"] = 1
    del group.attrs["new"]


def _use_array(store: Any, zarr_format: Any) -> None:
    array = zarr.open_array(store, path="a", mode="r+", zarr_format=zarr_format)
    repr(array.metadata), array.attrs.asdict(), str(array.info), array.metadata.to_dict()
    array.attrs["new"] = 1
    repr((array.dtype, array.fill_value, array.nchunks, array.cdata_shape))
    repr((array.filters, array.serializer, array.compressors, array.chunks, array.shards))
    if array.size:
        first = array[(0,) * array.ndim]
        array[(-1,) * array.ndim]
        array[(0,) * array.ndim] = first


# --- chunks and shards -----------------------------------------------------------------------------


def _array(dtype: Any = "i4", fill: Any = 0, **options: Any) -> zarr.Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.create_array(
            {}, shape=(40,), chunks=(10,), dtype=dtype, fill_value=fill, **options
        )


@cache
def _chunk_arrays() -> tuple[zarr.Array, ...]:
    v2: dict[str, Any] = {"zarr_format": 2, "compressors": None}
    objects: list[Any] = [
        numcodecs.JSON(),
        numcodecs.VLenArray("i4"),
        numcodecs.Categorize([], object),
    ]
    with_objects = [_array(object, None, filters=[codec], **v2) for codec in objects[:2]]
    return (
        _array(compressors=None),
        _array(compressors=codecs.ZstdCodec()),
        _array(compressors=codecs.ZstdCodec(checksum=True)),
        _array(compressors=codecs.GzipCodec()),
        _array(compressors=codecs.BloscCodec()),
        _array(compressors=codecs.Crc32cCodec()),
        _array(compressors=[codecs.GzipCodec(), codecs.ZstdCodec()]),
        _array(str, "", compressors=None),
        _array(str, "", compressors=codecs.ZstdCodec()),
        _array("bytes", b"", compressors=None),
        _array("bool", False, compressors=None, serializer={"name": "packbits"}),
        *(
            _array(filters=[filter], **v2)
            for filter in (
                numcodecs.Delta("i4"),
                numcodecs.Zlib(),
                numcodecs.LZ4(),
                numcodecs.BZ2(),
                numcodecs.LZMA(),
                numcodecs.Shuffle(4),
                numcodecs.Blosc(),
                numcodecs.Zstd(),
                numcodecs.GZip(),
                numcodecs.CRC32(),
                numcodecs.Adler32(),
                numcodecs.Fletcher32(),
            )
        ),
        *with_objects,
    )


def chunks(data: bytes) -> None:
    """Read a chunk that is anything; the first byte says through which codecs."""
    arrays = _chunk_arrays()
    array = arrays[data[0] % len(arrays)] if data else arrays[0]
    _read(array, data[1:])


@cache
def _shard_arrays() -> tuple[zarr.Array, ...]:
    bare = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = codecs.ShardingCodec(chunk_shape=(5,), codecs=[bare])

    def sharded(**options: Any) -> zarr.Array:
        codec = codecs.ShardingCodec(chunk_shape=(5,), **options)
        return _array(serializer=codec, compressors=None)

    return (
        sharded(codecs=[bare]),
        sharded(codecs=[bare], index_codecs=[bare]),
        sharded(codecs=[bare], index_codecs=[bare], index_location="start"),
        sharded(codecs=[bare, {"name": "zstd"}], index_codecs=[bare]),
        _array(
            serializer=codecs.ShardingCodec(
                chunk_shape=(5,), codecs=[inner.to_dict()], index_codecs=[bare]
            ),
            compressors=None,
        ),
        _array(
            serializer=codecs.ShardingCodec(chunk_shape=(5,), codecs=[bare]), compressors="zstd"
        ),
    )


def shards(data: bytes) -> None:
    """Read and change a shard that is anything; the first byte says of which kind."""
    arrays = _shard_arrays()
    array = arrays[data[0] % len(arrays)] if data else arrays[0]
    _read(array, data[1:])
    for change in (slice(2, 3), slice(0, 7)):
        _store(array, data[1:])
        try:
            array[change] = 5
        except (ChunkDecodeError, MemoryLimitError):
            continue
        assert np.all(array[change] == 5)


def _store(array: zarr.Array, data: bytes) -> None:
    for key in ("c/0", "0"):
        array.store.set(key, data)


def _read(array: zarr.Array, data: bytes) -> None:
    for selection in (slice(0, 10), slice(2, 7), [8, 3], slice(None)):
        _store(array, data)
        try:
            found = array.oindex[selection]
        except (ChunkDecodeError, MemoryLimitError):
            continue
        assert found.dtype == array.dtype


# --- zip files -------------------------------------------------------------------------------------


def archives(data: bytes) -> None:
    """Read, and then change, a zip file that is anything."""
    for change in (False, True):
        file = io.BytesIO(data)
        try:
            store = ZipStore(file, mode="a" if change else "r")
            keys = list(store.list())[:20]
        except StoreError:
            continue
        ranges = (None, RangeByteRequest(0, 3), OffsetByteRequest(2), SuffixByteRequest(5))
        for key in keys:
            for byte_range in ranges:
                try:
                    value = store.get(key, byte_range)
                except (StoreError, ValueError):
                    continue
                assert value is not None
                if byte_range is None:
                    assert len(value) == store.getsize(key)
        if change:
            store.set("new", b"value")
            try:
                store.close()
            except StoreError:
                continue
            assert ZipStore(io.BytesIO(file.getvalue())).get("new") == b"value"


# --- answers over HTTP -----------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    """Sends what it was told to, whatever the request; then hangs up."""

    answer = b""

    def handle_one_request(self) -> None:
        line = self.rfile.readline(65537)
        while self.rfile.readline(65537) not in (b"\r\n", b""):
            pass
        self.close_connection = True
        if line:
            self.wfile.write(type(self).answer)


@cache
def _server() -> FsspecStore:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/data"
    store = FsspecStore.from_url(url)
    return FsspecStore(store.fs, path=store.path or url, retries=RetryPolicy(attempts=1))


def answers(data: bytes) -> None:
    """Ask a server that answers anything."""
    store = _server()
    _Answers.answer = data
    requests: list[Callable[[], Any]] = [
        lambda: store.get("a/zarr.json"),
        lambda: store.get("a", RangeByteRequest(1, 4)),
        lambda: store.get("a", SuffixByteRequest(3)),
        lambda: store.getsize("a"),
        lambda: store.open_value("a"),
        lambda: list(store.list_dir("")),
        lambda: zarr.open_array(store, path="a", mode="r")[...],
    ]
    for request in requests:
        try:
            request()
        except (OSError, BaseZarrError):
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    "documents": documents,
    "chunks": chunks,
    "shards": shards,
    "archives": archives,
    "answers": answers,
}


def run(name: str, data: bytes) -> None:
    """Give bytes to a target; raise what is not promised."""
    with warnings.catch_warnings(), zarr.config.set(LIMITS):
        warnings.simplefilter("ignore")
        TARGETS[name](data)


# --- what is known to be interesting ---------------------------------------------------------------


def kept(name: str) -> list[bytes]:
    """Return the inputs that are kept for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutants(inputs: list[bytes], seed: int) -> Iterator[bytes]:
    """Yield changed inputs without end."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    data[at : at + chance.choice((1, 4, 20))] = b""
                case 2:
                    number = chance.choice((0, 1, -1, 255, 1 << 31, (1 << 32) - 1, -(1 << 63)))
                    data[at : at + 8] = number.to_bytes(8, "little", signed=True)
                case 3:
                    other = chance.choice(inputs)
                    start = chance.randrange(len(other) + 1)
                    data[at:at] = other[start : start + chance.choice((1, 8, 40))]
                case 4:
                    start = chance.randrange(len(data) + 1)
                    data[at:at] = data[start : start + 16]
        yield bytes(data)


def main() -> None:
    """Search with atheris: a target, and options of libFuzzer."""
    _, name, *options = sys.argv
    found = Path(f"fuzzing-{name}")
    found.mkdir(exist_ok=True)
    kept_in = CORPUS / name
    kept_in.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], str(found), str(kept_in), *options], lambda data: run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
