"""`trace`: every request and every decoded chunk, as rows, a tree and spans; nothing when it is off."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import ChunkDecodeError, StoreError
from zarr_core.storage import LatencyStore, LoggingStore, MemoryStore, WrapperStore
from zarr_core.threads.trace import Trace

DATA = np.arange(100 * 60, dtype="f8").reshape(100, 60)


def stored(**options: Any) -> dict[str, Any]:
    """Return a store with `a`, and `s`, which is sharded."""
    store: dict[str, Any] = {}
    group = zarr.create_group(store)
    group.create_array("a", data=DATA, chunks=(10, 60), **options)
    group.create_array("s", data=DATA, chunks=(10, 20), shards=(50, 60), **options)
    return store


def counts(trace: Trace) -> dict[str, int]:
    return dict(Counter(row.operation for row in trace.rows))


def decoded(trace: Trace) -> int:
    return sum(row.nbytes for row in trace.rows if row.operation == "decode")


@pytest.mark.parametrize("slow", [False, True])
def test_rows_are_what_the_store_was_asked(slow: bool) -> None:
    log = LoggingStore(LatencyStore(MemoryStore(stored())) if slow else MemoryStore(stored()))
    array = zarr.open_array(log, path="a", mode="r")
    before = log.counter["get"], log.items["get_many"]
    with zarr.trace() as trace:
        assert (array[5:35] == DATA[5:35]).all()
    asked = log.counter["get"] - before[0], log.items["get_many"] - before[1]
    assert asked == ((0, 4) if slow else (4, 0))
    assert counts(trace)["get"] == 4
    assert {row.key for row in trace.rows} - {""} == {f"a/c/{k}/0" for k in range(4)}
    assert {row.array for row in trace.rows} == {"array '/a'"}
    assert decoded(trace) == 4 * 4800
    values = log.store.store._store_dict if slow else log.store._store_dict
    for row in trace.requests:
        assert row.nbytes == len(values[row.key])
    assert all(row.start >= 0 and row.seconds >= 0 and row.thread for row in trace.rows)
    rows = trace.rows
    array[:5]
    assert trace.rows == rows  # nothing is noted after the block


def test_shards_their_index_and_what_is_inside() -> None:
    array = zarr.open_array(stored(), path="s", mode="r")
    with zarr.trace() as trace:
        assert (array[:5, :30] == DATA[:5, :30]).all()
    assert counts(trace) == {"open_value": 1, "read": 2, "decode": 2}
    assert {row.key for row in trace.rows} == {"s/c/0/0"}
    assert {row.array for row in trace.rows} == {"array '/s'"}
    with zarr.trace() as trace:
        array[3, 3]
        array[...]
    assert decoded(trace) == (1 + 30) * 10 * 20 * 8


def test_writes_and_documents(tmp_path: Path) -> None:
    with zarr.trace() as trace:
        group = zarr.create_group(tmp_path / "g")
        array = group.create_array("a", shape=(20,), chunks=(10,), dtype="i4")
        array[:] = 1
        array[5] = 2
        array.attrs["x"] = 1
        del group["a"]
        list(group.keys())
    found = counts(trace)
    assert found["encode"] in (2, 3)  # two chunks of one value, by one thread or by two
    assert found["set"] == 3
    assert found["set_if_version"] == 3  # two nodes, one change
    assert found["list_prefix"] >= 1
    assert found["list_dir"] == 1
    documents = {row.key for row in trace.rows if not row.array}
    assert {"zarr.json", "a/zarr.json"} <= documents


def test_the_calls_do_the_same_when_they_are_traced() -> None:
    for slow in (False, True):
        log = LoggingStore(LatencyStore(MemoryStore(stored())) if slow else MemoryStore(stored()))
        group = zarr.open_group(log, mode="r")
        items = [(group["a"], np.s_[:5]), (group["a"], np.s_[3:25]), (group["s"], np.s_[:, 7])]
        group["s"]._current()
        before = log.counter.copy()
        plain = zarr.read_many(items)
        between = log.counter.copy()
        with zarr.trace() as trace:
            traced = zarr.read_many(items)
        assert log.counter - between == between - before
        for one, other in zip(plain, traced, strict=True):
            assert (one == other).all()
        assert decoded(trace) == (3 * 60 + 10 * 20) * 10 * 8  # each chunk once


def test_awaited_calls_and_threads() -> None:
    big = zarr.create_array(
        {}, data=np.random.default_rng(1).random((64, 1 << 15)), chunks=(1, 1 << 15)
    )

    async def main() -> Trace:
        with zarr.trace() as trace:
            await big.getitem_async(slice(0, 8))
            await asyncio.gather(*[big.getitem_async(k) for k in range(8, 64)])
        return trace

    trace = asyncio.run(main())
    assert counts(trace) == {"get": 64, "decode": 64}
    assert len({row.key for row in trace.rows}) == 64


def test_errors_are_rows() -> None:
    class Broken(WrapperStore[MemoryStore]):
        def get(self, key: str, byte_range: Any = None) -> Any:
            if "/c/" in key:
                raise StoreError("gone")
            return super().get(key, byte_range)

    array = zarr.open_array(Broken(MemoryStore(stored())), path="a", mode="r")
    with zarr.trace() as trace, pytest.raises(StoreError):
        array[0]
    assert [(row.operation, row.error) for row in trace.rows] == [("get", "StoreError")]
    damaged = stored()
    damaged["a/c/0/0"] = b"no zstd"
    array = zarr.open_array(damaged, path="a", mode="r")
    with zarr.trace() as trace, pytest.raises(ChunkDecodeError):
        array[0]
    (row,) = [row for row in trace.rows if row.operation == "decode"]
    assert row.error
    assert row.error in repr(trace)


def test_shown_as_a_tree() -> None:
    store = stored()
    with zarr.trace() as trace:
        zarr.open_group(store, mode="r")["a"][:25]
    lines = repr(trace).splitlines()
    assert lines[0].startswith("5 requests, ")
    assert "  the hierarchy: 2 requests" in "\n".join(lines)
    assert "    a/c/2/0" in lines
    assert sum(" decode " in line for line in lines) == counts(trace)["decode"]
    html = trace._repr_html_()
    assert html.count("<details>") == html.count("</details>") == 2
    assert "array &#x27;/a&#x27;" in html


def test_nothing_is_wrapped_without_a_trace() -> None:
    array = zarr.open_array(stored(), path="a", mode="r")
    space = array._current().space
    assert space.watched("read", 1) is space
    with zarr.trace():
        assert space.watched("read", 1) is not space
        with zarr.timeout(9):  # goes on inside of other blocks
            assert type(space.watched("read", 1).chain) is not type(space.chain)
    with zarr.timeout(9):
        assert space.watched("read", 1).chain is space.chain


def test_spans_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace as otel
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel, "get_tracer", provider.get_tracer)
    array = zarr.open_array(stored(), path="a", mode="r")
    with provider.get_tracer("user").start_as_current_span("request") as request, zarr.trace():
        array[:15]
    *spans, whole, outer = exporter.get_finished_spans()
    assert (whole.name, outer.name) == ("zarr_core.trace", "request")
    assert whole.parent.span_id == request.get_span_context().span_id
    assert sorted(span.name for span in spans) == ["zarr_core.decode"] * 2 + ["zarr_core.get"] * 2
    for span in spans:
        assert span.parent.span_id == whole.context.span_id
        assert whole.start_time <= span.start_time <= span.end_time
        assert span.attributes["zarr.key"] in ("a/c/0/0", "a/c/1/0")
