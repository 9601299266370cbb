"""Random programs over whole hierarchies against NumPy arrays in a dictionary, on every store.

One machine makes nodes, changes them through handles of all kinds, copies everything to another
store and goes on there. After every step the documents, the keys and the values that were touched
are compared with the model; at the end everything is read again through a store of its own.
"""

import asyncio
import importlib.util
import math
import pickle
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from running import at_once
from strategies import KINDS, Edges, Selection, picked, rectilinear_edges, selections

import zarr_core as zarr
from zarr_core import codecs
from zarr_core.codecs import ShardingCodec
from zarr_core.errors import ChunkNotFoundError, OperationTimeoutError
from zarr_core.metadata.documents import DOCUMENTS
from zarr_core.storage import (
    CacheStore,
    FsspecStore,
    LatencyStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    PrefixStore,
    Store,
    ZipStore,
)

Array = zarr.Array

# --- elements --------------------------------------------------------------------------------------

STRING = np.dtypes.StringDType()


def _bits(dtype: str, *patterns: int) -> list[Any]:
    size = np.dtype(dtype).itemsize
    return [np.frombuffer(p.to_bytes(size, "little"), f"<{dtype}")[0] for p in patterns]


FLOATS = [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan]
POINT = [("x", "i2"), ("y", "f4")]

POOLS: dict[str, tuple[Any, list[Any]]] = {
    "i1": ("i1", [0, 1, -1, 127, -128]),
    "u1": ("u1", [0, 1, 255]),
    "i4": ("i4", [0, 1, -1, 2**31 - 1, -(2**31)]),
    ">i4": (">i4", [0, 1, -2, 2**31 - 1]),
    "u8": ("u8", [0, 1, 2**64 - 1]),
    "i8": ("i8", [0, 1, -(2**63)]),
    "f2": ("f2", [*FLOATS, *_bits("f2", 0x7E01, 0xFE00)]),
    "f4": ("f4", [*FLOATS, *_bits("f4", 0x7FC00001, 0xFFC00000)]),
    "f8": ("f8", [*FLOATS, *_bits("f8", 0x7FF8000000000001, 0xFFF8000000000000)]),
    ">f8": (">f8", FLOATS),
    "bool": ("?", [False, True]),
    "c8": ("c8", [0j, 1 + 2j, complex(-0.0, np.nan), complex(np.inf, -0.0)]),
    "c16": ("c16", [0j, 1 + 2j, complex(np.nan, -np.inf)]),
    "U": ("U3", ["", "a", "äöü", "\U0001f600"]),
    "S": ("S3", [b"", b"a", b"xyz"]),
    "V": ("V2", [b"\0\0", b"ab", b"\0c"]),
    "M8": ("M8[ns]", [np.datetime64("NaT", "ns"), np.datetime64(0, "ns"), np.datetime64(-5, "ns")]),
    "m8": ("m8[s]", [np.timedelta64("NaT", "s"), np.timedelta64(0, "s"), np.timedelta64(7, "s")]),
    "text": (STRING, ["", "a", "longer than what is kept inline", "\U0001f600"]),
    "bytes": (object, [b"", b"a", b"\0\xff" * 9]),
    "struct": (POINT, [(0, 0.0), (1, -0.0), (-7, np.nan), (3, 2.5)]),
    "nested": (
        [("p", POINT), ("t", "S2")],
        [((0, 0.0), b""), ((1, 2.0), b"ab"), ((-1, 0.0), b"c")],
    ),
}

V2_FILTERS: dict[str, list[Any]] = {
    "i4": [[{"id": "delta", "dtype": "<i4"}], [{"id": "shuffle", "elementsize": 4}]],
    "i8": [[{"id": "delta", "dtype": "<i8"}]],
    "u1": [[{"id": "delta", "dtype": "|u1"}]],
    "f8": [[{"id": "shuffle", "elementsize": 8}]],
}
V2_COMPRESSORS: list[Any] = [
    None,
    "auto",
    {"id": "zlib", "level": 1},
    {"id": "gzip", "level": 1},
    {"id": "zstd", "level": 1},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    {"id": "lz4", "acceleration": 1},
]
V3_COMPRESSORS: list[Any] = [
    None,
    "auto",
    [codecs.ZstdCodec(level=1, checksum=True)],
    [codecs.GzipCodec(level=1)],
    [codecs.BloscCodec()],
    [codecs.Crc32cCodec()],
    [codecs.ZstdCodec(), codecs.Crc32cCodec()],
]


def elements(kind: str, dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> Any:
    """Return an array of elements of a pool; seed 0 takes the first one, which often is zero."""
    pool = POOLS[kind][1]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(pool), shape) if seed else np.zeros(shape, int)
    base = np.empty(len(pool), dtype)
    for i, element in enumerate(pool):
        base[i] = element
    return base[np.asarray(chosen).reshape(-1)].reshape(shape)


def plain(values: Any) -> Any:
    """Return what is compared: bits where there are some."""
    values = np.asarray(values)
    if values.dtype.kind in "OT":
        return values.shape, values.tolist()
    return values.shape, values.dtype, values.tobytes()


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(found, np.generic | str | bytes):  # a scalar does not tell all of its type
        found = np.array(found, np.asarray(expected).dtype)
    if isinstance(expected, np.generic | str | bytes):
        expected = np.array(expected, np.asarray(found).dtype)
    if plain(found) != plain(expected):
        raise AssertionError(f"found {found!r}, expected {expected!r}")


# --- the model -------------------------------------------------------------------------------------


class Values:
    """What is in an array, and what is known of how it is stored."""

    def __init__(self, kind: str, values: Any, fill: Any, inner: Any) -> None:
        self.kind = kind
        self.values = values
        self.fill = fill
        self.inner = inner
        """Shape of the chunks in shards."""
        self.empty_are_left_out = True

    def copy(self) -> "Values":
        other = Values(self.kind, self.values.copy(), self.fill, self.inner)
        other.empty_are_left_out = self.empty_are_left_out
        return other

    def set(self, where: Any, value: Any, fields: Any = None) -> None:
        flat = self.values.reshape(-1)
        if isinstance(fields, list):
            # Not at once: NumPy's copies to index arrays take along what is between the fields.
            for name in fields:
                flat[name][where] = value[name]
        elif fields is not None:
            flat[fields][where] = value
        else:
            flat[where] = value

    def resize(self, shape: tuple[int, ...]) -> None:
        new = np.full(shape, self.fill, self.values.dtype)
        both = tuple(slice(0, min(pair)) for pair in zip(shape, self.values.shape, strict=True))
        new[both] = self.values[both]
        self.values = new


class Node:
    def __init__(self, attributes: dict[str, Any], array: Values | None = None) -> None:
        self.attributes = attributes
        self.array = array


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


class Model:
    """What is in a hierarchy, by path."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"": Node({})}

    def is_array(self, path: str) -> bool:
        return path in self.nodes and self.nodes[path].array is not None

    def may_create(self, path: str) -> bool:
        return path not in self.nodes and not any(map(self.is_array, parents(path)))

    def create(self, path: str, node: Node) -> None:
        for parent in parents(path):
            self.nodes.setdefault(parent, Node({}))
        self.nodes[path] = node

    def remove(self, path: str) -> dict[str, Node]:
        gone = [found for found in self.nodes if found == path or found.startswith(f"{path}/")]
        return {found.removeprefix(path): self.nodes.pop(found) for found in gone}

    def below(self, kind: Callable[[str], bool] = bool) -> list[str]:
        return sorted(path for path in self.nodes if path and kind(path))


# --- stores ----------------------------------------------------------------------------------------


class Place:
    """Where a hierarchy is. `open` returns another store of the same bytes."""

    def __init__(self, kind: str, directory: str) -> None:
        self.kind = kind
        self.root = Path(directory) / uuid.uuid4().hex
        self.memory: dict[str, Any] = {}
        self.inner: Any = None
        self.store = self.open()

    def open(self) -> Any:
        match self.kind:
            case "memory":
                return MemoryStore(self.memory)
            case "local":
                return LocalStore(self.root)
            case "zip":
                if self.inner is not None:
                    self.inner.close()
                self.root.parent.mkdir(exist_ok=True)
                self.inner = ZipStore(self.root.with_suffix(".zip"), mode="a")
                return self.inner
            case "fsspec":
                import fsspec

                fs = fsspec.filesystem("memory")
                return FsspecStore(fs, path=f"/{self.root.name}")
            case "object":
                from obstore.store import MemoryStore as ObjectMemory

                self.inner = self.inner or ObjectMemory()
                return ObjectStore(self.inner)
            case "object-local":
                from obstore.store import LocalStore as ObjectLocal

                self.root.mkdir(parents=True, exist_ok=True)
                return ObjectStore(ObjectLocal(str(self.root), automatic_cleanup=True))
            case "cache":
                return CacheStore(MemoryStore(self.memory), max_size=400)
            case "prefix":
                return PrefixStore(LocalStore(self.root), "pre/fix")
            case "logging":
                return LoggingStore(MemoryStore(self.memory), log_level="NOTSET")
            case "slow":
                return LatencyStore(MemoryStore(self.memory))
        raise AssertionError(self.kind)

    def other(self) -> Store:
        """Return a store that has seen nothing of what was done."""
        if self.kind in ("zip", "cache"):
            return self.store if self.kind == "zip" else MemoryStore(self.memory)
        return self.open()

    def reopen(self) -> None:
        self.store = self.open()

    def remove(self) -> None:
        if self.kind == "zip":
            self.inner.close()
        if self.kind == "fsspec":
            import fsspec

            fs = fsspec.filesystem("memory")
            if fs.exists(f"/{self.root.name}"):
                fs.rm(f"/{self.root.name}", recursive=True)


PLACES = ["memory", "local", "zip", "fsspec", "object", "object-local", "cache", "prefix", "logging",
          "slow"]  # fmt: skip
if importlib.util.find_spec("obstore") is None:  # it has no wheel for free-threaded Python
    PLACES = [place for place in PLACES if not place.startswith("object")]
PICKLED = {"local", "prefix"}

NAMES = st.sampled_from(["a", "A", "b", "c.d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
SEEDS = st.integers(0, 50)
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
CONFIGS: list[dict[str, Any]] = [
    {},
    {"order": "F"},
    {"write_empty_chunks": True},
    {"lock": True},
    {"shard_index_cache_bytes": 1 << 16},
    {"sharding_coalesce_max_gap_bytes": 0, "subchunk_write_order": "lexicographic"},
]

MOST_CHUNKS = 40


class Recipe(NamedTuple):
    """An array to be created."""

    kind: str
    shape: tuple[int, ...]
    seed: int
    options: dict[str, Any]
    inner: tuple[int, ...] | None


@st.composite
def recipes(draw: st.DrawFn, zarr_format: int) -> Recipe:
    kind = draw(st.sampled_from(sorted(POOLS)))
    ndim = draw(st.sampled_from([1, 2, 0, 3, 4]))
    shape = tuple(draw(st.one_of(st.integers(1, 6), st.integers(0, 6))) for _ in range(ndim))
    options: dict[str, Any] = {}
    inner = None
    small = tuple(draw(st.integers(1, max(n, 1) + 1)) for n in shape)
    chunks: Any = [max(c, -(-n // 4)) for c, n in zip(small, shape, strict=True)]
    if math.prod(-(-n // c) for c, n in zip(chunks, shape, strict=True)) > MOST_CHUNKS:
        chunks = [max(c, 1 + n // 2) for c, n in zip(chunks, shape, strict=True)]
    layout = draw(st.sampled_from(["regular", "shards", "nested", "rectilinear"]))
    if zarr_format == 3 and ndim and layout == "rectilinear":
        chunks = [list(draw(rectilinear_edges(n, exact=True))) if n else 1 for n in shape]
        if math.prod(len(c) if isinstance(c, list) else 1 for c in chunks) > MOST_CHUNKS:
            chunks = [[n] if n else 1 for n in shape]
    elif zarr_format == 3 and layout in ("shards", "nested"):
        times = [draw(st.integers(1, 3)) for _ in shape]
        inner = tuple(chunks)
        options["shards"] = tuple(c * t for c, t in zip(chunks, times, strict=True))
        if draw(st.booleans()):
            options["shards"] = {"shape": options["shards"], "index_location": "start"}
        if layout == "nested" and POOLS[kind][0] not in (STRING, object):
            divisors = [draw(st.sampled_from([d for d in range(1, c + 1) if c % d == 0]))
                        for c in chunks]  # fmt: skip
            options["serializer"] = ShardingCodec(chunk_shape=tuple(divisors))
    options["chunks"] = tuple(chunks)
    if zarr_format == 3:
        options["compressors"] = draw(st.sampled_from(V3_COMPRESSORS))
        if ndim and draw(st.integers(0, 3)) == 0:
            order = tuple(draw(st.permutations(range(ndim))))
            options["filters"] = [codecs.TransposeCodec(order=order)]
            options.pop("serializer", None)
        if draw(st.booleans()):
            name, separator = draw(st.sampled_from(["default", "v2"])), draw(st.sampled_from("/."))
            options["chunk_key_encoding"] = {"name": name, "separator": separator}
    else:
        options["compressors"] = draw(st.sampled_from(V2_COMPRESSORS))
        options["order"] = draw(st.sampled_from("CF"))
        if kind in V2_FILTERS and draw(st.booleans()):
            options["filters"] = draw(st.sampled_from(V2_FILTERS[kind]))
        if draw(st.booleans()):
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    if (number := draw(st.integers(0, 4))) and kind != "bytes":
        pool = POOLS[kind][1]
        fill = pool[number % len(pool)]
        # Documents of format 2 have one NaN.
        if not (zarr_format == 2 and kind in ("f2", "f4", "f8") and np.isnan(fill)):
            options["fill_value"] = np.array(fill, POOLS[kind][0])[()]
    return Recipe(kind, shape, draw(SEEDS), options, inner)


def edges_of(array: Array) -> list[Edges]:
    """Return what is stored under one key: chunks, or shards."""
    return [tuple(axis.stored_size(k) for k in range(axis.count))
            for axis in array.metadata.chunk_grid.axes]  # fmt: skip


READS: dict[str, list[Callable[..., Any]]] = {
    "basic": [Array.get_basic_selection, lambda a, i: a[i]],
    "orthogonal": [Array.get_orthogonal_selection, lambda a, i: a.oindex[i]],
    "coordinate": [Array.get_coordinate_selection, lambda a, i: a.vindex[i]],
    "mask": [Array.get_mask_selection, lambda a, i: a.vindex[i]],
    "block": [Array.get_block_selection, lambda a, i: a.blocks[i]],
}
WRITES: dict[str, list[Callable[..., None]]] = {
    "basic": [Array.set_basic_selection, lambda a, i, v: a.__setitem__(i, v)],
    "orthogonal": [
        Array.set_orthogonal_selection,
        lambda a, i, v: a.oindex.__setitem__(i, v),
    ],
    "coordinate": [
        Array.set_coordinate_selection,
        lambda a, i, v: a.vindex.__setitem__(i, v),
    ],
    "mask": [Array.set_mask_selection, lambda a, i, v: a.vindex.__setitem__(i, v)],
    "block": [Array.set_block_selection, lambda a, i, v: a.blocks.__setitem__(i, v)],
}
SETTERS: dict[str, Callable[..., None]] = {kind: ways[0] for kind, ways in WRITES.items()}
GETTERS: dict[str, Callable[..., Any]] = {kind: ways[0] for kind, ways in READS.items()}


class StopBatchError(Exception):
    """Ends a batch."""


# --- the machine -----------------------------------------------------------------------------------


class Programs(RuleBasedStateMachine):
    kinds: list[str] = PLACES
    counts: dict[str, int] = {"programs": 0, "steps": 0}

    @initialize(data=st.data(), zarr_format=st.sampled_from([3, 2]))
    def start(self, data: Any, zarr_format: Any) -> None:
        self.directory = tempfile.mkdtemp()
        self.place = Place(data.draw(st.sampled_from(self.kinds)), self.directory)
        self.zarr_format = zarr_format
        self.model = Model()
        self.group = zarr.create_group(self.place.store, zarr_format=zarr_format)
        self.consolidated = False
        self.kept: dict[str, Array] = {}
        self.foreign: dict[str, bytes] = {}
        self.touched: set[str] = set()
        self.put_foreign("foreign.txt")
        self.counts["programs"] += 1

    def teardown(self) -> None:
        if not hasattr(self, "directory"):
            return
        try:
            if sys.exception() is None:
                self.place.reopen()
                self.everything_is_there(self.place.other())
        finally:
            self.place.remove()
            shutil.rmtree(self.directory)

    # --- choices -----------------------------------------------------------------------------------

    def put_foreign(self, key: str) -> None:
        self.foreign[key] = key.encode()
        self.place.store.set(key, key.encode())

    def pick(self, data: Any, kind: Callable[[str], bool] = bool) -> str:
        return str(data.draw(st.sampled_from(self.model.below(kind))))

    def pick_array(self, data: Any) -> tuple[Array, Values]:
        """Return a handle of some kind and what must be in it."""
        path = self.pick(data, self.model.is_array)
        self.touched.add(path)
        how = data.draw(st.sampled_from(["new", "kept", "config", "pickled"]))
        array = self.group.get_array(path)
        if how == "kept":
            array = self.kept.setdefault(path, array)
            array.refresh()
        if how == "config":
            options = data.draw(st.sampled_from(CONFIGS))
            if options.get("lock") and not self.place.store.supports_conditional_writes:
                options = {}
            array = array.with_config(options)
            if options.get("write_empty_chunks") or options.get("lock"):  # which deletes nothing
                self.model.nodes[path].array.empty_are_left_out = False  # type: ignore[union-attr]
        if how == "pickled" and self.place.kind in PICKLED and not self.consolidated:
            array = pickle.loads(pickle.dumps(array))
        values = self.model.nodes[path].array
        assert values is not None
        return array, values

    def selection(
        self, data: Any, array: Array, values: Values, kinds: tuple[str, ...] = KINDS
    ) -> tuple[Selection, Any]:
        if not array.ndim:
            kinds = ("basic",)
        edges = edges_of(array)
        chosen = data.draw(selections(values.values.shape, edges, kinds))
        return chosen, np.asarray(picked(values.values.shape, edges, chosen))

    def value(self, data: Any, values: Values, shape: tuple[int, ...], fields: Any = None) -> Any:
        dtype = values.values.dtype
        how = data.draw(st.sampled_from(["whole", "scalar", "broadcast"]))
        if how == "broadcast" and shape:
            shape = tuple(1 if data.draw(st.booleans()) else n for n in shape)
            shape = shape[data.draw(st.integers(0, len(shape))) :]
        value = elements(values.kind, dtype, () if how == "scalar" else shape, data.draw(SEEDS))
        if fields is not None:
            value = np.asarray(value)[fields]
        return value

    def fields(self, data: Any, values: Values) -> Any:
        names = values.values.dtype.names
        if not names or data.draw(st.booleans()):
            return None
        chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        return chosen[0] if len(chosen) == 1 and data.draw(st.booleans()) else chosen

    @property
    def any_nodes(self) -> bool:
        return len(self.model.nodes) > 1

    @property
    def any_arrays(self) -> bool:
        return bool(self.model.below(self.model.is_array))

    # --- nodes -------------------------------------------------------------------------------------

    def make(self, path: str, recipe: Recipe, **options: Any) -> Node:
        dtype = POOLS[recipe.kind][0]
        made = self.group.create_array(
            path,
            shape=recipe.shape,
            dtype="bytes" if dtype is object else dtype,
            **recipe.options,
            **options,
        )
        fill = made.fill_value
        if fill is None:
            fill = np.zeros((), made.dtype)[()]
        if "fill_value" in recipe.options:
            given = recipe.options["fill_value"]
            assert_same(np.array(fill, made.dtype), np.array(given, made.dtype))
            fill = given
        values = Values(recipe.kind, np.full(recipe.shape, fill, made.dtype), fill, recipe.inner)
        if recipe.seed % 3:
            values.values = elements(recipe.kind, made.dtype, recipe.shape, recipe.seed)
            made[...] = values.values
        self.touched.add(path)
        self.kept.pop(path, None)
        return Node({}, values)

    @rule(path=PATHS, data=st.data())
    def create_array(self, path: str, data: Any) -> None:
        recipe = data.draw(recipes(self.zarr_format))
        if self.model.may_create(path):
            self.model.create(path, self.make(path, recipe))
        else:
            with pytest.raises(FileExistsError):
                self.make(path, recipe)

    @rule(path=PATHS)
    def create_group(self, path: str) -> None:
        if self.model.may_create(path):
            self.group.create_group(path)
            self.model.create(path, Node({}))
        else:
            with pytest.raises(FileExistsError):
                self.group.create_group(path)

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data())
    def overwrite(self, data: Any) -> None:
        path = self.pick(data)
        self.forget(path)
        self.model.remove(path)
        if data.draw(st.booleans()):
            self.group.create_group(path, overwrite=True)
            self.model.create(path, Node({}))
        else:
            node = self.make(path, data.draw(recipes(self.zarr_format)), overwrite=True)
            self.model.create(path, node)

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        path = self.pick(data)
        del self.group[path]
        self.forget(path)
        self.model.remove(path)
        with pytest.raises(KeyError):
            del self.group[path]

    @precondition(lambda self: self.any_nodes)
    @rule(data=st.data(), dest=PATHS)
    def move(self, data: Any, dest: str) -> None:
        source = self.pick(data)
        if self.model.may_create(dest) and not dest.startswith(f"{source}/"):
            self.group.move(source, dest)
            self.forget(source)
            for below, node in self.model.remove(source).items():
                self.model.create(dest + below, node)
                self.touched.add(dest + below)
        else:
            with pytest.raises(ValueError, match=r"moved|exists in store|only groups may"):
                self.group.move(source, dest)

    def forget(self, path: str) -> None:
        for found in [p for p in self.kept if p == path or p.startswith(f"{path}/")]:
            del self.kept[found]

    @rule(data=st.data(), key=st.text(max_size=2), value=JSON_VALUES)
    def set_attribute(self, data: Any, key: str, value: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.model.nodes)))
        (self.group[path] if path else self.group).attrs[key] = value
        self.model.nodes[path].attributes[key] = value

    @rule(data=st.data())
    def clear_attributes(self, data: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.model.nodes)))
        (self.group[path] if path else self.group).attrs.clear()
        self.model.nodes[path].attributes.clear()

    @rule(data=st.data())
    def leave_a_file(self, data: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.model.nodes)))
        self.put_foreign(f"{path}/notes.bin".lstrip("/"))

    # --- reads and writes --------------------------------------------------------------------------

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def read(self, data: Any) -> None:
        array, values = self.pick_array(data)
        chosen, where = self.selection(data, array, values)
        fields = self.fields(data, values)
        expected = values.values.reshape(-1)
        if fields is not None:
            found = GETTERS[chosen.kind](array, chosen.index, fields=fields)
            expected = np.array(expected[fields].tolist(), np.dtype(
                [(n, expected.dtype[n]) for n in fields])) if isinstance(fields, list) else (
                expected[fields])  # fmt: skip
            assert_same(found, expected[where])
        elif data.draw(st.booleans()):
            out = np.empty(where.shape, values.values.dtype)
            GETTERS[chosen.kind](array, chosen.index, out=out)
            assert_same(out, expected[where])
        else:
            way = data.draw(st.sampled_from(READS[chosen.kind]))
            assert_same(way(array, chosen.index), expected[where])

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def write(self, data: Any) -> None:
        array, values = self.pick_array(data)
        chosen, where = self.selection(data, array, values)
        fields = self.fields(data, values)
        value = self.value(data, values, where.shape, fields)
        if fields is not None:
            SETTERS[chosen.kind](array, chosen.index, value, fields=fields)
        else:
            data.draw(st.sampled_from(WRITES[chosen.kind]))(array, chosen.index, value)
        values.set(where, value, fields)

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def write_what_does_not_fit(self, data: Any) -> None:
        array, values = self.pick_array(data)
        with pytest.raises((IndexError, ValueError)):
            array[(0,) * (array.ndim + 1)] = values.fill
        if array.ndim:
            with pytest.raises(IndexError):
                array[array.shape[0]] = values.fill
            wrong = elements(values.kind, array.dtype, (*array.shape[:-1], array.shape[-1] + 2), 1)
            if all(n != 1 for n in wrong.shape) and array.size:
                with pytest.raises(ValueError):
                    array[...] = wrong

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def only_what_is_stored(self, data: Any) -> None:
        array, values = self.pick_array(data)
        strict = array.with_config({"read_missing_chunks": False})
        try:
            found = strict[...]
        except ChunkNotFoundError:
            return
        assert_same(found, values.values)

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def resize(self, data: Any) -> None:
        array, values = self.pick_array(data)
        shape = tuple(data.draw(st.integers(0, n + 3)) for n in array.shape)
        if math.prod(shape) > 800 or len(shape) == 0:
            return
        array.resize(shape)
        values.resize(shape)
        assert array.shape == shape

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def append(self, data: Any) -> None:
        array, values = self.pick_array(data)
        if not array.ndim or array.size > 800:
            return
        axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
        shape = list(array.shape)
        shape[axis] = data.draw(st.integers(0, 3))
        more = elements(values.kind, array.dtype, tuple(shape), data.draw(SEEDS))
        assert array.append(more, axis=axis) == array.shape
        values.values = np.concatenate([values.values, more], axis).astype(array.dtype)

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def batch(self, data: Any) -> None:
        array, values = self.pick_array(data)
        fails = data.draw(st.booleans())
        if not fails and data.draw(st.booleans()):
            array = array.with_config({"batch_bytes": 600})
        before = values.values.copy()
        try:
            with array.batch() as batch:
                for _ in range(data.draw(st.integers(1, 4))):
                    chosen, where = self.selection(data, array, values)
                    if data.draw(st.booleans()):
                        fields = self.fields(data, values)
                        value = self.value(data, values, where.shape, fields)
                        if fields is None:
                            SETTERS[chosen.kind](batch.array, chosen.index, value)
                        else:
                            SETTERS[chosen.kind](batch.array, chosen.index, value, fields=fields)
                        values.set(where, value, fields)
                    else:
                        found = GETTERS[chosen.kind](batch.array, chosen.index)
                        assert_same(found, values.values.reshape(-1)[where])
                if data.draw(st.booleans()):
                    batch.flush()
                    before = values.values.copy()
                if fails:
                    raise StopBatchError  # noqa: TRY301 - it is what ends the batch
        except StopBatchError:
            values.values = before

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def many(self, data: Any) -> None:
        """Several arrays, or one several times, in one call."""
        writes, reads, expected = [], [], []
        for _ in range(data.draw(st.integers(1, 4))):
            array, values = self.pick_array(data)
            chosen, where = self.selection(data, array, values, ("basic",))
            if data.draw(st.booleans()):
                value = self.value(data, values, where.shape)
                writes.append((array, chosen.index, value))
                values.set(where, value)
            reads.append((array, chosen.index, values, where))
        zarr.write_many(writes, timeout=60)
        expected = [values.values.reshape(-1)[where] for *_, values, where in reads]
        found = zarr.read_many([(array, index) for array, index, *_ in reads])
        for got, wanted in zip(found, expected, strict=True):
            assert_same(got, wanted)

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data())
    def awaited(self, data: Any) -> None:
        array, values = self.pick_array(data)
        chosen, where = self.selection(data, array, values, ("basic",))
        value = self.value(data, values, where.shape)

        async def main() -> Any:
            await array.setitem_async(chosen.index, value)
            return await asyncio.gather(*[array.getitem_async(...) for _ in range(3)])

        found = asyncio.run(main())
        values.set(where, value)
        for each in found:
            assert_same(each, values.values)

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data(), count=st.integers(2, 4))
    def threads(self, data: Any, count: int) -> None:
        """Threads write rows of their own, which share chunks, while others read."""
        array, values = self.pick_array(data)
        if not array.ndim:
            return
        new = elements(values.kind, array.dtype, array.shape, data.draw(SEEDS))
        old = values.values.copy()

        def write(number: int) -> None:
            own = zarr.open_array(array.store, path=array.path, mode="r+")
            own[number::count] = new[number::count]
            assert_same(own[number::count], new[number::count])

        def read() -> None:
            if array.shape[0]:
                assert plain(array[-1:]) in (plain(old[-1:]), plain(new[-1:])) or array.ndim > 1

        at_once(*[lambda n=n: write(n) for n in range(count)], read)  # type: ignore[misc]
        values.values = new

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 1e-9, 60.0]))
    def timed_read(self, data: Any, seconds: float) -> None:
        array, values = self.pick_array(data)
        try:
            found = array.getitem(..., timeout=seconds)
        except OperationTimeoutError:
            assert seconds < 1
        else:
            assert_same(found, values.values)

    # --- copies ------------------------------------------------------------------------------------

    @precondition(lambda self: self.any_arrays)
    @rule(data=st.data(), zarr_format=st.sampled_from([2, 3]))
    def copy_array(self, data: Any, zarr_format: Any) -> None:
        array, values = self.pick_array(data)
        dest = zarr.create_group({}, zarr_format=zarr_format)
        other = zarr_format != self.zarr_format
        try:
            zarr.copy(array, dest, name="copy")
        except (ValueError, TypeError, NotImplementedError):
            if not other:
                raise
            assert list(dest) == []
            return
        found = dest["copy"][...]
        expected = values.values
        if other:
            expected = expected.astype(found.dtype) if expected.dtype.kind not in "OT" else expected
        assert_same(found, expected)

    @rule(data=st.data())
    def migrate(self, data: Any) -> None:
        """Copy all to another store and go on there."""
        place = Place(data.draw(st.sampled_from(self.kinds)), self.directory)
        zarr.copy_store(self.place.store, place.store)
        self.place.remove()
        self.place = place
        self.open_again()

    # --- handles -----------------------------------------------------------------------------------

    @rule()
    def consolidate(self) -> None:
        self.group = zarr.consolidate_metadata(self.place.store)
        self.consolidated = True
        self.kept.clear()

    @rule()
    def open_again(self) -> None:
        self.place.reopen()
        self.group = zarr.open_group(self.place.store)
        self.kept.clear()
        assert (self.group.metadata.consolidated_metadata is not None) == self.consolidated

    @rule()
    def refresh(self) -> None:
        self.group.refresh()

    # --- what must hold ----------------------------------------------------------------------------

    def nodes_are_there(self, group: zarr.Group) -> None:
        expected = {
            path: (node.attributes, None if node.array is None else node.array.values.shape)
            for path, node in self.model.nodes.items()
        }
        found = {"": (group.attrs.asdict(), None)}
        for path, node in group.members(None):
            found[path] = (node.attrs.asdict(), node.shape if isinstance(node, Array) else None)  # type: ignore[assignment]
        assert found == expected

    def values_are_there(self, group: zarr.Group, path: str) -> None:
        values = self.model.nodes[path].array
        if values is None:
            return
        array = group.get_array(path)
        assert_same(array[...], values.values)
        self.counts_are_right(array, values)

    def counts_are_right(self, array: Array, values: Values) -> None:
        least = 0
        edges = edges_of(array)
        starts = [np.concatenate([[0], np.cumsum(e)]).astype(int) for e in edges]
        fill = np.full((), values.fill, values.values.dtype)
        for coords in np.ndindex(*map(len, edges)):
            region = tuple(
                slice(int(s[k]), int(s[k + 1])) for s, k in zip(starts, coords, strict=True)
            )
            chunk = values.values[(*region, ...)]
            if plain(chunk) != plain(np.full(chunk.shape, fill, chunk.dtype)):
                inner = values.inner or [sum(e) or 1 for e in edges]
                least += math.prod(-(-n // c) for n, c in zip(chunk.shape, inner, strict=True))
        found = array.nchunks_initialized
        assert found >= least
        if values.empty_are_left_out:
            assert found == least

    def everything_is_there(self, store: Store) -> None:
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        self.nodes_are_there(group)
        for path in self.model.below(self.model.is_array):
            self.values_are_there(group, path)

    @invariant()
    def all_handles_show_what_is_there(self) -> None:
        if not hasattr(self, "model"):
            return
        self.counts["steps"] += 1
        self.nodes_are_there(self.group)
        truth = zarr.open_group(self.place.other(), mode="r", use_consolidated=False)
        self.nodes_are_there(truth)
        for path in self.touched & set(self.model.nodes):
            self.values_are_there(truth, path)
        self.touched.clear()
        assert list(self.group) == [p for p in self.model.below() if "/" not in p]

    @invariant()
    def nothing_else_is_stored(self) -> None:
        if not hasattr(self, "model"):
            return
        keys = set(self.place.store.list())
        for key, content in self.foreign.items():
            assert key in keys
            assert bytes(self.place.store.get(key)) == content
        for key in keys - set(self.foreign):
            node, _, name = key.rpartition("/")
            if name in DOCUMENTS:
                assert node in self.model.nodes
            else:
                assert any(map(self.model.is_array, parents(key)))


def stateful(*kinds: str) -> Any:
    machine = type("Machine", (Programs,), {"kinds": [kind for kind in kinds if kind in PLACES]})
    case = machine.TestCase
    thorough = settings.default is not None and settings.default.max_examples > 100
    case = pytest.mark.timeout(0)(case) if thorough else case
    case.settings = settings(max_examples=2000 if thorough else 8, stateful_step_count=25)
    return pytest.mark.filterwarnings("ignore::zarr_core.errors.ZarrUserWarning")(
        pytest.mark.filterwarnings("ignore::zarr_core.errors.UnstableSpecificationWarning")(case)
    )


TestInMemory = stateful("memory", "logging", "slow", "cache")
TestOnDisk = stateful("local", "prefix", "zip", "memory")
TestOfOthers = stateful("fsspec", "object", "object-local", "memory")
