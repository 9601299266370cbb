"""`trace`: every request to a store and every chunk decoded or encoded by the calls in a block.

Nothing is wrapped, and nothing looked at but a context variable that is read anyway, unless a call is
part of a trace: then its store and its codecs are seen through the objects here.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from threading import current_thread, local
from typing import Any, NamedTuple, final

from zarr_core.locks import ForkLock
from zarr_core.threads import calls

DECODED = frozenset({"decode", "decode_bytes", "decode_into", "decode_many"})
ENCODED = frozenset({"encode", "encode_bytes"})
REQUESTS = frozenset(
    {"get", "set", "delete", "exists", "get_versioned", "set_if_version", "list_dir", "list_prefix"}
)
running = 0
"""How many traces there are now in the process: without one nothing has to be asked."""
SHOWN_ROWS = 100
"""A drawing of a trace has so many rows of an array at most."""

_lock = ForkLock()
_shard: ContextVar[tuple[str, str]] = ContextVar("zarr_core_traced_shard", default=("", ""))


class Row(NamedTuple):
    """One request, or one chunk (a few small ones together) decoded or encoded."""

    operation: str
    """The method of the store, "decode" or "encode"."""
    array: str
    """The array that it was for; empty for documents and lists of a hierarchy."""
    key: str
    """The key in the store; empty where several small chunks are decoded at once."""
    nbytes: int
    """Bytes that came or went: encoded ones of a request, decoded ones of "decode" and "encode"."""
    start: float
    """Seconds since the trace began."""
    seconds: float
    thread: str
    error: str = ""
    """Name of the type of an error that was raised."""

    @property
    def is_request(self) -> bool:
        """Whether it is a request to the store."""
        return self.operation not in ("decode", "encode")


@final
class Trace:
    """What the calls in a block did; see `zarr_core.trace`. Shown as a tree of arrays and keys."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._began, self._began_ns = time.perf_counter(), time.time_ns()
        self._local = local()
        self._decoding: dict[Any, Any] = {}

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows, in the order in which they ended."""
        return tuple(self._rows)

    @property
    def requests(self) -> tuple[Row, ...]:
        """The rows that are requests to stores."""
        return tuple(row for row in self._rows if row.is_request)

    def note(
        self, operation: str, array: str, key: str, nbytes: int, start: float, error: str = ""
    ) -> None:
        """Add a row that ends now."""
        seconds, thread = time.perf_counter() - start, current_thread().name
        self._rows.append(
            Row(operation, array, key, nbytes, start - self._began, seconds, thread, error)
        )

    # --- which key a value is of -------------------------------------------------------------------

    def remember(self, key: str, value: Any) -> None:
        """Remember, for this thread, the key of a value that is going to be decoded by it."""
        if not hasattr(self._local, "values"):
            self._local.values = deque(maxlen=64)
        self._local.values.append((key, value))

    def key_of(self, value: Any) -> str:
        """Return the key of a value that this thread got a moment ago."""
        values = getattr(self._local, "values", ())
        return next((key for key, known in values if known is value), "")

    def decoding(self, space: Any) -> Any:
        """Return a `ChunkSpace` whose codecs are seen."""
        known = self._decoding.get(space)
        if known is None:
            known = space.over(space.store)
            if space.chain is not None:
                known.chain = self._chain(space, space.chain)
            known._chains = {}
            known._make_chain = lambda shape: self._chain(space, space._make_chain(shape))
            if space.lock_key is not None:  # the insides of shards are many
                self._decoding[space] = self._decoding[known] = known
        return known

    def _chain(self, space: Any, chain: Any) -> Any:
        """Return a chain that is seen; one for all handles of an array, which share what they read."""
        traced = _TracedChain(chain, self, space.name)
        return self._decoding.setdefault((chain, space.name), traced)

    # --- shown -------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield depth and text of the lines of the tree."""
        arrays: dict[str, dict[str, list[Row]]] = {}
        for row in sorted(self._rows, key=lambda row: row.start):
            arrays.setdefault(row.array, {}).setdefault(row.key, []).append(row)
        for array, keys in arrays.items():
            rows = [row for found in keys.values() for row in found]
            yield 0, f"{array or 'the hierarchy'}: {summary(rows)}"
            left = SHOWN_ROWS
            for key, found in keys.items():
                if left < len(found):
                    yield 1, "..."
                    break
                left -= len(found)
                yield 1, key or "several chunks"
                for row in found:
                    at = f"{row.start * 1e3:9.3f} ms +{row.seconds * 1e3:.3f}"
                    error = f" {row.error}" if row.error else ""
                    yield 2, f"{at} {row.operation} {row.nbytes:,} B{error} [{row.thread}]"

    def __repr__(self) -> str:
        head = summary(self._rows)
        return "\n".join([head, *("  " * (depth + 1) + text for depth, text in self._lines())])

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(summary(self._rows))}</b>"]
        open_details = False
        for depth, text in self._lines():
            if depth == 0:
                parts.append(
                    f"{'</details>' * open_details}<details><summary>{escape(text)}</summary>"
                )
                open_details = True
            else:
                parts.append(f"<div style='margin-left:{depth * 2}em'>{escape(text)}</div>")
        return "".join(parts) + "</details>" * open_details

    def _export(self) -> None:
        """Give the rows to OpenTelemetry as spans, if it is installed."""
        try:
            from opentelemetry import trace as otel
        except ImportError:
            return
        tracer = otel.get_tracer("zarr_core")
        with_whole = otel.set_span_in_context(
            whole := tracer.start_span("zarr_core.trace", start_time=self._began_ns)
        )
        for row in self._rows:
            start = self._began_ns + round(row.start * 1e9)
            attributes = {
                "zarr.array": row.array,
                "zarr.key": row.key,
                "zarr.nbytes": row.nbytes,
                "thread.name": row.thread,
            }
            if row.error:
                attributes["error.type"] = row.error
            span = tracer.start_span(
                f"zarr_core.{row.operation}", with_whole, attributes=attributes, start_time=start
            )
            span.end(start + round(row.seconds * 1e9))
        whole.end()


def summary(rows: Iterable[Row]) -> str:
    """Return how much rows are, in one line."""
    requests = [row for row in rows if row.is_request]
    coded = [row for row in rows if not row.is_request]
    text = f"{len(requests)} requests, {sum(row.nbytes for row in requests):,} B"
    if coded:
        seconds = sum(row.seconds for row in coded)
        text += f", {sum(row.nbytes for row in coded):,} B decoded or encoded in {seconds:.3f} s"
    return text


@contextmanager
def trace() -> Iterator[Trace]:
    """Note every request to a store, and every chunk decoded or encoded, of the calls in this context.

    The result has `rows`, and is shown as a tree, by arrays and keys. When OpenTelemetry is installed
    the rows become spans of the tracer `zarr_core` at the end of the block, below the current span.
    Calls outside of such a block pay nothing for it.

    >>> a = zarr.array([1, 2, 3])
    >>> with zarr.trace() as found:
    ...     values = a[:]
    >>> len(found.rows) > 0
    True
    """
    found = Trace()
    try:
        with noting(found):
            yield found
    finally:
        found._export()


@contextmanager
def noting(found: Trace) -> Iterator[None]:
    """Add what the calls in this context do to a trace."""
    global running  # noqa: PLW0603
    with _lock:
        running += 1
    try:
        with calls.inside(calls.Call(trace=found)):
            yield
    finally:  # give up arrays and values
        with _lock:
            running -= 1
        found._decoding.clear()
        found._local = local()


def seen(store: Any) -> Any:
    """Return a store as it is, or with its requests noted where this is part of a trace."""
    call = calls._current.get() if running else None
    return store if call is None or call.trace is None else TracedBytes(store, call.trace, "")


def _size(value: Any) -> int:
    if isinstance(value, tuple | list):  # a value and its version, several chunks
        return sum(map(_size, value))
    try:
        return memoryview(value).nbytes
    except (TypeError, ValueError):  # nothing, or elements of a type that has no buffer
        return int(getattr(value, "nbytes", 0))


@final
class TracedBytes:
    """A store whose requests are noted."""

    set_each: None

    def __init__(self, store: Any, trace: Trace, array: str) -> None:
        self._store, self._trace, self._array = store, trace, array
        self.high_latency: Any = store.high_latency
        self.get_each: None = None
        self.set_each: None = None  # which are no requests that one can tell apart

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._noted(name, found) if name in REQUESTS else found

    def __str__(self) -> str:
        return str(self._store)

    def _noted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def request(key: str = "", *args: Any) -> Any:
            start = time.perf_counter()
            try:
                result = method(key, *args)
                if name.startswith("list"):
                    result = list(result)
            except Exception as error:
                self._trace.note(name, self._array, key, 0, start, type(error).__name__)
                raise
            is_write = name.startswith("set")
            nbytes = 0 if name.startswith("list") else _size(args[0] if is_write else result)
            self._trace.note(name, self._array, key, nbytes, start)
            if name == "get":
                self._trace.remember(key, result)
            return result

        return request

    def get_many(self, requests: Iterable[Any]) -> Iterator[Any]:
        """Yield values as they arrive; a request ends when its value is taken."""
        return self._many("get", requests, lambda request: (request.key, 0))

    def set_many(self, items: Iterable[Any]) -> Iterator[Any]:
        """Store values."""
        return self._many("set", items, lambda item: (item[0], _size(item[1])))

    def delete_many(self, keys: Iterable[str]) -> Iterator[Any]:
        """Remove keys."""
        return self._many("delete", keys, lambda key: (key, 0))

    def _many(
        self, operation: str, items: Iterable[Any], sent: Callable[[Any], tuple[str, int]]
    ) -> Iterator[Any]:
        begun: dict[int, tuple[str, int, float]] = {}

        def noted() -> Iterator[Any]:
            for number, item in enumerate(items):
                begun[number] = (*sent(item), time.perf_counter())
                yield item

        results = getattr(self._store, f"{operation}_many")(noted())
        try:
            for result in results:
                key, nbytes, start = begun.pop(result.index)
                error = "" if result.error is None else type(result.error).__name__
                self._trace.note(
                    operation, self._array, key, nbytes + _size(result.value), start, error
                )
                self._trace.remember(key, result.value)
                yield result
        finally:
            results.close()

    def open_value(self, key: str) -> Any:
        """Return a snapshot of a value, whose reads are noted, too."""
        start = time.perf_counter()
        value = self._store.open_value(key)
        tail = len(getattr(value, "_tail", b""))  # which came with the answer
        self._trace.note("open_value", self._array, key, tail, start)
        return None if value is None else _TracedValue(value, key, self, tail)


@final
class _TracedValue:
    """A snapshot whose reads are noted."""

    def __init__(self, value: Any, key: str, owner: TracedBytes, tail: int) -> None:
        self._value, self._key, self._owner, self._tail = value, key, owner, tail
        self.size, self.version = value.size, value.version

    def read(self, byte_range: Any = None) -> Any:
        start = time.perf_counter()
        data = self._value.read(byte_range)
        if self._tail and len(data) and self._start(byte_range) >= self.size - self._tail:
            return data
        self._owner._trace.note("read", self._owner._array, self._key, len(data), start)
        return data

    def _start(self, byte_range: Any) -> int:
        if byte_range is None:
            return 0
        if hasattr(byte_range, "suffix"):
            return int(self.size - byte_range.suffix)
        return int(byte_range[0])

    def close(self) -> None:
        self._value.close()


@final
class _TracedChain:
    """A `CodecChain` whose work is noted."""

    def __init__(self, chain: Any, trace: Trace, array: str) -> None:
        self._chain, self._trace, self._array = chain, trace, array

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._chain, name)
        if found is not None and name in DECODED | ENCODED:
            found = self._noted("decode" if name in DECODED else "encode", name, found)
        elif found is not None and name == "partial":
            found = _TracedShards(found, self._array)
        vars(self)[name] = found
        return found

    def _noted(self, operation: str, name: str, function: Any) -> Callable[..., Any]:
        def work(data: Any, *into: Any) -> Any:
            start = time.perf_counter()
            error = ""
            result: Any = b""
            try:
                result = function(data, *into)
            except Exception as raised:
                error = type(raised).__name__
                raise
            else:
                return result
            finally:
                shown = data if operation == "encode" else into[0] if into else result
                array, key = _shard.get()
                key = key or self._trace.key_of(data)
                self._trace.note(operation, array or self._array, key, _size(shown), start, error)

        return work


@final
class _TracedShards:
    """The sharding codec of a chain, which tells what is inside which array and shard it is in."""

    def __init__(self, shards: Any, array: str) -> None:
        self._shards, self._array = shards, array

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._shards, name)
        if name not in ("read", "read_several", "write", "change"):
            return found
        key_at = {"read": 4, "read_several": 2}.get(name)

        def work(*args: Any, **options: Any) -> Any:
            if _shard.get()[0]:  # a shard in a shard
                return found(*args, **options)
            token = _shard.set((self._array, "" if key_at is None else args[key_at]))
            try:
                return found(*args, **options)
            finally:
                _shard.reset(token)

        return work
