"""`ChunkSpace`: where the chunks of an array (or of a shard) are and how they are encoded.

Everything that is known per array stands here, so that a call computes nothing twice.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, Literal, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

from zarr_core.codecs.chain import CodecChain
from zarr_core.errors import (
    ChunkDecodeError,
    ChunkEncodeError,
    ChunkNotFoundError,
    CodecError,
    OperationTimeoutError,
    StoppedError,
)
from zarr_core.metadata.chunk_grids import ChunkGrid, Coords, Shape
from zarr_core.storage.base import ByteRequest, OpenValue, Request, Value, ValueSnapshot
from zarr_core.threads import calls, key_locks
from zarr_core.threads.trace import TracedBytes

NDArray: TypeAlias = npt.NDArray[Any]
Operation: TypeAlias = Literal["read", "write"]

ONE_CHUNK_BYTES = 256 << 10
"""Above this a lone chunk is decoded into the result, not beside it and copied."""


COPY_US_PER_BYTE = 1e-4
"""What moving a byte of a chunk costs; NumPy copies without the GIL."""
COPY_US_PER_POINT = 0.01
"""What moving a single element costs that is anywhere in a chunk."""
SHARD_US = 50.0
"""What a part of a shard is taken to cost: enough for a thread."""


class ChunkBytes(Protocol):
    """Where encoded chunks are: a store, or the inside of a shard.

    What costs nothing can have methods `get_each(keys)` and `set_each(keys, values)` for many small
    chunks, for which even a call each is too much.
    """

    high_latency: Any

    def get(self, key: Any) -> Value | None:
        """Return an encoded chunk, or None when it is not stored."""

    def set(self, key: Any, value: Any) -> None:
        """Store an encoded chunk."""

    def delete(self, key: Any) -> None:
        """Remove a chunk."""

    def open_value(self, key: Any) -> OpenValue | None:
        """Return a snapshot of an encoded chunk to read parts of."""

    def get_many(self, requests: Iterable[Request]) -> Iterator[Any]:
        """Yield encoded chunks as they arrive."""
        ...


@final
class ChunkSpace:
    """Where the chunks of an array (or of a shard) are and how they are encoded."""

    fetch_cost: float
    read_cost: float
    write_cost: float

    def __init__(
        self,
        *,
        name: str,
        grid: ChunkGrid,
        dtype: np.dtype[Any],
        fill_value: Any,
        make_chain: Callable[[Shape], CodecChain],
        store: ChunkBytes,
        key: Callable[[Coords], Any],
        row_keys: Callable[[Sequence[Coords], Sequence[int]], list[Any]],
        lock_key: Callable[[Any], Hashable] | None,
        write_empty_chunks: bool,
        read_missing_chunks: bool,
        lock_processes: bool | Literal["auto"] = False,
        check: Callable[[NDArray], None] | None = None,
    ) -> None:
        self.name = name
        self.grid = grid
        self.dtype = dtype
        self.fill_value: Any = fill_value
        if dtype.kind in "OT":
            # NumPy takes trailing NULs from a plain str or bytes when it fills or compares.
            self.fill_value = np.empty(1, dtype)
            self.fill_value[0] = fill_value
        self.store = store
        self.key = key
        self.row_keys = row_keys
        """The keys of rows of chunks: the coordinates but the last of each row, and the last ones."""
        self.lock_key = lock_key
        self.write_empty_chunks = write_empty_chunks
        self.read_missing_chunks = read_missing_chunks
        self.lock_processes = lock_processes
        """May other processes write to the same chunks? "auto": where the store can tell."""
        self.check = check
        """For arrays of any objects: what raises for those that cannot be stored."""
        self.cache: Any = None
        """The `CachedReads` that it is read through, if any."""
        self.keep: Callable[[Coords, NDArray | None], object] | None = None
        """Gets every chunk that was decoded, None for those that are not stored."""
        self._make_chain = make_chain
        self._chains: dict[Shape, CodecChain] = {}
        shape = grid.chunk_shape
        self.chain: CodecChain | None = None if shape is None else make_chain(shape)
        """The codec chain when all chunks have one shape."""
        self.one_chunk: Shape | None = None
        """Shape of a chunk when the short path for one chunk may be taken."""
        self.fetch_cost, self.read_cost, self.write_cost = self._costs()
        """Microseconds per chunk that other threads can use, roughly; what is fetched and decoded
        is then copied to be read."""
        if (
            self.chain is not None
            and self.chain.partial is None
            and self.chain.nbytes is not None
            and self.chain.nbytes <= ONE_CHUNK_BYTES
        ):
            self.one_chunk = shape
        self._fill_bytes: bytes | None = None
        self._fill_block = b""
        if not dtype.hasobject and dtype.kind != "T":
            self._fill_bytes = np.full((), fill_value, dtype).tobytes()
            self._fill_block = self._fill_bytes * max(1, (64 << 10) // max(1, dtype.itemsize))

    def _costs(self) -> tuple[float, float, float]:
        chain = self.chain
        if chain is None or chain.partial is not None:
            return SHARD_US, SHARD_US, SHARD_US
        copying = COPY_US_PER_BYTE * (chain.nbytes or 0)
        get_cost = getattr(self.store, "get_cost", 0.0)
        set_cost = getattr(self.store, "set_cost", 0.0)
        # Writing copies into `bytes`, which holds the GIL: no work for other threads.
        fetching = chain.decode_cost + get_cost
        return fetching, fetching + copying, chain.encode_cost + set_cost

    def over(self, store: ChunkBytes) -> "ChunkSpace":
        """Return the same space over other bytes: another shard."""
        other = object.__new__(ChunkSpace)
        other.__dict__.update(self.__dict__)
        other.store = store
        return other

    def watched(
        self, operation: Operation, n_chunks: int, call: calls.Call | None = None
    ) -> "ChunkSpace":
        """Return the space for a read or write of `n_chunks`, watched if it is part of a call."""
        call = call or calls._current.get()  # without a call of Python's: this is on every path
        if call is None:
            return self
        space, store = self, self.store
        if call.trace is not None:
            space, store = call.trace.decoding(self), TracedBytes(store, call.trace, self.name)
        if self.lock_key is None:  # what is inside a shard was let in with it
            return space
        call.expect(n_chunks)
        return space.over(_WatchedBytes(store, call, operation))

    def traced(self) -> "ChunkSpace":
        """Return the space for what is decoded without being watched: seen if there is a trace."""
        call = calls._current.get()
        return self if call is None or call.trace is None else call.trace.decoding(self)

    def let_in(self) -> "ChunkSpace":
        """Return the space for a read of one chunk with one request, as `watched` does."""
        call = calls._current.get()
        if call is None or (self.lock_key is None and call.trace is None):
            return self
        if call.is_limited:
            return self.watched("read", 1)
        call.enter()  # nobody wants to hear more: a third of what an awaited read costs
        return self

    def chain_for(self, coords: Coords) -> CodecChain:
        """Return the codec chain of a chunk."""
        if self.chain is not None:
            return self.chain
        shape = self.grid.stored_shape(coords)
        chain = self._chains.get(shape)
        if chain is None:
            chain = self._chains[shape] = self._make_chain(shape)
        return chain

    def is_fill(self, chunk: NDArray) -> bool:
        """Return whether every element is the fill value: the same bytes, for fixed sizes."""
        if chunk.size == 0:
            return True
        if self.check is not None:
            return False  # objects may be equal to others (1 and True), or compare to no truth
        if self._fill_bytes is None:
            return bool((chunk == self.fill_value).all())
        if chunk[(0,) * chunk.ndim + (...,)].tobytes() != self._fill_bytes:
            return False
        if self.dtype.itemsize == 0:
            return True
        flat = chunk.reshape(-1)
        step = len(self._fill_block) // self.dtype.itemsize
        for start in range(0, flat.size, step):
            block = flat[start : start + step].tobytes()
            if block != self._fill_block[: len(block)]:
                return False
        return True

    def empty_chunk(self, coords: Coords) -> NDArray:
        """Return a new chunk full of the fill value."""
        return np.full(self.grid.stored_shape(coords), self.fill_value, self.dtype)

    def lock(self, key: Any) -> AbstractContextManager[Any]:
        """Return the lock under which a key is changed."""
        return nullcontext() if self.lock_key is None else key_locks.key_lock(self.lock_key(key))

    def where(self, coords: Coords, key: Any) -> str:
        """Return words that name a chunk, for messages."""
        return f"chunk {coords} of {self.name}, key {key!r}"

    def decode_error(self, coords: Coords, data: Any, error: Exception) -> Exception:
        """Return an error that names the chunk and the codec that failed."""
        if isinstance(
            error,
            ChunkDecodeError | StoppedError | OperationTimeoutError | MemoryError | ImportError,
        ):
            return error
        key = self.key(coords)
        codec = self.chain_for(coords).blame(data)
        return ChunkDecodeError(
            f"{self.where(coords, key)} in {self.store}: codec {codec!r} cannot decode "
            f"{len(data)} bytes: {error}"
        )

    def encode_error(self, coords: Coords, error: Exception) -> Exception:
        """Return an error that names the chunk that cannot be encoded."""
        return ChunkEncodeError(f"{self.where(coords, self.key(coords))}: {error}")

    def inside_error(self, coords: Coords, error: CodecError) -> CodecError:
        """Return an error from the inside of a chunk, of its kind, that names the chunk, too."""
        kind = ChunkEncodeError if isinstance(error, ChunkEncodeError) else ChunkDecodeError
        return kind(f"{self.where(coords, self.key(coords))} in {self.store}: {error}")

    def note(self, error: OSError, coords: Coords) -> None:
        """Add to an error of the store which chunk it is about; once, not for each level."""
        own = ChunkDecodeError | OperationTimeoutError
        if self.lock_key is not None and not isinstance(error, own):
            error.add_note(f"{self.where(coords, self.key(coords))} in {self.store}")

    @contextmanager
    def noting(self, coords: Coords) -> Iterator[None]:
        """Note in errors of the store which chunk they are about."""
        try:
            yield
        except OSError as error:
            self.note(error, coords)
            raise

    def missing_error(self, coords: Coords) -> ChunkNotFoundError:
        """Return the error for a chunk that is not stored although it must be."""
        return ChunkNotFoundError(
            f"{self.where(coords, self.key(coords))} is not stored and read_missing_chunks is off"
        )


@final
class _WatchedBytes:
    """Encoded chunks on their way through a `calls.Call`.

    Every request is let in by the call, which hears of every chunk that was read or written.
    """

    def __init__(self, store: Any, call: calls.Call, operation: Operation) -> None:
        self._store, self._call = store, call
        self._reads = operation == "read"  # in a write, what is read is not a chunk of its own
        self.high_latency = store.high_latency

        # Several chunks at once would not be let in and heard of one by one.
        self.get_each = self.set_each = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __str__(self) -> str:
        return str(self._store)

    def get(self, key: str) -> Value | None:
        self._call.enter()
        value: Value | None = self._store.get(key)
        if self._reads:
            self._call.note("read", key, 0 if value is None else len(value))
        return value

    def set(self, key: str, value: Any) -> None:
        self._call.enter()
        self._store.set(key, value)
        self._call.note("write", key, memoryview(value).nbytes)

    def delete(self, key: str) -> None:
        self._call.enter()
        self._store.delete(key)
        self._call.note("write", key, 0)

    def get_versioned(self, key: str) -> tuple[Value | None, str | None]:
        self._call.enter()
        value: tuple[Value | None, str | None] = self._store.get_versioned(key)
        return value

    def set_if_version(self, key: str, value: bytes, version: str | None) -> bool:
        self._call.enter()
        stored: bool = self._store.set_if_version(key, value, version)
        if stored:
            self._call.note("write", key, len(value))
        return stored

    def open_value(self, key: str) -> OpenValue | None:
        self._call.enter()
        value: OpenValue | None = self._store.open_value(key)
        if value is not None and not isinstance(value, ValueSnapshot):
            return _WatchedValue(value, self._call, key if self._reads else None)
        if self._reads:
            self._call.note("read", key, 0 if value is None else value.size or 0)
        return value

    def get_many(self, requests: Iterable[Request]) -> Iterator[Any]:
        keys: dict[int, str] = {}

        def noted() -> Iterator[Request]:
            for number, request in enumerate(requests):
                keys[number] = request.key
                yield request

        with closing(self._store.get_many(noted())) as results:
            for result in results:
                key = keys.pop(result.index)
                if result.error is None:
                    self._call.note("read", key, 0 if result.value is None else len(result.value))
                yield result


@final
class _WatchedValue:
    """A snapshot of which parts are read; with a key, one chunk that was read when it is closed."""

    def __init__(self, value: OpenValue, call: calls.Call, key: str | None) -> None:
        self._value, self._call, self._key = value, call, key
        self.size, self.version = value.size, value.version
        self._nbytes: list[int] = []  # of each request; they may be made by several threads

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        self._call.enter()
        data = self._value.read(byte_range)
        self._nbytes.append(len(data))
        return data

    def close(self) -> None:
        self._value.close()
        if self._key is not None:
            self._call.note("read", self._key, sum(self._nbytes))
